//! The two framings of a bus behind one face: frames go in and out in their RTU form.

use super::answer::Shape;
use super::frame::Frame;
use super::{ascii, frame};

/// Finds frames in what comes, and makes bytes of what goes out.
#[derive(Debug)]
pub(super) enum Codec {
    /// Binary with a CRC.
    Rtu(frame::Frames),
    /// Hexadecimal with an LRC.
    Ascii(ascii::Frames),
}

impl Codec {
    /// What goes on the line for a request in RTU form.
    pub(super) fn encode(&self, rtu: &[u8]) -> Vec<u8> {
        match self {
            Self::Rtu(_) => rtu.to_vec(),
            Self::Ascii(_) => ascii::encode(rtu),
        }
    }

    /// How many more bytes may be pushed; never zero after [`Codec::next`] gave `None`.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Rtu(frames) => frames.room(),
            Self::Ascii(frames) => frames.room(),
        }
    }

    /// Bytes that are part of no frame yet.
    pub(super) fn rest(&self) -> usize {
        match self {
            Self::Rtu(frames) => frames.rest(),
            Self::Ascii(frames) => frames.rest(),
        }
    }

    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Rtu(frames) => frames.push(bytes),
            Self::Ascii(frames) => frames.push(bytes),
        }
    }

    /// Forgets all and says how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        match self {
            Self::Rtu(frames) => frames.clear(),
            Self::Ascii(frames) => frames.clear(),
        }
    }

    /// The next good frame, and how many bytes before it were none. `awaited` knows the shapes somebody
    /// waits for; a framing that marks the begin of a frame has no need of it.
    pub(super) fn next(&mut self, awaited: impl Fn(Shape) -> bool) -> (usize, Option<Frame>) {
        match self {
            Self::Rtu(frames) => frames.next(awaited),
            Self::Ascii(frames) => frames.next(),
        }
    }
}
