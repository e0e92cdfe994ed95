//! Bytes to frames, by their end mark.

/// Longest frame without its end mark, in bytes. A scale or a weather station sends some dozens; this is
/// one terminal buffer, and a device that talks without an end mark cannot fill the memory.
pub(super) const FRAME_LIMIT: usize = 4096;

/// Cuts a stream of bytes into frames; the same bytes give the same frames however they arrive.
///
/// A frame longer than [`FRAME_LIMIT`] is dropped and counted, and the next one begins after the next end mark.
#[derive(Debug)]
pub(super) struct Frames {
    end: Vec<u8>,
    /// What came since the last end mark; while skipping, only what may be the beginning of one.
    partial: Vec<u8>,
    skipping: bool,
    /// Frames dropped for their length.
    pub(super) too_long: u64,
}

impl Frames {
    /// `end` must not be empty.
    pub(super) fn new(end: Vec<u8>) -> Self {
        Self { end, partial: Vec::new(), skipping: false, too_long: 0 }
    }

    /// Forgets what has begun; the next byte begins a frame.
    pub(super) fn clear(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }

    /// Forgets what has begun; a frame begins only after the next end mark.
    pub(super) fn skip(&mut self) {
        self.partial.clear();
        self.skipping = true;
    }

    /// The frames that these bytes complete, without their end marks.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for byte in bytes {
            self.partial.push(*byte);
            if self.partial.ends_with(&self.end) {
                let mut frame = std::mem::take(&mut self.partial);
                frame.truncate(frame.len().saturating_sub(self.end.len()));
                if !self.skipping {
                    frames.push(frame);
                }
                self.skipping = false;
            } else if self.skipping {
                self.keep_tail();
            } else if self.partial.len() >= FRAME_LIMIT + self.end.len() {
                self.too_long += 1;
                self.skipping = true;
                self.keep_tail();
            }
        }
        frames
    }

    /// Keeps as much as an end mark may have begun with.
    fn keep_tail(&mut self) {
        let tail = self.end.len().saturating_sub(1);
        let surplus = self.partial.len().saturating_sub(tail);
        self.partial.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(end: &[u8], chunks: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut frames = Frames::new(end.to_vec());
        let all = chunks.iter().flat_map(|chunk| frames.push(chunk)).collect();
        (all, frames.too_long)
    }

    #[test]
    fn a_frame_may_be_exactly_as_long_as_the_limit() {
        let whole = vec![b'a'; FRAME_LIMIT];
        let long = vec![b'b'; FRAME_LIMIT + 1];
        let stream = [&whole[..], b"\r\n", &long, b"\r\n", b"next\r\n"].concat();
        let (all, too_long) = frames(b"\r\n", &[&stream]);
        assert_eq!(all, [whole, b"next".to_vec()]);
        assert_eq!(too_long, 1);
    }

    #[test]
    fn a_stream_without_end_mark_takes_no_memory() {
        let mut frames = Frames::new(b"\r\n".to_vec());
        for _ in 0..10_000 {
            assert!(frames.push(&[b'\r'; 100]).is_empty());
        }
        assert!(frames.partial.capacity() < 4 * FRAME_LIMIT);
        assert_eq!(frames.too_long, 1);
        assert!(frames.push(b"\n").is_empty(), "the end of what was skipped");
        assert_eq!(frames.push(b"ok\r\n"), [b"ok"]);
    }

    #[test]
    fn skipping_drops_the_tail_of_a_frame() {
        let mut frames = Frames::new(b"\n".to_vec());
        frames.skip();
        assert_eq!(frames.push(b"2.5kg\n12.5kg\n1"), [b"12.5kg"]);
        frames.clear();
        assert_eq!(frames.push(b"7\n"), [b"7"]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            stream in proptest::collection::vec(proptest::sample::select(b"ab\r\n".to_vec()), 0..200),
            long in proptest::option::of(0usize..3),
            cuts in proptest::collection::vec(0usize..10_000, 0..20),
            end in proptest::sample::select(vec![&b"\n"[..], b"\r\n", b"\r\r\n", b"aa"]),
        ) {
            let mut stream = stream;
            if let Some(extra) = long {
                let at = stream.len() / 2;
                stream.splice(at..at, vec![b'x'; FRAME_LIMIT - 1 + extra]);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            let mut taken = 0;
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut - taken);
                chunks.push(chunk);
                (rest, taken) = (after, cut);
            }
            chunks.push(rest);
            let whole = frames(end, &[&stream]);
            prop_assert_eq!(frames(end, &chunks), whole.clone());
            // Nothing is invented, and every frame that fits is there.
            let mark = String::from_utf8(end.to_vec()).unwrap();
            let text = String::from_utf8(stream).unwrap();
            let mut expected: Vec<&str> = text.split(&mark).collect();
            expected.pop();
            expected.retain(|frame| frame.len() <= FRAME_LIMIT);
            let found: Vec<String> = whole.0.into_iter().map(|f| String::from_utf8(f).unwrap()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
