//! A damaged file: moved aside whole, never deleted; what can still be read goes into a new one.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::header::Lent;
use super::rows::{COLUMNS, put, read, to_sql};
use super::settle::leave_log_alone;
use super::{Lost, Store, StoreError};
use crate::clock::{Timestamp, boot_id, uptime};
use crate::record::Numbered;

/// Rows carried over in one transaction.
const STEP: i64 = 256;
/// Rows skipped behind an unreadable one, doubled each time until something can be read again.
const SKIP: i64 = 16;
/// After so many unreadable places in a row the rest is given up.
const TRIES: u32 = 40;

/// What became of a damaged file.
#[derive(Debug)]
pub struct Replaced {
    /// It lies here now; `None`: it was gone.
    pub moved_to: Option<PathBuf>,
    /// Records carried over.
    pub salvaged: u64,
    /// Losses that no event tells yet.
    pub lost: Vec<Lost>,
}

impl Store {
    /// Moves the file aside, begins a new one, and carries over what can be read.
    pub fn replace(&mut self) -> Result<Replaced, StoreError> {
        // Where the file was taken away while it was open, the open connection still has it.
        let open = self.connection.take().filter(|_| self.is_taken_away());
        // Its log too has to get out of the way, or the new file would be taken for its own.
        let moved_to = self.move_aside()?;
        let old = open.or_else(|| open_damaged(moved_to.as_ref()?).ok());
        self.records = None;
        let run = self.run;
        self.connection()?;
        let (mut salvaged, mut is_whole) = (0, false);
        let (old, _lent) = match (old, &moved_to) {
            (Some(old), Some(path)) if !is_readable(&old) => self.lend_header(path),
            (old, _) => (old, None),
        };
        if let Some(old) = old {
            (salvaged, is_whole) = self.salvage(&old)?;
            if let Err((_, error)) = old.close() {
                tracing::debug!(%error, "the damaged file");
            }
        }
        let ceiling = self.ceiling;
        let lost = self.transact(|tx| {
            if run > 0 {
                tx.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?1)", [to_sql(run)])?;
                tx.execute(
                    "INSERT OR IGNORE INTO runs VALUES (?1, ?2, ?3, 0, ?4, 0)",
                    params![to_sql(run), boot_id(run), uptime(), to_sql(ceiling)],
                )?;
            }
            if !is_whole {
                // What could not be carried over has no names any more: any number of any run may be among it.
                tx.execute(
                    "INSERT INTO lost (run, first, last, reason) \
                     SELECT run, 1, max(ceiling, floor), 'corrupt' FROM runs",
                    [],
                )?;
            }
            super::lost::lost(tx)
        })?;
        Ok(Replaced { moved_to, salvaged, lost })
    }

    /// Moves the file and its log out of the way.
    fn move_aside(&mut self) -> Result<Option<PathBuf>, StoreError> {
        self.connection = None;
        let millis = Timestamp::now().millis();
        let aside = self.path.with_added_extension(format!("corrupt-{millis}"));
        let mut moved = None;
        for extension in ["-wal", "-shm", ""] {
            let [from, to] = [&self.path, &aside].map(|path| with_end(path, extension));
            match fs::rename(&from, &to) {
                Ok(()) if extension.is_empty() => moved = Some(to),
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::File { path: from, error }),
            }
        }
        Ok(moved)
    }

    /// Opens a file whose first bytes are damaged with those of the new one before it.
    fn lend_header(&mut self, path: &Path) -> (Option<Connection>, Option<Lent>) {
        // The new file has its own in its log so far.
        let lent = self.fold().ok().and_then(|()| Lent::new(path, &self.path).ok());
        (lent.as_ref().and_then(|_| open_damaged(path).ok()), lent)
    }

    /// How many records were carried over, and whether those were all.
    fn salvage(&mut self, old: &Connection) -> Result<(u64, bool), StoreError> {
        let (mut salvaged, mut is_whole) = (0, true);
        let last: i64 =
            old.query_row("SELECT max(rowid) FROM records", [], |row| row.get(0)).unwrap_or(i64::MAX);
        let (mut after, mut skip, mut tries) = (-1, SKIP, 0);
        while after < last && tries < TRIES {
            let (rows, damaged, end) = readable(old, after);
            is_whole &= damaged == 0;
            if !rows.is_empty() {
                salvaged += u64::try_from(rows.len()).unwrap_or(0);
                self.transact(|tx| put(tx, &rows))?;
            }
            match end {
                End::All => break,
                End::More(rowid) => (after, skip, tries) = (rowid, SKIP, 0),
                End::Unreadable(rowid) => {
                    is_whole = false;
                    if rowid > after {
                        (skip, tries) = (SKIP, 0);
                    }
                    (after, skip, tries) = (rowid.saturating_add(skip), skip.saturating_mul(2), tries + 1);
                }
            }
        }
        self.transact(|tx| {
            carry_over(old, tx);
            Ok(())
        })?;
        Ok((salvaged, is_whole))
    }
}

