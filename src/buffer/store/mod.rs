//! The buffer's file: the only module that names rusqlite. Runs on a thread of its own, one message at a time.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};

use crate::clock::Timestamp;
use crate::record::{Name, Numbered};

mod aside;
mod batch;
mod carry;
mod check;
mod commands;
mod expire;
mod header;
mod lost;
mod migrate;
mod open;
mod remember;
mod replace;
mod reserve;
mod retime;
mod rows;
mod settle;
mod space;
#[cfg(test)]
mod tests;
pub mod visit;

pub use batch::{Aside, Batch};
pub use check::faults;
pub use expire::Limit;
pub use lost::{Changed, Lost};
pub(crate) use open::write_synced;
pub use replace::Replaced;
pub use retime::Retime;
pub use space::Usage;

use replace::Replacing;
use reserve::Reserve;
use rows::to_sql;
use settle::let_log_go;
use space::Bounds;

/// Why the store did not do what it was asked. Nothing of a failed transaction is in the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another gateway holds the file.
    #[error("{} is held by another gateway; stop it first, or give this one its own buffer.path", .0.display())]
    Locked(PathBuf),
    /// The file is of a version that this program does not know.
    #[error("{} was written by a newer version (schema {found}, this program knows {}); \
             it is left untouched: install that version, or name another buffer.path", path.display(), migrate::VERSION)]
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
    /// `max_size` is reached, or the disk is full.
    #[error("{}", if .0.is_disk_full { "the disk is full; make room, or lower buffer.max_size" }
                  else { "the buffer file has reached buffer.max_size" })]
    Full(Usage),
    /// The file is damaged, or was taken away.
    #[error("the buffer file is damaged: {0}")]
    Damaged(String),
    /// SQLite failed.
    #[error("the buffer file: {0}; see the disk")]
    Sqlite(#[from] rusqlite::Error),
}

/// What was found when the file was opened for a run.
#[derive(Debug)]
pub struct Opened {
    /// The number of this run.
    pub run: u64,
    /// How full the file is; its records were left by earlier runs.
    pub usage: Usage,
    /// A damaged file was moved aside and a new one begun.
    pub replaced: Option<Replaced>,
    /// Replies left by earlier runs, to be taken first.
    pub replies: Vec<Numbered>,
    /// Losses that no event tells yet.
    pub lost: Vec<Lost>,
    /// The last run ended without a word: the file wants a thorough look.
    pub is_unclean: bool,
}

/// What was loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The records, oldest first.
    pub records: Vec<Numbered>,
    /// Names of rows that do not bear their checksum.
    pub damaged: Vec<Name>,
    /// The last row that was looked at.
    pub last: Option<Name>,
    /// A limit was reached: there may be more behind it.
    pub is_cut: bool,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    bounds: Bounds,
    lock: Option<File>,
    connection: Option<Connection>,
    /// Which file is open: its device and inode.
    identity: Option<(u64, u64)>,
    run: u64,
    /// Nothing: to be counted again.
    records: Option<u64>,
    aside: u64,
    reserve: Reserve,
    is_disk_full: bool,
    /// A damaged file that was moved aside and is not yet carried over.
    replacing: Option<Replacing>,
    /// When the floor was last written.
    marked: Option<Instant>,
    ceiling: u64,
    commits: u64,
    synced: Option<Timestamp>,
    /// Another connection changed the file since: `PRAGMA data_version`.
    data_version: i64,
}

impl Store {
    /// For the file at `path`, which with all that lies beside it stays below `max_size` bytes; nothing is opened
    /// yet.
    #[must_use]
    pub fn new(path: PathBuf, max_size: u64) -> Self {
        let reserve = Reserve::new(path.with_added_extension("reserve"), max_size);
        Self {
            path,
            bounds: Bounds::new(max_size),
            lock: None,
            connection: None,
            identity: None,
            run: 0,
            records: None,
            aside: 0,
            reserve,
            is_disk_full: false,
            replacing: None,
            marked: None,
            ceiling: 0,
            commits: 0,
            synced: None,
            data_version: 0,
        }
    }

