//! Is the file whole?

use super::{Visit, VisitError};

/// Most faults told.
const FAULTS: usize = 20;

impl Visit {
    /// What is wrong with the structure of the file, its indexes included; nothing, when it is whole. Reads all of
    /// it in one go. Bodies have checksums of their own, which [`Visit::page`] looks at.
    pub fn faults(&self) -> Result<Vec<String>, VisitError> {
        let found = self.attempt(|connection| {
            let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FAULTS})"))?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        match found {
            Ok(found) => Ok(found.into_iter().filter(|line| line != "ok").collect()),
            // So badly that not even the check comes through.
            Err(VisitError::Damaged { error, .. }) => Ok(vec![error]),
            Err(error) => Err(error),
        }
    }
}
