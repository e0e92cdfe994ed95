//! The request that is out on a bus, and what came of it so far.

use super::answer::Shape;
#[cfg(feature = "mutant")]
use super::frame::Frame;
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

    /// The frame as a driver takes it that does not look at unit, function or echo.
    #[cfg(feature = "mutant")]
    pub(super) fn mistaken(&self, mut frame: Frame, newest: Option<Shape>) -> Frame {
        use crate::mutant::is;
        let Some(awaited) = newest else { return frame };
        let mut bytes = frame.bytes.get(..frame.bytes.len() - 2).unwrap_or_default().to_vec();
        if is("no-unit") {
            frame.shape.unit = awaited.unit;
        }
        if is("no-function") {
            frame.shape.function = awaited.function;
        }
        if let Some(head) = bytes.first_chunk_mut::<2>() {
            *head = [frame.shape.unit, frame.shape.function | if frame.exception { 0x80 } else { 0 }];
        }
        if is("no-echo") && frame.shape == awaited && awaited.is_confirmation() && !frame.exception {
            bytes.clone_from(&self.head);
        }
        frame.bytes = super::frame::seal(&bytes);
        frame
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
