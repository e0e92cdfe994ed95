//! A gateway that is killed while the broker is away has, after its restart, every reading that was older than
//! `commit_every` and a sync.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use support::{Broker, Gateway, LIMIT, Records, Scale, Subscriber, head, scale_device};

/// Polls between a reading and the kill: five seconds, for a commit each 100 ms on a slow and busy disk.
const SETTLED: u64 = 100;

#[test]
fn what_was_committed_comes_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let scale = Scale::start();
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker).replace("[mqtt]", "commit_every = \"100ms\"\n[mqtt]")
        + &scale_device(&scale.path, "50ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    let mut kept: Vec<u64> = Vec::new();
    let first = scale.wait_sent(20);
    watcher.wait("the first weighings", LIMIT, |messages| {
        Records::of(messages).weighings().contains(&(first / 2)).then_some(())
    });
    broker.stop();
    for _ in 0..3 {
        let from = scale.sent() + 1;
        let to = scale.wait_sent(40);
        scale.wait_sent(SETTLED);
        kept.extend(from..=to);
        gateway = gateway.run_again();
        // The first answer after a kill may be the one that the killed gateway had asked for.
        scale.wait_sent(2);
    }
    broker.start_again();
    watcher.wait("every weighing that was committed", LIMIT, |messages| {
        let weighings = Records::of(messages).weighings();
        kept.iter().all(|weighing| weighings.contains(weighing)).then_some(())
    });
    // Each run is whole up to where it was cut, and no run came again.
    let records = Records::of(&watcher.messages());
    let runs = records.runs();
    assert_eq!(runs.len(), 4, "{runs:?}");
    for run in runs {
        assert_eq!(records.holes(run), Vec::<u64>::new(), "run {run}");
    }
    drop(gateway);
}
