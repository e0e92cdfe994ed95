//! The templates of devices: `[templates.ID]`.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{Dict, Source};
use super::load;
use super::table::Table;

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

    /// What no device has read: a mistake in it would show only once one does.
    pub(super) fn into_unused(self) -> Vec<Table<'r>> {
        let mut unused = Vec::new();
        for (id, (table, _)) in self.tables {
            if self.used.contains(&id) {
                continue;
            }
            let path = ["templates".to_owned(), id.clone()];
            let source = table.reader.find(&path).and_then(|(index, _)| table.reader.sources.get(index));
            if !source.is_some_and(|source| source.is_library) {
                table.reader.warn(format!("templates.{id} is used by no device"));
            }
            unused.push(table);
        }
        unused
    }
}
