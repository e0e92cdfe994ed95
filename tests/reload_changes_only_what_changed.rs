//! A configuration is taken over while the gateway runs: whole or not at all, and what is the same goes on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, Subscriber, head, publish};
use tempfile::TempDir;

/// A link with one device of the same name that counts its polls.
fn counting(name: &str, more: &str) -> String {
    format!(
        "[links.{name}]\ndriver = \"simulator\"\n{more}[devices.{name}]\nlink = \"{name}\"\npoll_interval = \"100ms\"\n\
         points.count = {{ address = \"counter\", type = \"u32\" }}\n"
    )
}

struct Scene {
    broker: Broker,
    watcher: Subscriber,
    gateway: Gateway,
    head: String,
    folder: TempDir,
}

impl Scene {
    /// A gateway with these lines behind its `[mqtt]`.
    fn start(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "#");
        let head = head(folder.path(), &broker);
        let gateway = Gateway::run(folder.path(), &(head.clone() + lines));
        let scene = Self { broker, watcher, gateway, head, folder };
        scene.online(1);
        scene
    }

    /// The gateway has said online so often.
    fn online(&self, times: usize) {
        self.watcher.wait("online", LIMIT, |messages| {
            let said = messages.iter().filter(|message| message.topic == "fieldgate/g/status");
            (said.filter(|message| message.json()["state"] == "online").count() >= times).then_some(())
        });
    }

    fn write(&self, config: &str) {
        fs::write(self.folder.path().join("fieldgate.toml"), config).unwrap();
    }

    /// Hands over other lines; the log says this of it.
    fn reload(&mut self, lines: &str, outcome: &str) -> String {
        self.write(&(self.head.clone() + lines));
        self.hang_up(outcome)
    }

    fn hang_up(&mut self, outcome: &str) -> String {
        let before = self.gateway.process().lines().len();
        self.gateway.process().signal(Signal::HUP);
        self.gateway
            .process()
            .wait(outcome, LIMIT, |lines| lines[before..].iter().find(|line| line.contains(outcome)).cloned())
    }

    /// The counts of a device, in the order of their making.
    fn counts(&self, device: &str) -> Vec<u64> {
        let topic = format!("fieldgate/g/{device}/readings");
        let messages = self.watcher.messages();
        let of = messages.iter().filter(|message| message.topic == topic);
        let numbered = of.filter_map(|message| {
            let json = message.json();
            Some((message.name()?, json["values"]["count"].as_u64()?))
        });
        // After a reconnect live readings come before those that waited, and some may come twice.
        numbered.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Waits until a device has been read so often more.
    fn more(&self, device: &str) {
        let before = self.counts(device).len();
        self.watcher.wait(&format!("more of {device}"), LIMIT, |messages| {
            let topic = format!("fieldgate/g/{device}/readings");
            let came = messages.iter().filter(|message| message.topic == topic).count();
            (came >= before + 3).then_some(())
        });
    }

    fn command(&self, body: &Value) -> Value {
        publish(&self.broker, "fieldgate/g/command", &body.to_string(), &[]);
        self.watcher.wait_json("fieldgate/g/reply", "a reply", |json| json["id"] == body["id"])
    }
}

/// The polls of a link that went on count on; those of one that was begun anew start again.
fn begins_again(counts: &[u64]) -> bool {
    counts.windows(2).any(|pair| pair[1] < pair[0])
}

#[test]
fn a_link_that_is_the_same_goes_on_and_others_begin_end_or_change() {
    let mut scene = Scene::start(&(counting("same", "") + &counting("other", "") + &counting("old", "")));
    for device in ["same", "other", "old"] {
        scene.more(device);
    }
    let lines = counting("same", "") + &counting("other", "label = \"x\"\n") + &counting("new", "");
    let said = scene.reload(&lines, "the configuration is in force");
    for (name, is_told) in
        [("links.same", false), ("links.other", true), ("links.old", true), ("links.new", true)]
    {
        assert_eq!(said.contains(name), is_told, "{name}: {said}");
    }
    for device in ["same", "other", "new"] {
        scene.more(device);
    }
    assert!(!begins_again(&scene.counts("same")), "{:?}", scene.counts("same"));
    assert!(begins_again(&scene.counts("other")), "{:?}", scene.counts("other"));
    // What was retained of the old one is taken back.
    for aspect in ["info", "status"] {
        let topic = format!("fieldgate/g/old/{aspect}");
        scene
            .watcher
            .wait_for("it is taken back", |message| message.topic == topic && message.payload.is_empty());
    }
    scene.watcher.wait_json("fieldgate/g/new/info", "the new device", |json| json["link"] == "new");
    let late = Subscriber::start(&scene.broker, "fieldgate/g/+/info");
    late.wait("what is retained", LIMIT, |messages| (messages.len() >= 3).then_some(()));
    assert!(late.messages().iter().all(|message| !message.topic.contains("/old/")), "{:?}", late.messages());
    // Nobody was told that the gateway had gone meanwhile.
    let states = scene.watcher.messages();
    let states = states.iter().filter(|message| message.topic == "fieldgate/g/status");
    assert!(states.clone().all(|message| message.json()["state"] == "online"), "{states:?}");
    assert_eq!(scene.reload(&lines, "the configuration is in force").matches("links.").count(), 0);
    scene.more("same");
    assert!(!begins_again(&scene.counts("same")));
}

