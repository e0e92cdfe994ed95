//! The templates of devices: `[templates.ID]`.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{Dict, Source};
use super::load;
use super::table::Table;

/// What a device may say, `template` apart; for a template that no device reads.
const DEVICE_KEYS: [&str; 17] = [
    "enabled",
    "label",
    "tags",
    "link",
    "address",
    "poll_interval",
    "order",
    "align",
    "max_registers",
    "read_write",
    "pause",
    "max_bits",
    "max_gap",
    "answer_time",
    "request",
    "decode",
    "points",
];

/// What a point may say.
const POINT_KEYS: [&str; 22] = [
    "enabled",
    "label",
    "tags",
    "address",
    "type",
    "length",
    "order",
    "scale",
    "offset",
    "unit",
    "bit",
    "bits",
    "invalid",
    "values",
    "writable",
    "min",
    "max",
    "poll_interval",
    "no_merge",
    "deadband",
    "report",
    "heartbeat",
];

/// Every template, and which of them a device has.
pub(super) struct Templates<'r> {
    tables: BTreeMap<String, (Table<'r>, Dict)>,
    used: BTreeSet<String>,
}

impl<'r> Templates<'r> {
    pub(super) fn new(tables: Vec<(String, Table<'r>)>) -> Self {
        let split = |(id, mut table): (String, Table<'r>)| {
            let help = "put the keys of both into one template";
            table.refuse("template", "{key} cannot be: a template has no template", help);
            let dict = table.rest();
            (id, (table, dict))
        };
        Self { tables: tables.into_iter().map(split).collect(), used: BTreeSet::new() }
    }

    /// Lays a device over the template it names.
    pub(super) fn apply(&mut self, mut table: Table<'r>) -> Option<Table<'r>> {
        if !table.has("template") {
            return Some(table);
        }
        let name = table.text("template")?;
        let Some((_, template)) = self.tables.get(&name) else {
            let names: Vec<_> = self.tables.keys().map(|name| format!("`{name}`")).collect();
            let help = if names.is_empty() {
                "add a table [templates.ID] and name it here".to_owned()
            } else {
                format!("write one of {}", names.join(", "))
            };
            let what = format!("{{key}} names the template \"{name}\", which does not exist");
            table.fault("template", &what, help);
            return None;
        };
        self.used.insert(name.clone());
        let source = |tree: Dict| Source { tree, ..Source::default() };
        Some(table.over(vec!["templates".to_owned(), name], |own| {
            load::merge(&[source(template.clone()), source(own)])
        }))
    }

    /// Looks at what no device has read: a mistake in it would show only once one does.
    pub(super) fn check_unused(self) {
        for (id, (mut table, _)) in self.tables {
            if self.used.contains(&id) {
                continue;
            }
            let path = ["templates".to_owned(), id.clone()];
            let source = table.reader.find(&path).and_then(|(index, _)| table.reader.sources.get(index));
            if !source.is_some_and(|source| source.is_library) {
                table.reader.warn(format!("templates.{id} is used by no device"));
            }
            for (_, mut point) in table.tables("points") {
                point.forget(&POINT_KEYS);
                point.finish();
            }
            table.forget(&DEVICE_KEYS);
            table.finish();
        }
    }
}
