//! Defaults, files, `conf.d` and the environment: what each says, and which one counts.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fieldgate::config::{Config, Effective, Environment, Frame, Medium, Transport, Version, load_with};
use fieldgate::point::{Protocol, Reads, Reporting};
use tempfile::TempDir;

/// Files by name, in a folder of their own.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn load(folder: &TempDir, files: &[&str], variables: &[(&str, &str)]) -> (Config, Effective) {
    let files: Vec<PathBuf> = files.iter().map(|file| folder.path().join(file)).collect();
    let environment: Environment =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    load_with(&files, &environment).unwrap_or_else(|error| panic!("{error}"))
}

const BROKER: &str = "[mqtt]\nurl = \"mqtt://broker\"\n";

#[test]
fn the_last_source_wins_and_tables_merge() {
    let folder = folder(&[
        (
            "a.toml",
            "[mqtt]\nurl = 'mqtt://a'\nqos = 0\nmax_inflight = 1\nusername = 'a'\n[gateway]\nid = 'a'",
        ),
        ("b.toml", "[mqtt]\nusername = 'b'\nmax_inflight = 2"),
        ("conf.d/2.toml", "[mqtt]\nqos = 2\nreconnect.max = '5s'"),
        ("conf.d/1.toml", "[mqtt]\nqos = 1\nmax_inflight = 3\nreconnect.min = '2s'"),
        ("conf.d/.hidden.toml", "["),
        ("conf.d/note.txt", "["),
    ]);
    let (config, _) = load(&folder, &["a.toml", "b.toml"], &[("FIELDGATE_MQTT__MAX_INFLIGHT", "4")]);
    assert_eq!(config.gateway.id, "a");
    assert_eq!(config.mqtt.servers[0].to_string(), "a:1883");
    assert_eq!(config.mqtt.username.as_deref(), Some("b"));
    assert_eq!(config.mqtt.qos, 2);
    assert_eq!(config.mqtt.max_inflight, 4);
    assert_eq!(config.mqtt.reconnect_min, Duration::from_secs(2));
    assert_eq!(config.mqtt.reconnect_max, Duration::from_secs(5));
    assert_eq!(config.mqtt.keep_alive, Duration::from_secs(30));
    assert_eq!(config.mqtt.prefix, "fieldgate/a");
}

#[test]
fn what_is_text_stays_text_in_the_environment() {
    let folder = folder(&[("a.toml", BROKER)]);
    let (config, _) = load(
        &folder,
        &["a.toml"],
        &[
            ("FIELDGATE_MQTT__USERNAME", "0042"),
            ("FIELDGATE_GATEWAY__ID", "7"),
            ("FIELDGATE_GATEWAY__LABEL", "[1, 2]"),
            ("FIELDGATE_MQTT__VERSION", "5"),
            ("FIELDGATE_MQTT__CLEAN_START", "true"),
            ("FIELDGATE_MQTT__QOS", "2"),
            ("FIELDGATE_MQTT__KEEP_ALIVE", "1m"),
            ("FIELDGATE_MQTT__RECONNECT__MAX", "10s"),
            ("FIELDGATE_LINKS__SIM__DRIVER", "simulator"),
            ("FIELDGATE_LINKS__SIM__TAGS", "[\"a\", 1]"),
            ("FIELDGATE_DEVICES__D__LINK", "sim"),
            ("FIELDGATE_DEVICES__D__POINTS__P__ADDRESS", "sine"),
            ("FIELDGATE_DEVICES__D__POINTS__P__TYPE", "f64"),
            ("FIELDGATE_DEVICES__D__POINTS__P__SCALE", "0.1"),
            ("FIELDGATE_PORT", "tcp://10.0.0.1:8480"),
            ("OTHER", "x"),
        ],
    );
    assert_eq!(config.mqtt.username.as_deref(), Some("0042"));
    assert_eq!(config.gateway.id, "7");
    assert_eq!(config.gateway.label.as_deref(), Some("[1, 2]"));
    assert_eq!(config.mqtt.version, Version::V5);
    assert!(config.mqtt.clean_start);
    assert_eq!(config.mqtt.qos, 2);
    assert_eq!(config.mqtt.keep_alive, Duration::from_secs(60));
    assert_eq!(config.mqtt.reconnect_max, Duration::from_secs(10));
    assert_eq!(config.links[0].tags, Some(serde_json::json!(["a", 1])));
    assert_eq!(config.devices[0].points[0].scale.to_string(), "0.1");
    assert!(config.warnings.iter().any(|text| text.contains("FIELDGATE_PORT")), "{:?}", config.warnings);
}

