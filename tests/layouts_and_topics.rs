//! Messages lie where the configuration puts them: layouts, topic templates, retained readings, a will of one's own,
//! and commands shared among gateways.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Broker, Gateway, LIMIT, Message, ModbusPeer, Records, Subscriber, boiler_device, boiler_units, canary,
    head, publish, uplink_status,
};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"200ms\"\n[devices.small.points]\n\
    count = { address = \"counter\", type = \"u32\" }\nflaky = { address = \"fault\", type = \"u32\" }\n\
    level = { address = \"memory\", type = \"u16\", writable = true }\n";

fn run(folder: &Path, broker: &Broker, more: &str) -> Gateway {
    Gateway::run(folder, &format!("{}{more}{DEVICE}", head(folder, broker)))
}

/// The topics of all messages that hold a value.
fn topics_of_readings(messages: &[Message]) -> BTreeSet<String> {
    let holds = |message: &&Message| {
        let json = message.json();
        json["seq"].is_u64() && json["event"].is_null() && json["id"].is_null()
    };
    messages.iter().filter(holds).map(|message| message.topic.clone()).collect()
}

#[test]
fn layout_point_is_a_message_for_each_reading() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let mut gateway = run(folder.path(), &broker, "layout = \"point\"\n");
    let of = |point: &str| format!("fieldgate/g/small/readings/{point}");
    let reading = watcher.wait_json(&of("count"), "a reading", |json| json["value"] == 3);
    assert_eq!((&reading["device"], &reading["point"]), (&json!("small"), &json!("count")), "{reading}");
    assert!(reading["values"].is_null() && reading["ts"].is_string(), "{reading}");
    // A bad reading is a message too, and says why in place of a value.
    let bad = watcher.wait_json(&of("flaky"), "a bad reading", |json| json["bad"].is_string());
    assert_eq!((&bad["bad"], &bad["value"]), (&json!("malformed"), &Value::Null), "{bad}");
    // A command is answered as in the other layout.
    let command = r#"{"id":"r-1","action":"read","points":["count"]}"#;
    publish(&broker, "fieldgate/g/small/command", command, &[]);
    let reply = watcher.wait_json("fieldgate/g/small/reply", "the reply", |json| json["id"] == "r-1");
    assert!(reply["values"]["count"].is_u64(), "{reply}");
    assert!(gateway.stop().success());
    let messages = watcher.messages();
    assert_eq!(topics_of_readings(&messages), ["count", "flaky", "level"].map(of).into());
    // Each has its number, and no number is missing.
    let records = Records::of(&messages);
    let runs = records.runs();
    assert_eq!(records.holes(runs[0]), [0_u64; 0]);
}

