//! Secrets that may appear nowhere, and the search for them in all that a test sees of a gateway.
//!
//! Every secret of a test process holds the same random text, so that one search over few bytes finds all of them, also
//! where only a part of one got out.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, RwLock};
use std::thread;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use toml_edit::Document;

/// Shorter secrets would be found by chance.
const SHORTEST: usize = 8;
/// Bytes that are looked up at once.
const GRAM: usize = 4;
/// What a gateway is given, beside its configuration.
const FILE: &str = "conf.d/zz-canary.toml";
const FOLDER: &str = "canary";

/// What all secrets of this process have in common.
static CORE: LazyLock<String> = LazyLock::new(|| format!("{:016x}", RandomState::new().hash_one("core")));

static SEARCH: LazyLock<RwLock<Search>> = LazyLock::new(|| {
    let mut search = Search::default();
    search.add(CORE.as_bytes());
    RwLock::new(search)
});

/// A secret that is found wherever it turns up.
pub fn secret(name: &str) -> String {
    format!("canary-{name}-{}", *CORE)
}

/// From now on this secret of a test's own is looked for too. One that is too short is not.
pub fn guard(secret: &[u8]) {
    let ours = CORE.as_bytes();
    if secret.len() >= SHORTEST && !secret.windows(ours.len()).any(|part| part == ours) {
        SEARCH.write().unwrap().add(secret);
    }
}

/// Where a secret stands and in which form, without the secret.
pub fn find(bytes: &[u8]) -> Option<String> {
    let (at, form) = SEARCH.read().unwrap().find(bytes)?;
    Some(format!("a secret {form} at byte {at}"))
}

/// Fails the test where a secret stands in these bytes; not while it is failing already.
pub fn assert_clean(place: &str, bytes: &[u8]) {
    if !thread::panicking()
        && let Some(found) = find(bytes)
    {
        panic!("{place} holds {found}");
    }
}

/// Runs a command of the program to its end and looks at all that it says.
pub fn output(command: &mut std::process::Command) -> std::process::Output {
    let output = command.output().unwrap();
    assert_clean("stdout", &output.stdout);
    assert_clean("stderr", &output.stderr);
    output
}

/// Looks into every file of a folder, those apart that are meant to hold a secret.
pub fn assert_clean_folder(folder: &Path, except: &[PathBuf]) {
    // The folder may be gone, and files come and go beside a running gateway.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => assert_clean_folder(&path, except),
            Ok(kind) if kind.is_file() && !except.contains(&path) => match fs::read(&path) {
                Ok(bytes) => assert_clean(&path.display().to_string(), &bytes),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}", path.display()),
            },
            _ => {}
        }
    }
}

/// The secrets of a gateway.
#[derive(Clone, Default)]
pub struct Planted {
    /// What its environment needs for them.
    pub environment: Vec<(String, String)>,
    /// The files that hold them.
    pub sources: Vec<PathBuf>,
}

/// Gives a gateway secrets where its configuration has room for one and names none: in turn by file, credential and
/// variable, as the name of the test and of the key will have it.
pub fn plant(folder: &Path, config: &str) -> Planted {
    let mut planted = Planted { sources: named(config), ..Planted::default() };
    let lines = wanted(config).map(|wanted| planted.write(folder, &wanted)).unwrap_or_default();
    let file = folder.join(FILE);
    if lines.is_empty() {
        fs::remove_file(file).ok();
    } else {
        fs::create_dir_all(folder.join("conf.d")).unwrap();
        fs::write(file, lines).unwrap();
    }
    planted.guard_sources();
    planted
}

impl Planted {
    /// What the configuration names itself is looked for too, also after it was changed.
    pub fn guard_sources(&self) {
        for bytes in self.sources.iter().filter_map(|path| fs::read(path).ok()) {
            guard(bytes.trim_ascii_end());
        }
    }

    /// The configuration of these secrets: key, and what else its table needs.
    fn write(&mut self, folder: &Path, wanted: &[(&str, String)]) -> String {
        let mut lines = String::new();
        for (key, line) in wanted {
            let short = key.rsplit('.').next().unwrap();
            let secret = secret(short);
            let mut hasher = DefaultHasher::new();
            (thread::current().name(), key).hash(&mut hasher);
            let way = match hasher.finish() % 3 {
                0 => {
                    let name = format!("CANARY_{}", short.to_uppercase());
                    let way = format!("{{ env = \"{name}\" }}");
                    self.environment.push((name, secret));
                    way
                }
                way => {
                    let home = folder.join(FOLDER);
                    fs::create_dir_all(&home).unwrap();
                    let file = home.join(short);
                    fs::write(&file, secret + "\n").unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                    self.sources.push(file.clone());
                    if way == 1 {
                        self.environment
                            .push(("CREDENTIALS_DIRECTORY".to_owned(), home.display().to_string()));
                        format!("{{ credential = \"{short}\" }}")
                    } else {
                        format!("{{ file = \"{}\" }}", file.display())
                    }
                }
            };
            writeln!(lines, "{}", line.replace("SECRET", &way)).unwrap();
        }
        lines
    }
}

