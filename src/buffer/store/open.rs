//! Opening the file: the lock, the settings, the number of the run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::batch::FIRST_CEILING;
use super::lost::{count_aside, data_version, lost};
use super::migrate::{VERSION, is_foreign, migrate, version};
use super::rows::{select, to_sql};
use super::settle::{leave_log_alone, settle};
use super::space::BUSY_TIMEOUT;
use super::{Opened, Store, StoreError};
use crate::clock::{Timestamp, boot_id, uptime};
#[cfg(feature = "mutant")]
use crate::mutant::full_sync;

/// Replies of earlier runs that are loaded at once, to go first.
const REPLIES: i64 = 256;
/// A lock that is held longer than this is another gateway's.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// Enters as lost what a run that was cut off may have given and not stored: from the first number above its floor
/// that has no record, up to its ceiling. Not from the highest: a reply is stored before records that are older.
const CUT_OFF: &str = "
    INSERT INTO lost (run, first, last, reason)
    SELECT run, CASE
        WHEN NOT EXISTS (SELECT 1 FROM records AS r WHERE r.run = runs.run AND r.seq = floor + 1) THEN floor + 1
        ELSE (SELECT r.seq + 1 FROM records AS r WHERE r.run = runs.run AND r.seq > floor AND NOT EXISTS
            (SELECT 1 FROM records AS n WHERE n.run = r.run AND n.seq = r.seq + 1) ORDER BY r.seq LIMIT 1)
        END, ceiling, 'unclean-stop'
    FROM runs WHERE run = ?1 AND clean = 0";

/// The last run, also in a file that was begun anew after damage.
const LAST_RUN: &str = "
    SELECT max(coalesce((SELECT value FROM meta WHERE key = 'run'), 0), coalesce((SELECT max(run) FROM runs), 0),
        coalesce((SELECT max(run) FROM records), 0))";

impl Store {
    /// Opens the file and begins a run: its number is on the disk, twice, when this returns.
    pub fn open(&mut self) -> Result<Opened, StoreError> {
        self.lock()?;
        let mut replaced = None;
        let mut begun = self.begin_run();
        if let Err(StoreError::Full(_)) = &begun {
            // The reserve has just been given up.
            begun = self.begin_run();
        }
        if let Err(StoreError::Damaged(error)) = &begun {
            tracing::error!(error, "the buffer file is damaged; it is moved aside and a new one begun");
            replaced = Some(self.replace()?);
            begun = self.begin_run();
        }
        Ok(Opened { replaced, ..begun? })
    }

