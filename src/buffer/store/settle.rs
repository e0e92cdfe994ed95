//! What a new connection must not take for granted.
//!
//! The kernel reports a failed sync once. Then it counts the pages that it could not write as written: they read
//! well until the power goes, and the next sync succeeds without them. A commit that failed that way lies in the
//! write-ahead log, and whoever opens the file takes it for good. So a new connection first writes the whole log
//! to the disk again, and syncs the folder, because SQLite does not ask whether that sync succeeded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::StoreError;
use super::open::sync_folder;

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// Before anything else: closing the connection must not fold in a log that was not settled.
pub(super) fn leave_log_alone(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// After an orderly end nothing is left to settle, and the empty log may go.
pub(super) fn let_log_go(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// Brings to the disk what the log holds, and the names of the files.
pub(super) fn settle(connection: &Connection, path: &Path, log: &Path) -> Result<(), StoreError> {
    // Other programs may write to the file, but not now.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let settled = write_again(log)
        .map_err(|error| StoreError::File { path: log.to_owned(), error })
        .and_then(|()| sync_folder(path).map_err(|error| StoreError::File { path: path.to_owned(), error }));
    connection.execute_batch("ROLLBACK")?;
    settled
}

/// Writes every byte over itself: that alone makes the kernel write it out.
fn write_again(log: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut piece, at)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        file.write_all_at(bytes, at)?;
        at += u64::try_from(read).unwrap_or(0);
    }
    if at == 0 { Ok(()) } else { file.sync_all() }
}
