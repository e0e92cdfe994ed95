//! `fieldgate read` and `fieldgate write` speak with a device directly: no broker, no buffer, no secret.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{Broker, Gateway, ModbusPeer, Scale, Subscriber, fieldgate, free_port, head, scale_device};

/// A secret that nobody can read, because who stands before the device is not root.
const HEAD: &str =
    "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"u\"\npassword = { file = \"/nonexistent\" }\n";

const POINTS: &str = r#"
[devices.boiler]
link = "field"
address = 3
points.flow = { address = "holding:40", type = "i16", scale = 0.1, unit = "°C", writable = true, min = -10, max = 75 }
points.mode = { address = "holding:41", type = "u16", values = { 0 = "off", 1 = "auto" }, writable = true }
points.gone = { address = "holding:42", type = "u16" }
points.pump = { address = "coil:4", type = "bool", writable = true }
points.power = { address = "holding:2", type = "f32", order = "CDAB", unit = "W" }
points.total = { address = "holding:10", type = "u64", writable = true }
points.name = { address = "holding:50", type = "string", length = 4, writable = true }
"#;

fn units() -> Value {
    json!({ "3": {
        // 12.34, low word first; then 9007199254740993, which no float can hold.
        "holding": { "2": [28836, 16709], "10": [32, 0, 0, 1], "40": [550, 1], "50": [28257, 28005] },
        "coil": { "4": [true] },
    } })
}

/// The configuration for a peer at that address, in a folder of its own.
fn configure(transport: &str, address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = if transport == "rtu" { "path" } else { "address" };
    let driver = match transport {
        "tcp" => "modbus-tcp",
        "rtu" => "modbus-rtu",
        "rtu-tcp" => "modbus-rtu-tcp",
        other => panic!("{other}"),
    };
    let link = format!("[links.field]\ndriver = \"{driver}\"\n{place} = \"{address}\"\ntimeout = \"5s\"\n");
    fs::write(folder.path().join("fieldgate.toml"), format!("{HEAD}{link}{POINTS}")).unwrap();
    folder
}