#[test]
fn topics_follow_their_template() {
    for (more, expected) in [
        ("prefix = \"site/{gateway}\"\n", vec!["site/g/small/readings"]),
        ("topic = \"{gateway}/{link}/{device}\"\n", vec!["g/sim/small"]),
        ("topic = \"{prefix}/data/{device}\"\nprefix = \"p\"\n", vec!["p/data/small"]),
        (
            "topic = \"v1/{device}\"\nlayout = \"point\"\n",
            vec!["v1/small/count", "v1/small/flaky", "v1/small/level"],
        ),
        (
            "topic = \"v1/{point}/of/{device}\"\nlayout = \"point\"\n",
            vec!["v1/count/of/small", "v1/flaky/of/small", "v1/level/of/small"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "#");
        let mut gateway = run(folder.path(), &broker, more);
        let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
        watcher
            .wait(more, LIMIT, |messages| topics_of_readings(messages).is_superset(&expected).then_some(()));
        assert!(gateway.stop().success());
        assert_eq!(topics_of_readings(&watcher.messages()), expected, "{more}");
    }
}

#[test]
fn topics_that_a_cloud_service_wants_are_published_on() {
    let events = "devices/g/messages/events/";
    let basic = |point: &str| format!("$aws/rules/plant/small{point}");
    for (more, expected) in [
        ("topic = \"devices/{gateway}/messages/events/\"\n", vec![events.to_owned()]),
        (
            "topic = \"devices/{gateway}/messages/events/\"\nlayout = \"point\"\n",
            ["count", "flaky", "level"].map(|point| format!("{events}{point}")).into(),
        ),
        ("topic = \"$aws/rules/plant/{device}\"\n", vec![basic("")]),
        (
            "topic = \"$aws/rules/plant/{device}\"\nlayout = \"point\"\n",
            ["/count", "/flaky", "/level"].map(basic).into(),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        // A `#` alone leaves out what begins with `$` (MQTT 5.0, 4.7.2).
        let watcher = Subscriber::with(&broker, "#", &["-V", "5", "-q", "1", "-t", "$aws/#"]);
        let mut gateway = run(folder.path(), &broker, more);
        let expected: BTreeSet<String> = expected.into_iter().collect();
        watcher
            .wait(more, LIMIT, |messages| topics_of_readings(messages).is_superset(&expected).then_some(()));
        assert!(gateway.stop().success());
        assert_eq!(topics_of_readings(&watcher.messages()), expected, "{more}");
    }
}

#[test]
fn readings_are_retained_when_asked() {
    for (more, retained) in [("retain_readings = true\n", true), ("", false)] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "fieldgate/#");
        let mut gateway = run(folder.path(), &broker, more);
        let count = |json: &Value| json["values"]["count"].as_u64() >= Some(5);
        watcher.wait_json("fieldgate/g/small/readings", "readings", count);
        assert!(gateway.stop().success());
        // Who comes late gets the last one, or none.
        let late = Subscriber::start(&broker, "fieldgate/g/#");
        late.wait_for("the status", |message| message.topic == "fieldgate/g/status" && message.retained);
        late.wait_for("the info", |message| message.topic == "fieldgate/g/small/info" && message.retained);
        let is_reading = |message: &Message| message.topic.ends_with("/readings");
        if retained {
            let reading = late.wait_for("the last reading", is_reading);
            let newest = watcher.messages().into_iter().rfind(|message| message.topic.ends_with("/readings"));
            assert_eq!(reading.payload, newest.unwrap().payload);
        } else {
            assert!(!late.messages().iter().any(is_reading));
        }
    }
}

#[test]
fn a_will_of_ones_own_takes_the_place_of_the_built_in_one() {
    const DELAY: Duration = Duration::from_secs(4);
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "#");
    let will = "[mqtt.will]\ntopic = \"alarm/{gateway}\"\npayload = \"gone: {}\"\nqos = 2\nretain = true\ndelay = \"4s\"\n";
    let mut gateway = run(folder.path(), &broker, will);
    watcher.wait_json("fieldgate/g/status", "online", |json| json["state"] == "online");
    watcher.wait_for("readings", |message| message.topic.ends_with("/readings"));
    let killed = Instant::now();
    // Back before the delay is over: nothing was ever wrong.
    let mut again = {
        gateway.kill();
        gateway.run_again()
    };
    watcher.wait("the second start", LIMIT, |messages| {
        let online = messages.iter().filter(|message| message.topic == "fieldgate/g/status");
        (online.count() > 1).then_some(())
    });
    let is_prompt = killed.elapsed() < DELAY;
    assert!(!is_prompt || !watcher.messages().iter().any(|message| message.topic == "alarm/g"));
    let seen = watcher.messages().len();
    again.kill();
    let killed = Instant::now();
    let said = watcher.wait("the will", LIMIT, |messages| {
        messages[seen..].iter().find(|message| message.topic == "alarm/g").cloned()
    });
    // mosquitto looks at it once a second.
    assert!(killed.elapsed() + Duration::from_secs(1) >= DELAY, "{:?}", killed.elapsed());
    assert_eq!(said.payload, "gone: {}");
    let kept =
        Subscriber::start(&broker, "alarm/g").wait_for("the will, retained", |message| message.retained);
    assert_eq!(kept.payload, said.payload);
    // The built-in one did not go out, and `check` says what that means.
    let status =
        Subscriber::start(&broker, "fieldgate/g/status").wait_for("the status", |message| message.retained);
    assert_eq!(status.json()["state"], "online", "{status:?}");
    let output = canary::output(&mut again.command("check"));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("mqtt.will"), "{told}");
}

