//! The schema: a file of any older version is brought up to date in one transaction.

use rusqlite::{Connection, TransactionBehavior};

/// What each version adds to the one before, from 1.
const STEPS: [&str; VERSION.cast_unsigned() as usize] =
    [include_str!("../schema/1.sql"), include_str!("../schema/2.sql"), include_str!("../schema/3.sql")];

/// The version of the file's schema (`PRAGMA user_version`).
pub(super) const VERSION: i32 = 3;

/// The version of a file; 0 is an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// It is a database, but none that this program has begun.
pub(super) fn is_foreign(connection: &Connection) -> rusqlite::Result<bool> {
    let has = |what: &str| {
        let query = format!("SELECT EXISTS (SELECT 1 FROM sqlite_schema {what})");
        connection.query_row(&query, [], |row| row.get::<_, bool>(0))
    };
    if version(connection)? == 0 { has("") } else { Ok(!has("WHERE type = 'table' AND name = 'records'")?) }
}

/// Runs the steps that are missing. A kill in the middle leaves the old version whole.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found = version(connection)?;
    if found == VERSION {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let found = usize::try_from(version(&tx)?).unwrap_or(0);
    for step in STEPS.iter().skip(found) {
        tx.execute_batch(step)?;
    }
    tx.execute_batch(&format!("PRAGMA user_version = {VERSION}"))?;
    tx.commit()
}
