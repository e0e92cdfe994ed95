//! Every type, in every order of its bytes, arrives at a subscriber as what the device holds, digit by digit: from
//! Modbus TCP, from Modbus RTU on a serial line, and from text.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use support::{Broker, Gateway, ModbusPeer, Scale, Subscriber, head, scale_device};

/// Type and the rest of a point in holding registers, its registers as on the wire, and its value as JSON spells it.
/// The words were written down from the types' definitions, not made by a program of ours.
const HOLDING: [(&str, &[u16], &str); 45] = [
    (r#"type = "bool", bit = 3"#, &[0x0008], "true"),
    (r#"type = "bool", bit = 3"#, &[0xfff7], "false"),
    (r#"type = "i8""#, &[0x12fe], "-2"),
    (r#"type = "u8""#, &[0x12fe], "254"),
    (r#"type = "i16""#, &[0xfffe], "-2"),
    (r#"type = "i16", order = "BADC""#, &[0xfeff], "-2"),
    (r#"type = "i16", scale = 0.1"#, &[614], "61.4"),
    (r#"type = "i16", scale = 0.1"#, &[0xfff7], "-0.9"),
    (r#"type = "i16", scale = 0.5, offset = -10"#, &[101], "40.5"),
    (r#"type = "u16""#, &[0xfffe], "65534"),
    (r#"type = "u16", order = "CDAB""#, &[0x1234], "4660"),
    (r#"type = "u16", order = "DCBA""#, &[0x3412], "4660"),
    (r#"type = "u16", bits = "4-7""#, &[0xabcd], "12"),
    (r#"type = "u16", values = { 0 = "off", 1 = "auto" }"#, &[1], "\"auto\""),
    (r#"type = "u16", values = { 0 = "off", 1 = "auto" }"#, &[9], "9"),
    (r#"type = "i24""#, &[0x55ff, 0xfffe], "-2"),
    (r#"type = "u24""#, &[0x55ff, 0xfffe], "16777214"),
    (r#"type = "i32""#, &[0xffff, 0xfffe], "-2"),
    (r#"type = "u32""#, &[0xb2d0, 0x5e01], "3000000001"),
    (r#"type = "u32", order = "CDAB""#, &[0x5e01, 0xb2d0], "3000000001"),
    (r#"type = "u32", order = "BADC""#, &[0xd0b2, 0x015e], "3000000001"),
    (r#"type = "u32", order = "DCBA""#, &[0x015e, 0xd0b2], "3000000001"),
    (r#"type = "u32", scale = 0.01"#, &[0xb2d0, 0x5e01], "30000000.01"),
    (r#"type = "i64""#, &[0x8000, 0, 0, 0], "-9223372036854775808"),
    (r#"type = "u64""#, &[0xfedc, 0xba98, 0x7654, 0x3210], "18364758544493064720"),
    (r#"type = "u64", order = "CDAB""#, &[0x3210, 0x7654, 0xba98, 0xfedc], "18364758544493064720"),
    (r#"type = "u64", order = "BADC""#, &[0xdcfe, 0x98ba, 0x5476, 0x1032], "18364758544493064720"),
    (r#"type = "u64", order = "DCBA""#, &[0x1032, 0x5476, 0x98ba, 0xdcfe], "18364758544493064720"),
    (r#"type = "f32""#, &[0x4145, 0x70a4], "12.34"),
    (r#"type = "f32", order = "CDAB""#, &[0x70a4, 0x4145], "12.34"),
    (r#"type = "f32", order = "BADC""#, &[0x4541, 0xa470], "12.34"),
    (r#"type = "f32", order = "DCBA""#, &[0xa470, 0x4541], "12.34"),
    (r#"type = "f64""#, &[0xc093, 0x4a45, 0x6d5c, 0xfaad], "-1234.5678"),
    (r#"type = "f64", order = "CDAB""#, &[0xfaad, 0x6d5c, 0x4a45, 0xc093], "-1234.5678"),
    (r#"type = "f64", order = "BADC""#, &[0x93c0, 0x454a, 0x5c6d, 0xadfa], "-1234.5678"),
    (r#"type = "f64", order = "DCBA""#, &[0xadfa, 0x5c6d, 0x454a, 0x93c0], "-1234.5678"),
    (r#"type = "bcd16""#, &[0x1234], "1234"),
    (r#"type = "bcd32""#, &[0x1234, 0x5678], "12345678"),
    (r#"type = "bcd32", order = "CDAB""#, &[0x5678, 0x1234], "12345678"),
    (r#"type = "string", length = 10"#, &[0x6669, 0x656c, 0x6467, 0x6174, 0x6500], "\"fieldgate\""),
    (r#"type = "string", length = 4"#, &[0x6162, 0x2020], "\"ab\""),
    (r#"type = "string", length = 6, order = "BADC""#, &[0x6261, 0x6463, 0x0065], "\"abcde\""),
    // Without a value: the reason stands in `bad`.
    (r#"type = "u16", invalid = [0x8000]"#, &[0x8000], "bad:invalid"),
    (r#"type = "f32""#, &[0x7fc0, 0x0000], "bad:not-a-number"),
    (r#"type = "bcd16""#, &[0x12f4], "bad:invalid"),
];

/// Points outside of holding registers, by full address.
const ELSEWHERE: [(&str, &str); 6] = [
    (r#"address = "input:5", type = "i16""#, "-300"),
    (r#"address = "30007", type = "u16""#, "1234"),
    (r#"address = "coil:4", type = "bool""#, "true"),
    (r#"address = "00006", type = "bool""#, "false"),
    (r#"address = "discrete:9", type = "bool""#, "true"),
    (r#"address = "holding:999", type = "u16""#, "bad:exception-2"),
];

/// The units of a line, the points of the device, and what must be read: by the point's id.
fn device() -> (Value, String, Vec<(String, &'static str)>) {
    let mut words: Vec<u16> = Vec::new();
    let mut points = String::new();
    let mut wanted = Vec::new();
    for (number, (rest, registers, value)) in HOLDING.iter().enumerate() {
        let at = words.len();
        writeln!(points, "points.p{number} = {{ address = \"holding:{at}\", {rest} }}").unwrap();
        wanted.push((format!("p{number}"), *value));
        words.extend(*registers);
    }
    for (number, (point, value)) in ELSEWHERE.iter().enumerate() {
        writeln!(points, "points.e{number} = {{ {point} }}").unwrap();
        wanted.push((format!("e{number}"), *value));
    }
    let units = json!({"17": {
        "holding": {"0": words},
        "input": {"5": [0xfed4, 1234]},
        "coil": {"4": [true, false]},
        "discrete": {"9": [true]},
    }});
    (units, points, wanted)
}

fn every_value_arrives(link: &dyn Fn(&ModbusPeer) -> String, serve: fn(&Value) -> ModbusPeer) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let (units, points, wanted) = device();
    let peer = serve(&units);
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker)
        + &link(&peer)
        + "[devices.every]\nlink = \"line\"\naddress = 17\npoll_interval = \"500ms\"\n"
        + &points;
    let _gateway = Gateway::run(folder.path(), &config);
    // The first polls may still learn which addresses the device refuses.
    let message = watcher.wait_for("a reading with every value", |message| {
        message.topic == "fieldgate/g/every/readings"
            && message.json()["bad"].as_object().is_some_and(|bad| bad.len() == 4)
    });
    let json = message.json();
    assert_eq!(json["device"], "every");
    assert!(json["ts"].as_str().unwrap().ends_with('Z'));
    for (point, value) in &wanted {
        if let Some(reason) = value.strip_prefix("bad:") {
            assert_eq!(json["bad"][point], *reason, "{point}: {}", message.payload);
            assert!(json["values"].get(point).is_none(), "{point}: {}", message.payload);
            continue;
        }
        // The text itself, because a parser would round what it reads.
        let member = format!("\"{point}\":{value}");
        let ends = [",", "}"].map(|end| member.clone() + end);
        let is_there = ends.iter().any(|member| message.payload.contains(member));
        assert!(is_there, "{member} is not in {}", message.payload);
    }
    assert_eq!(json["values"].as_object().unwrap().len() + 4, wanted.len());
}

#[test]
fn every_type_and_order_by_modbus_tcp() {
    every_value_arrives(
        &|peer| format!("[links.line]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\n", peer.address),
        ModbusPeer::tcp,
    );
}

#[test]
fn every_type_and_order_by_modbus_rtu() {
    every_value_arrives(
        &|peer| {
            format!(
                "[links.line]\ndriver = \"modbus-rtu\"\npath = \"{}\"\nbaud_rate = 115200\ntimeout = \"5s\"\n",
                peer.address
            )
        },
        ModbusPeer::rtu,
    );
}

#[test]
fn every_weighing_of_a_text_device_arrives_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let scale = Scale::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/scale/readings");
    let config = head(folder.path(), &broker) + &scale_device(&scale.path, "50ms");
    let _gateway = Gateway::run(folder.path(), &config);
    watcher.wait_for("the fortieth weighing", |message| message.payload.contains("\"weight\":40.5"));
    let mut seen = BTreeSet::new();
    let mut weights = Vec::new();
    for message in watcher.messages() {
        if seen.insert(message.name()) {
            weights.push(message.json()["values"]["weight"].as_f64().unwrap());
        }
    }
    let expected: Vec<f64> =
        (1..=weights.len()).map(|count| f64::from(u32::try_from(count).unwrap()) + 0.5).collect();
    assert_eq!(weights, expected);
}
