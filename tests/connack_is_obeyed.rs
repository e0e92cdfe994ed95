//! What the broker says in CONNACK holds for the connection, and can be seen in the gateway's `status`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::packet::{
    Packet, Property, Publish, framed, property_text, property_u16, property_u32, publish,
};
use support::scripted::{Script, Scripted};
use support::{Gateway, LIMIT, head_at};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"200ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";

// Properties of CONNACK by their numbers (MQTT 5.0, 3.2.2.3).
const SESSION_EXPIRY: u8 = 0x11;
const ASSIGNED_ID: u8 = 0x12;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const RECEIVE_MAXIMUM: u8 = 0x21;
const MAX_QOS: u8 = 0x24;
const RETAIN: u8 = 0x25;
const MAX_PACKET: u8 = 0x27;
const WILDCARDS: u8 = 0x28;
const IDENTIFIERS: u8 = 0x29;
const SHARED: u8 = 0x2a;
/// Of SUBSCRIBE.
const IDENTIFIER: u8 = 0x0b;

fn start(folder: &Path, properties: Vec<u8>, more: &str) -> (Scripted, Gateway) {
    let broker = Scripted::start(Script { connack_properties: properties, ..Script::default() });
    let gateway = Gateway::run(folder, &format!("{}{more}{DEVICE}", head_at(folder, &broker.url())));
    (broker, gateway)
}

fn publishes(packets: &[Packet]) -> Vec<Publish> {
    packets.iter().filter_map(Packet::publish).collect()
}

fn wait_readings(broker: &Scripted, count: usize) -> Vec<Publish> {
    broker.wait("readings", LIMIT, |packets| {
        let all = publishes(packets);
        (all.iter().filter(|publish| publish.topic.ends_with("/readings")).count() >= count).then_some(all)
    })
}

/// What the gateway says of its connection.
fn uplink(broker: &Scripted, id: &str) -> Value {
    let command = format!(r#"{{"id":"{id}","action":"status"}}"#);
    broker.send(&publish(5, "fieldgate/g/command", &command));
    broker.wait_json("/reply", "the status", |json| json["id"] == id)["values"]["uplink"].clone()
}

/// The filters of the first connection, each with its subscription identifier.
fn filters(broker: &Scripted) -> Vec<(String, Option<u32>)> {
    broker.wait("the last SUBSCRIBE", LIMIT, |packets| {
        let mut found = Vec::new();
        for (properties, filters) in packets.iter().filter_map(Packet::subscribe) {
            let identifier = properties.iter().find_map(|(id, value)| match value {
                Property::Number(number) if *id == IDENTIFIER => Some(*number),
                _ => None,
            });
            found.extend(filters.into_iter().map(|(filter, _)| (filter, identifier)));
        }
        found.last().is_some_and(|(filter, _)| filter.ends_with("/marker")).then_some(found)
    })
}

#[test]
fn one_at_a_time_means_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script {
        connack_properties: property_u16(RECEIVE_MAXIMUM, 1),
        withholds: true,
        ..Script::default()
    });
    let config = format!("{}{DEVICE}", head_at(folder.path(), &broker.url()));
    let _gateway = Gateway::run(folder.path(), &config);
    // Status, description, readings: each waits for the one before.
    for round in 1..=8 {
        let all = broker.wait("one more publish", LIMIT, |packets| {
            let all = publishes(packets);
            (all.len() >= round).then_some(all)
        });
        // More would be there by now: the device is polled five times a second.
        std::thread::park_timeout(Duration::from_millis(600));
        let all_later = publishes(&broker.packets());
        assert_eq!(all_later.len(), round, "{all_later:?}");
        let last = all.last().unwrap();
        assert_eq!(last.qos, 1, "{last:?}");
        broker.send(&framed(0x40, &last.id.to_be_bytes()));
    }
    broker.set(|script| script.withholds = false);
    let last = broker.wait("the last", LIMIT, |packets| publishes(packets).get(8).cloned());
    broker.send(&framed(0x40, &last.id.to_be_bytes()));
    assert_eq!(uplink(&broker, "s-1")["receive_maximum"], 1);
}

