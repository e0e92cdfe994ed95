//! Records set aside: kept to be looked at and sent again by hand, within bounds.

use super::rows::to_sql;
use super::{Store, StoreError};

/// Most records that are kept aside ...
const RECORDS: u64 = 1_000;
/// ... and the part of `max_size` that they may take.
const SHARE: u64 = 16;

impl Store {
    /// Drops the oldest of what is too much. An event has named each of them when it was set aside.
    pub(super) fn bound_aside(&mut self) -> Result<(), StoreError> {
        let most = to_sql(self.bounds.max_size / SHARE);
        let aside: i64 = self.transact(|tx| {
            tx.execute(
                "DELETE FROM aside WHERE rowid IN (SELECT rowid FROM aside ORDER BY at DESC, run DESC, seq DESC \
                 LIMIT -1 OFFSET ?1)",
                [to_sql(RECORDS)],
            )?;
            let mut bytes: i64 =
                tx.query_row("SELECT coalesce(sum(length(body)), 0) FROM aside", [], |row| row.get(0))?;
            while bytes > most {
                bytes -= tx.query_row(
                    "DELETE FROM aside WHERE rowid = (SELECT rowid FROM aside ORDER BY at, run, seq LIMIT 1) \
                     RETURNING length(body)",
                    [],
                    |row| row.get::<_, i64>(0),
                )?;
            }
            tx.query_row("SELECT count(*) FROM aside", [], |row| row.get(0))
        })?;
        self.aside = u64::try_from(aside).unwrap_or(0);
        Ok(())
    }
}
