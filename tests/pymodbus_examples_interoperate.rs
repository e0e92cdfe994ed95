//! What pymodbus shows its users works with the gateway on every transport: its example server and its simulator are
//! read and written, its example client is served by `fieldgate simulate`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod peers;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use peers::Peer;
use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, Process, Subscriber, fieldgate, head, project, publish, python};

const TRANSPORTS: [&str; 5] = ["tcp", "rtu", "rtu-tcp", "ascii", "ascii-tcp"];

/// A link of that name on that transport, with one device of the same name at address 1.
fn link(name: &str, transport: &str, place: &str, points: &str) -> String {
    let driver = if transport == "ascii-tcp" { "ascii" } else { transport };
    let place = match place.parse::<u16>() {
        Ok(port) => format!("address = \"127.0.0.1:{port}\""),
        Err(_) if place.starts_with('/') => format!("path = \"{place}\"\nbaud_rate = 9600"),
        Err(_) => format!("address = \"{place}\""),
    };
    format!(
        "[links.{name}]\ndriver = \"modbus-{driver}\"\n{place}\ntimeout = \"20s\"\n[devices.{name}]\nlink = \"{name}\"\naddress = 1\npoll_interval = \"500ms\"\n[devices.{name}.points]\n{points}"
    )
}

/// One of pymodbus' servers on every transport, and the gateway that reads them.
struct Scene {
    gateway: Gateway,
    watcher: Subscriber,
    broker: Broker,
    _peers: Vec<Peer>,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn start(which: &str, points: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "fieldgate/g/+/+");
        let peers: Vec<Peer> = TRANSPORTS
            .iter()
            .map(|transport| Peer::start("example_server.py", &[which, transport]))
            .collect();
        let mut config = head(folder.path(), &broker);
        for (transport, peer) in TRANSPORTS.iter().zip(&peers) {
            config += &link(&format!("dev-{transport}"), transport, &peer.place, points);
        }
        let gateway = Gateway::run(folder.path(), &config);
        Self { gateway, watcher, broker, _peers: peers, _folder: folder }
    }

    fn reading(&self, transport: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.watcher.wait_json(&format!("fieldgate/g/dev-{transport}/readings"), what, wanted)
    }

    fn write(&self, transport: &str, id: &str, values: &Value) -> Value {
        let command = json!({"id": id, "action": "write", "values": values});
        let device = format!("fieldgate/g/dev-{transport}");
        publish(&self.broker, &format!("{device}/command"), &command.to_string(), &[]);
        self.watcher.wait_json(&format!("{device}/reply"), "the reply", |json| json["id"] == id)
    }
}

#[test]
fn the_example_server_is_read_and_written() {
    let points = r#"
first = { address = "holding:0", type = "u16" }
level = { address = "holding:4", type = "i16", scale = 0.1, writable = true }
power = { address = "holding:10", type = "f32", order = "CDAB", writable = true }
alarm = { address = "holding:12", type = "bool", bit = 3, writable = true }
rest = { address = "holding:12", type = "u16" }
last = { address = "holding:99", type = "u16" }
input = { address = "input:4", type = "u32" }
pump = { address = "coil:32", type = "bool", writable = true }
door = { address = "discrete:5", type = "bool" }
beyond = { address = "holding:100", type = "u16" }
"#;
    let mut scene = Scene::start("async", points);
    for transport in TRANSPORTS {
        let first = scene.reading(transport, "the first values", |json| json["values"]["last"] == 17);
        let values = json!({
            // Every place of it holds 17: 0x00110011 as a float is very small.
            "first": 17, "level": 1.7, "power": 1.561_227e-39, "alarm": false, "rest": 17, "last": 17,
            "input": 0x0011_0011, "pump": true, "door": true,
        });
        assert_eq!(first["values"], values, "{transport}");
        assert_eq!(first["bad"], json!({"beyond": "exception-2"}), "{transport}");
        let values = json!({"level": -0.3, "power": 12.5, "alarm": true, "pump": false});
        let reply = scene.write(transport, "w", &values);
        assert_eq!((&reply["status"], &reply["values"]), (&json!("succeeded"), &values), "{transport}");
        scene.reading(transport, "what was written", |json| {
            json["values"]["power"] == 12.5
                && json["values"]["level"] == -0.3
                && json["values"]["rest"] == 25
                && json["values"]["pump"] == false
                && json["values"]["first"] == 17
        });
    }
    assert!(scene.gateway.stop().success());
}

