//! Bytes to frames.

use super::checksum;
use crate::config::{Frame, LONGEST_FRAME, Shape};

#[cfg(test)]
mod tests;

/// Longest frame, marks apart.
const LIMIT: usize = LONGEST_FRAME as usize;

/// Bytes of a checksum that is good enough to look for a frame at every byte: it lets one wrong place of 65,536
/// pass. A checksum of one byte lets one of 256 pass.
const SEARCHABLE: usize = 2;

/// Start marks tried for one end mark: a device that sends nothing else must not hold the loop.
const MOST_STARTS: usize = 64;

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

/// What stands at the front of the buffer.
enum Step {
    /// Nobody can say yet.
    More,
    /// So many bytes that are no part of a frame.
    Drop(usize),
    /// The same, because a frame has no end.
    TooLong(usize),
    /// The same, because of a checksum, or of a count that no frame has.
    Damaged(usize),
    /// A frame of so many bytes, of which these are decoded.
    Frame { total: usize, from: usize, to: usize },
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

    /// A frame may be looked for at every byte.
    fn is_searchable(&self) -> bool {
        match &self.frame.shape {
            Shape::Marks { start, .. } => !start.is_empty(),
            Shape::Length { start, .. } | Shape::Counted { start, .. } => {
                let bytes = self.frame.checksum.as_ref().map_or(0, |checksum| checksum.kind.bytes());
                !start.is_empty() || bytes >= SEARCHABLE
            }
            Shape::Silence(_) => false,
        }
    }

    /// Looks for the end of what the next frame comes after.
    fn skip_step(&self, rest: &[u8]) -> Step {
        let Shape::Marks { end, .. } = &self.frame.shape else {
            return if rest.is_empty() { Step::More } else { Step::Drop(rest.len()) };
        };
        match find(rest, end) {
            Some(at) => {
                let total = at + end.len() + self.behind_end();
                // Whatever it was, it is no frame: `push` does not give it out.
                if rest.len() < total { Step::More } else { Step::Frame { total, from: 0, to: 0 } }
            }
            None => drop_to_tail(rest, end),
        }
    }

    fn step(&self, rest: &[u8]) -> Step {
        let start = match &self.frame.shape {
            Shape::Marks { start, .. } | Shape::Length { start, .. } | Shape::Counted { start, .. } => start,
            Shape::Silence(_) => {
                return if rest.len() > LIMIT { Step::TooLong(rest.len()) } else { Step::More };
            }
        };
        if !start.is_empty() {
            match find(rest, start) {
                Some(0) => {}
                Some(at) => return Step::Drop(at),
                None => return drop_to_tail(rest, start),
            }
        }
        match &self.frame.shape {
            Shape::Marks { end, .. } => self.marks(rest, start, end),
            Shape::Length { length, .. } => self.counted(rest, usize::from(*length)),
            Shape::Counted { at, size, adds, little, .. } => {
                let (at, size) = (usize::from(*at), usize::from(*size));
                let Some(count) = rest.get(at..at + size) else {
                    return Step::More;
                };
                let count = count.iter().enumerate().fold(0_i64, |count, (index, byte)| {
                    let byte = i64::from(*byte);
                    if *little { count | (byte << (8 * index)) } else { (count << 8) | byte }
                });
                // The checksum never reaches back into the count.
                let least = self.frame.checksum.as_ref().map_or(0, |sum| sum.width() + sum.mark.len());
                let follow = usize::try_from(count + i64::from(*adds)).ok().filter(|follow| *follow >= least);
                self.counted(rest, follow.map_or(0, |follow| at + size + follow))
            }
            Shape::Silence(_) => Step::More,
        }
    }

    /// A frame from the start mark at the front to the next end mark.
    fn marks(&self, rest: &[u8], start: &[u8], end: &[u8]) -> Step {
        let from = start.len();
        let within = rest.get(from..).unwrap_or_default();
        let found = find(within, end).filter(|at| *at <= LIMIT);
        let Some(at) = found.map(|at| from + at) else {
            return match within.len() {
                short if short < LIMIT + end.len() => Step::More,
                _ if from == 0 => Step::TooLong(LIMIT + 1),
                // Another start mark may have come meanwhile.
                _ => Step::TooLong(1),
            };
        };
        let Some(sum) = &self.frame.checksum else {
            // What has begun again has lost its end.
            let again = rest.get(1..at).and_then(|inner| rfind(inner, start)).filter(|_| from > 0);
            return match again {
                Some(inner) => Step::Drop(inner + 1),
                None => Step::Frame { total: at + end.len(), from, to: at },
            };
        };
        // A checksum before the end mark may hold the bytes of that mark itself.
        let reach = if sum.hex || sum.after_end { 0 } else { sum.width() };
        for at in at..=at + reach {
            let Some(whole) = rest.get(..at + end.len() + self.behind_end()) else {
                return Step::More;
            };
            if whole.get(at..).is_some_and(|rest| rest.starts_with(end))
                && let Some(step) = self.begun(whole, at, start, end)
            {
                return step;
            }
        }
        Step::Damaged(if from == 0 { at + end.len() + self.behind_end() } else { at + 1 })
    }