/// Exit code, stdout, stderr.
fn tool(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = fieldgate();
    command.args(arguments).arg("--config").arg(folder.join("fieldgate.toml"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_device_is_read_on_every_transport() {
    for transport in ["tcp", "rtu", "rtu-tcp"] {
        let peer = ModbusPeer::on(transport, &units());
        let folder = configure(transport, &peer.address);
        let (code, shown, complaint) = tool(folder.path(), &["read", "boiler"]);
        assert_eq!(code, 1, "one point does not exist: {shown}{complaint}");
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                vec!["point", "value", "unit", "quality", "raw"],
                vec!["flow", "55.0", "°C", "good", "0226"],
                vec!["mode", "auto", "good", "0001"],
                vec!["gone", "-", "bad:", "exception-2"],
                vec!["pump", "true", "good", "1"],
                vec!["power", "12.34", "W", "good", "70A4", "4145"],
                vec!["total", "9007199254740993", "good", "0020", "0000", "0000", "0001"],
                vec!["name", "name", "good", "6E61", "6D65"],
            ]
        );
        // Every column begins at the same place.
        let at = |line: &str, text: &str| line.find(text).map(|byte| line[..byte].chars().count());
        let head = shown.lines().next().unwrap();
        for line in shown.lines().filter(|line| line.contains("good")) {
            assert_eq!(at(line, "good"), at(head, "quality"), "{shown}");
        }
        for part in ["no value for 1 of 7 points", "gone: exception-2", "unit 3 of links.field", "help:"] {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }

        let (code, shown, complaint) = tool(folder.path(), &["read", "boiler", "total", "flow"]);
        assert_eq!((code, complaint.as_str()), (0, ""), "{shown}");
        assert!(
            shown.find("total").unwrap() < shown.find("flow").unwrap() && !shown.contains("pump"),
            "{shown}"
        );

        let (code, shown, _) = tool(folder.path(), &["read", "boiler", "--json"]);
        // Every digit, which a JSON library would lose.
        assert!(code == 1 && shown.contains("\"value\":9007199254740993"), "{shown}");
        let all: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(all["device"], "boiler");
        let flow = json!({"value": 55.0, "unit": "°C", "quality": "good", "raw": [550]});
        assert_eq!(all["points"]["flow"], flow);
        assert_eq!(all["points"]["gone"], json!({"quality": "bad", "reason": "exception-2"}));
        assert_eq!(all["points"]["pump"]["raw"], json!([1]));
    }
}

#[test]
fn a_block_with_holes_is_halved_as_a_poll_of_the_gateway_would() {
    let registers = |from: u16, to: u16| (from..to).map(|n| n * 10).collect::<Vec<u16>>();
    let peer = ModbusPeer::traced(&json!({
        "3": {"holding": {"0": registers(0, 10), "14": registers(14, 20), "30": registers(30, 34)}}
    }));
    let folder = tempfile::tempdir().unwrap();
    let numbers = (0..10).chain(14..20).chain([22]).chain(30..34);
    let point = |n: u16| format!("points.r{n} = {{ address = \"holding:{n}\", type = \"u16\" }}");
    let points = numbers.clone().map(point).collect::<Vec<_>>().join("\n");
    let text = format!(
        "{HEAD}[links.field]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\ntimeout = \"20s\"\n\
         [devices.boiler]\nlink = \"field\"\naddress = 3\n{points}",
        peer.address
    );
    fs::write(folder.path().join("fieldgate.toml"), text).unwrap();
    let (code, shown, complaint) = tool(folder.path(), &["read", "boiler", "--json"]);
    assert_eq!(code, 1, "{complaint}");
    let all: Value = serde_json::from_str(&shown).unwrap();
    for n in numbers {
        let point = &all["points"][format!("r{n}")];
        match n {
            22 => assert_eq!(*point, json!({"quality": "bad", "reason": "exception-2"})),
            _ => assert_eq!(point["value"], json!(n * 10), "{n}: {point}"),
        }
    }
    // Everything at once; then by halves, parted at the widest gap, until a half is answered.
    let asked = ["0 34", "0 10", "14 20", "14 9", "14 6", "22 1", "30 4"];
    assert_eq!(peer.wait_asked(asked.len()), asked.map(|place| format!("3 3 {place}")));
    assert_eq!(peer.refused(), 4);
}

#[test]
fn a_write_follows_the_rules_of_a_command() {
    for transport in ["tcp", "rtu"] {
        let peer = ModbusPeer::on(transport, &units());
        let folder = configure(transport, &peer.address);
        for (point, value, shown) in [
            ("flow", "55.5", "flow = 55.5 °C\n"),
            // To the nearest step.
            ("flow", "55.56", "flow = 55.6 °C\n"),
            ("flow", "-3", "flow = -3.0 °C\n"),
            ("mode", "off", "mode = off\n"),
            ("mode", "1", "mode = auto\n"),
            ("pump", "false", "pump = false\n"),
            ("total", "18446744073709551615", "total = 18446744073709551615\n"),
            ("name", "12", "name = 12\n"),
        ] {
            let told = tool(folder.path(), &["write", "boiler", point, value]);
            assert_eq!(told, (0, shown.to_owned(), String::new()), "{point} {value}");
        }
        assert_eq!(peer.wait_writes(8).len(), 8);
        for (point, value, code) in [
            ("flow", "75.1", "out-of-range"),
            ("flow", "warm", "wrong-type"),
            ("mode", "on", "wrong-type"),
            ("pump", "1", "wrong-type"),
            ("power", "1", "not-writable"),
            ("total", "18446744073709551616", "out-of-range"),
            ("name", "longer", "out-of-range"),
        ] {
            let (exit, shown, complaint) = tool(folder.path(), &["write", "boiler", point, value]);
            assert_eq!((exit, shown.as_str()), (1, ""), "{point} {value}");
            assert!(complaint.contains(code) && complaint.contains("help:"), "{complaint}");
            let (exit, shown, _) = tool(folder.path(), &["write", "boiler", point, value, "--json"]);
            let reply: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(
                (exit, &reply["status"], &reply["error"]["code"]),
                (1, &json!("rejected"), &json!(code))
            );
        }
        let (exit, shown, _) = tool(folder.path(), &["write", "boiler", "flow", "20", "--json"]);
        let reply: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((exit, &reply["status"]), (0, &json!("succeeded")));
        assert!(shown.contains("\"values\":{\"flow\":20.0}"), "{shown}");
        let last = &peer.wait_writes(9)[8..];
        assert_eq!(last, ["3 holding 40 [200]"], "what is refused reaches no device");
    }
}

#[test]
fn what_is_not_there_is_told_with_an_exit_code() {
    let peer = ModbusPeer::tcp(&units());
    let folder = configure("tcp", &peer.address);
    for (arguments, part) in [
        (vec!["read", "boilr"], "did you mean `boiler`?"),
        (vec!["read", "boiler", "flwo"], "did you mean `flow`?"),
        (vec!["write", "boiler", "pmup", "true"], "did you mean `pump`?"),
        (vec!["write", "quite-another", "pump", "true"], "known here: `boiler`"),
        (vec!["scan", "feild"], "did you mean `field`?"),
        (vec!["read"], "Usage"),
    ] {
        let (code, shown, complaint) = tool(folder.path(), &arguments);
        assert!(
            code == 2 && shown.is_empty() && complaint.contains(part),
            "{arguments:?}: {code} {complaint}"
        );
    }
    let file = folder.path().join("fieldgate.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("scale = 0.1", "skale = 0.1")).unwrap();
    for arguments in [vec!["read", "boiler"], vec!["write", "boiler", "pump", "true"], vec!["scan", "field"]]
    {
        let (code, _, complaint) = tool(folder.path(), &arguments);
        assert!(code == 78 && complaint.contains("did you mean `scale`?"), "{code} {complaint}");
    }
    // Nobody listens there.
    fs::write(&file, text.replace(&peer.address, &format!("127.0.0.1:{}", free_port()))).unwrap();
    let (code, _, complaint) = tool(folder.path(), &["read", "boiler"]);
    assert!(
        code == 1 && complaint.contains("refused") && complaint.contains("one connection only"),
        "{complaint}"
    );
    let (code, shown, _) = tool(folder.path(), &["read", "boiler", "flow", "--json"]);
    let all: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (code, &all["points"]["flow"]),
        (1, &json!({"unit": "°C", "quality": "bad", "reason": "offline"}))
    );
    let (code, shown, _) = tool(folder.path(), &["write", "boiler", "flow", "20", "--json"]);
    let reply: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &reply["status"], &reply["error"]["code"]), (1, &json!("failed"), &json!("offline")));
}

