//! Values to raw data, with every check that a written value has to pass.

use rust_decimal::Decimal;

use super::{exact, is_plain, is_sentinel, pattern};
use crate::address::Address;
use crate::point::{Kind, Point, Raw, Value};

/// Why a value cannot be written to a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value is of another type than the point.
    #[error("{0}")]
    WrongType(String),
    /// The value does not fit the point.
    #[error("{0}")]
    OutOfRange(String),
}

/// Makes the raw data that `value` stands for, after checking type, range and limits.
///
/// - `bool` takes booleans, `string` takes text, everything else numbers; a name from `values` stands for
///   its raw number.
/// - Limits and the type's own range are required; a sentinel cannot be written.
/// - For whole-number types a scaled value is rounded to the nearest step of `scale`, a half away from the raw 0, and
///   never beyond a limit; a value without scale has to be whole. Floats take the nearest number of their type.
/// - A `bool` of a register gives its bit in place (without `bit`, the register becomes 0 or 1), any other
///   `bool` gives `Raw::Bit`. All else gives `Raw::Words` as long as the type's registers; a text ends in NULs. What
///   the point does not own (see [`super::mask`]) is 0: whoever writes it has to keep those bits.
pub fn encode(point: &Point, value: &Value) -> Result<Raw, EncodeError> {
    match (point.kind, value) {
        (Kind::Bool, Value::Bool(on)) => Ok(switch(point, *on)),
        (Kind::Bool, Value::Text(text)) => match raw_of_name(point, text) {
            Some(0) => Ok(switch(point, false)),
            Some(1) => Ok(switch(point, true)),
            _ => Err(wrong_type(point, value)),
        },
        (Kind::String { length }, Value::Text(text)) => string(point, text, length),
        (Kind::Bool | Kind::String { .. }, _)
        | (_, Value::Bool(_))
        | (Kind::F32 | Kind::F64, Value::Text(_)) => Err(wrong_type(point, value)),
        (Kind::F32 | Kind::F64, _) => float(point, value),
        (_, Value::Text(text)) => {
            let number = raw_of_name(point, text).ok_or_else(|| wrong_type(point, value))?;
            named(point, text, number)
        }
        _ => {
            let wanted = decimal(value).ok_or_else(|| outside(point, value))?;
            check_limits(point, wanted)?;
            integer(point, wanted)
        }
    }
}

fn switch(point: &Point, on: bool) -> Raw {
    match point.address {
        Address::Register { area, bit, .. } if !area.is_bits() => {
            let whole = u64::from(on).checked_shl(bit.unwrap_or(0).into()).unwrap_or(0);
            Raw::Words(pattern::to_words(point.kind, point.order, whole))
        }
        _ => Raw::Bit(on),
    }
}

fn string(point: &Point, text: &str, length: u16) -> Result<Raw, EncodeError> {
    let refuse = |why: String| Err(EncodeError::OutOfRange(format!("the text for {} {why}", point.id)));
    if text.len() > usize::from(length) {
        return refuse(format!("has {} bytes, more than its length {length}", text.len()));
    }
    if text.contains('\0') {
        return refuse("holds a NUL, which would end it".to_owned());
    }
    let words = pattern::from_bytes(point.order, text.as_bytes(), point.kind.registers());
    Ok(Raw::Words(words))
}

fn raw_of_name(point: &Point, text: &str) -> Option<i128> {
    let mut names = point.values.iter();
    names.find(|(_, name)| *name == text).map(|(raw, _)| *raw)
}

/// A name may be given to the unsigned reading of a signed type (`0xFFFF = "error"`).
fn named(point: &Point, text: &str, number: i128) -> Result<Raw, EncodeError> {
    let width = pattern::width(point.kind);
    let (_, greatest) = pattern::range(point.kind, point.bits);
    let number = match u64::try_from(number) {
        Ok(bits) if pattern::is_signed(point.kind) && point.bits.is_none() && number > greatest => {
            pattern::signed(bits, width)
        }
        _ => number,
    };
    let value = Decimal::try_from_i128_with_scale(number, 0)
        .ok()
        .and_then(|raw| exact::scale(raw, point.scale, point.offset));
    if let Some(value) = value {
        check_limits(point, value)?;
    }
    place(point, number, text)
}

fn integer(point: &Point, wanted: Decimal) -> Result<Raw, EncodeError> {
    let number = exact::nearest(wanted, point.scale, point.offset).ok_or_else(|| outside(point, &wanted))?;
    let shown = wanted.normalize();
    if is_plain(point) && !wanted.fract().is_zero() {
        // Counts and switches: nobody means something between two of them.
        return Err(EncodeError::OutOfRange(format!("{} {shown} is not a whole number", point.id)));
    }
    place(point, inward(point, number, &shown)?, &shown.to_string())
}

/// The raw number, or where its value lies beyond a limit because it was rounded: the neighbour that does not.
fn inward(point: &Point, number: i128, shown: &Decimal) -> Result<i128, EncodeError> {
    let value = |number: i128| {
        let raw = Decimal::try_from_i128_with_scale(number, 0).ok()?;
        exact::scale(raw, point.scale, point.offset)
    };
    let is_within = |number: &i128| value(*number).is_some_and(|value| check_limits(point, value).is_ok());
    if value(number).is_none() {
        // It could not be told when it is read back.
        return Err(outside(point, shown));
    }
    let near = [Some(number), number.checked_sub(1), number.checked_add(1)];
    near.into_iter().flatten().find(is_within).ok_or_else(|| {
        let scale = point.scale.normalize();
        EncodeError::OutOfRange(format!(
            "{} {shown} cannot be: no whole step of its scale {scale} lies within its limits",
            point.id
        ))
    })
}

