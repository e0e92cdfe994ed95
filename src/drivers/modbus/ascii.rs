//! Frames in hexadecimal (Modbus over Serial Line V1.02, 2.5.2): `:`, two characters a byte, an LRC, CR LF.

use super::frame::{Frame, head, seal};

/// Most characters of a frame: 254 bytes with their LRC, `:`, CR and LF.
const LONGEST: usize = 513;

/// Most characters kept while no frame is found: a largest frame and as much as is read at once.
const KEPT: usize = 1024;

/// Characters that came and are not yet a frame.
#[derive(Debug, Default)]
pub(super) struct Frames {
    text: Vec<u8>,
}

impl Frames {
    /// How many more characters may be pushed; never zero after [`Frames::next`] gave `None`.
    pub(super) fn room(&self) -> usize {
        KEPT.saturating_sub(self.text.len())
    }

    /// Characters that are part of no frame yet.
    pub(super) fn rest(&self) -> usize {
        self.text.len()
    }

    /// Takes characters as they come.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Forgets all and says how many characters that were.
    pub(super) fn clear(&mut self) -> usize {
        let rest = self.text.len();
        self.text.clear();
        rest
    }

    /// The next frame with a good LRC, in its RTU form, and how many characters before it were none.
    pub(super) fn next(&mut self) -> (usize, Option<Frame>) {
        let mut garbage = 0;
        loop {
            let start = self.text.iter().position(|c| *c == b':').unwrap_or(self.text.len());
            garbage += start;
            self.text.drain(..start);
            // A colon begins a frame wherever it stands: the one before it lost its end.
            let end = self.text.iter().skip(1).position(|c| matches!(c, b':' | b'\n')).map(|at| at + 1);
            let Some(end) = end else {
                if self.text.len() > LONGEST {
                    garbage += self.clear();
                }
                return (garbage, None);
            };
            let whole = self.text.get(end) == Some(&b'\n');
            let length = if whole { end + 1 } else { end };
            let frame: Vec<u8> = self.text.drain(..length).collect();
            match frame.strip_prefix(b":").and_then(|text| text.strip_suffix(b"\r\n")).and_then(decode) {
                Some(frame) => return (garbage, Some(frame)),
                None => garbage += length,
            }
        }
    }
}

/// The ASCII form of a frame in RTU form.
pub(super) fn encode(rtu: &[u8]) -> Vec<u8> {
    let bytes = rtu.get(..rtu.len().saturating_sub(2)).unwrap_or_default();
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
    let check = [lrc(bytes)];
    let digits = bytes.iter().chain(&check).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    std::iter::once(b':').chain(digits).chain(*b"\r\n").collect()
}

/// What stands between `:` and CR LF.
fn decode(text: &[u8]) -> Option<Frame> {
    let (pairs, odd) = text.as_chunks::<2>();
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8; 2]| Some((nibble(pair[0])? << 4) | nibble(pair[1])?);
    let mut bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    let check = bytes.pop()?;
    #[cfg(feature = "mutant")]
    let check = if crate::mutant::is("no-crc") { lrc(&bytes) } else { check };
    if !odd.is_empty() || lrc(&bytes) != check {
        return None;
    }
    let exception = bytes.get(1)? & 0x80 != 0;
    let rtu = seal(&bytes);
    let (_, shape) = head(&rtu).filter(|(length, _)| *length == rtu.len())?;
    Some(Frame { bytes: rtu, shape, exception })
}

/// The two's complement of the sum of all bytes (Modbus over Serial Line V1.02, 2.5.2.2).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::modbus::answer::Shape;
    use proptest::prelude::*;

    fn all(frames: &mut Frames) -> (usize, Vec<Vec<u8>>) {
        let (mut garbage, mut found) = (0, Vec::new());
        loop {
            let (before, frame) = frames.next();
            garbage += before;
            match frame {
                Some(frame) => found.push(frame.bytes),
                None => return (garbage, found),
            }
        }
    }

    #[test]
    fn the_form_is_the_one_of_the_specification() {
        // Read holding register 107 and two more of unit 17: 11 03 00 6B 00 03, whose LRC is 7E.
        let rtu = seal(&[0x11, 0x03, 0x00, 0x6B, 0x00, 0x03]);
        assert_eq!(encode(&rtu), b":1103006B00037E\r\n");
        let mut frames = Frames::default();
        frames.push(b":110306022B00000064");
        assert_eq!(frames.next(), (0, None));
        frames.push(b"55\r\n:118302");
        let frame = frames.next().1.unwrap();
        assert_eq!(frame.bytes, seal(&[0x11, 3, 6, 2, 0x2B, 0, 0, 0, 0x64]));
        assert_eq!((frame.shape, frame.exception), (Shape { unit: 0x11, function: 3, bytes: 7 }, false));
        frames.push(b"6A\r\n");
        let frame = frames.next().1.unwrap();
        assert_eq!((frame.shape, frame.exception), (Shape { unit: 0x11, function: 3, bytes: 1 }, true));
        assert_eq!(frames.rest(), 0);
    }

    #[test]
    fn what_is_no_frame_is_garbage_and_the_next_is_found() {
        let good = encode(&seal(&[9, 3, 2, 0x12, 0x34]));
        for bad in [
            &b"noise"[..],
            b":0903021234",         // no end
            b":0903021234B1\r\n",   // another LRC
            b":09030212 4B2\r\n",   // no digit
            b":0903021234B2\n",     // no CR
            b":090303123478B7\r\n", // more bytes announced than are there
            b":\r\n",
            b":FF\r\n",
            b"\xBA\xB0",
        ] {
            let mut frames = Frames::default();
            frames.push(bad);
            frames.push(&good);
            assert_eq!(all(&mut frames), (bad.len(), vec![seal(&[9, 3, 2, 0x12, 0x34])]), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_frames(
            data in prop::collection::vec(any::<u8>(), 1..=250), cut in 1_usize..40,
        ) {
            let mut bytes = vec![5, 4, u8::try_from(data.len()).unwrap()];
            bytes.extend_from_slice(&data);
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in encode(&seal(&bytes)).chunks(cut) {
                frames.push(part);
                found.extend(all(&mut frames).1);
            }
            prop_assert_eq!(found, [seal(&bytes)]);
        }

        #[test]
        fn one_wrong_character_never_gives_another_frame(
            data in prop::collection::vec(any::<u8>(), 2..=8), at in 0_usize..64, wrong in any::<u8>(),
        ) {
            let mut bytes = vec![5, 4, u8::try_from(data.len()).unwrap()];
            bytes.extend_from_slice(&data);
            let rtu = seal(&bytes);
            let mut text = encode(&rtu);
            let at = at % text.len();
            text[at] = wrong;
            let mut frames = Frames::default();
            frames.push(&text);
            for frame in all(&mut frames).1 {
                prop_assert_eq!(&frame, &rtu);
            }
        }

        #[test]
        fn garbage_is_bounded(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..256), 0..20)) {
            let mut frames = Frames::default();
            for chunk in chunks {
                prop_assert!(frames.room() >= chunk.len());
                frames.push(&chunk);
                all(&mut frames);
                prop_assert!(frames.rest() <= LONGEST);
            }
        }
    }
}
