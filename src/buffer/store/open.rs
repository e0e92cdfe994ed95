//! Opening the file: the lock, the settings, the number of the run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::rows::{count, select, to_sql};
use super::{Opened, SCHEMA_VERSION, Store, StoreError};
use crate::clock::Timestamp;

/// Pages beyond `max_size`, so that gap events and the journal can be written when records fill it.
const SPARE_PAGES: u64 = 64;
/// Longest wait for another process that reads the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this many bytes after a checkpoint.
const WAL_LIMIT: u64 = 4 << 20;
/// Replies of earlier runs that are loaded at once, to go first.
const REPLIES: i64 = 256;

impl Store {
    /// Opens the file and begins a run: its number is on the disk, twice, when this returns.
    pub fn open(&mut self) -> Result<Opened, StoreError> {
        self.lock()?;
        let mut replaced = None;
        let begun = match self.begin_run() {
            Err(StoreError::Sqlite(error)) if is_corrupt(&error) => {
                replaced = Some(self.move_aside()?);
                self.begin_run()?
            }
            other => other?,
        };
        Ok(Opened { replaced, ..begun })
    }

    fn begin_run(&mut self) -> Result<Opened, StoreError> {
        let found = self.connect()?;
        let last =
            found.query_row("SELECT value FROM meta WHERE key = 'run'", [], |row| row.get::<_, i64>(0));
        let last = last.optional()?.and_then(|run| u64::try_from(run).ok()).unwrap_or(0);
        let copy = self.path.with_added_extension("run");
        let beside = fs::read_to_string(&copy).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let seconds = u64::try_from(Timestamp::now().millis() / 1000).unwrap_or(0);
        let run = seconds.max(last.max(beside) + 1);
        found.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?1)", [to_sql(run)])?;
        self.records = count(&found)?;
        let replies = select(&found, "WHERE kind = 0 ORDER BY run, seq LIMIT ?1", [REPLIES])?;
        self.connection = Some(found);
        write_synced(&copy, &format!("{run}\n")).map_err(|error| StoreError::File { path: copy, error })?;
        Ok(Opened { run, records: self.records, replaced: None, replies })
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path.with_added_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| StoreError::File { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(self.path.clone())),
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::File { path, error }),
        }
        Ok(())
    }

    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let found: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found });
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // NORMAL would lose acknowledged rows in a power cut; the setting is read back because a library
        // built with another default, or a typing mistake, would be silent.
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let synchronous: i32 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if synchronous != 2 || mode != "wal" {
            let error = io::Error::other(format!("WAL with full sync refused (got {mode}, {synchronous})"));
            return Err(StoreError::File { path: self.path.clone(), error });
        }
        let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = self.max_size / u64::try_from(page_size).unwrap_or(4096).max(1) + SPARE_PAGES;
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        connection.query_row(&format!("PRAGMA journal_size_limit = {WAL_LIMIT}"), [], |_| Ok(()))?;
        if found == 0 {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT",
                include_str!("../schema.sql")
            ))?;
        }
        Ok(connection)
    }

    /// Moves a damaged file out of the way; it is never deleted.
    fn move_aside(&mut self) -> Result<PathBuf, StoreError> {
        self.connection = None;
        let aside = self.path.with_added_extension(format!("corrupt-{}", Timestamp::now().millis()));
        fs::rename(&self.path, &aside)
            .map_err(|error| StoreError::File { path: self.path.clone(), error })?;
        for extension in ["-wal", "-shm"] {
            let mut beside = self.path.clone().into_os_string();
            beside.push(extension);
            let mut target = aside.clone().into_os_string();
            target.push(extension);
            // Often there is none.
            if let Err(error) = fs::rename(beside, target) {
                tracing::debug!(%error, "nothing moved for {extension}");
            }
        }
        Ok(aside)
    }
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Writes a small file so that after a power cut it holds the old text or the new, whole.
pub(crate) fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_added_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
