//! Reading a table of the merged configuration key by key.
//!
//! Each key is taken on its own, so one bad value hides no other fault. What was never taken is not known.
//! What is taken is noted, defaults and all, for `check --print`.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Dict, Value};
use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::effective::Effective;
use super::fault::Fault;
use super::file::{self, KeyPath, Place, Source};
use super::later;
use super::secret::Environment;
use super::unit::{self, UnitError};
use crate::point::{self, Tags};

/// What every table notes into.
pub(super) struct Reader<'s> {
    /// Lowest first.
    pub(super) sources: &'s [Source],
    pub(super) environment: &'s Environment,
    pub(super) faults: RefCell<Vec<Fault>>,
    pub(super) warnings: RefCell<Vec<String>>,
    pub(super) effective: RefCell<Effective>,
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
    path: KeyPath,
    /// Where the template of a device has the same table.
    template: Option<KeyPath>,
    left: Dict,
    known: Vec<&'static str>,
}

impl<'r> Table<'r> {
    pub(super) fn new(reader: &'r Reader<'r>, path: KeyPath, template: Option<KeyPath>, left: Dict) -> Self {
        Self {
            reader,
            path,
            template,
            left,
            known: Vec::new(),
        }
    }

    /// The name of a key, as it stands in messages.
    pub(super) fn name(&self, key: &str) -> String {
        show(&self.written(key))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
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

    /// The path by which the key was written: that of the device, or else that of its template.
    fn written(&self, key: &str) -> KeyPath {
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
            match path.split_last() {
                Some((_, around)) => path = around,
                None => {
                    return (
                        self.reader
                            .sources
                            .first()
                            .map(|s| s.name.clone())
                            .unwrap_or_default(),
                        None,
                    );
                }
            }
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
        self.reader.effective.borrow_mut().note(&self.path, key, value);
    }

    /// Takes a key. The flag says that it comes from the environment, where everything is text.
    fn take(&mut self, key: &'static str) -> Option<(Value, bool)> {
        self.known.push(key);
        let value = self.left.remove(key)?;
        let place = self.reader.find(&self.written(key));
        Some((value, matches!(place, Some((_, Place::Variable(_))))))
    }

    /// Takes a key by what the source that counts says of it alone: a secret is replaced, not merged.
    pub(super) fn take_unmerged(&mut self, key: &'static str) -> Option<Value> {
        let (merged, _) = self.take(key)?;
        let path = self.written(key);
        let (source, _) = self.reader.find(&path)?;
        let source = self.reader.sources.get(source)?;
        let (last, around) = path.split_last()?;
        let mut tree = &source.tree;
        for key in around {
            tree = tree.get(key)?.as_dict()?;
        }
        Some(tree.get(last).cloned().unwrap_or(merged))
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &Value, help: &str) {
        self.fault(
            key,
            &format!("{{key}} must be {wanted}, not {}", type_of(found)),
            help,
        );
    }

    /// Text without NUL, which neither MQTT nor a path can hold.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let text = self.any_text(key)?;
        if text.contains('\0') {
            self.fault(key, "{key} holds a NUL character", "remove it");
            return None;
        }
        self.note(key, text.as_str().into());
        Some(text)
    }

