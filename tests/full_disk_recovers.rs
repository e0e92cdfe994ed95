//! A disk that somebody else fills costs the oldest readings and no more: polls go on, each loss has a name, and when
//! there is room again everything is as before, without anybody's help.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::collector::Collector;
use support::count::{Rule, judge};
use support::counted::{Counted, killing};
use support::small_disk::SmallDisk;
use support::{Broker, Gateway, LIMIT, head, rounds};

/// Points of a unit: a record of some 900 bytes.
const POINTS: usize = 31;
/// Answers in a second: two units each 10 ms.
const RATE: u32 = 200;
/// What a commit may take beyond its window on a busy machine.
const SYNC: Duration = Duration::from_secs(3);
/// Memory that a full disk may cost: what waits in memory has its bound, and has to be sorted.
const SLACK: u64 = 24 << 20;

/// Lets the device give so many answers, and proves that it was asked for them as fast as without trouble.
fn polls(device: &Counted, answers: usize) {
    let began = Instant::now();
    device.wait_served(answers);
    let usual = Duration::from_secs(1) * u32::try_from(answers).unwrap() / RATE;
    assert!(began.elapsed() < 5 * usual, "{answers} polls took {:?} instead of {usual:?}", began.elapsed());
}

fn survive(when_full: &str) {
    let disk = SmallDisk::mount(16 << 20);
    let mut broker = Broker::persistent();
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    let bounds = format!("max_size = \"64MiB\"\nwhen_full = \"{when_full}\"\n[mqtt]");
    let config = head(&disk.path, &broker).replace("[mqtt]", &bounds) + &device.devices(2, "10ms");
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::run(folder.path(), &config);
    let mut memory = vec![gateway.process().memory()];
    polls(&device, 200);
    broker.stop();
    polls(&device, 400);

    disk.fill();
    polls(&device, rounds(1_200, 6_000));
    memory.push(gateway.process().memory());
    // A full disk keeps nobody from starting.
    let mut kills = vec![killing(|| gateway.kill())];
    gateway = gateway.run_again();
    polls(&device, 200);
    // Whoever filled it takes what was kept for that too.
    disk.fill();
    polls(&device, rounds(600, 6_000));
    memory.push(gateway.process().memory());
    disk.clear();
    gateway.process().wait_line("the disk has room again", LIMIT);
    // What comes now is safe again.
    polls(&device, 800);
    broker.start_again();
    kills.push(killing(|| gateway.kill()));
    gateway = gateway.run_again();
    polls(&device, 200);
    device.mute();

    let rule = Rule {
        kills,
        window: Duration::from_millis(250) + SYNC,
        excuses: vec!["disk-full", "max_size", "memory"],
    };
    let served = device.served();
    collector.wait(LIMIT, |received| judge(&served, received, &rule).is_clean().then_some(()));
    assert!(gateway.stop().success());
    let verdict = judge(&served, &collector.received(), &rule);
    verdict.report(&format!("{when_full}, memory {memory:?}, {:?}", verdict.told));
    assert!(verdict.is_clean(), "{verdict}");
    assert!(verdict.told.iter().any(|lost| lost.reason == "disk-full"), "the disk was not full: {verdict}");
    assert!(*memory.iter().max().unwrap() < memory[0] + SLACK, "{memory:?}");
}

#[test]
fn the_oldest_go_while_the_disk_is_full() {
    survive("drop-oldest");
}

#[test]
fn the_newest_go_when_it_is_told_so() {
    survive("drop-newest");
}
