//! The same rows through rusqlite alone: the tables, the settings and the sizes of the transactions are the
//! buffer's; there is no queue, no checksum, no bound and no other thread.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, Transaction, params};

use super::{DELETE, LOAD, Load, Pass, Passes, body};
use crate::Result;

/// The buffer's tables.
const TABLES: [&str; 2] =
    [include_str!("../../../src/buffer/schema/1.sql"), include_str!("../../../src/buffer/schema/2.sql")];
/// The log is folded into the file at the size at which the buffer does it: 8 MiB in pages.
const LOG_PAGES: u32 = 2_048;
const RUN: i64 = 1_772_366_400;

/// A row as it is read.
struct Row {
    seq: i64,
    _topic: String,
    _body: Vec<u8>,
    _made: (i64, i64, bool, u32),
}

/// All passes, each with a file opened for it.
pub(super) fn measure(load: Load, folder: &Path) -> Result<Passes> {
    let online = pass(&folder.join("online.db"), |connection| online(connection, load))?;
    let fill = pass(&folder.join("backlog.db"), |connection| fill(connection, load))?;
    let drain = pass(&folder.join("backlog.db"), |connection| drain(connection, load))?;
    Ok(Passes { online, fill, drain })
}

fn pass(path: &Path, work: impl FnOnce(&mut Connection) -> Result<()>) -> Result<Pass> {
    let mut connection = open(path)?;
    let (before, begun) = (written()?, Instant::now());
    work(&mut connection)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(Pass { seconds: begun.elapsed().as_secs_f64(), written: written()? - before })
}

fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES}"), [], |_| Ok(()))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        for step in TABLES {
            connection.execute_batch(step)?;
        }
    }
    Ok(connection)
}

/// The broker keeps up: each batch is read back, and deleted with the insertion of the next.
fn online(connection: &mut Connection, load: Load) -> Result<()> {
    let mut seqs = Vec::new();
    let mut from = 0;
    while from < load.records || !seqs.is_empty() {
        let to = (from + u32::try_from(DELETE)?).min(load.records);
        let tx = connection.transaction()?;
        remove(&tx, &seqs)?;
        insert(&tx, load, from..to)?;
        tx.commit()?;
        seqs.clear();
        while let rows = read(connection, seqs.last().copied().unwrap_or(i64::from(from)))?
            && !rows.is_empty()
        {
            seqs.extend(rows.iter().map(|row| row.seq));
        }
        from = to;
    }
    Ok(())
}

fn fill(connection: &mut Connection, load: Load) -> Result<()> {
    let mut from = 0;
    while from < load.records {
        let to = (from + u32::try_from(load.batch())?).min(load.records);
        let tx = connection.transaction()?;
        insert(&tx, load, from..to)?;
        tx.commit()?;
        from = to;
    }
    Ok(())
}

fn drain(connection: &mut Connection, load: Load) -> Result<()> {
    let (mut after, last) = (0, i64::from(load.records));
    let mut seqs = Vec::new();
    while after < last {
        let rows = read(connection, after)?;
        after = rows.last().ok_or("rows are missing")?.seq;
        seqs.extend(rows.iter().map(|row| row.seq));
        if seqs.len() >= DELETE || after == last {
            let tx = connection.transaction()?;
            remove(&tx, &seqs)?;
            tx.commit()?;
            seqs.clear();
        }
    }
    Ok(())
}

fn insert(tx: &Transaction<'_>, load: Load, numbers: std::ops::Range<u32>) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO records (run, seq, kind, topic, body, correlation, made, uptime, synced, crc) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for number in numbers {
        let (seq, crc) = (i64::from(number) + 1, number.wrapping_mul(0x9e37_79b9));
        let made = 1_772_366_400_000 + seq;
        let body = body(number, load.body);
        let none = None::<&[u8]>;
        statement.execute(params![RUN, seq, 2, "readings/d0", body, none, made, made / 2, true, crc])?;
    }
    Ok(())
}

fn read(connection: &Connection, after: i64) -> Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(
        "SELECT run, seq, kind, topic, body, correlation, made, uptime, synced, crc FROM records \
         WHERE (run, seq) > (?1, ?2) ORDER BY run, seq LIMIT ?3",
    )?;
    let rows = statement.query_map([RUN, after, i64::try_from(LOAD)?], |row| {
        let made = (row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?);
        Ok(Row { seq: row.get(1)?, _topic: row.get(3)?, _body: row.get(4)?, _made: made })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn remove(tx: &Transaction<'_>, seqs: &[i64]) -> Result<()> {
    let mut statement = tx.prepare_cached("DELETE FROM records WHERE run = ?1 AND seq = ?2")?;
    for seq in seqs {
        statement.execute([RUN, *seq])?;
    }
    Ok(())
}

/// Bytes that this thread has given to the disk.
fn written() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).ok_or("no wchar")?;
    Ok(line.trim().parse()?)
}
