//! A module uses only what stands below it, so that the data's way through the program stays one way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the top down; those of one line stand beside each other.
/// The modules of the last line are the words of the program and may use each other.
const TIERS: [&[&str]; 11] = [
    &["main", "lib"],
    &["cli"],
    &["gateway"],
    &["web"],
    &["uplink"],
    &["commands"],
    &["link"],
    &["status"],
    &["buffer"],
    &["drivers"],
    &[
        "record", "decode", "session", "strict", "kind", "notify", "config", "counters", "clock", "address",
        "point", "command", "mutant", "number",
    ],
];

#[test]
fn nothing_points_upward() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs").to_owned();
        let own = tier(&module, inside);
        for used in uses(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let below = tier(&used, inside) > own;
            let both_words = own + 1 == TIERS.len() && tier(&used, inside) == own;
            if used != module && !below && !both_words {
                wrong.push(format!("{} uses crate::{used}", inside.display()));
            }
        }
    }
    assert!(seen > 10, "only {seen} uses were found: this test reads them wrongly");
    assert!(wrong.is_empty(), "upward:\n  {}", wrong.join("\n  "));
}

#[test]
fn one_folder_names_the_mqtt_library() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let naming: Vec<PathBuf> = rust_files(&source)
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains("paho_mqtt"))
        .map(|file| file.strip_prefix(&source).unwrap().to_owned())
        .collect();
    assert!(!naming.is_empty(), "nothing names it: this test looks for the wrong word");
    let outside: Vec<_> = naming.iter().filter(|file| !file.starts_with("uplink/paho")).collect();
    assert!(outside.is_empty(), "paho-mqtt is named outside of src/uplink/paho: {outside:?}");
}

#[test]
fn every_form_of_use_is_read() {
    let text = "use crate::record::{self, Topic};\npub(crate) use crate::{point::{Device, Point}, clock};\n\
                // use crate::gateway;\nfn f() -> crate::config::Config { crate::link::x() }\nuse fieldgate::status;\n";
    let mut found = uses(text);
    found.sort();
    assert_eq!(found, ["clock", "config", "link", "point", "record", "status"]);
}

fn tier(module: &str, file: &Path) -> usize {
    TIERS
        .iter()
        .position(|tier| tier.contains(&module))
        .unwrap_or_else(|| panic!("{}: `{module}` has no tier: give it its line in TIERS", file.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The modules at the top of the crate that a text names.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let code = code.replace("use fieldgate::", "use crate::");
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => heads(group),
            None => vec![word(rest)],
        })
        .filter(|name| name.chars().next().is_some_and(char::is_lowercase))
        .collect()
}

/// The first word of each member of a `{…}` group, whatever is nested in it.
fn heads(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(word(group.get(start..at).unwrap_or_default()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