#[test]
fn a_faulty_configuration_changes_nothing() {
    let mut scene = Scene::start(&counting("same", ""));
    scene.more("same");
    // The first link is new and good, the second is not.
    let faulty = counting("new", "") + &counting("same", "baud_rat = 1\n");
    let said = scene.reload(&faulty, "baud_rat");
    assert!(said.contains("is not a known key"), "{said}");
    scene.gateway.process().wait_line("the old one stays", LIMIT);
    scene.more("same");
    assert!(!begins_again(&scene.counts("same")));
    assert!(scene.counts("new").is_empty());
    // What only a restart can change is said, and changes nothing either.
    let head = scene.head.replace("[mqtt]", "max_size = \"1MiB\"\n[mqtt]");
    scene.write(&(head + &counting("new", "")));
    let said = scene.hang_up("not reloaded");
    assert!(said.contains("[buffer]") && said.contains("restart"), "{said}");
    scene.more("same");
    assert!(scene.counts("new").is_empty());
}

#[test]
fn reload_by_command_needs_admin() {
    let mut scene = Scene::start(&counting("same", ""));
    let reply = scene.command(&json!({"id": "r-1", "action": "reload"}));
    assert_eq!(
        (&reply["status"], &reply["error"]["code"]),
        (&json!("rejected"), &json!("unknown-action")),
        "{reply}"
    );
    assert!(reply["error"]["message"].as_str().unwrap().contains("commands.admin"), "{reply}");
    let admin = "[commands]\nadmin = true\n";
    scene.reload(&(counting("same", "") + admin), "the configuration is in force");
    let reply = scene.command(&json!({"id": "r-2", "action": "reload"}));
    assert_eq!(
        (&reply["status"], &reply["values"]),
        (&json!("succeeded"), &json!({"changed": []})),
        "{reply}"
    );

    scene.write(&(scene.head.clone() + &counting("same", "") + &counting("new", "") + admin));
    let reply = scene.command(&json!({"id": "r-3", "action": "reload"}));
    assert_eq!(reply["values"], json!({"changed": ["links.new"]}), "{reply}");
    scene.more("new");

    scene.write(&(scene.head.clone() + "[links]\nnew = 5\n" + admin));
    let reply = scene.command(&json!({"id": "r-4", "action": "reload"}));
    assert_eq!(
        (&reply["status"], &reply["error"]["code"]),
        (&json!("failed"), &json!("malformed")),
        "{reply}"
    );
    assert!(reply["error"]["message"].as_str().unwrap().contains("fieldgate.toml"), "{reply}");
    scene.more("new");
    // The same id again is the same answer: nothing is read a second time.
    let again = json!({"id": "r-3", "action": "reload"});
    publish(&scene.broker, "fieldgate/g/command", &again.to_string(), &[]);
    scene.watcher.wait("the stored answer", LIMIT, |messages| {
        let replies = messages.iter().filter(|message| message.topic == "fieldgate/g/reply");
        (replies.filter(|message| message.json()["id"] == "r-3").count() == 2).then_some(())
    });
}

#[test]
fn a_connection_that_fails_after_a_reload_leaves_no_false_status() {
    let mut scene = Scene::start(&counting("same", ""));
    scene.more("same");
    // Nobody listens there.
    let elsewhere = scene.head.replace(&scene.broker.url(), "mqtt://127.0.0.1:9");
    scene.write(&(elsewhere + &counting("same", "")));
    scene.hang_up("the configuration is in force");
    scene.watcher.wait_json("fieldgate/g/status", "offline", |json| json["state"] == "offline");
}

