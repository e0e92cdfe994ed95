//! Brokers that stall, deny, throw out or know too little: what is wrong is named, nothing is lost, nothing old is
//! taken for new.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use support::packet::framed;
use support::scripted::{Packet, Script, Scripted};
use support::{Broker, Gateway, LIMIT, Subscriber, free_port, head, head_at};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"500ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n\
    set = { address = \"memory\", type = \"u16\", writable = true }\n";
/// Longer than a broker may go on without an acknowledgement.
const SLOW_LIMIT: Duration = Duration::from_secs(150);

/// A PUBLISH with QoS 1 as a broker of MQTT 5 sends it.
fn command(id: u16, topic: &str, body: &serde_json::Value) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    framed(0x32, &[&length, topic.as_bytes(), &id.to_be_bytes(), &[0], body.to_string().as_bytes()].concat())
}

fn gateway_at(folder: &Path, url: &str, lines: &str) -> Gateway {
    Gateway::run(folder, &format!("{}{lines}{DEVICE}", head_at(folder, url)))
}

fn has_come(kind: u8) -> impl Fn(&[Packet]) -> Option<()> {
    move |packets| packets.iter().any(|packet| packet.kind() == kind).then_some(())
}

/// Two gateways with one id on a real broker: both are told.
fn contest(version: &str) {
    let broker = Broker::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = |folder: &Path| format!("{}version = \"{version}\"\n{DEVICE}", head(folder, &broker));
    let mut first = Gateway::run(folders[0].path(), &config(folders[0].path()));
    first.process().wait_line("connected to the broker", LIMIT);
    let mut second = Gateway::run(folders[1].path(), &config(folders[1].path()));
    for gateway in [&mut first, &mut second] {
        let line = gateway.process().wait_line("do two clients use the id", LIMIT);
        assert!(line.contains("gateway.id"), "{line}");
    }
}

#[test]
fn two_clients_with_one_id_are_named_with_mqtt_5() {
    contest("5");
}

#[test]
fn two_clients_with_one_id_are_named_with_mqtt_3() {
    contest("3.1.1");
}

#[test]
fn a_reason_counts_though_the_connection_is_closed_right_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script::default());
    let mut gateway = gateway_at(folder.path(), &broker.url(), "");
    broker.wait_json("/readings", "a reading", |_| true);
    broker.send(&framed(0xe0, &[0x98, 0]));
    broker.cut();
    let line = gateway.process().wait_line("no broker", LIMIT);
    assert!(line.contains("refused"), "{line}");
}

#[test]
fn every_command_that_the_broker_was_told_of_is_answered() {
    const COMMANDS: u16 = 60;
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script::default());
    let _gateway = gateway_at(folder.path(), &broker.url(), "");
    broker.wait_json("/readings", "a reading", |_| true);
    let commands = (1..=COMMANDS).map(|id| {
        command(id, "fieldgate/g/small/command", &json!({"id": format!("c-{id}"), "action": "read"}))
    });
    broker.send(&commands.collect::<Vec<_>>().concat());
    let acknowledged = |packets: &[Packet]| {
        (packets.iter().filter(|packet| packet.kind() == 4).count() == usize::from(COMMANDS)).then_some(())
    };
    broker.wait("the acknowledgements", LIMIT, acknowledged);
    broker.cut();
    for id in 1..=COMMANDS {
        broker.wait_json("/reply", &format!("the reply to c-{id}"), |json| json["id"] == format!("c-{id}"));
    }
}

#[test]
fn an_old_write_stays_old_however_slow_the_broker_is() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { session_present: true, withholds: true, ..Script::default() };
    let broker = Scripted::start(script);
    let _gateway = gateway_at(folder.path(), &broker.url(), "");
    let greeting = broker.wait("the greeting", LIMIT, |packets| {
        let all: Vec<_> = packets.iter().filter_map(Packet::publish).collect();
        all.iter().any(|publish| publish.topic.ends_with("g/marker")).then_some(all)
    });
    let write = json!({"id": "old-1", "action": "write", "values": {"set": 77}});
    broker.send(&command(7, "fieldgate/g/small/command", &write));
    // Longer than the mark is waited for: the broker is slow, the command no newer.
    let (_open, never) = channel::<()>();
    never.recv_timeout(Duration::from_secs(33)).unwrap_err();
    broker.set(|script| script.withholds = false);
    for publish in greeting {
        let [high, low] = publish.id.to_be_bytes();
        broker.send(&framed(0x40, &[high, low, 0, 0]));
    }
    let reply = broker.wait_json("/reply", "the reply", |json| json["id"] == "old-1");
    assert_eq!(reply["error"]["code"], "stale", "{reply}");
}

