//! One commit: what is new, what is gone, what is set aside.

use std::time::{Duration, Instant};

use rusqlite::Transaction;

use super::rows::{put, put_aside, remove, to_sql};
use super::space::PAGE;
use super::{Store, StoreError, Usage};
use crate::clock::Timestamp;
use crate::record::{Name, Numbered};

/// Names deleted in one transaction: the log has to have room for a page of each in the worst case, a quarter of
/// one when they follow one another.
const DELETES: (usize, usize) = (512, 4_096);
/// The floor is written with a commit, at most this often: it costs a page.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// Numbers that a run may give before the first ceiling is written anew; it doubles from there.
pub(super) const FIRST_CEILING: u64 = 10_000;

/// A record that leaves the queue without having been delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its name.
    pub name: Name,
    /// The record; `None` where the file alone has it.
    pub numbered: Option<Numbered>,
    /// Why.
    pub reason: String,
}

/// What one commit does.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// To be stored.
    pub insert: Vec<Numbered>,
    /// To be forgotten.
    pub delete: Vec<Name>,
    /// To be kept apart.
    pub aside: Vec<Aside>,
    /// Every number of this run up to this one is stored, acknowledged or told lost once this is done.
    pub floor: Option<u64>,
    /// The newest number given, where it is above `floor`: the ceiling is raised well above it.
    pub given: Option<u64>,
    /// Losses up to this one (`Lost::id`) have an event in this batch or an earlier one.
    pub told: Option<i64>,
}

impl Store {
    /// Deletes and inserts (or replaces), in synced transactions. What is named by both stays.
    pub fn commit(&mut self, insert: &[Numbered], delete: &[Name]) -> Result<Usage, StoreError> {
        self.write(&Batch { insert: insert.into(), delete: delete.into(), ..Batch::default() })
    }

    /// Does all of it. It is cut into transactions that the write-ahead log has room for, so an error may leave a
    /// part done: the whole batch can be written again.
    pub fn write(&mut self, batch: &Batch) -> Result<Usage, StoreError> {
        self.make_ready()?;
        let before = self.records;
        let now = Timestamp::now().millis();
        let mark = self.mark(batch);
        let most = self.log_room() / 4;
        let pages = usize::try_from(self.log_room() / PAGE).unwrap_or(DELETES.1);
        let mut deletes = batch.delete.chunks(pages.clamp(DELETES.0, DELETES.1)).peekable();
        let mut inserts = chunks(&batch.insert, most).peekable();
        let mut aside = &batch.aside[..];
        let (mut added, mut gone) = (0, 0);
        let mut is_last = false;
        while !is_last {
            let delete = deletes.next().unwrap_or_default();
            // On a full file what is new has no room before all that goes is gone.
            let insert = inserts.next_if(|_| deletes.peek().is_none()).unwrap_or_default();
            is_last = deletes.peek().is_none() && inserts.peek().is_none();
            gone += self.transact(|tx| {
                let gone = remove(tx, delete)? + put(tx, insert)?;
                put_aside(tx, aside, now)?;
                if is_last {
                    mark.write(tx, batch.told)?;
                }
                Ok(gone)
            })?;
            added += insert.len();
            aside = &[];
        }
        if !batch.aside.is_empty() {
            self.bound_aside()?;
        }
        if mark.is_due {
            (self.ceiling, self.marked) = (mark.ceiling, Some(Instant::now()));
            self.note_beside(mark.is_raised);
        }
        // A batch that is written a second time replaces rows: then they are counted anew.
        let [added, gone] = [added, gone].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        self.records =
            before.filter(|_| batch.aside.is_empty()).map(|sum| (sum + added).saturating_sub(gone));
        self.usage()
    }

    fn mark(&self, batch: &Batch) -> Mark {
        let is_old = self.marked.is_none_or(|marked| marked.elapsed() >= MARK_EVERY);
        let floor = batch.floor.unwrap_or_default();
        let given = floor.max(batch.given.unwrap_or_default());
        let is_raised = given > 0 && given + self.ceiling / 4 >= self.ceiling;
        let ceiling = if is_raised { (2 * given).max(FIRST_CEILING) } else { self.ceiling };
        Mark { run: self.run, floor, ceiling, is_raised, is_due: is_raised || floor > 0 && is_old }
    }
}

/// What the file says of the run's numbers.
struct Mark {
    run: u64,
    floor: u64,
    ceiling: u64,
    is_due: bool,
    is_raised: bool,
}

impl Mark {
    fn write(&self, tx: &Transaction<'_>, told: Option<i64>) -> rusqlite::Result<()> {
        if self.is_due {
            tx.prepare_cached("UPDATE runs SET floor = max(floor, ?2), ceiling = ?3 WHERE run = ?1")?
                .execute([to_sql(self.run), to_sql(self.floor), to_sql(self.ceiling)])?;
        }
        if let Some(told) = told {
            tx.prepare_cached("DELETE FROM lost WHERE id <= ?1")?.execute([told])?;
        }
        Ok(())
    }
}

/// Cuts records into pieces of so many bytes, at least one record each.
fn chunks(mut rest: &[Numbered], most: u64) -> impl Iterator<Item = &[Numbered]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let end = rest.iter().position(|numbered| {
            let is_first = bytes == 0;
            bytes += u64::try_from(numbered.record.body.len() + 128).unwrap_or(u64::MAX);
            bytes > most && !is_first
        });
        let (chunk, left) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}
