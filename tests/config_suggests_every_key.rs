//! A key that is misspelt is answered with the key that was meant, whatever key it is and wherever it stands.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fieldgate::config::{Environment, load_with};
use support::plugins;

/// The keys of each table in config/README.md, by the heading above it.
fn keys_of(heading: &str) -> BTreeSet<String> {
    let text = include_str!("../config/README.md");
    let mut keys = BTreeSet::new();
    let lines = text.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading).skip(1);
    for line in lines.take_while(|line| !line.starts_with('#')) {
        if let Some(row) = line.strip_prefix("| `") {
            keys.insert(row.split('`').next().unwrap().to_owned());
        }
    }
    assert!(!keys.is_empty(), "no keys under {heading}");
    keys
}

/// A table: its path, and each of its lines.
struct Base {
    path: &'static str,
    lines: Vec<String>,
    /// What it needs elsewhere.
    more: String,
}

fn base(path: &'static str, lines: &[&str], more: &str) -> Base {
    Base { path, lines: lines.iter().map(|line| (*line).to_owned()).collect(), more: more.to_owned() }
}

/// What is wrong with the table when `line` stands in it too and `without` does not.
fn faults(base: &Base, line: &str, without: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.toml");
    let lines = base.lines.iter().filter(|line| line.split(' ').next() != Some(without));
    let lines: Vec<&str> = lines.map(String::as_str).chain([line]).collect();
    let mqtt =
        if base.path == "mqtt" || base.more.contains("[mqtt]") { "" } else { "[mqtt]\nurl = 'mqtt://b'\n" };
    fs::write(&file, format!("{mqtt}{}\n[{}]\n{}\n", base.more, base.path, lines.join("\n"))).unwrap();
    load_with(&[&file], &Environment::new()).err().map_or_else(String::new, |error| error.to_string())
}

/// Whether a key has its place in such a table: no value of it is a date, and what is wrong is the value.
fn takes(base: &Base, key: &str) -> bool {
    let told = faults(base, &format!("{key} = 1979-05-27"), key);
    ["is not a known key", "belongs to", "only"].iter().all(|part| !told.contains(part))
}

/// Every key of `heading` is known in one of the bases, and suggested in each that knows it.
fn each_is_suggested(heading: &str, keys: &BTreeSet<String>, bases: &[Base]) {
    for key in keys {
        let mut count = 0;
        for base in bases.iter().filter(|base| takes(base, key)) {
            count += 1;
            let typo = format!("{key}{}", key.chars().last().unwrap());
            let wanted = [
                format!("error: {}.{typo} is not a known key", base.path),
                format!("help: did you mean `{key}`?"),
            ];
            // Beside the right key, and in its place.
            for without in ["", key] {
                let told = faults(base, &format!("{typo} = 1"), without);
                let told: Vec<&str> = told.split("error: ").filter(|fault| fault.contains(&*typo)).collect();
                let is_told =
                    told.len() == 1 && wanted.iter().all(|part| format!("error: {}", told[0]).contains(part));
                assert!(is_told, "{heading}: {typo} in {} {:?}: {told:?}", base.path, base.lines);
            }
        }
        assert!(count > 0, "{heading}: {key} is known nowhere");
    }
}

const TCP: &str = "[links.l]\ndriver = 'modbus-tcp'\naddress = 'plc'\n";
const BUS: &str = "[links.l]\ndriver = 'modbus-rtu'\npath = '/dev/ttyS9'\n";
const TEXT: &str = "[links.l]\ndriver = 'serial'\npath = '/dev/ttyS9'\nframe = { end = ';' }\n";
const SIMULATOR: &str = "[links.l]\ndriver = 'simulator'\n";

#[test]
fn keys_of_the_gateway_and_the_uplink() {
    for (heading, bases) in [
        ("`[gateway]`", vec![base("gateway", &[], "")]),
        ("`[log]`", vec![base("log", &[], "")]),
        ("`[buffer]`", vec![base("buffer", &[], "")]),
        (
            "`[mqtt]`",
            vec![
                base("mqtt", &["url = 'mqtt://b'", "proxy = 'http://p'"], ""),
                base("mqtt", &["urls = ['ws://b']"], ""),
            ],
        ),
        (
            "`[mqtt.tls]`",
            vec![base("mqtt.tls", &["cert = '/c'", "key = '/k'"], "[mqtt]\nurl = 'mqtts://b'\n")],
        ),
        ("`[mqtt.will]`", vec![base("mqtt.will", &["topic = 't'", "payload = 'p'"], "")]),
        ("`[commands]`", vec![base("commands", &[], "")]),
        ("`[web]`", vec![base("web", &[], "")]),
    ] {
        each_is_suggested(heading, &keys_of(heading), &bases);
    }
    let of = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    each_is_suggested("auth", &of(&["method", "data"]), &[base("mqtt.auth", &["method = 'm'"], "")]);
    each_is_suggested("reconnect", &of(&["min", "max"]), &[base("mqtt.reconnect", &[], "")]);
}

