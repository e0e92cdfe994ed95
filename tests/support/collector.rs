//! What arrived, as a durable subscriber saw it: small enough to keep a million records of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::counted::{Origin, monotonic};
use super::{Broker, LIMIT, canary, program};

/// How long the collector waits, at least, before it looks again.
const AGAIN: Duration = Duration::from_millis(100);

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it arrived, in nanoseconds of the clock in the device's book.
    pub at: u64,
    /// The connection of the gateway that it came by, as its online statuses count them.
    pub connection: u64,
    /// What it says.
    pub content: Content,
}

impl Received {
    /// The record, if it is one.
    pub fn record(&self) -> Option<&Arrived> {
        match &self.content {
            Content::Record(arrived) => Some(arrived),
            Content::Unnumbered | Content::Nonsense(_) => None,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A record.
    Record(Arrived),
    /// A status, an info or a marker: they have no number.
    Unnumbered,
    /// No JSON.
    Nonsense(String),
}

/// A record.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Its run.
    pub run: u64,
    /// Its number.
    pub seq: u64,
    /// Tells its content from another, `backlog` apart.
    pub digest: u64,
    /// It is marked as backlog.
    pub is_backlog: bool,
    /// What kind of record it is.
    pub kind: Kind,
}

/// The kinds of record, as far as counting goes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A poll of the counted device, whole.
    Weighed {
        /// The unit.
        unit: u64,
        /// Its answer.
        n: u64,
    },
    /// A poll that gave no value.
    Bad,
    /// A poll with values that the device cannot have given, and why.
    Foreign(String),
    /// An event that names lost records.
    Lost(Lost),
    /// A reply or another event.
    Other,
}

/// Records that an event calls lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Their run.
    pub run: u64,
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// Why: the reason of a gap, or the name of the event.
    pub reason: String,
}

/// A durable subscriber to what the gateway `g` says.
pub struct Collector {
    child: Child,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    more: Condvar,
}

/// What a subscriber has heard.
#[derive(Default)]
pub struct State {
    received: Vec<Received>,
    connections: u64,
    is_subscribed: bool,
    has_ended: bool,
    /// A secret that came.
    secret: Option<String>,
}

impl Collector {
    /// Subscribes to everything, and returns once the broker has confirmed it. The session outlives the connection,
    /// so that nothing passes it by while the broker is away. Each poll has so many `points`.
    pub fn start(broker: &Broker, points: usize) -> Self {
        Self::of(broker, points, "fieldgate/g/#")
    }

