//! What leaves the gateway through the buffer: one record is one stored row and one MQTT message.

use std::fmt;
use std::sync::Arc;

use crate::clock::{Moment, Timestamp};
use crate::point::{Device, DeviceId, PointId, Reading};

#[cfg(test)]
mod tests;

/// A message on its way to the broker. The JSON is made once; the buffer puts `run` and `seq` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is, for the order of leaving and dropping.
    pub kind: RecordKind,
    /// Where it goes.
    pub topic: Topic,
    /// The members of the JSON object after `run` and `seq`, without braces.
    pub body: Arc<[u8]>,
    /// MQTT 5 Correlation Data to return with a reply.
    pub correlation: Option<Arc<[u8]>>,
    /// When it was made; decides whether it counts as backlog.
    pub made: Moment,
}

impl Record {
    /// Gives a record that was made before the clock was set its true time, where `base` is the wall time of
    /// uptime 0 in milliseconds since 1970. `false`: it is not one of them, and stays as it is.
    pub fn set_time(&mut self, base: i64) -> bool {
        let wall = Timestamp::from_millis(base + self.made.uptime);
        let marked = format!("\"ts\":\"{}\",\"clock\":\"unsynced\"", self.made.wall);
        // A quote inside a text has a backslash before it, so only the member itself can look like this.
        let place = self.body.windows(marked.len()).position(|part| part == marked.as_bytes());
        let (false, Some(place)) = (self.made.synced, place) else { return false };
        let mut body = self.body.to_vec();
        body.splice(place..place + marked.len(), format!("\"ts\":\"{wall}\"").into_bytes());
        self.body = body.into();
        self.made = Moment { wall, synced: true, ..self.made };
        true
    }
}

/// The three kinds of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// The outcome of a command: taken first, dropped last.
    Reply,
    /// What an operator must know.
    Event,
    /// A poll.
    Readings,
}

/// A destination, without the prefix: that may change between storing and sending.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `{prefix}/{device}/readings`
    Readings(DeviceId),
    /// `{prefix}/{device}/readings/{point}`
    Reading(DeviceId, PointId),
    /// `{prefix}/{device}/reply`, or `{prefix}/reply`
    Reply(Option<DeviceId>),
    /// `{prefix}/event`
    Event,
    /// The Response Topic of a command (MQTT 5.0, 4.10), used as it is.
    Response(String),
}

impl fmt::Display for Topic {
    /// The stored form; [`Topic::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readings(device) => write!(f, "readings/{device}"),
            Self::Reading(device, point) => write!(f, "readings/{device}/{point}"),
            Self::Reply(None) => f.write_str("reply"),
            Self::Reply(Some(device)) => write!(f, "reply/{device}"),
            Self::Event => f.write_str("event"),
            Self::Response(topic) => write!(f, "to/{topic}"),
        }
    }
}

impl Topic {
    /// Reads the stored form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(topic) = text.strip_prefix("to/") {
            return Some(Self::Response(topic.to_owned()));
        }
        let mut parts = text.split('/');
        let topic = match (parts.next()?, parts.next(), parts.next()) {
            ("readings", Some(device), None) => Self::Readings(DeviceId::new(device)?),
            ("readings", Some(device), Some(point)) => {
                Self::Reading(DeviceId::new(device)?, PointId::new(point)?)
            }
            ("reply", None, None) => Self::Reply(None),
            ("reply", Some(device), None) => Self::Reply(Some(DeviceId::new(device)?)),
            ("event", None, None) => Self::Event,
            _ => return None,
        };
        parts.next().is_none().then_some(topic)
    }
}

/// Names a record for ever: the run of the gateway that made it, and its number in that run, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The run.
    pub run: u64,
    /// The number in the run.
    pub seq: u64,
}

/// A record with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its name.
    pub name: Name,
    /// The record.
    pub record: Record,
}

