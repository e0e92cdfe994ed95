//! What other parts of the gateway keep over a restart.

use rusqlite::OptionalExtension as _;

use super::{Store, StoreError};

impl Store {
    /// Keeps a value under a key, in place of the one before; an empty value is forgotten.
    pub fn remember(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.transact(|tx| {
            if value.is_empty() {
                tx.execute("DELETE FROM remembered WHERE key = ?1", [key])?;
            } else {
                tx.execute("INSERT OR REPLACE INTO remembered VALUES (?1, ?2)", (key, value))?;
            }
            Ok(())
        })
    }

    /// The value under a key; empty when there is none.
    pub fn recall(&mut self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.attempt(|connection| {
            let found =
                connection.query_row("SELECT value FROM remembered WHERE key = ?1", [key], |row| row.get(0));
            Ok(found.optional()?.unwrap_or_default())
        })
    }
}
