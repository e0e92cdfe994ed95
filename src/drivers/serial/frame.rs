//! Bytes to frames.

use crate::config::{Frame, LONGEST_FRAME, Shape};

mod step;
#[cfg(test)]
mod tests;
mod wrap;

use step::Step;
pub use wrap::wrap;

/// Longest frame, marks apart.
const LIMIT: usize = LONGEST_FRAME as usize;

/// Cuts a stream of bytes into frames; the same bytes give the same frames however they arrive.
///
/// At most a longest frame with its marks is kept. What is too long or damaged is dropped and counted, and the
/// next frame begins where the shape says: at a start mark, after an end mark, after a silence, or, with a
/// checksum of two bytes, wherever one fits.
#[derive(Debug)]
pub(super) struct Frames {
    frame: Frame,
    /// What came since the last frame.
    buffer: Vec<u8>,
    /// What comes is amid something, until a mark or a silence.
    skipping: bool,
    /// Before this byte of the buffer the line was silent: here a frame may begin, or only have paused.
    pause: Option<usize>,
    /// Frames dropped for their length.
    pub(super) too_long: u64,
    /// Frames dropped for their checksum.
    pub(super) damaged: u64,
}

impl Frames {
    pub(super) fn new(frame: Frame) -> Self {
        Self { frame, buffer: Vec::new(), skipping: false, pause: None, too_long: 0, damaged: 0 }
    }

    /// Forgets what has begun; the next byte begins a frame.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        (self.skipping, self.pause) = (false, None);
    }

    /// Forgets what has begun; the next byte is amid something.
    pub(super) fn skip(&mut self) {
        self.buffer.clear();
        (self.skipping, self.pause) = (!self.is_searchable(), None);
    }

    /// A silence of the line says more about these frames than their bytes do.
    pub(super) fn needs_silence(&self) -> bool {
        !matches!(self.frame.shape, Shape::Marks { .. })
    }

    /// Nothing in a frame says that it is one.
    pub(super) fn is_blind(&self) -> bool {
        let ends_in_silence = matches!(self.frame.shape, Shape::Silence(_));
        !ends_in_silence && !self.frame.shape.is_marked() && self.frame.checksum.is_none()
    }

    /// A silence would say something new: bytes came since the last one, or the next byte is amid something.
    pub(super) fn is_amid(&self) -> bool {
        self.skipping || (!self.buffer.is_empty() && self.pause != Some(self.buffer.len()))
    }

    /// The line was silent, which ends a frame of that shape. One of another shape may have paused; when that
    /// happens again, what came between the two is looked at by itself.
    pub(super) fn silence(&mut self) -> Vec<Vec<u8>> {
        let was_skipping = std::mem::take(&mut self.skipping);
        if matches!(self.frame.shape, Shape::Silence(_)) {
            let mut frame = std::mem::take(&mut self.buffer);
            if was_skipping || frame.is_empty() {
                return Vec::new();
            }
            let Some(to) = self.content_end(&frame, frame.len()) else {
                self.damaged += 1;
                return Vec::new();
            };
            frame.truncate(to);
            return vec![frame];
        }
        let mut frames = Vec::new();
        if let Some(pause) = self.pause.take().filter(|pause| *pause < self.buffer.len()) {
            self.buffer.drain(..pause);
            self.cut(&mut frames);
        }
        self.pause = Some(self.buffer.len()).filter(|end| *end > 0);
        frames
    }

    /// The frames that these bytes complete: what is decoded of them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        // In pieces, so that the buffer never grows beyond two longest frames.
        for piece in bytes.chunks(LIMIT) {
            self.buffer.extend_from_slice(piece);
            self.cut(&mut frames);
        }
        frames
    }

    /// Takes from the front of the buffer what it is sure about.
    fn cut(&mut self, frames: &mut Vec<Vec<u8>>) {
        let mut front = 0;
        loop {
            let rest = self.buffer.get(front..).unwrap_or_default();
            let step = if self.skipping { self.skip_step(rest) } else { self.step(rest) };
            // Where a new frame may have begun.
            let pause = self.pause.filter(|pause| *pause > front);
            match step {
                Step::More => break,
                Step::Drop(count) => front += count,
                Step::TooLong(count) => {
                    self.too_long += 1;
                    front += count;
                    self.skipping = !self.is_searchable();
                }
                Step::Damaged(count) => {
                    self.damaged += 1;
                    // After an end mark the next frame begins.
                    let is_lost = self.needs_silence() && !self.is_searchable();
                    let begun = pause.filter(|_| is_lost);
                    front = begun.unwrap_or(front + count);
                    self.skipping = is_lost && begun.is_none();
                }
                Step::Frame { total, .. }
                    if self.is_blind() && pause.is_some_and(|pause| pause < front + total) =>
                {
                    // Nothing tells whether it paused or lost its end.
                    self.damaged += 1;
                    front = pause.unwrap_or(front + total);
                }
                Step::Frame { total, from, to } => {
                    if !std::mem::take(&mut self.skipping) {
                        frames.push(rest.get(from..to).unwrap_or_default().to_vec());
                    }
                    front += total;
                }
            }
        }
        self.buffer.drain(..front);
        self.pause = self.pause.and_then(|pause| pause.checked_sub(front)).filter(|pause| *pause > 0);
    }
}
