//! The buffer's file: the only module that names rusqlite. Runs on a thread of its own, one message at a time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};

use super::journal::{Begin, Begun, CommandKey, Unfinished};
use crate::clock::Timestamp;
use crate::record::{Name, Numbered, Record, RecordKind, Topic};

/// The version of the file's schema.
const SCHEMA_VERSION: i32 = 1;
/// Pages beyond `max_size`, so that gap events and the journal can be written when records fill it.
const SPARE_PAGES: u64 = 64;
/// Longest wait for another process that reads the file (`buffer stat` and the like).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this many bytes after a checkpoint.
const WAL_LIMIT: u64 = 4 << 20;
/// Ids of commands are kept this long ...
const JOURNAL_AGE_MS: i64 = 30 * 24 * 3600 * 1000;
/// ... and at most this many.
const JOURNAL_LENGTH: u64 = 10_000;

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
        Self {
            path,
            max_size,
            lock: None,
            connection: None,
            records: 0,
        }
    }

    /// Opens the file and begins a run: its number is on the disk, twice, when this returns.
    pub fn open(&mut self) -> Result<Opened, StoreError> {
        self.lock()?;
        let mut replaced = None;
        let found = match self.connect() {
            Err(StoreError::Sqlite(error)) if is_corrupt(&error) => {
                replaced = Some(self.move_aside()?);
                self.connect()?
            }
            other => other?,
        };
        let last = found.query_row("SELECT value FROM meta WHERE key = 'run'", [], |row| {
            row.get::<_, i64>(0)
        });
        let last = last
            .optional()?
            .and_then(|run| u64::try_from(run).ok())
            .unwrap_or(0);
        let copy = self.path.with_added_extension("run");
        let beside = fs::read_to_string(&copy)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let seconds = u64::try_from(Timestamp::now().millis() / 1000).unwrap_or(0);
        let run = seconds.max(last.max(beside) + 1);
        found.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?1)", [to_sql(run)])?;
        self.records = count(&found)?;
        let replies = select(&found, "WHERE kind = 0 ORDER BY run, seq LIMIT ?1", [256])?;
        self.connection = Some(found);
        write_synced(&copy, &format!("{run}\n")).map_err(|error| StoreError::File { path: copy, error })?;
        Ok(Opened {
            run,
            records: self.records,
            replaced,
            replies,
        })
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
                [
                    to_sql(after.run),
                    to_sql(after.seq),
                    i64::try_from(limit).unwrap_or(i64::MAX),
                ],
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

    /// Enters a command in the journal, unless its id is there already. With `enter` false only looks.
    pub fn begin(&mut self, begin: &Begin) -> Result<Begun, StoreError> {
        let now = Timestamp::now().millis();
        self.transact(|tx| {
            let known = tx
                .prepare_cached("SELECT digest, outcome FROM commands WHERE topic = ?1 AND id = ?2")?
                .query_row([begin.key.topic(), &begin.key.id], |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
                })
                .optional()?;
            match known {
                Some((digest, _)) if digest != begin.digest => return Ok(Begun::Reused),
                Some((_, None)) => return Ok(Begun::Running),
                Some((_, Some(outcome))) => return Ok(Begun::Seen(outcome.into())),
                None if !begin.enter => return Ok(Begun::Fresh),
                None => {}
            }
            tx.prepare_cached("INSERT INTO commands VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)")?
                .execute(params![
                    begin.key.topic(),
                    begin.key.id,
                    begin.digest,
                    now,
                    begin.action,
                    begin.reply.to_string(),
                    begin.correlation.as_deref(),
                ])?;
            forget_old_commands(tx, now)?;
            Ok(Begun::Fresh)
        })
    }

    /// Stores the outcome of a command (`None`: takes it out of the journal again) with its reply and
    /// everything else that waits.
    pub fn finish(
        &mut self,
        key: &CommandKey,
        outcome: Option<&[u8]>,
        insert: &[Numbered],
        delete: &[Name],
    ) -> Result<Usage, StoreError> {
        let gone = self.transact(|tx| {
            let gone = put(tx, insert)? + remove(tx, delete)?;
            match outcome {
                Some(outcome) => tx
                    .prepare_cached("UPDATE commands SET outcome = ?3 WHERE topic = ?1 AND id = ?2")?
                    .execute(params![key.topic(), key.id, outcome])?,
                None => tx
                    .prepare_cached("DELETE FROM commands WHERE topic = ?1 AND id = ?2")?
                    .execute([key.topic(), &key.id])?,
            };
            Ok(gone)
        })?;
        self.count_change(insert.len(), gone);
        self.usage()
    }

    /// The commands that were begun and never finished.
    pub fn unfinished(&mut self) -> Result<Vec<Unfinished>, StoreError> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT topic, id, action, reply, correlation FROM commands WHERE outcome IS NULL ORDER BY begun",
            )?;
            let rows = statement.query_map([], |row| {
                let topic: String = row.get(0)?;
                let key = CommandKey::from_stored(&topic, row.get(1)?);
                let reply: String = row.get(3)?;
                Ok(Unfinished {
                    reply: Topic::parse(&reply).unwrap_or_else(|| Topic::Reply(key.device.clone())),
                    key,
                    action: row.get(2)?,
                    correlation: row.get::<_, Option<Vec<u8>>>(4)?.map(Arc::from),
                })
            })?;
            rows.collect()
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
            Ok(Usage {
                bytes: u64::try_from(pages * size).unwrap_or(0),
                records,
            })
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

    fn lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path.with_added_extension("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(|error| StoreError::File {
            path: path.clone(),
            error,
        })?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(self.path.clone())),
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::File { path, error }),
        }
        Ok(())
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let found: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer {
                path: self.path.clone(),
                found,
            });
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // NORMAL would lose acknowledged rows in a power cut; the setting is read back because a library
        // built with another default, or a typing mistake, would be silent.
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let synchronous: i32 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if synchronous != 2 || mode != "wal" {
            let error = io::Error::other(format!("WAL with full sync refused (got {mode}, {synchronous})"));
            return Err(StoreError::File {
                path: self.path.clone(),
                error,
            });
        }
        let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = self.max_size / u64::try_from(page_size).unwrap_or(4096).max(1) + SPARE_PAGES;
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        connection.query_row(
            &format!("PRAGMA journal_size_limit = {WAL_LIMIT}"),
            [],
            |_| Ok(()),
        )?;
        if found == 0 {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT",
                include_str!("schema.sql")
            ))?;
        }
        Ok(connection)
    }

    /// Moves a damaged file out of the way; it is never deleted.
    fn move_aside(&mut self) -> Result<PathBuf, StoreError> {
        self.connection = None;
        let aside = self
            .path
            .with_added_extension(format!("corrupt-{}", Timestamp::now().millis()));
        fs::rename(&self.path, &aside).map_err(|error| StoreError::File {
            path: self.path.clone(),
            error,
        })?;
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
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    )
}

