//! Modbus over TCP and on a bus, RTU or ASCII (Modbus Application Protocol V1.1b3).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};
use tokio_modbus::{Request as Command, Response};

use super::{Driver, DriverError, Learnt, Request};
use crate::address::Address;
use crate::config::{Framing, Medium, SerialLine};
use crate::point::{Device, Point, Protocol, Raw, Reason, Sample};

mod answer;
mod ascii;
mod asked;
mod bus;
mod carrier;
mod codec;
mod cost;
mod dial;
#[cfg(test)]
mod faults;
mod frame;
mod line;
mod pace;
mod plan;
mod quarantine;
mod stream;
mod survey;
mod tcp;
mod timer;
mod wire;
mod write;

pub use cost::Cost;
pub use line::LineCounters;
pub use survey::{Identity, MAX_BITS, MAX_REGISTERS};

use answer::Question;
use bus::{Access, Bus};
use dial::Dial;
use pace::Pace;

#[cfg(test)]
mod tests;

/// First wait before a busy device is asked again; each next is twice as long.
const BUSY: Duration = Duration::from_millis(25);

/// The device took the request and needs time for it (Modbus Application Protocol V1.1b3, 7).
const ACKNOWLEDGE: u8 = 5;
/// The device did not take the request and may be asked again.
const BUSY_NOW: u8 = 6;

/// Time for a broadcast (Modbus over Serial Line V1.02, 2.4.1: 100 to 200 ms).
const TURNAROUND: Duration = Duration::from_millis(100);

/// A Modbus link.
pub struct Modbus {
    way: Way,
    turnaround: Duration,
    refusals: write::Refusals,
    planner: plan::Planner,
}

enum Way {
    Tcp(tcp::Tcp),
    Bus(Bus),
}

impl Way {
    /// What a request may need beside its own rest and the time of its unit.
    fn overhead(&self) -> Duration {
        match self {
            Self::Tcp(tcp) => tcp.overhead(),
            Self::Bus(bus) => bus.overhead(),
        }
    }
}

/// Where a Modbus link leads and what rests it needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How requests become bytes; [`Framing::Tcp`] needs [`Medium::Tcp`].
    pub framing: Framing,
    /// What carries them.
    pub medium: Medium,
    /// Host and port tried when nobody answers at the first.
    pub backup: Option<(String, u16)>,
    /// A fresh connection or port is left alone so long.
    pub pause_after_connect: Duration,
    /// So long nothing is sent after a broadcast.
    pub turnaround: Duration,
}

impl Modbus {
    /// A link that opens at [`Driver::open`]; a connection is made again by itself.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { framing, medium, backup, pause_after_connect, turnaround } = settings;
        let pace = Pace::new(pause_after_connect);
        let planner = plan::Planner::new(Cost::new(framing, &medium));
        let is_ascii = framing == Framing::Ascii;
        let way = match medium {
            Medium::Tcp { host, port } => {
                let dial = Dial::new((host, port), backup);
                match framing {
                    Framing::Tcp => Way::Tcp(tcp::Tcp::new(dial, pace)),
                    Framing::Rtu | Framing::Ascii => Way::Bus(Bus::new(Access::Server(dial), is_ascii, pace)),
                }
            }
            Medium::Line(line) => Way::Bus(Bus::new(Access::Serial(line), is_ascii, pace)),
        };
        Self { way, turnaround, refusals: write::Refusals::default(), planner }
    }

    /// A link to a Modbus TCP server, without rests.
    #[must_use]
    pub fn tcp(host: String, port: u16) -> Self {
        Self::plain(Framing::Tcp, Medium::Tcp { host, port })
    }

    /// A link to the RTU units on a serial line, without rests.
    #[must_use]
    pub fn rtu(line: SerialLine) -> Self {
        Self::plain(Framing::Rtu, Medium::Line(line))
    }

    fn plain(framing: Framing, medium: Medium) -> Self {
        let (pause_after_connect, turnaround) = (Duration::ZERO, TURNAROUND);
        Self::new(Settings { framing, medium, backup: None, pause_after_connect, turnaround })
    }

    /// What the bus brought that was not believed; `None` for Modbus TCP.
    #[must_use]
    pub fn counters(&self) -> Option<LineCounters> {
        match &self.way {
            Way::Tcp(_) => None,
            Way::Bus(bus) => Some(bus.counters()),
        }
    }

    /// Asks a device. `place`: what the request reads or writes, first and count.
    async fn ask(
        &mut self,
        device: &Device,
        request: &Command<'_>,
        place: (u16, u16),
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let Protocol::Modbus { unit, .. } = device.protocol else {
            return Err(foreign());
        };
        let (pause, patience) = (device.pause, device.patience);
        self.put(Question { unit, request, place, pause, patience }, deadline).await
    }

    /// Puts a question, again while the unit is busy.
    async fn put(&mut self, question: Question<'_>, deadline: Instant) -> Result<Response, DriverError> {
        let mut wait = BUSY;
        let mut busy_until = None;
        loop {
            let result = match &mut self.way {
                Way::Tcp(tcp) => tcp.ask(question, deadline).await,
                Way::Bus(bus) => bus.ask(question, deadline).await,
            };
            let again = match result {
                Err(DriverError::Refused(BUSY_NOW)) => Instant::now() + wait,
                // A write that was acknowledged is under way; sent again, it would be done twice.
                Err(DriverError::Refused(ACKNOWLEDGE)) if answer::is_read(question.request) => {
                    Instant::now() + wait
                }
                result => return result,
            };
            // Its own time, and not what the line and the rests are allowed besides.
            let until = *busy_until.get_or_insert_with(|| Instant::now() + question.patience);
            if again >= deadline.min(until) {
                return result;
            }
            sleep_until(again).await;
            wait *= 2;
        }
    }

    async fn read(
        &mut self,
        device: &Device,
        function: u8,
        (start, count): (u16, u16),
        deadline: Instant,
    ) -> Result<Answer, DriverError> {
        let request = answer::read(function, start, count).ok_or_else(foreign)?;
        let response = self.ask(device, &request, (start, count), deadline).await?;
        Answer::of(response).ok_or_else(foreign)
    }
}

