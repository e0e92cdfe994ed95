//! `fieldgate scan` finds the units that answer and the registers they have, and shows what these may mean.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{LIMIT, ModbusPeer, Process, fieldgate};

fn configure(link: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[links.field]\n{link}\n");
    fs::write(folder.path().join("fieldgate.toml"), text).unwrap();
    folder
}

fn tcp(address: &str, timeout: &str) -> tempfile::TempDir {
    configure(&format!("driver = \"modbus-tcp\"\naddress = \"{address}\"\ntimeout = \"{timeout}\""))
}

fn scan(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = fieldgate();
    command.args(["scan", "field"]).args(arguments).arg("--config").arg(folder.join("fieldgate.toml"));
    command
}

/// Exit code, stdout, stderr.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = scan(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn units() -> Value {
    json!({
        // 12.34 as f32 with its words reversed, a text, and holes between.
        "3": { "holding": { "0": [550, 65506], "10": [28836, 16709], "20": [28257, 28005] }, "coil": { "4": [true] } },
        // It answers, if only that it has no such register.
        "5": { "input": { "7": [1] } },
    })
}

/// The readings of a register in the JSON.
fn readings<'j>(all: &'j Value, address: &str) -> &'j Vec<Value> {
    let registers = all["units"][0]["registers"].as_array().unwrap();
    let found = registers.iter().find(|register| register["address"] == address);
    found.unwrap_or_else(|| panic!("{address}: {all}"))["readings"].as_array().unwrap()
}

#[test]
fn units_are_found_among_silent_ones_on_every_transport() {
    for (transport, driver, key) in [
        ("tcp", "modbus-tcp", "address"),
        ("rtu", "modbus-rtu", "path"),
        ("rtu-tcp", "modbus-rtu-tcp", "address"),
        ("ascii", "modbus-ascii", "path"),
        ("ascii-tcp", "modbus-ascii", "address"),
    ] {
        let peer = ModbusPeer::on(transport, &units());
        let address = &peer.address;
        let pauses = "pause = \"100ms\"\npause_after_connect = \"500ms\"";
        let folder = configure(&format!(
            "driver = \"{driver}\"\n{key} = \"{address}\"\ntimeout = \"1500ms\"\n{pauses}"
        ));
        let (code, shown, told) = run(folder.path(), &["--units", "2-5", "--json"]);
        assert_eq!(code, 0, "{told}");
        assert!(told.starts_with("asking 4 units of links.field"), "{told}");
        // A connection is made anew after each silence. On the line a request takes 25 ms at 9600 baud, as ASCII 37.
        let worst = if ["rtu", "ascii"].contains(&transport) {
            ("7.0 s if", "1.6 s for")
        } else {
            ("8.5 s if", "2.0 s for")
        };
        assert!(told.contains(worst.0) && told.contains(worst.1), "{transport}: {told}");
        assert!(told.contains("unit 3 answers"), "{told}");
        let all: Value = serde_json::from_str(&shown).unwrap();
        let identity = json!({"vendor": "Peers & Co", "product": "P 120", "revision": "2.1"});
        assert_eq!((&all["asked"], all["units"].as_array().unwrap().len()), (&json!([2, 3, 4, 5]), 2));
        for (index, unit) in [3, 5].into_iter().enumerate() {
            assert_eq!(all["units"][index]["unit"], unit);
            let expected = if transport == "tcp" { &identity } else { &Value::Null };
            assert_eq!(&all["units"][index]["identity"], expected, "{transport}");
        }
        assert_eq!(all["units"][1]["answer"], "exception-2");

        let (code, shown, _) = run(folder.path(), &["--units", "5,4"]);
        assert!(
            code == 0 && shown.starts_with("unit 5") && shown.contains("(answers with exception-2)"),
            "{shown}"
        );
        assert_eq!(shown.contains(": Peers & Co P 120 2.1"), transport == "tcp", "{shown}");

        let (code, shown, complaint) = run(folder.path(), &["--units", "9"]);
        assert_eq!((code, shown.as_str()), (1, ""));
        assert!(complaint.contains("no unit answers") && complaint.contains("help:"), "{complaint}");
    }
}

