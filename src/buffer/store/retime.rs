//! Times made right in the file once the clock is set.

use std::collections::HashSet;

use super::rows::{put, select, to_sql};
use super::{Store, StoreError};
use crate::record::{Name, Numbered};

/// Records looked at in one transaction.
const STEP: i64 = 500;

/// Which records get their true time.
#[derive(Clone, Debug)]
pub struct Retime {
    /// The wall time of uptime 0, in milliseconds since 1970.
    pub base: i64,
    /// Only those of this run after this number.
    pub after: u64,
    /// And not after this one: what came later may be out as it is.
    pub upto: u64,
    /// Not those: somebody may have seen them as they are.
    pub seen: HashSet<Name>,
}

impl Store {
    /// Corrects one step of the unsynchronised records of this run. Gives the number to go on after, or nothing when
    /// all is done.
    pub fn retime(&mut self, work: &Retime) -> Result<Option<u64>, StoreError> {
        self.make_ready()?;
        let run = self.run;
        let rows = self.attempt(|connection| {
            select(
                connection,
                "WHERE run = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY run, seq LIMIT ?4",
                [to_sql(run), to_sql(work.after), to_sql(work.upto), STEP],
            )
        })?;
        let Some(last) = rows.last().map(|row| row.as_ref().map_or_else(|name| *name, |row| row.name)) else {
            return Ok(None);
        };
        let mut changed: Vec<Numbered> = Vec::new();
        for mut numbered in rows.into_iter().flatten() {
            if !work.seen.contains(&numbered.name) && numbered.record.set_time(work.base) {
                changed.push(numbered);
            }
        }
        if !changed.is_empty() {
            self.transact(|tx| put(tx, &changed))?;
        }
        Ok(Some(last.seq))
    }
}
