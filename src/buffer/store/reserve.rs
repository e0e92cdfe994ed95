//! A file that is given up when the disk is full: SQLite needs room to make room, because a deletion too is
//! written to its log first.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Most bytes kept free for that.
const MOST: u64 = 4 << 20;
/// Less than this is of no use.
const LEAST: u64 = 64 << 10;
/// It takes at most this part of what is free, and of `max_size`.
const SHARE: u64 = 16;

/// The reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    most: u64,
}

impl Reserve {
    pub(super) fn new(path: PathBuf, max_size: u64) -> Self {
        Self { path, most: MOST.min(max_size / SHARE) }
    }

    /// Makes it, unless it is there. Without it the gateway runs all the same.
    pub(super) fn keep(&self) {
        let size = self.most.min(self.free().unwrap_or(0) / SHARE);
        if size < LEAST || fs::metadata(&self.path).is_ok_and(|found| found.len() > 0) {
            return;
        }
        let made =
            File::create(&self.path).and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, size)?));
        if let Err(error) = made {
            tracing::debug!(%error, "no reserve is kept for a full disk");
            self.give_up();
        }
    }

    /// Gives its room to the disk.
    pub(super) fn give_up(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "there is no reserve");
        }
    }

    /// Bytes free on its disk; nothing where the system does not say.
    pub(super) fn free(&self) -> Option<u64> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = statvfs(folder.unwrap_or(std::path::Path::new("."))).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}
