//! A damaged file: moved aside whole, never deleted; what can still be read goes into a new one.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::carry::{FIRST, LAST, carry_over};
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

/// A replacement that is under way.
#[derive(Debug)]
pub(super) struct Replacing {
    moved_to: Option<PathBuf>,
    old: Option<Connection>,
    /// Given back once the connection is closed.
    lent: Option<Lent>,
}

impl Store {
    /// Moves the file aside, begins a new one, and carries over what can be read. After an error the next call goes
    /// on with the same file. What there is no room for stays in the file that was moved aside, and is told lost.
    pub fn replace(&mut self) -> Result<Replaced, StoreError> {
        let mut replacing = match self.replacing.take() {
            Some(replacing) => replacing,
            None => self.set_aside_whole()?,
        };
        self.records = None;
        let (mut lost, known) = match self.begin_anew(&mut replacing) {
            Ok(begun) => begun,
            Err(error) => {
                self.replacing = Some(replacing);
                return Err(error);
            }
        };
        let Replacing { moved_to, old, lent: _lent } = replacing;
        let (mut salvaged, mut is_whole) = (0, false);
        if let Some(old) = old {
            (salvaged, is_whole) = self.salvage(&old);
            if let Err((_, error)) = old.close() {
                tracing::debug!(%error, "the damaged file");
            }
        }
        if is_whole && self.transact(|tx| tx.execute("DELETE FROM lost WHERE id > ?1", [known])).is_ok() {
            lost.retain(|lost| lost.id <= known);
        }
        Ok(Replaced { moved_to, salvaged, lost })
    }

    pub(super) fn set_aside_whole(&mut self) -> Result<Replacing, StoreError> {
        // Where the file was taken away while it was open, the open connection still has it.
        let open = self.connection.take().filter(|_| self.is_taken_away());
        // Its log too has to get out of the way, or the new file would be taken for its own.
        let moved_to = self.move_aside()?;
        self.identity = None;
        let old = open.or_else(|| open_damaged(moved_to.as_ref()?).ok());
        Ok(Replacing { moved_to, old, lent: None })
    }

    /// Begins the new file with all runs told lost: what follows may be cut off, or find no room. Gives the losses
    /// that no event tells yet, and the last of those that are not of this fear.
    pub(super) fn begin_anew(&mut self, replacing: &mut Replacing) -> Result<(Vec<Lost>, i64), StoreError> {
        self.connection()?;
        if let (Some(old), Some(path)) = (&replacing.old, &replacing.moved_to)
            && !is_readable(old)
        {
            (replacing.old, replacing.lent) = self.lend_header(path);
        }
        let (run, ceiling) = (self.run, self.ceiling);
        self.transact(|tx| {
            if let Some(old) = &replacing.old {
                carry_over(old, tx, &FIRST);
            }
            if run > 0 {
                tx.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?1)", [to_sql(run)])?;
                tx.execute(
                    "INSERT OR IGNORE INTO runs VALUES (?1, ?2, ?3, 0, ?4, 0)",
                    params![to_sql(run), boot_id(run), uptime(), to_sql(ceiling)],
                )?;
            }
            let known = tx.query_row("SELECT coalesce(max(id), 0) FROM lost", [], |row| row.get(0))?;
            // What cannot be carried over has no names any more: any number of any run may be among it.
            tx.execute(
                "INSERT INTO lost (run, first, last, reason) \
                 SELECT run, 1, max(ceiling, floor), 'corrupt' FROM runs",
                [],
            )?;
            Ok((super::lost::lost(tx)?, known))
        })
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
    fn salvage(&mut self, old: &Connection) -> (u64, bool) {
        let (mut salvaged, mut is_whole) = (0, true);
        let last: i64 =
            old.query_row("SELECT max(rowid) FROM records", [], |row| row.get(0)).unwrap_or(i64::MAX);
        let (mut after, mut skip, mut tries) = (-1, SKIP, 0);
        while after < last && tries < TRIES {
            let (rows, damaged, end) = readable(old, after);
            is_whole &= damaged == 0;
            if let Err(error) = self.transact(|tx| put(tx, &rows)) {
                tracing::error!(%error, salvaged, "the rest stays in the file that was moved aside");
                return (salvaged, false);
            }
            salvaged += u64::try_from(rows.len()).unwrap_or(0);
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
        let carried = self.transact(|tx| {
            carry_over(old, tx, &LAST);
            Ok(())
        });
        if let Err(error) = carried {
            tracing::error!(%error, "what was set aside stays in the file that was moved aside");
        }
        (salvaged, is_whole)
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

/// A path with more at its end.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.to_owned().into_os_string();
    longer.push(end);
    longer.into()
}
