//! Merging the files and the environment, and reading what came of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use figment::{Figment, Profile, Provider as _};

use super::effective::Effective;
use super::fault::{ConfigError, Fault};
use super::file::{Dict, KeyPath, Place, Source, Value};
use super::files::read_files;
use super::secret::Environment;
use super::table::{Reader, Table};
use super::{BufferConfig, Config, Field, WebConfig, check};

/// What the variables that set keys begin with.
const PREFIX: &str = "FIELDGATE_";

/// Most tables a key can lie in, with itself; a longer variable name is none of ours.
const DEPTH: usize = 8;

/// Loads and checks the configuration: the files, `conf.d/*.toml` and `templates/*.toml` beside each, and the
/// environment.
pub fn load(files: &[impl AsRef<Path>]) -> Result<Config, ConfigError> {
    let environment = std::env::vars_os().collect();
    let files: Vec<PathBuf> = files.iter().map(|file| file.as_ref().to_owned()).collect();
    // Ten thousand small values are read to make a few large ones. Among what lives on, the C library would keep
    // their memory for ever: 5 MiB for a thousand points. Each thread has an arena of its own, so they
    // live and die in that of a helper thread, and what stays is made in this one.
    let (read_sender, read_receiver) = mpsc::channel();
    let (done_sender, done_receiver) = mpsc::channel::<Read>();
    let helper = thread::spawn({
        let environment = Environment::clone(&environment);
        move || {
            if read_sender.send(read(&files, &environment)).is_ok() {
                drop(done_receiver.recv());
            }
            // Freeing a large block makes the library join the small ones and give the arena back.
            drop(std::hint::black_box(vec![0_u8; 100 << 10]));
        }
    });
    let result = match read_receiver.recv() {
        Ok(Ok(read)) => {
            let config = extract(&read, &environment, None).map(|(config, _)| config);
            drop(done_sender.send(read));
            config
        }
        Ok(Err(error)) => Err(error),
        Err(mpsc::RecvError) => Err(incomplete()),
    };
    // Where nothing could be read the helper would wait for ever for what it is to free.
    drop(done_sender);
    drop(helper.join());
    result
}

/// What the files and the environment say.
struct Read {
    sources: Vec<Source>,
    root: Dict,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

fn read(files: &[impl AsRef<Path>], environment: &Environment) -> Result<Read, ConfigError> {
    let mut sources = read_files(files)?;
    let merged = merge(&sources);
    let (variables, faults, warnings) = read_environment(environment, &merged);
    sources.push(variables);
    let root = merge(&sources);
    Ok(Read { sources, root, faults, warnings })
}

/// The same with another environment, and with the effective values.
pub fn load_with(
    files: &[impl AsRef<Path>],
    environment: &Environment,
) -> Result<(Config, Effective), ConfigError> {
    let read = read(files, environment)?;
    extract(&read, environment, Some(Effective::default()))
}

/// What says where the buffer lies, and the first part of every topic; nothing else is looked at. Somebody who looks
/// into the buffer need not have the secrets of the gateway.
pub fn load_buffer(files: &[impl AsRef<Path>]) -> Result<(BufferConfig, String), ConfigError> {
    load_part(files, check::read_buffer)
}

/// How devices are reached and what is in them; nothing else is looked at. A technician need not have the secrets of
/// the gateway.
pub fn load_field(files: &[impl AsRef<Path>]) -> Result<Field, ConfigError> {
    load_part(files, check::read_field)
}

/// Where the gateway can be watched; nothing else is looked at. Somebody who watches need not have its other secrets.
pub fn load_web(files: &[impl AsRef<Path>]) -> Result<WebConfig, ConfigError> {
    load_part(files, check::read_web)
}

fn load_part<T>(
    files: &[impl AsRef<Path>],
    part: impl for<'r> FnOnce(&'r Reader<'r>, Table<'r>) -> T,
) -> Result<T, ConfigError> {
    let environment = std::env::vars_os().collect();
    let read = read(files, &environment)?;
    let reader = Reader {
        sources: &read.sources,
        environment: &environment,
        faults: RefCell::default(),
        warnings: RefCell::default(),
        effective: RefCell::default(),
    };
    let found = part(&reader, Table::new(&reader, KeyPath::new(), None, read.root.clone()));
    let faults = reader.faults.take();
    if faults.is_empty() { Ok(found) } else { Err(ConfigError::new(faults)) }
}

