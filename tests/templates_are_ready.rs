//! The templates in `config/templates` load beside a configuration, and devices made of them are simulated and read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{LIMIT, Process, fieldgate, free_port, project};

/// Exit code, stdout, stderr.
fn tool(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = fieldgate();
    let output = command.args(arguments).arg("--config").arg(folder.join("fieldgate.toml")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The ids of the templates that the project has.
fn templates(folder: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    fs::create_dir(folder.join("templates")).unwrap();
    for entry in fs::read_dir(project().join("config/templates")).unwrap() {
        let file = entry.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(folder.join("templates").join(file.file_name().unwrap()), &text).unwrap();
        let heads = text.lines().filter_map(|line| line.strip_prefix("[templates.")?.strip_suffix(']'));
        ids.extend(heads.filter(|id| !id.contains('.')).map(str::to_owned));
    }
    ids.sort();
    ids
}

#[test]
fn each_is_simulated_and_every_point_of_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let ids = templates(folder.path());
    assert_eq!(ids, ["sdm120", "sdm630", "sunspec-inverter"]);
    let port = free_port();
    let mut config = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[links.net]\ndriver = \"modbus-tcp\"\naddress = \"127.0.0.1:{port}\"\n\
         timeout = \"20s\"\n"
    );
    for (id, unit) in ids.iter().zip(1..) {
        let device = format!("[devices.{id}]\ntemplate = \"{id}\"\nlink = \"net\"\naddress = {unit}\n");
        config.push_str(&device);
    }
    fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
    let (code, shown, complaint) = tool(folder.path(), &["check"]);
    assert_eq!(code, 0, "{shown}{complaint}");
    let mut simulate = fieldgate();
    simulate.arg("simulate").arg("--config").arg(folder.path().join("fieldgate.toml"));
    let simulation = Process::start("fieldgate simulate", &mut simulate);
    simulation.wait_line("sunspec-inverter", LIMIT);
    for id in ids {
        let (code, shown, complaint) = tool(folder.path(), &["read", &id, "--json"]);
        assert_eq!(code, 0, "{shown}{complaint}");
        let all: Value = serde_json::from_str(&shown).unwrap();
        assert!(all["points"].as_object().unwrap().len() >= 10, "{shown}");
    }
}

#[test]
fn one_that_nobody_uses_is_no_fault_and_a_device_may_say_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    templates(folder.path());
    let config = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[links.net]\ndriver = \"modbus-tcp\"\naddress = \"127.0.0.1\"\n\
                  [templates.sdm120]\nmax_registers = 40\n\
                  [devices.meter]\ntemplate = \"sdm120\"\nlink = \"net\"\naddress = 1\npoints.voltage.enabled = false\n";
    fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
    let (code, shown, complaint) = tool(folder.path(), &["check", "--print"]);
    assert_eq!(code, 0, "{complaint}");
    assert!(!shown.contains("is used by no device"), "{shown}");
    assert!(shown.contains("max_registers = 40") && shown.contains("points: 9"), "{shown}");
}

#[test]
fn a_file_of_templates_holds_nothing_else_and_its_mistakes_are_found_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("templates")).unwrap();
    let file = folder.path().join("templates/mine.toml");
    let main = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n";
    fs::write(folder.path().join("fieldgate.toml"), main).unwrap();
    for (text, part, line) in [
        ("[templates.a]\n[devices.b]\nlink = \"c\"\n", "devices has no place in a file of templates", 2),
        ("[templates.a]\npol_interval = \"1s\"\n", "did you mean `poll_interval`?", 2),
        ("[templates.a.points]\nx = { adress = \"holding:1\" }\n", "did you mean `address`?", 2),
    ] {
        fs::write(&file, text).unwrap();
        let (code, _, complaint) = tool(folder.path(), &["check"]);
        assert!(code == 78 && complaint.contains(part), "{complaint}");
        assert!(complaint.contains(&format!("mine.toml, line {line}")), "{complaint}");
    }
    // What is missing elsewhere is still missing from the main file.
    fs::write(&file, "[templates.a]\n").unwrap();
    fs::write(folder.path().join("fieldgate.toml"), "[links]\n").unwrap();
    let (code, _, complaint) = tool(folder.path(), &["check"]);
    assert!(
        code == 78 && complaint.contains("fieldgate.toml") && !complaint.contains("mine.toml"),
        "{complaint}"
    );
}

#[test]
fn one_that_nobody_uses_may_leave_to_devices_what_they_have_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[templates.meter]\nmax_gap = 5\n[templates.meter.points]\n\
                  a = { unit = \"W\", scale = 0.1 }\nb = { address = \"holding:1\", type = \"bool\" }\n\
                  c = { address = \"holding:2\", type = \"string\" }\n\
                  [templates.scale]\nrequest = \"W\"\npoints.a = { address = \"weight\", type = \"f64\" }\n\
                  [templates.program]\npoints.a = { address = \"roof/1\", type = \"bool\", bit = 3 }\n";
    fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
    let (code, shown, complaint) = tool(folder.path(), &["check", "--print"]);
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(shown.matches("is used by no device").count(), 3, "{shown}");
    assert!(!shown.contains("[templates.") && !shown.contains("has no points"), "{shown}");
}

#[test]
fn what_a_device_without_a_usable_link_says_is_judged_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[links.l]\ndriver = \"profibus\"\n[devices.d]\nlink = \"l\"\n\
                  pausee = \"1s\"\n[devices.d.points]\na = { address = \"holding:1\", type = \"u17\" }\n\
                  b = { address = \"coil:1\", type = \"bool\", wriatble = true }\n";
    fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
    let (code, _, complaint) = tool(folder.path(), &["check"]);
    assert_eq!((code, complaint.matches("error: ").count()), (78, 4), "{complaint}");
    for part in ["links.l.driver is none", "`pause`?", "points.a.type is none", "`writable`?"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
}