    /// The same for these topics alone.
    pub fn of(broker: &Broker, points: usize, filter: &str) -> Self {
        let id = format!("collector-{}-{}-{}", std::process::id(), broker.port, filter.len());
        let mut child = Command::new(program("stdbuf"))
            .arg("-oL")
            .arg(program("mosquitto_sub"))
            .args(["-h", "127.0.0.1", "-d", "-F", "> %r %t %p", "-t", filter])
            .args(["-V", "5", "-q", "1", "-c", "-i", &id, "-p"])
            .arg(broker.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let secret = canary::find(line.as_bytes());
                    let mut state = seen.state.lock().unwrap();
                    state.take(&line, points);
                    state.secret = state.secret.take().or(secret);
                    drop(state);
                    seen.more.notify_all();
                }
                seen.state.lock().unwrap().has_ended = true;
                seen.more.notify_all();
            }
        });
        let collector = Self { child, seen };
        assert!(
            collector.wait_state(LIMIT, |state| state.is_subscribed.then_some(())).is_some(),
            "mosquitto_sub did not subscribe"
        );
        collector
    }

    /// Waits until `found` makes something of what arrived so far; `None` after `limit`.
    pub fn wait<T>(&self, limit: Duration, mut found: impl FnMut(&[Received]) -> Option<T>) -> Option<T> {
        self.wait_state(limit, |state| found(&state.received))
    }

    /// What arrived so far.
    pub fn received(&self) -> Vec<Received> {
        self.seen.state.lock().unwrap().received.clone()
    }

    fn wait_state<T>(&self, limit: Duration, mut found: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = self.seen.state.lock().unwrap();
        loop {
            if let Some(result) = found(&state) {
                return Some(result);
            }
            assert!(!state.has_ended, "mosquitto_sub has ended");
            // To judge everything again for each message that comes would keep up with nothing.
            let again = (Instant::now() + AGAIN).min(end);
            while Instant::now() < again {
                let left = again.saturating_duration_since(Instant::now());
                state = self.seen.more.wait_timeout(state, left).unwrap().0;
            }
            if Instant::now() >= end {
                return found(&state);
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if !thread::panicking() {
            let secret = self.seen.state.lock().unwrap().secret.take();
            assert!(secret.is_none(), "what the gateway published holds {secret:?}");
        }
    }
}

impl State {
    /// What arrived so far.
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// Hears a line of `mosquitto_sub`: `> RETAINED TOPIC PAYLOAD` for a message.
    pub fn take(&mut self, line: &str, points: usize) {
        // Between the messages stands what `-d` says.
        let Some(line) = line.strip_prefix("> ") else {
            self.is_subscribed |= line.contains("Subscribed (mid:");
            return;
        };
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (retained, topic, payload) = (part() == "1", part(), part());
        // What the broker kept says nothing of now.
        if retained {
            return;
        }
        if topic == "fieldgate/g/status" && payload.contains(r#""state":"online""#) {
            self.connections += 1;
        }
        let content = read(topic, payload, points);
        self.received.push(Received { at: monotonic(), connection: self.connections, content });
    }
}

fn read(topic: &str, payload: &str, points: usize) -> Content {
    let Ok(json) = serde_json::from_str::<Value>(payload) else {
        return Content::Nonsense(format!("{topic}: no JSON: {payload}"));
    };
    let (Some(run), Some(seq)) = (json["run"].as_u64(), json["seq"].as_u64()) else {
        return Content::Unnumbered;
    };
    let device = topic.strip_prefix("fieldgate/g/").and_then(|rest| rest.strip_suffix("/readings"));
    let kind = match device {
        Some(device) => weighed(device, &json, points)
            .unwrap_or_else(|why| Kind::Foreign(format!("{topic}: {why}: {payload}"))),
        None if json["lost"].is_object() => {
            let number = |key: &str| json["lost"][key].as_u64().unwrap_or_default();
            let reason = json["reason"].as_str().filter(|_| json["event"] == "gap");
            let reason = reason.or(json["event"].as_str()).unwrap_or_default().to_owned();
            Kind::Lost(Lost { run: number("run"), from: number("from"), to: number("to"), reason })
        }
        None => Kind::Other,
    };
    let mut hasher = DefaultHasher::new();
    (topic, payload.replace(r#","backlog":true"#, "")).hash(&mut hasher);
    let is_backlog = json["backlog"] == true;
    Content::Record(Arrived { run, seq, digest: hasher.finish(), is_backlog, kind })
}

/// Which answer of the device a poll is: every value must say the same, under its own unit and point.
fn weighed(device: &str, json: &Value, points: usize) -> Result<Kind, String> {
    let values = json["values"].as_object().ok_or("no values")?;
    if json["device"] != device {
        return Err("the topic names another device".to_owned());
    }
    if values.is_empty() {
        return Ok(Kind::Bad);
    }
    // The device answers for all of its points or for none.
    if values.len() != points || json["bad"].is_object() {
        return Err("a part of the answer is missing".to_owned());
    }
    let mut whole: Option<Origin> = None;
    for (at, (point, value)) in values.iter().enumerate() {
        let origin = Origin::of(value.as_u64().ok_or("a value is no number")?);
        if format!("unit-{}", origin.unit) != device
            || format!("p{}", origin.point) != *point
            || origin.point != u64::try_from(at).unwrap()
        {
            return Err(format!("{point} has a value of another point"));
        }
        if whole.is_some_and(|first| first.n != origin.n) {
            return Err(format!("{point} is of another answer than the rest"));
        }
        whole = Some(origin);
    }
    whole.map(|origin| Kind::Weighed { unit: origin.unit, n: origin.n }).ok_or_else(|| "empty".to_owned())
}
