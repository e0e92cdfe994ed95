//! The effective values, defaults and all, as `check --print` shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::file::KeyPath;
use super::table::show;

type Keys = Vec<(String, Shown)>;

/// A value, as it is shown.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    /// As it is.
    Json(Json),
    /// A number that no double holds: in TOML as it is, in JSON as text.
    Exact(String),
}

impl From<Json> for Shown {
    fn from(value: Json) -> Self {
        Self::Json(value)
    }
}

/// Every value that was read, by its table, in the order of reading.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    tables: Vec<(KeyPath, Keys)>,
    /// Where each table stands in them: there may be many thousand.
    places: BTreeMap<KeyPath, usize>,
}

impl Effective {
    pub(super) fn note(&mut self, table: &[String], key: &str, value: Shown) {
        let index = self.places.get(table).copied().unwrap_or_else(|| {
            self.tables.push((table.to_vec(), Keys::new()));
            self.places.insert(table.to_vec(), self.tables.len() - 1);
            self.tables.len() - 1
        });
        if let Some((_, keys)) = self.tables.get_mut(index) {
            // Read twice, a value is the last one: first as it is written, then as it is meant.
            keys.retain(|(known, _)| known != key);
            keys.push((key.to_owned(), value));
        }
    }

    /// As TOML. Secrets read `***`, so this cannot be used as a file in their place.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (path, keys) in &self.tables {
            if !out.is_empty() {
                out.push('\n');
            }
            // Writing into a String cannot fail.
            let _infallible = writeln!(out, "[{}]", show(path));
            for (key, value) in keys {
                let _infallible = writeln!(out, "{} = {}", show(std::slice::from_ref(key)), value.to_toml());
            }
        }
        out
    }

    /// As nested JSON objects.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut root = Json::Object(Map::new());
        for (path, keys) in &self.tables {
            let mut table = &mut root;
            for key in path {
                table = member(table, key);
            }
            for (key, value) in keys {
                *member(table, key) = value.to_json();
            }
        }
        root
    }
}

impl Shown {
    fn to_toml(&self) -> String {
        match self {
            Self::Json(value) => toml(value),
            Self::Exact(number) => number.clone(),
        }
    }

    fn to_json(&self) -> Json {
        match self {
            Self::Json(value) => value.clone(),
            Self::Exact(number) => number.as_str().into(),
        }
    }
}

/// The member of that key, made where there is none.
fn member<'j>(table: &'j mut Json, key: &str) -> &'j mut Json {
    if !table.is_object() {
        *table = Json::Object(Map::new());
    }
    match table {
        Json::Object(members) => members.entry(key).or_insert(Json::Null),
        other => other,
    }
}

/// One value in TOML. JSON's escapes are TOML's, DEL apart.
fn toml(value: &Json) -> String {
    match value {
        Json::Array(values) => {
            let values: Vec<_> = values.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        Json::Object(values) if values.is_empty() => "{}".to_owned(),
        Json::Object(values) => {
            let pair = |(key, value): (&String, &Json)| {
                format!("{} = {}", show(std::slice::from_ref(key)), toml(value))
            };
            let values: Vec<_> = values.iter().map(pair).collect();
            format!("{{ {} }}", values.join(", "))
        }
        Json::String(_) => value.to_string().replace('\u{7f}', "\\u007f"),
        Json::Null => "\"\"".to_owned(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}
