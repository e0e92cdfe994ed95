use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Checksum, ChecksumKind};

const KINDS: [ChecksumKind; 7] = [
    ChecksumKind::Crc16Modbus,
    ChecksumKind::Crc16Ccitt,
    ChecksumKind::Crc16Xmodem,
    ChecksumKind::Crc16Kermit,
    ChecksumKind::Sum8,
    ChecksumKind::Xor8,
    ChecksumKind::Lrc,
];

fn plain(kind: ChecksumKind) -> Checksum {
    Checksum { kind, hex: false, from: 0, mark: Vec::new(), after_end: false }
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::Marks { start: vec![], end: b"\r\n".to_vec() },
        Shape::Marks { start: vec![2], end: vec![3] },
        Shape::Marks { start: b"<<".to_vec(), end: b">".to_vec() },
        Shape::Length { start: vec![], length: 12 },
        Shape::Length { start: vec![0xAA, 0x55], length: 12 },
        Shape::Counted { start: vec![0xAA], at: 2, size: 1, adds: 0, little: false },
        Shape::Counted { start: vec![], at: 0, size: 2, adds: -2, little: true },
        Shape::Silence(Duration::from_millis(20)),
    ]
}

fn checksums() -> Vec<Option<Checksum>> {
    let mut all: Vec<_> = KINDS.iter().map(|kind| Some(plain(*kind))).collect();
    let text = Checksum { hex: true, from: 1, mark: b"*".to_vec(), ..plain(ChecksumKind::Xor8) };
    let behind = Checksum { from: 1, after_end: true, ..plain(ChecksumKind::Lrc) };
    all.extend([None, Some(text), Some(behind)]);
    all
}

/// Every shape with every checksum that goes with it.
fn frames() -> Vec<Frame> {
    let fits = |shape: &Shape, sum: &Option<Checksum>| {
        matches!(shape, Shape::Marks { .. }) || !sum.as_ref().is_some_and(|sum| sum.after_end)
    };
    let mut all = Vec::new();
    for shape in shapes() {
        for checksum in checksums().into_iter().filter(|sum| fits(&shape, sum)) {
            all.push(Frame { shape: shape.clone(), checksum });
        }
    }
    all
}

/// What a device of that shape may put into a frame, made of any text.
fn content(frame: &Frame, text: &[u8]) -> Vec<u8> {
    // No byte of a mark: those are what the marks are for.
    let mut bytes: Vec<u8> = text.iter().map(|byte| b'a' + byte % 26).collect();
    let behind = frame.checksum.as_ref().map_or(0, |sum| sum.width() + sum.mark.len());
    match &frame.shape {
        Shape::Marks { .. } | Shape::Silence(_) => bytes.push(b'z'),
        Shape::Length { start, length } => {
            bytes.resize(usize::from(*length) - behind, b'q');
            bytes[..start.len()].copy_from_slice(start);
        }
        Shape::Counted { start, .. } => {
            bytes.splice(0..0, [0; 4]);
            bytes[..start.len()].copy_from_slice(start);
        }
    }
    bytes
}

/// The content as it comes back: with its count.
fn expected(frame: &Frame, wire: &[u8], content: &[u8]) -> Vec<u8> {
    match frame.shape {
        Shape::Marks { .. } | Shape::Silence(_) => content.to_vec(),
        _ => wire[..content.len()].to_vec(),
    }
}

/// All frames of a stream that comes in these pieces, with a silence before and after it.
fn cut(frame: &Frame, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64, u64) {
    let mut frames = Frames::new(frame.clone());
    frames.skip();
    frames.silence();
    if !frames.needs_silence() {
        frames.clear();
    }
    let mut all: Vec<_> = pieces.iter().flat_map(|piece| frames.push(piece)).collect();
    all.extend(frames.silence());
    assert!(frames.buffer.capacity() <= 4 * (LIMIT + 64), "{}", frames.buffer.capacity());
    (all, frames.too_long, frames.damaged)
}

fn pieces<'s>(stream: &'s [u8], cuts: &[usize]) -> Vec<&'s [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let (mut rest, mut taken) = (stream, 0);
    for cut in cuts {
        let (piece, after) = rest.split_at(cut - taken);
        pieces.push(piece);
        (rest, taken) = (after, cut);
    }
    pieces.push(rest);
    pieces
}

#[test]
fn a_frame_may_be_exactly_as_long_as_the_limit() {
    let whole = vec![b'a'; LIMIT];
    let long = vec![b'b'; LIMIT + 1];
    let stream = [&whole[..], b"\r\n", &long, b"\r\n", b"next\r\n"].concat();
    let (all, too_long, _) = cut(&Frame::until("\r\n"), &[&stream]);
    assert_eq!(all, [whole, b"next".to_vec()]);
    assert_eq!(too_long, 1);
}