#[test]
fn a_line_that_a_gateway_holds_is_named_with_it() {
    let (broker, peer) = (Broker::start(), ModbusPeer::rtu(&units()));
    let folder = tempfile::tempdir().unwrap();
    let link = format!("[links.field]\ndriver = \"modbus-rtu\"\npath = \"{}\"\n", peer.address);
    let config = head(folder.path(), &broker) + &link + POINTS;
    let mut gateway = Gateway::run(folder.path(), &config);
    gateway.process().wait_line("boiler", support::LIMIT);
    for arguments in [vec!["read", "boiler"], vec!["write", "boiler", "flow", "20"], vec!["scan", "field"]] {
        let (code, _, complaint) = tool(folder.path(), &arguments);
        assert_eq!(code, 1, "{complaint}");
        for part in
            [peer.address.as_str(), "another program has it open", "a gateway runs with this configuration"]
        {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
    }
    assert!(gateway.stop().success());
    assert_eq!(tool(folder.path(), &["read", "boiler", "flow"]).0, 0);
}

#[test]
fn what_a_device_says_in_place_of_a_value_is_shown() {
    let (broker, scale) = (Broker::start(), Scale::start());
    let watcher = Subscriber::start(&broker, "fieldgate/g/scale/status");
    let right = r"^(?<status>\w\w),(?<weight>[-+ 0-9.]+)kg$";
    for (pattern, parts) in [
        (r"^(?<weight>[0-9.]+) tons$", ["no frame matched; the last was \"", "kg\""]),
        (r"^\w\w,(?<weight>[-+ 0-9.]+kg)$", ["points, such as weight: malformed: \"", "kg\" is no f64"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let device = scale_device(&scale.path, "200ms").replace(right, pattern);
        let config = head(folder.path(), &broker) + &device;
        fs::write(folder.path().join("fieldgate.toml"), &config).unwrap();
        let (code, _, complaint) = tool(folder.path(), &["read", "scale"]);
        for part in parts.into_iter().chain(["compare what came with `frame` and `decode`"]) {
            assert!(code == 1 && complaint.contains(part), "{part}: {complaint}");
        }
        // A clock that is trusted is told as one.
        let (_, shown, _) = tool(folder.path(), &["read", "scale", "--json"]);
        assert!(!shown.contains("unsynced"), "{shown}");
        let mut gateway = Gateway::run(folder.path(), &config);
        let status =
            watcher.wait_json("fieldgate/g/scale/status", "what is wrong", |json| json["detail"].is_string());
        let detail = status["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("kg\""), "{status}");
        gateway.process().wait_line("detail=", support::LIMIT);
        // Other words are no other state: the message stays what it was.
        let seen = scale.wait_sent(5);
        assert!(seen > 5);
        let told: Vec<Value> = watcher.messages().iter().map(support::Message::json).collect();
        assert_eq!(told.iter().filter(|status| status["detail"] == *detail).count(), 1, "{told:?}");
        assert!(gateway.stop().success());
    }
}
