//! The last known state of everything: what Link and Uplink report, what the broker is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::point::{Device, DeviceId};
use crate::record::{self, Body};

/// The version of the retained messages' form.
pub const FORMAT: u32 = 1;

/// Why there is no connection before the first try has ended.
const NOT_YET: &str = "not connected yet";

/// Links, devices and the uplink know these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Online,
    /// Some points are bad.
    Degraded,
    /// Nothing comes.
    Offline,
}

impl State {
    /// The word in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
        }
    }
}

/// A device's state after a poll.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Report {
    /// The device.
    pub device: DeviceId,
    /// Its state.
    pub state: State,
    /// Why it is not online.
    pub reason: Option<String>,
    /// What is wrong with the answer, in words. It may be other words each time, so it makes no change by itself.
    pub detail: Option<String>,
    /// When the poll was.
    pub ts: Timestamp,
}

/// Asks what changed after version `since`; answered as soon as something did.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Changes")]
pub struct Watch {
    /// The last version known; 0 asks for everything.
    pub since: u64,
}

/// These are the devices from now on. What is retained of others is taken back from the broker.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Define(pub Vec<Arc<Device>>);

/// Asks for every device's state, and the uplink's.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "States")]
pub struct GetStates;

/// The states.
#[derive(Clone, Debug)]
pub struct States {
    /// Of the devices that were polled or tried.
    pub devices: Vec<DeviceState>,
    /// What was agreed with the broker, or why there is no connection.
    pub uplink: Result<serde_json::Value, String>,
}

/// The state of a device, as its last poll left it.
#[derive(Clone, Debug)]
pub struct DeviceState {
    /// The device.
    pub device: DeviceId,
    /// Its state.
    pub state: State,
    /// Since when it has this state for this reason.
    pub since: Timestamp,
    /// Why it is not online.
    pub reason: Option<String>,
    /// Its last poll with every point good.
    pub last_good: Option<Timestamp>,
}

/// What was agreed with the broker, or why there is no connection.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ReportUplink(pub Result<serde_json::Value, String>);

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Ask for what comes after this the next time.
    pub version: u64,
    /// Retained messages to publish.
    pub retained: Vec<Retained>,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Whose.
    pub device: DeviceId,
    /// Which of its topics.
    pub aspect: Aspect,
    /// The JSON; empty takes back what is retained (MQTT 5.0, 3.3.1.3).
    pub payload: Vec<u8>,
}

/// The retained topics of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// `{prefix}/{device}/info`
    Info,
    /// `{prefix}/{device}/status`
    Status,
}

#[derive(Debug)]
struct Known {
    state: State,
    since: Timestamp,
    reason: Option<String>,
    last_good: Option<Timestamp>,
}

/// The actor.
#[derive(Debug)]
pub struct Status {
    run: u64,
    version: u64,
    known: BTreeMap<DeviceId, Known>,
    /// Each retained message with the version it changed at.
    retained: BTreeMap<(DeviceId, Aspect), (u64, Vec<u8>)>,
    watcher: Option<(u64, oneshot::Sender<Changes>)>,
    uplink: Result<serde_json::Value, String>,
}

impl Status {
    /// Without devices in this run.
    #[must_use]
    pub fn new(run: u64) -> Self {
        let (known, retained) = (BTreeMap::new(), BTreeMap::new());
        Self { run, version: 1, known, retained, watcher: None, uplink: Err(NOT_YET.to_owned()) }
    }

    /// Takes the devices there are from now on.
    fn define(&mut self, devices: &[Arc<Device>]) {
        self.version += 1;
        let is_defined = |id: &DeviceId| devices.iter().any(|device| device.id == *id);
        self.known.retain(|id, _| is_defined(id));
        for ((id, _), (version, payload)) in &mut self.retained {
            if !is_defined(id) && !payload.is_empty() {
                (*version, *payload) = (self.version, Vec::new());
            }
        }
        for device in devices {
            let info = info(device);
            let told = self.retained.entry((device.id.clone(), Aspect::Info)).or_default();
            if told.1 != info {
                *told = (self.version, info);
            }
        }
    }

    fn tell_watcher(&mut self) {
        if let Some((since, answer)) = self.watcher.take()
            && answer.send(self.changes(since)).is_err()
        {
            tracing::debug!("nobody watches the status any more");
        }
    }

    /// Takes a report; says whether something changed.
    fn take(&mut self, report: Report) -> bool {
        let Report { device, state, reason, detail, ts } = report;
        let good = (state == State::Online).then_some(ts);
        let known = self.known.get(&device);
        let last_good = good.or(known.and_then(|known| known.last_good));
        let is_same = known.is_some_and(|known| known.state == state && known.reason == reason);
        let since = known.filter(|_| is_same).map_or(ts, |known| known.since);
        if !is_same {
            match state {
                State::Online => tracing::info!(%device, "online"),
                State::Degraded | State::Offline => {
                    tracing::warn!(%device, reason = reason.as_deref(), detail, "{}", state.name());
                }
            }
            let mut body = Body::new()
                .with("format", &FORMAT)
                .with("state", state.name())
                .with("since", &ts.to_string());
            if let Some(reason) = &reason {
                body = body.with("reason", reason);
            }
            if let Some(detail) = &detail {
                body = body.with("detail", detail);
            }
            if let Some(last_good) = last_good {
                body = body.with("last_good", &last_good.to_string());
            }
            self.version += 1;
            let payload = body.with("run", &self.run).object();
            self.retained.insert((device.clone(), Aspect::Status), (self.version, payload));
        }
        self.known.insert(device, Known { state, since, reason, last_good });
        !is_same
    }

