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
    // A weighing that is asked for now comes from the last run, the others out of the file.
    let newest = scale.wait_sent(20);
    kept.push(newest);
    watcher.wait("every weighing that was committed, and a new one", LIMIT, |messages| {
        let weighings = Records::of(messages).weighings();
        kept.iter().all(|weighing| weighings.contains(weighing)).then_some(())
    });
    // Each run is whole up to where it was cut, and no run came again. Live records may overtake old ones.
    let records = watcher.wait("four runs without a hole", LIMIT, |messages| {
        let records = Records::of(messages);
        let is_whole = records.runs().iter().all(|run| records.holes(*run).is_empty());
        is_whole.then_some(records)
    });
    let runs = records.runs();
    assert_eq!(runs.len(), 4, "{runs:?}");
    drop(gateway);
}
