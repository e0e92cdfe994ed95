//! The points of a device: `[devices.ID.points.ID]`.

use std::collections::BTreeMap;

use figment::value::Value;
use serde_json::Value as Json;

use super::devices::{groups, order};
use super::table::Table;
use crate::address::{Address, AddressError, Area, parse_modbus};
use crate::point::{Kind, Order, Point, PointId, Protocol};
use rust_decimal::Decimal;

/// Longest text of a point, in bytes: two for each of the 125 registers of one read.
const LONGEST_STRING: u16 = 250;

/// What the simulator makes.
const SIGNALS: [&str; 5] = ["sine", "counter", "random", "memory", "fault"];

/// The enabled points, in the order of the configuration.
pub(super) fn read(
    mut tables: Vec<(String, Table)>,
    protocol: &Protocol,
    order: Option<Order>,
) -> Vec<Point> {
    tables.sort_by_key(|(_, table)| table.position(""));
    let mut points: Vec<Point> = Vec::new();
    for (id, mut table) in tables {
        let enabled = table.flag("enabled", true);
        let point = point(&id, &mut table, protocol, order);
        if let Some(point) = point.filter(|_| enabled) {
            // Simulated signals are made for each point anew.
            let same = |other: &&Point| {
                !matches!(protocol, Protocol::Simulator)
                    && (&other.address, other.kind, other.bits) == (&point.address, point.kind, point.bits)
            };
            if let Some(other) = points.iter().find(same) {
                let what = format!(
                    "{{key}} is the same place with the same type as the point {}",
                    other.id
                );
                table.fault("address", &what, "remove one of them, or correct its address");
            }
            points.push(point);
        }
        table.finish();
    }
    points
}

fn point(id: &str, table: &mut Table, protocol: &Protocol, device_order: Option<Order>) -> Option<Point> {
    let label = table.text("label");
    let tags = table.tags();
    let unit = table.text("unit");
    let own_order = order(table);
    let kind = kind(table, protocol);
    let bit = table.whole("bit", 0..=15_u8);
    let writable = table.flag("writable", false);
    let bits = bits(table, kind);
    let address = address(table, protocol, kind, bit);
    let numbers = numbers(table, kind);
    let values = values(table, kind);
    let invalid = invalid(table, kind);
    if bit.is_some() && bits.is_some() {
        table.fault(
            "bits",
            "{key} and bit exclude one another",
            "use bit with bool, bits with whole numbers",
        );
    }
    if let (Some(kind), Some(_)) = (kind, bit)
        && kind != Kind::Bool
    {
        let what = format!("{{key}} goes with the type bool only, not with {}", kind.name());
        table.fault(
            "bit",
            &what,
            "write type = \"bool\", or use bits for a part of a number",
        );
    }
    if writable {
        check_writable(table, protocol, address.as_ref(), bit.is_some() || bits.is_some());
    }
    let (address, kind, (scale, offset, min, max)) = (address?, kind?, numbers?);
    Some(Point {
        id: PointId::new(id)?,
        label,
        tags,
        address,
        kind,
        order: own_order.or(device_order).unwrap_or_default(),
        scale,
        offset,
        unit,
        bits,
        invalid,
        values,
        writable,
        min,
        max,
    })
}

fn kind(table: &mut Table, protocol: &Protocol) -> Option<Kind> {
    let mut words: Vec<(&str, &str)> = Kind::NAMES.iter().map(|name| (*name, *name)).collect();
    words.push(("string", "string"));
    if !table.has("type") {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        table.fault(
            "type",
            "{key} is missing",
            format!("write one of {}", names.join(", ")),
        );
    }
    let name = table.choice("type", &words);
    let length = table.whole("length", 1..=LONGEST_STRING);
    let name = name?;
    if name != "string" {
        if table.was_given("length") {
            let what = format!("{{key}} goes with the type string only, not with {name}");
            table.fault("length", &what, "remove it");
        }
        return Kind::parse(name, 0);
    }
    let length = match protocol {
        // The frame says how long a text is.
        Protocol::Text { .. } => length.unwrap_or(LONGEST_STRING),
        Protocol::Modbus { .. } if !table.was_given("length") => {
            table.fault(
                "length",
                "{key} is missing",
                "write how many bytes the text has, 1 to 250",
            );
            return None;
        }
        Protocol::Modbus { .. } => length?,
        Protocol::Simulator => {
            table.fault(
                "type",
                "{key} must not be string: the simulator makes numbers",
                "write type = \"f64\"",
            );
            return None;
        }
    };
    Kind::parse(name, length)
}

fn address(table: &mut Table, protocol: &Protocol, kind: Option<Kind>, bit: Option<u8>) -> Option<Address> {
    let help = match protocol {
        Protocol::Modbus { .. } => {
            "write coil:N, discrete:N, input:N or holding:N, or a Modicon number".to_owned()
        }
        Protocol::Text { decode, .. } => {
            let groups: Vec<_> = groups(decode)
                .into_iter()
                .map(|name| format!("`{name}`"))
                .collect();
            if groups.is_empty() {
                "name a group in the regex: (?<name>…)".to_owned()
            } else {
                format!("write one of its named groups: {}", groups.join(", "))
            }
        }
        Protocol::Simulator => format!("write one of {}", SIGNALS.join(", ")),
    };
    if !table.has("address") {
        table.fault("address", "{key} is missing", help);
        return None;
    }
    let text = table.text_or_number("address")?;
    match protocol {
        Protocol::Modbus { max_registers, .. } => {
            let (area, number) = match parse_modbus(&text) {
                Ok(place) => place,
                Err(AddressError::Form(_)) => {
                    table.fault("address", "{key} is not a Modbus address", help);
                    return None;
                }
                Err(AddressError::Range(_)) => {
                    table.fault("address", "{key} lies outside 0 to 65535", help);
                    return None;
                }
            };
            check_place(table, area, number, kind?, bit, *max_registers);
            return Some(Address::Register { area, number, bit });
        }
        Protocol::Text { decode, .. } => {
            if !groups(decode).contains(text.as_str()) {
                table.fault("address", "{key} names no group of the regex", help);
                return None;
            }
        }
        Protocol::Simulator => {
            if !SIGNALS.contains(&text.as_str()) {
                table.fault("address", "{key} is no signal of the simulator", help);
                return None;
            }
        }
    }
    if bit.is_some() {
        table.fault("bit", "{key} goes with Modbus registers only", "remove it");
    }
    Some(Address::Name(text))
}