    fn begin_run(&mut self) -> Result<Opened, StoreError> {
        self.connection()?;
        let copy = self.path.with_added_extension("run");
        let beside = Beside::read(&copy);
        let seconds = u64::try_from(Timestamp::now().millis() / 1000).unwrap_or(0);
        let (run, is_unclean) = self.transact(|tx| {
            let last = tx
                .query_row(LAST_RUN, [], |row| row.get::<_, i64>(0))
                .map(|run| u64::try_from(run).unwrap_or(0))?;
            let run = seconds.max(last.max(beside.run) + 1);
            if beside.run > last {
                // The file was lost, or is an old copy: what that run left in it is lost with it.
                tx.execute(
                    "INSERT INTO lost (run, first, last, reason) VALUES (?1, 1, ?2, 'corrupt')",
                    [to_sql(beside.run), to_sql(beside.ceiling)],
                )?;
            }
            // Numbers given after the last commit went with the memory, unless the broker had them.
            let cut = tx.execute(CUT_OFF, [to_sql(last)])?;
            tx.execute("UPDATE runs SET clean = 1", [])?;
            tx.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?1)", [to_sql(run)])?;
            tx.execute(
                "DELETE FROM runs WHERE NOT EXISTS (SELECT 1 FROM records WHERE records.run = runs.run)",
                [],
            )?;
            tx.execute(
                "INSERT INTO runs VALUES (?1, ?2, ?3, 0, ?4, 0)",
                params![to_sql(run), boot_id(run), uptime(), to_sql(FIRST_CEILING)],
            )?;
            Ok((run, cut > 0))
        })?;
        (self.run, self.ceiling, self.marked) = (run, FIRST_CEILING, None);
        self.reserve.keep();
        let replies = self.attempt(urgent)?;
        let lost = self.attempt(lost)?;
        self.aside = self.attempt(count_aside)?;
        self.data_version = self.attempt(data_version)?;
        let beside = Beside { run, ceiling: self.ceiling };
        let noted = beside.write(&copy).or_else(|_| {
            self.reserve.give_up();
            beside.write(&copy)
        });
        match noted {
            // The file itself has the number: the copy is for the day it is lost.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(%error, "the disk is full: the run's number has no copy beside the buffer file");
            }
            noted => noted.map_err(|error| StoreError::File { path: copy, error })?,
        }
        Ok(Opened { run, usage: self.usage()?, replaced: None, replies, lost, is_unclean })
    }

    /// The copy beside the file follows a ceiling that was raised.
    pub(super) fn note_beside(&self, is_raised: bool) {
        if is_raised
            && let Err(error) = (Beside { run: self.run, ceiling: self.ceiling })
                .write(&self.path.with_added_extension("run"))
        {
            tracing::debug!(%error, "the copy of the run beside the buffer");
        }
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path.with_added_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| StoreError::File { path: path.clone(), error })?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Somebody who only asks whether a gateway runs has it for a moment.
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                    std::thread::park_timeout(LOCK_WAIT / 10);
                }
                Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(self.path.clone())),
                Err(fs::TryLockError::Error(error)) => return Err(StoreError::File { path, error }),
            }
        }
        self.lock = Some(file);
        Ok(())
    }

    pub(super) fn connect(&mut self) -> Result<Connection, StoreError> {
        match self.connect_to() {
            Err(StoreError::Sqlite(error)) if super::is_corrupt(&error) => {
                Err(StoreError::Damaged(error.to_string()))
            }
            other => other,
        }
    }

    fn connect_to(&mut self) -> Result<Connection, StoreError> {
        let mut connection = Connection::open(&self.path)?;
        leave_log_alone(&connection)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let found = version(&connection)?;
        if found > VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found });
        }
        if is_foreign(&connection)? {
            return Err(StoreError::Damaged("it is the database of another program".to_owned()));
        }
        // Pages of deleted records go back to the disk. It can only be chosen before anything is written.
        if found == 0 {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // NORMAL would lose acknowledged rows in a power cut; the setting is read back because a library
        // built with another default, or a typing mistake, would be silent.
        let full = full_sync();
        connection.execute_batch(&format!("PRAGMA synchronous = {full}"))?;
        let synchronous: i32 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if synchronous != full || mode != "wal" {
            let error = io::Error::other(format!("WAL with full sync refused (got {mode}, {synchronous})"));
            return Err(StoreError::File { path: self.path.clone(), error });
        }
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0")?;
        let pages = self.bounds.pages();
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        settle(&connection, &self.path, &self.log_path())?;
        migrate(&mut connection)?;
        self.identity = identity(&self.path);
        // The number of one connection says nothing to another: what changed meanwhile is looked for.
        self.data_version = -1;
        Ok(connection)
    }

    /// The open file is still the one under its name.
    pub(super) fn check_identity(&self) -> Result<(), StoreError> {
        if self.is_taken_away() {
            return Err(StoreError::Damaged("it was deleted or replaced while it was in use".to_owned()));
        }
        Ok(())
    }

    pub(super) fn is_taken_away(&self) -> bool {
        self.identity.is_some() && identity(&self.path) != self.identity
    }
}

/// `PRAGMA synchronous`: FULL, a commit waits until the disk has it.
#[cfg(not(feature = "mutant"))]
const fn full_sync() -> i32 {
    2
}

fn urgent(connection: &Connection) -> rusqlite::Result<Vec<crate::record::Numbered>> {
    let rows = select(connection, "WHERE kind < 2 AND kind = 0 ORDER BY run, seq LIMIT ?1", [REPLIES])?;
    Ok(rows.into_iter().flatten().collect())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The copy of the run's number beside the file: it outlives the file.
struct Beside {
    run: u64,
    ceiling: u64,
}

impl Beside {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
        let (run, ceiling) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(FIRST_CEILING));
        Self { run, ceiling }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        write_synced(path, &format!("{} {}\n", self.run, self.ceiling))
    }
}

/// Writes a small file so that after a power cut it holds the old text or the new, whole.
pub(crate) fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_added_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_folder(path)
}

/// The names in the folder of this file are on the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