#[test]
fn keys_of_links() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = plugins::hostile(folder.path(), "polite");
    let place = |path: &Path| format!("folder = '{}'", path.display());
    let heading = "`[links.ID]`";
    each_is_suggested(
        heading,
        &keys_of(heading),
        &[
            base("links.l", &["driver = 'modbus-tcp'", "address = 'plc'"], ""),
            base("links.l", &["driver = 'modbus-rtu-tcp'", "address = 'plc'"], ""),
            base("links.l", &["driver = 'modbus-rtu'", "path = '/dev/ttyS9'"], ""),
            base("links.l", &["driver = 'modbus-ascii'", "usb = '0403:6001'"], ""),
            base("links.l", &["driver = 'modbus-ascii'", "address = 'plc'"], ""),
            base("links.l", &["driver = 'serial'", "path = '/dev/ttyS9'", "frame = { end = ';' }"], ""),
            base("links.l", &["driver = 'simulator'"], ""),
            base("links.l", &["driver = 'plugin:polite'", &place(&plugin)], ""),
        ],
    );
    each_is_suggested("`rs485`", &keys_of("`rs485`"), &[base("links.l.rs485", &[], BUS)]);
    let line = "[links.l]\ndriver = 'serial'\npath = '/dev/ttyS9'\n";
    let frame = |lines: &[&str]| base("links.l.frame", lines, line);
    each_is_suggested(
        "`frame`",
        &keys_of("`frame`"),
        &[
            frame(&["end = ';'", "start = ':'", "checksum = 'lrc'"]),
            frame(&["end = ';'"]),
            frame(&["length = 9"]),
            frame(&["length_at = 1", "length_size = 2"]),
            frame(&["silence = '20ms'"]),
        ],
    );
}

#[test]
fn keys_of_devices_and_points() {
    let folder = tempfile::tempdir().unwrap();
    let path = plugins::hostile(folder.path(), "polite");
    let plugin = format!("[links.l]\ndriver = 'plugin:polite'\nfolder = '{}'\n", path.display());
    let regex = "decode = { regex = '(?<a>.*)' }";
    let heading = "`[devices.ID]` and `[templates.ID]`";
    let device = |lines: &[&str], link: &str| {
        base("devices.d", &[&["link = 'l'"], lines].concat(), &format!("{link}[templates.t]\n"))
    };
    let devices = [
        device(&["address = 1", "template = 't'"], TCP),
        device(&["address = 1"], BUS),
        device(&["request = 'W'", regex], TEXT),
        device(&[regex], TEXT),
        device(&[], SIMULATOR),
        device(&[], &plugin),
    ];
    each_is_suggested(heading, &keys_of(heading), &devices);
    let templates = [
        base("templates.t", &[], ""),
        base("templates.t", &["max_bits = 5"], ""),
        base("templates.t", &[regex], ""),
    ];
    let mut keys = keys_of(heading);
    keys.remove("template");
    each_is_suggested("an unused template", &keys, &templates);

    let ways = ["regex", "csv", "json", "bytes"].map(str::to_owned).into();
    let decode = |line: &str| base("devices.d.decode", &[line], &format!("{TEXT}[devices.d]\nlink = 'l'\n"));
    each_is_suggested(
        "decode",
        &ways,
        &[decode("regex = '(?<a>.*)'"), decode("bytes = true"), decode("csv = ';'")],
    );

    let heading = "`[devices.ID.points.ID]`";
    let point = |lines: &[&str], device: &str| {
        base("devices.d.points.p", lines, &format!("{device}[devices.d]\nlink = 'l'\n"))
    };
    let unit = |lines: &[&str]| {
        base("devices.d.points.p", lines, &format!("{TCP}[devices.d]\nlink = 'l'\naddress = 1\n"))
    };
    let text = |lines: &[&str]| {
        base("devices.d.points.p", lines, &format!("{TEXT}[devices.d]\nlink = 'l'\n{regex}\n"))
    };
    let keys = keys_of(heading);
    each_is_suggested(
        heading,
        &keys,
        &[
            unit(&["address = 'holding:1'", "type = 'u16'"]),
            unit(&["address = 'holding:1'", "type = 'string'", "length = 4"]),
            unit(&["address = 'holding:1'", "type = 'bool'", "bit = 4"]),
            unit(&["address = 'coil:1'", "type = 'bool'", "writable = true"]),
            text(&["address = 'a'", "type = 'f64'"]),
            point(&["address = 'sine'", "type = 'f64'"], SIMULATOR),
            point(&["address = 'x'", "type = 'i64'"], &plugin),
        ],
    );
    let point = |kind| base("templates.t.points.p", &["address = 'holding:1'", kind], "");
    each_is_suggested(
        "a point of an unused template",
        &keys,
        &[point("type = 'u16'"), point("type = 'string'")],
    );
}
