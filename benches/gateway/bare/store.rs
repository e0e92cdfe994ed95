//! The database file, on a thread of its own.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use super::tail::Record;
use crate::Result;

/// What the thread is asked.
pub(super) enum Request {
    /// Deletes `acked` and inserts `records`, in one synced transaction.
    Commit { records: Vec<Record>, acked: Vec<u64>, done: oneshot::Sender<()> },
    /// The oldest records after the number `after`, at most so many.
    Load { after: u64, limit: u32, rows: oneshot::Sender<Vec<Record>> },
}

/// Opens the file and starts the thread. It ends with its last sender, or at the first error.
pub(super) fn open(path: &Path) -> Result<mpsc::UnboundedSender<Request>> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection
        .execute_batch("CREATE TABLE record (seq INTEGER PRIMARY KEY, device INTEGER, body BLOB) STRICT")?;
    let (requests, mut inbox) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("store".into()).spawn(move || {
        while let Some(request) = inbox.blocking_recv() {
            serve(&mut connection, request)?;
        }
        Ok::<(), rusqlite::Error>(())
    })?;
    Ok(requests)
}

fn serve(connection: &mut Connection, request: Request) -> rusqlite::Result<()> {
    match request {
        Request::Commit { records, acked, done } => {
            let transaction = connection.transaction()?;
            {
                let mut delete = transaction.prepare_cached("DELETE FROM record WHERE seq = ?1")?;
                for seq in acked {
                    delete.execute([seq.cast_signed()])?;
                }
                let mut insert = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
                for record in records {
                    insert.execute(params![record.seq.cast_signed(), record.device, &record.body[..]])?;
                }
            }
            transaction.commit()?;
            // Nobody waiting any more means that the pipeline is ending.
            done.send(()).ok();
        }
        Request::Load { after, limit, rows } => {
            let mut query = connection.prepare_cached(
                "SELECT seq, device, body FROM record WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let found = query.query_map(params![after.cast_signed(), limit], |row| {
                Ok(Record {
                    seq: row.get::<_, i64>(0)?.cast_unsigned(),
                    device: row.get(1)?,
                    body: Arc::from(row.get::<_, Vec<u8>>(2)?),
                })
            })?;
            rows.send(found.collect::<rusqlite::Result<_>>()?).ok();
        }
    }
    Ok(())
}