#[test]
fn the_servers_keep_alive_counts() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script {
        connack_properties: property_u16(SERVER_KEEP_ALIVE, 2),
        ..Script::default()
    });
    // After the first poll there is nothing to say.
    let config = format!("{}{DEVICE}", head_at(folder.path(), &broker.url()))
        .replace("poll_interval = \"200ms\"", "poll_interval = \"1h\"");
    let _gateway = Gateway::run(folder.path(), &config);
    let ping = |count| {
        broker.wait("PINGREQ", LIMIT, |packets| {
            (packets.iter().filter(|packet| packet.kind() == 12).count() >= count).then_some(Instant::now())
        })
    };
    let took = {
        let first = ping(1);
        ping(3) - first
    };
    // Two silences of two seconds; the configured thirty would not have passed once.
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(broker.packets().last().unwrap().connection, 1, "the connection held");
    assert_eq!(uplink(&broker, "s-1")["keep_alive_s"], 2);
}

#[test]
fn no_packet_is_larger_than_the_broker_takes() {
    const MOST: u32 = 300;
    let folder = tempfile::tempdir().unwrap();
    let mut large =
        "[devices.large]\nlink = \"sim\"\npoll_interval = \"200ms\"\n[devices.large.points]\n".to_owned();
    for point in 0..40 {
        writeln!(large, "point-{point} = {{ address = \"counter\", type = \"u32\" }}").unwrap();
    }
    let broker =
        Scripted::start(Script { connack_properties: property_u32(MAX_PACKET, MOST), ..Script::default() });
    let config = format!(
        "{}user_properties = {{ site = \"north\" }}\n{DEVICE}{large}",
        head_at(folder.path(), &broker.url())
    );
    let _gateway = Gateway::run(folder.path(), &config);
    let event = broker.wait_json("/event", "the event", |json| json["event"] == "set-aside");
    assert!(event["reason"].as_str().unwrap().contains("more than the broker takes"), "{event}");
    wait_readings(&broker, 10);
    let packets = broker.packets();
    assert!(packets.iter().all(|packet| packet.connection == 1), "it was thrown out");
    let largest = packets.iter().map(Packet::size).max().unwrap();
    assert!(largest <= usize::try_from(MOST).unwrap(), "a packet of {largest} bytes");
    assert!(!publishes(&packets).iter().any(|publish| publish.topic.contains("/large/readings")));
}

#[test]
fn no_quality_is_higher_than_the_broker_takes() {
    for most in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let (broker, mut gateway) = start(folder.path(), vec![MAX_QOS, most], "qos = 2\n");
        let all = wait_readings(&broker, 5);
        assert!(all.iter().all(|publish| publish.qos <= most), "{all:?}");
        assert!(all.iter().any(|publish| publish.qos == most), "{all:?}");
        assert_eq!(uplink(&broker, "s-1")["max_qos"], most);
        // Less than what was asked for is told.
        let line = gateway.process().wait_line("QoS", LIMIT);
        assert!(line.contains("WARN"), "{line}");
        assert!(gateway.stop().success());
        let all = publishes(&broker.packets());
        assert!(all.iter().all(|publish| publish.qos <= most), "{:?}", all.last());
    }
}

#[test]
fn nothing_is_retained_where_the_broker_retains_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut gateway) = start(folder.path(), vec![RETAIN, 0], "retain_readings = true\n");
    wait_readings(&broker, 3);
    assert_eq!(uplink(&broker, "s-1")["retain"], false);
    assert!(gateway.stop().success());
    let all = publishes(&broker.packets());
    assert!(all.iter().any(|publish| publish.topic.ends_with("/g/status")), "{all:?}");
    assert!(all.iter().all(|publish| !publish.retain), "{all:?}");
}

#[test]
fn an_assigned_client_id_is_kept_for_the_next_connect() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, _gateway) =
        start(folder.path(), property_text(ASSIGNED_ID, "given-42"), "client_id = \"\"\n");
    wait_readings(&broker, 1);
    assert_eq!(uplink(&broker, "s-1")["client_id"], "given-42");
    broker.set(|script| script.connack_properties.clear());
    broker.cut();
    let ids = broker.wait("the second CONNECT", LIMIT, |packets| {
        let ids: Vec<_> =
            packets.iter().filter_map(Packet::connect).map(|connect| connect.client_id).collect();
        (ids.len() > 1).then_some(ids)
    });
    assert_eq!(ids[..2], ["", "given-42"], "the session would be lost");
}

