//! How long a request and its answer keep a line of text devices busy, reckoned from its settings.

use std::fmt;
use std::time::Duration;

use super::GLANCE;
use crate::config::{Frame, LONGEST_FRAME, LinkConfig, SerialLine, Shape, Transport};
use crate::drivers::Request;
use crate::point::Protocol;

/// Bytes of an answer, its marks and checksum apart, where nothing says how many: a line on the display of a scale.
const ASSUMED: usize = 32;

/// What requests cost on a line of text devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    character: Duration,
    answer: Length,
    /// The silence by which an answer is known to be over.
    silence: Duration,
}

/// How many bytes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// Always so many.
    Fixed(usize),
    /// Its own count cannot say more.
    Most(usize),
    /// Nobody knows.
    Assumed(usize),
}

impl Cost {
    /// The costs on a link; `None` where its driver is not `serial`.
    #[must_use]
    pub fn of(link: &LinkConfig) -> Option<Self> {
        match &link.transport {
            Transport::Serial { line, frame, .. } => Some(Self::line(line, frame)),
            _ => None,
        }
    }

    fn line(line: &SerialLine, frame: &Frame) -> Self {
        let silence = match frame.shape {
            Shape::Silence(silence) => silence,
            _ => Duration::ZERO,
        };
        Self { character: line.character_time(), answer: length(frame), silence }
    }

    /// The time of a request and its answer, which is taken to come at once; nothing for a device that talks by itself.
    #[must_use]
    pub fn time(&self, request: &Request) -> Duration {
        let Protocol::Text { request: Some(asked), .. } = &request.device.protocol else {
            return Duration::ZERO;
        };
        let (Length::Fixed(answer) | Length::Most(answer) | Length::Assumed(answer)) = self.answer;
        let bytes = u32::try_from(asked.len() + answer).unwrap_or(u32::MAX);
        GLANCE + self.character * bytes + self.silence + request.device.pause
    }
}

/// For people: what is taken for the length of an answer.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answer {
            Length::Fixed(bytes) => write!(f, "answers of {bytes} bytes"),
            Length::Most(bytes) => write!(f, "answers of at most {bytes} bytes"),
            Length::Assumed(bytes) => write!(f, "answers assumed to have {bytes} bytes"),
        }
    }
}

fn length(frame: &Frame) -> Length {
    let sum = frame.checksum.as_ref().map_or(0, |sum| sum.width() + sum.mark.len());
    match &frame.shape {
        Shape::Length { length, .. } => Length::Fixed(usize::from(*length)),
        Shape::Counted { at, size: 1, adds, .. } => {
            let whole = i32::from(*at) + 1 + i32::from(u8::MAX) + adds;
            Length::Most(usize::try_from(whole).unwrap_or(0).clamp(1, usize::from(LONGEST_FRAME)))
        }
        // A count of two bytes could say 65,535, which bounds nothing.
        Shape::Counted { at, size, .. } => {
            Length::Assumed(usize::from(*at) + usize::from(*size) + ASSUMED + sum)
        }
        Shape::Marks { start, end } => Length::Assumed(start.len() + ASSUMED + sum + end.len()),
        Shape::Silence(_) => Length::Assumed(ASSUMED + sum),
    }
}
