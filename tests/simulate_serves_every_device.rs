//! `fieldgate simulate` serves every device of a configuration, and replaces nothing that exists.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::config::{Config, Medium, Transport, load_with};
use fieldgate::decode::decode;
use fieldgate::drivers::{DriverError, create};
use fieldgate::point::{Kind, Value as PointValue};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Broker, LIMIT, Process, Subscriber, fieldgate, free_port, project, python};
use tokio::time::{Instant, sleep};

/// Devices of every kind. `PORT`, `FOLDER` and `URL` are filled in.
const CONFIG: &str = r#"
[gateway]
id = "g"
[buffer]
path = "FOLDER/buffer.db"
[mqtt]
url = "URL"

[links.plc]
driver = "modbus-tcp"
address = "127.0.0.1:PORT"
[links.far-plc]
driver = "modbus-tcp"
address = "192.0.2.10"
backup = "192.0.2.11"
[links.rs485]
driver = "modbus-rtu"
path = "FOLDER/ports/rs485"
baud_rate = 19200
[links.ascii]
driver = "modbus-ascii"
path = "FOLDER/ports/ascii"
baud_rate = 19200
[links.net-ascii]
driver = "modbus-ascii"
address = "192.0.2.11"
[links.net-rtu]
driver = "modbus-rtu-tcp"
address = "192.0.2.12"
[links.scale]
driver = "serial"
path = "FOLDER/taken"
frame = { end = "\r\n" }
[links.wind]
driver = "serial"
path = "FOLDER/ports/deep/wind"
frame = { end = "\n" }
[links.gps]
driver = "serial"
usb = "0403:6001:NONE"
frame = { start = "$", end = "\r\n", checksum = "xor8", checksum_hex = true, checksum_from = 1, checksum_mark = "*" }
[links.air]
driver = "serial"
path = "FOLDER/kept/deep/air"
frame = { silence = "20ms", checksum = "crc16-modbus" }
timeout = "5s"
[links.flow]
driver = "serial"
path = "FOLDER/ports/flow"
frame = { start = { hex = "aa" }, length_at = 1, checksum = "crc16-ccitt" }
timeout = "5s"
[links.sim]
driver = "simulator"

[templates.all]
points.temp = { address = "input:100", type = "i16", scale = 0.1 }
points.power = { address = "holding:2", type = "f32", order = "CDAB" }
points.energy = { address = "holding:4", type = "u64", order = "DCBA", scale = 0.001 }
points.digits = { address = "holding:8", type = "bcd32" }
points.narrow = { address = "holding:10", type = "u8", order = "BADC" }
points.alarm = { address = "holding:20", type = "bool", bit = 3 }
points.level = { address = "holding:20", type = "u16", bits = "4-7" }
points.mode = { address = "holding:21", type = "u16", values = { 1 = "auto", 2 = "manual" } }
points.name = { address = "holding:30", type = "string", length = 5 }
points.door = { address = "discrete:7", type = "bool" }
points.pump = { address = "coil:4", type = "bool", writable = true }
points.fan = { address = "coil:5", type = "bool", writable = true }
points.setpoint = { address = "holding:40", type = "i16", scale = 0.1, writable = true, min = 20.0, max = 75.0 }
points.speed = { address = "holding:41", type = "f32", writable = true }

[devices.boiler]
template = "all"
link = "plc"
address = 1
[devices.chiller]
template = "all"
link = "plc"
address = 2
[devices.remote]
template = "all"
link = "far-plc"
address = 1
[devices.meter]
template = "all"
link = "rs485"
address = 3
[devices.meter2]
template = "all"
link = "rs485"
address = 4
[devices.panel]
template = "all"
link = "ascii"
address = 5
[devices.panel2]
template = "all"
link = "ascii"
address = 6
[devices.far-panel]
template = "all"
link = "net-ascii"
address = 5
[devices.far-panel2]
template = "all"
link = "net-ascii"
address = 6
[devices.far-meter]
template = "all"
link = "net-rtu"
address = 5
[devices.far-meter2]
template = "all"
link = "net-rtu"
address = 6
[devices.scale]
link = "scale"
request = "W\r\n"
decode = { regex = '^(?<status>\w\w),(?<weight>[-+ 0-9.]+)kg$' }
points.weight = { address = "weight", type = "f64" }
points.status = { address = "status", type = "string" }
[devices.wind]
link = "wind"
poll_interval = "100ms"
decode = { regex = '^\$(?<speed>\d{3}\.\d),(?<angle>\d{3})$' }
points.speed = { address = "speed", type = "f32" }
points.angle = { address = "angle", type = "u16" }
[devices.gps]
link = "gps"
poll_interval = "100ms"
decode = { csv = "," }
points.course = { address = 1, type = "f64" }
points.satellites = { address = 6, type = "u8" }
[devices.air]
link = "air"
request = { hex = "01 ff" }
decode = { json = true }
points.temp = { address = "air.temp", type = "f32" }
points.wind = { address = "wind[1]", type = "u16", scale = 0.1 }
[devices.flow]
link = "flow"
request = "F"
decode = { bytes = true }
points.total = { address = 2, type = "u64", scale = 0.001 }
points.empty = { address = 10, type = "bool", bit = 3 }
points.rate = { address = 11, type = "i24", order = "DCBA" }
[devices.weather]
link = "sim"
points.sun = { address = "sine", type = "f64" }
"#;