#[test]
fn an_id_with_a_dash_is_reached_by_the_environment() {
    let folder =
        folder(&[("a.toml", &format!("{BROKER}[links.plc-1]\ndriver = 'modbus-tcp'\naddress = 'far'"))]);
    let (config, _) = load(&folder, &["a.toml"], &[("FIELDGATE_LINKS__PLC_1__ADDRESS", "127.0.0.1:1502")]);
    assert_eq!(config.links.len(), 1);
    let Transport::Modbus { medium: Medium::Tcp { host, port }, .. } = &config.links[0].transport else {
        panic!("{:?}", config.links[0].transport);
    };
    assert_eq!((host.as_str(), *port), ("127.0.0.1", 1502));
}

#[test]
fn a_secret_is_replaced_not_merged() {
    let main = "[mqtt]\nurl = 'mqtt://broker'\nusername = 'u'\npassword = { file = '/nonexistent' }";
    let folder = folder(&[("a.toml", main), ("secrets/pw", "from the credential\n")]);
    let secrets = folder.path().join("secrets");
    let (config, effective) = load(
        &folder,
        &["a.toml"],
        &[
            ("FIELDGATE_MQTT__PASSWORD__CREDENTIAL", "pw"),
            ("CREDENTIALS_DIRECTORY", secrets.to_str().unwrap()),
        ],
    );
    let password = config.mqtt.password.as_ref().unwrap();
    assert_eq!(password.read().unwrap().text(), Some("from the credential"));
    assert!(!format!("{config:?}{effective:?}").contains("from the credential"));
}

#[test]
fn numbers_are_exact_and_points_keep_their_order() {
    let text = format!(
        "{BROKER}[links.plc]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'plc'\naddress = '7'\n\
         order = 'CDAB'\n[devices.d.points]\n\
         z = {{ address = '40041', type = 'i16', scale = 0.1, offset = -1e-3, writable = true, min = 20.0, max = 75 }}\n\
         a = {{ address = 30001, type = 'u64', order = 'BADC', invalid = [0x8000, '18446744073709551615'] }}\n\
         off = {{ address = 'input:9', type = 'u16', enabled = false }}\n\
         m = {{ address = 'holding:9', type = 'u16', bits = '4-7', values = {{ 0 = 'off', 15 = 'x' }} }}\n"
    );
    let (config, _) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    let device = &config.devices[0];
    let Protocol::Modbus { unit: 7, reads, .. } = device.protocol else { panic!("{device:?}") };
    assert_eq!(reads, Reads::default());
    assert_eq!(device.patience, Duration::from_millis(500));
    let ids: Vec<_> = device.points.iter().map(|point| point.id.as_str()).collect();
    assert_eq!(ids, ["z", "a", "m"]);
    let [z, a, m] = device.points.as_slice() else { panic!("{ids:?}") };
    assert_eq!(z.address.to_string(), "holding:40");
    assert_eq!((z.scale.to_string(), z.offset.to_string()), ("0.1".to_owned(), "-0.001".to_owned()));
    assert_eq!(z.min.map(|min| min.to_string()).as_deref(), Some("20"));
    assert_eq!(a.address.to_string(), "input:0");
    assert_eq!(a.invalid, [0x8000, i128::from(u64::MAX)]);
    assert_eq!(format!("{:?} {:?}", z.order, a.order), "Cdab Badc");
    assert_eq!(m.bits, Some((4, 7)));
    assert_eq!(m.values.get(&15).map(String::as_str), Some("x"));
}

