//! Reading a table of the merged configuration key by key.
//!
//! Each key is taken on its own, so one bad value hides no other fault. What was never taken is not known.
//! What is taken is noted, defaults and all, for `check --print`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::effective::{Effective, Shown};
use super::fault::Fault;
use super::file::{Dict, KeyPath, Place, Source, Value};
use super::later;
use super::secret::Environment;
use crate::point;

/// What every table notes into.
pub(super) struct Reader<'s> {
    /// Lowest first.
    pub(super) sources: &'s [Source],
    pub(super) environment: &'s Environment,
    pub(super) faults: RefCell<Vec<Fault>>,
    pub(super) warnings: RefCell<Vec<String>>,
    /// Only who prints it needs it.
    pub(super) effective: RefCell<Option<Effective>>,
}

impl Reader<'_> {
    pub(super) fn warn(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Where a key was said last, which is what counts: the source's number, then the place in it.
    pub(super) fn find(&self, path: &[String]) -> Option<(usize, &Place)> {
        let mut sources = self.sources.iter().enumerate().rev();
        sources.find_map(|(index, source)| Some((index, source.places.get(path)?)))
    }
}

/// One table.
pub(super) struct Table<'r> {
    pub(super) reader: &'r Reader<'r>,
    pub(super) path: KeyPath,
    /// Where the template of a device has the same table.
    template: Option<KeyPath>,
    /// Somebody else says the rest: what is missing is no fault.
    is_part: bool,
    /// It may have keys that nobody here knows.
    is_open: bool,
    left: Dict,
    /// In the order of asking, each once.
    known: RefCell<Vec<Cow<'static, str>>>,
}

impl<'r> Table<'r> {
    pub(super) fn new(reader: &'r Reader<'r>, path: KeyPath, template: Option<KeyPath>, left: Dict) -> Self {
        Self { reader, path, template, is_part: false, is_open: false, left, known: RefCell::default() }
    }

    /// The name of a key, as it stands in messages.
    pub(super) fn name(&self, key: &str) -> String {
        show(&self.written(key))
    }

