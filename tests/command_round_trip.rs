//! A command gets exactly one reply that says what became of it, by both versions of MQTT; what may not run never
//! reaches the device.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, ModbusPeer, Subscriber, boiler_device, boiler_units, head, publish};
use tempfile::TempDir;

const COMMAND: &str = "fieldgate/g/boiler/command";
const REPLY: &str = "fieldgate/g/boiler/reply";

/// A boiler, a gateway that has read it, and somebody in the cloud.
struct Scene {
    broker: Broker,
    boiler: ModbusPeer,
    watcher: Subscriber,
    gateway: Gateway,
    _folder: TempDir,
}

impl Scene {
    fn start(version: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let boiler = ModbusPeer::tcp(&boiler_units());
        let watcher = Subscriber::start(&broker, "#");
        let config = head(folder.path(), &broker)
            + &format!("version = \"{version}\"\n{more}")
            + &boiler_device(&boiler.address, "200ms");
        let gateway = Gateway::run(folder.path(), &config);
        watcher.wait_json("fieldgate/g/boiler/readings", "a reading", |json| {
            json["values"]["setpoint"].is_number()
        });
        Self { broker, boiler, watcher, gateway, _folder: folder }
    }

    fn send(&self, command: &Value) {
        publish(&self.broker, COMMAND, &command.to_string(), &[]);
    }

    fn reply(&self, id: &str) -> Value {
        self.watcher.wait_json(REPLY, &format!("the reply to {id}"), |json| json["id"] == id)
    }

    fn ask(&self, command: &Value) -> Value {
        self.send(command);
        self.reply(command["id"].as_str().unwrap())
    }

    fn reading(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.watcher.wait_json("fieldgate/g/boiler/readings", what, |json| wanted(&json["values"]))
    }

    fn refused(&self, id: &str, status: &str, code: &str) {
        let reply = self.reply(id);
        assert_eq!(reply["status"], status, "{reply}");
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty(), "{reply}");
    }
}