#[test]
fn a_template_lies_under_its_devices() {
    let text = format!(
        "{BROKER}[links.plc]\ndriver = 'modbus-tcp'\naddress = 'plc'\ntimeout = '2s'\n[templates.t]\nlink = 'plc'\n\
         poll_interval = '9s'\npoints.a = {{ address = 'input:1', type = 'u16', unit = 'W' }}\n\
         [devices.x]\ntemplate = 't'\naddress = 1\npoints.a.unit = 'kW'\npoints.b = {{ address = 'input:0', type = 'u16' }}\n\
         [devices.y]\ntemplate = 't'\naddress = 2\npoll_interval = '1s'\n"
    );
    let (config, _) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    let [x, y] = config.devices.as_slice() else { panic!("{:?}", config.devices) };
    assert_eq!((x.poll_interval, y.poll_interval), (Duration::from_secs(9), Duration::from_secs(1)));
    assert_eq!(x.patience, Duration::from_secs(2));
    assert_eq!((x.points.len(), y.points.len()), (2, 1));
    let unit = |points: &[fieldgate::point::Point]| {
        points.iter().find(|point| point.id.as_str() == "a").and_then(|point| point.unit.clone())
    };
    assert_eq!((unit(&x.points).as_deref(), unit(&y.points).as_deref()), (Some("kW"), Some("W")));
}

#[test]
fn a_device_that_talks_by_itself_is_awaited_for_its_interval() {
    let text = format!(
        "{BROKER}[links.s]\ndriver = 'serial'\npath = '/nonexistent/s'\nframe.end = \"\\u0000\\r\"\n\
         [devices.d]\nlink = 's'\npoll_interval = '30s'\ndecode.regex = '(?<a>.)'\n\
         points.a = {{ address = 'a', type = 'string' }}"
    );
    let (config, _) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    assert_eq!(config.devices[0].patience, Duration::from_secs(30));
    assert!(
        matches!(&config.links[0].transport, Transport::Serial { frame, .. } if *frame == Frame::until("\0\r"))
    );
}

#[test]
fn what_is_left_out_is_still_checked_but_not_used() {
    let link = "driver = 'modbus-tcp'\naddress = 'plc'\n";
    let text = format!(
        "{BROKER}[links.a]\n{link}[links.b]\n{link}enabled = false\n[devices.x]\nlink = 'a'\naddress = 1\n\
         [devices.y]\nlink = 'a'\naddress = 1\nenabled = false\n[devices.z]\nlink = 'b'\naddress = 1\n"
    );
    let (config, _) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    assert_eq!((config.links.len(), config.devices.len()), (1, 1));
    let environment: Environment = [("FIELDGATE_DEVICES__Z__ADDRESS".into(), "999".into())].into();
    let folder = folder(&[("a.toml", &text)]);
    let error = load_with(&[folder.path().join("a.toml")], &environment).unwrap_err();
    assert!(error.faults[0].what.starts_with("devices.z.address must be a unit id"), "{error}");
}

#[test]
fn what_is_printed_loads_as_the_same() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.toml")).unwrap();
    let text = format!(
        "{text}[devices.lamp]\nlink = 'sim'\nlabel = \"a \\\"b\\\" \\u007f\\n\"\ntags = {{ \"x y\" = [1, 2.5, true] }}\n"
    );
    let (_, first) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    let (_, second) = load(&folder(&[("a.toml", &first.to_toml())]), &["a.toml"], &[]);
    assert_eq!(first.to_json(), second.to_json());
    assert!(first.to_toml().contains("commit_every = \"250ms\""), "defaults are shown");
}

#[test]
fn check_tells_loads_and_insecure_choices() {
    let text = "[gateway]\nid = 'g'\n[mqtt]\nurl = 'mqtt://broker.example'\n[web]\nlisten = '0.0.0.0:8480'\ntoken = { env = 'WATCH' }\n\
        [links.bus]\ndriver = 'modbus-rtu'\npath = '/nonexistent/bus'\nbaud_rate = 1200\n\
        [devices.d]\nlink = 'bus'\naddress = 1\npoll_interval = '100ms'\n\
        points.a = { address = 'input:0', type = 'u16' }\npoints.b = { address = 'coil:0', type = 'bool' }\n";
    let folder = folder(&[("a.toml", text)]);
    let run = |json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command
            .arg("check")
            .env_clear()
            .env("WATCH", "0123456789abcdef")
            .arg("--config")
            .arg(folder.path().join("a.toml"));
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = run(false);
    for part in [
        "plain MQTT to broker.example",
        "cross the network in plain text",
        "links.bus is overloaded",
        "links.bus: group at 100 ms is impossible at 1200 baud: it needs 368.4 ms",
    ] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }
    let report: serde_json::Value = serde_json::from_str(&run(true)).unwrap();
    let link = &report["links"][0];
    assert_eq!(report["ok"], true);
    assert_eq!(link["requests"], 2);
    // 8 + 7 and 8 + 6 bytes of ten bits, with four silences of 3.5 characters, at 1200 baud, and twice 5 ms for the
    // device to answer: 368.3 ms.
    let round = link["round_ms"].as_f64().unwrap();
    assert!((round - 368.333).abs() < 0.01, "{round}");
    assert!((link["load_percent"].as_f64().unwrap() - 368.333).abs() < 0.01);
    assert_eq!(link["groups"][0]["possible"], false);

    let bad = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
        .args(["check", "--json", "--config", "/nonexistent/a.toml"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["faults"][0]["in"], "/nonexistent/a.toml");
}