/// A running `fieldgate simulate`, and what it said.
struct Simulation {
    process: Process,
    folder: tempfile::TempDir,
}

impl Simulation {
    fn start() -> Self {
        Self::start_with("mqtt://127.0.0.1:1", &[])
    }

    fn start_with(url: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = CONFIG
            .replace("PORT", &free_port().to_string())
            .replace("URL", url)
            .replace("FOLDER", folder.path().to_str().unwrap());
        fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
        fs::write(folder.path().join("taken"), "mine").unwrap();
        let process = Process::start(
            "fieldgate simulate",
            fieldgate()
                .arg("simulate")
                .args(arguments)
                .arg("--config")
                .arg(folder.path().join("fieldgate.toml")),
        );
        // The last line, by the order of links.
        process.wait_line("FIELDGATE_LINKS__SCALE__PATH=", LIMIT);
        Self { process, folder }
    }

    /// Where it serves a link.
    fn place(&self, link: &str) -> String {
        let row = self.process.wait_line(&format!("link {link}, "), LIMIT);
        let (_, place) = row.split_once(", ").unwrap();
        place.split_once(": device").unwrap().0.to_owned()
    }

    /// The configuration as a gateway reads it with the settings that were printed.
    fn config(&self) -> Config {
        let settings = self
            .process
            .lines()
            .iter()
            .filter_map(|line| {
                let line = line.trim_start_matches("env '").trim_end_matches('\'');
                let (name, value) = line.split_once('=')?;
                name.starts_with("FIELDGATE_").then(|| (name.into(), value.into()))
            })
            .collect::<BTreeMap<_, _>>();
        load_with(&[self.folder.path().join("fieldgate.toml")], &settings).unwrap().0
    }
}