/// It refuses whatever cuts one of its values in two or touches what it has not: the gateway finds its way.
#[test]
fn its_simulator_is_read_and_written() {
    let points = r#"
word = { address = "holding:2168", type = "u16" }
one = { address = "holding:2164", type = "u16" }
long = { address = "holding:3188", type = "u32" }
single = { address = "holding:4188", type = "f32" }
next = { address = "holding:4190", type = "f32" }
double = { address = "holding:5092", type = "f64" }
brand = { address = "holding:529", type = "string", length = 32 }
bit0 = { address = "holding:1148", type = "bool", bit = 0 }
bit1 = { address = "holding:1148", type = "bool", bit = 1 }
grows = { address = "holding:3876", type = "u32" }
rolls = { address = "holding:4878", type = "f32" }
mine = { address = "holding:10", type = "u16", writable = true }
fixed = { address = "holding:11", type = "u16", writable = true }
gone = { address = "holding:77", type = "u16" }
"#;
    let mut scene = Scene::start("simulator", points);
    for transport in TRANSPORTS {
        let mut before = 50_000;
        for round in 0..2 {
            let after = before;
            let reading = scene.reading(transport, "values", |json| {
                json["bad"] == json!({"gone": "exception-2"})
                    && json["values"]["grows"].as_u64() > Some(after)
            });
            let values = &reading["values"];
            // In steps of one with each read, and round.
            before = values["grows"].as_u64().unwrap();
            assert!((45_000..=55_000).contains(&before), "{transport}: {values}");
            let rolls = values["rolls"].as_f64().unwrap();
            assert!((45_000.0..=55_000.0).contains(&rolls), "{transport}: {values}");
            for (point, value) in [
                ("word", json!(32117)),
                ("one", json!(1)),
                ("long", json!(32514)),
                ("single", json!(32514.2)),
                ("next", json!(32514.2)),
                ("double", json!(-32514.2)),
                ("brand", json!("Brand name, 32 bytes...........X")),
                ("bit0", json!(true)),
                ("bit1", json!(false)),
                ("mine", json!(0)),
            ] {
                assert_eq!(values[point], value, "{transport} {point} {round}");
            }
        }
        let reply = scene.write(transport, "w-1", &json!({"mine": 4711}));
        assert_eq!(
            (&reply["status"], &reply["values"]["mine"]),
            (&json!("succeeded"), &json!(4711)),
            "{transport}"
        );
        let reply = scene.write(transport, "w-2", &json!({"fixed": 1}));
        assert_eq!(reply["error"]["code"], "exception-2", "{transport}: {reply}");
        scene.reading(transport, "what was written", |json| json["values"]["mine"] == 4711);
    }
    assert!(scene.gateway.stop().success());
}

#[test]
fn the_example_client_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut points = String::new();
    for (area, kind, count, more) in [
        ("coil", "bool", 32, ", writable = true"),
        ("discrete", "bool", 8, ""),
        ("holding", "u16", 12, ", writable = true"),
        ("input", "u16", 10, ""),
    ] {
        for number in 0..count {
            let point =
                format!("{area}-{number} = {{ address = \"{area}:{number}\", type = \"{kind}\"{more} }}");
            writeln!(points, "{point}").unwrap();
        }
    }
    let mut config = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n".to_owned();
    for (number, transport) in (10..).zip(TRANSPORTS) {
        let served = if matches!(transport, "rtu" | "ascii") {
            format!("{}/{transport}", folder.path().display())
        } else {
            format!("192.0.2.{number}")
        };
        config += &link(&format!("dev-{transport}"), transport, &served, &points);
    }
    let file = folder.path().join("fieldgate.toml");
    fs::write(&file, config).unwrap();
    let simulator =
        Process::start("fieldgate simulate", fieldgate().arg("simulate").arg("--config").arg(&file));
    for transport in TRANSPORTS {
        let told = simulator.wait_line(&format!("link dev-{transport}, "), LIMIT);
        let place = told.split_once(", ").unwrap().1.split_once(": device").unwrap().0;
        let mut command = Command::new(python());
        command.arg(project().join("tests/peers/example_client.py")).args([transport, place]);
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{transport}: {complaint}");
        let groups = String::from_utf8(output.stdout).unwrap();
        assert_eq!(groups.lines().count(), 8, "{transport}: {groups}");
    }
}
