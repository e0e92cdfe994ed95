//! The points of a device: `[devices.ID.points.ID]`.

use super::decode::groups;
use super::devices::{INTERVALS, order};
use super::frame::LONGEST_FRAME;
use super::modbus;
use super::numbers::{Whole, bits, invalid, numbers, values};
use super::reporting::reporting;
use super::table::Table;
use crate::address::{Address, AddressError, Area, JsonPath, parse_modbus};
use crate::point::{Decode, Kind, Order, Point, PointId, Protocol};

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
            let same = |other: &&Point| !matches!(protocol, Protocol::Simulator) && is_double(other, &point);
            if let Some(other) = points.iter().find(same) {
                let what = format!("{{key}} is the same place, read the same way, as the point {}", other.id);
                table.fault("address", &what, "remove one of them, or correct its address");
            }
            points.push(point);
        }
        table.finish();
    }
    points
}

/// Whatever the one says, the other says too.
fn is_double(one: &Point, other: &Point) -> bool {
    let order = |point: &Point| match (&point.address, point.kind.registers()) {
        (Address::Register { area, .. }, _) if area.is_bits() => None,
        // One register has no words to be reversed.
        (Address::Register { .. }, 1) => Some((point.order.swaps_bytes(), false)),
        _ => Some((point.order.swaps_bytes(), point.order.reverses_words())),
    };
    let place = |point: &Point| (point.kind, point.bits, order(point), point.scale, point.offset);
    place(one) == place(other)
        && one.address == other.address
        && one.values == other.values
        && one.invalid == other.invalid
}

fn point(id: &str, table: &mut Table, protocol: &Protocol, device_order: Option<Order>) -> Option<Point> {
    let label = table.text("label");
    let tags = table.tags();
    let unit = table.text("unit");
    let own_order = order(table);
    let kind = kind(table, protocol);
    let bit = table.whole("bit", 0..=15_u8);
    let writable = table.flag("writable", false);
    let poll_interval = table.has("poll_interval").then(|| {
        let default = *INTERVALS.end();
        table.duration("poll_interval", INTERVALS, default)
    });
    let no_merge = no_merge(table, protocol);
    let reporting = reporting(table, kind);
    let bits = bits(table, kind);
    let address = address(table, protocol, kind, bit);
    let whole = Whole { kind, bits, writable };
    let numbers = numbers(table, whole);
    let values = values(table, whole);
    let invalid = invalid(table, kind);
    if let (Some(kind), Some(_)) = (kind, bit)
        && kind != Kind::Bool
    {
        let what = format!("{{key}} goes with the type bool only, not with {}", kind.name());
        table.fault("bit", &what, "write type = \"bool\", or use bits for a part of a number");
    }
    if writable {
        check_writable(table, protocol, address.as_ref(), bit.is_some() || bits.is_some());
    }
    let (address, kind, (scale, offset, min, max)) = (address?, kind?, numbers?);
    let order = own_order.or(device_order).unwrap_or_default();
    if matches!(address, Address::Byte { .. }) {
        check_order(table, kind, order);
    }
    let point = Point {
        id: PointId::new(id)?,
        label,
        tags,
        address,
        kind,
        order,
        scale,
        offset,
        unit,
        bits,
        invalid,
        values,
        poll_interval,
        reporting,
        no_merge,
        writable,
        min,
        max,
    };
    if matches!(protocol, Protocol::Modbus { broadcast: true, .. }) {
        modbus::check_broadcast(table, &point);
    }
    Some(point)
}

fn no_merge(table: &mut Table, protocol: &Protocol) -> bool {
    if !matches!(protocol, Protocol::Modbus { .. }) {
        table.refuse("no_merge", "{key} belongs to a point on a Modbus link", "remove it");
        return false;
    }
    table.flag("no_merge", false)
}

fn kind(table: &mut Table, protocol: &Protocol) -> Option<Kind> {
    let mut words: Vec<(&str, &str)> = Kind::NAMES.iter().map(|name| (*name, *name)).collect();
    words.push(("string", "string"));
    if !table.has("type") {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        table.missing("type", "{key} is missing", format!("write one of {}", names.join(", ")));
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
        Protocol::Modbus { .. } | Protocol::Text { decode: Decode::Bytes, .. }
            if !table.was_given("length") =>
        {
            table.missing("length", "{key} is missing", "write how many bytes the text has, 1 to 250");
            return None;
        }
        Protocol::Modbus { .. } | Protocol::Text { decode: Decode::Bytes, .. } => length?,
        // The frame, or the plugin's answer, says how long a text is.
        Protocol::Text { .. } | Protocol::Plugin { .. } => length.unwrap_or(LONGEST_STRING),
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
        Protocol::Text { decode, .. } => help_of(decode),
        Protocol::Simulator => format!("write one of {}", SIGNALS.join(", ")),
        Protocol::Plugin { .. } => "write what the plugin's README says".to_owned(),
    };
    if !table.has("address") {
        table.missing("address", "{key} is missing", help);
        return None;
    }
    let text = table.text_or_number("address")?;
    match protocol {
        Protocol::Modbus { reads, .. } => {
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
            check_place(table, area, number, kind?, bit, reads.max_registers);
            return Some(Address::Register { area, number, bit });
        }
        Protocol::Text { decode, .. } => {
            if bit.is_some() && *decode != Decode::Bytes {
                table.fault("bit", "{key} goes with registers and with bytes = true only", "remove it");
            }
            return in_frame(table, decode, text, kind?, bit, help);
        }
        Protocol::Simulator => {
            if !SIGNALS.contains(&text.as_str()) {
                table.fault("address", "{key} is no signal of the simulator", help);
                return None;
            }
        }
        Protocol::Plugin { .. } => {}
    }
    if bit.is_some() && !table.is_part() {
        table.fault("bit", "{key} goes with registers and with bytes = true only", "remove it");
    }
    Some(Address::Name(text))
}