/// Asks by pymodbus.
fn ask(how: &str, place: &str, requests: &Value) -> Vec<Value> {
    let mut command = Command::new(python());
    command.arg(project().join("tests/peers/modbus_client.py")).args([how, place, &requests.to_string()]);
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_unit_answers_on_every_transport_and_keeps_what_is_written() {
    let simulation = Simulation::start();
    for (how, link, units) in [
        ("tcp", "plc", [1, 2]),
        ("rtu", "rs485", [3, 4]),
        ("ascii", "ascii", [5, 6]),
        ("ascii-tcp", "net-ascii", [5, 6]),
        ("rtu-tcp", "net-rtu", [5, 6]),
    ] {
        let place = simulation.place(link);
        for unit in units {
            let answers = ask(
                how,
                &place,
                &json!([
                    [unit, "read", "input", 100, 1],
                    [unit, "read", "holding", 2, 9],
                    [unit, "read", "holding", 20, 2],
                    [unit, "read", "holding", 30, 3],
                    [unit, "read", "discrete", 7, 1],
                    [unit, "read", "coil", 4, 2],
                    [unit, "read", "holding", 40, 3],
                ]),
            );
            assert!(answers.iter().all(Value::is_array), "{answers:?}");
            assert_eq!(answers[3], json!([0x6E61, 0x6D65, 0]), "`name`, padded");

            let answers = ask(
                how,
                &place,
                &json!([
                    [unit, "write", "holding", 40, 550 + unit],
                    [unit, "write", "holding", 41, [0x4145, 0x70A4]],
                    [unit, "write", "coil", 4, true],
                    [unit, "write", "coil", 4, [false, true]],
                    [unit, "read", "holding", 40, 3],
                    [unit, "read", "coil", 4, 2],
                    [unit, "read", "input", 101, 1],
                    [unit, "read", "holding", 2, 10],
                    [unit, "write", "holding", 42, [1, 2]],
                    [unit, "read", "holding", 42, 1],
                    [unit, "mask", "holding", 42, [0xFF00, 0x0055]],
                    [unit, "both", "holding", 41, [0x4145, 0x7055]],
                    [unit, "read", "holding", 42, 1],
                ]),
            );
            let refused = json!({"exception": 2});
            assert_eq!(answers[..4], vec![json!(true); 4], "written by 6, 16, 5, 15");
            assert_eq!(answers[4], json!([550 + unit, 0x4145, 0x70A4]));
            assert_eq!(answers[5], json!([false, true]));
            assert_eq!(answers[6..9], vec![refused; 3], "nothing lies there");
            assert_eq!(answers[9], json!([0x70A4]), "a refused write writes nothing");
            assert_eq!(answers[10..], [json!(true), json!([0x4145, 0x7055]), json!([0x7055])], "22 and 23");
        }
        // The other unit's writes did not reach this one, and both kept theirs after the client went.
        let [first, second] = units;
        let answers = ask(
            how,
            &place,
            &json!([
                [first, "read", "holding", 40, 1],
                [second, "read", "holding", 40, 1],
                [9, "read", "holding", 40, 1],
                [second, "read", "holding", 40, 1],
            ]),
        );
        let stranger = if how == "tcp" { json!({"exception": 11}) } else { json!({"silent": true}) };
        let kept = json!([550 + second]);
        assert_eq!(answers, [json!([550 + first]), kept.clone(), stranger, kept]);
    }
}

#[tokio::test]
async fn every_point_has_values_that_move() {
    let simulation = Simulation::start();
    let config = simulation.config();
    let mut seen = 0;
    for link in &config.links {
        let mut driver = create(link, &[]);
        driver.open(Instant::now() + LIMIT).await.unwrap();
        for device in config.devices.iter().filter(|device| device.link == link.id) {
            let device = Arc::new(device.clone());
            let due: Vec<usize> = (0..device.points.len()).collect();
            let mut first: BTreeMap<usize, PointValue> = BTreeMap::new();
            // Switches and names may stay for a while.
            let mut still: Vec<usize> = due.clone();
            still.retain(|index| {
                let point = &device.points[*index];
                let number =
                    !matches!(point.kind, Kind::Bool | Kind::String { .. }) && point.values.is_empty();
                number && !point.writable
            });
            assert!(!still.is_empty());
            let end = Instant::now() + LIMIT;
            while !still.is_empty() {
                assert!(Instant::now() < end, "{}: these do not move: {still:?}", device.id);
                let mut requests = driver.plan(&device, &due);
                while let Some(request) = requests.pop() {
                    let samples = match driver.exchange(&request, Instant::now() + LIMIT).await {
                        Ok(samples) => samples,
                        // A gap between two points: a link asks for its parts.
                        Err(DriverError::Refused(code)) => {
                            let parts = driver.split(&request, code);
                            assert!(!parts.is_empty(), "{}: {:?} is refused", device.id, request.points);
                            requests.extend(parts);
                            continue;
                        }
                        Err(error) => panic!("{}: {error}", device.id),
                    };
                    for sample in samples {
                        let point = &device.points[sample.point];
                        let value = decode(point, &sample.raw.unwrap());
                        let value =
                            value.unwrap_or_else(|reason| panic!("{}.{}: {reason}", device.id, point.id));
                        let before = first.entry(sample.point).or_insert_with(|| value.clone());
                        if *before != value {
                            still.retain(|index| *index != sample.point);
                        }
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(first.len(), device.points.len(), "{}", device.id);
            seen += first.len();
        }
    }
    assert_eq!(seen, 11 * 14 + 2 + 2 + 2 + 2 + 3 + 1);
}

#[test]
fn what_exists_stays_and_what_was_made_goes() {
    let mut simulation = Simulation::start();
    let taken = simulation.folder.path().join("taken");
    let scale = simulation.place("scale");
    let rs485 = simulation.place("rs485");
    assert_ne!(scale, taken.to_str().unwrap());
    assert_eq!(rs485, simulation.folder.path().join("ports/rs485").to_str().unwrap());
    let lines = simulation.process.lines();
    let far = lines.iter().find(|line| line.contains("FAR-PLC")).unwrap();
    assert!(far.starts_with("env 'FIELDGATE_LINKS__FAR-PLC__ADDRESS=127.0.0.1:"), "{far}");
    assert!(Path::new(&scale).exists() && Path::new(&rs485).exists());

    fs::write(simulation.folder.path().join("kept/mine"), "").unwrap();
    simulation.process.signal(Signal::TERM);
    assert_eq!(simulation.process.wait_exit(LIMIT).code(), Some(0));
    for path in [&scale, &rs485] {
        assert!(fs::symlink_metadata(path).is_err(), "{path} was left behind");
    }
    let left = |name: &str| simulation.folder.path().join(name).exists();
    assert!(!left("ports") && !left("kept/deep"), "folders were left behind");
    assert!(left("kept/mine"), "what others put there");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
}

#[test]
fn a_backup_is_served_too_and_leads_to_the_same_devices() {
    let simulation = Simulation::start();
    let config = simulation.config();
    let link = config.links.iter().find(|link| link.id.as_str() == "far-plc").unwrap();
    let Transport::Modbus { medium: Medium::Tcp { host, port }, backup: Some(backup), .. } = &link.transport
    else {
        panic!("{:?}", link.transport);
    };
    // Nobody is asked but the simulation.
    assert_eq!((host.as_str(), backup.0.as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_ne!(*port, backup.1);
    let [main, spare] = [*port, backup.1].map(|port| format!("127.0.0.1:{port}"));
    assert_eq!(simulation.place("far-plc"), main);
    assert_eq!(ask("tcp", &main, &json!([[1, "write", "holding", 40, 551]])), [json!(true)]);
    assert_eq!(ask("tcp", &spare, &json!([[1, "read", "holding", 40, 1]])), [json!([551])]);
}

#[test]
fn run_starts_a_gateway_and_ends_with_it() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker, "fieldgate/g/#");
    let mut simulation = Simulation::start_with(&broker.url(), &["--run"]);
    for device in
        ["boiler", "chiller", "remote", "meter", "meter2", "scale", "wind", "gps", "air", "flow", "weather"]
    {
        let topic = format!("fieldgate/g/{device}/readings");
        subscriber.wait_json(&topic, "a poll of all points", |message| message["bad"].is_null());
    }
    simulation.process.signal(Signal::TERM);
    assert_eq!(simulation.process.wait_exit(LIMIT).code(), Some(0));
    subscriber.wait_json("fieldgate/g/status", "an orderly stop", |status| {
        status["state"] == "offline" && status["reason"] == "stopped"
    });
}

#[test]
fn a_gateway_reads_every_sample_that_is_simulated() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker, "fieldgate/+/+/readings");
    let mut seen = 0;
    // One by one: two samples may have the same port.
    for entry in fs::read_dir(project().join("config/conf.d")).unwrap() {
        let (sample, folder) = (entry.unwrap().path(), tempfile::tempdir().unwrap());
        let id = sample.file_stem().unwrap().to_str().unwrap();
        // Somebody else's program, which has a fake of its own or none.
        if id == "plugin" {
            continue;
        }
        let text = fs::read_to_string(&sample).unwrap().replace("enabled = false\n", "");
        // A pseudo terminal turns no line.
        let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("rs485 =")).collect();
        let main = folder.path().join("fieldgate.toml");
        let head = format!(
            "[gateway]\nid = \"{id}\"\n[web]\nlisten = \"off\"\n[buffer]\npath = \"{}/buffer.db\"\n[mqtt]\nurl = \"{}\"\n",
            folder.path().display(),
            broker.url(),
        );
        fs::write(&main, format!("{head}{text}")).unwrap();
        let config = load_with(&[&main], &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}")).0;
        let mut simulate = fieldgate();
        simulate.args(["simulate", "--run", "--config"]).arg(&main);
        let mut process = Process::start(&format!("fieldgate simulate {id}"), &mut simulate);
        // Nobody answers a broadcast.
        for device in config.devices.iter().filter(|device| !device.is_broadcast()) {
            let topic = format!("fieldgate/{id}/{}/readings", device.id);
            subscriber.wait_json(&topic, "a poll of all points", |message| message["bad"].is_null());
            seen += 1;
        }
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(LIMIT).code(), Some(0));
    }
    assert!(seen >= 6, "{seen}");
}