    /// Text that may hold every character.
    pub(super) fn any_text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            (Value::String(_, text), _) => Some(text),
            (other, _) => {
                self.wrong_type(key, "text", &other, "put it in quotes");
                None
            }
        }
    }

    /// Text, or a whole number as text.
    pub(super) fn text_or_number(&mut self, key: &'static str) -> Option<String> {
        let text = match self.take(key)? {
            (Value::String(_, text), _) => text,
            (other, _) => {
                let Some(number) = other.to_i128() else {
                    self.wrong_type(key, "text or a number", &other, "put it in quotes");
                    return None;
                };
                number.to_string()
            }
        };
        self.note(key, text.as_str().into());
        Some(text)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let flag = match self.take(key) {
            None => default,
            Some((Value::Bool(_, flag), _)) => flag,
            Some((Value::String(_, text), true)) if text == "true" || text == "false" => text == "true",
            Some((other, _)) => {
                self.wrong_type(key, "true or false", &other, "write true or false without quotes");
                default
            }
        };
        self.note(key, flag.into());
        flag
    }

    /// A whole number in a range.
    pub(super) fn whole<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i128> + Into<i128>,
    {
        let (low, high): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let help = format!("write a whole number from {low} to {high} without quotes");
        let found = match self.take(key)? {
            (Value::String(_, text), true) => text.trim().parse().ok(),
            (Value::String(..), false) => None,
            (other, _) => other.to_i128(),
        };
        let Some(number) = found else {
            self.fault(key, "{key} must be a whole number", help);
            return None;
        };
        let Some(number) = T::try_from(number).ok().filter(|number| range.contains(number)) else {
            self.fault(key, &format!("{{key}} must lie within {low} to {high}"), help);
            return None;
        };
        let shown: i128 = number.into();
        self.note(key, i64::try_from(shown).unwrap_or(i64::MAX).into());
        Some(number)
    }

    /// A number, exact in decimal. A float of TOML stands for the shortest decimal that reads back as it.
    pub(super) fn decimal(&mut self, key: &'static str) -> Option<Decimal> {
        let text = match self.take(key)? {
            (Value::String(_, text), true) => text.trim().to_owned(),
            (Value::Num(_, number), _) => match (number.to_i128(), number.to_f64()) {
                (Some(whole), _) => whole.to_string(),
                (None, Some(float)) if float.is_finite() => float.to_string(),
                _ => "not finite".to_owned(),
            },
            (other, _) => {
                self.wrong_type(key, "a number", &other, "write it without quotes, such as 0.1");
                return None;
            }
        };
        let Ok(number) = Decimal::from_str_exact(&text) else {
            let help = "write a finite number of at most 28 digits, such as 0.1";
            self.fault(key, "{key} is not a number that can be held exactly", help);
            return None;
        };
        let number = number.normalize();
        self.note(key, show_decimal(number));
        Some(number)
    }

    /// A duration in a range.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let time = self.given_duration(key, range).unwrap_or(default);
        self.note(key, unit::show_duration(time).into());
        time
    }

    fn given_duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let help = "write a number and its unit: ms, s, m, h or d, such as \"250ms\"";
        let time = self.quantity(key, "a duration", unit::parse_duration, help)?;
        if range.contains(&time) {
            return Some(time);
        }
        let (low, high) = (
            unit::show_duration(*range.start()),
            unit::show_duration(*range.end()),
        );
        let what = format!("{{key}} must lie within {low} to {high}");
        self.fault(
            key,
            &what,
            format!("write a duration from \"{low}\" to \"{high}\""),
        );
        None
    }

    /// A size in a range, in bytes.
    pub(super) fn size(&mut self, key: &'static str, range: &RangeInclusive<u64>, default: u64) -> u64 {
        let help = "write a number and its unit: B, KiB, MiB or GiB, such as \"256MiB\"";
        let mut size = default;
        if let Some(given) = self.quantity(key, "a size", unit::parse_size, help) {
            if range.contains(&given) {
                size = given;
            } else {
                let (low, high) = (unit::show_size(*range.start()), unit::show_size(*range.end()));
                let what = format!("{{key}} must lie within {low} to {high}");
                self.fault(key, &what, format!("write a size from \"{low}\" to \"{high}\""));
            }
        }
        self.note(key, unit::show_size(size).into());
        size
    }

    fn quantity<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: fn(&str) -> Result<T, UnitError>,
        help: &str,
    ) -> Option<T> {
        let what = match self.take(key)? {
            (Value::String(_, text), _) => match parse(&text) {
                Ok(quantity) => return Some(quantity),
                Err(UnitError::Missing) => "{key} has no unit".to_owned(),
                Err(UnitError::Form) => format!("{{key}} is not {wanted}"),
                Err(UnitError::TooLarge) => "{key} is too large".to_owned(),
            },
            (Value::Num(..), _) => "{key} has no unit".to_owned(),
            (other, _) => format!("{{key}} must be {wanted}, not {}", type_of(&other)),
        };
        self.fault(key, &what, help);
        None
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.any_text(key)?;
        if let Some((word, meaning)) = words.iter().find(|(word, _)| *word == text) {
            self.note(key, (*word).into());
            return Some(*meaning);
        }
        if later::has_value(self.path.first().map_or("", String::as_str), key, &text) {
            let help = format!("this version knows {}", list(words.iter().map(|(word, _)| *word)));
            self.fault(
                key,
                &format!("{{key}} = \"{text}\" is not in this version yet"),
                help,
            );
            return None;
        }
        let words = list(words.iter().map(|(word, _)| *word));
        self.fault(
            key,
            "{key} is none of the words it may be",
            format!("write one of {words}"),
        );
        None
    }

    /// Takes what is no single value; a variable of the environment holds it as TOML.
    fn take_structure(&mut self, key: &'static str) -> Option<Value> {
        let (value, environment) = self.take(key)?;
        let parsed = value.as_str().filter(|_| environment).and_then(file::parse_value);
        Some(parsed.unwrap_or(value))
    }

    /// A list.
    pub(super) fn array(&mut self, key: &'static str) -> Option<Vec<Value>> {
        match self.take_structure(key)? {
            Value::Array(_, values) => Some(values),
            other => {
                self.wrong_type(key, "a list", &other, "write it as [first, second]");
                None
            }
        }
    }

    /// Anything, as JSON.
    pub(super) fn json(&mut self, key: &'static str) -> Option<Json> {
        let json = to_json(&self.take_structure(key)?);
        self.note(key, json.clone());
        Some(json)
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
        Table::new(
            self.reader,
            under(&self.path),
            self.template.as_ref().map(under),
            dict,
        )
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

    /// Free marks.
    pub(super) fn tags(&mut self) -> Tags {
        let json = self.json("tags")?;
        if !json.is_array() && !json.is_object() {
            let help = "write tags = [\"a\", \"b\"] or tags = { key = \"value\" }";
            self.fault("tags", "{key} must be a list or a table", help);
        }
        Some(json)
    }

    /// The key was written, whatever came of it.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.has(key) || self.reader.find(&self.written(key)).is_some()
    }

    /// Every key with its value, for a table with free keys.
    pub(super) fn drain(&mut self) -> Dict {
        std::mem::take(&mut self.left)
    }

    /// Leaves keys out of the judgement.
    pub(super) fn forget(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.left.remove(*key);
            self.known.push(key);
        }
    }

    /// The same table with a template under it.
    pub(super) fn over(mut self, template: KeyPath, merge: impl FnOnce(Dict) -> Dict) -> Self {
        self.left = merge(std::mem::take(&mut self.left));
        self.template = Some(template);
        self
    }

    /// The table as it is, for merging.
    pub(super) fn into_rest(self) -> Dict {
        self.left
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
            let help = match nearest(&key, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", list(self.known.iter().copied())),
            };
            self.fault(&key, "{key} is not a known key", help);
        }
    }
}