/// What a read brought, its size checked.
enum Answer {
    Bits(Vec<bool>),
    Words(Vec<u16>),
}

impl Answer {
    /// `None`: it is not one to a read.
    fn of(response: Response) -> Option<Self> {
        match response {
            Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => Some(Self::Bits(bits)),
            Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
                Some(Self::Words(words))
            }
            _ => None,
        }
    }

    /// The raw data of a point, from an answer that begins at place `start`.
    fn raw(&self, point: &Point, start: u16) -> Option<Raw> {
        let Address::Register { number, .. } = point.address else {
            return None;
        };
        let offset = usize::from(number.checked_sub(start)?);
        match self {
            Self::Bits(bits) => bits.get(offset).copied().map(Raw::Bit),
            Self::Words(words) => {
                let end = offset + usize::from(point.kind.registers());
                words.get(offset..end).map(|words| Raw::Words(SmallVec::from_slice(words)))
            }
        }
    }
}

#[async_trait(?Send)]
impl Driver for Modbus {
    async fn open(&mut self, deadline: Instant) -> Result<(), DriverError> {
        self.refusals.clear();
        match &mut self.way {
            Way::Tcp(tcp) => tcp.open(deadline).await,
            Way::Bus(bus) => bus.open(deadline).await,
        }
    }

    fn backup(&self) -> Option<String> {
        match &self.way {
            Way::Tcp(tcp) => tcp.backup(),
            Way::Bus(bus) => bus.backup(),
        }
    }

    fn overhead(&self, device: &Device) -> Duration {
        device.pause + self.way.overhead()
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        // Nobody answers to all.
        if device.is_broadcast() { Vec::new() } else { self.planner.plan(device, due) }
    }

    fn refused(&self, device: &Arc<Device>, due: &[usize]) -> Vec<Sample> {
        self.planner.refused(device, due)
    }

    fn split(&mut self, request: &Request, exception: u8) -> Vec<Request> {
        match exception {
            // Wrong place, or wrong number of places.
            2 | 3 => self.planner.split(request, exception),
            _ => Vec::new(),
        }
    }

    fn learnt(&mut self, device: &Device) -> Option<Learnt> {
        self.planner.learnt(device)
    }

    fn recall(&mut self, device: &Device, kept: &[u8]) {
        self.planner.recall(device, kept);
    }

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let Request { device, points, span } = request;
        let answer = self.read(device, span.area, (span.start, span.count), deadline).await?;
        self.planner.answered(device, *span);
        let sample = |&index: &usize| {
            let raw = device.points.get(index).and_then(|point| answer.raw(point, span.start));
            // Only a request that was not made by `plan` can miss its points.
            Sample { point: index, raw: raw.ok_or(Reason::Malformed) }
        };
        Ok(points.iter().map(sample).collect())
    }

    async fn write(
        &mut self,
        device: &Arc<Device>,
        point: usize,
        raw: &Raw,
        deadline: Instant,
    ) -> Result<Raw, DriverError> {
        let point = device.points.get(point).ok_or_else(foreign)?;
        write::write(self, device, point, raw, deadline).await
    }
}

fn foreign() -> DriverError {
    DriverError::Malformed("this is no point of a Modbus device".to_owned())
}