#[test]
fn a_refusal_is_told_that_follows_another_failure() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut gateway = gateway_at(folder.path(), &format!("mqtt://127.0.0.1:{port}"), "");
    let line = gateway.process().wait_line("WARN no broker", LIMIT);
    assert!(line.contains("refused") && !line.contains("mqtt.password"), "{line}");
    let script = Script { connack: 0x86, ..Script::default() };
    let _broker = Scripted::start_at(port, script);
    let line = gateway.process().wait("the refusal", LIMIT, |lines| {
        lines.iter().filter(|line| line.contains("WARN no broker")).nth(1).cloned()
    });
    assert!(line.contains("mqtt.password"), "{line}");
}

#[test]
fn each_of_several_brokers_is_told_all_that_is_retained() {
    let folder = tempfile::tempdir().unwrap();
    let [mut first, second] = [Broker::persistent(), Broker::persistent()];
    first.stop();
    let config = head_at(folder.path(), &second.url()).replace(
        &format!("url = \"{}\"", second.url()),
        &format!("urls = [\"{}\", \"{}\"]", first.url(), second.url()),
    );
    let _gateway = Gateway::run(folder.path(), &(config + DEVICE));
    let watcher = Subscriber::start(&second, "fieldgate/g/#");
    let is_online = |json: &serde_json::Value| json["state"] == "online";
    watcher.wait_json("fieldgate/g/small/status", "online", is_online);
    first.start_again();
    let info = |broker: &Broker| {
        let watcher = Subscriber::start(broker, "fieldgate/g/#");
        watcher.wait_json("fieldgate/g/small/info", "the description", |_| true);
        watcher.wait_json("fieldgate/g/small/status", "online", is_online);
    };
    // Each connect begins with the first: a lost connection leads there.
    let mut second = second;
    second.stop();
    info(&first);
    // What the second has is taken away; it keeps the session, so nobody would tell it again.
    second.start_again();
    for aspect in ["info", "status"] {
        support::publish(&second, &format!("fieldgate/g/small/{aspect}"), "", &["-r"]);
    }
    first.stop();
    info(&second);
}

#[test]
fn a_denied_topic_leaves_the_connection_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rights = folder.path().join("rights");
    let allowed = ["+", "+/status", "+/info", "+/command", "other/readings"];
    let lines = allowed.map(|topic| format!("topic readwrite fieldgate/g/{topic}\n")).concat();
    std::fs::write(&rights, lines).unwrap();
    // With an endless queue mosquitto 2.0.11 breaks the connection at each denial.
    let broker = Broker::with(&format!("acl_file {}\nmax_queued_messages 1000\n", rights.display()));
    let other =
        DEVICE.replace("links.sim", "links.two").replace("\"sim\"", "\"two\"").replace("small", "other");
    let config =
        head(folder.path(), &broker) + DEVICE + &other.replace("driver = \"two\"", "driver = \"simulator\"");
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mut gateway = Gateway::run(folder.path(), &config);
    let event = watcher.wait("what is set aside", SLOW_LIMIT, |messages| {
        let events = messages.iter().filter(|message| message.topic == "fieldgate/g/event");
        events.map(support::Message::json).find(|json| json["event"] == "set-aside")
    });
    assert!(event["lost"]["from"].is_u64(), "{event}");
    let lines = gateway.process().lines();
    assert_eq!(lines.iter().filter(|line| line.contains("connected to the broker")).count(), 1);
    let messages = watcher.messages();
    assert!(messages.iter().any(|message| message.topic == "fieldgate/g/other/readings"));
    assert!(!messages.iter().any(|message| message.topic == "fieldgate/g/small/readings"));
}