fn extract(
    read: &Read,
    environment: &Environment,
    effective: Option<Effective>,
) -> Result<(Config, Effective), ConfigError> {
    let mut faults = read.faults.clone();
    let reader = Reader {
        sources: &read.sources,
        environment,
        faults: RefCell::default(),
        warnings: RefCell::new(read.warnings.clone()),
        effective: RefCell::new(effective),
    };
    let config = check::read(&reader, Table::new(&reader, KeyPath::new(), None, read.root.clone()));
    faults.append(&mut reader.faults.borrow_mut());
    if !faults.is_empty() {
        return Err(ConfigError::new(faults));
    }
    match config {
        Some(mut config) => {
            config.warnings = reader.warnings.take();
            Ok((config, reader.effective.take().unwrap_or_default()))
        }
        // Nothing is left out without a fault; should it be, it is not loaded either.
        None => Err(incomplete()),
    }
}

fn incomplete() -> ConfigError {
    ConfigError::new(vec![Fault {
        source: PathBuf::new(),
        line: None,
        what: "the configuration is incomplete".to_owned(),
        help: None,
    }])
}

/// Lays trees over one another; the last wins, tables merge.
pub(super) fn merge<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Dict {
    let figment = sources.into_iter().fold(Figment::new(), Figment::merge);
    // Our own providers never fail.
    let mut profiles = figment.data().unwrap_or_default();
    profiles.remove(&Profile::Default).unwrap_or_default()
}

/// Makes a source of the variables. An id with `-`, which no shell lets a variable have, is written with `_`.
fn read_environment(environment: &Environment, files: &Dict) -> (Source, Vec<Fault>, Vec<String>) {
    let mut source = Source::default();
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let fault = |what: &str, help: String| Fault {
            source: PathBuf::from(format!("environment, {name}")),
            line: None,
            what: format!("{name} {what}"),
            help: Some(help),
        };
        let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
        let path: KeyPath = key.split("__").map(str::to_owned).collect();
        if path.len() < 2 {
            // Others may use the prefix too: Kubernetes makes FIELDGATE_PORT for a service of that name.
            match key.split_once('_').filter(|(section, _)| check::SECTIONS.contains(section)) {
                Some((section, rest)) => {
                    let right = format!("{PREFIX}{section}__{rest}").to_ascii_uppercase();
                    faults
                        .push(fault("names no key", format!("did you mean {right}, with two underscores?")));
                }
                None => warnings.push(format!("the variable {name} names no key and is ignored")),
            }
            continue;
        }
        if path.len() > DEPTH || path.iter().any(String::is_empty) {
            let help = format!("write {PREFIX}SECTION__KEY, with two underscores between each");
            faults.push(fault("names no key", help));
            continue;
        }
        let Some(value) = value.to_str() else {
            faults.push(fault("is not UTF-8", "set it to UTF-8 text".to_owned()));
            continue;
        };
        let path = respell(path, files);
        for depth in 1..=path.len() {
            let place = Place::Variable(name.to_owned());
            source.places.insert(path.iter().take(depth).cloned().collect(), place);
        }
        insert(&mut source.tree, &path, value);
    }
    (source, faults, warnings)
}

/// Gives each key of a path the spelling that the files have for it.
fn respell(path: KeyPath, files: &Dict) -> KeyPath {
    let mut tree = Some(files);
    let mut spelt = KeyPath::new();
    for key in path {
        let known = tree.and_then(|tree| {
            let alike = |known: &&String| known.replace('-', "_") == key;
            tree.get_key_value(&key).or_else(|| tree.iter().find(|(known, _)| alike(known)))
        });
        tree = known.and_then(|(_, value)| value.as_dict());
        spelt.push(known.map_or(key, |(known, _)| known.clone()));
    }
    spelt
}

fn insert(tree: &mut Dict, path: &[String], value: &str) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        tree.insert(key.clone(), value.into());
        return;
    }
    let inner = tree.entry(key.clone()).or_insert_with(|| Dict::new().into());
    if !matches!(inner, Value::Dict(..)) {
        *inner = Dict::new().into();
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}
