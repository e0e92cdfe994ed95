//! A link that is somebody else's program: `driver = "plugin:NAME"`, its folder and its options.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value as Json};

use self::manifest::{Kind, Manifest, Setting};
use super::Transport;
use super::file::{self, Value};
use super::table::Table;
use crate::point::is_id;

mod manifest;
mod ownership;

pub use ownership::OwnershipError;

/// Where an installer puts plugins.
const FOLDER: &str = "/usr/lib/fieldgate/plugins";

/// What the word of a plugin begins with.
const DRIVER: &str = "plugin:";

/// A plugin as a link has it.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Its name.
    pub name: String,
    /// Its folder, without links in the way: the program's working directory.
    pub folder: PathBuf,
    /// The program, without links in the way.
    pub program: PathBuf,
    /// What the program is started with.
    pub arguments: Vec<String>,
    /// Every option with its value, defaults and all.
    pub options: Map<String, Json>,
    /// When the program was changed last: another one is another plugin.
    pub modified: Option<SystemTime>,
}

impl PluginConfig {
    /// Makes sure that nobody but root and this user can change what is run. Looked at when the configuration is
    /// read and before each start.
    pub fn check_ownership(&self) -> Result<(), OwnershipError> {
        ownership::check(&self.folder)?;
        ownership::check(&self.program)
    }
}

/// The name in `driver = "plugin:NAME"`.
pub(super) fn name(table: &Table) -> Option<String> {
    Some(table.peek("driver")?.strip_prefix(DRIVER)?.to_owned())
}

/// Reads the keys of a plugin's link, those that every link has apart. A link that is not used needs no plugin.
pub(super) fn read(table: &mut Table, name: &str, enabled: bool) -> Option<Transport> {
    let plugin = find(table, name, enabled);
    // Without the plugin nothing can be said about its options.
    match plugin {
        Some(_) => {}
        None if enabled => table.open(),
        None => drop(table.drain()),
    }
    plugin.map(Transport::Plugin)
}

fn find(table: &mut Table, name: &str, enabled: bool) -> Option<PluginConfig> {
    table.note("driver", table.peek("driver").unwrap_or_default().into());
    drop(table.take("driver"));
    if !is_id(name) {
        let help = "write plugin: and the name of its folder, 1 to 64 of a-z, 0-9, _ and -";
        table.fault("driver", "{key} names no plugin", help);
        return None;
    }
    let given = table.text("folder");
    let folder = given.clone().unwrap_or_else(|| format!("{FOLDER}/{name}"));
    table.note("folder", folder.as_str().into());
    if !enabled {
        return None;
    }
    // Where there is no key for the folder, the driver says where it is.
    let key = if given.is_some() { "folder" } else { "driver" };
    if !folder.starts_with('/') {
        table.fault(key, "{key} must begin with /", format!("write a path such as \"{FOLDER}/{name}\""));
        return None;
    }
    let Ok(folder) = Path::new(&folder).canonicalize() else {
        let what = format!("{{key}} names a plugin that is not there: no folder {folder}");
        table.fault(key, &what, "install the plugin there, or say with `folder` where it lies");
        return None;
    };
    let manifest = Manifest::load(table.reader, &folder, name)?;
    let plugin = PluginConfig {
        name: name.to_owned(),
        modified: manifest.program.metadata().and_then(|metadata| metadata.modified()).ok(),
        program: manifest.program,
        arguments: manifest.arguments,
        folder,
        options: manifest.options.iter().filter_map(|setting| option(table, setting)).collect(),
    };
    if let Err(error) = plugin.check_ownership() {
        let help =
            "chown root and chmod go-w what is named: who can change it can run anything as the gateway";
        table.fault(key, &format!("{{key}}: {error}"), help);
    }
    Some(plugin)
}

/// One option: what the link says, or the default.
fn option(table: &mut Table, setting: &Setting) -> Option<(String, Json)> {
    let Setting { name, kind, default, help } = setting;
    let value = match (table.take(name.clone()), default) {
        (Some((value, environment)), _) => {
            let parsed = value.as_str().filter(|_| environment && *kind != Kind::Text);
            let value = parsed.and_then(file::parse_value).unwrap_or(value);
            let json = kind.json(&value);
            if json.is_none() {
                table.wrong_type(name, kind.wanted(), &value, help);
            }
            json?
        }
        (None, Some(default)) => default.clone(),
        (None, None) => {
            table.fault(name, "{key} is missing: the plugin has no default for it", help);
            return None;
        }
    };
    table.note(name, value.clone());
    Some((name.clone(), value))
}

/// A whole number or a finite one, as JSON.
fn number(value: &Value) -> Option<Json> {
    match (value.to_i128(), value) {
        (Some(whole), _) => i64::try_from(whole).ok().map(Json::from),
        (None, Value::Num(_, number)) => {
            number.to_f64().and_then(serde_json::Number::from_f64).map(Json::Number)
        }
        _ => None,
    }
}