/// Denied, then refused for its form, then denied until the end: nothing of it stops the rest.
#[test]
fn what_waits_behind_a_denial_is_never_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { puback: vec![("small/readings", 0x87)], ..Script::default() };
    let broker = Scripted::start(script);
    let lines = "max_inflight = 4\n";
    let other =
        DEVICE.replace("links.sim", "links.two").replace("\"sim\"", "\"two\"").replace("small", "other");
    let mut gateway = Gateway::run(
        folder.path(),
        &format!("{}{lines}{DEVICE}{other}", head_at(folder.path(), &broker.url())),
    );
    // Two of four places: tried again after five seconds.
    gateway.process().wait_line("the broker denies records", LIMIT);
    broker.set(|script| script.puback = vec![("small/readings", 0x90)]);
    gateway.process().wait_line("it is set aside", LIMIT);
    broker.set(|script| script.puback = Vec::new());
    let known = broker.published().len();
    broker.wait("what waited", LIMIT, |packets| {
        let readings = packets.iter().filter_map(Packet::published).skip(known);
        (readings.filter(|(topic, _)| topic.ends_with("small/readings")).count() > 3).then_some(())
    });
    assert!(gateway.stop().success());
}

#[test]
fn a_gateway_that_is_denied_everything_gives_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script::default());
    let mut gateway = gateway_at(folder.path(), &broker.url(), "max_inflight = 4\n");
    broker.wait_json("/readings", "a reading", |_| true);
    let before = broker.published().len();
    broker.set(|script| script.puback = vec![("fieldgate/", 0x87)]);
    // Each try is told by the status that is sent again; after the third it would have been given up.
    broker.wait("the fifth try", SLOW_LIMIT, |packets| {
        let statuses = packets.iter().filter_map(Packet::published).skip(before);
        (statuses.filter(|(topic, _)| topic.ends_with("g/status")).count() >= 3).then_some(())
    });
    broker.set(|script| script.puback = Vec::new());
    let names: std::collections::BTreeSet<u64> = broker.wait("every reading", LIMIT, |packets| {
        let readings =
            packets.iter().filter_map(Packet::published).filter(|(topic, _)| topic.ends_with("/readings"));
        let seqs = readings.filter_map(|(_, text)| {
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["seq"].as_u64()
        });
        let seqs: std::collections::BTreeSet<u64> = seqs.collect();
        (seqs.last().is_some_and(|last| *last > 60 && seqs.len() as u64 == *last)).then_some(seqs)
    });
    assert!(!names.is_empty());
    assert!(!gateway.process().lines().iter().any(|line| line.contains("set aside")));
}

#[test]
fn limits_that_leave_no_room_are_a_refusal_and_cost_no_record() {
    for properties in [vec![0x27, 0, 0, 0, 0], vec![0x27, 0, 0, 0, 20], vec![0x21, 0, 0]] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Scripted::start(Script { connack_properties: properties.clone(), ..Script::default() });
        let mut gateway = gateway_at(folder.path(), &broker.url(), "");
        let line = gateway.process().wait_line("no broker", LIMIT);
        assert!(line.contains("refused: the broker says that it takes"), "{properties:?}: {line}");
        assert!(broker.published().is_empty(), "{properties:?}");
        let lines = gateway.process().lines();
        assert!(!lines.iter().any(|line| line.contains("set aside")), "{properties:?}");
    }
}

#[test]
fn a_broker_that_does_not_answer_connect_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script { instead_of_connack: Some(Vec::new()), ..Script::default() });
    let mut gateway = gateway_at(folder.path(), &broker.url(), "connect_timeout = \"1s\"\n");
    let line = gateway.process().wait_line("no broker", LIMIT);
    assert!(line.contains("no answer to CONNECT within 1s"), "{line}");
    assert!(line.contains(&broker.port.to_string()), "{line}");
}

#[test]
fn a_broker_that_acknowledges_nothing_is_left() {
    let silent = |when: &str| {
        let folder = tempfile::tempdir().unwrap();
        let script = Script { withholds: when == "from the first", ..Script::default() };
        let broker = Scripted::start(script);
        let gateway = gateway_at(folder.path(), &broker.url(), "max_inflight = 4\nkeep_alive = \"5s\"\n");
        (folder, broker, gateway)
    };
    let mut all = [silent("from the first"), silent("later")];
    all[1].1.wait_json("/readings", "a reading", |_| true);
    all[1].1.set(|script| script.withholds = true);
    for (_, broker, gateway) in &mut all {
        let line = gateway.process().wait_line("no broker", SLOW_LIMIT);
        assert!(line.contains("has acknowledged nothing for 60s"), "{line}");
        // Its pings were answered all the while.
        broker.wait("a ping", LIMIT, has_come(12));
        assert!(gateway.stop().success());
    }
}
