//! A point with `report = "change"` is published when it has changed, by more than its deadband, when its heartbeat is
//! due and when somebody asks; and a command's number reaches the device digit by digit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use fieldgate::clock::Timestamp;
use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, Message, ModbusPeer, Records, Subscriber, head, publish};

const DEVICE: &str = "[devices.d]\nlink = \"plc\"\naddress = 1\npoll_interval = \"100ms\"\n[devices.d.points]\n\
    level = { address = \"holding:0\", type = \"i16\", scale = 0.1, deadband = 0.5, writable = true }\n\
    steady = { address = \"holding:1\", type = \"u16\", report = \"change\" }\n\
    beat = { address = \"holding:2\", type = \"u16\", heartbeat = \"1s\" }\n\
    long = { address = \"holding:4\", type = \"i64\", scale = 0.001, report = \"change\", writable = true }\n\
    reads = { address = \"input:100\", type = \"u16\", deadband = 4 }\n";

const READINGS: &str = "fieldgate/g/d/readings";

fn readings(messages: &[Message]) -> Vec<Value> {
    messages.iter().filter(|message| message.topic == READINGS).map(Message::json).collect()
}

fn values(messages: &[Message], point: &str) -> Vec<Value> {
    let values = readings(messages).into_iter().map(|json| json["values"][point].clone());
    values.filter(|value| !value.is_null()).collect()
}

/// Writes and returns the reply as text.
fn write(broker: &Broker, watcher: &Subscriber, id: &str, values: &str) -> String {
    let command = format!(r#"{{"id":"{id}","action":"write","values":{values}}}"#);
    publish(broker, "fieldgate/g/d/command", &command, &[]);
    let is_reply = |message: &Message| message.topic == "fieldgate/g/d/reply" && message.json()["id"] == id;
    watcher.wait_for("the reply", is_reply).payload
}

#[test]
fn what_stays_within_its_deadband_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let units = json!({"1": {"holding": {"0": [200, 7, 8], "4": [0, 0, 0, 1]}, "counter": 100}});
    let peer = ModbusPeer::tcp(&units);
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let link =
        format!("[links.plc]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\ntimeout = \"20s\"\n", peer.address);
    let mut gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + &link + DEVICE));
    // Each poll counts one up, and every fifth of them is published.
    let counted = |more: usize| {
        let goal = values(&watcher.messages(), "reads").len() + more;
        watcher.wait("polls", LIMIT, |messages| (values(messages, "reads").len() >= goal).then_some(()));
    };
    counted(3);
    let reply = write(&broker, &watcher, "w-1", r#"{"level":20.44}"#);
    assert!(reply.contains(r#""status":"succeeded","values":{"level":20.4}"#), "rounded: {reply}");
    counted(2);
    assert_eq!(values(&watcher.messages(), "level"), [json!(20.0)], "0.4 is within the deadband");
    write(&broker, &watcher, "w-2", r#"{"level":20.6}"#);
    watcher.wait("the change", LIMIT, |messages| (values(messages, "level").len() == 2).then_some(()));
    let reply = write(&broker, &watcher, "w-3", r#"{"long":9007199254740.993}"#);
    assert!(reply.contains(r#""values":{"long":9007199254740.993}"#), "{reply}");
    assert!(peer.writes().contains(&"1 holding 4 [32, 0, 0, 1]".to_owned()), "{:?}", peer.writes());
    counted(6);
    publish(&broker, "fieldgate/g/d/command", r#"{"id":"p-1","action":"poll"}"#, &[]);
    let whole = |messages: &[Message]| {
        let all = readings(messages);
        all.iter().filter(|json| json["values"].as_object().is_some_and(|values| values.len() == 5)).count()
    };
    watcher.wait("a whole message", LIMIT, |messages| (whole(messages) == 2).then_some(()));
    counted(2);
    assert!(gateway.stop().success());

    let messages = watcher.messages();
    assert_eq!(whole(&messages[..]), 2, "the first, and the one asked for");
    assert_eq!(values(&messages, "level"), [json!(20.0), json!(20.6), json!(20.6)]);
    assert_eq!(values(&messages, "steady"), [json!(7), json!(7)]);
    assert_eq!(values(&messages, "long").len(), 3);
    let reads: Vec<i64> = values(&messages, "reads").iter().map(|value| value.as_i64().unwrap()).collect();
    let steps: Vec<i64> = reads.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().filter(|step| **step != 5).count() <= 1, "but for the command: {steps:?}");
    // A message is there for a change, a heartbeat or the command, and for nothing else.
    let told = readings(&messages);
    let beats: Vec<_> = told.iter().filter(|json| json["values"]["beat"] == 8).collect();
    assert!(told.iter().all(|json| json["values"].as_object().is_some_and(|values| !values.is_empty())));
    assert!(told.len() <= reads.len() + beats.len() + 2, "{} messages", told.len());
    // Eight and a half intervals at least lie between two heartbeats; ask the clock, for polls may come late.
    let at = |json: &&Value| Timestamp::parse(json["ts"].as_str().unwrap()).unwrap().millis();
    let time = usize::try_from(at(beats.last().unwrap()) - at(&beats[0])).unwrap();
    assert!(beats.len() >= 3 && beats.len() <= time / 850 + 4, "{} beats in {time} ms", beats.len());
    let records = Records::of(&messages);
    assert_eq!(records.holes(records.runs()[0]), [0_u64; 0]);
}
