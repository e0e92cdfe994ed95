//! Which readings are too old to be kept.

use std::time::Duration;

use rusqlite::OptionalExtension as _;

use super::rows::{name, to_sql};
use super::{Store, StoreError};
use crate::clock::{Moment, Timestamp, boot_id};
use crate::record::Name;

/// How old is too old, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// `buffer.max_age`
    pub age: Duration,
    /// Now.
    pub now: Moment,
    /// Most names given.
    pub most: usize,
}

impl Store {
    /// The names of the oldest readings that are older than the limit.
    ///
    /// Within one start of the machine the uptimes decide, whatever happened to the wall clock. Across a restart
    /// wall time counts where both ends of it were synchronised; an unsynchronised record of an earlier start ages
    /// from the start of this run.
    pub fn expired(&mut self, limit: Limit) -> Result<Vec<Name>, StoreError> {
        let Limit { age, now, most } = limit;
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let (run, boot) = (self.run, boot_id(self.run));
        self.attempt(|connection| {
            let began: i64 = connection
                .prepare_cached("SELECT uptime FROM runs WHERE run = ?1")?
                .query_row([to_sql(run)], |row| row.get(0))
                .optional()?
                .unwrap_or(now.uptime);
            let mut statement = connection.prepare_cached(
                "SELECT records.run, seq, made, records.uptime, synced, coalesce(runs.boot = ?1, 0) FROM records \
                 LEFT JOIN runs ON runs.run = records.run WHERE kind = 2 ORDER BY records.run, seq LIMIT ?2",
            )?;
            let rows =
                statement.query_map((&boot, i64::try_from(most).unwrap_or(i64::MAX)), |row| {
                    // Nobody has seen yet whether the row bears its checksum: what cannot be a time is judged when it
                    // is loaded.
                    let made = || -> rusqlite::Result<_> {
                        let wall = Timestamp::from_millis(row.get(2)?);
                        Ok(Moment { wall, uptime: row.get(3)?, synced: row.get(4)? })
                    };
                    Ok((name(row)?, made().ok(), row.get::<_, bool>(5)?))
                })?;
            let mut expired = Vec::new();
            for row in rows {
                let (name, Some(made), is_same_boot) = row? else { continue };
                let passed = if is_same_boot {
                    now.uptime.saturating_sub(made.uptime)
                } else if made.synced && now.synced {
                    now.wall.millis().saturating_sub(made.wall.millis())
                } else {
                    now.uptime.saturating_sub(began)
                };
                if passed > age {
                    expired.push(name);
                }
            }
            Ok(expired)
        })
    }
}
