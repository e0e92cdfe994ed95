//! A device that never answers costs its neighbours on the same line a tenth of its time, not their interval.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use support::{Broker, Gateway, Message, ModbusPeer, Subscriber, head};

/// Polls of a living neighbour that are timed.
const POLLS: usize = 100;

/// Milliseconds since 1970 of a reading.
fn time(message: &Message) -> i64 {
    let text = message.json()["ts"].as_str().unwrap().to_owned();
    fieldgate::clock::Timestamp::parse(&text).unwrap().millis()
}

#[test]
fn the_neighbours_keep_their_interval() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    // Units 1 and 3 are there, unit 2 is not.
    let line = ModbusPeer::rtu(&json!({"1": {"counter": 0}, "3": {"counter": 0}}));
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mut config = head(folder.path(), &broker)
        + &format!(
            "[links.line]\ndriver = \"modbus-rtu\"\npath = \"{}\"\nbaud_rate = 115200\ntimeout = \"300ms\"\n",
            line.address
        );
    for unit in 1..=3 {
        write!(
            config,
            "[devices.unit-{unit}]\nlink = \"line\"\naddress = {unit}\npoll_interval = \"200ms\"\n\
             points.count = {{ address = \"input:0\", type = \"u16\" }}\n"
        )
        .unwrap();
    }
    let _gateway = Gateway::run(folder.path(), &config);
    let dead = watcher.wait_json("fieldgate/g/unit-2/status", "offline", |json| json["state"] == "offline");
    assert!(dead["reason"].as_str().unwrap().contains("timeout"), "{dead}");
    let start = watcher.messages().len();
    for unit in [1, 3] {
        let topic = format!("fieldgate/g/unit-{unit}/readings");
        let readings =
            watcher.wait(&format!("{POLLS} readings of unit {unit}"), Duration::from_secs(120), |messages| {
                let readings = messages[start..].iter().filter(|message| message.topic == topic);
                let readings: Vec<Message> = readings.cloned().collect();
                (readings.len() > POLLS).then_some(readings)
            });
        let bad = readings.iter().filter(|message| message.json().get("bad").is_some()).count();
        assert_eq!(bad, 0, "unit {unit} has bad readings");
        let took = time(&readings[POLLS]) - time(&readings[0]);
        let due = 200 * i64::try_from(POLLS).unwrap();
        // A tenth of the line's time, and as much again for a busy machine.
        assert!(took < due * 12 / 10, "unit {unit}: {POLLS} polls took {took} ms, {due} ms were due");
    }
    // It is asked now and then all the same: it may come back.
    let status = watcher.messages();
    let online = status.iter().filter(|message| message.topic == "fieldgate/g/unit-1/status");
    let online: Vec<_> = online.map(Message::json).collect();
    assert!(!online.is_empty());
    assert!(online.iter().all(|status| status["state"] == "online"), "{online:?}");
}
