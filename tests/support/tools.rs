//! `fieldgate buffer` as a person or a script runs it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use super::{LIMIT, canary, fieldgate};

/// `fieldgate buffer …` with the configuration in `folder`.
pub fn tool(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = fieldgate();
    command.arg("buffer").args(arguments).arg("--config").arg(folder.join("fieldgate.toml"));
    command
}

/// Runs it and expects this exit code.
pub fn run(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = canary::output(&mut tool(folder, arguments));
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(status.code(), Some(code), "buffer {arguments:?}: {stdout}\n{stderr}");
    (stdout, stderr)
}

pub fn stat(folder: &Path) -> Value {
    serde_json::from_str(&run(folder, &["stat", "--json"], 0).0).unwrap()
}

/// Asks `stat` until it says what is wanted.
pub fn wait_stat(folder: &Path, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
    let end = Instant::now() + LIMIT;
    loop {
        let stat = stat(folder);
        if wanted(&stat) {
            return stat;
        }
        assert!(Instant::now() < end, "waited for {what}: {stat:#}");
    }
}

pub fn total(stat: &Value) -> u64 {
    stat["records"]["total"].as_u64().unwrap()
}

pub fn wait_records(folder: &Path, least: u64) -> Value {
    wait_stat(folder, &format!("{least} records"), |stat| total(stat) >= least)
}

/// A line of an export: the name, the topic, the payload.
pub type Line = ((u64, u64), String, String);

pub fn line(text: &str) -> Line {
    let json: Value = serde_json::from_str(text).unwrap();
    let rest = text.strip_prefix(&format!("{{\"topic\":{},\"payload\":", json["topic"])).unwrap();
    let end = if json["reason"].is_null() { "}" } else { ",\"reason\":" };
    let payload = &rest[..rest.rfind(end).unwrap()];
    let name = (json["payload"]["run"].as_u64().unwrap(), json["payload"]["seq"].as_u64().unwrap());
    (name, json["topic"].as_str().unwrap().to_owned(), payload.to_owned())
}

pub fn export(folder: &Path, arguments: &[&str]) -> Vec<Line> {
    let (text, _) = run(folder, &[&["export"], arguments].concat(), 0);
    text.lines().map(line).collect()
}