/// The tables of the file are found.
fn is_readable(old: &Connection) -> bool {
    old.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).is_ok()
}

/// Opens a file that was moved aside. Neither it nor its log is changed.
fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    // Read and write: its log is read too, and that needs an index in shared memory.
    let old = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    leave_log_alone(&old)?;
    // Or a file whose end is missing would be refused, with all that is left of it.
    old.execute_batch("PRAGMA writable_schema = ON")?;
    Ok(old)
}

/// How far a read came.
enum End {
    /// There is no row after this.
    All,
    /// There may be more after this row.
    More(i64),
    /// What follows this row cannot be read.
    Unreadable(i64),
}

/// The rows after a row, as far as they can be read. By the table itself: its index may be what is damaged.
/// Damaged rows among them are counted and left out.
fn readable(old: &Connection, after: i64) -> (Vec<Numbered>, usize, End) {
    let mut rows = Vec::new();
    let (mut at, mut count, mut damaged) = (after, 0, 0);
    let columns =
        format!("SELECT {COLUMNS}, rowid FROM records NOT INDEXED WHERE rowid > ?1 ORDER BY rowid LIMIT ?2");
    // A file of version 1 has fewer columns.
    let older = columns.replace("uptime, synced, crc", "0, 1, NULL");
    let Ok(mut statement) = old.prepare(&columns).or_else(|_| old.prepare(&older)) else {
        return (rows, damaged, End::Unreadable(at));
    };
    let Ok(found) = statement.query_map([after, STEP], |row| Ok((read(row)?, row.get::<_, i64>(10)?))) else {
        return (rows, damaged, End::Unreadable(at));
    };
    for row in found {
        let Ok((row, rowid)) = row else { return (rows, damaged, End::Unreadable(at)) };
        // A damaged tree may lead back to where it was left.
        if rowid <= at {
            return (rows, damaged, End::Unreadable(at));
        }
        (at, count) = (rowid, count + 1);
        match row {
            Ok(numbered) => rows.push(numbered),
            Err(_) => damaged += 1,
        }
    }
    (rows, damaged, if count < STEP { End::All } else { End::More(at) })
}

/// The journal, the runs and what lies aside: each row that can be read. A command must not run twice because the
/// file was damaged.
fn carry_over(old: &Connection, tx: &Transaction<'_>) {
    for (table, columns) in [
        ("commands", "topic, id, digest, begun, action, reply, correlation, outcome"),
        ("runs", "run, boot, uptime, floor, ceiling, clean"),
        ("aside", "run, seq, kind, topic, body, correlation, made, uptime, synced, crc, reason, at"),
        ("lost", "NULL, run, first, last, reason"),
    ] {
        for order in ["ASC", "DESC"] {
            // Both ends of a table may be readable while its middle is not.
            let carried = carry_rows(old, tx, table, columns, order);
            if let Err(error) = &carried {
                tracing::debug!(%error, table, order, "a part of the damaged file cannot be read");
            } else {
                break;
            }
        }
    }
}

fn carry_rows(
    old: &Connection,
    tx: &Transaction<'_>,
    table: &str,
    columns: &str,
    order: &str,
) -> rusqlite::Result<()> {
    let mut select = old.prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1 {order}, 2 {order}"))?;
    let width = select.column_count();
    let places: Vec<String> = (1..=width).map(|place| format!("?{place}")).collect();
    let mut insert = tx.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({})", places.join(", ")))?;
    let mut rows = select.query(params![])?;
    while let Some(row) = rows.next()? {
        let values = (0..width).map(|column| row.get::<_, rusqlite::types::Value>(column));
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        insert.execute(rusqlite::params_from_iter(values))?;
    }
    Ok(())
}

/// A path with more at its end.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.to_owned().into_os_string();
    longer.push(end);
    longer.into()
}
