//! What the configuration says of the uplink is what goes over the wire: CONNECT byte by byte, the will in it, and the
//! properties of every publish.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::packet::{Connect, Packet, Properties, Property, Publish};
use support::scripted::{Script, Scripted};
use support::{Gateway, LIMIT, canary, head_at};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"200ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";

// Properties by their numbers (MQTT 5.0, 2.2.2.2).
const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const SESSION_EXPIRY: u8 = 0x11;
const AUTH_METHOD: u8 = 0x15;
const AUTH_DATA: u8 = 0x16;
const WILL_DELAY: u8 = 0x18;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
const MAX_PACKET: u8 = 0x27;

fn write_secret(file: &Path, bytes: &[u8]) -> String {
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = \"{}\" }}", file.display())
}

/// A gateway with these lines under `[mqtt]`, and the broker it talks to.
fn start(folder: &Path, more: &str) -> (Scripted, Gateway) {
    let broker = Scripted::start(Script::default());
    let gateway = Gateway::run(folder, &format!("{}{more}{DEVICE}", head_at(folder, &broker.url())));
    (broker, gateway)
}

fn connect(broker: &Scripted, connection: usize) -> Connect {
    broker.wait("CONNECT", LIMIT, |packets| {
        packets.iter().filter(|packet| packet.connection == connection).find_map(Packet::connect)
    })
}

fn publishes(broker: &Scripted, count: usize) -> Vec<Publish> {
    broker.wait("publishes", LIMIT, |packets| {
        let all: Vec<_> = packets.iter().filter_map(Packet::publish).collect();
        (all.iter().filter(|publish| publish.topic.contains("readings")).count() >= count).then_some(all)
    })
}

fn number(properties: &Properties, id: u8) -> Option<u32> {
    properties.iter().find_map(|property| match property {
        (of, Property::Number(number)) if *of == id => Some(*number),
        _ => None,
    })
}

fn bytes(properties: &Properties, id: u8) -> Option<&[u8]> {
    properties.iter().find_map(|property| match property {
        (of, Property::Bytes(bytes)) if *of == id => Some(&bytes[..]),
        _ => None,
    })
}

fn pairs(properties: &Properties) -> Vec<(&str, &str)> {
    properties
        .iter()
        .filter_map(|(id, property)| match property {
            Property::Pair(key, value) if *id == USER_PROPERTY => Some((key.as_str(), value.as_str())),
            _ => None,
        })
        .collect()
}

/// At most this, and no more below it than a busy machine takes.
fn is_just_below<N: Into<u64>>(number: N, most: u64) -> bool {
    (most - 60..=most).contains(&number.into())
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script::default());
    let config = head_at(folder.path(), &broker.url()) + DEVICE;
    let _gateway = Gateway::run_as_written(folder.path(), &config);
    let connect = connect(&broker, 1);
    assert_eq!((connect.protocol.as_str(), connect.level), ("MQTT", 5));
    assert_eq!((connect.client_id.as_str(), connect.keep_alive), ("fieldgate-g", 30));
    // A will of QoS 1, retained; no clean start, no user, no password.
    assert_eq!(connect.flags, 0b0010_1100, "{connect:?}");
    let properties = &connect.properties;
    assert_eq!(number(properties, SESSION_EXPIRY), Some(7 * 86_400));
    assert_eq!(number(properties, RECEIVE_MAXIMUM), Some(100));
    assert_eq!(number(properties, MAX_PACKET), Some(256 << 10));
    assert_eq!(properties.len(), 3, "nothing else is said: {properties:?}");
    let (of_will, topic, payload) = connect.will.unwrap();
    assert_eq!(topic, "fieldgate/g/status");
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&payload["state"], &payload["reason"]), (&"offline".into(), &"connection lost".into()));
    assert_eq!(number(&of_will, WILL_DELAY), None, "{of_will:?}");
    for publish in publishes(&broker, 3) {
        let expiry = number(&publish.properties, MESSAGE_EXPIRY);
        assert_eq!(expiry.is_some(), !publish.retain, "{publish:?}");
        // It counts from the making, which is a moment ago.
        assert!(expiry.is_none_or(|expiry| is_just_below(expiry, 30 * 86_400)), "{publish:?}");
        assert_eq!(number(&publish.properties, TOPIC_ALIAS), None, "an alias outlives no connection");
    }
}

