//! A configuration that is broken at random is refused with a fault and a help, or loads; it never panics, and no
//! fault shows a secret.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;

use fieldgate::config::{ConfigError, Environment, load_with};
use proptest::prelude::*;

/// What must never be shown.
const CANARY: &str = "hunter2";

/// A configuration without fault.
const GOOD: &str = include_str!("config_good.toml");

/// The rest of the uplink, to be broken.
const UPLINK: &str = r#"
[mqtt.tls]
alpn = ["mqtt"]
ciphers = "ECDHE+AESGCM"
verify = "ca"
insecure = true
[mqtt.will]
topic = "{prefix}/status"
payload = "gone"
delay = "30s"
[mqtt.ws_headers]
Origin = "https://broker"
[mqtt.auth]
method = "SAS"
data = { env = "PW" }
[mqtt.user_properties]
site = "x"
"#;

/// Pieces that turn one configuration into another kind of wrong.
const PIECES: [&str; 26] = [
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    "\n",
    "-1",
    "0",
    "9999999999999999999",
    "1e400",
    "nan",
    "true",
    "\\u0000",
    "\u{7f}",
    "[devices.boiler.points.temp]\n",
    "ö",
    "''",
    "{device}",
    "/",
    "#",
    "?",
    "@",
    "%",
];

/// Both together, to be broken.
fn base() -> String {
    let url = "url = \"wss://127.0.0.1/mqtt?a=b\"\ntopic = \"{prefix}/{device}/x\"\nproxy = \"http://p:1\"";
    GOOD.replace("url = \"mqtt://127.0.0.1\"", url) + UPLINK
}

fn load(text: &[u8]) -> Result<(), ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.toml");
    fs::write(&file, text).unwrap();
    load_with(&[file], &Environment::from([("PW".into(), CANARY.into())])).map(drop)
}

#[test]
fn the_base_has_no_fault() {
    load(base().as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_is_fatal(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<prop::sample::Index>()), 1..6),
        stray in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut text = base();
        for (at, kind, piece) in edits {
            let at = at.index(text.len());
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(at);
            match kind {
                0 => text.insert_str(at, PIECES[piece.index(PIECES.len())]),
                1 => text.replace_range(at..end, PIECES[piece.index(PIECES.len())]),
                _ => text.replace_range(at..end, ""),
            }
        }
        let mut bytes = text.into_bytes();
        if let Some((at, byte)) = stray {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = load(&bytes) {
            prop_assert!(!error.faults.is_empty());
            for fault in error.faults {
                prop_assert!(!fault.what.contains('\n') && fault.help.is_some(), "{}", fault);
                prop_assert!(!fault.to_string().contains(CANARY), "{}", fault);
            }
        }
    }
}