#[test]
fn a_stream_without_end_mark_takes_no_memory() {
    let mut frames = Frames::new(Frame::until("\r\n"));
    for _ in 0..10_000 {
        assert!(frames.push(&[b'\r'; 100]).is_empty());
    }
    assert!(frames.buffer.capacity() < 4 * LIMIT);
    assert_eq!(frames.too_long, 1);
    assert!(frames.push(b"\n").is_empty(), "the end of what was skipped");
    assert_eq!(frames.push(b"ok\r\n"), [b"ok"]);
}

#[test]
fn skipping_drops_the_tail_of_a_frame() {
    let mut frames = Frames::new(Frame::until("\n"));
    frames.skip();
    assert_eq!(frames.push(b"2.5kg\n12.5kg\n1"), [b"12.5kg"]);
    frames.clear();
    assert_eq!(frames.push(b"7\n"), [b"7"]);
    let behind = Checksum { from: 0, after_end: true, ..plain(ChecksumKind::Xor8) };
    let mut frames = Frames::new(Frame { checksum: Some(behind), ..Frame::until("\n") });
    frames.skip();
    // The byte behind the end mark belongs to what is skipped; here it looks like another end mark.
    assert_eq!(frames.push(b"xx\n\nab\n\x09"), [b"ab"]);
}

#[test]
fn a_frame_that_begins_again_has_lost_its_end() {
    let shape = Shape::Marks { start: vec![2], end: vec![3] };
    let mut frames = Frames::new(Frame { shape: shape.clone(), checksum: None });
    assert_eq!(frames.push(b"noise\x02+00\x02+0012.5\x03rest\x03\x021\x03"), [&b"+0012.5"[..], b"1"]);
    // With a checksum the start mark may be a byte of the content.
    let frame = Frame { shape, checksum: Some(plain(ChecksumKind::Crc16Ccitt)) };
    let good = wrap(&frame, b"a\x02b");
    let mut frames = Frames::new(frame);
    assert_eq!(frames.push(&[&good[..4], &good].concat()), [b"a\x02b"]);
    // Nothing that comes later is needed to know it.
    assert_eq!(frames.push(&[b"\x02", &good[..]].concat()), [b"a\x02b"]);
}

#[test]
fn a_silence_tells_where_frames_of_a_length_begin() {
    let frame = Frame { shape: Shape::Length { start: vec![], length: 4 }, checksum: None };
    let mut frames = Frames::new(frame);
    frames.skip();
    assert!(frames.push(b"xxabcdef").is_empty());
    frames.silence();
    assert_eq!(frames.push(b"1234567"), [b"1234"]);
    assert!(frames.is_amid());
    // What a lost byte has left behind.
    frames.silence();
    assert!(!frames.is_amid());
    assert_eq!(frames.push(b"abcd"), [b"abcd"]);
}

#[test]
fn a_frame_with_a_checksum_may_pause_and_noise_before_it_does_no_harm() {
    let length = Shape::Length { start: vec![], length: 8 };
    let count = Shape::Counted { start: vec![], at: 0, size: 2, adds: 0, little: false };
    for shape in [length, count] {
        let frame = Frame { shape, checksum: Some(plain(ChecksumKind::Sum8)) };
        let wire = wrap(&frame, b"\0\0abcde");
        let content = &wire[..7];
        let mut frames = Frames::new(frame);
        assert!(frames.push(&wire[..3]).is_empty());
        frames.silence();
        assert_eq!(frames.push(&wire[3..]), [content]);
        // As a count this noise is more than comes.
        frames.push(b"\x03\xff");
        assert!(frames.silence().is_empty());
        let mut found = frames.push(&wire);
        found.extend(frames.silence());
        assert_eq!(found, [content], "{:?}", frames.frame);
    }
}

#[test]
fn a_count_says_where_a_frame_ends() {
    let shape = |at, size, adds, little| Shape::Counted { start: vec![], at, size, adds, little };
    for (shape, stream, frame) in [
        (shape(2, 1, 0, false), &b"\x01\x02\x03abc...."[..], &b"\x01\x02\x03abc"[..]),
        (shape(0, 1, -1, false), b"\x04abc....", b"\x04abc"),
        (shape(1, 2, 1, false), b"x\x00\x02abc....", b"x\x00\x02abc"),
        (shape(0, 2, 0, true), b"\x03\x00abc....", b"\x03\x00abc"),
        (shape(1, 1, 0, false), b"x\x00....", b"x\x00"),
    ] {
        let mut frames = Frames::new(Frame { shape, checksum: None });
        assert_eq!(frames.push(stream).first().map(Vec::as_slice), Some(frame), "{stream:?}");
    }
    // A count that no frame has is damage, and only a silence helps.
    let mut frames = Frames::new(Frame { shape: shape(0, 2, 0, false), checksum: None });
    assert!(frames.push(b"\xff\xffabcd").is_empty());
    assert_eq!(frames.damaged, 1);
    frames.silence();
    assert_eq!(frames.push(b"\x00\x01a"), [b"\x00\x01a"]);
    // Nor does a frame end before its count and its checksum do, although the sum of [0] is 0.
    for (adds, checksum) in [(-2, Some(plain(ChecksumKind::Sum8))), (-1, None)] {
        let mut frames = Frames::new(Frame { shape: shape(0, 2, adds, true), checksum });
        assert!(frames.push(b"\x00\x00").is_empty());
        assert_eq!(frames.damaged, 1);
    }
}