/// The known key that a person may have meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let close = |known: &&str| strsim::damerau_levenshtein(key, known);
    let near = known.iter().copied().min_by_key(|known| close(known))?;
    (close(&near) <= 1 + near.len() / 4).then_some(near)
}

fn list<'t>(words: impl Iterator<Item = &'t str>) -> String {
    let mut words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    words.dedup();
    words.join(", ")
}

/// A path as it would be written in TOML.
pub(super) fn show(path: &[String]) -> String {
    let bare = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let keys = path.iter().map(|key| match key {
        key if bare(key) => key.clone(),
        key => format!("\"{}\"", key.escape_debug()),
    });
    keys.collect::<Vec<_>>().join(".")
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "a date or time",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

fn show_decimal(number: Decimal) -> Json {
    let text = number.to_string();
    match text.parse::<i64>() {
        Ok(whole) => whole.into(),
        Err(_) => text.parse::<f64>().map_or(Json::Null, Json::from),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::String(_, text) => text.as_str().into(),
        Value::Char(_, character) => character.to_string().into(),
        Value::Bool(_, flag) => (*flag).into(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => i64::try_from(whole).map_or(Json::Null, Json::from),
            (None, float) => float.map_or(Json::Null, Json::from),
        },
        Value::Empty(..) => Json::Null,
        Value::Dict(_, dict) => dict
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
        Value::Array(_, values) => values.iter().map(to_json).collect(),
    }
}
