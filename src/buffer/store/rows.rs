//! Records as rows.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{Aside, Loaded};
use crate::clock::{Moment, Timestamp};
use crate::record::{Name, Numbered, Record, RecordKind, Topic};

/// Sixteen bytes a step: the sum must not cost more than the insert.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// The columns of a record, as [`read`] takes them.
pub(super) const COLUMNS: &str = "run, seq, kind, topic, body, correlation, made, uptime, synced, crc";

/// When so many and no others are in the file, they are deleted all at once: pages that are emptied row by row are
/// written first.
const ALL_FROM: usize = 64;

/// A row, read. `Err`: it was damaged in the file.
pub(super) type Read = Result<Numbered, Name>;

/// Inserts, or replaces what has the same name; says how many events and replies it replaced, the only records whose
/// text changes after their commit.
pub(super) fn put<'a>(
    tx: &Transaction<'_>,
    insert: impl IntoIterator<Item = &'a Numbered> + Clone,
) -> rusqlite::Result<usize> {
    let changed = insert.clone().into_iter().filter(|numbered| numbered.record.kind != RecordKind::Readings);
    let replaced = remove(tx, changed.map(|numbered| &numbered.name))?;
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO records (run, seq, kind, topic, body, correlation, made, uptime, synced, crc) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for numbered in insert {
        let Numbered { name, record } = numbered;
        let topic = record.topic.to_string();
        let crc = checksum(*name, kind_number(record.kind), &topic, record);
        statement.execute(params![
            to_sql(name.run),
            to_sql(name.seq),
            kind_number(record.kind),
            topic,
            &record.body[..],
            record.correlation.as_deref(),
            record.made.wall.millis(),
            record.made.uptime,
            record.made.synced,
            crc,
        ])?;
    }
    Ok(replaced)
}

/// Keeps a record apart: as it is in memory, or as it is in the file.
pub(super) fn put_aside(tx: &Transaction<'_>, aside: &[Aside], now: i64) -> rusqlite::Result<()> {
    put(tx, aside.iter().filter_map(|aside| aside.numbered.as_ref()))?;
    let mut copy = tx.prepare_cached(&format!(
        "INSERT OR REPLACE INTO aside SELECT {COLUMNS}, ?3, ?4 FROM records WHERE run = ?1 AND seq = ?2"
    ))?;
    for Aside { name, reason, .. } in aside {
        copy.execute(params![to_sql(name.run), to_sql(name.seq), reason, now])?;
    }
    remove(tx, aside.iter().map(|aside| &aside.name))?;
    Ok(())
}

/// Deletes by name, and says how many were there. Numbers that follow one another go together: the file is searched
/// once for all of them.
pub(super) fn remove<'a>(
    tx: &Transaction<'_>,
    names: impl IntoIterator<Item = &'a Name>,
) -> rusqlite::Result<usize> {
    let mut names: Vec<Name> = names.into_iter().copied().collect();
    names.sort_unstable();
    names.dedup();
    if names.len() >= ALL_FROM && is_all(tx, &names)? {
        return tx.prepare_cached("DELETE FROM records")?.execute([]);
    }
    let mut statement = tx.prepare_cached("DELETE FROM records WHERE run = ?1 AND seq BETWEEN ?2 AND ?3")?;
    let ranges = names.chunk_by(|one, next| one.run == next.run && next.seq - one.seq == 1);
    let ends = ranges.filter_map(|range| Some((range.first()?, range.last()?)));
    ends.map(|(first, last)| statement.execute([first.run, first.seq, last.seq].map(to_sql))).sum()
}

/// The file holds these records, in order, and no other.
fn is_all(tx: &Transaction<'_>, names: &[Name]) -> rusqlite::Result<bool> {
    let mut newest = tx.prepare_cached("SELECT run, seq FROM records ORDER BY run DESC, seq DESC LIMIT 1")?;
    if newest.query_row([], name).optional()?.as_ref() != names.last() {
        return Ok(false);
    }
    let mut statement = tx.prepare_cached("SELECT run, seq FROM records ORDER BY run, seq")?;
    let mut rows = statement.query([])?;
    for expected in names {
        if rows.next()?.map(name).transpose()? != Some(*expected) {
            return Ok(false);
        }
    }
    Ok(rows.next()?.is_none())
}

