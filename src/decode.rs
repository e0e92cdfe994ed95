//! Raw data to values and back. Pure.
//!
//! A value is `raw x scale + offset`, worked out in decimal. What a device sends can be anything, so every
//! path here ends in a value or a [`Reason`]: nothing panics, and no number is rounded unnoticed.
//!
//! A register keeps its bits in a *pattern*: a `u64` whose low bits are the raw data, most significant word
//! first, after the point's order has been undone.

use rust_decimal::Decimal;

use crate::address::Address;
use crate::point::{Kind, Point, Raw, Reason, Value, latin1};

mod change;
mod encode;
mod exact;
#[cfg(test)]
mod fixtures;
mod mask;
mod pattern;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use change::is_change;
pub use encode::{EncodeError, encode};
pub use mask::{is_same, mask};
pub use pattern::{from_layout, range, to_layout};

/// Most characters of [`beginning`].
const SHOWN: usize = 60;

/// The text that gives no value of a point, for people: its beginning, escaped. `None` where no text is to blame.
#[must_use]
pub fn complaint(point: &Point, raw: &Raw, value: &Result<Value, Reason>) -> Option<String> {
    let (Raw::Text(text), Err(Reason::Malformed)) = (raw, value) else { return None };
    Some(format!("{} is no {}", beginning(text), point.kind.name()))
}

/// The beginning of a text, for people: escaped, and with a sign that there is more.
#[must_use]
pub fn beginning(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// Reads the raw data of a point.
///
/// - `Raw::Bit` belongs to `bool` alone.
/// - `Raw::Words` needs exactly as many words as the type has registers. A `bool` is the bit that its
///   address names, or without one: the register is not 0.
/// - `Raw::Text` is trimmed and read as a number of the type; blanks after the sign are allowed.
/// - `Raw::Latin1` belongs to `string` alone, whose length then counts its characters.
/// - `Raw::Number` is rounded to the type.
///
/// `bits` takes a field from an integer or from the digits of a `bcd`, unsigned from then on. A sentinel in
/// `invalid` is compared with the field where it fits into it, otherwise with the whole; signed and unsigned
/// readings of the same bits both count. For floats it is compared with the number and with its bits.
///
/// Errors: `Malformed` for data of the wrong length or kind, text that is no number and bytes that are no
/// UTF-8; `Invalid` for sentinels, digits that are not decimal and what lies outside the type (text longer
/// than its `length` too) or cannot be expressed; `NotANumber` for NaN and infinity.
pub fn decode(point: &Point, raw: &Raw) -> Result<Value, Reason> {
    match (point.kind, raw) {
        (Kind::Bool, Raw::Bit(on)) => Ok(switch(point, *on)),
        (Kind::String { length }, Raw::Latin1(bytes)) => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            let text = latin1(bytes.get(..end).unwrap_or_default());
            match text.trim() {
                text if text.chars().count() > usize::from(length) => Err(Reason::Invalid),
                text => Ok(Value::Text(text.to_owned())),
            }
        }
        (_, Raw::Bit(_) | Raw::Latin1(_)) => Err(Reason::Malformed),
        (Kind::Bool, Raw::Words(words)) => {
            let whole = pattern::from_words(point.kind, point.order, words).ok_or(Reason::Malformed)?;
            let on = match point.address {
                Address::Register { bit: Some(bit), .. } | Address::Byte { bit: Some(bit), .. } => {
                    whole.checked_shr(bit.into()).unwrap_or(0) & 1 == 1
                }
                _ => whole != 0,
            };
            Ok(switch(point, on))
        }
        (Kind::Bool, Raw::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "on" => Ok(switch(point, true)),
            "0" | "false" | "off" => Ok(switch(point, false)),
            _ => Err(Reason::Malformed),
        },
        (_, Raw::Number(number)) if !number.is_finite() => Err(Reason::NotANumber),
        (Kind::Bool, Raw::Number(number)) => Ok(switch(point, number.abs() >= 0.5)),
        (Kind::String { length }, Raw::Words(words)) => {
            let bytes = pattern::to_bytes(point.order, words);
            if words.len() != usize::from(point.kind.registers()) {
                return Err(Reason::Malformed);
            }
            let bytes = bytes.get(..usize::from(length)).ok_or(Reason::Malformed)?;
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default());
            let text = text.map_err(|_| Reason::Malformed)?;
            Ok(Value::Text(text.trim_end_matches(' ').to_owned()))
        }
        (Kind::String { length }, Raw::Text(text)) => match text.trim() {
            text if text.len() > usize::from(length) => Err(Reason::Invalid),
            text => Ok(Value::Text(text.to_owned())),
        },
        (Kind::String { .. }, Raw::Number(number)) => Ok(Value::Text(number.to_string())),
        (Kind::F32, _) => {
            let number = float32(point, raw)?;
            check_float(point, number.to_bits().into(), 32, number.into())?;
            scale_float(point, Value::F32(number), &number.to_string())
        }
        (Kind::F64, _) => {
            let number = float64(point, raw)?;
            check_float(point, number.to_bits(), 64, number)?;
            scale_float(point, Value::F64(number), &number.to_string())
        }
        (kind, Raw::Words(words)) => {
            let whole = pattern::from_words(kind, point.order, words).ok_or(Reason::Malformed)?;
            integer(point, whole)
        }
        (kind, Raw::Text(text)) => {
            let number = parse_integer(text)?;
            integer(point, pattern::from_integer(kind, number).ok_or(Reason::Invalid)?)
        }
        (kind, Raw::Number(number)) => {
            let rounded = format!("{:.0}", number.round()).parse();
            let rounded = rounded.map_err(|_| Reason::Invalid)?;
            integer(point, pattern::from_integer(kind, rounded).ok_or(Reason::Invalid)?)
        }
    }
}

