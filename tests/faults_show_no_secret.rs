//! However a secret is written into a configuration, rightly or wrongly: no fault and no value that is told shows it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fieldgate::config::{Environment, load_with};
use support::{LIMIT, Process, canary, fieldgate};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoints.count = { address = \"counter\", type = \"u32\" }\n";

/// Asks for all that there is to be told.
const LOUD: [(&str, &str); 2] = [("FIELDGATE_LOG__LEVEL", "trace"), ("RUST_BACKTRACE", "full")];

/// Lines under `[mqtt]` with a secret S, most of them wrong, as people write them. P is a path of a file with it.
const WRITTEN: [&str; 36] = [
    "password = \"S\"",
    "password = 'S",
    "password = S",
    "password = \"S\" x",
    "password = [\"S\"]",
    "password = { file = \"S\" }",
    "password = { file = \"./S\" }",
    "password = { file = [\"S\"] }",
    "password = { credential = \"S\" }",
    "password = { credential = \"../S\" }",
    "password = { env = \"S\" }",
    "password = { S = \"S\" }",
    "password = { text = \"S\" }",
    "password = { env = \"S\", file = \"P\" }",
    "password = { file = \"P\", mode = \"S\" }",
    "password = { file = \"P-open\" }",
    "password = { file = \"P-utf16\" }",
    "password = { file = \"P-missing\" }",
    "password = { file = \"P-folder\" }",
    "password = { file = \"P\" }",
    "pasword = \"S\"",
    "auth = \"S\"",
    "auth = { method = \"m\", data = \"S\" }",
    "auth = { method = \"m\", data = { env = \"S\" } }",
    "auth = { method = \"m\", data = { file = \"P\" } }",
    "auth = { method = [\"S\"], data = { file = \"P\" } }",
    "url = \"mqtt://plant:S@127.0.0.1\"",
    "url = \"S@127.0.0.1\"",
    "url = \"ws://127.0.0.1/mqtt?token=S\"",
    "url = [\"mqtt://plant:S@127.0.0.1\"]",
    "proxy = \"http://plant:S@127.0.0.1\"",
    "proxy = \"http://127.0.0.1\"\nproxy_username = \"u\"\nproxy_password = \"S\"",
    "proxy = \"http://127.0.0.1\"\nproxy_username = \"u\"\nproxy_password = { file = \"P\" }",
    "url = \"ws://127.0.0.1\"\nws_headers = { Authorization = \"S\" }",
    "url = \"ws://127.0.0.1\"\nws_headers = { X-Token = \"S\", Cookie = { file = \"P\" } }",
    "url = \"mqtts://127.0.0.1\"\ntls = { key_password = \"S\", insecure = \"S\" }",
];

/// The same by a variable.
const SET: [(&str, &str); 5] = [
    ("FIELDGATE_MQTT__PASSWORD", "S"),
    ("FIELDGATE_MQTT__PASSWORD", "{ env = \"S\" }"),
    ("FIELDGATE_MQTT__PASSWORD__FILE", "S"),
    ("FIELDGATE_MQTT", "S"),
    ("FIELDGATE_MQTT__AUTH", "{ method = \"m\", data = \"S\" }"),
];

#[test]
fn no_fault_and_no_value_of_a_configuration_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = canary::secret("written");
    let path = folder.path().join("secret");
    let shown = path.display().to_string();
    fs::write(&path, &secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let utf16: Vec<u8> = format!("\u{feff}{secret}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.path().join("secret-utf16"), utf16).unwrap();
    fs::write(folder.path().join("secret-open"), &secret).unwrap();
    fs::create_dir(folder.path().join("secret-folder")).unwrap();
    let fill = |line: &str| line.replace('S', &secret).replace('P', &shown);
    let lines = WRITTEN.iter().map(|line| (fill(line), ("NO", String::new())));
    let set = SET.iter().map(|(name, value)| (String::new(), (*name, fill(value))));
    let mut faulty = 0;
    for (line, variable) in lines.chain(set) {
        let url = if line.starts_with("url") { "" } else { "url = \"mqtt://127.0.0.1:1\"\n" };
        let config = folder.path().join("fieldgate.toml");
        fs::write(&config, format!("[mqtt]\n{url}{line}\n{DEVICE}")).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = fieldgate();
            command.args(arguments).arg("--config").arg(&config).env(variable.0, &variable.1).envs(LOUD);
            command
        };
        let ask = |arguments: &[&str]| canary::output(&mut command(arguments)).status.code();
        let code = ask(&["check"]);
        assert_eq!((ask(&["check", "--json"]), ask(&["check", "--print"])), (code, code));
        if code == Some(0) {
            // It would run. This is what a panic could print of it:
            let (config, effective) = load_with(&[config], &Environment::new()).unwrap();
            canary::assert_clean("the configuration", format!("{config:?}{effective:?}").as_bytes());
        } else {
            let ended = Process::start("fieldgate run", &mut command(&["run"])).wait_exit(LIMIT);
            assert_eq!((code, ended.code()), (Some(78), Some(78)));
            faulty += 1;
        }
    }
    assert!((30..WRITTEN.len() + SET.len()).contains(&faulty), "{faulty} faults");
}