/// Puts a raw number into its registers.
fn place(point: &Point, number: i128, shown: &str) -> Result<Raw, EncodeError> {
    let (least, greatest) = pattern::range(point.kind, point.bits);
    let within = (least..=greatest).contains(&number);
    let whole = if within { pattern::from_integer(point.kind, number) } else { None };
    let whole = whole.ok_or_else(|| outside(point, &shown))?;
    let low = point.bits.map_or(0, |(low, _)| low);
    let whole = whole.checked_shl(low.into()).ok_or_else(|| outside(point, &shown))?;
    if is_sentinel(point, whole, Some(number)) {
        return Err(EncodeError::OutOfRange(format!(
            "{} {shown} is what the device says when it has no value",
            point.id
        )));
    }
    Ok(Raw::Words(pattern::to_words(point.kind, point.order, whole)))
}

fn float(point: &Point, value: &Value) -> Result<Raw, EncodeError> {
    let wanted = match decimal(value) {
        Some(wanted) => {
            check_limits(point, wanted)?;
            wanted.to_string()
        }
        None => match value {
            // Beyond 28 digits; the limits are Decimals, so the binary comparison is clear.
            Value::F32(wanted) => check_binary(point, (*wanted).into()).map(|()| wanted.to_string())?,
            Value::F64(wanted) => check_binary(point, *wanted).map(|()| wanted.to_string())?,
            _ => return Err(outside(point, value)),
        },
    };
    let raw = if is_plain(point) {
        wanted
    } else {
        let exact = Decimal::from_str_exact(&wanted).ok();
        if let Some(raw) = exact.and_then(|wanted| exact::unscale(wanted, point.scale, point.offset)) {
            raw.to_string()
        } else {
            let wanted: f64 = wanted.parse().map_err(|_| outside(point, value))?;
            ((wanted - exact::to_f64(point.offset)) / exact::to_f64(point.scale)).to_string()
        }
    };
    let (whole, number) = if point.kind == Kind::F32 {
        let number: f32 = raw.parse().map_err(|_| outside(point, value))?;
        (number.to_bits().into(), f64::from(number))
    } else {
        let number: f64 = raw.parse().map_err(|_| outside(point, value))?;
        (number.to_bits(), number)
    };
    if !number.is_finite() {
        return Err(outside(point, value));
    }
    if super::check_float(point, whole, pattern::width(point.kind), number).is_err() {
        return Err(EncodeError::OutOfRange(format!(
            "{} {value} is what the device says when it has no value",
            point.id
        )));
    }
    Ok(Raw::Words(pattern::to_words(point.kind, point.order, whole)))
}

/// The exact decimal of a number, if 28 digits are enough for it.
fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(number) => Decimal::try_from_i128_with_scale(*number, 0).ok(),
        Value::Decimal(number) => Some(*number),
        Value::F32(number) => Decimal::from_str_exact(&number.to_string()).ok(),
        Value::F64(number) => Decimal::from_str_exact(&number.to_string()).ok(),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

fn check_limits(point: &Point, wanted: Decimal) -> Result<(), EncodeError> {
    let refuse = |side: &str, limit: Decimal| {
        Err(EncodeError::OutOfRange(format!(
            "{} {} is {side} {}",
            point.id,
            wanted.normalize(),
            limit.normalize()
        )))
    };
    match (point.min, point.max) {
        (_, Some(max)) if wanted > max => refuse("above its max", max),
        (Some(min), _) if wanted < min => refuse("below its min", min),
        _ => Ok(()),
    }
}

fn check_binary(point: &Point, wanted: f64) -> Result<(), EncodeError> {
    let refuse = |side: &str, limit: Decimal| {
        let text = format!("{} {wanted} is {side} {}", point.id, limit.normalize());
        Err(EncodeError::OutOfRange(text))
    };
    match (point.min, point.max) {
        (_, Some(max)) if wanted > exact::to_f64(max) => refuse("above its max", max),
        (Some(min), _) if wanted < exact::to_f64(min) => refuse("below its min", min),
        _ => Ok(()),
    }
}

fn wrong_type(point: &Point, value: &Value) -> EncodeError {
    let names: Vec<&str> = point.values.values().map(String::as_str).collect();
    let mut takes = match point.kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::String { .. } => "a text".to_owned(),
        _ => "a number".to_owned(),
    };
    if !names.is_empty() {
        takes = format!("{takes} or one of {}", names.join(", "));
    }
    EncodeError::WrongType(format!("{} takes {takes}, not {value}", point.id))
}

fn outside(point: &Point, value: &dyn std::fmt::Display) -> EncodeError {
    let kind = point.kind.name();
    let range = match point.kind {
        Kind::Bool | Kind::String { .. } | Kind::F32 | Kind::F64 => None,
        _ => {
            let (least, greatest) = pattern::range(point.kind, point.bits);
            let end = |raw: i128| {
                let raw = Decimal::try_from_i128_with_scale(raw, 0).ok()?;
                Some(exact::scale(raw, point.scale, point.offset)?.normalize())
            };
            end(least).zip(end(greatest)).map(|(a, b)| (a.min(b), a.max(b)))
        }
    };
    EncodeError::OutOfRange(match range {
        Some((least, greatest)) => {
            format!("{} {value} does not fit its type {kind}: {least} to {greatest}", point.id)
        }
        None => format!("{} {value} does not fit its type {kind}", point.id),
    })
}
