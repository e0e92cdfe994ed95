//! Losses that no event tells yet, and what other programs did to the file.

use rusqlite::Connection;

use super::{Store, StoreError, Usage};

/// A range of lost numbers, entered in the file until an event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its place in the list; later ones are greater.
    pub id: i64,
    /// The run.
    pub run: u64,
    /// First lost number.
    pub first: u64,
    /// Last lost number.
    pub last: u64,
    /// Why.
    pub reason: String,
}

/// What another program changed: `fieldgate buffer retry` or `purge`.
#[derive(Debug)]
pub struct Changed {
    /// How full the file is now.
    pub usage: Usage,
    /// Losses that no event tells yet.
    pub lost: Vec<Lost>,
}

impl Store {
    /// What another program changed since the last time, if it did.
    pub fn look_again(&mut self) -> Result<Option<Changed>, StoreError> {
        let version = self.attempt(data_version)?;
        if version == std::mem::replace(&mut self.data_version, version) {
            return Ok(None);
        }
        self.records = None;
        let lost = self.attempt(lost)?;
        self.aside = self.attempt(count_aside)?;
        Ok(Some(Changed { usage: self.usage()?, lost }))
    }
}

/// A number that changes when another connection writes (`PRAGMA data_version`).
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

pub(super) fn count_aside(connection: &Connection) -> rusqlite::Result<u64> {
    let aside: i64 = connection.query_row("SELECT count(*) FROM aside", [], |row| row.get(0))?;
    Ok(u64::try_from(aside).unwrap_or(0))
}

pub(super) fn lost(connection: &Connection) -> rusqlite::Result<Vec<Lost>> {
    let mut statement = connection.prepare("SELECT id, run, first, last, reason FROM lost ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let [run, first, last] = [row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?]
            .map(|number| u64::try_from(number).unwrap_or(0));
        Ok(Lost { id: row.get(0)?, run, first, last, reason: row.get(4)? })
    })?;
    rows.collect()
}
