//! A broker that refuses one message still gets all the others, and an event names the refused one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::Write as _;

use support::{Broker, Gateway, LIMIT, Message, Records, Subscriber, head, publish};

const SMALL: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"100ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";

/// Polls of the small device that must come after the refusal.
const MORE: u64 = 30;

fn newest(messages: &[Message]) -> u64 {
    let polls = messages.iter().filter(|m| m.topic.ends_with("/small/readings"));
    polls.filter_map(|m| m.json()["values"]["count"].as_u64()).max().unwrap_or(0)
}

fn wait_polls(watcher: &Subscriber) {
    let goal = newest(&watcher.messages()) + MORE;
    watcher.wait("the polls of the small device", LIMIT, |messages| (newest(messages) >= goal).then_some(()));
}

#[test]
fn a_message_too_large_for_the_broker_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::with("max_packet_size 600\n");
    let mut config = head(folder.path(), &broker) + SMALL;
    config += "[devices.large]\nlink = \"sim\"\npoll_interval = \"100ms\"\n[devices.large.points]\n";
    for point in 0..60 {
        writeln!(config, "point-{point} = {{ address = \"counter\", type = \"u32\" }}").unwrap();
    }
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mut gateway = Gateway::run(folder.path(), &config);
    let event = watcher.wait_json("fieldgate/g/event", "the event", |json| json["event"] == "set-aside");
    assert!(event["reason"].as_str().unwrap().contains("more than the broker takes"), "{event}");
    wait_polls(&watcher);
    assert!(gateway.stop().success());
    assert!(!watcher.messages().iter().any(|m| m.topic.contains("/large/readings")));
}

#[test]
fn a_reply_to_a_forbidden_topic_does_not_stop_the_readings() {
    let folder = tempfile::tempdir().unwrap();
    let rights = folder.path().join("rights");
    std::fs::write(&rights, "topic readwrite fieldgate/#\n").unwrap();
    let broker = Broker::with(&format!("acl_file {}\n", rights.display()));
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mut gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + SMALL));
    wait_polls(&watcher);
    let command = r#"{"id":"c-1","action":"read"}"#;
    let response = ["-V", "5", "-D", "publish", "response-topic", "secret/answers"];
    publish(&broker, "fieldgate/g/small/command", command, &response);
    let event = watcher.wait_json("fieldgate/g/event", "the event", |json| json["event"] == "set-aside");
    wait_polls(&watcher);
    assert!(gateway.stop().success());
    let records = Records::of(&watcher.messages());
    let run = records.runs()[0];
    assert_eq!(
        records.holes(run),
        [event["lost"]["from"].as_u64().unwrap()],
        "only what the event names is missing"
    );
}