    /// The records after `after`, oldest first.
    pub fn load(&mut self, after: Option<Name>, limit: usize) -> Result<Loaded, StoreError> {
        self.load_within(after, limit, usize::MAX)
    }

    /// The records after `after`, oldest first, until their bodies reach so many bytes.
    pub fn load_within(
        &mut self,
        after: Option<Name>,
        limit: usize,
        bytes: usize,
    ) -> Result<Loaded, StoreError> {
        let after = after.unwrap_or(Name { run: 0, seq: 0 });
        self.attempt(|connection| rows::load(connection, after, limit, bytes))
    }

    /// The names of the oldest records that may be dropped to make room: readings, then events, then replies. Gap events
    /// stay.
    pub fn oldest(&mut self, limit: usize) -> Result<Vec<Name>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.attempt(|connection| {
            // A gap event that waits is the only one to tell its range: it never goes, and there are few.
            let event = "kind < 2 AND kind = 1 AND CAST(substr(body, 1, 13) AS TEXT) != '\"event\":\"gap\"'";
            for which in ["kind = 2", event, "kind < 2 AND kind = 0"] {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT run, seq FROM records WHERE {which} ORDER BY run, seq LIMIT ?1"
                ))?;
                let names: Vec<Name> = statement.query_map([limit], rows::name)?.collect::<Result<_, _>>()?;
                if !names.is_empty() {
                    return Ok(names);
                }
            }
            Ok(Vec::new())
        })
    }

    /// Notes that the run ended in order with this number, and closes the file.
    pub fn end(&mut self, newest: u64) {
        if self.connection.is_some() {
            let run = self.run;
            let noted = self.transact(|tx| {
                tx.execute(
                    "UPDATE runs SET clean = 1, floor = ?2, ceiling = ?2 WHERE run = ?1",
                    [to_sql(run), to_sql(newest)],
                )
            });
            if let Err(error) = noted {
                tracing::warn!(%error, "the orderly end cannot be noted");
            }
        }
        self.close();
    }

    /// Folds the write-ahead log into the file and closes it. The next start takes the run as one that was cut off.
    pub fn close(&mut self) {
        let folded = self.fold().and_then(|()| Ok(self.connection.as_ref().map_or(Ok(()), let_log_go)?));
        if let Err(error) = folded {
            tracing::debug!(%error, "the write-ahead log stays; it is folded in at the next start");
        }
        (self.connection, self.identity) = (None, None);
        self.lock = None;
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.connection.is_none() {
            // A new file in its place would be taken for the old one, emptied.
            self.check_identity()?;
            let connection = self.connect()?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| StoreError::Damaged("it is not open".to_owned()))
    }

    /// One synced transaction.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.check_identity()?;
        let connection = self.connection()?;
        let done = (|| {
            let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        })();
        match done {
            Ok(done) => {
                self.commits += 1;
                self.synced = Some(Timestamp::now());
                self.tend();
                Ok(done)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn attempt<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = work(self.connection()?);
        done.map_err(|error| self.failed(error))
    }

    /// What an error means, and what follows from it.
    fn failed(&mut self, error: rusqlite::Error) -> StoreError {
        self.records = None;
        if is_corrupt(&error) {
            return StoreError::Damaged(error.to_string());
        }
        let is_short = self.is_short_of_disk();
        if is_short {
            self.note_full_disk();
        }
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return StoreError::Full(self.usage().unwrap_or_default());
        }
        // Nothing in the connection's cache can be believed, and its log may hold pages that never reached the
        // disk: appending to them would put what comes next behind a hole. The next use opens the file anew, and
        // that settles the log before anything else.
        self.connection = None;
        StoreError::Sqlite(error)
    }
}

/// Also a value of another type than was written: SQLite does not look at what a row holds.
fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
        || matches!(
            error,
            FromSqlConversionFailure(..)
                | IntegralValueOutOfRange(..)
                | InvalidColumnType(..)
                | Utf8Error(..)
        )
}
