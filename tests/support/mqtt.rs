//! MQTT seen from outside: mosquitto's own clients.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Broker, LIMIT, Process, program};

/// A message as a subscriber got it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// The broker had kept it.
    pub retained: bool,
    /// The quality it was delivered with.
    pub qos: u64,
    /// Its MQTT 5 properties, as `mosquitto_sub` names them.
    pub properties: Value,
}

impl Message {
    /// The payload as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload)
            .unwrap_or_else(|error| panic!("{} holds no JSON ({error}): {}", self.topic, self.payload))
    }

    /// The name of the record: `run` and `seq`. Retained states have none.
    pub fn name(&self) -> Option<(u64, u64)> {
        let json = self.json();
        Some((json["run"].as_u64()?, json["seq"].as_u64()?))
    }

    /// The payload as it was first sent.
    pub fn first_payload(&self) -> String {
        self.payload.replace(r#","backlog":true"#, "")
    }
}

/// A `mosquitto_sub`. It connects again by itself when the broker comes back.
pub struct Subscriber {
    process: Process,
    read: Cell<usize>,
    messages: RefCell<Vec<Message>>,
}

impl Subscriber {
    /// Subscribes to `filter` by MQTT 5 and QoS 1, and returns once the broker has confirmed it.
    pub fn start(broker: &Broker, filter: &str) -> Self {
        Self::with(broker, filter, &["-V", "5", "-q", "1"])
    }

    /// One whose session outlives the connection, so that nothing passes it by while it is away.
    pub fn durable(broker: &Broker, filter: &str) -> Self {
        let id = format!("watcher-{}-{}", std::process::id(), broker.port);
        Self::with(broker, filter, &["-V", "5", "-q", "1", "-c", "-i", &id])
    }

    /// Subscribes with these arguments.
    pub fn with(broker: &Broker, filter: &str, arguments: &[&str]) -> Self {
        Self::at(broker.port, filter, arguments)
    }

    /// The same at any broker of this machine.
    pub fn at(port: u16, filter: &str, arguments: &[&str]) -> Self {
        // Into a pipe it would keep its lines back until a message comes.
        let mut command = Command::new(program("stdbuf"));
        command
            .arg("-oL")
            .arg(program("mosquitto_sub"))
            .args(["-h", "127.0.0.1", "-d", "-F", "%j", "-t", filter, "-p"])
            .arg(port.to_string())
            .args(arguments);
        let process = Process::start(&format!("mosquitto_sub {filter}"), &mut command);
        process.wait_line("Subscribed (mid:", LIMIT);
        Self { process, read: Cell::new(0), messages: RefCell::default() }
    }

    /// Waits until `found` makes something of the messages so far.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut found: impl FnMut(&[Message]) -> Option<T>) -> T {
        self.process.wait(what, limit, |lines| {
            self.parse(lines);
            found(&self.messages.borrow())
        })
    }

    /// Waits for a message that `wanted` accepts.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.wait(what, LIMIT, |all| all.iter().find(|message| wanted(message)).cloned())
    }

    /// Waits for a message on `topic` whose JSON `wanted` accepts.
    pub fn wait_json(&self, topic: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let message = self.wait_for(&format!("{what} on {topic}"), |message| {
            message.topic == topic && wanted(&message.json())
        });
        message.json()
    }

    /// The messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.parse(&self.process.lines());
        self.messages.borrow().clone()
    }

    /// Leaves in order.
    pub fn stop(mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait_exit(LIMIT);
    }

    fn parse(&self, lines: &[String]) {
        let mut messages = self.messages.borrow_mut();
        for line in &lines[self.read.replace(lines.len())..] {
            if line.starts_with('{') {
                let json: Value = serde_json::from_str(line).unwrap();
                messages.push(Message {
                    topic: json["topic"].as_str().unwrap().to_owned(),
                    payload: json["payload"].as_str().unwrap_or_default().to_owned(),
                    retained: json["retain"] == 1,
                    qos: json["qos"].as_u64().unwrap(),
                    properties: json["properties"].clone(),
                });
            }
        }
    }
}

/// Publishes one message with QoS 1 by `mosquitto_pub`; `arguments` may say more (`-V`, `-D`, `-r`).
pub fn publish(broker: &Broker, topic: &str, payload: &str, arguments: &[&str]) {
    publish_at(broker.port, topic, payload, arguments);
}

/// The same at any broker of this machine.
pub fn publish_at(port: u16, topic: &str, payload: &str, arguments: &[&str]) {
    let output = Command::new(program("mosquitto_pub"))
        .args(["-h", "127.0.0.1", "-q", "1", "-t", topic, "-m", payload, "-p"])
        .arg(port.to_string())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "mosquitto_pub: {output:?}");
}

/// What the gateway of this id says of its connection when it is asked for its `status`.
pub fn uplink_status(broker: &Broker, watcher: &Subscriber, gateway: &str) -> Value {
    // An id runs once.
    let id = format!("status-{:x}", RandomState::new().hash_one(gateway));
    let command = format!(r#"{{"id":"{id}","action":"status"}}"#);
    publish(broker, &format!("fieldgate/{gateway}/command"), &command, &[]);
    let mut reply =
        watcher.wait_json(&format!("fieldgate/{gateway}/reply"), "the status", |json| json["id"] == *id);
    reply["values"]["uplink"].take()
}

/// What arrived, by the names of the records.
pub struct Records {
    payloads: BTreeMap<(u64, u64), String>,
}

impl Records {
    /// Sorts the messages. Fails when a record that came again was not the same to the letter.
    pub fn of(messages: &[Message]) -> Self {
        let mut payloads: BTreeMap<(u64, u64), String> = BTreeMap::new();
        for message in messages {
            if let Some(name) = message.name() {
                let payload = message.first_payload();
                let first = payloads.entry(name).or_insert_with(|| payload.clone());
                assert_eq!(*first, payload, "the record {name:?} came again with another content");
            }
        }
        Self { payloads }
    }

    /// The runs, in order.
    pub fn runs(&self) -> Vec<u64> {
        let mut runs: Vec<u64> = self.payloads.keys().map(|(run, _)| *run).collect();
        runs.dedup();
        runs
    }

    /// The numbers of a run that did not come, up to its last one that did.
    pub fn holes(&self, run: u64) -> Vec<u64> {
        let last = self.payloads.keys().filter(|(of, _)| *of == run).map(|(_, seq)| *seq).max();
        let came = |seq: &u64| self.payloads.contains_key(&(run, *seq));
        (1..=last.unwrap_or_default()).filter(|seq| !came(seq)).collect()
    }

    /// The answers of the scale that came, as it counts them.
    pub fn weighings(&self) -> BTreeSet<u64> {
        let json = self.payloads.values().map(|text| serde_json::from_str::<Value>(text).unwrap());
        let weights = json.filter_map(|json| json["values"]["weight"].as_f64());
        weights.map(|weight| format!("{}", weight - 0.5).parse().unwrap()).collect()
    }
}
