//! How long a request and its answer keep a link busy, reckoned from its settings.

use std::time::Duration;

use super::wire::Wire;
use crate::config::{Framing, LinkConfig, Medium, SerialLine, Transport};
use crate::drivers::Request;
use crate::point::{Device, Protocol};

/// Bytes of a read: function, place and count. Those of its answer without the data: function and count of bytes.
const READ: (u32, u32) = (5, 2);

/// A byte of data over TCP. Not the network's time but that of a small device or of a gateway behind which a
/// line lies. With the default `answer_time` a request costs as much as 125 registers: what fits is read together.
const TCP_BYTE: Duration = Duration::from_micros(20);

/// What requests cost on a Modbus link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of a request and an answer without data, the device's rest and its time to answer apart.
    overhead: Duration,
    /// Of a byte of data.
    byte: Duration,
}

impl Cost {
    /// The costs on a link; `None` where it does not speak Modbus.
    #[must_use]
    pub fn of(link: &LinkConfig) -> Option<Self> {
        match &link.transport {
            Transport::Modbus { framing, medium, .. } => Some(Self::new(*framing, medium)),
            _ => None,
        }
    }

    /// The costs of frames on a medium.
    pub(super) fn new(framing: Framing, medium: &Medium) -> Self {
        match medium {
            Medium::Tcp { .. } => Self::tcp(),
            Medium::Line(line) => Self::line(line, framing),
        }
    }

    /// Over TCP: nothing but the device's time to answer counts.
    pub(super) fn tcp() -> Self {
        Self { overhead: Duration::ZERO, byte: TCP_BYTE }
    }

    /// On a serial line.
    pub(super) fn line(line: &SerialLine, framing: Framing) -> Self {
        let wire = Wire::line(line, framing);
        Self { overhead: wire.time(READ.0, READ.1), byte: wire.byte() }
    }

    /// The time of a whole request: with the device's time to answer, and with its data.
    #[must_use]
    pub fn time(&self, request: &Request) -> Duration {
        let count = u32::from(request.span.count);
        let bytes = if request.span.area <= 2 { count.div_ceil(8) } else { count * 2 };
        self.request(&request.device) + self.byte * bytes
    }

    /// The time of a request without data.
    pub(super) fn request(&self, device: &Device) -> Duration {
        let answer_time = match &device.protocol {
            Protocol::Modbus { reads, .. } => reads.answer_time,
            _ => Duration::ZERO,
        };
        self.overhead + device.pause + answer_time
    }

    /// The time of one place: a register, or a single bit.
    pub(super) fn place(&self, is_bit: bool) -> Duration {
        if is_bit { self.byte / 8 } else { self.byte * 2 }
    }
}
