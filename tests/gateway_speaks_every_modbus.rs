//! The gateway itself on every Modbus transport at once: readings, writes of values, bits and fields, and writes to
//! every unit of a bus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod peers;
mod support;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use peers::Peer;
use serde_json::{Value, json};
use support::watch::{WEB, Watch};
use support::{Broker, Gateway, LIMIT, ModbusPeer, Subscriber, head, publish};

const TRANSPORTS: [&str; 5] = ["tcp", "rtu", "rtu-tcp", "ascii", "ascii-tcp"];

fn link(transport: &str, place: &str) -> String {
    let driver = format!("modbus-{}", if transport == "ascii-tcp" { "ascii" } else { transport });
    let key = if place.starts_with('/') { "path" } else { "address" };
    let name = transport;
    let mut config = format!(
        r#"
[links.{name}]
driver = "{driver}"
{key} = "{place}"
timeout = "5s"
pause = "1ms"
pause_after_connect = "10ms"
[devices.dev-{name}]
link = "{name}"
address = 1
poll_interval = "200ms"
[devices.dev-{name}.points]
level = {{ address = "holding:40", type = "i16", scale = 0.1, writable = true }}
total = {{ address = "holding:50", type = "u32", order = "CDAB", writable = true }}
pump = {{ address = "holding:41", type = "bool", bit = 3, writable = true }}
mode = {{ address = "holding:41", type = "u16", bits = "8-11", values = {{ 0 = "off", 5 = "auto" }}, writable = true }}
low = {{ address = "holding:42", type = "u8", writable = true }}
rest = {{ address = "holding:41", type = "u16" }}
"#
    );
    if transport == "tcp" {
        return config;
    }
    // The two units of a bus, and both at once.
    write!(
        config,
        r#"
[devices.two-{name}]
link = "{name}"
address = 2
poll_interval = "200ms"
points.level = {{ address = "holding:40", type = "i16", scale = 0.1 }}
[devices.all-{name}]
link = "{name}"
address = 0
points.level = {{ address = "holding:40", type = "i16", scale = 0.1, writable = true, max = 90 }}
"#
    )
    .unwrap();
    config
}

struct Scene {
    broker: Broker,
    watcher: Subscriber,
}

impl Scene {
    fn ask(&self, device: &str, id: &str, action: &str, values: &Value) -> Value {
        let mut command = json!({"id": id, "action": action});
        if values.is_object() {
            command["values"] = values.clone();
        }
        publish(&self.broker, &format!("fieldgate/g/{device}/command"), &command.to_string(), &[]);
        let topic = format!("fieldgate/g/{device}/reply");
        self.watcher.wait_json(&topic, &format!("the reply to {id} of {device}"), |json| json["id"] == id)
    }

    fn reading(&self, device: &str, what: &str, wanted: impl Fn(&Value) -> bool) {
        let topic = format!("fieldgate/g/{device}/readings");
        self.watcher.wait_json(&topic, &format!("{what} of {device}"), |json| wanted(&json["values"]));
    }
}

#[test]
fn every_transport_reads_writes_and_shouts() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let units = json!({
        "1": {"holding": {"40": [475, 0xA5A5, 0xA500], "50": [1, 2]}},
        "2": {"holding": {"40": [475]}},
    });
    let peers: Vec<_> = TRANSPORTS.iter().map(|transport| ModbusPeer::on(transport, &units)).collect();
    let watcher = Subscriber::start(&broker, "#");
    let mut config = head(folder.path(), &broker);
    for (transport, peer) in TRANSPORTS.iter().zip(&peers) {
        config += &link(transport, &peer.address);
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    let scene = Scene { broker, watcher };
    for (transport, peer) in TRANSPORTS.iter().zip(&peers) {
        let device = format!("dev-{transport}");
        scene.reading(&device, "the first values", |values| {
            *values == json!({"level": 47.5, "total": 0x0002_0001, "pump": false, "mode": "auto", "low": 0, "rest": 0xA5A5})
        });
        let values =
            json!({"level": -1.5, "total": 4_000_000_000_u32, "pump": true, "mode": "off", "low": 255});
        let reply = scene.ask(&device, "w-1", "write", &values);
        assert_eq!(reply["status"], "succeeded", "{transport} {reply}");
        assert_eq!(reply["values"], values, "{transport}");
        assert!(reply.get("verified").is_none(), "{transport} {reply}");
        scene.reading(&device, "what was written", |values| {
            values["pump"] == true && values["rest"] == 0xA0AD
        });
        // 4,000,000,000 is 0xEE6B2800; -15 is 0xFFF1.
        let written = peer.writes();
        let expected = [
            "1 holding 40 [65521]",
            "1 holding 50 [10240, 61035]",
            "1 holding 41 [42413]",
            "1 holding 41 [41133]",
            "1 holding 42 [42495]",
        ];
        assert_eq!(written, expected, "{transport}");
    }
    for (transport, peer) in TRANSPORTS.iter().zip(&peers).skip(1) {
        let all = format!("all-{transport}");
        let reply = scene.ask(&all, "b-1", "write", &json!({"level": 81.5}));
        assert_eq!(reply["status"], "succeeded", "{transport} {reply}");
        assert_eq!(reply["verified"], false, "{transport} {reply}");
        assert_eq!(reply["values"], json!({"level": 81.5}), "{transport} {reply}");
        for device in [format!("dev-{transport}"), format!("two-{transport}")] {
            scene.reading(&device, "the broadcast value", |values| values["level"] == 81.5);
        }
        let mut shouted: Vec<String> = peer.writes().split_off(5);
        shouted.sort();
        assert_eq!(shouted, ["1 holding 40 [815]", "2 holding 40 [815]"], "{transport}");
        for action in ["read", "poll"] {
            let reply = scene.ask(&all, action, action, &Value::Null);
            assert_eq!(
                (&reply["status"], &reply["error"]["code"]),
                (&json!("rejected"), &json!("unknown-action"))
            );
        }
        let reply = scene.ask(&all, "b-2", "write", &json!({"level": 91}));
        assert_eq!(reply["error"]["code"], "out-of-range", "{transport} {reply}");
        let of_all = scene.watcher.messages();
        let prefix = format!("fieldgate/g/{all}/");
        let topics: Vec<_> =
            of_all.iter().filter_map(|message| message.topic.strip_prefix(&prefix)).collect();
        assert!(!topics.contains(&"readings") && !topics.contains(&"status"), "nobody was heard: {topics:?}");
    }
    assert!(gateway.stop().success(), "within {LIMIT:?}");
}