    /// The frame that ends with the end mark at `at`: it begins with the first start mark whose checksum is right,
    /// since a mark may be noise, or a byte of the content.
    fn begun(&self, whole: &[u8], at: usize, start: &[u8], end: &[u8]) -> Option<Step> {
        let sum = self.frame.checksum.as_ref()?;
        let before = whole.get(..at)?;
        let starts: Vec<usize> = match start.len() {
            0 => vec![0],
            length => before
                .windows(length)
                .enumerate()
                .filter(|(_, part)| *part == start)
                .map(|(i, _)| i)
                .collect(),
        };
        starts.into_iter().take(MOST_STARTS).find_map(|begin| {
            let inner = whole.get(begin..)?;
            let (from, at) = (begin + start.len(), at - begin);
            let content = self.content_end(inner, if sum.after_end { inner.len() } else { at })?;
            let to = if sum.after_end { content.checked_sub(end.len())? } else { content };
            (begin + to >= from).then_some(Step::Frame { total: whole.len(), from, to: begin + to })
        })
    }

    /// A frame of so many bytes.
    fn counted(&self, rest: &[u8], total: usize) -> Step {
        let refused = if self.is_searchable() { 1 } else { rest.len() };
        if total == 0 || total > LIMIT {
            return Step::Damaged(refused);
        }
        let Some(whole) = rest.get(..total) else {
            return Step::More;
        };
        match self.content_end(whole, total) {
            Some(to) if to > 0 => Step::Frame { total, from: 0, to },
            _ => Step::Damaged(refused),
        }
    }

    /// Bytes of the checksum and its mark behind the end mark.
    fn behind_end(&self) -> usize {
        let sum = self.frame.checksum.as_ref().filter(|sum| sum.after_end);
        sum.map_or(0, |sum| sum.width() + sum.mark.len())
    }

    /// Where the content ends in a frame whose checksum, if it has one, ends at `end`; `None` when that is wrong.
    fn content_end(&self, frame: &[u8], end: usize) -> Option<usize> {
        let Some(sum) = &self.frame.checksum else {
            return Some(end);
        };
        let at = end.checked_sub(sum.width())?;
        checksum::is_right(sum, frame, at).then(|| at.checked_sub(sum.mark.len()))?
    }
}

/// The content with its marks, its count and its checksum, as a device sends it. The count and the start mark of
/// a frame that is known by its length stand in the content; the count is put right.
#[must_use]
pub fn wrap(frame: &Frame, content: &[u8]) -> Vec<u8> {
    let (start, end) = match &frame.shape {
        Shape::Marks { start, end } => (start.as_slice(), end.as_slice()),
        _ => (&[][..], &[][..]),
    };
    let sum = frame.checksum.as_ref();
    let mut whole = [start, content].concat();
    let behind = sum.map_or(0, |sum| sum.width() + sum.mark.len());
    if let Shape::Counted { at, size, adds, little, .. } = &frame.shape {
        let (at, size) = (usize::from(*at), usize::from(*size));
        let follow = i64::try_from((whole.len() + behind).saturating_sub(at + size)).unwrap_or(0);
        let count = (follow - i64::from(*adds)).to_be_bytes();
        let mut count = count.get(count.len() - size..).unwrap_or_default().to_vec();
        if *little {
            count.reverse();
        }
        for (place, byte) in whole.iter_mut().skip(at).zip(count) {
            *place = byte;
        }
    }
    let Some(sum) = sum else {
        return [&whole, end].concat();
    };
    if sum.after_end {
        whole.extend_from_slice(end);
    }
    let covered = whole.get(usize::from(sum.from)..).unwrap_or_default();
    let digits = checksum::over(sum, covered);
    whole.extend_from_slice(&sum.mark);
    whole.extend_from_slice(&digits);
    if !sum.after_end {
        whole.extend_from_slice(end);
    }
    whole
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len().max(1)).position(|part| part == mark)
}

fn rfind(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len().max(1)).rposition(|part| part == mark)
}

/// Keeps as much as the mark may have begun with.
fn drop_to_tail(rest: &[u8], mark: &[u8]) -> Step {
    match rest.len().saturating_sub(mark.len().saturating_sub(1)) {
        0 => Step::More,
        surplus => Step::Drop(surplus),
    }
}