fn write_read_and_poll(version: &str) {
    let scene = Scene::start(version, "");
    let reply = scene.ask(&json!({"id": "w-1", "action": "write", "values": {"setpoint": 55.1}}));
    assert_eq!(reply["status"], "succeeded", "{reply}");
    assert_eq!(reply["values"], json!({"setpoint": 55.1}), "{reply}");
    assert_eq!(reply["device"], "boiler", "{reply}");
    assert_eq!(reply["action"], "write", "{reply}");
    assert!(reply["run"].is_u64() && reply["seq"].is_u64() && reply["ts"].is_string(), "{reply}");
    scene.reading("the new set point", |values| values["setpoint"] == 55.1);

    let several =
        json!({"id": "w-2", "action": "write", "values": {"pump": true, "total": 3_000_000_000_u32}});
    let reply = scene.ask(&several);
    assert_eq!(reply["values"], several["values"], "{reply}");
    scene.reading("the pump and the total", |values| {
        values["pump"] == true && values["total"] == 3_000_000_000_u32
    });
    let mut writes = scene.boiler.writes();
    writes.sort();
    // 3,000,000,000 is 0xb2d05e00.
    assert_eq!(writes, ["1 coil 4 [1]", "1 holding 40 [551]", "1 holding 50 [45776, 24064]"]);

    let reply = scene.ask(&json!({"id": "r-1", "action": "read", "points": ["fixed", "setpoint"]}));
    assert_eq!(reply["status"], "succeeded", "{reply}");
    assert_eq!(reply["values"], json!({"fixed": 7, "setpoint": 55.1}), "{reply}");

    let reply = scene.ask(&json!({"id": "p-1", "action": "poll"}));
    assert_eq!(reply["status"], "succeeded", "{reply}");
    let command = r#"{"id":"e-1","action":"write","values":{"gone":1}}"#;
    publish(&scene.broker, "fieldgate/g/chimney/command", command, &[]);
    let reply =
        scene.watcher.wait_json("fieldgate/g/chimney/reply", "the refusal", |json| json["id"] == "e-1");
    assert_eq!(reply["status"], "failed", "{reply}");
    assert_eq!(reply["error"]["code"], "exception-2", "{reply}");

    publish(&scene.broker, "fieldgate/g/command", r#"{"id":"s-1","action":"status"}"#, &[]);
    let reply = scene.watcher.wait_json("fieldgate/g/reply", "the status", |json| json["id"] == "s-1");
    assert_eq!(reply["status"], "succeeded", "{reply}");
}

#[test]
fn write_read_and_poll_by_mqtt_5() {
    write_read_and_poll("5");
}

#[test]
fn write_read_and_poll_by_mqtt_3_1_1() {
    write_read_and_poll("3.1.1");
}

#[test]
fn the_reply_goes_where_the_sender_wants_it() {
    let scene = Scene::start("5", "");
    let v5 = |topic: &str, id: &str| {
        let command = json!({"id": id, "action": "read", "points": ["fixed"]}).to_string();
        let property = ["-D", "publish", "response-topic", topic];
        let correlation = ["-V", "5", "-D", "publish", "correlation-data", "order-17"];
        publish(&scene.broker, COMMAND, &command, &[&correlation[..], &property[..]].concat());
    };
    v5("cloud/answers/me", "v-1");
    let reply = scene.watcher.wait_for("the reply", |message| message.topic == "cloud/answers/me");
    assert_eq!(reply.json()["id"], "v-1");
    assert_eq!(reply.json()["status"], "succeeded");
    assert_eq!(reply.properties["correlation-data"], "order-17");
    // A response topic that would be a command is not used; the reply still comes, with its correlation.
    v5("fieldgate/g/boiler/command", "v-2");
    let reply = scene.watcher.wait_for("the reply at the usual place", |message| {
        message.topic == REPLY && message.json()["id"] == "v-2"
    });
    assert_eq!(reply.properties["correlation-data"], "order-17");
}

#[test]
fn what_may_not_run_is_rejected_and_never_written() {
    let scene = Scene::start("5", "");
    let value = |id: &str, values: Value| json!({"id": id, "action": "write", "values": values});
    scene.send(&value("unknown-point", json!({"setpoint": 50, "nothing": 1})));
    scene.send(&value("not-writable", json!({"setpoint": 50, "fixed": 1})));
    scene.send(&value("wrong-type", json!({"setpoint": "warm"})));
    scene.send(&value("wrong-type-2", json!({"pump": 3})));
    scene.send(&value("out-of-range", json!({"pump": true, "setpoint": 99})));
    scene.send(&value("out-of-range-2", json!({"total": -1})));
    scene.send(&json!({"id": "unknown-action", "action": "explode"}));
    scene.send(&json!({"id": "expired", "action": "write", "values": {"setpoint": 50}, "expires_at": "2020-01-01T00:00:00Z"}));
    scene.refused("unknown-point", "rejected", "unknown-point");
    scene.refused("not-writable", "rejected", "not-writable");
    scene.refused("wrong-type", "rejected", "wrong-type");
    scene.refused("wrong-type-2", "rejected", "wrong-type");
    scene.refused("out-of-range", "rejected", "out-of-range");
    scene.refused("out-of-range-2", "rejected", "out-of-range");
    scene.refused("unknown-action", "rejected", "unknown-action");
    let expired = scene.reply("expired");
    assert_eq!(expired["status"], "expired", "{expired}");
    assert_eq!(expired["error"]["code"], "expired", "{expired}");

    let retained = value("retained", json!({"setpoint": 50})).to_string();
    publish(&scene.broker, COMMAND, &retained, &["-r"]);
    scene.refused("retained", "rejected", "retained");
    let nobody = value("unknown-device", json!({"setpoint": 50})).to_string();
    publish(&scene.broker, "fieldgate/g/nobody/command", &nobody, &[]);
    let reply = scene
        .watcher
        .wait_json("fieldgate/g/nobody/reply", "unknown-device", |json| json["id"] == "unknown-device");
    assert_eq!(reply["error"]["code"], "unknown-device", "{reply}");
    assert_eq!(scene.boiler.writes(), Vec::<String>::new());
}

#[test]
fn what_is_no_command_gets_a_reply_without_id() {
    let scene = Scene::start("3.1.1", "");
    let deep = format!(r#"{{"id":"deep","action":"write","values":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let long = format!(r#"{{"id":"{}","action":"poll"}}"#, "x".repeat(65));
    let large = format!(r#"{{"id":"large","action":"poll","points":["{}"]}}"#, "x".repeat(70_000));
    let twice = r#"{"id":"twice","action":"poll","action":"write"}"#;
    for (text, code) in [
        ("not json", "bad-json"),
        ("", "bad-json"),
        (r#"{"action":"poll"}"#, "bad-json"),
        (twice, "bad-json"),
        (&deep, "bad-json"),
        (&long, "bad-json"),
        (&large, "too-large"),
    ] {
        let before = scene.watcher.messages().len();
        publish(&scene.broker, COMMAND, text, &[]);
        let reply = scene.watcher.wait(code, LIMIT, |messages| {
            let reply = messages[before..].iter().find(|message| message.topic == REPLY)?;
            Some(reply.json())
        });
        let shown: String = text.chars().take(60).collect();
        assert_eq!(reply["status"], "rejected", "{shown}: {reply}");
        assert_eq!(reply["error"]["code"], code, "{shown}: {reply}");
        assert!(reply.get("id").is_none(), "{shown}: {reply}");
    }
    // None of it did any harm.
    let reply = scene.ask(&json!({"id": "after", "action": "read", "points": ["fixed"]}));
    assert_eq!(reply["status"], "succeeded", "{reply}");
}

#[test]
fn a_write_that_waited_in_the_broker_is_stale() {
    let mut scene = Scene::start("5", "");
    // Gone without a word: the session stays in the broker, and keeps what is sent meanwhile.
    scene.gateway.kill();
    scene.watcher.wait_json("fieldgate/g/status", "the last will", |json| json["state"] == "offline");
    let until = "2999-01-01T00:00:00Z";
    scene.send(&json!({"id": "old", "action": "write", "values": {"setpoint": 50}}));
    scene.send(&json!({"id": "old-read", "action": "read", "points": ["fixed"]}));
    scene.send(
        &json!({"id": "old-but-dated", "action": "write", "values": {"setpoint": 60}, "expires_at": until}),
    );
    let scene = Scene { gateway: scene.gateway.run_again(), ..scene };
    scene.refused("old", "rejected", "stale");
    assert_eq!(scene.reply("old-read")["status"], "succeeded");
    assert_eq!(scene.reply("old-but-dated")["status"], "succeeded");
    // Once its own mark has come back, a write runs again as before.
    scene.watcher.wait_for("the mark", |message| message.topic == "fieldgate/g/marker");
    let reply = scene.ask(&json!({"id": "new", "action": "write", "values": {"setpoint": 70}}));
    assert_eq!(reply["status"], "succeeded", "{reply}");
    assert_eq!(scene.boiler.writes(), ["1 holding 40 [600]", "1 holding 40 [700]"]);
}

#[test]
fn a_write_to_a_dead_device_fails_within_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    // Nobody answers as unit 1 on this line.
    let line = ModbusPeer::tcp(&json!({"9": {"counter": 0}}));
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let device = boiler_device(&line.address, "1s").replace("timeout = \"5s\"", "timeout = \"300ms\"");
    let config = head(folder.path(), &broker) + "[commands]\ntimeout = \"5s\"\n" + &device;
    let _gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/boiler/status", "offline", |json| json["state"] == "offline");
    publish(&broker, COMMAND, r#"{"id":"d-1","action":"write","values":{"setpoint":50}}"#, &[]);
    let reply = watcher.wait_json(REPLY, "the reply", |json| json["id"] == "d-1");
    assert_eq!(reply["status"], "failed", "{reply}");
    let code = reply["error"]["code"].as_str().unwrap();
    assert!(["timeout", "offline"].contains(&code), "{reply}");
}