#[test]
fn a_stop_does_not_wait_for_a_reload() {
    let mut scene = Scene::start(&(counting("same", "") + "[commands]\nadmin = true\n"));
    for number in 0..20 {
        publish(
            &scene.broker,
            "fieldgate/g/command",
            &format!(r#"{{"id":"r-{number}","action":"reload"}}"#),
            &[],
        );
    }
    assert!(scene.gateway.stop().success());
    let lines = scene.gateway.process().lines();
    assert!(!lines.iter().any(|line| line.contains("not everything ended")), "{lines:?}");
}

#[test]
fn the_level_of_the_log_follows() {
    let mut scene = Scene::start(&counting("same", ""));
    scene.head = scene.head.replace("level = \"debug\"", "level = \"info\"");
    scene.reload(&counting("same", ""), "the configuration is in force");
    scene.more("same");
    scene.head = scene.head.replace("level = \"info\"", "level = \"fieldgate=trace,info\"");
    let before = scene.gateway.process().lines().len();
    scene.reload(&counting("same", ""), "the configuration is in force");
    scene.gateway.process().wait("more in the log", LIMIT, |lines| {
        lines[before..].iter().any(|line| line.contains("TRACE") || line.contains("DEBUG")).then_some(())
    });
}

/// Who takes over the session of the gateway gets what it is subscribed to. `topics` of those that came.
fn delivered(broker: &Broker, topics: &[&str], version: &str) -> Vec<String> {
    for topic in topics {
        publish(broker, topic, r#"{"probe":1}"#, &[]);
    }
    let version = version.replace('.', "");
    let arguments = ["-V", &version, "-q", "1", "-c", "-i", "fieldgate-g", "-x", "3600"];
    let arguments = if version == "5" { &arguments[..] } else { &arguments[..7] };
    let heir = Subscriber::with(broker, "probe/end", arguments);
    publish(broker, "probe/end", r#"{"probe":2}"#, &[]);
    heir.wait_for("the end", |message| message.topic == "probe/end");
    let mut came: Vec<String> = heir.messages().into_iter().map(|message| message.topic).collect();
    came.retain(|topic| topic != "probe/end");
    heir.stop();
    came
}

fn subscriptions_end(version: &str, by_restart: bool) {
    let first = format!("version = \"{version}\"\n");
    let mut scene = Scene::start(&(first.clone() + &counting("same", "")));
    scene.more("same");
    scene.gateway.stop();
    let old = ["fieldgate/g/command", "fieldgate/g/same/command"];
    let new = ["site/command", "site/same/command"];
    // The session outlives the gateway, with the subscriptions of its configuration.
    assert_eq!(delivered(&scene.broker, &old, version), old);
    scene.gateway = Gateway::run(scene.folder.path(), &(scene.head.clone() + &first + &counting("same", "")));
    scene.online(2);
    let second = first + "prefix = \"site\"\n" + &counting("same", "");
    if by_restart {
        scene.gateway.stop();
        scene.gateway = Gateway::run(scene.folder.path(), &(scene.head.clone() + &second));
    } else {
        scene.reload(&second, "the configuration is in force");
        scene.watcher.wait_json("fieldgate/g/status", "offline", |json| json["state"] == "offline");
    }
    scene.watcher.wait_json("site/same/readings", "readings", |_| true);
    scene.watcher.wait_json("site/status", "online", |json| json["state"] == "online");
    scene.gateway.stop();
    let came = delivered(&scene.broker, &[old[0], old[1], new[0], new[1]], version);
    assert_eq!(came, new, "by_restart {by_restart}");
    // Without commands there is no subscription at all.
    let third = second + "[commands]\nenabled = false\n";
    scene.gateway = Gateway::run(scene.folder.path(), &(scene.head.clone() + &third));
    scene.watcher.wait("online again", LIMIT, |messages| {
        let said = messages.iter().filter(|message| message.topic == "site/status");
        (said.filter(|message| message.json()["state"] == "online").count() >= 2).then_some(())
    });
    scene.gateway.process().wait_line("subscriptions of an earlier configuration end", LIMIT);
    scene.gateway.stop();
    assert_eq!(delivered(&scene.broker, &[old[0], new[0], new[1]], version), Vec::<String>::new());
}

#[test]
fn subscriptions_of_an_earlier_configuration_end_at_a_reload() {
    subscriptions_end("5", false);
}

#[test]
fn subscriptions_of_an_earlier_configuration_end_at_a_restart() {
    subscriptions_end("3.1.1", true);
}

#[test]
fn systemd_is_told_of_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let broker = Broker::start();
    let config = head(folder.path(), &broker) + &counting("same", "");
    let path = folder.path().join("notify").display().to_string();
    let mut gateway = Gateway::run_with(folder.path(), &config, &[("NOTIFY_SOCKET", &path)]);
    let told = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    told("READY=1");
    gateway.process().signal(Signal::HUP);
    // systemd wants both in one message (sd_notify(3)).
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    assert!(Path::new(&path).exists());
}
