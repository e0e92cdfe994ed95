//! What README.md shows as a configuration is one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fieldgate::config::load_with;

#[test]
fn every_configuration_in_the_readme_loads() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let samples: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(samples.len() >= 3, "only {} samples were found", samples.len());
    let environment = BTreeMap::from([("BROKER_PASSWORD".into(), "only-for-this-test".into())]);
    for sample in samples {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.toml");
        fs::write(&file, sample).unwrap();
        match load_with(&[&file], &environment) {
            Ok((config, _)) => assert!(!config.devices.is_empty(), "no device in\n{sample}"),
            Err(error) => panic!("{error}\nin the sample\n{sample}"),
        }
    }
}
