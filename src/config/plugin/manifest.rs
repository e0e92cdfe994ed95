//! `plugin.toml`: what a plugin is called, how it is started, and what can be set.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::slice;

use serde_json::Value as Json;

use super::{number, ownership};
use crate::config::fault::Fault;
use crate::config::file::{KeyPath, Source, Value};
use crate::config::table::{Reader, Table};

/// Its name in the folder of the plugin.
const FILE: &str = "plugin.toml";

/// The version of what is spoken with a plugin.
const API: u8 = 1;

/// Keys that every link has; no option can have their names.
const LINK_KEYS: [&str; 8] =
    ["driver", "folder", "timeout", "pause", "pause_after_connect", "label", "tags", "enabled"];

/// A plugin's description, checked.
pub(super) struct Manifest {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) options: Vec<Setting>,
}

/// An option of a plugin.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// `None`: the link must say it.
    pub(super) default: Option<Json>,
    pub(super) help: String,
}

/// The type of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    /// The value as JSON, if it is of this type.
    pub(super) fn json(self, value: &Value) -> Option<Json> {
        match (self, value) {
            (Self::Text, Value::String(_, text)) => Some(text.as_str().into()),
            (Self::Boolean, Value::Bool(_, flag)) => Some((*flag).into()),
            (Self::Integer, Value::Num(..)) => number(value).filter(|json| !json.is_f64()),
            (Self::Number, Value::Num(..)) => number(value),
            _ => None,
        }
    }

    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a whole number of 64 bits",
            Self::Number => "a finite number",
            Self::Boolean => "true or false",
        }
    }
}

impl Manifest {
    /// Reads the description in a folder. Its faults go where those of the configuration are, with its own lines.
    pub(super) fn load(outer: &Reader, folder: &Path, name: &str) -> Option<Self> {
        let file = folder.join(FILE);
        let fault = |what: String, help: &str| Fault {
            source: file.clone(),
            line: None,
            what,
            help: Some(help.to_owned()),
        };
        let source = match Source::read(&file) {
            Ok(source) => source,
            Err(fault) => {
                outer.faults.borrow_mut().push(fault);
                return None;
            }
        };
        let reader = Reader {
            sources: slice::from_ref(&source),
            environment: outer.environment,
            faults: RefCell::default(),
            warnings: RefCell::default(),
            effective: RefCell::default(),
        };
        let table = Table::new(&reader, KeyPath::new(), None, source.tree.clone());
        let manifest = read(table, folder, name);
        let mut faults = reader.faults.take();
        if let Err(error) = ownership::check(&file) {
            faults.push(fault(error.to_string(), "chown root and chmod go-w it"));
        }
        let is_good = faults.is_empty();
        outer.faults.borrow_mut().append(&mut faults);
        manifest.filter(|_| is_good)
    }
}

fn read(mut table: Table, folder: &Path, name: &str) -> Option<Manifest> {
    if table.text("name").as_deref() != Some(name) {
        let help = format!("write name = \"{name}\", as the folder and the link have it");
        table.fault("name", "{key} is not the name by which the plugin is used", help);
    }
    if table.whole("api", 0..=u8::MAX) != Some(API) {
        let help = format!("this gateway speaks api = {API}; get the plugin's version for it");
        table.fault("api", "{key} is not one that is known", help);
    }
    let command = command(&mut table, folder);
    let mut options = Vec::new();
    for (name, inner) in table.tables("options") {
        options.extend(setting(name, inner));
    }
    table.finish();
    let (program, arguments) = command?;
    Some(Manifest { program, arguments, options })
}

fn command(table: &mut Table, folder: &Path) -> Option<(PathBuf, Vec<String>)> {
    const HELP: &str =
        "write the program and its arguments, such as command = [\"./program\"]; no shell reads it";
    if !table.has("command") {
        table.fault("command", "{key} is missing", HELP);
    }
    let mut command = table.texts("command")?;
    if command.iter().any(|part| part.contains('\0')) || command.first().is_none_or(String::is_empty) {
        table.fault("command", "{key} names no program", HELP);
        return None;
    }
    let first = command.remove(0);
    if !first.starts_with("./") && !first.starts_with('/') {
        let help = "begin it with ./ for a file of the folder: nothing is looked for elsewhere";
        table.fault("command", "{key} must name its program by a path", help);
        return None;
    }
    match folder.join(&first).canonicalize() {
        Ok(program) if program.is_file() => Some((program, command)),
        Ok(_) | Err(_) => {
            let what = format!("{{key}}: there is no program {first} in {}", folder.display());
            table.fault("command", &what, "install the whole folder of the plugin");
            None
        }
    }
}

fn setting(name: String, mut table: Table) -> Option<Setting> {
    if LINK_KEYS.contains(&name.as_str()) {
        table.fault("", "{key} has the name of a key that every link has", "name the option otherwise");
    }
    if !table.has("type") {
        table.fault("type", "{key} is missing", "write text, integer, number or boolean");
    }
    let kind = table.choice(
        "type",
        &[
            ("text", Kind::Text),
            ("integer", Kind::Integer),
            ("number", Kind::Number),
            ("boolean", Kind::Boolean),
        ],
    );
    if !table.has("help") {
        table.fault("help", "{key} is missing", "say what to write, for whoever wrote something else");
    }
    let help = table.text("help");
    let given = table.take_structure("default");
    let default = given.as_ref().zip(kind).and_then(|(value, kind)| {
        let json = kind.json(value);
        if json.is_none() {
            table.wrong_type("default", kind.wanted(), value, "write a default of the option's type");
        }
        json
    });
    table.finish();
    Some(Setting { name, kind: kind?, default, help: help? })
}
