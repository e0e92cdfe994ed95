//! What a Modbus link and a Modbus device say beside what every link and device says.

use std::time::Duration;

use super::line::{LINE_KEYS, line};
use super::links::parse_host;
use super::table::Table;
use super::{Framing, Medium, Transport};
use crate::decode::mask;
use crate::point::{Point, Protocol, Reads};

/// Port of Modbus TCP (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 4.2).
const PORT: u16 = 502;

/// Most registers of one read (Modbus Application Protocol V1.1b3, 6.3).
const MOST_REGISTERS: u16 = 125;

/// Most coils or discrete inputs of one read (Modbus Application Protocol V1.1b3, 6.1).
const MOST_BITS: u16 = 2000;

/// Time that units get for a broadcast (Modbus over Serial Line V1.02, 2.4.1: 100 to 200 ms).
const TURNAROUND: Duration = Duration::from_millis(100);

/// Keys of Modbus links alone.
pub(super) const LINK_KEYS: [&str; 2] = ["backup", "turnaround"];

/// Keys of Modbus devices alone.
pub(super) const DEVICE_KEYS: [&str; 5] =
    ["max_registers", "max_bits", "max_gap", "answer_time", "read_write"];

/// The driver words of Modbus.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Tcp,
    Rtu,
    RtuTcp,
    Ascii,
}

impl Word {
    /// A link of it may have a `path`, an `address`.
    pub(super) fn takes(self) -> (bool, bool) {
        match self {
            Self::Tcp | Self::RtuTcp => (false, true),
            Self::Rtu => (true, false),
            Self::Ascii => (true, true),
        }
    }

    /// Unit 0 stands for every unit; over Modbus TCP it is the server itself.
    pub(super) fn has_broadcast(self) -> bool {
        self != Self::Tcp
    }
}

/// The transport of a Modbus link.
pub(super) fn transport(table: &mut Table, word: Word) -> Option<Transport> {
    let turnaround = if word.has_broadcast() {
        table.duration("turnaround", Duration::ZERO..=Duration::from_secs(10), TURNAROUND)
    } else {
        TURNAROUND
    };
    let framing = match word {
        Word::Tcp => Framing::Tcp,
        Word::Rtu | Word::RtuTcp => Framing::Rtu,
        Word::Ascii => Framing::Ascii,
    };
    let over_tcp = match word {
        Word::Tcp | Word::RtuTcp => true,
        Word::Rtu => false,
        Word::Ascii => table.has("address"),
    };
    if !over_tcp {
        table.refuse("backup", "{key} belongs to a link with an `address`", "remove it");
        let line = line(table)?;
        if word == Word::Rtu && line.data_bits != 8 {
            table.fault("data_bits", "{key} must be 8 for Modbus RTU", "remove it");
        }
        if word == Word::Ascii && line.data_bits < 7 {
            table.fault("data_bits", "{key} must be 7 or 8 for Modbus ASCII", "write 7 or remove it");
        }
        return Some(Transport::Modbus { framing, medium: Medium::Line(line), backup: None, turnaround });
    }
    for key in LINE_KEYS {
        let help = "write either a serial line's `path` or an `address`, not both";
        table.refuse(key, "{key} belongs to a serial line, and this link has an address", help);
    }
    let address = host(table, "address");
    let backup = if table.has("backup") { Some(host(table, "backup")) } else { None };
    let (host, port) = address?;
    let backup = match backup {
        Some(backup) => Some(backup?),
        None => None,
    };
    if backup.as_ref() == Some(&(host.clone(), port)) {
        table.fault("backup", "{key} is the address itself", "write another host or port, or remove it");
    }
    Some(Transport::Modbus { framing, medium: Medium::Tcp { host, port }, backup, turnaround })
}

fn host(table: &mut Table, key: &'static str) -> Option<(String, u16)> {
    const HELP: &str = "write a host with or without a port, such as \"192.168.1.10\" or \"plc:502\"";
    if !table.has(key) {
        table.fault(key, "{key} is missing", HELP);
    }
    let text = table.text(key)?;
    let host = parse_host(&text, Some(PORT));
    if host.is_none() {
        table.fault(key, "{key} does not name a host, with or without a port", HELP);
    }
    host
}

/// Refuses what only a Modbus device may say.
pub(super) fn refuse_keys(table: &mut Table) {
    for key in DEVICE_KEYS {
        table.refuse(key, "{key} belongs to a device on a Modbus link", "remove it");
    }
}

/// What a device says of its unit.
pub(super) fn unit(table: &mut Table, framing: Framing) -> Option<Protocol> {
    let (low, high) = if framing == Framing::Tcp { (0, 255) } else { (0, 247) };
    let help = match framing {
        Framing::Tcp => "write the unit id, 0 to 255, such as address = 1",
        _ => "write the unit id, 1 to 247, such as address = 1; 0 writes to every unit",
    };
    if !table.has("address") {
        table.missing("address", "{key} is missing: a Modbus device needs its unit", help);
    }
    let unit = table.text_or_number("address");
    let reads = reads(table);
    let read_write = table.flag("read_write", false);
    let unit = unit?;
    let digits = !unit.is_empty() && unit.bytes().all(|b| b.is_ascii_digit());
    let parsed = unit.parse().ok().filter(|unit: &u8| digits && (low..=high).contains(unit));
    let Some(unit) = parsed else {
        table.fault("address", &format!("{{key}} must be a unit id of {low} to {high} on this link"), help);
        return None;
    };
    let broadcast = framing != Framing::Tcp && unit == 0;
    if broadcast && read_write {
        table.fault("read_write", "{key} cannot be: nobody answers a broadcast", "remove it");
    }
    Some(Protocol::Modbus { unit, reads, broadcast, read_write })
}

fn reads(table: &mut Table) -> Reads {
    let max_registers = table.whole("max_registers", 1..=MOST_REGISTERS).unwrap_or(MOST_REGISTERS);
    table.note("max_registers", max_registers.into());
    let max_bits = table.whole("max_bits", 1..=MOST_BITS).unwrap_or(MOST_BITS);
    table.note("max_bits", max_bits.into());
    let max_gap = table.whole("max_gap", 0..=MOST_BITS);
    let range = Duration::ZERO..=Duration::from_secs(10);
    let answer_time = table.duration("answer_time", range, Reads::default().answer_time);
    Reads { max_registers, max_bits, max_gap, answer_time }
}

/// What a point of unit 0 must be: it is written and never read.
pub(super) fn check_broadcast(table: &Table, point: &Point) {
    if !point.writable {
        let help = "write writable = true, or give the device the address of one unit";
        table.fault("writable", "{key} must be true: unit 0 stands for all units, and none answers", help);
        return;
    }
    let mask = mask(point);
    let part = mask.iter().any(|mask| *mask != u16::MAX);
    if part && mask.iter().filter(|mask| **mask != 0).count() > 1 {
        let help = "write whole registers, or bits of one register";
        table.fault("type", "{key} owns a part of several registers, which a broadcast cannot keep", help);
    }
}
