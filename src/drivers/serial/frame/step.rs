//! What the next bytes are: a frame, the beginning of one, or neither.

use super::super::checksum;
use super::{Frames, LIMIT};
use crate::config::Shape;

/// Bytes of a checksum that is good enough to look for a frame at every byte: it lets one wrong place of 65,536
/// pass. A checksum of one byte lets one of 256 pass.
const SEARCHABLE: usize = 2;

/// Start marks tried for one end mark: a device that sends nothing else must not hold the loop.
const MOST_STARTS: usize = 64;

/// What stands at the front of the buffer.
pub(super) enum Step {
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
    /// A frame may be looked for at every byte.
    pub(super) fn is_searchable(&self) -> bool {
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
    pub(super) fn skip_step(&self, rest: &[u8]) -> Step {
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

    pub(super) fn step(&self, rest: &[u8]) -> Step {
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
    pub(super) fn content_end(&self, frame: &[u8], end: usize) -> Option<usize> {
        let Some(sum) = &self.frame.checksum else {
            return Some(end);
        };
        let at = end.checked_sub(sum.width())?;
        checksum::is_right(sum, frame, at).then(|| at.checked_sub(sum.mark.len()))?
    }
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
