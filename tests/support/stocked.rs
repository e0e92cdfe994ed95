//! A buffer file with known records, made by the real store.

use std::path::{Path, PathBuf};

use fieldgate::buffer::store::{Aside, Batch, Store};
use fieldgate::record::{Name, Numbered};

use super::ledger::MAX_SIZE;
use super::specimen::record;

/// Makes `buffer.db` in `folder` with so many records that wait and so many set aside, numbered on from them.
/// Returns its path and the records that wait.
pub fn stocked(folder: &Path, waiting: u64, aside: u64) -> (PathBuf, Vec<Numbered>) {
    let path = folder.join("buffer.db");
    let mut store = Store::new(path.clone(), MAX_SIZE);
    let run = store.open().unwrap().run;
    let numbered = |seq| record(Name { run, seq }, 1);
    let records: Vec<Numbered> = (1..=waiting).map(numbered).collect();
    let refused = (waiting + 1..=waiting + aside).map(numbered).map(|numbered| Aside {
        name: numbered.name,
        numbered: Some(numbered),
        reason: "the broker refuses it".to_owned(),
    });
    let batch = Batch {
        insert: records.clone(),
        aside: refused.collect(),
        floor: Some(waiting + aside),
        ..Batch::default()
    };
    store.write(&batch).unwrap();
    store.end(waiting + aside);
    (path, records)
}
