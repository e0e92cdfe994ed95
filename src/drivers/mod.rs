//! What a link speaks: one trait, one folder for each protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::{Framing, LinkConfig, Medium, Transport};
use crate::point::{Device, Raw, Reason, Sample};

pub mod modbus;
pub mod plugin;
pub mod port;
pub mod serial;
pub mod simulator;

/// Speaks one protocol on one link. One task owns it; nothing else touches the link.
///
/// Every call ends by its deadline. A call that was dropped before its end leaves the driver usable: what
/// may still arrive for it is never taken for the answer to a later request. Dropping the driver closes the link.
#[async_trait(?Send)]
pub trait Driver {
    /// Opens the link, or opens it again. What was learnt about unanswered requests outlives this.
    async fn open(&mut self, deadline: Instant) -> Result<(), DriverError>;

    /// The spare address, while it is in use instead of the first.
    fn backup(&self) -> Option<String> {
        None
    }

    /// What one request to the device may need at most besides the device's own time to answer: its rests, and the line's
    /// time for the frames. A deadline has to leave so much room; what is not needed is not waited for.
    fn overhead(&self, device: &Device) -> Duration {
        let _ = device;
        Duration::ZERO
    }

    /// Splits a poll of the points `due` (indices into `device.points`) into requests. Pure.
    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request>;

    /// What of `due` the plan leaves out because the device is known to refuse it.
    fn refused(&self, device: &Arc<Device>, due: &[usize]) -> Vec<Sample> {
        let _ = (device, due);
        Vec::new()
    }

    /// The device refused a request with this exception: what to ask in its place. Nothing: nothing better is known.
    fn split(&mut self, request: &Request, exception: u8) -> Vec<Request> {
        let _ = (request, exception);
        Vec::new()
    }

    /// A poll of the device is over: tells when that changes how it is read from now on.
    fn learnt(&mut self, device: &Device) -> Option<Learnt> {
        let _ = device;
        None
    }

    /// Takes up what [`Driver::learnt`] once gave to be kept about the device.
    fn recall(&mut self, device: &Device, kept: &[u8]) {
        let _ = (device, kept);
    }

    /// Sends one request and gives one sample for each of its points. The device has its `patience` to begin to answer,
    /// counted from when the rests are over.
    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError>;

    /// Writes one point, once, and gives what the device says of it afterwards.
    async fn write(
        &mut self,
        device: &Arc<Device>,
        point: usize,
        raw: &Raw,
        deadline: Instant,
    ) -> Result<Raw, DriverError>;
}

/// One request on the wire, made by [`Driver::plan`].
#[derive(Clone, Debug)]
pub struct Request {
    /// The device asked.
    pub device: Arc<Device>,
    /// The points its answer carries, as indices into `device.points`.
    pub points: Vec<usize>,
    /// Where they lie; the driver's own matter.
    pub span: Span,
}

/// Neighbouring places of a device read at once. Drivers without places use the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// The table, in the driver's own numbering.
    pub area: u8,
    /// First place.
    pub start: u16,
    /// How many places.
    pub count: u16,
}

/// A device is read in another way from now on: its polls have to be planned anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// What has settled: to be told, and to be kept over a restart.
    pub kept: Option<Kept>,
}

/// What a device refuses to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For people, such as `holding:40-47`; nothing: it refuses nothing any more.
    pub holes: Vec<String>,
    /// For [`Driver::recall`]; empty: there is nothing to keep.
    pub value: Vec<u8>,
}

/// Why an exchange gave nothing. The variants say what the link does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// Scope device: no answer by the deadline.
    #[error("no answer in time")]
    Timeout,
    /// Scope device: the device answered with this Modbus exception code.
    #[error("the device answered with exception {0}")]
    Refused(u8),
    /// Scope device: an answer that was damaged, foreign or of the wrong size.
    #[error("{0}")]
    Malformed(String),
    /// Scope device: a write was confirmed for another place or value; what the device has now is told.
    #[error("{0}")]
    Unconfirmed(String),
    /// Scope link: the line was never quiet, so that nothing went out and nobody was asked.
    #[error("the line is never quiet")]
    Noise,
    /// Scope link: the link is gone and has to be opened again.
    #[error("{0}")]
    Lost(String),
}

impl DriverError {
    /// Nobody was there: no answer, or a gateway that says so for its unit (Modbus Application Protocol
    /// V1.1b3, 7: exceptions 10 and 11).
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout | Self::Refused(10 | 11))
    }

    /// The reason that the points of the failed request get.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::Timeout,
            Self::Refused(code) => Reason::Exception(*code),
            Self::Malformed(_) | Self::Unconfirmed(_) | Self::Noise => Reason::Malformed,
            Self::Lost(_) => Reason::Offline,
        }
    }
}

/// Makes the driver of a link with these devices on it.
#[must_use]
pub fn create(link: &LinkConfig, devices: &[Arc<Device>]) -> Box<dyn Driver> {
    match &link.transport {
        Transport::Modbus { framing, medium, backup, turnaround } => {
            Box::new(modbus(link, *framing, medium, backup.as_ref(), *turnaround))
        }
        Transport::Serial { line, frame, encoding } => {
            Box::new(serial::Serial::new(line.clone(), frame.clone()).reading(*encoding))
        }
        Transport::Simulator => Box::new(simulator::Simulator::default()),
        Transport::Plugin(config) => Box::new(plugin::Plugin::new(config.clone(), link, devices)),
    }
}

/// The driver of a Modbus link itself, for who asks units of which nothing is configured; `None` for other links.
#[must_use]
pub fn modbus_of(link: &LinkConfig) -> Option<modbus::Modbus> {
    match &link.transport {
        Transport::Modbus { framing, medium, backup, turnaround } => {
            Some(modbus(link, *framing, medium, backup.as_ref(), *turnaround))
        }
        Transport::Serial { .. } | Transport::Simulator | Transport::Plugin(_) => None,
    }
}

fn modbus(
    link: &LinkConfig,
    framing: Framing,
    medium: &Medium,
    backup: Option<&(String, u16)>,
    turnaround: Duration,
) -> modbus::Modbus {
    modbus::Modbus::new(modbus::Settings {
        framing,
        medium: medium.clone(),
        backup: backup.cloned(),
        pause_after_connect: link.pause_after_connect,
        turnaround,
    })
}