/// Reads the records that `tail` picks.
pub(super) fn select(
    connection: &Connection,
    tail: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Read>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM records {tail}"))?;
    let rows = statement.query_map(params, read)?;
    rows.collect()
}

/// Reads the records after `after`, oldest first, up to a limit and until their bodies reach so many bytes.
pub(super) fn load(
    connection: &Connection,
    after: Name,
    limit: usize,
    bytes: usize,
) -> rusqlite::Result<Loaded> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM records WHERE (run, seq) > (?1, ?2) ORDER BY run, seq LIMIT ?3"
    ))?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query([to_sql(after.run), to_sql(after.seq), most])?;
    let (mut loaded, mut size) = (Loaded::default(), 0);
    while let Some(row) = rows.next()? {
        match read(row)? {
            Ok(numbered) => {
                loaded.last = Some(numbered.name);
                size += numbered.record.body.len();
                loaded.records.push(numbered);
            }
            Err(name) => {
                loaded.last = Some(name);
                loaded.damaged.push(name);
            }
        }
        loaded.is_cut = size >= bytes || loaded.records.len() + loaded.damaged.len() >= limit;
        if loaded.is_cut {
            break;
        }
    }
    Ok(loaded)
}

/// One row with the columns [`COLUMNS`]. What does not bear its checksum is damaged: SQLite would not notice a
/// changed digit in a body, and nobody may believe one.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Read> {
    let name = name(row)?;
    let parts = || -> rusqlite::Result<_> {
        let (kind, topic): (i64, String) = (row.get(2)?, row.get(3)?);
        let record = Record {
            kind: match kind {
                0 => RecordKind::Reply,
                1 => RecordKind::Event,
                _ => RecordKind::Readings,
            },
            // A topic this version cannot read is still sent, as an event, so that no number goes missing.
            topic: Topic::parse(&topic).unwrap_or(Topic::Event),
            body: row.get(4)?,
            correlation: row.get(5)?,
            made: Moment {
                wall: Timestamp::from_millis(row.get(6)?),
                uptime: row.get(7)?,
                synced: row.get(8)?,
            },
        };
        let crc: Option<u32> = row.get(9)?;
        let is_whole = crc.is_none_or(|crc| crc == checksum(name, kind, &topic, &record));
        Ok(is_whole.then_some(record))
    };
    match parts() {
        Ok(Some(record)) => Ok(Ok(Numbered { name, record })),
        // Or a column of another type than was written.
        Ok(None)
        | Err(
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::Utf8Error(..),
        ) => Ok(Err(name)),
        Err(error) => Err(error),
    }
}

/// The name, from the first two columns.
pub(super) fn name(row: &Row<'_>) -> rusqlite::Result<Name> {
    let [run, seq] = [row.get::<_, i64>(0)?, row.get(1)?].map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Name { run, seq })
}

/// How many records the file has.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let records: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    Ok(u64::try_from(records).unwrap_or(0))
}

/// SQLite's integers are signed; runs and numbers stay far below the sign.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn kind_number(kind: RecordKind) -> i64 {
    match kind {
        RecordKind::Reply => 0,
        RecordKind::Event => 1,
        RecordKind::Readings => 2,
    }
}

fn checksum(name: Name, kind: i64, topic: &str, record: &Record) -> u32 {
    let mut digest = CRC.digest();
    let made = record.made;
    for number in [
        to_sql(name.run),
        to_sql(name.seq),
        kind,
        made.wall.millis(),
        made.uptime,
        i64::from(made.synced),
        i64::try_from(topic.len()).unwrap_or(i64::MAX),
        record.correlation.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)),
    ] {
        digest.update(&number.to_le_bytes());
    }
    digest.update(topic.as_bytes());
    digest.update(record.correlation.as_deref().unwrap_or_default());
    digest.update(&record.body);
    digest.finalize()
}
