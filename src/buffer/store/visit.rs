//! A look into a buffer file from outside, also while a gateway runs on it.
//!
//! The gateway must not feel it: while a read lasts the write-ahead log cannot be cut, and while a write lasts the
//! gateway waits. So both are short, and between two writes there is a rest.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::migrate::{VERSION, version};
use super::replace::with_end;
use super::rows::COLUMNS;
use super::space::BUSY_TIMEOUT;

mod integrity;
mod pages;
mod purge;
mod retry;
mod survey;

pub use pages::{Entry, Page, Shelf};
pub use purge::{Purge, Purged};
pub use retry::Retried;
pub use survey::{RunRange, Survey};

/// Between two writes. SQLite looks for the lock every 100 ms at most, so a gateway that waits for it gets it.
const REST: Duration = Duration::from_millis(120);

/// Why the file gives no answer. It is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// There is none.
    #[error("{} does not exist; see buffer.path, or name another file by --file", .0.display())]
    Missing(PathBuf),
    /// It cannot be opened.
    #[error("{}: {error}; the user that runs fieldgate can read it, and root", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is a database of something else, or empty.
    #[error("{} is not a buffer of fieldgate; name its file by --file", .0.display())]
    Foreign(PathBuf),
    /// It is of a version that this program does not know.
    #[error("{} was written by a newer version (schema {found}, this program knows {VERSION}); it is left \
             untouched: use that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
    },
    /// It is of an older version, which is only read.
    #[error("{} was written by an older version (schema {found}, this one writes {VERSION}); `fieldgate run` \
             brings it up to date, then try again", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
    },
    /// SQLite cannot make sense of it.
    #[error("{} is damaged: {error}; `fieldgate run` moves it aside whole, carries over what can be read and \
             begins a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        error: String,
    },
    /// The gateway held it all the time.
    #[error("{} was busy for {} s; try again", .0.display(), BUSY_TIMEOUT.as_secs())]
    Busy(PathBuf),
    /// The disk has no room for the log of a change.
    #[error("the disk of {} is full; make room first (a running gateway has a reserve for that)", .0.display())]
    Full(PathBuf),
    /// SQLite failed otherwise.
    #[error("{}: {error}; is the disk in order, and may this user write there?", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        error: rusqlite::Error,
    },
}

/// What lies beside a buffer file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Bytes of the file.
    pub file: u64,
    /// Bytes of its write-ahead log.
    pub log: u64,
    /// Bytes of the reserve for a full disk.
    pub reserve: u64,
    /// Damaged files that were moved aside, oldest first.
    pub moved_aside: Vec<PathBuf>,
}

impl Files {
    /// Looks at the folder; opens nothing.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let start = path.file_name().map(|name| format!("{}.corrupt-", name.to_string_lossy()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut moved_aside: Vec<PathBuf> = entries
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let rest = start.as_deref().and_then(|start| name.strip_prefix(start));
                rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
            })
            .map(|entry| entry.path())
            .collect();
        moved_aside.sort();
        Self {
            file: size(path.to_owned()),
            log: size(with_end(path, "-wal")),
            reserve: size(path.with_added_extension("reserve")),
            moved_aside,
        }
    }
}

/// A gateway runs on this file.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    // Without the right to open the lock nothing is known; the file itself will say so.
    File::open(path.with_added_extension("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The open file.
#[derive(Debug)]
pub struct Visit {
    path: PathBuf,
    connection: Connection,
    version: i32,
    is_running: bool,
}

impl Visit {
    /// Opens it to read; nothing in it is changed.
    pub fn open(path: &Path) -> Result<Self, VisitError> {
        // Where a log lies, a connection that may write would fold it in when it is closed. Where none lies, one
        // that may not write would leave an empty log behind.
        let flags = if with_end(path, "-wal").exists() {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let visit = Self::connect(path, flags)?;
        visit.attempt(|connection| connection.execute_batch("PRAGMA query_only = 1"))?;
        Ok(visit)
    }

    /// Opens it to read, and only if it is of the present version.
    pub fn open_current(path: &Path) -> Result<Self, VisitError> {
        let visit = Self::open(path)?;
        if visit.version < VERSION {
            return Err(VisitError::Older { path: visit.path, found: visit.version });
        }
        Ok(visit)
    }

    /// Opens it to change it: synced, and only if it is of the present version.
    pub fn open_to_write(path: &Path) -> Result<Self, VisitError> {
        // Looked at first: an older or newer file stays as it is, its log too.
        drop(Self::open_current(path)?);
        let visit = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        visit.attempt(|connection| connection.execute_batch("PRAGMA synchronous = FULL"))?;
        Ok(visit)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, VisitError> {
        match File::open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VisitError::Missing(path.to_owned()));
            }
            Err(error) => return Err(VisitError::File { path: path.to_owned(), error }),
        }
        let is_running = is_held(path);
        let connection = Connection::open_with_flags(path, flags).map_err(|error| fault(path, error))?;
        let mut visit = Self { path: path.to_owned(), connection, version: 0, is_running };
        let (found, tables) = visit.attempt(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            let names = "SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'records', 'commands')";
            Ok((version(connection)?, connection.query_row(names, [], |row| row.get::<_, i64>(0))?))
        })?;
        if found > VERSION {
            return Err(VisitError::Newer { path: visit.path, found });
        }
        if found < 1 || tables != 3 {
            return Err(VisitError::Foreign(visit.path));
        }
        visit.version = found;
        Ok(visit)
    }

    /// The version of its schema.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version
    }

    /// A gateway ran on it when it was opened.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Lets the gateway have its turn, between two writes.
    pub fn rest(&self) {
        if self.is_running {
            // The tools have no event loop that this could hold up.
            std::thread::park_timeout(REST);
        }
    }

    /// The columns of a record, as `rows::read` takes them; an older file has fewer.
    fn columns(&self) -> String {
        if self.version == 1 {
            COLUMNS.replace("uptime, synced, crc", "0, 1, NULL")
        } else {
            COLUMNS.to_owned()
        }
    }

    fn attempt<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, VisitError> {
        work(&self.connection).map_err(|error| fault(&self.path, error))
    }

    /// One synced transaction.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, VisitError> {
        let path = self.path.clone();
        let done = (|| {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = version(&tx)?;
            // A newer gateway may have begun meanwhile.
            let done = if found == VERSION { Ok(work(&tx)?) } else { Err(found) };
            tx.commit()?;
            Ok(done)
        })();
        done.map_err(|error| fault(&path, error))?.map_err(|found| VisitError::Newer { path, found })
    }
}

/// What an error means.
fn fault(path: &Path, error: rusqlite::Error) -> VisitError {
    let path = path.to_owned();
    if super::is_corrupt(&error) {
        return VisitError::Damaged { path, error: error.to_string() };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => VisitError::Busy(path),
        Some(ErrorCode::DiskFull) => VisitError::Full(path),
        _ => VisitError::Sqlite { path, error },
    }
}
