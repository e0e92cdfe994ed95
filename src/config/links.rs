//! The links: `[links.ID]`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::frame::{Shape, frame};
use super::line::{LINE_KEYS, PortName, line};
use super::plugin;
use super::table::{Table, list};
use super::{Encoding, LinkConfig, Medium, Transport, modbus};
use crate::point::LinkId;

/// A link as it was read.
pub(super) struct Link {
    /// It is to be used.
    pub(super) enabled: bool,
    /// What it is, unless something is wrong with that.
    pub(super) config: Option<LinkConfig>,
}

#[derive(Clone, Copy)]
enum Driver {
    Modbus(modbus::Word),
    Serial,
    Simulator,
}

const DRIVERS: [(&str, Driver); 6] = [
    ("modbus-tcp", Driver::Modbus(modbus::Word::Tcp)),
    ("modbus-rtu", Driver::Modbus(modbus::Word::Rtu)),
    ("modbus-rtu-tcp", Driver::Modbus(modbus::Word::RtuTcp)),
    ("modbus-ascii", Driver::Modbus(modbus::Word::Ascii)),
    ("serial", Driver::Serial),
    ("simulator", Driver::Simulator),
];

/// Keys of links of text devices alone.
const SERIAL_KEYS: [&str; 2] = ["frame", "encoding"];

/// The word of somebody's program, which has a name of its own.
const PLUGIN: &str = "plugin:NAME";

pub(super) fn read(tables: Vec<(String, Table)>) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for (id, mut table) in tables {
        let enabled = table.flag("enabled", true);
        let label = table.text("label");
        let tags = table.tags();
        let plugin = plugin::name(&table);
        let transport = match &plugin {
            Some(name) => plugin::read(&mut table, name, enabled),
            None => transport(&mut table),
        };
        let millis = Duration::from_millis;
        // A program of somebody's takes its time to start.
        let usual = millis(if plugin.is_some() { 5000 } else { 500 });
        let timeout = table.duration("timeout", millis(10)..=millis(60_000), usual);
        let pause = table.duration("pause", Duration::ZERO..=millis(60_000), Duration::ZERO);
        let range = Duration::ZERO..=millis(60_000);
        let pause_after_connect = table.duration("pause_after_connect", range, Duration::ZERO);
        // The part of a line's time that a device without answers may take.
        let dead_share = table.share("dead_share", &(0.01..=0.5), 0.1);
        if let Some((key, place)) = transport.as_ref().filter(|_| enabled).and_then(place_of)
            && let Some(owner) = owners.insert(place, id.clone())
        {
            let help = format!("put the devices of both onto links.{owner}: one link owns a line");
            table.fault(key, &format!("{{key}} is already that of links.{owner}"), help);
        }
        if let Some(Transport::Serial { frame, .. }) = &transport
            && let Shape::Silence(silence) = frame.shape
            && silence >= timeout
        {
            let what = "{key}.silence is not shorter than timeout: no frame would ever end in time";
            table.fault("frame", what, "raise timeout");
        }
        table.finish();
        let config = transport.zip(LinkId::new(&id)).map(|(transport, id)| LinkConfig {
            id,
            label,
            tags,
            transport,
            timeout,
            pause,
            pause_after_connect,
            dead_share,
        });
        links.insert(id, Link { enabled, config });
    }
    links
}

/// What a link owns alone, comparable, and the key that says so.
fn place_of(transport: &Transport) -> Option<(&'static str, String)> {
    match transport {
        Transport::Modbus { medium: Medium::Tcp { host, port }, .. } => {
            Some(("address", format!("{host}:{port}").to_ascii_lowercase()))
        }
        Transport::Modbus { medium: Medium::Line(line), .. } | Transport::Serial { line, .. } => {
            Some(match &line.port {
                // Two names in /dev/serial may be one device.
                PortName::Path(path) => {
                    let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                    ("path", path.to_string_lossy().into_owned())
                }
                PortName::Usb(_) => ("usb", line.port.to_string()),
            })
        }
        Transport::Simulator | Transport::Plugin(_) => None,
    }
}