proptest! {
    #[test]
    fn good_frames_come_through(
        which in 0..frames().len(), texts in proptest::collection::vec(any::<Vec<u8>>(), 1..5),
        cuts in proptest::collection::vec(0usize..10_000, 0..10),
    ) {
        let frame = &frames()[which];
        // Of frames that end with a silence, one at a time.
        let many = if matches!(frame.shape, Shape::Silence(_)) { 1 } else { texts.len() };
        let contents: Vec<_> = texts[..many].iter().map(|text| content(frame, &text[..text.len().min(40)])).collect();
        let wires: Vec<_> = contents.iter().map(|content| wrap(frame, content)).collect();
        let wanted: Vec<_> =
            wires.iter().zip(&contents).map(|(wire, content)| expected(frame, wire, content)).collect();
        let stream = wires.concat();
        let (found, too_long, damaged) = cut(frame, &pieces(&stream, &cuts));
        prop_assert_eq!((found, too_long, damaged), (wanted, 0, 0), "{:?}", frame);
    }

    #[test]
    fn any_split_gives_the_same_frames(
        which in 0..frames().len(),
        parts in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..8),
        long in proptest::option::of(0usize..3), cuts in proptest::collection::vec(0usize..10_000, 0..20),
    ) {
        let frame = &frames()[which];
        let mut stream = Vec::new();
        for (good, bytes) in &parts {
            // Garbage of the bytes that mean something here is the worst.
            let garbage = bytes.iter().map(|byte| b"ab\r\n\x02\x03<>\xaa\x55\x00\x0c*"[usize::from(*byte) % 13]);
            stream.extend(if *good { wrap(frame, &content(frame, bytes)) } else { garbage.collect() });
        }
        if let Some(extra) = long {
            let at = stream.len() / 2;
            stream.splice(at..at, vec![b'x'; LIMIT - 1 + extra]);
        }
        let whole = cut(frame, &[&stream]);
        prop_assert_eq!(cut(frame, &pieces(&stream, &cuts)), whole.clone());
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(cut(frame, &bytes), whole.clone());
        // Whatever comes out stands in the stream with its checksum.
        for found in &whole.0 {
            let wire = wrap(frame, found);
            prop_assert!(stream.windows(wire.len()).any(|part| part.eq_ignore_ascii_case(&wire)), "{:?}: {:?}", frame, found);
        }
    }

    #[test]
    fn lines_are_what_a_split_at_the_marks_gives(
        stream in proptest::collection::vec(proptest::sample::select(b"ab\r\n".to_vec()), 0..200),
        long in proptest::option::of(0usize..3),
        end in proptest::sample::select(vec!["\n", "\r\n", "\r\r\n", "aa"]),
    ) {
        let mut stream = stream;
        if let Some(extra) = long {
            let at = stream.len() / 2;
            stream.splice(at..at, vec![b'x'; LIMIT - 1 + extra]);
        }
        let found: Vec<String> = cut(&Frame::until(end), &[&stream]).0.into_iter().map(|f| String::from_utf8(f).unwrap()).collect();
        let text = String::from_utf8(stream).unwrap();
        let mut expected: Vec<&str> = text.split(end).collect();
        expected.pop();
        expected.retain(|frame| frame.len() <= LIMIT);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_damaged_byte_never_gives_another_frame(
        kind in 0..4_usize, shape in 0..shapes().len(), text in proptest::collection::vec(any::<u8>(), 0..30),
        place in any::<usize>(), flip in 1..=255_u8,
    ) {
        // A checksum of two bytes finds every damage of one.
        let frame = Frame { shape: shapes()[shape].clone(), checksum: Some(plain(KINDS[kind])) };
        let content = content(&frame, &text);
        let mut wire = wrap(&frame, &content);
        let place = place % wire.len();
        wire[place] ^= flip;
        let found = cut(&frame, &[&wire]).0;
        // Damage may make a mark of a byte: then a part of the frame, with its checksum by chance, would be one.
        prop_assert!(found.is_empty(), "{:?} of {:?}", found, wire);
    }
}
