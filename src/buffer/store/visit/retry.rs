//! Records set aside wait for the broker again.

use rusqlite::{OptionalExtension as _, Transaction};

use super::{Shelf, Visit, VisitError};
use crate::buffer::store::rows::{COLUMNS, read, to_sql};
use crate::record::Name;

/// What became of a record that was to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It waits.
    Waits,
    /// It is not among those set aside.
    Unknown,
    /// Its row is damaged: nobody may believe it.
    Damaged,
    /// One of its name waits already.
    Twice,
}

impl Visit {
    /// The names of some records set aside, after `after`.
    pub fn aside(&self, after: Option<Name>) -> Result<Vec<Name>, VisitError> {
        Ok(self.page(Shelf::Aside, after)?.iter().map(super::Entry::name).collect())
    }

    /// Moves these, all in one transaction.
    pub fn retry(&mut self, names: &[Name]) -> Result<Vec<(Name, Retried)>, VisitError> {
        self.transact(|tx| names.iter().map(|name| Ok((*name, retry(tx, *name)?))).collect())
    }
}

fn retry(tx: &Transaction<'_>, name: Name) -> rusqlite::Result<Retried> {
    let key = [to_sql(name.run), to_sql(name.seq)];
    let row = tx
        .prepare_cached(&format!("SELECT {COLUMNS} FROM aside WHERE run = ?1 AND seq = ?2"))?
        .query_row(key, read)
        .optional()?;
    match row {
        None => return Ok(Retried::Unknown),
        Some(Err(_)) => return Ok(Retried::Damaged),
        Some(Ok(_)) => {}
    }
    let moved = tx
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO records ({COLUMNS}) SELECT {COLUMNS} FROM aside WHERE run = ?1 AND seq = ?2"
        ))?
        .execute(key)?;
    if moved == 0 {
        return Ok(Retried::Twice);
    }
    tx.prepare_cached("DELETE FROM aside WHERE run = ?1 AND seq = ?2")?.execute(key)?;
    Ok(Retried::Waits)
}
