//! The buffer's file: the only module that names rusqlite. Runs on a thread of its own, one message at a time.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode};

use crate::record::{Name, Numbered};

mod commands;
mod open;
mod rows;

pub(crate) use open::write_synced;
use rows::{name, put, remove, select, to_sql};

/// The version of the file's schema.
const SCHEMA_VERSION: i32 = 1;

/// Why the store did not do what it was asked. Nothing of a failed transaction is in the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another gateway holds the file.
    #[error("{} is held by another gateway; stop it first, or give this one its own buffer.path", .0.display())]
    Locked(PathBuf),
    /// The file is of a version that this program does not know.
    #[error("{} was written by a newer version (schema {found}, this program knows {SCHEMA_VERSION}); \
             it is left untouched: install that version, or name another buffer.path", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
    },
    /// The folder or a file beside the database cannot be used.
    #[error("{}: {error}; see that the folder exists and belongs to the user that runs fieldgate", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// `max_size` is reached.
    #[error("the buffer file is full")]
    Full,
    /// SQLite failed.
    #[error("the buffer file: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// What was found when the file was opened for a run.
#[derive(Debug)]
pub struct Opened {
    /// The number of this run.
    pub run: u64,
    /// Records left by earlier runs.
    pub records: u64,
    /// A damaged file was moved here and a new one begun.
    pub replaced: Option<PathBuf>,
    /// Replies left by earlier runs, to be taken first.
    pub replies: Vec<Numbered>,
}

/// How full the file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of pages in use.
    pub bytes: u64,
    /// Records in the file.
    pub records: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    max_size: u64,
    lock: Option<File>,
    connection: Option<Connection>,
    records: u64,
}

impl Store {
    /// For the file at `path`; nothing is opened yet.
    #[must_use]
    pub fn new(path: PathBuf, max_size: u64) -> Self {
        Self { path, max_size, lock: None, connection: None, records: 0 }
    }

    /// Inserts (or replaces) and deletes in one synced transaction.
    pub fn commit(&mut self, insert: &[Numbered], delete: &[Name]) -> Result<Usage, StoreError> {
        let (added, gone) = self.transact(|tx| {
            let replaced = put(tx, insert)?;
            Ok((insert.len(), replaced + remove(tx, delete)?))
        })?;
        self.count_change(added, gone);
        self.usage()
    }

    /// The records after `after`, oldest first.
    pub fn load(&mut self, after: Option<Name>, limit: usize) -> Result<Vec<Numbered>, StoreError> {
        let after = after.unwrap_or(Name { run: 0, seq: 0 });
        self.attempt(|connection| {
            select(
                connection,
                "WHERE (run, seq) > (?1, ?2) ORDER BY run, seq LIMIT ?3",
                [to_sql(after.run), to_sql(after.seq), i64::try_from(limit).unwrap_or(i64::MAX)],
            )
        })
    }

    /// The names of the oldest records that may be dropped to make room: readings only.
    pub fn oldest(&mut self, limit: usize) -> Result<Vec<Name>, StoreError> {
        self.attempt(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT run, seq FROM records WHERE kind = 2 ORDER BY run, seq LIMIT ?1")?;
            let names = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], name)?;
            names.collect()
        })
    }

    /// Folds the write-ahead log into the file and closes it.
    pub fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = folded {
                tracing::debug!(%error, "the write-ahead log stays; it is folded in at the next start");
            }
        }
        self.lock = None;
    }

    fn count_change(&mut self, added: usize, gone: usize) {
        let [added, gone] = [added, gone].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
        self.records = (self.records + added).saturating_sub(gone);
    }

    fn usage(&mut self) -> Result<Usage, StoreError> {
        let records = self.records;
        self.attempt(|connection| {
            let pages: i64 = connection.query_row(
                "SELECT (SELECT page_count FROM pragma_page_count()) - \
                 (SELECT freelist_count FROM pragma_freelist_count())",
                [],
                |row| row.get(0),
            )?;
            let size: i64 =
                connection.query_row("SELECT page_size FROM pragma_page_size()", [], |row| row.get(0))?;
            Ok(Usage { bytes: u64::try_from(pages * size).unwrap_or(0), records })
        })
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        let Some(connection) = &mut self.connection else {
            return Err(StoreError::Full);
        };
        let done = (|| {
            let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        })();
        self.give_up_on(&done);
        Ok(done?)
    }

    fn attempt<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        let Some(connection) = &self.connection else {
            return Err(StoreError::Full);
        };
        let done = work(connection);
        self.give_up_on(&done);
        Ok(done?)
    }

    /// After an I/O error nothing in the connection's cache can be believed, so the next use opens anew.
    fn give_up_on<T>(&mut self, done: &rusqlite::Result<T>) {
        if let Err(error) = done
            && error.sqlite_error_code() != Some(ErrorCode::DiskFull)
        {
            self.connection = None;
        }
    }
}