    /// The key is there. Whoever asks knows it, so it is known from now on.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.note_known(key.into());
        self.left.contains_key(key)
    }

    fn note_known(&self, key: Cow<'static, str>) {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
    }

    /// Notes a fault of a key, or of the table where the key is empty. `{key}` in `what` becomes its name.
    pub(super) fn fault(&self, key: &str, what: &str, help: impl Into<String>) {
        let path = self.written(key);
        let (source, line) = self.place(&path);
        self.reader.faults.borrow_mut().push(Fault {
            source,
            line,
            what: what.replace("{key}", &show(&path)),
            help: Some(help.into()),
        });
    }

    /// Notes that a key has to be there and is not, unless the table is a part.
    pub(super) fn missing(&self, key: &str, what: &str, help: impl Into<String>) {
        if !self.is_part {
            self.fault(key, what, help);
        }
    }

    /// The same table as a part of one that nobody has seen yet.
    pub(super) fn into_part(self) -> Self {
        Self { is_part: true, ..self }
    }

    /// From now on a key that is not known is a fault only where it is nearly one that is.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// What is missing is no fault.
    pub(super) fn is_part(&self) -> bool {
        self.is_part
    }

    /// The path by which the key was written: that of the device, or else that of its template.
    pub(super) fn written(&self, key: &str) -> KeyPath {
        let under = |path: &KeyPath| {
            let mut path = path.clone();
            if !key.is_empty() {
                path.push(key.to_owned());
            }
            path
        };
        let own = under(&self.path);
        let template = self.template.as_ref().map(under);
        match template {
            Some(template) if self.reader.find(&own).is_none() && self.reader.find(&template).is_some() => {
                template
            }
            _ => own,
        }
    }

    fn place(&self, path: &[String]) -> (PathBuf, Option<usize>) {
        let mut path = path;
        loop {
            match self.reader.find(path) {
                Some((source, Place::File { line, .. })) => {
                    let name = self.reader.sources.get(source).map(|source| source.name.clone());
                    return (name.unwrap_or_default(), Some(*line));
                }
                Some((_, Place::Variable(name))) => {
                    return (PathBuf::from(format!("environment, {name}")), None);
                }
                None => {}
            }
            // What is missing is missing from the table around it, or from the main file.
            let Some((_, around)) = path.split_last() else {
                let main = self.reader.sources.iter().find(|source| !source.is_library);
                let main = main.map(|source| source.name.clone());
                return (main.unwrap_or_default(), None);
            };
            path = around;
        }
    }

    /// Where the key was written, comparable: the order of the configuration.
    pub(super) fn position(&self, key: &str) -> (usize, usize) {
        match self.reader.find(&self.written(key)) {
            Some((source, Place::File { offset, .. })) => (source, *offset),
            Some((source, Place::Variable(_))) => (source, 0),
            None => (usize::MAX, 0),
        }
    }

    pub(super) fn note(&self, key: &str, value: Json) {
        self.note_as(key, value.into());
    }

    pub(super) fn note_as(&self, key: &str, value: Shown) {
        if let Some(effective) = &mut *self.reader.effective.borrow_mut() {
            effective.note(&self.path, key, value);
        }
    }

    /// Takes a key. The flag says that it comes from the environment, where everything is text.
    pub(super) fn take(&mut self, key: impl Into<Cow<'static, str>>) -> Option<(Value, bool)> {
        let key = key.into();
        let taken = self.left.remove(&*key).map(|value| (value, self.is_variable(&key)));
        self.note_known(key);
        taken
    }

    /// A text that is looked at and not taken.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.left.get(key)?.as_str()
    }

    /// The value of the key comes from the environment.
    pub(super) fn is_variable(&self, key: &str) -> bool {
        matches!(self.reader.find(&self.written(key)), Some((_, Place::Variable(_))))
    }

    /// A table inside this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'r>> {
        let dict = match self.take_structure(key)? {
            Value::Dict(_, dict) => dict,
            other => {
                self.wrong_type(key, "a table", &other, "write it as a table of keys and values");
                return None;
            }
        };
        Some(self.inner(key, dict))
    }

    /// The table of that key as if it were written and empty.
    pub(super) fn empty(&self, key: &str) -> Table<'r> {
        self.inner(key, Dict::new())
    }

    fn inner(&self, key: &str, dict: Dict) -> Table<'r> {
        let under = |path: &KeyPath| [path.as_slice(), &[key.to_owned()]].concat();
        let table = Table::new(self.reader, under(&self.path), self.template.as_ref().map(under), dict);
        Table { is_part: self.is_part, ..table }
    }

    /// The tables inside a table that is keyed by id; a bad id is a fault, its table is not read.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(String, Table<'r>)> {
        let Some(mut outer) = self.table(key) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (id, value) in std::mem::take(&mut outer.left) {
            if !point::is_id(&id) {
                let help = "write 1 to 64 of a-z, 0-9, _ and -; a label may hold every character";
                outer.fault(&id, "{key} is not an id", help);
                continue;
            }
            match value {
                Value::Dict(_, dict) => {
                    let inner = outer.inner(&id, dict);
                    tables.push((id, inner));
                }
                other => outer.wrong_type(&id, "a table", &other, "write it as a table of keys and values"),
            }
        }
        tables
    }

    /// The key was written, whatever came of it.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.left.contains_key(key) || self.reader.find(&self.written(key)).is_some()
    }

    /// Every key with its value, for a table with free keys.
    pub(super) fn drain(&mut self) -> Dict {
        std::mem::take(&mut self.left)
    }

    /// Leaves keys out of the judgement.
    pub(super) fn forget(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.left.remove(*key);
            self.note_known((*key).into());
        }
    }

    /// The same table with a template under it.
    pub(super) fn over(mut self, template: KeyPath, merge: impl FnOnce(Dict) -> Dict) -> Self {
        self.left = merge(std::mem::take(&mut self.left));
        self.template = Some(template);
        self
    }

    /// What was not taken yet, for merging.
    pub(super) fn rest(&self) -> Dict {
        self.left.clone()
    }

    /// Refuses a key that has its place elsewhere.
    pub(super) fn refuse(&mut self, key: &str, what: &str, help: &str) {
        if self.left.remove(key).is_some() {
            self.fault(key, what, help);
        }
    }

    /// Ends the reading: what is left is not known.
    pub(super) fn finish(mut self) {
        for (key, _) in std::mem::take(&mut self.left) {
            let section = self.path.first().map_or("", String::as_str);
            if later::has_key(section, self.path.len(), &key) {
                let help = "remove it, or wait for a version that has it; config/README.md lists the keys";
                self.fault(&key, "{key} is not in this version yet", help);
                continue;
            }
            let known = self.known.borrow();
            let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            let help = match nearest(&key, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.is_open => continue,
                None => format!("known here: {}", list(known.iter().copied())),
            };
            self.fault(&key, "{key} is not a known key", help);
        }
    }
}

/// The known word that a person may have meant.
#[must_use]
pub fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // No key is this long, and comparing costs length times length.
    if key.len() > 2 * point::ID_LENGTH {
        return None;
    }
    let close = |known: &&str| strsim::damerau_levenshtein(key, known);
    // Of two that are as near, `bit` and `bits` of `bitt`, the one that was written to its end.
    let near = known.iter().copied().min_by_key(|known| (close(known), !key.starts_with(known)))?;
    (close(&near) <= 1 + near.len() / 4).then_some(near)
}

pub(super) fn list<'t>(words: impl Iterator<Item = &'t str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A path as it would be written in TOML.
pub(super) fn show(path: &[String]) -> String {
    let bare = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let keys = path.iter().map(|key| match key {
        key if bare(key) => key.clone(),
        key => format!("\"{}\"", key.escape_debug()),
    });
    keys.collect::<Vec<_>>().join(".")
}
