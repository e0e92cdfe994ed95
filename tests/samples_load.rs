//! Every file under `config/` loads without a fault.

#![allow(clippy::panic)] // a fault fails the test, with all it says

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fieldgate::config::{Config, Environment, load_with};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn load(file: &Path, environment: &Environment) -> Config {
    match load_with(&[file], environment) {
        Ok((config, _)) => config,
        Err(error) => panic!("{}:\n{error}", file.display()),
    }
}

#[test]
fn the_demo_loads() {
    let environment = BTreeMap::from([("FIELDGATE_MQTT__URL".into(), "mqtt://127.0.0.1:18830".into())]);
    let config = load(&folder().join("demo.toml"), &environment);
    assert_eq!(config.mqtt.port, 18830);
    assert_eq!(config.links.len(), 4);
    assert_eq!(config.devices.len(), 4);
    assert_eq!(config.warnings, Vec::<String>::new());
}
