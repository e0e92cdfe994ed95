//! The devices: `[devices.ID]`, with the template each may have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{check_layout, text};
use super::driverless::{guess, stand_in};
use super::links::Link;
use super::points;
use super::reporting::check_heartbeats;
use super::table::Table;
use super::templates::Templates;
use super::{LinkConfig, Transport, modbus};
use crate::point::{Device, DeviceId, LinkId, Order, Protocol};

/// From the start of one poll to that of the next.
pub(super) const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(7 * 86_400);

/// Rest of the link before a request.
const PAUSES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// Keys that depend on the driver.
pub(super) const TEXT_KEYS: [&str; 3] = ["request", "decode", "decimal"];

pub(super) fn read(
    tables: Vec<(String, Table)>,
    templates: Vec<(String, Table)>,
    links: &BTreeMap<String, Link>,
) -> Vec<Device> {
    let mut templates = Templates::new(templates);
    let mut devices: Vec<Device> = Vec::new();
    for (id, table) in tables {
        let Some(table) = templates.apply(table) else {
            continue;
        };
        let Some((device, enabled)) = device(&id, table, links, &devices) else {
            continue;
        };
        if enabled {
            devices.push(device);
        }
    }
    let unused = templates.into_unused();
    if let Some(first) = unused.first() {
        // They have no effect, so they are not shown.
        let effective = first.reader.effective.take();
        let reader = first.reader;
        for table in unused {
            drop(device("unused", table.into_part(), links, &[]));
        }
        reader.effective.replace(effective);
    }
    devices
}

fn device(
    id: &str,
    mut table: Table,
    links: &BTreeMap<String, Link>,
    others: &[Device],
) -> Option<(Device, bool)> {
    let enabled = table.flag("enabled", true);
    let label = table.text("label");
    let tags = table.tags();
    let poll_interval = table.duration("poll_interval", INTERVALS, Duration::from_secs(5));
    let align = table.flag("align", false);
    let order = order(&mut table);
    let link = link(&mut table, links);
    let Some((link, enabled)) = link.map(|(link, used)| (link, enabled && used)) else {
        let mut table = table.into_part();
        let protocol = guess(&mut table);
        table.duration("pause", PAUSES, Duration::ZERO);
        points::read(table.tables("points"), &protocol, order);
        table.finish();
        return None;
    };
    let protocol = protocol(&mut table, &link.transport);
    if let Some(Protocol::Modbus { reads, .. }) = &protocol
        && reads.answer_time > link.timeout
    {
        table.reader.warn(format!(
            "{} = {:?} is longer than links.{}.timeout = {:?}: such an answer would always come too late",
            table.name("answer_time"),
            reads.answer_time,
            link.id,
            link.timeout,
        ));
    }
    let pause = table.duration("pause", PAUSES, link.pause);
    let mut points = Vec::new();
    let tables = table.tables("points");
    if tables.is_empty() && !table.is_part() {
        table.reader.warn(format!("devices.{id} has no points"));
    }
    if let Some(protocol) = &protocol {
        points = points::read(tables, protocol, order);
    } else if matches!(link.transport, Transport::Modbus { .. }) {
        points::read(tables, &stand_in(), order);
    }
    if let Transport::Serial { frame, .. } = &link.transport {
        check_layout(&table, frame, &points);
    }
    if enabled {
        check_heartbeats(&table, poll_interval, &points);
    }
    if enabled && let Some(protocol) = &protocol {
        check_place(&table, protocol, &link.id, others);
    }
    table.finish();
    let protocol = protocol?;
    let patience = match protocol {
        // What talks by itself is awaited for as long as it may be silent.
        Protocol::Text { request: None, .. } => poll_interval,
        _ => link.timeout,
    };
    let device = Device {
        id: DeviceId::new(id)?,
        link: link.id.clone(),
        label,
        tags,
        protocol,
        poll_interval,
        align,
        patience,
        pause,
        points,
    };
    Some((device, enabled))
}

/// The order of bytes, of a device or of a point.
pub(super) fn order(table: &mut Table) -> Option<Order> {
    let words = ["ABCD", "CDAB", "BADC", "DCBA"];
    let words: Vec<_> = words.iter().filter_map(|word| Some((*word, Order::parse(word)?))).collect();
    table.choice("order", &words)
}

/// The link a device names, and whether it is enabled. Nothing, without a fault, where the link is faulty itself.
fn link<'l>(table: &mut Table, links: &'l BTreeMap<String, Link>) -> Option<(&'l LinkConfig, bool)> {
    let names: Vec<_> = links.keys().map(|name| format!("`{name}`")).collect();
    let help = if names.is_empty() {
        "add a table [links.ID] and name it here".to_owned()
    } else {
        format!("write one of {}", names.join(", "))
    };
    if !table.has("link") {
        table.missing("link", "{key} is missing", help);
        return None;
    }
    let name = table.text("link")?;
    let Some(link) = links.get(&name) else {
        table.fault("link", &format!("{{key}} names the link \"{name}\", which does not exist"), help);
        return None;
    };
    Some((link.config.as_ref()?, link.enabled))
}

fn protocol(table: &mut Table, transport: &Transport) -> Option<Protocol> {
    if !matches!(transport, Transport::Modbus { .. }) {
        modbus::refuse_keys(table);
    }
    if !matches!(transport, Transport::Serial { .. }) {
        for key in TEXT_KEYS {
            table.refuse(key, "{key} belongs to a device on a link with the driver `serial`", "remove it");
        }
    }
    match transport {
        Transport::Modbus { framing, .. } => modbus::unit(table, *framing),
        Transport::Serial { .. } => {
            without_address(table);
            text(table)
        }
        Transport::Simulator => {
            without_address(table);
            Some(Protocol::Simulator)
        }
        Transport::Plugin(_) => Some(Protocol::Plugin { address: table.text_or_number("address") }),
    }
}

fn without_address(table: &mut Table) {
    if table.text_or_number("address").is_some() {
        table.reader.warn(format!("{} has no effect on this link", table.name("address")));
    }
}

/// Two devices must not answer for one another.
fn check_place(table: &Table, protocol: &Protocol, link: &LinkId, others: &[Device]) {
    for other in others.iter().filter(|other| other.link == *link) {
        match (protocol, &other.protocol) {
            (Protocol::Modbus { unit, .. }, Protocol::Modbus { unit: taken, .. }) if unit == taken => {
                let what = format!("{{key}} is already that of devices.{} on the same link", other.id);
                let help = "put the points of both into one device, or correct the unit id";
                table.fault("address", &what, help);
            }
            (Protocol::Text { request: None, .. }, Protocol::Text { .. })
            | (Protocol::Text { .. }, Protocol::Text { request: None, .. }) => {
                let what =
                    format!("{{key}} is shared with devices.{}, and one of them only listens", other.id);
                let help = "give both a request, or put the points of both into one device";
                table.fault("link", &what, help);
            }
            _ => {}
        }
    }
}