/// Another unit than those of pymodbus: it obeys, is silent, and nothing of it disturbs its own polls.
#[test]
fn libmodbus_hears_a_broadcast() {
    let mut peer = Peer::start("libmodbus_device.py", &["rtu"]);
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/+/+");
    let mut config = head(folder.path(), &broker);
    write!(config, "[links.line]\ndriver = \"modbus-rtu\"\npath = \"{}\"\ntimeout = \"20s\"\n", peer.place)
        .unwrap();
    for (device, unit) in [("one", 1), ("all", 0)] {
        write!(config, "[devices.{device}]\nlink = \"line\"\naddress = {unit}\npoll_interval = \"100ms\"\n[devices.{device}.points]\n").unwrap();
        for (point, address, kind) in [("level", 40, "i16"), ("total", 50, "u32")] {
            writeln!(config, "{point} = {{ address = \"holding:{address}\", type = \"{kind}\", order = \"CDAB\", writable = true }}").unwrap();
        }
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/one/readings", "the first values", |json| json["values"]["level"] == 0);
    for round in 1..4 {
        let id = format!("b-{round}");
        let command = format!(
            r#"{{"id":"{id}","action":"write","values":{{"level":-{round},"total":{}}}}}"#,
            0x0001_0000 + round
        );
        publish(&broker, "fieldgate/g/all/command", &command, &[]);
        let reply = watcher.wait_json("fieldgate/g/all/reply", "the reply", |json| json["id"] == *id);
        assert_eq!((&reply["status"], &reply["verified"]), (&"succeeded".into(), &false.into()), "{reply}");
        watcher.wait_json("fieldgate/g/one/readings", "what all were told", |json| {
            json["values"]["level"] == -round && json["values"]["total"] == 0x0001_0000 + round
        });
        assert_eq!(peer.tell("words 1 50 2"), format!("{round} 1"));
    }
    let seen = peer.tell("seen");
    let writes: Vec<_> = seen.split(' ').filter(|seen| *seen != "1:3").collect();
    assert_eq!(writes, ["0:6", "0:16"].repeat(3), "to all, and each once");
    let readings = watcher.messages();
    let bad: Vec<_> = readings.iter().filter(|message| message.payload.contains("\"bad\"")).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(gateway.stop().success());
}

/// From now on whoever connects to `place` talks to `target`.
fn forward(place: SocketAddr, target: String) {
    let listener = TcpListener::bind(place).unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&target) else { continue };
            let (mut from, mut to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to).ok());
            let (mut from, mut to) = (near, far);
            thread::spawn(move || io::copy(&mut from, &mut to).ok());
        }
    });
}

#[test]
fn a_backup_takes_over_and_its_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let [main, spare] = [1, 2].map(|number| ModbusPeer::tcp(&json!({"1": {"holding": {"0": [number]}}})));
    // Not the address that all other tests listen at, so that nobody takes the port meanwhile.
    let first = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap().local_addr().unwrap();
    let watcher = Subscriber::start(&broker, "fieldgate/g/plc/readings");
    let config = head(folder.path(), &broker).replace("[web]\nlisten = \"off\"\n", WEB)
        + &format!(
            r#"
[links.plc]
driver = "modbus-tcp"
address = "{first}"
backup = "{}"
timeout = "5s"
[devices.plc]
link = "plc"
address = 1
poll_interval = "100ms"
points.number = {{ address = "holding:0", type = "u16" }}
"#,
            spare.address
        );
    let mut gateway = Gateway::run(folder.path(), &config);
    let watch = Watch::of(gateway.process());
    let reading = |what: &str, number: u32| {
        watcher.wait_json("fieldgate/g/plc/readings", what, |json| json["values"]["number"] == number);
    };
    let backup = |what: &str, wanted: Value| {
        watch.wait_at("/api/status", what, |answer| {
            let status: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            Some(()).filter(|()| status["links"]["plc"]["backup"] == wanted)
        });
    };
    reading("a value of the backup", 2);
    backup("the backup in use", json!(spare.address));
    gateway.process().wait_line("connected to the backup", LIMIT);
    forward(first, main.address.clone());
    drop(spare);
    reading("a value of the first", 1);
    backup("no backup in use", Value::Null);
    gateway.process().wait_line("connected to the first address again", LIMIT);
    drop(main);
}
