//! A buffer that is full drops by its rule, and names every record that it dropped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use support::{Broker, Gateway, LIMIT, Message, Records, Scale, Subscriber, head, scale_device};

/// The `lost` ranges of every gap event, as single numbers of `run`.
fn told_lost(messages: &[Message], run: u64) -> BTreeSet<u64> {
    let events = messages.iter().filter(|message| message.topic == "fieldgate/g/event");
    let gaps = events.map(Message::json).filter(|event| event["event"] == "gap");
    gaps.filter(|gap| gap["lost"]["run"] == run)
        .flat_map(|gap| gap["lost"]["from"].as_u64().unwrap()..=gap["lost"]["to"].as_u64().unwrap())
        .collect()
}

/// Fills a small buffer several times over, and returns what came when the broker was back: the
/// messages, and the number of the scale's answers when it was cut off, when it was back and at the end.
fn overflow(when_full: &str) -> (Vec<Message>, u64, u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let scale = Scale::start();
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    // Forty groups around the same number make a record of some 2,500 bytes.
    let names: Vec<String> = (0..40).map(|copy| format!("{}_{copy:02}", "w".repeat(50))).collect();
    let groups = names.iter().fold(String::new(), |groups, name| groups + &format!("(?<{name}>"));
    let points = names.iter().fold(String::new(), |points, name| {
        points + &format!("points.{name} = {{ address = \"{name}\", type = \"f64\" }}\n")
    });
    let device = scale_device(&scale.path, "10ms")
        // The usual 500 ms pass on a busy machine; an answer that comes later would be no record, and count as lost.
        .replace("[devices.scale]", "timeout = \"20s\"\n[devices.scale]")
        .replace("(?<weight>", &format!("(?<weight>{groups}"))
        .replace("+)kg$", &format!("+){}kg$", ")".repeat(names.len())));
    let bounds = format!("max_size = \"1MiB\"\nwhen_full = \"{when_full}\"\n[mqtt]");
    let config = head(folder.path(), &broker).replace("[mqtt]", &bounds) + &device + &points;
    let mut gateway = Gateway::run(folder.path(), &config);
    let reading = watcher.wait_json("fieldgate/g/scale/readings", "a reading", |_| true);
    assert!(reading.to_string().len() > 2_000, "{reading}");
    broker.stop();
    let filled_from = scale.sent();
    for _ in 0..8 {
        scale.wait_sent(200);
    }
    broker.start_again();
    gateway.process().wait("the connection to the broker that is back", LIMIT, |lines| {
        (lines.iter().filter(|line| line.contains("connected to the broker")).count() > 1).then_some(())
    });
    let back = scale.sent();
    let goal = scale.wait_sent(100);
    watcher.wait(&format!("weighing {goal}"), LIMIT, |messages| {
        Records::of(messages).weighings().contains(&goal).then_some(())
    });
    watcher.wait("the end of the backlog", LIMIT, |messages| {
        let records = Records::of(messages);
        let run = *records.runs().first()?;
        let told = told_lost(messages, run);
        records.holes(run).iter().all(|seq| told.contains(seq)).then_some(())
    });
    assert!(gateway.stop().success());
    (watcher.messages(), filled_from, back, goal)
}

#[test]
fn the_oldest_go_and_every_one_of_them_is_named() {
    let (messages, filled_from, back, goal) = overflow("drop-oldest");
    let records = Records::of(&messages);
    let weighings = records.weighings();
    let gone: Vec<u64> = (filled_from..goal).filter(|weighing| !weighings.contains(weighing)).collect();
    assert!(gone.len() > 500, "only {} were lost: the buffer was not full", gone.len());
    // The last ones before the broker came back are there, the first ones are not.
    let (first, last) = (gone[0], gone[gone.len() - 1]);
    assert!(first < filled_from + 100, "the first lost is {first}, the outage began at {filled_from}");
    assert!(last < back - 50, "the last lost is {last}, the broker was back at {back}");
}

#[test]
fn the_newest_go_when_it_is_told_so() {
    let (messages, filled_from, _, goal) = overflow("drop-newest");
    let weighings = Records::of(&messages).weighings();
    let gone: Vec<u64> = (filled_from..goal).filter(|weighing| !weighings.contains(weighing)).collect();
    assert!(gone.len() > 500, "only {} were lost: the buffer was not full", gone.len());
    assert!(gone[0] > filled_from + 50, "the first lost is {}, the outage began at {filled_from}", gone[0]);
}
