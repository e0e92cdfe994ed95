//! How long frames are on a serial line: what `check` reckons with, and what the answer to a request gets beside the
//! time that its unit may take.

use std::time::Duration;

use crate::config::{Framing, SerialLine};

/// Above this rate the silence has a fixed length (Modbus over Serial Line V1.02, 2.5.1.1).
const FAST: u32 = 19_200;

/// Silence between frames above [`FAST`].
const FAST_GAP: Duration = Duration::from_micros(1_750);

/// Unit and CRC of an RTU frame (Modbus over Serial Line V1.02, 2.5.1).
const RTU_AROUND: u32 = 1 + 2;

/// The same as ASCII: two characters a byte, a shorter check, and three characters around each frame (2.5.2).
const ASCII_AROUND: u32 = 2 + 2 + 3;

/// Most bytes of function code and data (Modbus Application Protocol V1.1b3, 4.1).
const LONGEST: u32 = 253;

/// What frames take on a line. Sizes are bytes of function code and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    character: Duration,
    /// Characters of a frame beside its function code and data.
    around: u32,
    /// Characters of a byte.
    byte: u32,
    /// Kept in each request and answer.
    silence: Duration,
}

impl Wire {
    /// A connection: what it takes is the network's affair, and what lies behind a serial server nobody says.
    pub(super) fn none() -> Self {
        Self { character: Duration::ZERO, around: 0, byte: 0, silence: Duration::ZERO }
    }

    /// A serial line.
    pub(super) fn line(line: &SerialLine, framing: Framing) -> Self {
        let (around, byte, silences) = match framing {
            // The marks of its frames need no silence; the one before the request is kept all the same.
            Framing::Ascii => (ASCII_AROUND, 2, 1),
            // Before the request and before its answer the line is silent.
            Framing::Tcp | Framing::Rtu => (RTU_AROUND, 1, 2),
        };
        Self { character: line.character_time(), around, byte, silence: silence(line) * silences }
    }

    /// A request and its answer.
    pub(super) fn time(&self, request: u32, answer: u32) -> Duration {
        self.character * (2 * self.around + self.byte * (request + answer)) + self.silence
    }

    /// A byte.
    pub(super) fn byte(&self) -> Duration {
        self.character * self.byte
    }

    /// The longest request and the longest answer.
    pub(super) fn longest(&self) -> Duration {
        self.time(LONGEST, LONGEST)
    }
}

/// The silence between frames.
pub(super) fn silence(line: &SerialLine) -> Duration {
    if line.baud_rate > FAST { FAST_GAP } else { line.character_time() * 7 / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_their_characters() {
        let line = SerialLine { baud_rate: 10_000, ..SerialLine::at("memory") };
        // A character is a millisecond. Eight bytes ask for 125 registers, 255 answer.
        let rtu = Wire::line(&line, Framing::Rtu).time(5, 252);
        assert_eq!(rtu, Duration::from_millis(8 + 255 + 7));
        // 17 characters and 511.
        let ascii = Wire::line(&line, Framing::Ascii).time(5, 252);
        assert_eq!(ascii, Duration::from_micros((17 + 511) * 1000 + 3500));
        let fast = SerialLine { baud_rate: 100_000, ..line };
        assert_eq!(Wire::line(&fast, Framing::Rtu).time(5, 252), Duration::from_micros(26_300 + 3_500));
        assert_eq!(Wire::none().longest(), Duration::ZERO);
    }
}
