//! Every file under `config/` loads without a fault, and says the truth about the defaults.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fieldgate::config::{Config, Effective, Environment, load_with};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn load(file: &Path, environment: &Environment) -> (Config, Effective) {
    load_with(&[file], environment).unwrap_or_else(|error| panic!("{}:\n{error}", file.display()))
}

fn url() -> Environment {
    BTreeMap::from([("FIELDGATE_MQTT__URL".into(), "mqtt://127.0.0.1:1883".into())])
}

/// The text with every commented key and table header uncommented.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let rest = line.strip_prefix("# ").unwrap_or(line);
        let header = rest.starts_with('[') && rest.ends_with(']');
        let key = rest
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.'));
        if header || key { rest } else { line }
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_demo_loads() {
    let environment = BTreeMap::from([("FIELDGATE_MQTT__URL".into(), "mqtt://127.0.0.1:18830".into())]);
    let (config, _) = load(&folder().join("demo.toml"), &environment);
    assert_eq!(config.mqtt.servers[0].to_string(), "127.0.0.1:18830");
    assert_eq!(config.links.len(), 4);
    assert_eq!(config.devices.len(), 4);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn the_main_file_needs_the_broker_only() {
    let (config, _) = load(&folder().join("fieldgate.toml"), &url());
    assert!(config.links.is_empty(), "the samples under conf.d are not enabled");
    let error = load_with(&[folder().join("fieldgate.toml")], &Environment::new()).unwrap_err();
    let faults: Vec<_> = error.faults.iter().map(|fault| fault.what.as_str()).collect();
    assert_eq!(faults, ["mqtt.url is missing"]);
}

#[test]
fn each_sample_works_once_it_is_enabled() {
    let mut samples = 0;
    for entry in fs::read_dir(folder().join("conf.d")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\nenabled = false\n").count(), 1, "{}", path.display());
        let alone = tempfile::tempdir().unwrap();
        let file = alone.path().join("sample.toml");
        let mut text = text.replace("\nenabled = false\n", "\n");
        if path.ends_with("plugin.toml") {
            // It is not installed here.
            let plugin = support::plugins::install(alone.path(), "pi-health");
            let driver = "driver = \"plugin:pi-health\"\n";
            assert!(text.contains(driver));
            text = text.replace(driver, &format!("{driver}folder = \"{}\"\n", plugin.display()));
        }
        fs::write(&file, text).unwrap();
        let (config, _) = load(&file, &url());
        assert_eq!(config.links.len(), 1, "{}", path.display());
        assert!(!config.devices.is_empty(), "{}", path.display());
        assert!(config.devices.iter().all(|device| !device.points.is_empty()), "{}", path.display());
        assert_eq!(config.warnings, Vec::<String>::new(), "{}", path.display());
        samples += 1;
    }
    assert!(samples >= 9, "one for each driver, a serial server, and serial devices: {samples}");
}

#[test]
fn the_commented_keys_exist_and_hold_the_defaults() {
    let text = fs::read_to_string(folder().join("fieldgate.toml")).unwrap();
    let alone = tempfile::tempdir().unwrap();
    let (full, bare) = (alone.path().join("full.toml"), alone.path().join("bare.toml"));
    fs::write(&full, uncommented(&text)).unwrap();
    fs::write(&bare, "").unwrap();
    let (config, full) = load(&full, &Environment::new());
    assert_eq!(config.links.len(), 3);
    assert_eq!(config.devices.len(), 2);
    let (full, bare) = (full.to_json(), load(&bare, &url()).1.to_json());
    for section in ["log", "buffer", "mqtt", "commands", "web"] {
        let mut said = full[section].clone();
        for (key, gateway) in [
            ("client_id", "fieldgate-{}"),
            ("prefix", "fieldgate/{}"),
            ("topic", "fieldgate/{}/{device}/readings"),
        ] {
            if section == "mqtt" {
                assert_eq!(said[key], gateway.replace("{}", "plant-7"));
                said[key] = bare[section][key].clone();
            }
        }
        assert_eq!(said, bare[section], "[{section}]");
    }
    assert_eq!(full["gateway"]["clock"], bare["gateway"]["clock"]);
}

/// What the main file shows of the uplink beyond the defaults, the examples that are set off from the rest, with
/// their files in this folder; without these keys.
fn examples(folder: &Path, without: &[&str]) -> String {
    let text = fs::read_to_string(self::folder().join("fieldgate.toml")).unwrap();
    let mut seen = Vec::new();
    let mut kept = vec!["[mqtt]".to_owned()];
    // The example of another section stands in it.
    let examples =
        text.lines().map(|line| if line == "[web]" { line } else { line.strip_prefix("#   ").unwrap_or("") });
    for line in examples.filter(|line| !line.is_empty()) {
        let key = line.split(" = ").next().unwrap();
        // The password has three ways.
        if !without.contains(&key) && (key == "qos" || !seen.contains(&key)) {
            seen.push(key);
            kept.push(line.replace("/etc/fieldgate", folder.to_str().unwrap()));
        }
    }
    kept.join("\n")
}

#[test]
fn the_examples_of_the_uplink_load() {
    let alone = tempfile::tempdir().unwrap();
    let (all, names) = (examples(alone.path(), &[]), examples(Path::new("/"), &[]));
    for name in names.split("\"/").skip(1).filter_map(|rest| rest.split('"').next()) {
        // "//" begins the files of the folder "/".
        let Some(name) = name.strip_prefix('/') else { continue };
        let path = alone.path().join(name);
        fs::write(&path, "a secret of many bytes").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    assert!(all.contains("[mqtt.tls]") && all.contains("[web]\ntoken = "), "{all}");
    for without in [&["pkcs12"][..], &["cert", "key"]] {
        let file = alone.path().join("examples.toml");
        fs::write(&file, examples(alone.path(), without)).unwrap();
        let (config, effective) = load(&file, &Environment::new());
        assert_eq!(config.mqtt.servers.len(), 2);
        let wanted =
            ["mqtt.proxy_password goes to proxy.example in plain text", "there is no enabled device"];
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
        for (warning, wanted) in config.warnings.iter().zip(wanted) {
            assert!(warning.starts_with(wanted), "{warning}");
        }
        // What stands there beside the paths are the defaults.
        let tls = &effective.to_json()["mqtt"]["tls"];
        let bare = load_with(&[&file], &[("FIELDGATE_MQTT__TLS".into(), "{}".into())].into()).unwrap().1;
        for key in ["min_version", "verify", "insecure"] {
            assert_eq!(tls[key], bare.to_json()["mqtt"]["tls"][key], "{key}");
        }
    }
}

/// The keys that the program knows in a table, as it tells somebody who wrote another one.
fn known(table: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.toml");
    fs::write(&file, format!("[{table}]\nzzzzzzzzzzzzzzzzzzzzzzzz = 1\n")).unwrap();
    let url = [("FIELDGATE_MQTT__URL".into(), "wss://broker".into())].into();
    let error = load_with(&[&file], &url).unwrap_err();
    let keys = error.faults.iter().find_map(|fault| fault.help.as_deref()?.strip_prefix("known here: "));
    keys.unwrap().split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_known_key_stands_in_the_sample_and_in_the_reference() {
    let sample = fs::read_to_string(folder().join("fieldgate.toml")).unwrap();
    let reference = fs::read_to_string(folder().join("README.md")).unwrap();
    let mut seen = 0;
    for table in ["gateway", "log", "buffer", "mqtt", "mqtt.tls", "mqtt.will", "commands", "web"] {
        let rows = reference.split(&format!("\n## `[{table}]`\n")).nth(1).unwrap();
        let rows = rows.split("\n## ").next().unwrap();
        let lines = sample.split(&format!("[{table}]")).nth(1).unwrap();
        let lines = lines.split("\n[").next().unwrap().split("\n#   [").next().unwrap();
        for key in known(table) {
            let inner = format!("[{table}.{key}]");
            let row = rows.contains(&format!("\n| `{key}` |"));
            let section = reference.contains(&format!("\n## `{inner}`\n"));
            assert!(row || section, "config/README.md has no row for {table}.{key}");
            let shown = ["# ", "#   "].iter().any(|start| lines.contains(&format!("\n{start}{key} = ")));
            let headed = sample.contains(&format!("\n#   {inner}\n"));
            assert!(shown || headed, "fieldgate.toml has no {table}.{key}");
            seen += 1;
        }
    }
    assert!(seen > 55, "only {seen} keys are known");
}

#[test]
fn the_key_reference_has_every_key() {
    let text = fs::read_to_string(folder().join("fieldgate.toml")).unwrap();
    let reference = fs::read_to_string(folder().join("README.md")).unwrap();
    let keys = uncommented(&text);
    let keys = keys.lines().filter_map(|line| line.split_once(" = "));
    let mut seen = 0;
    for (key, _) in keys.filter(|(key, _)| !key.starts_with('#') && !key.contains('.')) {
        // Points are named by their owner, not by us.
        if text.contains(&format!("# {key} = {{ address")) {
            continue;
        }
        assert!(reference.contains(&format!("| `{key}` |")), "config/README.md has no row for {key}");
        seen += 1;
    }
    assert!(seen > 40, "only {seen} keys were read");
}
