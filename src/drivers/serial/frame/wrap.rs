//! Frames around what is sent.

use super::super::checksum;
use crate::config::{Frame, Shape};

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