fn help_of(decode: &Decode) -> String {
    match decode {
        Decode::Regex(regex) => {
            let groups: Vec<_> = groups(regex).into_iter().map(|name| format!("`{name}`")).collect();
            if groups.is_empty() {
                "name a group in the regex: (?<name>…)".to_owned()
            } else {
                format!("write one of its named groups: {}", groups.join(", "))
            }
        }
        Decode::Json => "write the way to it, such as \"weight\", \"a.b[0]\" or '[\"a.b\"]'".to_owned(),
        Decode::Csv(_) => "write the number of the column, from 0".to_owned(),
        Decode::Bytes => format!("write the place of its first byte, 0 to {}", LONGEST_FRAME - 1),
    }
}

/// A place in a frame of a serial device.
fn in_frame(
    table: &Table,
    decode: &Decode,
    text: String,
    kind: Kind,
    bit: Option<u8>,
    help: String,
) -> Option<Address> {
    let number = || text.parse::<u16>().ok().filter(|number| *number < LONGEST_FRAME);
    let (address, what) = match decode {
        Decode::Regex(regex) if groups(regex).contains(text.as_str()) => (Some(Address::Name(text)), ""),
        Decode::Regex(_) => (None, "{key} names no group of the regex"),
        Decode::Json => (JsonPath::parse(&text).map(Address::Path), "{key} is no way into a JSON text"),
        Decode::Csv(_) => (number().map(Address::Column), "{key} is no number of a column"),
        Decode::Bytes => {
            if bit.is_some_and(|bit| bit > 7) {
                let help = "write 0 to 7, and the address of its byte";
                table.fault("bit", "{key} lies outside of a byte", help);
            }
            let place = number().filter(|offset| offset + kind.bytes() <= LONGEST_FRAME);
            (place.map(|offset| Address::Byte { offset, bit }), "{key} is no place in a frame")
        }
    };
    if address.is_none() {
        table.fault("address", what, help);
    }
    address
}

/// Three bytes have no words to be put in order, and what is swapped in pairs comes in pairs.
fn check_order(table: &Table, kind: Kind, order: Order) {
    let is_wrong = match kind {
        Kind::I24 | Kind::U24 => matches!(order, Order::Cdab | Order::Badc),
        Kind::String { length } => order.swaps_bytes() && !length.is_multiple_of(2),
        _ => false,
    };
    if is_wrong {
        let what = format!("{{key}} does not go with {} in a layout of bytes", kind.name());
        table.fault("order", &what, "write ABCD, or DCBA for a number with its lowest byte first");
    }
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
        table.missing(
            "bit",
            &format!("{{key}} is missing: a bool needs one bit of its {name} register"),
            help,
        );
    }
    let registers = kind.registers();
    if number.checked_add(registers - 1).is_none() {
        let what = format!("{{key}} and its {registers} registers reach beyond register 65535");
        table.fault("address", &what, format!("start at {name}:{} or before", u16::MAX - registers + 1));
    }
    if registers > max_registers {
        let what = format!("{{key}} takes {registers} registers, more than max_registers = {max_registers}");
        table.fault("type", &what, format!("raise max_registers of the device to {registers} at least"));
    }
}

fn check_writable(table: &Table, protocol: &Protocol, address: Option<&Address>, part: bool) {
    if part && !matches!(protocol, Protocol::Modbus { .. }) && !table.is_part() {
        table.fault("writable", "{key} with bits goes with Modbus registers only", "remove writable or bits");
    }
    match (protocol, address) {
        (Protocol::Modbus { .. }, Some(Address::Register { area, .. })) if !area.is_writable() => {
            let what = format!("{{key}} cannot be: Modbus has no write for {}", area.name());
            table.fault("writable", &what, "remove it, or use a coil or a holding register");
        }
        (Protocol::Text { .. }, _) => {
            table.fault("writable", "{key} cannot be on a serial text device", "remove it");
        }
        _ => {}
    }
}
