//! The unit is one that systemd takes, restarts the gateway for ever but not into a faulty configuration, and
//! leaves it little to harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::{program, project};

/// The exposure that is allowed, in tenths: what a service with serial ports and network can reach.
const EXPOSURE: &str = "--threshold=15";

fn unit() -> PathBuf {
    project().join("systemd/fieldgate.service")
}

fn analyze(arguments: &[&str], unit: &PathBuf) -> Output {
    Command::new(program("systemd-analyze")).args(arguments).arg(unit).output().unwrap()
}

#[test]
fn systemd_takes_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("fieldgate.service");
    let text = fs::read_to_string(unit()).unwrap();
    let installed = "ExecStart=/usr/bin/fieldgate run";
    assert!(text.contains(installed));
    // The program is not installed here; nothing else may differ.
    let text = text.replace(installed, &format!("ExecStart={} run", env!("CARGO_BIN_EXE_fieldgate")));
    fs::write(&copy, text).unwrap();
    let output = analyze(&["verify", "--man=no"], &copy);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A misspelt key is only a warning to systemd.
    assert!(!said.contains("fieldgate.service"), "{said}");
}

#[test]
fn the_sandbox_leaves_little_to_harm() {
    let output = analyze(&["security", "--offline=true", "--no-pager", EXPOSURE], &unit());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_restarts_for_ever_but_not_a_faulty_configuration() {
    let text = fs::read_to_string(unit()).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for wanted in [
        "Type=notify",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "StartLimitIntervalSec=0",
        "WatchdogSec=30",
        "User=fieldgate",
        "SupplementaryGroups=dialout",
        "StateDirectory=fieldgate",
        "StateDirectoryMode=0700",
        // Without it a call outside the list kills: asking whether the clock is set is one.
        "SystemCallErrorNumber=EPERM",
    ] {
        assert!(lines.contains(&wanted), "{wanted} is missing");
    }
    let unset =
        lines.iter().find_map(|line| line.strip_prefix("UnsetEnvironment=")).expect("UnsetEnvironment");
    for name in ["http_proxy", "https_proxy", "PAHO_C_CLIENT_USE_HTTP_PROXY", "MQTT_C_CLIENT_TRACE"] {
        assert!(unset.split(' ').any(|word| word == name), "{name}");
    }
}
