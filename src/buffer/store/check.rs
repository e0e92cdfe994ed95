//! A thorough look at a buffer file, on a connection of its own.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::space::BUSY_TIMEOUT;

/// Most faults told.
const FAULTS: usize = 20;

/// What is wrong with the structure of the file; nothing, when it is whole. Reads all of it.
#[must_use]
pub fn faults(path: &Path) -> Vec<String> {
    look(path).unwrap_or_else(|error| vec![error.to_string()])
}

fn look(path: &Path) -> rusqlite::Result<Vec<String>> {
    // Not read-only: a log that is there has to be read with it, and that needs an index in shared memory.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({FAULTS})"))?;
    let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}
