//! Finds frames in the bytes of a serial line (Modbus over Serial Line V1.02, 2.5.1).

use crc::{CRC_16_MODBUS, Crc};

use super::answer::Shape;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Most bytes kept while no frame is found: a largest frame (256 bytes) after as much garbage.
const KEPT: usize = 512;

/// A frame with a good CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Unit, function, the bytes after it, CRC.
    pub bytes: Vec<u8>,
    /// Its shape; an exception has the function it refuses.
    pub shape: Shape,
    /// It is an exception.
    pub exception: bool,
}

/// Bytes that came and are not yet a frame.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// How many more bytes may be pushed; never zero after [`Frames::next`] gave `None`.
    pub(super) fn room(&self) -> usize {
        KEPT.saturating_sub(self.bytes.len())
    }

    /// Bytes that are part of no frame yet.
    pub(super) fn rest(&self) -> usize {
        self.bytes.len()
    }

    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets all and says how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        let rest = self.bytes.len();
        self.bytes.clear();
        rest
    }

    /// The next frame with a good CRC, and how many bytes before it were none.
    ///
    /// `awaited` knows the shapes somebody waits for. Where the head of such an answer stands, what follows
    /// is left alone until it is whole: registers may hold anything, even bytes that look like a frame.
    pub(super) fn next(&mut self, awaited: impl Fn(Shape) -> bool) -> (usize, Option<Frame>) {
        for start in 0..self.bytes.len() {
            let Some(tail) = self.bytes.get(start..) else {
                break;
            };
            let Some((length, shape)) = head(tail) else {
                continue;
            };
            let Some(whole) = tail.get(..length) else {
                if awaited(shape) {
                    break;
                }
                continue;
            };
            #[cfg(feature = "mutant")]
            let whole = if crate::mutant::is("no-crc") {
                &seal(whole.get(..length - 2).unwrap_or_default())
            } else {
                whole
            };
            // The CRC of a frame with its own CRC behind it is zero.
            if CRC.checksum(whole) == 0 {
                let frame = Frame {
                    bytes: whole.to_vec(),
                    shape,
                    exception: tail.get(1).is_some_and(|function| function & 0x80 != 0),
                };
                self.bytes.drain(..start + length);
                return (start, Some(frame));
            }
        }
        // A frame still to come needs at most 256 of the newest bytes.
        let surplus = self.bytes.len().saturating_sub(KEPT / 2);
        self.bytes.drain(..surplus);
        (surplus, None)
    }
}

/// The length, CRC included, and shape of the answer that begins here, once enough of it is there to tell.
pub(super) fn head(bytes: &[u8]) -> Option<(usize, Shape)> {
    let [unit, function, rest @ ..] = bytes else {
        return None;
    };
    let count = match function {
        // No request has an answer of more than 250 bytes of data.
        1..=4 | 23 => rest.first().filter(|count| **count <= 250)? + 1,
        5 | 6 | 15 | 16 => 4,
        22 => 6,
        0x81..=0x86 | 0x8F | 0x90 | 0x96 | 0x97 => 1,
        _ => return None,
    };
    let shape = Shape { unit: *unit, function: function & 0x7F, bytes: count };
    Some((usize::from(count) + 4, shape))
}

/// The bytes with their CRC behind them.
pub(super) fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    frame.extend_from_slice(&CRC.checksum(bytes).to_le_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none(_: Shape) -> bool {
        false
    }

    #[test]
    fn the_crc_is_the_one_of_the_specification() {
        // Modbus over Serial Line V1.02, appendix B: low byte first. 02 07 gives 41 12.
        assert_eq!(seal(&[0x02, 0x07]), [0x02, 0x07, 0x41, 0x12]);
    }

    #[test]
    fn a_frame_is_found_between_garbage() {
        let frame = seal(&[9, 3, 2, 0x12, 0x34]);
        let mut frames = Frames::default();
        frames.push(&[0xFF, 0x00, 0x09]);
        frames.push(&frame);
        frames.push(&[0x55]);
        let (garbage, found) = frames.next(none);
        let found = found.unwrap();
        assert_eq!((garbage, &found.bytes), (3, &frame));
        let shape = Shape { unit: 9, function: 3, bytes: 3 };
        assert_eq!((found.shape, found.exception), (shape, false));
        assert_eq!(frames.next(none), (0, None));
        assert_eq!(frames.rest(), 1);
    }

    #[test]
    fn a_frame_inside_an_awaited_one_is_no_frame() {
        let inner = seal(&[1, 3, 2, 0, 7]);
        let mut outer = vec![1, 3, 8];
        outer.extend_from_slice(&inner);
        outer.push(0);
        let outer = seal(&outer);
        let awaited = |shape: Shape| shape.bytes == 9;
        let mut frames = Frames::default();
        for byte in &outer[..outer.len() - 1] {
            frames.push(&[*byte]);
            assert_eq!(frames.next(awaited), (0, None));
        }
        frames.push(&outer[outer.len() - 1..]);
        assert_eq!(frames.next(awaited).1.unwrap().bytes, outer);
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_frames(
            data in prop::collection::vec(any::<u8>(), 1..=250),
            cuts in prop::collection::vec(1_usize..20, 1..40),
        ) {
            let mut bytes = vec![5, 4, u8::try_from(data.len()).unwrap()];
            bytes.extend_from_slice(&data);
            let frame = seal(&bytes);
            let shape = Shape { unit: 5, function: 4, bytes: u8::try_from(data.len()).unwrap() + 1 };
            let mut frames = Frames::default();
            let mut at = 0;
            let mut found = Vec::new();
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(frame.len());
                frames.push(&frame[at..end]);
                at = end;
                while let (_, Some(frame)) = frames.next(|awaited| awaited == shape) {
                    found.push(frame);
                }
                if at == frame.len() {
                    break;
                }
            }
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].bytes, &frame);
        }

        #[test]
        fn garbage_is_bounded_and_never_a_frame_without_its_crc(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..256), 0..20),
        ) {
            let mut frames = Frames::default();
            let mut gone = 0;
            let mut pushed = 0;
            for chunk in chunks {
                let chunk = &chunk[..chunk.len().min(frames.room())];
                pushed += chunk.len();
                frames.push(chunk);
                loop {
                    let (garbage, frame) = frames.next(|_| true);
                    gone += garbage;
                    let Some(frame) = frame else { break };
                    gone += frame.bytes.len();
                    prop_assert_eq!(seal(&frame.bytes[..frame.bytes.len() - 2]), frame.bytes);
                }
                prop_assert!(frames.rest() <= KEPT / 2 && frames.room() > 0);
            }
            prop_assert_eq!(gone + frames.rest(), pushed);
        }
    }
}
