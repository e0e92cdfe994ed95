//! What a configuration says of Modbus links and devices, and what is taken where it says nothing.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::config::{Config, Environment, Framing, Medium, Rs485, Transport, load_with};
use fieldgate::drivers::create;
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

/// How many requests read these places of a device with these keys.
fn requests(keys: &str, places: [&str; 2]) -> usize {
    let [first, second] = places.map(|place| match place.split_once(':').unwrap().0 {
        "coil" => format!("{{ address = '{place}', type = 'bool' }}"),
        _ => format!("{{ address = '{place}', type = 'u16' }}"),
    });
    let config = load(&format!(
        "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'a'\naddress = 1\n{keys}\n\
         points.a = {first}\npoints.b = {second}\n"
    ));
    let device = Arc::new(device(&config, "d").clone());
    create(&config.links[0], &[]).plan(&device, &[0, 1]).len()
}

#[test]
fn each_bound_of_a_device_bounds_what_it_is_for() {
    let (registers, bits) = (["holding:0", "holding:20"], ["coil:0", "coil:20"]);
    for (keys, of_registers, of_bits) in [
        ("", 1, 1),
        ("max_registers = 21", 1, 1),
        ("max_registers = 20", 2, 1),
        ("max_bits = 21", 1, 1),
        ("max_bits = 20", 1, 2),
        ("max_gap = 19", 1, 1),
        ("max_gap = 18", 2, 2),
        // Where another request costs nothing, nothing is read across.
        ("answer_time = '0ms'", 2, 2),
        ("answer_time = '1s'", 1, 1),
    ] {
        assert_eq!((requests(keys, registers), requests(keys, bits)), (of_registers, of_bits), "{keys}");
    }
    let config = load(
        "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'a'\naddress = 1\n\
         max_registers = 11\nmax_bits = 12\nmax_gap = 13\nanswer_time = '14ms'\n",
    );
    let Protocol::Modbus { reads, .. } = device(&config, "d").protocol else { panic!("no Modbus") };
    assert_eq!((reads.max_registers, reads.max_bits, reads.max_gap), (11, 12, Some(13)));
    assert_eq!(reads.answer_time, Duration::from_millis(14));
}

#[test]
fn times_of_polls_and_of_silent_devices_are_as_written() {
    let config = load(
        "[links.a]\ndriver = 'modbus-tcp'\naddress = 'plc'\ndead_share = 0.25\n\
         [links.b]\ndriver = 'modbus-tcp'\naddress = 'other'\n\
         [devices.one]\nlink = 'a'\naddress = 1\nalign = true\npoll_interval = '7s'\n\
         points.p = { address = 'input:1', type = 'u16', poll_interval = '21s' }\n\
         [devices.two]\nlink = 'b'\naddress = 1\npoints.p = { address = 'input:1', type = 'u16' }\n",
    );
    let shares: Vec<f64> = config.links.iter().map(|link| link.dead_share).collect();
    assert_eq!(format!("{shares:?}"), "[0.25, 0.1]");
    let (one, two) = (device(&config, "one"), device(&config, "two"));
    assert_eq!((one.align, one.poll_interval), (true, Duration::from_secs(7)));
    assert_eq!(one.points[0].poll_interval, Some(Duration::from_secs(21)));
    assert_eq!(
        (two.align, two.poll_interval, two.points[0].poll_interval),
        (false, Duration::from_secs(5), None)
    );
}

#[test]
fn the_direction_of_a_line_is_as_written() {
    let millis = Duration::from_millis;
    let usual = Rs485 {
        rts_on_send: true,
        rts_after_send: false,
        delay_before: Duration::ZERO,
        delay_after: Duration::ZERO,
        rx_during_tx: false,
    };
    let turned = Rs485 { rts_on_send: false, rts_after_send: true, ..usual };
    for (keys, expected) in [
        ("", None),
        ("rs485 = {}", Some(usual)),
        ("rs485 = { rts_on_send = false }", Some(turned)),
        ("rs485 = { rts_on_send = false, rts_after_send = true }", Some(turned)),
        ("rs485 = { rts_after_send = false }", Some(usual)),
        ("rs485 = { rx_during_tx = true }", Some(Rs485 { rx_during_tx: true, ..usual })),
        (
            "rs485 = { delay_before = '1ms', delay_after = '2ms' }",
            Some(Rs485 { delay_before: millis(1), delay_after: millis(2), ..usual }),
        ),
    ] {
        let config = load(&format!("[links.a]\ndriver = 'modbus-rtu'\npath = '/dev/ttyS9'\n{keys}\n"));
        let Transport::Modbus { medium: Medium::Line(line), .. } = &config.links[0].transport else {
            panic!("no line");
        };
        assert_eq!(line.rs485, expected, "{keys}");
    }
}
