//! The request that is out on a bus, and what came of it so far.

use super::answer::Shape;
use crate::drivers::DriverError;

/// The request that is out.
#[derive(Default)]
pub(super) struct Asked {
    /// What its answer looks like; nothing for a broadcast, which has none.
    pub(super) shape: Option<Shape>,
    /// Its answer is used by nobody.
    pub(super) probe: bool,
    /// The line was quiet and drained.
    pub(super) settled: bool,
    /// What goes out, and how much of it has.
    pub(super) outgoing: Vec<u8>,
    pub(super) sent: usize,
    /// What a confirmation repeats: unit, function, place, value or count.
    pub(super) head: Vec<u8>,
    /// The answer, and how much of it tokio-modbus has.
    pub(super) answer: Option<(Vec<u8>, usize)>,
    /// Why there will be none.
    pub(super) verdict: Option<DriverError>,
    /// The worst that came besides.
    pub(super) came: Came,
}

impl Asked {
    pub(super) fn new(shape: Option<Shape>, probe: bool) -> Self {
        Self { shape, probe, ..Self::default() }
    }

    /// Every byte is on its way.
    pub(super) fn is_sent(&self) -> bool {
        self.sent > 0 && self.sent >= self.outgoing.len()
    }

    /// A confirmed write repeats its head.
    pub(super) fn is_echoed(&self, frame: &[u8]) -> bool {
        !self.head.is_empty() && frame.get(..self.head.len()) == Some(self.head.as_slice())
    }

    /// The request itself came back.
    pub(super) fn is_request(&self, frame: &[u8]) -> bool {
        self.is_echoed(frame) && frame.len() == self.head.len() + 2
    }

    /// How much of a request its confirmation repeats (Modbus Application Protocol V1.1b3, 6.5 to 6.16).
    pub(super) fn head_of(request: &[u8]) -> Vec<u8> {
        let length = if request.get(1) == Some(&22) { 8 } else { 6 };
        request.get(..length).unwrap_or_default().to_vec()
    }
}

/// What came on the line, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    #[default]
    Nothing,
    /// Bytes that may still become a frame, and late answers.
    Something,
    /// Neither.
    Damage,
}
