//! What a point says about its numbers: bits, scale, limits, names and sentinels.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::file::Value;
use super::table::Table;
use crate::point::Kind;

/// Reads `4-7` or `4`.
pub(super) fn bits(table: &mut Table, kind: Option<Kind>) -> Option<(u8, u8)> {
    const HELP: &str = "write first and last bit, inclusive, such as \"4-7\"";
    let text = table.text("bits")?;
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let Some((low, high)) = number(low).zip(number(high)).filter(|(low, high)| low <= high) else {
        table.fault("bits", "{key} is no range of bits", HELP);
        return None;
    };
    if kind == Some(Kind::Bool) && table.was_given("bit") {
        let help = "use bit with bool, bits with whole numbers";
        table.fault("bits", "{key} and bit exclude one another", help);
        return None;
    }
    let Some(width) = width(kind?) else {
        let what = format!("{{key}} goes with whole numbers only, not with {}", kind?.name());
        table.fault("bits", &what, "write a type such as \"u16\"");
        return None;
    };
    if high >= width {
        let what = format!("{{key}} reaches beyond bit {}, the last of {}", width - 1, kind?.name());
        table.fault("bits", &what, HELP);
        return None;
    }
    Some((low, high))
}

/// Bits of a binary whole number.
fn width(kind: Kind) -> Option<u8> {
    Some(match kind {
        Kind::I8 | Kind::U8 => 8,
        Kind::I16 | Kind::U16 => 16,
        Kind::I24 | Kind::U24 => 24,
        Kind::I32 | Kind::U32 => 32,
        Kind::I64 | Kind::U64 => 64,
        Kind::Bool | Kind::F32 | Kind::F64 | Kind::Bcd16 | Kind::Bcd32 | Kind::String { .. } => return None,
    })
}

pub(super) type Numbers = (Decimal, Decimal, Option<Decimal>, Option<Decimal>);

/// Scale, offset, min and max.
pub(super) fn numbers(table: &mut Table, kind: Option<Kind>) -> Option<Numbers> {
    if let Some(kind @ (Kind::Bool | Kind::String { .. })) = kind {
        for key in ["scale", "offset", "min", "max"] {
            let what = format!("{{key}} goes with numbers only, not with {}", kind.name());
            table.refuse(key, &what, "remove it");
        }
        return Some((Decimal::ONE, Decimal::ZERO, None, None));
    }
    let scale = table.decimal("scale").unwrap_or(Decimal::ONE);
    if scale.is_zero() {
        table.fault(
            "scale",
            "{key} must not be 0: every value would be the offset",
            "write a factor such as 0.1",
        );
    }
    let offset = table.decimal("offset").unwrap_or(Decimal::ZERO);
    let (min, max) = (table.decimal("min"), table.decimal("max"));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        table.fault("min", &format!("{{key}} = {min} is greater than max = {max}"), "exchange the two");
    }
    kind.map(|_| (scale, offset, min, max))
}

pub(super) fn values(table: &mut Table, kind: Option<Kind>) -> BTreeMap<i128, String> {
    let mut names = BTreeMap::new();
    let Some(mut inner) = table.table("values") else {
        return names;
    };
    if let Some(kind @ (Kind::F32 | Kind::F64 | Kind::String { .. })) = kind {
        let what = format!("{{key}} goes with whole numbers and bool only, not with {}", kind.name());
        table.fault("values", &what, "remove it");
    }
    for (key, value) in inner.drain() {
        let Some(number) = whole(&key) else {
            inner.fault(&key, "{key} is not a whole number", "write values = { 0 = \"off\", 1 = \"auto\" }");
            continue;
        };
        let Value::String(_, name) = value else {
            inner.fault(&key, "{key} must be text", "write values = { 0 = \"off\", 1 = \"auto\" }");
            continue;
        };
        inner.note(&key, name.as_str().into());
        if names.insert(number, name).is_some() {
            inner.fault(&key, "{key} names a number that has a name already", "write each number once");
        }
    }
    names
}

pub(super) fn invalid(table: &mut Table, kind: Option<Kind>) -> Vec<i128> {
    let Some(list) = table.array("invalid") else {
        return Vec::new();
    };
    if let Some(kind @ (Kind::Bool | Kind::String { .. })) = kind {
        let what = format!("{{key}} goes with numbers only, not with {}", kind.name());
        table.fault("invalid", &what, "remove it");
    }
    let mut numbers = Vec::new();
    for value in &list {
        let number = match value {
            Value::String(_, text) => whole(text),
            other => other.to_i128(),
        };
        if let Some(number) = number {
            numbers.push(number);
        } else {
            let help = "write raw whole numbers such as [0x8000, -1]; what TOML cannot hold goes in quotes";
            table.fault("invalid", "{key} holds something that is not a whole number", help);
        }
    }
    let shown = numbers.iter().map(|number| -> Json {
        match i64::try_from(*number) {
            Ok(number) => number.into(),
            Err(_) => number.to_string().into(),
        }
    });
    table.note("invalid", shown.collect());
    numbers
}

/// A whole number of up to 64 bits, decimal or with 0x.
fn whole(text: &str) -> Option<i128> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}