#[test]
fn all_that_is_configured_goes_out() {
    let folder = tempfile::tempdir().unwrap();
    let (password, token) = (folder.path().join("password"), folder.path().join("token"));
    let [first_token, second_token] = ["first", "second"].map(canary::secret);
    let binary: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let more = format!(
        r#"
client_id = "unit-{{gateway}}"
username = "Straße 7"
password = {}
auth = {{ method = "SAS", data = {} }}
connect_user_properties = {{ host = "hub.example", "ts" = "1" }}
user_properties = {{ site = "north", note = "ä" }}
keep_alive = "77s"
clean_start = true
session_expiry = "90s"
receive_maximum = 7
max_packet_size = "64KiB"
message_expiry = "1h"
content_type = "application/json"
payload_format = "utf8"
qos = 2
[mqtt.will]
topic = "{{prefix}}/gone"
payload = "so long"
qos = 2
retain = false
delay = "45s"
expiry = "2m"
"#,
        write_secret(&password, &binary),
        write_secret(&token, format!("{first_token}\n").as_bytes()),
    );
    let (broker, _gateway) = start(folder.path(), &more);
    let first = connect(&broker, 1);
    assert_eq!((first.client_id.as_str(), first.keep_alive), ("unit-g", 77));
    assert_eq!(first.username.as_deref(), Some("Straße 7"));
    assert_eq!(first.password.as_deref(), Some(&binary[..]));
    // User, password, will of QoS 2 not retained, clean start.
    assert_eq!(first.flags, 0b1101_0110, "{:b}", first.flags);
    let properties = &first.properties;
    assert_eq!(number(properties, SESSION_EXPIRY), Some(90));
    assert_eq!(number(properties, RECEIVE_MAXIMUM), Some(7));
    assert_eq!(number(properties, MAX_PACKET), Some(64 << 10));
    assert_eq!(bytes(properties, AUTH_METHOD), Some(&b"SAS"[..]));
    assert_eq!(bytes(properties, AUTH_DATA), Some(first_token.as_bytes()));
    let mut said = pairs(properties);
    said.sort_unstable();
    assert_eq!(said, [("host", "hub.example"), ("ts", "1")]);
    let (of_will, topic, payload) = first.will.as_ref().unwrap();
    assert_eq!((topic.as_str(), &payload[..]), ("fieldgate/g/gone", &b"so long"[..]));
    assert_eq!(number(of_will, WILL_DELAY), Some(45));
    assert_eq!(number(of_will, MESSAGE_EXPIRY), Some(120));

    for publish in publishes(&broker, 3) {
        let mut said = pairs(&publish.properties);
        said.sort_unstable();
        assert_eq!(said, [("note", "ä"), ("site", "north")], "{publish:?}");
        assert_eq!(bytes(&publish.properties, CONTENT_TYPE), Some(&b"application/json"[..]), "{publish:?}");
        assert_eq!(number(&publish.properties, PAYLOAD_FORMAT), Some(1), "{publish:?}");
        if publish.topic.ends_with("/readings") {
            assert_eq!(publish.qos, 2, "{publish:?}");
            let expiry = number(&publish.properties, MESSAGE_EXPIRY);
            assert!(expiry.is_some_and(|expiry| is_just_below(expiry, 3600)), "{publish:?}");
        }
    }

    // Both secrets are read anew at each connect.
    write_secret(&token, second_token.as_bytes());
    write_secret(&password, b"other");
    broker.cut();
    let second = connect(&broker, 2);
    assert_eq!(bytes(&second.properties, AUTH_DATA), Some(second_token.as_bytes()));
    assert_eq!(second.password.as_deref(), Some(&b"other"[..]));
}

#[test]
fn older_versions_say_less() {
    for (version, protocol, level) in [("3.1", "MQIsdp", 3), ("3.1.1", "MQTT", 4)] {
        let folder = tempfile::tempdir().unwrap();
        let password = write_secret(&folder.path().join("password"), b"\x00\xff");
        let more = format!("version = \"{version}\"\nusername = \"u\"\npassword = {password}\n");
        let (broker, _gateway) = start(folder.path(), &more);
        let connect = connect(&broker, 1);
        assert_eq!((connect.protocol.as_str(), connect.level), (protocol, level));
        assert_eq!(connect.flags, 0b1110_1100, "{version}: {:b}", connect.flags);
        assert_eq!(
            (connect.username.as_deref(), connect.password.as_deref()),
            (Some("u"), Some(&b"\x00\xff"[..]))
        );
        assert_eq!(publishes(&broker, 3)[0].qos, 1);
    }
}

#[test]
fn a_password_alone_is_said_with_mqtt_5() {
    let folder = tempfile::tempdir().unwrap();
    let password = write_secret(&folder.path().join("password"), b"a token");
    let (broker, _gateway) = start(folder.path(), &format!("password = {password}\n"));
    let connect = connect(&broker, 1);
    assert_eq!((connect.username, connect.password.as_deref()), (None, Some(&b"a token"[..])));
    assert_eq!(connect.flags & 0xc0, 0x40);
}

#[test]
fn a_random_client_id_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, gateway) = start(folder.path(), "client_id = \"gw-{random}\"\n");
    let first = connect(&broker, 1).client_id;
    assert!(first.starts_with("gw-") && first.len() == 13, "{first}");
    let _again = gateway.run_again();
    assert_eq!(connect(&broker, 2).client_id, first);
}