/// What lies at a place must be what the type needs.
fn check_place(table: &Table, area: Area, number: u16, kind: Kind, bit: Option<u8>, max_registers: u16) {
    let name = area.name();
    if area.is_bits() {
        if bit.is_some() {
            let what = format!("{{key}} has no place on a {name}, which is a single bit");
            table.fault("bit", &what, "remove it");
        }
        if kind != Kind::Bool {
            let what = format!("{{key}} must be bool on a {name}, which is a single bit");
            table.fault("type", &what, "write type = \"bool\"");
        }
        return;
    }
    if kind == Kind::Bool && bit.is_none() && !table.was_given("bit") {
        let help = "write bit = 0 to 15, or type = \"u16\" for the whole register";
        table.fault(
            "bit",
            &format!("{{key}} is missing: a bool needs one bit of its {name} register"),
            help,
        );
    }
    let registers = kind.registers();
    if number.checked_add(registers - 1).is_none() {
        let what = format!("{{key}} and its {registers} registers reach beyond register 65535");
        table.fault(
            "address",
            &what,
            format!("start at {name}:{} or before", u16::MAX - registers + 1),
        );
    }
    if registers > max_registers {
        let what = format!("{{key}} takes {registers} registers, more than max_registers = {max_registers}");
        table.fault(
            "type",
            &what,
            format!("raise max_registers of the device to {registers} at least"),
        );
    }
}

/// Reads `4-7` or `4`.
fn bits(table: &mut Table, kind: Option<Kind>) -> Option<(u8, u8)> {
    const HELP: &str = "write first and last bit, inclusive, such as \"4-7\"";
    let text = table.text("bits")?;
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let Some((low, high)) = number(low).zip(number(high)).filter(|(low, high)| low <= high) else {
        table.fault("bits", "{key} is no range of bits", HELP);
        return None;
    };
    let Some(width) = width(kind?) else {
        let what = format!("{{key}} goes with whole numbers only, not with {}", kind?.name());
        table.fault("bits", &what, "write a type such as \"u16\"");
        return None;
    };
    if high >= width {
        let what = format!(
            "{{key}} reaches beyond bit {}, the last of {}",
            width - 1,
            kind?.name()
        );
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

type Numbers = (Decimal, Decimal, Option<Decimal>, Option<Decimal>);

/// Scale, offset, min and max.
fn numbers(table: &mut Table, kind: Option<Kind>) -> Option<Numbers> {
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
        table.fault(
            "min",
            &format!("{{key}} = {min} is greater than max = {max}"),
            "exchange the two",
        );
    }
    kind.map(|_| (scale, offset, min, max))
}

fn values(table: &mut Table, kind: Option<Kind>) -> BTreeMap<i128, String> {
    let mut names = BTreeMap::new();
    let Some(mut inner) = table.table("values") else {
        return names;
    };
    if let Some(kind @ (Kind::F32 | Kind::F64 | Kind::String { .. })) = kind {
        let what = format!(
            "{{key}} goes with whole numbers and bool only, not with {}",
            kind.name()
        );
        table.fault("values", &what, "remove it");
    }
    for (key, value) in inner.drain() {
        let Some(number) = whole(&key) else {
            inner.fault(
                &key,
                "{key} is not a whole number",
                "write values = { 0 = \"off\", 1 = \"auto\" }",
            );
            continue;
        };
        let Value::String(_, name) = value else {
            inner.fault(
                &key,
                "{key} must be text",
                "write values = { 0 = \"off\", 1 = \"auto\" }",
            );
            continue;
        };
        inner.note(&key, name.as_str().into());
        if names.insert(number, name).is_some() {
            inner.fault(
                &key,
                "{key} names a number that has a name already",
                "write each number once",
            );
        }
    }
    names
}

fn invalid(table: &mut Table, kind: Option<Kind>) -> Vec<i128> {
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
            table.fault(
                "invalid",
                "{key} holds something that is not a whole number",
                help,
            );
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
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&number)
        .then_some(number)
}

fn check_writable(table: &Table, protocol: &Protocol, address: Option<&Address>, part: bool) {
    if part {
        let help = "remove writable, or write the whole register by a point of its own";
        table.fault(
            "writable",
            "{key} with bit or bits is not in this version yet",
            help,
        );
    }
    match (protocol, address) {
        (Protocol::Modbus { .. }, Some(Address::Register { area, .. })) if !area.is_writable() => {
            let what = format!("{{key}} cannot be: Modbus has no write for {}", area.name());
            table.fault(
                "writable",
                &what,
                "remove it, or use a coil or a holding register",
            );
        }
        (Protocol::Text { .. }, _) => {
            table.fault("writable", "{key} cannot be on a serial text device", "remove it");
        }
        (Protocol::Simulator, Some(Address::Name(name))) if name != "memory" => {
            let help = "remove it, or write address = \"memory\"";
            table.fault("writable", "{key} goes with the signal memory only", help);
        }
        _ => {}
    }
}
