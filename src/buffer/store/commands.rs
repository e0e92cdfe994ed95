//! The journal of commands as rows.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};

use super::rows::{put, to_sql};
use super::{Batch, Store, StoreError, Usage};
use crate::buffer::journal::{Begin, Begun, CommandKey, Unfinished};
use crate::clock::Timestamp;
use crate::record::{Numbered, Topic};

/// Ids of commands are kept this long ...
const JOURNAL_AGE_MS: i64 = 30 * 24 * 3600 * 1000;
/// ... and at most this many.
const JOURNAL_LENGTH: u64 = 10_000;

impl Store {
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
            tx.prepare_cached("INSERT INTO commands VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)")?.execute(
                params![
                    begin.key.topic(),
                    begin.key.id,
                    begin.digest,
                    now,
                    begin.action,
                    begin.reply.to_string(),
                    begin.correlation.as_deref(),
                ],
            )?;
            forget_old_commands(tx, now)?;
            Ok(Begun::Fresh)
        })
    }

    /// Stores the outcome of a command (`None`: takes it out of the journal again) together with its reply, then
    /// everything else that waits.
    pub fn finish(
        &mut self,
        key: &CommandKey,
        outcome: Option<&[u8]>,
        reply: &Numbered,
        batch: &Batch,
    ) -> Result<Usage, StoreError> {
        self.make_ready()?;
        self.transact(|tx| {
            put(tx, [reply])?;
            match outcome {
                Some(outcome) => tx
                    .prepare_cached("UPDATE commands SET outcome = ?3 WHERE topic = ?1 AND id = ?2")?
                    .execute(params![key.topic(), key.id, outcome]),
                None => tx
                    .prepare_cached("DELETE FROM commands WHERE topic = ?1 AND id = ?2")?
                    .execute([key.topic(), &key.id]),
            }
        })?;
        self.records = self.records.map(|records| records + 1);
        self.write(batch)
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
