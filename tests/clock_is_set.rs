//! A gateway that boots in the past marks its records; once the clock is set, what nobody has seen gets its true time,
//! and an event tells a receiver how to mend the rest. Numbers, not times, give the order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::SystemTime;

use serde_json::Value;
use support::disk::{Control, preload};
use support::{Broker, Gateway, LIMIT, Message, Records, Scale, Subscriber, head, scale_device};

/// The machine believes that it is 1,000,000,000 seconds earlier.
const BACK: i64 = 1_000_000_000;
/// Seconds by which a mended time may be off: the clock is read a moment after it was set.
const TOLERANCE: f64 = 2.0;

#[test]
fn what_nobody_saw_is_made_right_and_the_rest_can_be_mended() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let scale = Scale::start();
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    let library = preload("clock", folder.path());
    let clock_file = folder.path().join("clock");
    let clock = Control::new(&clock_file, &format!("-{BACK} 0"));
    let config = head(folder.path(), &broker).replace("clock = \"trusted\"", "clock = \"kernel\"")
        + &scale_device(&scale.path, "50ms");
    let environment =
        [("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_SET", clock_file.to_str().unwrap())];
    let began = now();
    let mut gateway = Gateway::run_with(folder.path(), &config, &environment);
    watcher
        .wait("records of an unset clock", LIMIT, |messages| (readings(messages).len() >= 20).then_some(()));
    broker.stop();
    // Committed and in memory, loaded and not: all kinds of places.
    scale.wait_sent(100);
    clock.set("0 1");
    scale.wait_sent(40);
    broker.start_again();
    let event =
        watcher.wait_json("fieldgate/g/event", "the clock was set", |json| json["event"] == "clock-set");
    let newest = scale.wait_sent(20);
    let messages = watcher.wait("the newest weighing, and no hole", LIMIT, |messages| {
        let records = Records::of(messages);
        let is_whole = records.runs().iter().all(|run| records.holes(*run).is_empty());
        (is_whole && records.weighings().contains(&newest)).then(|| messages.to_vec())
    });
    let set_at = event["seq"].as_u64().unwrap();
    assert!((event["offset_ms"].as_f64().unwrap() / 1_000.0 - 1e9).abs() < TOLERANCE, "{event}");
    assert_eq!(event["clock"], Value::Null, "its own time is true: {event}");

    let (mut marked, mut corrected) = (0, 0);
    let mut last = began - TOLERANCE;
    for json in readings(&messages) {
        let seq = json["seq"].as_u64().unwrap();
        let mut time = seconds(&json["ts"]);
        if json["clock"] == "unsynced" {
            assert!(seq < set_at, "{json} came after the clock was set");
            marked += 1;
            let covers = |of: &&Value| {
                let [from, to] = [&of["from"], &of["to"]].map(|number| number.as_u64().unwrap());
                of["run"] == json["run"] && (from..=to).contains(&seq)
            };
            let stretch = event["unsynced"].as_array().unwrap().iter().find(covers);
            time += stretch.unwrap_or_else(|| panic!("{event} does not tell of {json}"))["offset_ms"]
                .as_f64()
                .unwrap()
                / 1_000.0;
        } else if seq < set_at {
            corrected += 1;
        }
        assert!(time > last - TOLERANCE && time < now() + TOLERANCE, "{json} is of {time}, after {last}");
        last = time;
    }
    assert!(marked >= 20, "{marked} were sent before the clock was set");
    assert!(corrected >= 60, "{corrected} of 100 waited unseen and were made right");
    assert_eq!(gateway.stop().code(), Some(0));
}

/// The readings by their numbers, each once.
fn readings(messages: &[Message]) -> Vec<Value> {
    let mut found: Vec<Value> =
        messages.iter().filter(|message| message.topic.ends_with("/readings")).map(Message::json).collect();
    found.sort_by_key(|json| json["seq"].as_u64());
    found.dedup_by_key(|json| json["seq"].as_u64());
    found
}

fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

fn seconds(ts: &Value) -> f64 {
    let time = chrono::DateTime::parse_from_rfc3339(ts.as_str().unwrap()).unwrap();
    f64::from(u32::try_from(time.timestamp()).unwrap())
}
