//! What `fieldgate simulate` serves, read and written in every type and order by the clients of two libraries: pymodbus
//! on every transport, libmodbus where it has one; and the gateway's own tools read and write the same values.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod peers;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use peers::matrix::{ORDERS, TYPES, keys};
use serde_json::{Value, json};
use support::{LIMIT, Process, fieldgate, project, python};

const HEAD: &str = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n";

/// Registers for each value: the longest text.
const SLOT: u64 = 8;

/// Where the values stand that move: floats, one for each order.
const MOVING: u64 = 10;

/// A value of each type that every other order would show as another one.
fn value(kind: &str) -> Value {
    match kind {
        "i8" => json!(-5),
        "u8" => json!(250),
        "i16" => json!(-12345),
        "u16" => json!(54321),
        "i24" => json!(-1_234_567),
        "u24" => json!(16_711_422),
        "i32" => json!(-1_234_567_890),
        "u32" => json!(4_000_000_001_u32),
        "i64" => json!(-9_007_199_254_740_993_i64),
        "u64" => json!(18_364_758_544_493_064_720_u64),
        // Exact in binary, so that JSON tells them in full.
        "f32" => json!(12.34375),
        "f64" => json!(-1234.5625),
        "bcd16" => json!(1234),
        "bcd32" => json!(12_345_678),
        "string5" => json!("Hallo"),
        _ => json!("ohne jedes Ende"),
    }
}

fn slots() -> impl Iterator<Item = (u64, &'static str, &'static str)> {
    let kinds = TYPES.iter().flat_map(|kind| ORDERS.map(|order| (*kind, order)));
    kinds.zip(0..).map(|((kind, order), index)| (index * SLOT, kind, order))
}

fn name(kind: &str, order: &str) -> String {
    format!("{kind}-{}", order.to_lowercase())
}

/// A running simulator, and how the gateway's tools and a client come to its only unit.
struct Bench {
    folder: tempfile::TempDir,
    place: String,
    settings: Vec<(String, String)>,
    client: fn(&str, &str, &Value) -> Command,
    transport: &'static str,
    simulator: Process,
}

impl Bench {
    fn start(client: fn(&str, &str, &Value) -> Command, transport: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let driver = if transport == "ascii-tcp" { "ascii" } else { transport };
        // Served elsewhere, and said where.
        let place = if matches!(transport, "rtu" | "ascii") {
            format!("path = \"{}/port\"\nbaud_rate = 19200", folder.path().display())
        } else {
            "address = \"192.0.2.10\"".to_owned()
        };
        let mut config = format!(
            "{HEAD}[links.line]\ndriver = \"modbus-{driver}\"\n{place}\ntimeout = \"20s\"\n[devices.all]\nlink = \"line\"\naddress = 7\n[devices.all.points]\n"
        );
        for (number, kind, order) in slots() {
            let (name, keys) = (name(kind, order), keys(kind));
            writeln!(
                config,
                "{name} = {{ address = \"holding:{number}\", {keys}, order = \"{order}\", writable = true }}"
            )
            .unwrap();
        }
        for (index, order) in (0..).zip(ORDERS) {
            let (name, number) = (name("moving", order), MOVING + 2 * index);
            writeln!(
                config,
                "{name} = {{ address = \"input:{number}\", type = \"f32\", order = \"{order}\" }}"
            )
            .unwrap();
        }
        config += "switch-1 = { address = \"coil:4\", type = \"bool\", writable = true }\n\
                   switch-2 = { address = \"coil:5\", type = \"bool\", writable = true }\n\
                   lamp = { address = \"discrete:7\", type = \"bool\" }\n";
        let file = folder.path().join("fieldgate.toml");
        fs::write(&file, config).unwrap();
        let simulator =
            Process::start("fieldgate simulate", fieldgate().arg("simulate").arg("--config").arg(&file));
        let told = simulator.wait_line("link line, ", LIMIT);
        let place = told.strip_prefix("link line, ").unwrap().split_once(": device").unwrap().0.to_owned();
        let key = if place.starts_with('/') { "PATH" } else { "ADDRESS" };
        let settings = vec![(format!("FIELDGATE_LINKS__LINE__{key}"), place.clone())];
        Self { folder, place, settings, client, transport, simulator }
    }