#[test]
fn a_deadband_or_a_heartbeat_means_changes_unless_it_is_said_otherwise() {
    let text = format!(
        "{BROKER}[links.plc]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[devices.d]\nlink = 'plc'\naddress = 7\n\
         [devices.d.points]\na = {{ address = 'input:1', type = 'i16', deadband = 0.5 }}\n\
         b = {{ address = 'coil:1', type = 'bool', heartbeat = '1m' }}\n\
         c = {{ address = 'input:2', type = 'u16', report = 'change' }}\n\
         d = {{ address = 'input:3', type = 'u16', report = 'always', deadband = 1, heartbeat = '7d' }}\n\
         e = {{ address = 'input:4', type = 'u16' }}\n"
    );
    let (config, _) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    let found: Vec<_> = config.devices[0].points.iter().map(|point| point.reporting).collect();
    let change = |deadband: &str, heartbeat: Option<u64>| Reporting::Change {
        deadband: deadband.parse().unwrap(),
        heartbeat: heartbeat.map(Duration::from_secs),
    };
    let expected =
        [change("0.5", None), change("0", Some(60)), change("0", None), Reporting::Always, Reporting::Always];
    assert_eq!(found, expected);
    for key in ["deadband", "heartbeat"] {
        let warning = format!("devices.d.points.d.{key} has no effect with report = \"always\"");
        assert!(config.warnings.contains(&warning), "{:?}", config.warnings);
    }
}

#[test]
fn decimals_keep_the_digits_they_are_written_with() {
    let text = format!(
        "{BROKER}[links.plc]\ndriver = 'modbus-tcp'\naddress = 'plc'\n[templates.t.points.a]\nscale = 0.1234567890123456789\n\
         [devices.d]\nlink = 'plc'\naddress = 7\ntemplate = 't'\n[devices.d.points]\n\
         a = {{ address = 'holding:1', type = 'i64', offset = 9_007_199_254_740_993.5, max = +0.30000000000000001 }}\n\
         b = {{ address = 'holding:8', type = 'i64', scale = 0.10, offset = -12.5e-1, max = 18446744073709551616.0 }}\n"
    );
    let (config, effective) = load(&folder(&[("a.toml", &text)]), &["a.toml"], &[]);
    let [a, b] = config.devices[0].points.as_slice() else { panic!("{:?}", config.devices) };
    assert_eq!(a.scale.to_string(), "0.1234567890123456789");
    assert_eq!(a.offset.to_string(), "9007199254740993.5");
    assert_eq!(a.max.map(|max| max.to_string()).as_deref(), Some("0.30000000000000001"));
    assert_eq!((b.scale.to_string(), b.offset.to_string()), ("0.1".to_owned(), "-1.25".to_owned()));
    // They are printed with all of them, and what is printed reads as the same.
    let shown = effective.to_toml();
    for line in [
        "scale = 0.1234567890123456789\n",
        "offset = 9007199254740993.5\n",
        "max = 0.30000000000000001\n",
        "scale = 0.1\n",
        "offset = -1.25\n",
        "max = 18446744073709551616.0\n",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let points = &effective.to_json()["devices"]["d"]["points"];
    assert_eq!(points["a"]["scale"], "0.1234567890123456789");
    assert_eq!(points["b"]["scale"], 0.1);
    // What the template said stands in the device itself.
    let shown = shown.replace("template = \"t\"\n", "");
    let (again, _) = load(&folder(&[("a.toml", &shown)]), &["a.toml"], &[]);
    assert_eq!(again.devices, config.devices);
}
