//! A thorough look at a buffer file, on a connection of its own.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::is_corrupt;
use super::settle::leave_log_alone;
use super::space::BUSY_TIMEOUT;

/// Most faults told.
const FAULTS: usize = 20;

/// What is wrong with the structure of the file; nothing, when it is whole or cannot be read now. Reads all of it.
#[must_use]
pub fn faults(path: &Path) -> Vec<String> {
    look(path).unwrap_or_else(|error| {
        // A file that is busy, or a process without another file handle, is no damage.
        if is_corrupt(&error) {
            return vec![error.to_string()];
        }
        tracing::warn!(%error, "the buffer file could not be looked through");
        Vec::new()
    })
}

fn look(path: &Path) -> rusqlite::Result<Vec<String>> {
    // Not read-only: a log that is there has to be read with it, and that needs an index in shared memory.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    leave_log_alone(&connection)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({FAULTS})"))?;
    let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}
