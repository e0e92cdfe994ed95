//! What is not acknowledged yet: in memory for 250 ms, in the store after that.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::store::Request;
use crate::Result;

/// A record waits so long for its acknowledgement before it goes to the store.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// Polls without a rest wait while so many records are in memory.
const ROOM: usize = 256;
/// Stored records read at once.
const CHUNK: u32 = 256;

/// One message.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) device: u16,
    pub(super) body: Arc<[u8]>,
}

/// The records, shared by the polls, the publisher and the commits of one thread.
pub(super) struct Tail {
    /// The run, part of each message.
    pub(super) run: u64,
    inner: RefCell<Inner>,
    /// Something can be sent.
    pub(super) fresh: Notify,
    space: Notify,
}

#[derive(Default)]
struct Inner {
    seq: u64,
    /// In memory, not yet sent.
    waiting: VecDeque<(Instant, Record)>,
    /// Sent; without its record once that is stored.
    flying: BTreeMap<u64, Option<(Instant, Record)>>,
    /// Read from the store, not yet sent.
    loaded: VecDeque<Record>,
    /// The last number read from the store.
    cursor: u64,
    /// The store may hold more beyond the cursor.
    more: bool,
    /// Acknowledged but still in the store.
    acked: BTreeSet<u64>,
    /// Whose turn it is while both memory and store have something: half of what is sent is live.
    live: bool,
}

impl Tail {
    pub(super) fn new(run: u64) -> Self {
        Self { run, inner: RefCell::default(), fresh: Notify::new(), space: Notify::new() }
    }

    /// Numbers a message and keeps it.
    pub(super) fn append(&self, device: u16, body: Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        inner.seq += 1;
        let record = Record { seq: inner.seq, device, body: body.into() };
        inner.waiting.push_back((Instant::now(), record));
        self.fresh.notify_one();
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) {
        while self.inner.borrow().waiting.len() >= ROOM {
            self.space.notified().await;
        }
    }

    /// How many are sent and not acknowledged.
    pub(super) fn flying(&self) -> usize {
        self.inner.borrow().flying.len()
    }

    /// The next to be sent, if there is one in memory.
    pub(super) fn take(&self) -> Option<Record> {
        let mut inner = self.inner.borrow_mut();
        inner.live = !inner.live;
        if inner.loaded.is_empty() || (inner.live && !inner.waiting.is_empty()) {
            let (made, record) = inner.waiting.pop_front()?;
            inner.flying.insert(record.seq, Some((made, record.clone())));
            self.space.notify_waiters();
            return Some(record);
        }
        let record = inner.loaded.pop_front()?;
        inner.flying.insert(record.seq, None);
        Some(record)
    }

    /// It is acknowledged.
    pub(super) fn ack(&self, seq: u64) {
        let mut inner = self.inner.borrow_mut();
        if let Some(None) = inner.flying.remove(&seq) {
            inner.acked.insert(seq);
        }
    }

    /// The connection is lost: all that was sent and not acknowledged is sent again.
    pub(super) fn rewind(&self) {
        let mut inner = self.inner.borrow_mut();
        let flying = std::mem::take(&mut inner.flying);
        for record in flying.into_values().rev().flatten() {
            inner.waiting.push_front(record);
        }
        inner.loaded.clear();
        inner.cursor = 0;
        inner.more = true;
    }

    /// Reads more from the store when there is more and none of it waits to be sent.
    pub(super) async fn load(&self, store: &mpsc::UnboundedSender<Request>) -> Result<()> {
        let after = {
            let inner = self.inner.borrow();
            if !inner.more || !inner.loaded.is_empty() {
                return Ok(());
            }
            inner.cursor
        };
        let (rows, answer) = oneshot::channel();
        store.send(Request::Load { after, limit: CHUNK, rows })?;
        let rows = answer.await?;
        let mut inner = self.inner.borrow_mut();
        inner.more = rows.len() == CHUNK as usize;
        for record in rows {
            inner.cursor = record.seq;
            if !inner.flying.contains_key(&record.seq) && !inner.acked.contains(&record.seq) {
                inner.loaded.push_back(record);
            }
        }
        Ok(())
    }

    /// When the oldest record in memory was made.
    fn oldest(&self) -> Option<Instant> {
        let inner = self.inner.borrow();
        let flying = inner.flying.values().flatten().next();
        let waiting = inner.waiting.front();
        flying.into_iter().chain(waiting).map(|(made, _)| *made).min()
    }

    /// What is in memory.
    fn unstored(&self) -> Vec<Record> {
        let inner = self.inner.borrow();
        let flying = inner.flying.values().flatten();
        flying.chain(&inner.waiting).map(|(_, record)| record.clone()).collect()
    }

    /// They are on the disk: memory lets go of them.
    fn stored(&self, records: &[Record]) {
        let mut inner = self.inner.borrow_mut();
        let Inner { flying, waiting, acked, more, .. } = &mut *inner;
        let mut stored: BTreeSet<u64> = records.iter().map(|record| record.seq).collect();
        waiting.retain(|(_, record)| {
            let gone = stored.remove(&record.seq);
            *more |= gone;
            !gone
        });
        for seq in stored {
            match flying.get_mut(&seq) {
                Some(record) => *record = None,
                None => drop(acked.insert(seq)), // acknowledged while it was being written
            }
        }
        if *more {
            self.fresh.notify_one();
        }
        self.space.notify_waiters();
    }
}

/// Commits, for ever, what memory has held for too long; deletes what was acknowledged since.
pub(super) async fn commit(tail: Rc<Tail>, store: mpsc::UnboundedSender<Request>) -> Result<()> {
    loop {
        let due = tail.oldest().unwrap_or_else(Instant::now) + COMMIT_EVERY;
        sleep_until(due).await;
        let acked: Vec<u64> = tail.inner.borrow().acked.iter().copied().collect();
        let late = tail.oldest().is_some_and(|made| made.elapsed() >= COMMIT_EVERY);
        if !late && acked.is_empty() {
            continue;
        }
        let records = if late { tail.unstored() } else { Vec::new() };
        let (done, finished) = oneshot::channel();
        store.send(Request::Commit { records: records.clone(), acked: acked.clone(), done })?;
        finished.await?;
        let mut inner = tail.inner.borrow_mut();
        inner.acked.retain(|seq| acked.binary_search(seq).is_err());
        drop(inner);
        tail.stored(&records);
    }
}