/// The secrets that there is room for: their keys, and their lines with SECRET in the place of it.
fn wanted(config: &str) -> Option<Vec<(&'static str, String)>> {
    let document = Document::parse(config).ok()?;
    let mqtt = document.get("mqtt")?;
    let text = |key: &str| mqtt.get(key).and_then(toml_edit::Item::as_str);
    let has = |key: &str| mqtt.get(key).is_some();
    let mut wanted = Vec::new();
    if !has("password") {
        // Before MQTT 5 there is no password without a name (MQTT 3.1.1, 3.1.2.9).
        let alone = has("username") || text("version").is_none_or(|version| version == "5");
        let name = if alone { "" } else { "mqtt.username = \"canary\"\n" };
        wanted.push(("mqtt.password", format!("{name}mqtt.password = SECRET")));
    }
    if has("proxy") && !has("proxy_username") {
        let name = "mqtt.proxy_username = \"canary\"\n";
        wanted.push(("mqtt.proxy_password", format!("{name}mqtt.proxy_password = SECRET")));
    }
    // A key that lies open needs none, and takes any.
    let tls = |key: &str| mqtt.get("tls").and_then(|tls| tls.get(key)).is_some();
    if tls("key") && !tls("key_password") {
        wanted.push(("mqtt.tls.key_password", "mqtt.tls.key_password = SECRET".to_owned()));
    }
    // A real broker refuses a method that it does not know.
    if text("url").is_some_and(super::scripted::is_scripted)
        && !has("auth")
        && text("version").is_none_or(|version| version == "5")
    {
        wanted.push(("mqtt.auth.data", "mqtt.auth = { method = \"canary\", data = SECRET }".to_owned()));
    }
    Some(wanted)
}

/// The files of the secrets that a configuration names itself.
fn named(config: &str) -> Vec<PathBuf> {
    let after = config.split("file = \"").skip(1);
    after.filter_map(|rest| rest.split_once('"')).map(|(path, _)| PathBuf::from(path)).collect()
}

/// A search for many texts at once that looks at every fifth place or so only.
#[derive(Default)]
struct Search {
    needles: Vec<(Vec<u8>, &'static str)>,
    /// From one place that is looked at to the next: a needle covers one of them with whole bytes before its end.
    step: usize,
    /// The needles that hold these bytes, and where, among the first `step` places.
    places: HashMap<[u8; GRAM], Vec<(usize, usize)>>,
    /// Few bytes of a file are worth a look into the map.
    is_first: Vec<bool>,
}

impl Search {
    fn add(&mut self, secret: &[u8]) {
        for needle in forms(secret) {
            if !self.needles.iter().any(|(known, _)| *known == needle.0) {
                self.needles.push(needle);
            }
        }
        let shortest = self.needles.iter().map(|(needle, _)| needle.len()).min().unwrap();
        self.step = shortest - GRAM + 1;
        self.places.clear();
        self.is_first = vec![false; 1 << 16];
        for (index, (needle, _)) in self.needles.iter().enumerate() {
            for (at, gram) in needle.windows(GRAM).take(self.step).enumerate() {
                self.is_first[first(gram)] = true;
                self.places.entry(gram.try_into().unwrap()).or_default().push((index, at));
            }
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<(usize, &'static str)> {
        let mut place = 0;
        while place + GRAM <= bytes.len() {
            let gram = &bytes[place..place + GRAM];
            if self.is_first[first(gram)] {
                for (index, at) in self.places.get(gram).into_iter().flatten() {
                    let (needle, form) = &self.needles[*index];
                    if let Some(start) = place.checked_sub(*at)
                        && bytes[start..].starts_with(needle)
                    {
                        return Some((start, form));
                    }
                }
            }
            place += self.step;
        }
        None
    }
}

fn first(gram: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([gram[0], gram[1]]))
}

/// The ways in which a program may show a secret.
fn forms(secret: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![
        (secret.to_vec(), "as it is"),
        (hex.to_uppercase().into_bytes(), "in hex"),
        (hex.into_bytes(), "in hex"),
        (numbers.join(", ").into_bytes(), "as a list of numbers"),
        (numbers.join(",").into_bytes(), "as a list of numbers"),
    ];
    // Whatever stands before it shifts it by none, two or four bits; what its neighbours change too is left out.
    for before in 0..3 {
        let bytes = [&vec![0; before][..], secret].concat();
        let kept = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push((engine.encode(&bytes).as_bytes()[kept.clone()].to_vec(), "in base64"));
        }
    }
    forms
}
