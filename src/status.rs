//! The last known state of everything: what Link and Uplink report, what the broker is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::point::{Device, DeviceId};
use crate::record::Body;

mod info;
mod messages;
#[cfg(test)]
mod tests;

use info::info;
pub use messages::{
    Aspect, Changes, Define, DeviceState, GetStates, Report, ReportUplink, Retained, State, States, Watch,
};

/// The version of the retained messages' form.
pub const FORMAT: u32 = 1;

/// Why there is no connection before the first try has ended.
const NOT_YET: &str = "not connected yet";

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
