//! Room: how much the file takes, the write-ahead log, a full disk.
//!
//! The log is folded into the file by hand, so that it never outgrows its part of `max_size`, and cut to nothing
//! each time: its length then says how much it holds.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::rows::count;
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// A page of the file.
pub(super) const PAGE: u64 = 4096;
/// Pages beyond the limit, so that gap events and the journal can be written when records fill it.
pub(super) const SPARE_PAGES: u64 = 64;
/// The log's part of `max_size`, and its bounds.
const LOG_SHARE: u64 = 8;
const LOG_LEAST: u64 = 128 << 10;
const LOG_MOST: u64 = 16 << 20;
/// The log's index in shared memory, and small files.
const BESIDE: u64 = 96 << 10;
/// The least that the file itself may take, whatever `max_size` says: empty tables need half of it.
const FILE_LEAST: u64 = 160 << 10;
/// With less free than this the disk counts as full.
const SHORT: u64 = 512 << 10;
/// A reader may hold up the folding of the log this long.
const FOLD_WAIT: Duration = Duration::from_millis(200);
/// Longest wait for another process that writes to the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Free pages left in the file; more are given back to the disk.
const FREE_PAGES: i64 = 64;
/// Pages given back in one go.
const SHRINK: i64 = 2_048;

/// How `max_size` is shared out, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_size: u64,
    /// For the write-ahead log.
    log: u64,
    /// For the file.
    file: u64,
}

impl Bounds {
    pub(super) fn new(max_size: u64) -> Self {
        let log = (max_size / LOG_SHARE).clamp(LOG_LEAST, LOG_MOST);
        // The reserve takes a sixteenth at most.
        let rest = max_size.saturating_sub(log + max_size / 16 + BESIDE);
        Self { max_size, log, file: rest.max(FILE_LEAST) }
    }

    /// Pages that SQLite may use.
    pub(super) fn pages(self) -> u64 {
        self.file / PAGE + if self.file > FILE_LEAST { 0 } else { SPARE_PAGES }
    }
}

/// How full the file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of pages in use.
    pub bytes: u64,
    /// Bytes that pages in use may reach.
    pub limit: u64,
    /// Bytes on the disk: file and write-ahead log.
    pub on_disk: u64,
    /// Records that wait in the file.
    pub records: u64,
    /// Records set aside.
    pub aside: u64,
    /// Commits since the start.
    pub commits: u64,
    /// When the last commit was on the disk.
    pub synced: Option<Timestamp>,
    /// The disk has no room.
    pub is_disk_full: bool,
    /// No number above this may be given before a commit has raised it.
    pub ceiling: u64,
}

impl Store {
    /// How full the file is.
    pub fn usage(&mut self) -> Result<Usage, StoreError> {
        let records = self.count()?;
        let (pages, free) = self.attempt(pages)?;
        // On a full disk nothing grows: what the file has is all there is.
        let limit = if self.is_disk_full { (pages * PAGE).min(self.bounds.file) } else { self.bounds.file };
        Ok(Usage {
            bytes: pages.saturating_sub(free) * PAGE,
            limit,
            on_disk: pages * PAGE + self.log_size(),
            records,
            aside: self.aside,
            commits: self.commits,
            synced: self.synced,
            is_disk_full: self.is_disk_full,
            ceiling: self.ceiling,
        })
    }

    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        if let Some(records) = self.records {
            return Ok(records);
        }
        let counted = self.attempt(count)?;
        self.records = Some(counted);
        Ok(counted)
    }

    /// The room that one transaction may take in the log.
    pub(super) fn log_room(&self) -> u64 {
        if self.is_disk_full { LOG_LEAST } else { self.bounds.log }
    }

    fn log_size(&self) -> u64 {
        fs::metadata(self.log_path()).map_or(0, |found| found.len())
    }

    pub(super) fn log_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        path.into()
    }

    /// After a commit: folds the log in when it has grown.
    pub(super) fn tend(&mut self) {
        if self.is_taken_away() {
            // Nobody else has what this connection has: it is asked for that when the next use finds out.
            return;
        }
        let most = if self.is_disk_full { 0 } else { self.bounds.log / 2 };
        // Somebody deleted the log: the open connection still has it, and nobody else.
        let is_gone = !self.log_path().exists();
        if (is_gone || self.log_size() > most)
            && let Err(error) = self.fold()
        {
            // The commit is safe in the log; the next one tries again.
            tracing::debug!(%error, "the write-ahead log could not be folded in");
        }
        if is_gone {
            self.connection = None;
        }
    }

    /// Folds the whole log into the file, syncs that and cuts the log to nothing.
    pub(super) fn fold(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            return Ok(());
        }
        let folded = self.attempt(|connection| {
            connection.busy_timeout(FOLD_WAIT)?;
            let busy =
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            connection.busy_timeout(BUSY_TIMEOUT)?;
            busy
        })?;
        if folded {
            tracing::debug!("the write-ahead log waits for a reader of the buffer file");
        }
        Ok(())
    }

    /// When nothing is to be done: folds the log in and gives free pages back to the disk. `false`: there is more.
    pub fn tidy(&mut self) -> Result<bool, StoreError> {
        self.check_identity()?;
        let free = self.attempt(|connection| Ok(pages(connection)?.1))?;
        let is_shrunk = i64::try_from(free).unwrap_or(i64::MAX) <= FREE_PAGES;
        if !is_shrunk {
            self.attempt(|connection| {
                let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
                if mode == 2 {
                    connection.execute_batch(&format!("PRAGMA incremental_vacuum({SHRINK})"))
                } else if count(connection)? == 0 {
                    // Begun by version 1: only a rewrite brings it to give pages back.
                    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
                } else {
                    Ok(())
                }
            })?;
        }
        self.fold()?;
        let left = self.attempt(|connection| Ok(pages(connection)?.1))?;
        Ok(is_shrunk || left >= free)
    }

    pub(super) fn is_short_of_disk(&self) -> bool {
        self.reserve.free().is_some_and(|free| free < SHORT)
    }

    /// The disk is full: the reserve makes room for what frees room.
    pub(super) fn note_full_disk(&mut self) {
        if !self.is_disk_full {
            tracing::error!("the disk is full; the buffer makes room for new records by dropping old ones");
        }
        self.is_disk_full = true;
        self.reserve.give_up();
    }

    /// Before a batch: opens the file if need be, and sees whether a full disk has room again, or is short.
    pub(super) fn make_ready(&mut self) -> Result<(), StoreError> {
        self.connection()?;
        let Some(free) = self.reserve.free() else { return Ok(()) };
        if self.is_disk_full && free > 3 * SHORT {
            self.is_disk_full = false;
            tracing::info!("the disk has room again");
            self.reserve.keep();
        } else if !self.is_disk_full && free < SHORT {
            tracing::error!(
                "the disk is nearly full; the buffer makes room for new records by dropping old ones"
            );
            self.is_disk_full = true;
        }
        Ok(())
    }
}

/// Pages of the file, and how many of them are free.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let get = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let [pages, free] =
        [get("page_count")?, get("freelist_count")?].map(|number| u64::try_from(number).unwrap_or(0));
    Ok((pages, free))
}
