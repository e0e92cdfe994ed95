//! One source of the configuration, a file or the environment: its tree of values and where each key stands.
//!
//! figment knows neither lines nor columns, so the tree it merges is built here, from a parse that does.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) use figment::value::{Dict, Value};
use figment::value::{Empty, Map};
use figment::{Metadata, Profile, Provider};
use rust_decimal::Decimal;
use toml_edit::{Document, Item, TableLike};

use super::fault::Fault;

/// The way to a value: one key for each table it lies in, then its own.
pub(super) type KeyPath = Vec<String>;

/// A file or the environment, read.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The file; empty for the environment, where each key has its own variable.
    pub(super) name: PathBuf,
    /// What it says.
    pub(super) tree: Dict,
    /// Where each key stands.
    pub(super) places: BTreeMap<KeyPath, Place>,
    /// It is a file of ready templates, from which a configuration takes what it wants.
    pub(super) is_library: bool,
    /// Numbers that lost digits on their way into the tree, as they were written.
    pub(super) exact: BTreeMap<KeyPath, String>,
}

/// Where a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file.
    File {
        /// Bytes before it.
        offset: usize,
        /// Its line, from 1.
        line: usize,
    },
    /// In this variable of the environment.
    Variable(String),
}

impl Provider for &Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.display().to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.tree.clone())]))
    }
}

impl Source {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |what: String, help: &str| Fault {
            source: path.to_owned(),
            line: None,
            what,
            help: Some(help.to_owned()),
        };
        let bytes = fs::read(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                fault("there is no such file".to_owned(), "give the right one with --config FILE")
            }
            io::ErrorKind::PermissionDenied => fault(
                "the file must not be read by this user".to_owned(),
                "let the user that runs fieldgate read it, for example by its group",
            ),
            io::ErrorKind::IsADirectory => {
                fault("this is a directory, not a file".to_owned(), "name a file inside it")
            }
            _ => fault(format!("the file cannot be read: {error}"), "look at the file and its disk"),
        })?;
        if bytes.starts_with(b"\xEF\xBB\xBF") {
            let what = "the file begins with a byte order mark".to_owned();
            return Err(fault(what, "save it as UTF-8 without a byte order mark"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to());
            let mut fault = fault("the file is not UTF-8".to_owned(), "save it as UTF-8");
            fault.line = good.map(|good| line_at(good, good.len()));
            fault
        })?;
        Self::parse(path.to_owned(), &text)
    }

    /// Reads a text as TOML.
    pub(super) fn parse(name: PathBuf, text: &str) -> Result<Self, Fault> {
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                return Err(Fault {
                    line: error.span().map(|span| line_at(text.as_bytes(), span.start)),
                    source: name,
                    // The parser's own display quotes the line, and with it a password; its message does not.
                    what: format!("this is not valid TOML: {}", error.message().replace('\n', ", ")),
                    help: Some(
                        "text stands in quotes, each key once, each table under one header".to_owned(),
                    ),
                });
            }
        };
        let mut walk = Walk::new(text);
        let tree = walk.table(document.as_table(), &mut KeyPath::new());
        Ok(Self { name, tree, places: walk.places, is_library: false, exact: walk.exact })
    }
}

/// Reads one TOML value, as a variable of the environment may hold it.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let text = format!("value = {text}");
    let document = Document::parse(text.as_str()).ok()?;
    let mut walk = Walk::new(&text);
    let mut tree = walk.table(document.as_table(), &mut KeyPath::new());
    let value = tree.remove("value")?;
    tree.is_empty().then_some(value)
}

struct Walk<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    places: BTreeMap<KeyPath, Place>,
    exact: BTreeMap<KeyPath, String>,
}

impl<'t> Walk<'t> {
    fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text,
            lines: std::iter::once(0).chain(breaks.map(|(offset, _)| offset + 1)).collect(),
            places: BTreeMap::new(),
            exact: BTreeMap::new(),
        }
    }

    fn table(&mut self, table: &dyn TableLike, path: &mut KeyPath) -> Dict {
        let mut dict = Dict::new();
        for (key, item) in table.iter() {
            path.push(key.to_owned());
            let span = table.get_key_value(key).and_then(|(key, _)| key.span());
            if let Some(span) = span {
                let line = self.lines.partition_point(|start| *start <= span.start);
                let place = Place::File { offset: span.start, line };
                self.places.insert(path.clone(), place);
            }
            dict.insert(key.to_owned(), self.item(item, path));
            path.pop();
        }
        dict
    }

    fn item(&mut self, item: &Item, path: &mut KeyPath) -> Value {
        match item {
            Item::None => empty(),
            Item::Value(value) => self.value(value, path),
            Item::Table(table) => self.table(table, path).into(),
            Item::ArrayOfTables(tables) => {
                let tables: Vec<_> = tables.iter().map(|table| self.table(table, path)).collect();
                tables.into()
            }
        }
    }

    fn value(&mut self, value: &toml_edit::Value, path: &mut KeyPath) -> Value {
        use toml_edit::Value as Toml;
        match value {
            Toml::String(text) => text.value().as_str().into(),
            Toml::Integer(number) => (*number.value()).into(),
            Toml::Float(number) => {
                let written = number.span().and_then(|span| self.text.get(span));
                if let Some(exact) = written.and_then(|written| more_digits(written, *number.value())) {
                    self.exact.insert(path.clone(), exact);
                }
                (*number.value()).into()
            }
            Toml::Boolean(flag) => (*flag.value()).into(),
            // No key holds a date.
            Toml::Datetime(_) => empty(),
            Toml::Array(array) => {
                let values: Vec<_> = array.iter().map(|value| self.value(value, path)).collect();
                values.into()
            }
            Toml::InlineTable(table) => self.table(table, path).into(),
        }
    }
}

/// The number that was written, where an `f64` is another one.
fn more_digits(written: &str, read: f64) -> Option<String> {
    let written = written.replace('_', "");
    // With an exponent it is for an f64 to say what is meant, and so it is with `inf` and `nan`.
    let is_plain = written.bytes().all(|byte| byte.is_ascii_digit() || b"+-.".contains(&byte));
    let written = written.trim_start_matches('+');
    let is_same = Decimal::from_str_exact(written).ok() == Decimal::from_str_exact(&read.to_string()).ok();
    (is_plain && !is_same).then(|| written.to_owned())
}

fn empty() -> Value {
    Value::from(Empty::Unit)
}

fn line_at(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.split(|byte| *byte == b'\n').count()
}
