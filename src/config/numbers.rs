//! What a point says about its numbers: bits, scale, limits, names and sentinels.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::file::Value;
use super::table::Table;
use crate::decode::range;
use crate::point::Kind;

/// What is known of a point when its numbers are read.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub(super) kind: Option<Kind>,
    pub(super) bits: Option<(u8, u8)>,
    pub(super) writable: bool,
}

impl Whole {
    /// Least and greatest raw number, of types that have whole numbers.
    fn range(self) -> Option<(i128, i128)> {
        match self.kind? {
            Kind::Bool => Some((0, 1)),
            Kind::F32 | Kind::F64 | Kind::String { .. } => None,
            kind => Some(range(kind, self.bits)),
        }
    }

    /// What is to be added to a negative number to get the same bits without a sign.
    fn modulus(self) -> Option<i128> {
        let (least, greatest) = self.range()?;
        Some(greatest - least + 1)
    }

    /// The type, as faults name it.
    fn name(self) -> String {
        let bits = self.bits.map(|(low, high)| format!(" with bits = \"{low}-{high}\""));
        format!("{}{}", self.kind.map_or("", Kind::name), bits.unwrap_or_default())
    }
}

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

/// Bits of a whole number, binary or of decimal digits.
fn bits_of(kind: Kind) -> Option<u8> {
    match kind {
        Kind::Bcd16 => Some(16),
        Kind::Bcd32 => Some(32),
        kind => width(kind),
    }
}

pub(super) type Numbers = (Decimal, Decimal, Option<Decimal>, Option<Decimal>);

/// Scale, offset, min and max.
pub(super) fn numbers(table: &mut Table, point: Whole) -> Option<Numbers> {
    let kind = point.kind;
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
    let numbers = (scale, offset, min, max);
    if point.writable {
        check_reach(table, point, numbers);
    }
    kind.map(|_| numbers)
}

/// Between the limits must lie something that the type can hold.
fn check_reach(table: &Table, point: Whole, (scale, offset, min, max): Numbers) {
    let value = |raw: i128| {
        let raw = Decimal::try_from_i128_with_scale(raw, 0).ok()?;
        raw.checked_mul(scale)?.checked_add(offset)
    };
    // What no decimal holds is beyond every limit.
    let ends = point.range().and_then(|(least, greatest)| Some((value(least)?, value(greatest)?)));
    let Some((one, other)) = ends.filter(|_| !scale.is_zero()) else {
        return;
    };
    let (least, greatest) = (one.min(other).normalize(), one.max(other).normalize());
    let name = point.name();
    let help = format!("write a limit from {least} to {greatest}, or another type");
    if let Some(min) = min.filter(|min| *min > greatest) {
        let what = format!("{{key}} = {min} is above {greatest}, the most that {name} can hold here");
        table.fault("min", &format!("{what}: nothing could be written"), help);
    } else if let Some(max) = max.filter(|max| *max < least) {
        let what = format!("{{key}} = {max} is below {least}, the least that {name} can hold here");
        table.fault("max", &format!("{what}: nothing could be written"), help);
    }
}

pub(super) fn values(table: &mut Table, point: Whole) -> BTreeMap<i128, String> {
    let kind = point.kind;
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
        if let Some((least, greatest)) = point.range() {
            // A name may be given to the same bits without sign.
            let greatest = if least < 0 { greatest - least } else { greatest };
            if !(least..=greatest).contains(&number) {
                let what = format!("{{key}} is no number that {} can have", point.name());
                inner.fault(&key, &what, format!("write whole numbers from {least} to {greatest}"));
                continue;
            }
        }
        let is_same = |other: &i128| *other == number || Some((other - number).abs()) == point.modulus();
        if names.keys().any(is_same) {
            inner.fault(&key, "{key} names a number that has a name already", "write each number once");
        }
        if point.writable
            && let Some((other, _)) = names.iter().find(|(_, known)| **known == name)
        {
            let what = format!("{{key}} has the name of {other} too: who writes it could mean either");
            inner.fault(&key, &what, "write different names, or remove writable");
        }
        names.insert(number, name);
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
    let bits_of_kind = kind.and_then(bits_of);
    let mut numbers = Vec::new();
    for value in &list {
        let number = match value {
            Value::String(_, text) => whole(text),
            other => other.to_i128(),
        };
        if let Some(number) = number {
            // Both readings of the whole register count, with its sign and without.
            let range = bits_of_kind.map(|width| (-(1_i128 << (width - 1)), (1_i128 << width) - 1));
            if let Some((least, greatest)) = range
                && !(least..=greatest).contains(&number)
            {
                let name = kind.map_or("", Kind::name);
                let what = format!("{{key}} holds {number}, which {name} cannot have");
                let help = format!("write raw numbers from {least} to {greatest}");
                table.fault("invalid", &what, help);
            }
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
