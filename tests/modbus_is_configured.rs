//! What a configuration says of Modbus links and devices, and what is taken where it says nothing.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::time::Duration;

use fieldgate::config::{Config, Environment, Framing, Medium, Transport, load_with};
use fieldgate::point::{Device, Protocol};

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    fs::write(&file, format!("[mqtt]\nurl = 'mqtt://broker'\n{text}")).unwrap();
    load_with(&[&file], &Environment::new()).unwrap_or_else(|error| panic!("{error}")).0
}

/// The framing, the medium as text, the spare address, the rest after a broadcast in milliseconds.
fn transport(config: &Config, link: &str) -> (Framing, String, Option<(String, u16)>, u128) {
    let link = config.links.iter().find(|found| found.id.as_str() == link).unwrap();
    let Transport::Modbus { framing, medium, backup, turnaround } = &link.transport else {
        panic!("{:?}", link.transport);
    };
    let medium = match medium {
        Medium::Tcp { host, port } => format!("{host}:{port}"),
        Medium::Line(serial) => format!("{serial:?}"),
    };
    (*framing, medium, backup.clone(), turnaround.as_millis())
}

fn device<'c>(config: &'c Config, id: &str) -> &'c Device {
    config.devices.iter().find(|device| device.id.as_str() == id).unwrap()
}

#[test]
fn each_driver_has_its_framing_and_medium() {
    let config = load(
        "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\nbackup = 'spare:1502'\n\
         [links.b]\ndriver = 'modbus-rtu-tcp'\naddress = 'server:4001'\nturnaround = '200ms'\n\
         [links.c]\ndriver = 'modbus-ascii'\naddress = 'server:4002'\nbackup = 'spare'\n\
         [links.d]\ndriver = 'modbus-ascii'\npath = '/dev/ttyS7'\ndata_bits = 7\nparity = 'even'\n",
    );
    let spare = |port| Some(("spare".to_owned(), port));
    assert_eq!(transport(&config, "a"), (Framing::Tcp, "plc:502".to_owned(), spare(1502), 100));
    assert_eq!(transport(&config, "b"), (Framing::Rtu, "server:4001".to_owned(), None, 200));
    assert_eq!(transport(&config, "c"), (Framing::Ascii, "server:4002".to_owned(), spare(502), 100));
    let (framing, line, backup, turnaround) = transport(&config, "d");
    assert_eq!((framing, backup, turnaround), (Framing::Ascii, None, 100));
    assert!(line.contains("ttyS7") && line.contains("data_bits: 7") && line.contains("Even"), "{line}");
}

#[test]
fn rests_are_of_the_link_unless_a_device_says_otherwise() {
    let config = load(
        "[links.a]\ndriver = 'modbus-rtu'\npath = '/dev/ttyS7'\npause = '20ms'\npause_after_connect = '2s'\n\
         [devices.one]\nlink = 'a'\naddress = 1\npoints.p = { address = 'input:1', type = 'u16' }\n\
         [devices.two]\nlink = 'a'\naddress = 2\npause = '0ms'\nread_write = true\n\
         points.p = { address = 'input:1', type = 'u16' }\n",
    );
    assert_eq!(config.links[0].pause_after_connect, Duration::from_secs(2));
    assert_eq!(device(&config, "one").pause, Duration::from_millis(20));
    assert_eq!(device(&config, "two").pause, Duration::ZERO);
    let read_write = |id| match device(&config, id).protocol {
        Protocol::Modbus { read_write, .. } => read_write,
        _ => panic!("no Modbus"),
    };
    assert_eq!((read_write("one"), read_write("two")), (false, true));
}

#[test]
fn unit_0_is_everyone_on_a_bus_and_the_server_itself_over_tcp() {
    let points = "points.p = { address = 'holding:1', type = 'bool', bit = 3, writable = true }\n";
    let config = load(&format!(
        "[links.bus]\ndriver = 'modbus-rtu-tcp'\naddress = 'server'\n\
         [links.plc]\ndriver = 'modbus-tcp'\naddress = 'plc'\n\
         [devices.all]\nlink = 'bus'\naddress = 0\n{points}\
         [devices.plc]\nlink = 'plc'\naddress = 0\n{points}"
    ));
    assert!(device(&config, "all").is_broadcast());
    assert!(!device(&config, "plc").is_broadcast());
}

#[test]
fn one_place_may_be_read_in_several_ways() {
    let head = "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'a'\naddress = 1\n[devices.d.points]\n";
    let first = "a = { address = 'holding:1', type = 'f32' }\n";
    let word = "a = { address = 'holding:1', type = 'u16' }\n";
    for (first, second) in [
        (first, "address = 'holding:1', type = 'f32', order = 'CDAB'"),
        (word, "address = 'holding:1', type = 'u16', order = 'BADC'"),
        (word, "address = 'holding:1', type = 'u16', scale = 0.1"),
        (word, "address = 'holding:1', type = 'u16', offset = 1"),
        (word, "address = 'holding:1', type = 'u16', values = { 0 = 'off' }"),
        (word, "address = 'holding:1', type = 'u16', invalid = [0]"),
        (word, "address = 'holding:1', type = 'u16', bits = '0-7'"),
    ] {
        let config = load(&format!("{head}{first}b = {{ {second} }}\n"));
        assert_eq!(device(&config, "d").points.len(), 2, "{second}");
    }
}

#[test]
fn numbers_that_can_be_are_taken() {
    for point in [
        "type = 'u16', invalid = [-1, 0xFFFF, -32768]",
        "type = 'u16', bits = '0-3', invalid = [15, 0xFFFF]",
        "type = 'bcd16', invalid = [9999, 0xFFFF]",
        "type = 'f32', invalid = [70000, 0x7FC00000]",
        "type = 'i16', values = { -32768 = 'low', 32767 = 'high', 65535 = 'error' }",
        // Read, one name may stand for several.
        "type = 'u16', values = { 0 = 'x', 1 = 'x' }",
        "type = 'u16', writable = true, min = -10, max = 70000",
        "type = 'i64', writable = true, scale = 0.000001, min = -1, max = 1",
        "type = 'u64', writable = true, values = { 18446744073709551615 = 'none' }, invalid = [-1]",
        "type = 'f32', writable = true, min = 70000",
    ] {
        let head =
            "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'a'\naddress = 1\n";
        let config = load(&format!("{head}points.a = {{ address = 'holding:1', {point} }}\n"));
        assert_eq!(device(&config, "d").points.len(), 1, "{point}");
    }
}