/// A `bool`, by its name where it has one.
fn switch(point: &Point, on: bool) -> Value {
    match point.values.get(&i128::from(on)) {
        Some(name) => Value::Text(name.clone()),
        None => Value::Bool(on),
    }
}

/// Whole numbers: field, sentinels, names, scale.
fn integer(point: &Point, whole: u64) -> Result<Value, Reason> {
    let field = pattern::field(whole, point.bits);
    let number = pattern::to_integer(point.kind, point.bits, field);
    if is_sentinel(point, whole, number) {
        return Err(Reason::Invalid);
    }
    let number = number.ok_or(Reason::Invalid)?;
    let other =
        if point.bits.is_none() && pattern::is_signed(point.kind) { i128::from(whole) } else { number };
    if let Some(name) = point.values.get(&number).or_else(|| point.values.get(&other)) {
        return Ok(Value::Text(name.clone()));
    }
    if is_plain(point) {
        return Ok(Value::Int(number));
    }
    let raw = Decimal::try_from_i128_with_scale(number, 0).map_err(|_| Reason::Invalid)?;
    let value = exact::scale(raw, point.scale, point.offset).ok_or(Reason::Invalid)?;
    Ok(Value::Decimal(value))
}

/// One of the point's sentinels. Fields and digits are compared as the number they stand for; a sentinel
/// that is too large for them means the whole register.
fn is_sentinel(point: &Point, whole: u64, number: Option<i128>) -> bool {
    let by_number = point.bits.is_some() || matches!(point.kind, Kind::Bcd16 | Kind::Bcd32);
    let largest = pattern::largest(point.kind, point.bits);
    let readings = pattern::readings(point.kind, whole);
    point.invalid.iter().any(|sentinel| {
        if by_number && (0..=largest).contains(sentinel) {
            number == Some(*sentinel)
        } else {
            readings.contains(sentinel)
        }
    })
}

/// The value is the raw number itself.
fn is_plain(point: &Point) -> bool {
    point.scale == Decimal::ONE && point.offset.is_zero()
}

fn float32(point: &Point, raw: &Raw) -> Result<f32, Reason> {
    match raw {
        Raw::Words(words) => pattern::from_words(point.kind, point.order, words)
            .and_then(|whole| u32::try_from(whole).ok())
            .map(f32::from_bits)
            .ok_or(Reason::Malformed),
        Raw::Text(text) => parse_float(text, f32::is_infinite),
        // The shortest text of an f64, read as f32, is that number rounded once: no cast is needed.
        Raw::Number(number) => parse_float(&number.to_string(), f32::is_infinite),
        Raw::Bit(_) | Raw::Latin1(_) => Err(Reason::Malformed),
    }
}

fn float64(point: &Point, raw: &Raw) -> Result<f64, Reason> {
    match raw {
        Raw::Words(words) => {
            pattern::from_words(point.kind, point.order, words).map(f64::from_bits).ok_or(Reason::Malformed)
        }
        Raw::Text(text) => parse_float(text, f64::is_infinite),
        Raw::Number(number) => Ok(*number),
        Raw::Bit(_) | Raw::Latin1(_) => Err(Reason::Malformed),
    }
}

/// Sentinels first: many devices use a NaN of their own as "no value".
fn check_float(point: &Point, bits: u64, width: u32, number: f64) -> Result<(), Reason> {
    for sentinel in &point.invalid {
        let same_bits = i128::from(bits) == *sentinel || pattern::signed(bits, width) == *sentinel;
        // Compared as text, because not every i128 is an f64.
        // A zero has a sign, a sentinel has not.
        if same_bits || format!("{}", number + 0.0) == sentinel.to_string() {
            return Err(Reason::Invalid);
        }
    }
    if number.is_finite() { Ok(()) } else { Err(Reason::NotANumber) }
}

/// `shortest` is the shortest decimal text of the number.
fn scale_float(point: &Point, plain: Value, shortest: &str) -> Result<Value, Reason> {
    if is_plain(point) {
        return Ok(plain);
    }
    let exact =
        Decimal::from_str_exact(shortest).ok().and_then(|raw| exact::scale(raw, point.scale, point.offset));
    if let Some(value) = exact {
        return Ok(Value::Decimal(value));
    }
    // Beyond 28 digits only binary arithmetic is left; it is as good as the float itself.
    let raw: f64 = shortest.parse().map_err(|_| Reason::Invalid)?;
    let value = raw.mul_add(exact::to_f64(point.scale), exact::to_f64(point.offset));
    if value.is_finite() { Ok(Value::F64(value)) } else { Err(Reason::Invalid) }
}

/// Takes the blanks that scales print between sign and digits (`+   12.5`); `None` for a second sign.
fn join_sign(text: &str) -> Option<String> {
    let text = text.trim();
    let Some(digits) = text.strip_prefix(['+', '-']) else {
        return Some(text.to_owned());
    };
    let digits = digits.trim_start();
    let sign = if text.starts_with('-') { "-" } else { "" };
    (!digits.starts_with(['+', '-'])).then(|| format!("{sign}{digits}"))
}

fn parse_integer(text: &str) -> Result<i128, Reason> {
    let text = join_sign(text).ok_or(Reason::Malformed)?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reason::Malformed);
    }
    text.parse().map_err(|_| Reason::Invalid)
}

/// `is_infinite` tells a number too large for the type from the word `inf`.
fn parse_float<T: std::str::FromStr + Copy>(text: &str, is_infinite: fn(T) -> bool) -> Result<T, Reason> {
    let text = join_sign(text).ok_or(Reason::Malformed)?;
    let number: T = text.parse().map_err(|_| Reason::Malformed)?;
    if is_infinite(number) && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(Reason::Invalid);
    }
    Ok(number)
}