fn transport(table: &mut Table) -> Option<Transport> {
    if !table.has("driver") {
        let words = list(DRIVERS.iter().map(|(word, _)| *word).chain([PLUGIN]));
        table.fault("driver", "{key} is missing", format!("write one of {words}"));
    }
    let Some(driver) = table.choice_or("driver", &DRIVERS, &[PLUGIN]) else {
        // Without it nothing can be said about the keys that depend on it.
        table.forget(&LINE_KEYS);
        table.forget(&["address"]);
        table.forget(&SERIAL_KEYS);
        table.forget(&modbus::LINK_KEYS);
        return None;
    };
    let (takes_path, takes_address) = match driver {
        Driver::Modbus(word) => word.takes(),
        Driver::Serial => (true, false),
        Driver::Simulator => (false, false),
    };
    if !takes_path {
        for key in LINE_KEYS {
            table.refuse(key, "{key} belongs to a serial line", "remove it, or use `modbus-rtu` or `serial`");
        }
    }
    if !matches!(driver, Driver::Serial) {
        for key in SERIAL_KEYS {
            table.refuse(key, "{key} belongs to a link with the driver `serial`", "remove it");
        }
    }
    if !takes_address {
        let help = "remove it; a serial line has a `path`";
        table.refuse("address", "{key} belongs to a link with the driver `modbus-tcp`", help);
        table.refuse("backup", "{key} belongs to a link with an `address`", "remove it");
    }
    if !matches!(driver, Driver::Modbus(word) if word.has_broadcast()) {
        table.refuse("turnaround", "{key} belongs to a link that has broadcasts", "remove it");
    }
    match driver {
        Driver::Modbus(word) => modbus::transport(table, word),
        Driver::Serial => {
            let line = line(table);
            let frame = frame(table);
            let words = [("utf-8", Encoding::Utf8), ("latin-1", Encoding::Latin1)];
            let encoding = table.choice("encoding", &words);
            if encoding.is_none() {
                table.note("encoding", "utf-8".into());
            }
            Some(Transport::Serial { line: line?, frame: frame?, encoding: encoding.unwrap_or_default() })
        }
        Driver::Simulator => Some(Transport::Simulator),
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; without a port, `port` is taken, if there is one.
pub(super) fn parse_host(text: &str, port: Option<u16>) -> Option<(String, u16)> {
    parse_address(text, port).filter(|(_, port)| *port > 0)
}

/// The same where port 0 has a meaning.
pub(super) fn parse_address(text: &str, port: Option<u16>) -> Option<(String, u16)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None if text.parse::<Ipv6Addr>().is_ok() => (text, ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        None if rest.is_empty() => port,
        _ => None,
    }?;
    // Host names and IP addresses alike; whether it exists is asked when it is needed.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    let valid = (1..=253).contains(&host.len()) && host.bytes().all(allowed);
    valid.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::parse_host;

    #[test]
    fn hosts_come_with_and_without_port() {
        for (text, expected) in [
            ("plc", Some(("plc", 502))),
            ("plc:1502", Some(("plc", 1502))),
            ("192.168.1.10", Some(("192.168.1.10", 502))),
            ("[::1]:1502", Some(("::1", 1502))),
            ("[::1]", Some(("::1", 502))),
            ("fe80::1", Some(("fe80::1", 502))),
            ("", None),
            (":502", None),
            ("plc:", None),
            ("plc:0", None),
            ("plc:65536", None),
            ("plc:+5", None),
            ("plc:5:5", None),
            ("a b", None),
            ("plc/x", None),
            ("[plc]:5", None),
            ("[::1]x", None),
        ] {
            let expected = expected.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(parse_host(text, Some(502)), expected, "{text}");
        }
        assert_eq!(parse_host("plc", None), None);
    }
}
