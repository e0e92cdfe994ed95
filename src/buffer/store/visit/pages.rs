//! Records of a file page by page, each page one short read: it may take hours until somebody has read them all,
//! and meanwhile the gateway has to cut its log.

use rusqlite::Row;

use super::{Visit, VisitError};
use crate::buffer::store::rows::{Read, read, to_sql};
use crate::clock::Timestamp;
use crate::record::{Name, Numbered};

/// Most records of a page ...
const RECORDS: usize = 500;
/// ... and bytes of their bodies after which it ends.
const BYTES: usize = 1 << 20;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Among those that wait for the broker.
    Waiting,
    /// Among those that were set aside.
    Aside,
}

impl Shelf {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Waiting => "records",
            Self::Aside => "aside",
        }
    }
}

/// A record of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record; `Err`: the row of this name is damaged.
    pub record: Result<Numbered, Name>,
    /// Of a record set aside: why, and when.
    pub aside: Option<(String, Timestamp)>,
}

impl Entry {
    /// The record's name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.record.as_ref().map_or_else(|name| *name, |numbered| numbered.name)
    }
}

/// Records in the order of their names; nothing is left when it has none.
pub type Page = Vec<Entry>;

impl Visit {
    /// The records after `after`, at most 500 and about 1 MiB.
    pub fn page(&self, from: Shelf, after: Option<Name>) -> Result<Page, VisitError> {
        if self.version() == 1 && from == Shelf::Aside {
            return Ok(Page::new());
        }
        let (table, columns) = (from.table(), self.columns());
        let more = if from == Shelf::Aside { ", reason, at" } else { "" };
        let text = format!(
            "SELECT {columns}{more} FROM {table} WHERE (run, seq) > (?1, ?2) ORDER BY run, seq LIMIT ?3"
        );
        let after = after.unwrap_or(Name { run: 0, seq: 0 });
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(&text)?;
            let most = i64::try_from(RECORDS).unwrap_or(i64::MAX);
            let mut rows = statement.query([to_sql(after.run), to_sql(after.seq), most])?;
            let (mut page, mut bytes) = (Page::new(), 0);
            while let Some(row) = rows.next()?.filter(|_| bytes < BYTES) {
                let entry = entry(row, from)?;
                bytes += entry.record.as_ref().map_or(0, |numbered| numbered.record.body.len());
                page.push(entry);
            }
            Ok(page)
        })
    }
}

fn entry(row: &Row<'_>, from: Shelf) -> rusqlite::Result<Entry> {
    let record: Read = read(row)?;
    let aside = match from {
        Shelf::Waiting => None,
        Shelf::Aside => Some((row.get(10)?, Timestamp::from_millis(row.get(11)?))),
    };
    Ok(Entry { record, aside })
}
