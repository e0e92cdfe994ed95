//! A disk that refuses, or takes its time, holds up nothing: polling goes on, memory stays bounded, what was not
//! synced is not passed on as synced, and once the disk works again everything arrives.
//!
//! The gateway is the real one; a preloaded library stands between it and its buffer file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fieldgate::clock::Timestamp;
use support::disk::{Control, preload};
use support::{Broker, Gateway, LIMIT, Message, Records, Scale, Subscriber, head, scale_device};
use tempfile::TempDir;

/// How often the scale is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// What lies between two polls at most; the machine that runs the tests has other things to do, too.
const LATE: Duration = Duration::from_millis(1_500);
/// Polls between the end of a fault and a kill: five seconds, for a try each second and a commit each 100 ms.
const SETTLED: u64 = 100;

/// A gateway, its disk, its scale and its broker.
struct Plant {
    /// Where all of it lies, until it is dropped.
    _folder: TempDir,
    faults: Control,
    broker: Broker,
    scale: Scale,
    watcher: Subscriber,
    gateway: Gateway,
}

impl Plant {
    fn start(commit_every: &str, device: impl FnOnce(&Scale) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = preload("disk", folder.path());
        let control = folder.path().join("faults");
        let faults = Control::new(&control, "");
        let (broker, scale) = (Broker::persistent(), Scale::start());
        let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
        let commit_every = format!("commit_every = \"{commit_every}\"\n[mqtt]");
        let config = head(folder.path(), &broker).replace("[mqtt]", &commit_every) + &device(&scale);
        let file = folder.path().join("buffer.db");
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("DISK_MATCH", file.to_str().unwrap()),
            ("DISK_FAULT", control.to_str().unwrap()),
        ];
        let gateway = Gateway::run_with(folder.path(), &config, &environment);
        Self { _folder: folder, faults, broker, scale, watcher, gateway }
    }

    fn weigh(commit_every: &str) -> Self {
        let plant = Self::start(commit_every, |scale| scale_device(&scale.path, "50ms"));
        plant.watcher.wait_json("fieldgate/g/scale/readings", "a reading", |_| true);
        plant
    }

    /// Waits for every weighing of `wanted`, and for every number that is missing to be told as lost.
    fn wait_all(&self, wanted: &BTreeSet<u64>) -> Vec<Message> {
        // Thousands of records are looked through again with each that comes.
        self.watcher.wait("every weighing", LIMIT * 4, |messages| {
            let records = Records::of(messages);
            let weighings = records.weighings();
            let is_told = |run: &u64| {
                let told = told_lost(messages, *run);
                records.holes(*run).iter().all(|seq| told.contains(seq))
            };
            let is_all = wanted.iter().all(|weighing| weighings.contains(weighing));
            (is_all && records.runs().iter().all(is_told)).then(|| messages.to_vec())
        })
    }
}

#[test]
fn what_is_read_while_the_disk_refuses_arrives_after_a_kill() {
    let mut plant = Plant::weigh("100ms");
    let mut wanted = BTreeSet::new();
    plant.broker.stop();
    for fault in [
        "fsync EIO",
        "write EIO",
        "write EROFS\nopen EROFS\nname EROFS",
        "read EIO\nwrite EIO\nfsync EIO",
        "fsync EIO 2",
    ] {
        let from = plant.scale.sent() + 1;
        plant.faults.set(fault);
        let to = plant.scale.wait_sent(60);
        plant.faults.set("");
        wanted.extend(from..=to);
        plant.scale.wait_sent(20);
    }
    plant.scale.wait_sent(SETTLED);
    plant.gateway = plant.gateway.run_again();
    plant.broker.start_again();
    wanted.insert(plant.scale.wait_sent(20));
    let messages = plant.wait_all(&wanted);
    assert_polls_in_time(&messages);
}

#[test]
fn nothing_is_published_before_it_is_on_the_disk() {
    let plant = Plant::weigh("0ms");
    let first = plant.scale.wait_sent(20);
    let goal = BTreeSet::from([first]);
    plant.wait_all(&goal);
    for fault in ["fsync EIO", "write EIO"] {
        let before = plant.scale.sent();
        plant.faults.set(fault);
        // One answer may lie in the gateway, one may have come while the fault was set.
        let last = before + 2;
        let during = plant.scale.wait_sent(100);
        let weighings = Records::of(&plant.watcher.messages()).weighings();
        let early: Vec<_> = weighings.iter().filter(|weighing| **weighing > last).collect();
        assert!(early.is_empty(), "{fault}: published without a sync: {early:?}, from {before} to {during}");
        plant.faults.set("");
        plant.wait_all(&(first..=during).collect());
    }
}