impl Numbered {
    /// The MQTT payload. A record sent again gives the same bytes, `backlog` apart.
    #[must_use]
    pub fn payload(&self, backlog: bool) -> Vec<u8> {
        use std::io::Write as _;
        let mut out = Vec::with_capacity(self.record.body.len() + 64);
        // Writing into a Vec cannot fail.
        let _infallible = write!(out, "{{\"run\":{},\"seq\":{},", self.name.run, self.name.seq);
        out.extend_from_slice(&self.record.body);
        if backlog {
            out.extend_from_slice(b",\"backlog\":true");
        }
        out.push(b'}');
        out
    }
}

/// Builds the members of a JSON object, in order, without braces.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// Starts with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member whose value is serialised.
    #[must_use]
    pub fn with<T: serde::Serialize + ?Sized>(mut self, key: &str, value: &T) -> Self {
        self.key(key);
        let start = self.0.len();
        // Only maps with keys that are no strings, and types that refuse, can fail here; we give neither.
        if serde_json::to_writer(&mut self.0, value).is_err() {
            self.0.truncate(start);
            self.0.extend_from_slice(b"null");
        }
        self
    }

    /// Adds a member whose value `write` appends as JSON.
    #[must_use]
    pub fn with_json(mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.key(key);
        write(&mut self.0);
        self
    }

    /// Adds a time, and the mark of an unset clock.
    #[must_use]
    pub fn with_time(self, at: Moment) -> Self {
        let body = self.with("ts", &at.wall.to_string());
        if at.synced { body } else { body.with("clock", "unsynced") }
    }

    /// The members.
    #[must_use]
    pub fn finish(self) -> Arc<[u8]> {
        self.0.into()
    }

    /// A whole object, braces and all.
    #[must_use]
    pub fn object(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + 2);
        out.push(b'{');
        out.extend_from_slice(&self.0);
        out.push(b'}');
        out
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// One poll of one device.
#[must_use]
pub fn readings(device: &Device, readings: &[Reading], made: Moment) -> Record {
    let point = |reading: &Reading| device.points.get(reading.point).map(|p| p.id.as_str());
    let mut body =
        Body::new().with("device", device.id.as_str()).with_time(made).with_json("values", |out| {
            let good = readings.iter().filter_map(|r| Some((point(r)?, r.value.as_ref().ok()?)));
            object(out, good, |out, value| value.write_json(out));
        });
    if readings.iter().any(|r| r.value.is_err()) {
        body = body.with_json("bad", |out| {
            let bad = readings.iter().filter_map(|r| Some((point(r)?, r.value.as_ref().err()?)));
            object(out, bad, |out, reason| {
                out.extend_from_slice(format!("\"{reason}\"").as_bytes());
            });
        });
    }
    Record {
        kind: RecordKind::Readings,
        topic: Topic::Readings(device.id.clone()),
        body: body.finish(),
        correlation: None,
        made,
    }
}

/// One reading of a poll, for layout `point`. A bad one says so in place of its value.
#[must_use]
pub fn reading(device: &Device, reading: &Reading, made: Moment) -> Option<Record> {
    let point = device.points.get(reading.point)?;
    let body =
        Body::new().with("device", device.id.as_str()).with("point", point.id.as_str()).with_time(made);
    let body = match &reading.value {
        Ok(value) => body.with_json("value", |out| value.write_json(out)),
        Err(reason) => body.with("bad", &reason.to_string()),
    };
    Some(Record {
        kind: RecordKind::Readings,
        topic: Topic::Reading(device.id.clone(), point.id.clone()),
        body: body.finish(),
        correlation: None,
        made,
    })
}

/// An event: `event` says which, `detail` adds what belongs to it.
#[must_use]
pub fn event(event: &str, made: Moment, detail: impl FnOnce(Body) -> Body) -> Record {
    let body = Body::new().with("event", event).with_time(made);
    Record {
        kind: RecordKind::Event,
        topic: Topic::Event,
        body: detail(body).finish(),
        correlation: None,
        made,
    }
}

/// Appends a JSON object of ids and values; ids need no escaping.
pub fn object<'a, T>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'a str, T)>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write(out, value);
    }
    out.push(b'}');
}
