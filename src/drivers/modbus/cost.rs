//! How long a request and its answer keep a link busy, reckoned from its settings.

use std::time::Duration;

use crate::config::{Framing, LinkConfig, Medium, SerialLine, Transport};
use crate::drivers::Request;
use crate::point::{Device, Protocol};

/// Bytes of an RTU read and of its answer without the data (Modbus over Serial Line V1.02, 2.5.1).
const RTU_BYTES: u32 = 8 + 5;

/// The same as ASCII: two characters a byte, a shorter check, and three characters around each frame (2.5.2).
const ASCII_BYTES: u32 = 17 + 11;

/// A byte of data over TCP. Not the network's time but that of a small device or of a gateway behind which a
/// line lies. With the default `answer_time` a request costs as much as 125 registers: what fits is read together.
const TCP_BYTE: Duration = Duration::from_micros(20);

/// Above this rate the silence has a fixed length (Modbus over Serial Line V1.02, 2.5.1.1).
const FAST: u32 = 19_200;

/// Silence between frames above [`FAST`].
const FAST_GAP: Duration = Duration::from_micros(1_750);

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
        let character = line.character_time();
        match framing {
            // The marks of its frames need no silence; the one before the request is kept all the same.
            Framing::Ascii => Self { overhead: character * ASCII_BYTES + silence(line), byte: character * 2 },
            // Before the request and before its answer the line is silent.
            Framing::Tcp | Framing::Rtu => {
                Self { overhead: character * RTU_BYTES + silence(line) * 2, byte: character }
            }
        }
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

fn silence(line: &SerialLine) -> Duration {
    if line.baud_rate > FAST { FAST_GAP } else { line.character_time() * 7 / 2 }
}
