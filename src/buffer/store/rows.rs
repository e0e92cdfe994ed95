//! Records as rows.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::clock::Timestamp;
use crate::record::{Name, Numbered, Record, RecordKind, Topic};

/// Inserts, and says how many rows of the same name it replaced (only events grow).
pub(super) fn put(tx: &rusqlite::Transaction<'_>, insert: &[Numbered]) -> rusqlite::Result<usize> {
    let events = insert.iter().filter(|numbered| numbered.record.kind == RecordKind::Event);
    let replaced = remove(tx, events.map(|numbered| &numbered.name))?;
    let mut statement =
        tx.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for Numbered { name, record } in insert {
        let kind = match record.kind {
            RecordKind::Reply => 0,
            RecordKind::Event => 1,
            RecordKind::Readings => 2,
        };
        statement.execute(params![
            to_sql(name.run),
            to_sql(name.seq),
            kind,
            record.topic.to_string(),
            &record.body[..],
            record.correlation.as_deref(),
            record.made.millis(),
        ])?;
    }
    Ok(replaced)
}

pub(super) fn remove<'a>(
    tx: &rusqlite::Transaction<'_>,
    names: impl IntoIterator<Item = &'a Name>,
) -> rusqlite::Result<usize> {
    let mut statement = tx.prepare_cached("DELETE FROM records WHERE run = ?1 AND seq = ?2")?;
    names.into_iter().map(|name| statement.execute([to_sql(name.run), to_sql(name.seq)])).sum()
}

pub(super) fn select(
    connection: &Connection,
    tail: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Numbered>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT run, seq, kind, topic, body, correlation, made FROM records {tail}"
    ))?;
    let rows = statement.query_map(params, |row| {
        let topic: String = row.get(3)?;
        let record = Record {
            kind: match row.get(2)? {
                0 => RecordKind::Reply,
                1 => RecordKind::Event,
                _ => RecordKind::Readings,
            },
            // A topic this version cannot read is still sent, as an event, so that no seq goes missing.
            topic: Topic::parse(&topic).unwrap_or(Topic::Event),
            body: row.get::<_, Vec<u8>>(4)?.into(),
            correlation: row.get::<_, Option<Vec<u8>>>(5)?.map(Arc::from),
            made: Timestamp::from_millis(row.get(6)?),
        };
        Ok(Numbered { name: name(row)?, record })
    })?;
    rows.collect()
}

pub(super) fn name(row: &Row<'_>) -> rusqlite::Result<Name> {
    let [run, seq] = [row.get::<_, i64>(0)?, row.get(1)?].map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Name { run, seq })
}

pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let records: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    Ok(u64::try_from(records).unwrap_or(0))
}

/// SQLite's integers are signed; runs and seqs stay far below the sign.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