    /// What a client of somebody else is answered.
    fn ask(&self, requests: &Value) -> Vec<Value> {
        let output = (self.client)(self.transport, &self.place, requests).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a tool of the gateway prints.
    fn tool(&self, arguments: &[&str]) -> String {
        let mut command = fieldgate();
        command.args(arguments).arg("--config").arg(self.folder.path().join("fieldgate.toml"));
        command.envs(self.settings.clone());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn pymodbus(transport: &str, place: &str, requests: &Value) -> Command {
    let requests =
        requests.as_array().unwrap().iter().map(|request| match request.as_array().unwrap().as_slice() {
            [Value::String(action), area, start, kind, order] if action == "value" => {
                json!([7, "value", area, start, [kind, order]])
            }
            [Value::String(action), start, kind, order, value] if action == "put" => {
                json!([7, "put", "holding", start, [kind, order, value]])
            }
            other => panic!("{other:?}"),
        });
    let requests: Value = requests.collect();
    let mut command = Command::new(python());
    let script = project().join("tests/peers/modbus_client.py");
    command.arg(script).args([transport, place, &requests.to_string()]);
    command
}

fn libmodbus(_: &str, place: &str, requests: &Value) -> Command {
    let mut command = Command::new(python());
    let script = project().join("tests/peers/libmodbus_client.py");
    command.arg(script).args([place, "7", &requests.to_string()]);
    command
}

fn agrees(client: fn(&str, &str, &Value) -> Command, transport: &'static str) {
    let mut bench = Bench::start(client, transport);
    // Theirs to the gateway's.
    let requests: Value =
        slots().map(|(start, kind, order)| json!(["put", start, kind, order, value(kind)])).collect();
    assert_eq!(bench.ask(&requests), vec![json!(true); 64], "{transport}");
    let told: Value = serde_json::from_str(&bench.tool(&["read", "all", "--json"])).unwrap();
    for (_, kind, order) in slots() {
        let point = &told["points"][name(kind, order)];
        assert_eq!(point["value"], value(kind), "{transport} {kind} {order}: {point}");
    }
    // The gateway's to theirs: other values for two types, and all the rest stays.
    let other = |kind: &str| match kind {
        "f32" => json!(-6.25),
        "u64" => json!(72_623_859_790_382_856_u64),
        _ => value(kind),
    };
    for (_, kind, order) in slots().filter(|slot| other(slot.1) != value(slot.1)) {
        let (point, text) = (name(kind, order), other(kind).to_string());
        let said = bench.tool(&["write", "all", &point, &text]);
        assert_eq!(said, format!("{point} = {text}\n"), "{transport}");
    }
    let requests: Value =
        slots().map(|(start, kind, order)| json!(["value", "holding", start, kind, order])).collect();
    for ((_, kind, order), theirs) in slots().zip(bench.ask(&requests)) {
        assert_eq!(theirs, other(kind), "{transport} {kind} {order}");
    }
    // What moves is a measurement in every order: between 20 and 80, in hundredths.
    let requests: Value = (MOVING..)
        .step_by(2)
        .zip(ORDERS)
        .map(|(start, order)| json!(["value", "input", start, "f32", order]))
        .collect();
    for (order, theirs) in ORDERS.into_iter().zip(bench.ask(&requests)) {
        let theirs = theirs.as_f64().unwrap();
        let hundredths = (theirs * 100.0).round() / 100.0;
        let is_close = (theirs - hundredths).abs() < 1e-5;
        assert!((20.0..=80.0).contains(&hundredths) && is_close, "{transport} {order}: {theirs}");
    }
    bench.simulator.kill();
}

#[test]
fn libmodbus_uses_every_function() {
    for transport in ["tcp", "rtu"] {
        let bench = Bench::start(libmodbus, transport);
        // Eight registers in a row.
        let text = slots().find(|slot| slot.1 == "string16").unwrap().0;
        let answers = bench.ask(&json!([
            ["write_bit", 4, 1],
            ["write_bits", 4, [0, 1]],
            ["read_bits", 4, 2],
            ["read_input_bits", 7, 1],
            ["write_register", text, 0x1234],
            ["mask_write_register", text, 0xFF00, 0x0055],
            ["write_and_read_registers", text + 1, [0xABCD, 0xEF01]],
            ["write_registers", text + 3, [7, 8]],
            ["read_registers", text, 5],
            ["read_input_registers", MOVING - 1, 2],
            ["read_bits", 4, 3],
            ["write_register", 5000, 1],
        ]));
        let refused = json!({"error": "Illegal data address"});
        assert_eq!(answers[..3], [json!(true), json!(true), json!([0, 1])], "{transport}");
        assert!(answers[3] == json!([0]) || answers[3] == json!([1]), "{transport}: {}", answers[3]);
        let registers = json!([0x1255, 0xABCD, 0xEF01, 7, 8]);
        assert_eq!(answers[4..6], [json!(true), json!(true)], "{transport}");
        assert_eq!(answers[6..9], [json!([0xABCD, 0xEF01]), json!(true), registers], "{transport}");
        assert_eq!(answers[9..], vec![refused; 3], "{transport}");
    }
}

#[test]
fn pymodbus_over_tcp() {
    agrees(pymodbus, "tcp");
}

#[test]
fn pymodbus_over_rtu() {
    agrees(pymodbus, "rtu");
}

#[test]
fn pymodbus_over_rtu_on_tcp() {
    agrees(pymodbus, "rtu-tcp");
}

#[test]
fn pymodbus_over_ascii() {
    agrees(pymodbus, "ascii");
}

#[test]
fn pymodbus_over_ascii_on_tcp() {
    agrees(pymodbus, "ascii-tcp");
}

#[test]
fn libmodbus_over_tcp() {
    agrees(libmodbus, "tcp");
}

#[test]
fn libmodbus_over_rtu() {
    agrees(libmodbus, "rtu");
}
