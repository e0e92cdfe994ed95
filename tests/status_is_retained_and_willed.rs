//! The retained status says `online` while the gateway is there, and why it is `offline` when it is not: by its own
//! word after an orderly stop, by the broker's after a crash.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::Value;
use support::{Broker, Gateway, Message, Scale, Subscriber, head, scale_device};

/// What the broker has kept on a topic, asked for anew.
fn retained(broker: &Broker, topic: &str) -> Message {
    let newcomer = Subscriber::start(broker, topic);
    newcomer.wait_for(&format!("{topic}, retained"), |message| message.retained)
}

fn online(broker: &Broker, watcher: &Subscriber) -> Value {
    watcher.wait_json("fieldgate/g/scale/status", "online", |json| json["state"] == "online");
    let status = retained(broker, "fieldgate/g/status").json();
    assert_eq!(status["format"], 1, "{status}");
    assert_eq!(status["state"], "online", "{status}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"), "{status}");
    assert!(status["ts"].is_string(), "{status}");
    assert!(status["run"].as_u64().unwrap() > 1_700_000_000, "{status}");
    status
}

fn start(version: &str) -> (tempfile::TempDir, Broker, Scale, Gateway, Subscriber) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let scale = Scale::start();
    let config = head(folder.path(), &broker)
        + &format!("version = \"{version}\"\n")
        + &scale_device(&scale.path, "100ms");
    let gateway = Gateway::run(folder.path(), &config);
    (folder, broker, scale, gateway, watcher)
}

fn an_orderly_stop_says_stopped(version: &str) {
    let (_folder, broker, _scale, mut gateway, watcher) = start(version);
    let before = online(&broker, &watcher);
    let info = retained(&broker, "fieldgate/g/scale/info").json();
    assert_eq!(info["format"], 1, "{info}");
    assert_eq!(info["link"], "scale", "{info}");
    assert_eq!(info["points"]["weight"]["type"], "f64", "{info}");
    assert_eq!(info["points"]["weight"]["unit"], "kg", "{info}");
    assert_eq!(retained(&broker, "fieldgate/g/scale/status").json()["state"], "online");
    let exit = gateway.stop();
    assert_eq!(exit.code(), Some(0));
    let after = retained(&broker, "fieldgate/g/status").json();
    assert_eq!(after["format"], 1, "{after}");
    assert_eq!(after["state"], "offline", "{after}");
    assert_eq!(after["reason"], "stopped", "{after}");
    assert_eq!(after["run"], before["run"]);
    // Left in order: the broker had no last will to send.
    let wills = watcher.messages();
    assert!(!wills.iter().any(|message| message.payload.contains("connection lost")));
}

fn a_crash_is_told_by_the_broker(version: &str) {
    let (_folder, broker, _scale, mut gateway, watcher) = start(version);
    let before = online(&broker, &watcher);
    gateway.kill();
    let will = watcher.wait_json("fieldgate/g/status", "the last will", |json| json["state"] == "offline");
    assert_eq!(will["format"], 1, "{will}");
    assert_eq!(will["reason"], "connection lost", "{will}");
    assert_eq!(will["run"], before["run"], "{will}");
    assert_eq!(retained(&broker, "fieldgate/g/status").json(), will);
}

#[test]
fn an_orderly_stop_says_stopped_by_mqtt_5() {
    an_orderly_stop_says_stopped("5");
}

#[test]
fn an_orderly_stop_says_stopped_by_mqtt_3_1_1() {
    an_orderly_stop_says_stopped("3.1.1");
}

#[test]
fn a_crash_is_told_by_the_broker_by_mqtt_5() {
    a_crash_is_told_by_the_broker("5");
}

#[test]
fn a_crash_is_told_by_the_broker_by_mqtt_3_1_1() {
    a_crash_is_told_by_the_broker("3.1.1");
}
