//! A session that the gateway takes over may hold subscriptions of another program under its client id: what comes by
//! them is told and not taken, and a command that also comes by the gateway's own runs once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::process::Command;

use serde_json::json;
use support::{
    Broker, Gateway, LIMIT, ModbusPeer, Subscriber, boiler_device, boiler_units, head, program, publish,
};

/// The foreign filters; none is one of the gateway's, which would take its place.
const FOREIGN: [&str; 2] = ["fieldgate/+/+/command", "fieldgate/g/#"];
const TOLD: &str = "by a subscription that is not ours";

/// Leaves a session under the gateway's client id with these subscriptions, by mosquitto's own client.
fn subscribe_as_the_gateway(broker: &Broker) {
    let mut client = Command::new(program("mosquitto_sub"));
    client.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-V", "5", "-q", "1", "-E"]);
    client.args(["-c", "-i", "fieldgate-g"]);
    client.args(["-D", "subscribe", "subscription-identifier", "77"]);
    assert!(client.args(["-t", FOREIGN[0], "-t", FOREIGN[1]]).status().unwrap().success());
}

#[test]
fn what_comes_by_a_foreign_subscription_is_told_and_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let boiler = ModbusPeer::tcp(&boiler_units());
    let watcher = Subscriber::start(&broker, "fieldgate/g/boiler/#");
    subscribe_as_the_gateway(&broker);
    // It waits in the foreign session: a read may be old, and would be answered.
    let read = json!({"id": "waited", "action": "read", "points": ["total"]});
    publish(&broker, "fieldgate/g/boiler/command", &read.to_string(), &[]);

    let config = head(folder.path(), &broker) + &boiler_device(&boiler.address, "1s");
    let mut gateway = Gateway::run(folder.path(), &config);
    let line = gateway.process().wait_line(TOLD, LIMIT);
    assert!(line.contains("WARN") && line.contains("77") && line.contains("/boiler/command"), "{line}");
    watcher.wait_for("readings", |message| message.topic.ends_with("/readings"));

    // These come three times each.
    for number in 1..=3 {
        let id = format!("w-{number}");
        let write = json!({"id": id, "action": "write", "values": {"total": number},
            "expires_at": "2090-01-01T00:00:00Z"});
        publish(&broker, "fieldgate/g/boiler/command", &write.to_string(), &[]);
        let reply = watcher.wait_json("fieldgate/g/boiler/reply", "the reply", |json| json["id"] == *id);
        assert_eq!(reply["status"], "succeeded", "{reply}");
    }
    assert!(gateway.stop().success());
    let replies: Vec<String> = watcher
        .messages()
        .iter()
        .filter(|message| message.topic.ends_with("/reply"))
        .map(|message| message.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(replies, ["w-1", "w-2", "w-3"]);
    assert_eq!(boiler.writes().len(), 3);
    // Once aloud for a connection, not for each message.
    let log = gateway.process().lines();
    let aloud = log.iter().filter(|line| line.contains("WARN") && line.contains(TOLD)).count();
    let connections = log.iter().filter(|line| line.contains("connected to the broker")).count();
    assert_eq!((aloud, connections), (1, 1));
}