#[test]
fn registers_are_shown_in_every_type_with_a_line_to_paste() {
    let peer = ModbusPeer::tcp(&units());
    let folder = tcp(&peer.address, "5s");
    let asked = ["--units", "3", "--registers", "holding:0-30", "--registers", "coil:0-7"];
    let (code, shown, _) = run(folder.path(), &asked);
    assert_eq!(code, 0);
    let rows: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in [
        "[devices.unit-3]",
        "holding:0-30: 6 of 31 answer; not: 2-9 exception-2, 12-19 exception-2, 22-30 exception-2",
        "coil:0-7: 8 of 8 answer",
        "holding:0 0226 550 u16 i16 holding_0 = { address = \"holding:0\", type = \"u16\", order = \"ABCD\" }",
        "-30 i16 holding_1 = { address = \"holding:1\", type = \"i16\", order = \"ABCD\" }",
        "12.34 f32 CDAB holding_10 = { address = \"holding:10\", type = \"f32\", order = \"CDAB\" }",
        "name string ABCD holding_20 = { address = \"holding:20\", type = \"string\", length = 4, order = \"ABCD\" }",
        "coil:4 1 true bool coil_4 = { address = \"coil:4\", type = \"bool\" }",
    ] {
        assert!(rows.iter().any(|shown| shown == row), "no {row:?} in:\n{shown}");
    }
    assert!(rows.iter().any(|row| row.starts_with("1 2 5 9 bits set")), "{shown}");

    // What is pasted is a configuration, and reads the same.
    let start = shown.find("[devices.unit-3]").unwrap();
    let (head, table) = shown[start..].split_once("line for the configuration").unwrap();
    let head = head.trim_end().trim_end_matches(|c: char| c != '\n');
    let line = |row: &&str| row.contains(" = { address") && row.contains("12.34");
    let line = table.lines().find(line).unwrap();
    let line = &line[line.find("holding_10").unwrap()..];
    let file = folder.path().join("fieldgate.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}{head}\n{line}\n")).unwrap();
    let mut command = fieldgate();
    command.args(["read", "unit-3"]).arg("--config").arg(&file);
    let output = command.output().unwrap();
    let read = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && read.contains("12.34"), "{read}");

    let (_, shown, _) =
        run(folder.path(), &["--units", "3", "--registers", "holding:10-11", "--json", "--all"]);
    let all: Value = serde_json::from_str(&shown).unwrap();
    let float = json!({
        "types": ["f32"], "order": "CDAB", "value": 12.34,
        "config": "holding_10 = { address = \"holding:10\", type = \"f32\", order = \"CDAB\" }",
    });
    let found = readings(&all, "holding:10");
    assert!(found.contains(&float), "{found:#?}");
    for kind in ["u16", "i16", "u8", "i8", "u32", "i32", "u24", "i24", "f32", "bool"] {
        let has = |reading: &Value| reading["types"].as_array().unwrap().contains(&json!(kind));
        assert!(found.iter().any(has), "{kind}: {found:#?}");
    }
    for order in ["ABCD", "CDAB", "BADC", "DCBA"] {
        assert!(found.iter().any(|reading| reading["order"] == order), "{order}");
    }
}

/// Appends lines to the configuration.
fn add(folder: &Path, text: &str) {
    let file = folder.join("fieldgate.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{before}{text}\n")).unwrap();
}

