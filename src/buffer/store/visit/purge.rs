//! Deleting by hand. What goes is entered in the list of losses by the same transaction, so that a gap event tells
//! it, whoever runs next.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};

use super::{Shelf, Visit, VisitError};
use crate::buffer::store::rows::{name, to_sql};
use crate::clock::{Timestamp, boot_id, uptime};
use crate::record::Name;

/// Records judged at a time.
const STEP: usize = 256;
/// Most records that one transaction deletes, ...
const MOST: usize = 10_000;
/// ... and the time after which it takes no more: the gateway waits for it.
const TIME: Duration = Duration::from_millis(100);

/// What is to go. Events that wait stay: they tell what is missing.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    /// From where.
    pub shelf: Shelf,
    /// Only what is older.
    pub older_than: Option<Duration>,
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records that went, or would go.
    pub gone: u64,
    /// Records that stay because nobody knows how old they are: made before the clock was set, and before the
    /// machine was started again.
    pub ageless: u64,
    /// Where the next step goes on; nothing, when all is done.
    pub next: Option<Name>,
}

/// A round of names to be deleted.
#[derive(Debug, Default)]
struct Round {
    names: Vec<Name>,
    ageless: u64,
    last: Option<Name>,
}

impl Visit {
    /// Counts some of what a purge would delete, after `after`.
    pub fn count_purge(&self, purge: Purge, after: Option<Name>) -> Result<Purged, VisitError> {
        let (mut purged, begun) = (Purged { next: after, ..Purged::default() }, Instant::now());
        while begun.elapsed() < TIME {
            let round = self.attempt(|connection| pick(connection, purge, purged.next))?;
            purged.add(&round);
            if purged.next.is_none() {
                break;
            }
        }
        Ok(purged)
    }

    /// Deletes some of it, after `after`, in one transaction.
    pub fn purge(&mut self, purge: Purge, after: Option<Name>) -> Result<Purged, VisitError> {
        self.transact(|tx| {
            let (mut purged, begun) = (Purged { next: after, ..Purged::default() }, Instant::now());
            let mut lost: Vec<(u64, u64, u64)> = Vec::new();
            let mut delete =
                tx.prepare(&format!("DELETE FROM {} WHERE run = ?1 AND seq = ?2", purge.shelf.table()))?;
            while begun.elapsed() < TIME && purged.gone < MOST as u64 {
                let round = pick(tx, purge, purged.next)?;
                for Name { run, seq } in &round.names {
                    delete.execute([to_sql(*run), to_sql(*seq)])?;
                    match lost.last_mut().filter(|range| range.0 == *run) {
                        Some(range) => range.2 = *seq,
                        None => lost.push((*run, *seq, *seq)),
                    }
                }
                purged.add(&round);
                if purged.next.is_none() {
                    break;
                }
            }
            enter(tx, &lost)?;
            Ok(purged)
        })
    }

    /// Gives some free pages back to the disk; `false`: there are no more. A running gateway does so by itself.
    pub fn shrink(&mut self) -> Result<bool, VisitError> {
        self.attempt(|connection| {
            let free = || connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
            let before = free()?;
            connection.execute_batch("PRAGMA incremental_vacuum(2048)")?;
            let after = free()?;
            Ok(after > 0 && after < before)
        })
    }
}

impl Purged {
    fn add(&mut self, round: &Round) {
        self.gone += u64::try_from(round.names.len()).unwrap_or(0);
        self.ageless += round.ageless;
        self.next = round.last;
    }
}

/// Enters losses. Their ids never come again, unlike those that SQLite gives to an empty table: the gateway forgets
/// all up to the last one that it told.
fn enter(tx: &Transaction<'_>, lost: &[(u64, u64, u64)]) -> rusqlite::Result<()> {
    let now = Timestamp::now().millis();
    let mut insert = tx.prepare(
        "INSERT INTO lost (id, run, first, last, reason) \
         VALUES (max(?1, (SELECT coalesce(max(id), 0) + 1 FROM lost)), ?2, ?3, ?4, 'purged')",
    )?;
    for (run, first, last) in lost {
        insert.execute([now, to_sql(*run), to_sql(*first), to_sql(*last)])?;
    }
    Ok(())
}

/// The next names that are to go.
fn pick(connection: &Connection, purge: Purge, after: Option<Name>) -> rusqlite::Result<Round> {
    let (table, after) = (purge.shelf.table(), after.unwrap_or(Name { run: 0, seq: 0 }));
    let kinds = if purge.shelf == Shelf::Waiting { "kind <> 1" } else { "true" };
    let (now, up) = (Timestamp::now().millis(), uptime());
    let age = purge.older_than.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT one.run, seq, made, one.uptime, synced, coalesce(runs.boot = ?1, 0) FROM {table} AS one \
         LEFT JOIN runs ON runs.run = one.run WHERE (one.run, seq) > (?2, ?3) AND {kinds} \
         ORDER BY one.run, seq LIMIT ?4"
    ))?;
    let step = i64::try_from(STEP).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![boot_id(0), to_sql(after.run), to_sql(after.seq), step])?;
    let (mut round, mut seen, mut last) = (Round::default(), 0, None);
    while let Some(row) = rows.next()? {
        let name = name(row)?;
        // Within one start of the machine uptimes tell the age, whatever became of the wall clock.
        let (is_synced, is_same_boot) = (row.get(4)?, row.get(5)?);
        let passed = if is_same_boot { Some(up - row.get::<_, i64>(3)?) } else { None };
        let passed = passed.or(if is_synced { Some(now - row.get::<_, i64>(2)?) } else { None });
        match (age, passed) {
            (Some(age), Some(passed)) if passed <= age => {}
            (Some(_), None) => round.ageless += 1,
            _ => round.names.push(name),
        }
        (seen, last) = (seen + 1, Some(name));
    }
    round.last = last.filter(|_| seen == STEP);
    Ok(round)
}
