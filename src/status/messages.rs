//! What the actor is told and asked, and what it answers.

use std::sync::Arc;

use actix::prelude::*;

use crate::clock::Timestamp;
use crate::point::{Device, DeviceId};

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
