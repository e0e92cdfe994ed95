//! Modbus TCP and Modbus RTU (Modbus Application Protocol V1.1b3).

use std::sync::Arc;

use async_trait::async_trait;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_modbus::{Request as Question, Response};

use super::{Driver, DriverError, Request};
use crate::address::{Address, Area};
use crate::config::SerialLine;
use crate::point::{Device, Point, Protocol, Raw, Reason, Sample};

mod answer;
mod frame;
mod line;
mod plan;
mod quarantine;
mod rtu;
mod stream;
mod tcp;

pub use line::LineCounters;

/// Most registers in one write (Modbus Application Protocol V1.1b3, 6.12).
const MAX_WRITTEN: usize = 123;

/// A Modbus link.
pub struct Modbus(Transport);

enum Transport {
    Tcp(tcp::Tcp),
    Rtu(rtu::Rtu),
}

impl Modbus {
    /// A link to a Modbus TCP server. Connects at [`Driver::open`], and again by itself.
    #[must_use]
    pub fn tcp(host: String, port: u16) -> Self {
        Self(Transport::Tcp(tcp::Tcp::new(host, port)))
    }

    /// A link to the units on a serial line.
    #[must_use]
    pub fn rtu(line: SerialLine) -> Self {
        Self(Transport::Rtu(rtu::Rtu::new(line)))
    }

    /// What the serial line brought that was not believed; `None` for TCP.
    #[must_use]
    pub fn counters(&self) -> Option<LineCounters> {
        match &self.0 {
            Transport::Tcp(_) => None,
            Transport::Rtu(rtu) => Some(rtu.counters()),
        }
    }

    async fn ask(
        &mut self,
        device: &Device,
        question: &Question<'_>,
        place: (u16, u16),
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let Protocol::Modbus { unit, .. } = device.protocol else {
            return Err(foreign());
        };
        match &mut self.0 {
            Transport::Tcp(tcp) => tcp.ask(unit, question, deadline).await,
            Transport::Rtu(rtu) => rtu.ask(unit, question, place, deadline).await,
        }
    }

    async fn read(
        &mut self,
        device: &Device,
        function: u8,
        (start, count): (u16, u16),
        deadline: Instant,
    ) -> Result<Answer, DriverError> {
        let question = answer::read(function, start, count).ok_or_else(foreign)?;
        match self.ask(device, &question, (start, count), deadline).await? {
            Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => Ok(Answer::Bits(bits)),
            Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
                Ok(Answer::Words(words))
            }
            _ => Err(foreign()),
        }
    }
}

/// What a read brought, its size checked.
enum Answer {
    Bits(Vec<bool>),
    Words(Vec<u16>),
}

impl Answer {
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
        match &mut self.0 {
            Transport::Tcp(tcp) => tcp.open(deadline).await,
            Transport::Rtu(rtu) => rtu.open(),
        }
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        plan::plan(device, due)
    }

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let Request { device, points, span } = request;
        let answer = self.read(device, span.area, (span.start, span.count), deadline).await?;
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
        let Address::Register { area, number, .. } = point.address else {
            return Err(foreign());
        };
        let (question, count) = match (area, raw) {
            (Area::Coil, Raw::Bit(bit)) => (Question::WriteSingleCoil(number, *bit), 1),
            (Area::Holding, Raw::Words(words)) => match words.as_slice() {
                [word] => (Question::WriteSingleRegister(number, *word), 1),
                words
                    if (2..=MAX_WRITTEN).contains(&words.len())
                        && words.len() == usize::from(point.kind.registers()) =>
                {
                    (Question::WriteMultipleRegisters(number, words.into()), point.kind.registers())
                }
                _ => return Err(unwritable(point)),
            },
            _ => return Err(unwritable(point)),
        };
        let unconfirmed = match self.ask(device, &question, (number, count), deadline).await {
            Ok(_) => None,
            Err(DriverError::Unconfirmed(text)) => Some(text),
            Err(error) => return Err(error),
        };
        let answer = self.read(device, plan::read_function(area), (number, count), deadline).await;
        if let Some(text) = unconfirmed {
            let found = answer.ok().and_then(|answer| answer.raw(point, number));
            let found = found
                .map_or("what it has now cannot be read".to_owned(), |raw| format!("it has {raw:?} now"));
            return Err(DriverError::Unconfirmed(format!("{text}; {found}")));
        }
        answer?.raw(point, number).ok_or_else(foreign)
    }
}

fn foreign() -> DriverError {
    DriverError::Malformed("this is no point of a Modbus device".to_owned())
}

fn unwritable(point: &Point) -> DriverError {
    DriverError::Malformed(format!("no Modbus write fits {} ({})", point.address, point.kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{DeviceId, Kind, LinkId, PointId};
    use std::time::Duration;

    /// A device with these points, for the tests of this folder.
    pub(super) fn device(max_registers: u16, points: Vec<Point>) -> Arc<Device> {
        Arc::new(Device {
            id: DeviceId::new("device").unwrap(),
            link: LinkId::new("link").unwrap(),
            label: None,
            tags: None,
            protocol: Protocol::Modbus { unit: 1, max_registers },
            poll_interval: Duration::from_secs(1),
            patience: Duration::from_millis(500),
            points,
        })
    }

    /// A plain point, for the tests of this folder.
    pub(super) fn point(area: Area, number: u16, kind: Kind) -> Point {
        Point {
            writable: true,
            ..Point::new(PointId::new("point").unwrap(), Address::Register { area, number, bit: None }, kind)
        }
    }

    #[test]
    fn a_point_gets_its_own_words_or_nothing() {
        let words = Answer::Words(vec![1, 2, 3]);
        let raw = |number, kind| words.raw(&point(Area::Holding, number, kind), 10);
        assert_eq!(raw(11, Kind::U32), Some(Raw::Words(SmallVec::from_slice(&[2, 3]))));
        assert_eq!(raw(12, Kind::U32), None);
        assert_eq!(raw(9, Kind::U16), None);
        let bits = Answer::Bits(vec![false, true]);
        assert_eq!(bits.raw(&point(Area::Coil, 11, Kind::Bool), 10), Some(Raw::Bit(true)));
    }
}