#[test]
fn a_slow_disk_holds_up_no_poll() {
    let mut plant = Plant::weigh("100ms");
    plant.broker.stop();
    plant.faults.set("fsync delay 2000");
    let from = plant.scale.sent() + 1;
    // Ten seconds without the broker, ten with it.
    plant.scale.wait_sent(200);
    plant.broker.start_again();
    let to = plant.scale.wait_sent(200);
    let messages = plant.wait_all(&(from..=to).collect());
    assert_polls_in_time(&messages);
    plant.faults.set("");
    assert!(plant.gateway.stop().success());
}

/// A thousand records a second, a kilobyte each, none of which the disk takes.
#[test]
fn memory_stays_bounded_while_the_disk_takes_nothing() {
    let mut devices = "[links.fast]\ndriver = \"simulator\"\n".to_owned();
    for device in 0..10 {
        let head = "link = \"fast\"\naddress = \"counter\"\npoll_interval = \"10ms\"";
        writeln!(devices, "[devices.d{device}]\n{head}").unwrap();
        for point in 0..50 {
            let name = format!("points.p{point:02}_{}", "x".repeat(10));
            writeln!(devices, "{name} = {{ address = \"counter\", type = \"u32\" }}").unwrap();
        }
    }
    let mut plant = Plant::start("100ms", |scale| devices + &scale_device(&scale.path, "50ms"));
    plant.watcher.wait_json("fieldgate/g/d0/readings", "a reading", |_| true);
    plant.broker.stop();
    plant.faults.set("write EIO\nfsync EIO");
    // Nine seconds: more than may wait in memory. Then as much again.
    plant.scale.wait_sent(180);
    let full = resident(plant.gateway.process().pid());
    plant.scale.wait_sent(180);
    let later = resident(plant.gateway.process().pid());
    println!("{full} bytes of memory, nine seconds later {later}");
    assert!(later < full + (4 << 20), "{full} bytes of memory, nine seconds later {later}");
    plant.faults.set("");
    plant.broker.start_again();
    let goal = plant.scale.wait_sent(20);
    let messages = plant.wait_all(&BTreeSet::from([goal]));
    let run = Records::of(&messages).runs()[0];
    let lost = told_lost(&messages, run).len();
    assert!(lost > 2_000, "only {lost} records were lost: memory was not full");
}

/// The times of the records of each run, in order, are never far apart.
fn assert_polls_in_time(messages: &[Message]) {
    let mut times: Vec<(u64, u64, i64)> = messages
        .iter()
        .filter(|message| message.topic.ends_with("/readings"))
        .map(|message| {
            let (run, seq) = message.name().unwrap();
            let time = Timestamp::parse(message.json()["ts"].as_str().unwrap()).unwrap();
            (run, seq, time.millis())
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    let pairs = times.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 + 1 == pair[1].1);
    let gaps: Vec<u128> = pairs.map(|pair| u128::try_from(pair[1].2 - pair[0].2).unwrap()).collect();
    let (longest, sum) = (gaps.iter().max().unwrap(), gaps.iter().sum::<u128>());
    eprintln!("{} polls, {} ms apart, {longest} ms at most", gaps.len(), sum / gaps.len() as u128);
    assert!(*longest < LATE.as_millis(), "{longest} ms between two polls");
    assert!(sum / (gaps.len() as u128) < 2 * INTERVAL.as_millis(), "the polls are too far apart");
}

/// The `lost` ranges of every gap event, as single numbers of `run`.
fn told_lost(messages: &[Message], run: u64) -> BTreeSet<u64> {
    let events = messages.iter().filter(|message| message.topic == "fieldgate/g/event");
    let gaps = events.map(Message::json).filter(|event| event["event"] == "gap");
    gaps.filter(|gap| gap["lost"]["run"] == run)
        .flat_map(|gap| gap["lost"]["from"].as_u64().unwrap()..=gap["lost"]["to"].as_u64().unwrap())
        .collect()
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