#[test]
fn an_orderly_stop_publishes_no_will() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "#");
    let mut gateway =
        run(folder.path(), &broker, "[mqtt.will]\ntopic = \"alarm/g\"\npayload = \"gone\"\nqos = 1\n");
    watcher.wait_for("readings", |message| message.topic.ends_with("/readings"));
    assert!(gateway.stop().success());
    watcher.wait_json("fieldgate/g/status", "offline", |json| json["reason"] == "stopped");
    // The broker has handled DISCONNECT when it says so in its log.
    broker.process().wait_line("Client fieldgate-g disconnected.", LIMIT);
    publish(&broker, "alarm/end", "now", &[]);
    watcher.wait_for("the end", |message| message.topic == "alarm/end");
    assert!(!watcher.messages().iter().any(|message| message.topic == "alarm/g"));
}

#[test]
fn a_shared_command_runs_on_one_gateway() {
    const COMMANDS: usize = 24;
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "plant/#");
    let mut all = Vec::new();
    for id in ["a", "b"] {
        let folder = tempfile::tempdir().unwrap();
        let boiler = ModbusPeer::tcp(&boiler_units());
        let mut config = head(folder.path(), &broker).replace("id = \"g\"", &format!("id = \"{id}\""));
        config += "prefix = \"plant\"\nshared_subscription = \"crew\"\n";
        config += &boiler_device(&boiler.address, "1s");
        let gateway = Gateway::run(folder.path(), &config);
        watcher.wait("online", LIMIT, |messages| {
            let online =
                messages.iter().filter(|m| m.topic == "plant/status" && m.json()["state"] == "online");
            (online.count() > all.len()).then_some(())
        });
        all.push((gateway, boiler, folder));
    }
    for number in 0..COMMANDS {
        let command = json!({"id": format!("w-{number}"), "action": "write", "values": {"total": number}});
        // Of what the group shares nobody knows how old it is: only what says its own time is written.
        let expires = ["-V", "5", "-D", "publish", "message-expiry-interval", "60"];
        publish(&broker, "plant/boiler/command", &command.to_string(), &expires);
    }
    let replies = |messages: &[Message]| -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for message in messages.iter().filter(|message| message.topic == "plant/boiler/reply") {
            let json = message.json();
            assert_eq!(json["status"], "succeeded", "{json}");
            *count.entry(json["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        count
    };
    watcher.wait("every reply", LIMIT, |messages| (replies(messages).len() == COMMANDS).then_some(()));
    for (gateway, _, _) in &mut all {
        assert!(gateway.stop().success());
    }
    assert!(replies(&watcher.messages()).values().all(|count| *count == 1), "one reply each");
    let writes: Vec<usize> = all.iter().map(|(_, boiler, _)| boiler.writes().len()).collect();
    assert_eq!(writes.iter().sum::<usize>(), COMMANDS, "{writes:?}");
    assert!(writes.iter().all(|count| *count > 0), "both take their share: {writes:?}");
}

#[test]
fn commands_of_every_quality_and_form_arrive_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let mut gateway = run(folder.path(), &broker, "");
    watcher.wait_for("readings", |message| message.topic.ends_with("/readings"));
    for (index, (qos, version)) in [("0", "5"), ("1", "311"), ("2", "5"), ("2", "31")].into_iter().enumerate()
    {
        let version = if version == "5" { "5".to_owned() } else { format!("mqttv{version}") };
        let command = format!(r#"{{"id":"q-{index}","action":"read","points":["count"]}}"#);
        let mut client = Command::new(support::program("mosquitto_pub"));
        client.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-q", qos, "-V", &version]);
        assert!(client.args(["-t", "fieldgate/g/small/command", "-m", &command]).status().unwrap().success());
        let id = format!("q-{index}");
        let reply = watcher.wait_json("fieldgate/g/small/reply", "the reply", |json| json["id"] == *id);
        assert_eq!(reply["status"], "succeeded", "{reply}");
    }
    assert_eq!(uplink_status(&broker, &watcher, "g")["commands"], "subscribed");
    assert!(gateway.stop().success());
    let replies =
        watcher.messages().iter().filter(|message| message.topic == "fieldgate/g/small/reply").count();
    assert_eq!(replies, 4);
}