/// Inserts, and says how many rows of the same name it replaced (only events grow).
fn put(tx: &rusqlite::Transaction<'_>, insert: &[Numbered]) -> rusqlite::Result<usize> {
    let events = insert
        .iter()
        .filter(|numbered| numbered.record.kind == RecordKind::Event);
    let replaced = remove(tx, events.map(|numbered| &numbered.name))?;
    let mut statement = tx.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for Numbered { name, record } in insert {
        let kind = match record.kind {
            RecordKind::Reply => 0,
            RecordKind::Event => 1,
            RecordKind::Readings => 2,
        };
        statement.execute(params![
            to_sql(name.run),
            to_sql(name.seq),
            kind,
            record.topic.to_string(),
            &record.body[..],
            record.correlation.as_deref(),
            record.made.millis(),
        ])?;
    }
    Ok(replaced)
}

fn remove<'a>(
    tx: &rusqlite::Transaction<'_>,
    names: impl IntoIterator<Item = &'a Name>,
) -> rusqlite::Result<usize> {
    let mut statement = tx.prepare_cached("DELETE FROM records WHERE run = ?1 AND seq = ?2")?;
    names
        .into_iter()
        .map(|name| statement.execute([to_sql(name.run), to_sql(name.seq)]))
        .sum()
}

fn select(
    connection: &Connection,
    tail: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Numbered>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT run, seq, kind, topic, body, correlation, made FROM records {tail}"
    ))?;
    let rows = statement.query_map(params, |row| {
        let topic: String = row.get(3)?;
        let record = Record {
            kind: match row.get(2)? {
                0 => RecordKind::Reply,
                1 => RecordKind::Event,
                _ => RecordKind::Readings,
            },
            // A topic this version cannot read is still sent, as an event, so that no seq goes missing.
            topic: Topic::parse(&topic).unwrap_or(Topic::Event),
            body: row.get::<_, Vec<u8>>(4)?.into(),
            correlation: row.get::<_, Option<Vec<u8>>>(5)?.map(Arc::from),
            made: Timestamp::from_millis(row.get(6)?),
        };
        Ok(Numbered {
            name: name(row)?,
            record,
        })
    })?;
    rows.collect()
}

fn name(row: &Row<'_>) -> rusqlite::Result<Name> {
    let [run, seq] = [row.get::<_, i64>(0)?, row.get(1)?].map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Name { run, seq })
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let records: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    Ok(u64::try_from(records).unwrap_or(0))
}

fn forget_old_commands(tx: &rusqlite::Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM commands WHERE begun < ?1 AND outcome IS NOT NULL")?
        .execute([now - JOURNAL_AGE_MS])?;
    tx.prepare_cached(
        "DELETE FROM commands WHERE outcome IS NOT NULL AND (topic, id) IN \
         (SELECT topic, id FROM commands ORDER BY begun DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([to_sql(JOURNAL_LENGTH)])?;
    Ok(())
}

/// SQLite's integers are signed; runs and seqs stay far below the sign.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Writes a small file so that after a power cut it holds the old text or the new, whole.
pub(crate) fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_added_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
