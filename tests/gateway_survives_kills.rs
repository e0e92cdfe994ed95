//! A gateway that is killed at random instants, again and again, with and without a broker, while it starts, runs,
//! drains and stops: of what it had longer than `commit_every` and a sync, nothing is missing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::collector::Collector;
use support::count::{Rule, judge};
use support::counted::{Counted, killing};
use support::{Broker, Gateway, LIMIT, Process, gateway_command, head, rounds};

/// Points of a unit.
const POINTS: usize = 4;
/// The window of the gateway under test.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// What a commit may take beyond that on a busy machine. How long it does take, the median tells.
const SYNC: Duration = Duration::from_secs(2);
/// The same for half of all kills.
const USUAL_SYNC: Duration = Duration::from_millis(200);

/// In which part of its life a gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    Run,
    Stop,
}

/// One round after the other, so that each kind of life follows each.
const LIVES: [(Part, bool); 7] = [
    (Part::Run, true),
    (Part::Run, false),
    (Part::Start, false),
    (Part::Stop, false),
    (Part::Run, true),
    (Part::Start, true),
    (Part::Stop, true),
];

#[test]
fn what_was_committed_comes_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    let window = format!("commit_every = \"{}ms\"\n[mqtt]", COMMIT_EVERY.as_millis());
    let config = head(folder.path(), &broker).replace("[mqtt]", &window) + &device.devices(2, "10ms");
    let mut rule = Rule { window: COMMIT_EVERY + SYNC, ..Rule::default() };
    let mut random = fastrand::Rng::with_seed(20_260_301);
    let mut is_up = true;
    let kills = rounds(15, 100);
    let mut lives = 0;
    while rule.kills.len() < kills {
        let round = lives;
        lives += 1;
        let (part, needs_broker) = LIVES[round % LIVES.len()];
        if is_up != needs_broker {
            if needs_broker {
                broker.start_again();
            } else {
                broker.stop();
            }
            is_up = needs_broker;
        }
        let mut life = Process::start("fieldgate run", &mut gateway_command(folder.path(), &config));
        let mut until = |from: u64, to: u64| Duration::from_millis(random.u64(from..to));
        let ended = match part {
            Part::Start => life.ends_within(until(0, 400)),
            Part::Run => life.ends_within(until(300, 2500)),
            Part::Stop => {
                assert!(!life.ends_within(until(300, 1500)), "round {round}: the gateway ended by itself");
                life.signal(Signal::TERM);
                life.ends_within(until(0, 300))
            }
        };
        // One that was told to stop and did so must have kept everything.
        if !ended {
            rule.kills.push(killing(|| life.kill()));
        }
        assert!(part == Part::Stop || !ended, "round {round}: the gateway ended by itself");
    }
    if !is_up {
        broker.start_again();
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    device.wait_served(200);
    device.mute();
    let served = device.served();
    // All that is missing is still in the file.
    collector.wait(LIMIT, |received| judge(&served, received, &rule).is_clean().then_some(()));
    assert!(gateway.stop().success());
    let verdict = judge(&served, &collector.received(), &rule);
    verdict.report(&format!("{} kills in {lives} rounds", rule.kills.len()));
    assert!(verdict.is_clean(), "{verdict}");
    let mut ages = verdict.ages.clone();
    ages.sort();
    if let Some(median) = ages.get(ages.len() / 2) {
        assert!(*median < COMMIT_EVERY + USUAL_SYNC, "half of the kills cost values of {median:?} and more");
    }
    // The kills have hit something.
    assert!(verdict.backlog > 2 * lives && verdict.received > 10 * lives, "{verdict}");
    assert!(verdict.runs > lives / 3, "{verdict}");
}
