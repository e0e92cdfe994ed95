//! Points become few requests; what a device refuses to read is found once, told once, and not asked again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, Message, ModbusPeer, Subscriber, head};

/// Registers 0 to 9 and 14 to 19 and 30 to 33, each with ten times its number.
fn device() -> ModbusPeer {
    let registers = |from: u16, to: u16| (from..to).map(|n| n * 10).collect::<Vec<u16>>();
    ModbusPeer::traced(&json!({
        "1": {"holding": {"0": registers(0, 10), "14": registers(14, 20), "30": registers(30, 34)}}
    }))
}

fn configuration(folder: &Path, broker: &Broker, peer: &ModbusPeer, numbers: &[u16]) -> String {
    let point = |n: &u16| format!("r{n} = {{ address = \"holding:{n}\", type = \"u16\" }}\n");
    format!(
        "{}[links.plc]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\ntimeout = \"10s\"\n\
         [devices.meter]\nlink = \"plc\"\naddress = 1\npoll_interval = \"100ms\"\n[devices.meter.points]\n{}",
        head(folder, broker),
        peer.address,
        numbers.iter().map(point).collect::<String>()
    )
}

/// Waits for so many readings from now on, each of them whole but for the ghost, and gives the last.
fn readings(watcher: &Subscriber, count: usize) -> Value {
    let start = watcher.messages().len();
    let seen = watcher.wait(&format!("{count} readings"), LIMIT, |messages| {
        let new = messages.iter().skip(start);
        let readings: Vec<Value> =
            new.filter(|message| message.topic == "fieldgate/g/meter/readings").map(Message::json).collect();
        (readings.len() >= count).then_some(readings)
    });
    for reading in &seen {
        for (name, value) in reading["values"].as_object().unwrap() {
            let number: u64 = name[1..].parse().unwrap();
            assert_eq!(*value, json!(number * 10), "{reading}");
        }
    }
    seen.last().unwrap().clone()
}

fn holes_told(messages: &[Message]) -> Vec<Value> {
    let events = messages.iter().filter(|message| message.topic == "fieldgate/g/event");
    events.map(Message::json).filter(|event| event["event"] == "link-holes").collect()
}

#[test]
fn holes_are_found_told_once_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let peer = device();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    // Two gaps that cannot be read, and a point that is not there.
    let numbers: Vec<u16> = (0..10).chain(14..20).chain([22]).chain(30..34).collect();
    let config = configuration(folder.path(), &broker, &peer, &numbers);
    let mut gateway = Gateway::run(folder.path(), &config);
    // Every value that is there comes with the first poll.
    let first = watcher.wait_json("fieldgate/g/meter/readings", "readings", |_| true);
    assert_eq!(first["values"].as_object().unwrap().len(), 20, "{first}");
    assert_eq!(first["bad"], json!({"r22": "exception-2"}));
    let told = watcher.wait_json("fieldgate/g/event", "holes", |event| event["event"] == "link-holes");
    assert_eq!((&told["link"], &told["device"]), (&json!("plc"), &json!("meter")));
    let holes: Vec<&str> =
        told["holes"].as_array().unwrap().iter().map(|hole| hole.as_str().unwrap()).collect();
    assert!(holes.contains(&"holding:10-13") && holes.contains(&"holding:22"), "{holes:?}");

    // Nothing is refused any more, and the point that is not there is not forgotten.
    let refused = peer.refused();
    assert!(refused > 0, "the peer counts refusals");
    let asked = peer.asked().len();
    let last = readings(&watcher, 20);
    assert_eq!(last["bad"], json!({"r22": "exception-2"}));
    assert_eq!(last["values"].as_object().unwrap().len(), 20);
    assert_eq!(peer.refused(), refused);
    assert!(peer.asked().len() - asked >= 20, "the peer counts requests");

    // A restart provokes nothing and tells nothing.
    gateway.stop();
    let mut gateway = Gateway::run(folder.path(), &config);
    let last = readings(&watcher, 30);
    assert_eq!(last["bad"], json!({"r22": "exception-2"}));
    assert_eq!(peer.refused(), refused);
    assert_eq!(holes_told(&watcher.messages()).len(), 1);

    // Other points: it is learnt anew.
    gateway.stop();
    let fewer: Vec<u16> = numbers.iter().copied().filter(|n| *n != 22).collect();
    let config = configuration(folder.path(), &broker, &peer, &fewer);
    let _gateway = Gateway::run(folder.path(), &config);
    let told = watcher.wait("what was learnt anew", LIMIT, |messages| {
        let told = holes_told(messages);
        (told.len() > 1).then(|| told[1].clone())
    });
    assert!(peer.refused() > refused, "it was asked");
    let holes: Vec<&str> =
        told["holes"].as_array().unwrap().iter().map(|hole| hole.as_str().unwrap()).collect();
    assert_eq!(holes, ["holding:10-13", "holding:20-29"]);
    assert!(readings(&watcher, 3)["bad"].is_null());
}

#[test]
fn points_of_different_intervals_share_requests() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let peer = device();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = configuration(folder.path(), &broker, &peer, &[0])
        + "r1 = { address = \"holding:1\", type = \"u16\", poll_interval = \"1s\" }\n\
           r2 = { address = \"holding:2\", type = \"u16\", no_merge = true, poll_interval = \"500ms\" }\n";
    let _gateway = Gateway::run(folder.path(), &config);
    readings(&watcher, 100);
    let asked = peer.asked();
    let count = |what: &str| asked.iter().filter(|asked| **asked == what).count();
    let (fast, both, alone) = (count("1 3 0 1"), count("1 3 0 2"), count("1 3 2 1"));
    assert_eq!(fast + both + alone, asked.len(), "nothing else is asked: {asked:?}");
    // Ten to one, two for each of those; a busy machine leaves turns of the fast one out.
    assert!(both >= 8 && fast >= 6 * both, "{fast} of the fast point, {both} of both");
    assert!(alone >= 2 * both - 2 && alone <= 2 * both + 2, "{alone} of the point alone, {both} of both");
}
