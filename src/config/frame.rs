//! `frame` of a serial link: how bytes become frames.

use std::time::Duration;

use super::table::Table;

/// Longest mark of a frame, in bytes.
const LONGEST_MARK: usize = 16;

/// Longest frame, in bytes: far more than any device of the field sends at once.
pub const LONGEST_FRAME: u16 = 4096;

/// How bytes become frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where a frame begins and ends.
    pub shape: Shape,
    /// What tells a damaged one.
    pub checksum: Option<Checksum>,
}

impl Frame {
    /// Frames without checksum that end with these bytes.
    #[must_use]
    pub fn until(end: impl Into<Vec<u8>>) -> Self {
        Self { shape: Shape::Marks { start: Vec::new(), end: end.into() }, checksum: None }
    }
}

/// Where a frame begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Between marks; they are no part of what is decoded.
    Marks {
        /// Where it begins; empty: after the end of the one before.
        start: Vec<u8>,
        /// Where it ends, 1 to 16 bytes.
        end: Vec<u8>,
    },
    /// So many bytes, marks and checksum included.
    Length {
        /// Its first bytes, if they are always the same.
        start: Vec<u8>,
        /// Bytes.
        length: u16,
    },
    /// As many bytes as it says itself.
    Counted {
        /// Its first bytes, if they are always the same.
        start: Vec<u8>,
        /// Where the count stands, from the first byte of the frame.
        at: u16,
        /// Its size in bytes, 1 or 2.
        size: u16,
        /// The count and this are the bytes that follow the count.
        adds: i32,
        /// Least significant byte first.
        little: bool,
    },
    /// Until nothing came for so long.
    Silence(Duration),
}

impl Shape {
    /// Something in the bytes themselves tells where a frame begins or ends.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        match self {
            Self::Marks { .. } => true,
            Self::Length { start, .. } | Self::Counted { start, .. } => !start.is_empty(),
            Self::Silence(_) => false,
        }
    }
}

/// A checksum, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// How it is worked out.
    pub kind: ChecksumKind,
    /// It stands there as hexadecimal digits, two for each byte.
    pub hex: bool,
    /// So many bytes at the beginning of the frame do not count.
    pub from: u16,
    /// These bytes stand before it and do not count.
    pub mark: Vec<u8>,
    /// It stands behind the end mark, which counts.
    pub after_end: bool,
}

impl Checksum {
    /// How many bytes it takes in the frame, its mark apart.
    #[must_use]
    pub fn width(&self) -> usize {
        self.kind.bytes() * if self.hex { 2 } else { 1 }
    }
}

/// `checksum`; parameters as the catalogue of parametrised CRC algorithms has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// CRC-16/MODBUS, low byte first.
    Crc16Modbus,
    /// CRC-16/IBM-3740, long known as CCITT-FALSE: polynomial 0x1021, begun with 0xFFFF; high byte first.
    Crc16Ccitt,
    /// CRC-16/XMODEM: the same begun with 0; high byte first.
    Crc16Xmodem,
    /// CRC-16/KERMIT: the same reflected; low byte first.
    Crc16Kermit,
    /// The sum of the bytes, lowest eight bits.
    Sum8,
    /// Exclusive or of the bytes.
    Xor8,
    /// What is missing to 0 in the sum of the bytes, as in Modbus ASCII.
    Lrc,
}

impl ChecksumKind {
    /// How many bytes it has.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Crc16Modbus | Self::Crc16Ccitt | Self::Crc16Xmodem | Self::Crc16Kermit => 2,
            Self::Sum8 | Self::Xor8 | Self::Lrc => 1,
        }
    }
}

const HELP: &str = "say what ends a frame, such as frame = { end = \"\\r\\n\" }, { length = 12 }, \
                    { length_at = 2, length_size = 1 } or { silence = \"20ms\" }";

/// The ways to say where a frame ends, of which there must be one.
const WAYS: [&str; 4] = ["end", "length", "length_at", "silence"];

/// Reads `frame`.
pub(super) fn frame(table: &mut Table) -> Option<Frame> {
    if !table.has("frame") {
        table.fault("frame", "{key} is missing", HELP);
    }
    let mut frame = table.table("frame")?;
    let given: Vec<_> = WAYS.into_iter().filter(|way| frame.has(way)).collect();
    if given.is_empty() {
        frame.fault("end", "{key} is missing", HELP);
    }
    if let [first, second, ..] = given.as_slice() {
        frame.fault(second, &format!("{{key}} and {first} exclude one another"), "keep one of them");
    }
    let start = frame.bytes("start", LONGEST_MARK, "write the first bytes of every frame");
    let end = frame.bytes("end", LONGEST_MARK, HELP);
    let length = frame.whole("length", 1..=LONGEST_FRAME);
    let counted = counted(&mut frame);
    let silence = frame.has("silence").then(|| {
        let range = Duration::from_millis(1)..=Duration::from_secs(5);
        frame.duration("silence", range, Duration::from_millis(20))
    });
    let has_start = start.is_some();
    let start = start.unwrap_or_default();
    let shape = match given.first() {
        Some(&"end") => end.map(|end| Shape::Marks { start, end }),
        Some(&"length") => length.map(|length| Shape::Length { start, length }),
        Some(&"length_at") => {
            counted.map(|(at, size, adds, little)| Shape::Counted { start, at, size, adds, little })
        }
        _ => silence.map(Shape::Silence),
    };
    let checksum = checksum(&mut frame, has_end(shape.as_ref()));
    if let Some(shape) = &shape {
        check(&frame, shape, checksum.as_ref(), has_start);
    }
    frame.finish();
    Some(Frame { shape: shape?, checksum })
}