    fn changes(&self, since: u64) -> Changes {
        let changed = self.retained.iter().filter(|(_, (version, _))| *version > since);
        let retained = changed.map(|((device, aspect), (_, payload))| Retained {
            device: device.clone(),
            aspect: *aspect,
            payload: payload.clone(),
        });
        Changes { version: self.version, retained: retained.collect() }
    }
}

/// The retained `info` of a device: its points as a cloud needs to know them.
fn info(device: &Device) -> Vec<u8> {
    let mut body = Body::new().with("format", &FORMAT);
    if let Some(label) = &device.label {
        body = body.with("label", label);
    }
    if let Some(tags) = &device.tags {
        body = body.with("tags", tags);
    }
    body.with("link", device.link.as_str())
        .with_json("points", |out| {
            record::object(
                out,
                device.points.iter().map(|point| (point.id.as_str(), point)),
                |out, point| {
                    let mut body = Body::new();
                    if let Some(label) = &point.label {
                        body = body.with("label", label);
                    }
                    if let Some(tags) = &point.tags {
                        body = body.with("tags", tags);
                    }
                    body = body.with("type", point.kind.name());
                    if let Some(unit) = &point.unit {
                        body = body.with("unit", unit);
                    }
                    body = body.with("writable", &point.writable);
                    for (key, limit) in [("min", point.min), ("max", point.max)] {
                        if let Some(limit) = limit {
                            body = body
                                .with_json(key, |out| out.extend_from_slice(limit.to_string().as_bytes()));
                        }
                    }
                    if !point.values.is_empty() {
                        let values: BTreeMap<String, &String> =
                            point.values.iter().map(|(raw, name)| (raw.to_string(), name)).collect();
                        body = body.with("values", &values);
                    }
                    out.extend_from_slice(&body.object());
                },
            );
        })
        .object()
}

impl Actor for Status {
    type Context = Context<Self>;
}

impl Handler<Report> for Status {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        if self.take(report) {
            self.tell_watcher();
        }
    }
}

impl Handler<Define> for Status {
    type Result = ();

    fn handle(&mut self, Define(devices): Define, _: &mut Context<Self>) {
        self.define(&devices);
        self.tell_watcher();
    }
}

impl Handler<Watch> for Status {
    type Result = ResponseFuture<Changes>;

    fn handle(&mut self, Watch { since }: Watch, _: &mut Context<Self>) -> Self::Result {
        let changes = self.changes(since);
        if !changes.retained.is_empty() {
            return Box::pin(std::future::ready(changes));
        }
        let (answer, told) = oneshot::channel();
        self.watcher = Some((since, answer));
        Box::pin(async move { told.await.unwrap_or(Changes { version: since, retained: Vec::new() }) })
    }
}

impl Handler<ReportUplink> for Status {
    type Result = ();

    fn handle(&mut self, ReportUplink(report): ReportUplink, _: &mut Context<Self>) {
        self.uplink = report;
    }
}

impl Handler<GetStates> for Status {
    type Result = MessageResult<GetStates>;

    fn handle(&mut self, _: GetStates, _: &mut Context<Self>) -> Self::Result {
        let state = |(device, known): (&DeviceId, &Known)| DeviceState {
            device: device.clone(),
            state: known.state,
            since: known.since,
            reason: known.reason.clone(),
            last_good: known.last_good,
        };
        MessageResult(States { devices: self.known.iter().map(state).collect(), uplink: self.uplink.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, reason: Option<&str>, millis: i64) -> Report {
        Report {
            device: DeviceId::new("boiler").unwrap(),
            state,
            reason: reason.map(str::to_owned),
            detail: None,
            ts: Timestamp::from_millis(millis),
        }
    }

    #[test]
    fn a_state_is_told_when_it_changes_and_only_then() {
        let mut status = Status::new(9);
        assert!(status.take(report(State::Online, None, 1000)));
        assert!(!status.take(report(State::Online, None, 2000)));
        let since = status.changes(0).version;
        assert!(status.take(report(State::Degraded, Some("power: timeout"), 3000)));
        assert!(!status.take(report(State::Degraded, Some("power: timeout"), 4000)));
        let changes = status.changes(since);
        assert_eq!(changes.retained.len(), 1);
        assert_eq!(
            String::from_utf8_lossy(&changes.retained[0].payload),
            r#"{"format":1,"state":"degraded","since":"1970-01-01T00:00:03.000Z","reason":"power: timeout","last_good":"1970-01-01T00:00:02.000Z","run":9}"#
        );
        assert!(status.changes(changes.version).retained.is_empty());
    }
}