#[test]
fn every_line_reads_what_the_scan_showed_whatever_the_order_of_the_device() {
    // What has a sign, a fraction, digits, a text, a zero; and coils.
    let words =
        [550, 65506, 16709, 28836, 0x1234, 0x5678, 28257, 28005, 0, 1, 0x4028, 0xAE14, 0x7AE1, 0x47AE];
    let units =
        json!({"3": {"holding": {"10": words}, "input": {"5": [7, 0xFF00]}, "coil": {"4": [true, false]}}});
    let peer = ModbusPeer::tcp(&units);
    for order in ["ABCD", "CDAB", "BADC", "DCBA"] {
        let folder = tcp(&peer.address, "20s");
        let device = format!(
            "[devices.pump]\nlink = \"field\"\naddress = 3\norder = \"{order}\"\n[devices.pump.points]"
        );
        add(folder.path(), &device);
        let areas = ["--registers", "holding:10-23", "--registers", "input:5-6", "--registers", "coil:4-5"];
        let asked = [&["--units", "3", "--json", "--all"], &areas[..]].concat();
        let (code, shown, told) = run(folder.path(), &asked);
        assert_eq!(code, 0, "{told}");
        let all: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(all["units"][0]["device"], "pump");

        // The lines of one register bear one name, of which a person keeps one.
        let registers = all["units"][0]["registers"].as_array().unwrap();
        let readings: Vec<_> = registers.iter().flat_map(|it| it["readings"].as_array().unwrap()).collect();
        assert!(readings.len() > 400, "{}", readings.len());
        let table = |(index, reading): (usize, &&Value)| {
            let (_, table) = reading["config"].as_str().unwrap().split_once(" = ").unwrap();
            format!("p{index} = {table}\n")
        };
        add(folder.path(), &readings.iter().enumerate().map(table).collect::<String>());
        let mut command = fieldgate();
        command.args(["read", "pump", "--json", "--config"]).arg(folder.path().join("fieldgate.toml"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (index, reading) in readings.iter().enumerate() {
            let found = &read["points"][format!("p{index}")];
            assert_eq!(found["value"], reading["value"], "{order}: {reading} was read as {found}");
        }
    }
}

#[test]
fn lines_of_a_unit_that_is_configured_belong_to_its_device() {
    let peer = ModbusPeer::tcp(&units());
    let folder = tcp(&peer.address, "20s");
    // Of the two ids that fit best one is taken, by a unit that is not there.
    add(
        folder.path(),
        "[devices.boiler]\nlink = \"field\"\naddress = 3\n[devices.unit-5]\nlink = \"field\"\naddress = 9",
    );
    let (code, shown, told) = run(
        folder.path(),
        &["--units", "3,5", "--registers", "holding:0", "--registers", "input:7", "--registers", "coil:4"],
    );
    assert_eq!(code, 0, "{told}");
    assert!(shown.contains("# unit 3 is devices.boiler: add to [devices.boiler.points]\n"), "{shown}");
    assert!(!shown.contains("[devices.unit-3]") && !shown.contains("address = 3\n"), "{shown}");
    assert!(shown.contains("[devices.unit-5-2]") && !shown.contains("[devices.unit-5]"), "{shown}");
}

#[test]
fn a_hole_costs_few_requests() {
    // Each register holds its own address; 70 and 71 are not there.
    let (address, requests) = fake(|first, count| {
        let hole = (first..first + count).any(|place| (70..=71).contains(&place));
        (!hole).then(|| (first..first + count).collect())
    });
    let folder = tcp(&address, "20s");
    let (code, shown, told) = run(folder.path(), &["--units", "1", "--registers", "holding:0-124", "--json"]);
    assert_eq!(code, 0, "{told}");
    let all: Value = serde_json::from_str(&shown).unwrap();
    let registers = all["units"][0]["registers"].as_array().unwrap();
    assert_eq!(registers.len(), 123);
    for register in registers {
        assert_eq!(register["address"], format!("holding:{}", register["raw"]));
    }
    assert_eq!(all["units"][0]["holes"], json!([{"address": "holding:70-71", "reason": "exception-2"}]));
    // One to find it, one for who it is, and at most two for each halving of 125 down to 1, on both sides.
    let count = requests.load(SeqCst);
    assert!(count <= 2 + 2 * 2 * 7, "{count} requests");
}

#[test]
fn an_interrupt_ends_it_with_what_was_found() {
    let peer = ModbusPeer::tcp(&units());
    let folder = tcp(&peer.address, "30s");
    let mut process = Process::start("fieldgate scan", &mut scan(folder.path(), &["--units", "3,20-200"]));
    process.wait_line("unit 3 answers", LIMIT);
    process.signal(Signal::INT);
    assert_eq!(process.wait_exit(LIMIT).code(), Some(1));
    let lines = process.lines();
    assert!(lines.iter().any(|line| line.starts_with("unit 3: Peers")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("interrupted")), "{lines:?}");
}

#[test]
fn what_cannot_be_scanned_is_wrong_usage() {
    let bus = configure("driver = \"modbus-rtu-tcp\"\naddress = \"127.0.0.1:1\"");
    let scale = configure("driver = \"serial\"\npath = \"/nonexistent\"\nframe = { end = \"\\n\" }");
    for (folder, arguments, part) in [
        (&bus, vec!["--units", "0-3"], "units are 1 to 247"),
        (&bus, vec!["--units", "3-1"], "such as 1-32"),
        (&bus, vec!["--registers", "holding"], "such as holding:0-99"),
        (&scale, vec![], "no Modbus driver"),
    ] {
        let (code, shown, complaint) = run(folder.path(), &arguments);
        assert!(code == 2 && shown.is_empty() && complaint.contains(part), "{arguments:?}: {complaint}");
    }
}

/// Unit 1 of a server that answers function 3 with what `registers` gives, or exception 2; and how often it was asked.
fn fake(registers: impl Fn(u16, u16) -> Option<Vec<u16>> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &registers, &count);
        }
    });
    (address, requests)
}

fn answer(mut stream: TcpStream, registers: &impl Fn(u16, u16) -> Option<Vec<u16>>, count: &AtomicUsize) {
    let mut head = [0; 7];
    while stream.read_exact(&mut head).is_ok() {
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        stream.read_exact(&mut pdu).unwrap();
        count.fetch_add(1, SeqCst);
        let found = match pdu[..] {
            [3, a, b, c, d] => registers(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            _ => None,
        };
        let answer = match found {
            Some(words) => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                [&[3, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
            }
            None => vec![pdu[0] | 0x80, 2],
        };
        let length = u16::try_from(answer.len() + 1).unwrap().to_be_bytes();
        stream.write_all(&[&head[..4], &length, &head[6..], &answer].concat()).unwrap();
    }
}