#[test]
fn only_what_the_broker_can_is_subscribed_to() {
    let group = "shared_subscription = \"north\"\n";
    for (properties, more, expected, has_identifier) in [
        (
            vec![],
            group,
            vec![
                "$share/north/fieldgate/g/command",
                "$share/north/fieldgate/g/+/command",
                "fieldgate/g/marker",
            ],
            true,
        ),
        (
            vec![WILDCARDS, 0, IDENTIFIERS, 0],
            "",
            vec!["fieldgate/g/command", "fieldgate/g/small/command", "fieldgate/g/marker"],
            false,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (broker, _gateway) = start(folder.path(), properties, more);
        let (found, identifiers): (Vec<String>, Vec<Option<u32>>) = filters(&broker).into_iter().unzip();
        assert_eq!(found, expected);
        // Each its own, or none.
        let own: BTreeSet<u32> = identifiers.iter().copied().flatten().collect();
        assert_eq!(own.len(), if has_identifier { 3 } else { 0 }, "{identifiers:?}");
        wait_readings(&broker, 1);
        let uplink = uplink(&broker, "s-1");
        assert_eq!(uplink["wildcards"], has_identifier, "{uplink}");
        assert_eq!(uplink["subscription_identifiers"], has_identifier, "{uplink}");
    }
}

#[test]
fn the_session_is_as_long_as_the_broker_says() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, _gateway) =
        start(folder.path(), property_u32(SESSION_EXPIRY, 120), "session_expiry = \"7d\"\n");
    wait_readings(&broker, 1);
    let first = uplink(&broker, "s-1");
    assert_eq!((&first["session_expiry_s"], &first["session_present"]), (&120.into(), &false.into()));
    // With its session the gateway need not subscribe again, and marks the end of what waited.
    broker.set(|script| script.session_present = true);
    broker.cut();
    broker.wait("the mark", LIMIT, |packets| {
        publishes(packets).iter().any(|publish| publish.topic == "fieldgate/g/marker").then_some(())
    });
    assert_eq!(uplink(&broker, "s-2")["session_present"], true);
    let subscribed = |packets: &[Packet], connection| {
        packets.iter().any(|packet| packet.connection == connection && packet.kind() == 8)
    };
    assert!(!subscribed(&broker.packets(), 2));
    // Without it, it does.
    broker.set(|script| script.session_present = false);
    broker.cut();
    broker.wait("SUBSCRIBE again", LIMIT, |packets| subscribed(packets, 3).then_some(()));
}

#[test]
fn commands_of_a_group_are_not_taken_where_nothing_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut gateway) = start(folder.path(), vec![SHARED, 0], "shared_subscription = \"north\"\n");
    wait_readings(&broker, 1);
    let line = gateway.process().wait_line("no commands will come", LIMIT);
    assert!(line.contains("ERROR") && line.contains("mqtt.shared_subscription"), "{line}");
    let is_subscribed = broker.packets().iter().any(|packet| packet.kind() == 8);
    assert!(!is_subscribed, "each gateway of the group would run every command");
}

#[test]
fn a_refused_mark_is_no_refusal_of_commands() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script { suback: vec![("/marker", 0x87)], ..Script::default() });
    let mut gateway =
        Gateway::run(folder.path(), &format!("{}{DEVICE}", head_at(folder.path(), &broker.url())));
    wait_readings(&broker, 1);
    gateway.process().wait_line("the gateway's own mark", LIMIT);
    let uplink = uplink(&broker, "s-1");
    assert_eq!(uplink["commands"], "subscribed", "{uplink}");
}

#[test]
fn a_refused_subscription_is_told_until_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script { suback: vec![("+/command", 0x87)], ..Script::default() });
    let mut gateway =
        Gateway::run(folder.path(), &format!("{}{DEVICE}", head_at(folder.path(), &broker.url())));
    wait_readings(&broker, 3);
    let line = gateway.process().wait_line("no commands will come", LIMIT);
    assert!(line.contains("ERROR") && line.contains("fieldgate/g/+/command"), "{line}");
    let refused = uplink(&broker, "s-1");
    assert_eq!(refused["commands"], "refused", "{refused}");
    assert!(refused["commands_refused"].as_str().unwrap().contains("fieldgate/g/+/command"), "{refused}");
    broker.set(|script| script.suback.clear());
    broker.cut();
    broker.wait("SUBSCRIBE again", LIMIT, |packets| {
        packets.iter().any(|packet| packet.connection == 2 && packet.kind() == 8).then_some(())
    });
    broker.wait("readings again", LIMIT, |packets| {
        let again = packets.iter().filter(|packet| packet.connection == 2 && packet.kind() == 3);
        (again.count() > 3).then_some(())
    });
    let allowed = uplink(&broker, "s-2");
    assert_eq!(allowed["commands"], "subscribed", "{allowed}");
    assert!(allowed["commands_refused"].is_null(), "{allowed}");
}
