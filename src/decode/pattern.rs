//! Words on the wire to bit patterns and back: orders, widths, fields, BCD digits.

use smallvec::SmallVec;

use crate::point::{Kind, Order};

/// The words of a raw answer.
pub(super) type Words = SmallVec<[u16; 4]>;

/// How many low bits of the registers carry the number.
pub(super) fn width(kind: Kind) -> u32 {
    match kind {
        Kind::I8 | Kind::U8 => 8,
        Kind::Bool | Kind::I16 | Kind::U16 | Kind::Bcd16 => 16,
        Kind::I24 | Kind::U24 => 24,
        Kind::I32 | Kind::U32 | Kind::F32 | Kind::Bcd32 => 32,
        Kind::I64 | Kind::U64 | Kind::F64 | Kind::String { .. } => 64,
    }
}

/// The integer has a sign bit.
pub(super) fn is_signed(kind: Kind) -> bool {
    matches!(kind, Kind::I8 | Kind::I16 | Kind::I24 | Kind::I32 | Kind::I64)
}

/// The low `width` bits set.
pub(super) fn mask(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width.min(64)).unwrap_or(0)
}

/// Puts the words in order and joins them; `None` when there are too few or too many.
pub(super) fn from_words(kind: Kind, order: Order, words: &[u16]) -> Option<u64> {
    if words.len() != usize::from(kind.registers()) || words.len() > 4 {
        return None;
    }
    let join = |whole: u64, word: &u16| {
        let word = if order.swaps_bytes() { word.swap_bytes() } else { *word };
        (whole << 16) | u64::from(word)
    };
    let whole =
        if order.reverses_words() { words.iter().rev().fold(0, join) } else { words.iter().fold(0, join) };
    Some(whole & mask(width(kind)))
}

/// The inverse of [`from_words`]; bits of the registers that the type does not use are 0.
pub(super) fn to_words(kind: Kind, order: Order, whole: u64) -> Words {
    let bytes = whole.to_be_bytes();
    let (pairs, _) = bytes.as_chunks::<2>();
    let unused = pairs.len().saturating_sub(usize::from(kind.registers()));
    let mut words: Words = pairs
        .iter()
        .skip(unused)
        .map(|pair| u16::from_be_bytes(*pair))
        .map(|word| if order.swaps_bytes() { word.swap_bytes() } else { word })
        .collect();
    if order.reverses_words() {
        words.reverse();
    }
    words
}

/// The words that stand for a value of a byte layout, which takes `kind.bytes()` bytes and knows the orders of
/// registers: `None` for another number of bytes. A single byte has no order; three have `ABCD` and `DCBA`.
#[must_use]
pub fn from_layout(kind: Kind, order: Order, bytes: &[u8]) -> Option<SmallVec<[u16; 4]>> {
    if bytes.len() != usize::from(kind.bytes()) {
        return None;
    }
    Some(match (kind, bytes) {
        (Kind::Bool | Kind::I8 | Kind::U8, [byte]) => to_words(Kind::U8, order, u64::from(*byte)),
        (Kind::I24 | Kind::U24, [a, b, c]) => {
            let bytes = if order == Order::Dcba { [*c, *b, *a] } else { [*a, *b, *c] };
            let whole = bytes.iter().fold(0, |whole, byte| (whole << 8) | u64::from(*byte));
            to_words(kind, order, whole)
        }
        _ => from_bytes(Order::Abcd, bytes, kind.registers()),
    })
}

/// The inverse of [`from_layout`]; `None` for words that are none of the type's.
#[must_use]
pub fn to_layout(kind: Kind, order: Order, words: &[u16]) -> Option<Vec<u8>> {
    let mut bytes = match kind {
        Kind::Bool | Kind::I8 | Kind::U8 => vec![u8::try_from(from_words(Kind::U8, order, words)?).ok()?],
        Kind::I24 | Kind::U24 => {
            let [.., a, b, c] = from_words(kind, order, words)?.to_be_bytes();
            if order == Order::Dcba { vec![c, b, a] } else { vec![a, b, c] }
        }
        _ => to_bytes(Order::Abcd, words),
    };
    bytes.truncate(kind.bytes().into());
    (bytes.len() == usize::from(kind.bytes())).then_some(bytes)
}

/// The bytes of a text; only the byte swap counts.
pub(super) fn to_bytes(order: Order, words: &[u16]) -> Vec<u8> {
    let bytes = |word: &u16| {
        if order.swaps_bytes() { word.to_le_bytes() } else { word.to_be_bytes() }
    };
    words.iter().flat_map(bytes).collect()
}

/// The inverse of [`to_bytes`]; padded with NUL to `registers` words.
pub(super) fn from_bytes(order: Order, bytes: &[u8], registers: u16) -> Words {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::from(registers) * 2, 0);
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| if order.swaps_bytes() { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) })
        .collect()
}

/// Cuts the inclusive range of bits out.
pub(super) fn field(whole: u64, bits: Option<(u8, u8)>) -> u64 {
    match bits {
        None => whole,
        Some((low, high)) => {
            let shifted = whole.checked_shr(low.into()).unwrap_or(0);
            shifted & mask(u32::from(high.saturating_sub(low)) + 1)
        }
    }
}

/// The number that a field (or a whole pattern) stands for; `None`: a digit that is not decimal.
pub(super) fn to_integer(kind: Kind, bits: Option<(u8, u8)>, field: u64) -> Option<i128> {
    match kind {
        Kind::Bcd16 | Kind::Bcd32 => {
            let digits = format!("{field:x}");
            digits.parse().ok()
        }
        kind if is_signed(kind) && bits.is_none() => Some(signed(field, width(kind))),
        _ => Some(field.into()),
    }
}

/// The pattern of a whole number; `None` when it lies outside the type.
pub(super) fn from_integer(kind: Kind, number: i128) -> Option<u64> {
    let (least, greatest) = range(kind, None);
    if number < least || number > greatest {
        return None;
    }
    match kind {
        Kind::Bcd16 | Kind::Bcd32 => u64::from_str_radix(&number.to_string(), 16).ok(),
        _ => u64::try_from(number.rem_euclid(1i128 << width(kind))).ok(),
    }
}

/// Least and greatest whole number of a type that has whole numbers, or of a field of it: of `bits`, first and last.
#[must_use]
pub fn range(kind: Kind, bits: Option<(u8, u8)>) -> (i128, i128) {
    if is_signed(kind) && bits.is_none() {
        let half = 1i128 << (width(kind) - 1);
        (-half, half - 1)
    } else {
        (0, largest(kind, bits))
    }
}

/// Greatest whole number of an unsigned type or of a field.
pub(super) fn largest(kind: Kind, bits: Option<(u8, u8)>) -> i128 {
    let width = match bits {
        Some((low, high)) => (u32::from(high.saturating_sub(low)) + 1).min(64),
        None => width(kind),
    };
    match kind {
        Kind::Bcd16 | Kind::Bcd32 => {
            // The topmost digit of a field may be narrower than four bits.
            let top = ((1i128 << (width % 4)) - 1).min(9);
            let nines = 10i128.pow(width / 4);
            top * nines + nines - 1
        }
        _ => (1i128 << width) - 1,
    }
}

/// The unsigned and the signed reading of a whole pattern.
pub(super) fn readings(kind: Kind, whole: u64) -> [i128; 2] {
    [whole.into(), signed(whole, width(kind))]
}

/// Two's complement of `width` bits.
pub(super) fn signed(pattern: u64, width: u32) -> i128 {
    let number = i128::from(pattern);
    let modulus = 1i128 << width;
    if number >= modulus / 2 { number - modulus } else { number }
}