fn has_end(shape: Option<&Shape>) -> bool {
    matches!(shape, Some(Shape::Marks { .. }) | None)
}

fn counted(frame: &mut Table) -> Option<(u16, u16, i32, bool)> {
    let keys = ["length_size", "length_adds", "length_order"];
    if !frame.has("length_at") {
        for key in keys {
            frame.refuse(key, "{key} goes with length_at only", "add length_at, or remove it");
        }
        frame.forget(&["length_at", "length_size", "length_adds", "length_order"]);
        return None;
    }
    let at = frame.whole("length_at", 0..=255_u16);
    let size = frame.whole("length_size", 1..=2_u16).unwrap_or(1);
    frame.note("length_size", size.into());
    let adds = frame.whole("length_adds", -4096..=4096_i32).unwrap_or(0);
    frame.note("length_adds", adds.into());
    let little = frame.choice("length_order", &[("big", false), ("little", true)]);
    if little.is_none() {
        frame.note("length_order", "big".into());
    }
    Some((at?, size, adds, little.unwrap_or(false)))
}

const KINDS: [(&str, ChecksumKind); 7] = [
    ("crc16-modbus", ChecksumKind::Crc16Modbus),
    ("crc16-ccitt", ChecksumKind::Crc16Ccitt),
    ("crc16-xmodem", ChecksumKind::Crc16Xmodem),
    ("crc16-kermit", ChecksumKind::Crc16Kermit),
    ("sum8", ChecksumKind::Sum8),
    ("xor8", ChecksumKind::Xor8),
    ("lrc", ChecksumKind::Lrc),
];

fn checksum(frame: &mut Table, has_end: bool) -> Option<Checksum> {
    if !frame.has("checksum") {
        for key in ["checksum_hex", "checksum_from", "checksum_mark", "checksum_after_end"] {
            frame.refuse(key, "{key} goes with checksum only", "add checksum, or remove it");
        }
        frame.forget(&["checksum", "checksum_hex", "checksum_from", "checksum_mark", "checksum_after_end"]);
        return None;
    }
    let kind = frame.choice("checksum", &KINDS);
    let hex = frame.flag("checksum_hex", false);
    let from = frame.whole("checksum_from", 0..=255_u16).unwrap_or(0);
    frame.note("checksum_from", from.into());
    let mark = frame.bytes("checksum_mark", LONGEST_MARK, "write what stands before it, such as \"*\"");
    let after_end = frame.flag("checksum_after_end", false);
    if after_end && !has_end {
        frame.fault(
            "checksum_after_end",
            "{key} goes with end only",
            "remove it: this frame has no end mark",
        );
    }
    Some(Checksum { kind: kind?, hex, from, mark: mark.unwrap_or_default(), after_end })
}

/// What no device can mean.
fn check(frame: &Table, shape: &Shape, checksum: Option<&Checksum>, has_start: bool) {
    let sum = checksum.map_or(0, |checksum| checksum.width() + checksum.mark.len());
    let from = checksum.map_or(0, |checksum| usize::from(checksum.from));
    match shape {
        Shape::Marks { start, end } => {
            let within =
                |inner: &[u8], outer: &[u8]| outer.windows(inner.len().max(1)).any(|part| part == inner);
            if has_start && (within(start, end) || within(end, start)) {
                let help = "write marks that tell beginning and end apart";
                frame.fault("start", "{key} and end are alike", help);
            }
        }
        Shape::Length { start, length } => {
            let least = (start.len() + sum).max(from + sum) + 1;
            if usize::from(*length) < least {
                let what = format!("{{key}} = {length} leaves no byte for a value");
                frame.fault("length", &what, format!("start and checksum alone need {}", least - 1));
            }
        }
        Shape::Counted { start, at, .. } => {
            if usize::from(*at) < start.len() {
                let what = "{key} lies inside the start mark";
                frame.fault("length_at", what, "count from the first byte of the frame, which is 0");
            }
        }
        Shape::Silence(_) => {
            if has_start {
                let help = "remove it: what comes after a silence is the beginning";
                frame.fault("start", "{key} does not go with silence", help);
            }
        }
    }
}
