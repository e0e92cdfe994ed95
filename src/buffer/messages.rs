//! What the buffer can be asked. Handlers are short and never wait; what takes time is answered later.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::journal::{Begin, Begun, Finish, Unfinished};
use super::{Buffer, JournalJob};
use crate::clock::Timestamp;
use crate::record::{self, Name, Numbered, Record};

/// Commands that may wait for the journal: as many as Commands runs at a time, twice.
const JOURNAL_WAITING: usize = 64;

/// Keeps a record. Answered at once with its name; never waits.
#[derive(Debug, Message)]
#[rtype(result = "Name")]
pub struct Append(pub Record);

/// Takes up to `limit` records; answered as soon as there is one.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Numbered>")]
pub struct Take {
    /// Most records, at least 1.
    pub limit: usize,
}

/// The broker has these; they may be forgotten.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ack(pub Vec<Name>);

/// The broker will never take this record: it is kept apart, and an event says so.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetAside {
    /// Its name.
    pub name: Name,
    /// Why.
    pub reason: String,
    /// An event tells it. Of a refused event the log alone does, or it would bring forth the next one.
    pub tell: bool,
}

/// A new connection begins: what was handed out and not acknowledged is taken again. Answered with the newest
/// name there is: everything up to it was made before this connection.
#[derive(Debug, Message)]
#[rtype(result = "Name")]
pub struct Rewind;

/// Asks the journal whether a command may start. `Err`: it could not be entered, so it must not start.
#[derive(Debug, Message)]
#[rtype(result = "Result<Begun, NotStored>")]
pub struct BeginCommand(pub Begin);

/// Stores a command's outcome; answered once it is synced, and the reply is on its way then.
#[derive(Debug, Message)]
#[rtype(result = "Result<Name, NotStored>")]
pub struct FinishCommand(pub Finish);

/// Asks for the commands that an earlier run left open.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Unfinished>, NotStored>")]
pub struct ListUnfinished;

/// Asks for numbers. An answer proves that the actor lives; `busy_for` tells of its store thread.
#[derive(Debug, Message)]
#[rtype(result = "Stats")]
pub struct GetStats;

/// Commits what is left and closes the file.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

/// The journal could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct NotStored(pub String);

/// The buffer in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records in the file, acknowledged ones that are not deleted yet among them.
    pub stored: u64,
    /// Records set aside.
    pub aside: u64,
    /// Bytes of the file in use.
    pub bytes: u64,
    /// Bytes of the file and its log on the disk.
    pub on_disk: u64,
    /// Bytes written to the disk since the start; `None` where the system does not count them.
    pub written: Option<u64>,
    /// Records in memory that are not in the file.
    pub waiting: usize,
    /// Records handed to Uplink and not acknowledged.
    pub in_flight: usize,
    /// How long the records in the file will take at the present pace, while they get fewer.
    pub eta: Option<Duration>,
    /// Records dropped since the start, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Records that the broker had before they were written.
    pub elided: u64,
    /// Commits since the start.
    pub commits: u64,
    /// When the last commit was on the disk.
    pub synced: Option<Timestamp>,
    /// The disk has no room.
    pub is_disk_full: bool,
    /// How long the store thread has been at its present work.
    pub busy_for: Duration,
    /// Why the last commit failed, while it does.
    pub fault: Option<String>,
}

/// The store thread may be at one piece of work so long; after that the disk hangs.
const STUCK: Duration = Duration::from_secs(10);

impl Stats {
    /// The disk gives no answer.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.busy_for >= STUCK
    }

    /// As a person who asks for the status reads it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "stored": self.stored,
            "waiting": self.waiting,
            "in_flight": self.in_flight,
            "set_aside": self.aside,
            "eta_s": self.eta.map(|eta| eta.as_secs()),
            "bytes": self.bytes,
            "on_disk_bytes": self.on_disk,
            "written_bytes": self.written,
            "commits": self.commits,
            "elided": self.elided,
            "last_sync": self.synced.map(|synced| synced.to_string()),
            "disk_full": self.is_disk_full,
            "dropped": self.dropped,
            "fault": self.fault,
        })
    }
}

impl Handler<Append> for Buffer {
    type Result = MessageResult<Append>;

    fn handle(&mut self, Append(record): Append, ctx: &mut Context<Self>) -> Self::Result {
        let name = self.queue.append(record);
        self.tell_gaps();
        self.pump(ctx);
        MessageResult(name)
    }
}

impl Handler<Take> for Buffer {
    type Result = ResponseFuture<Vec<Numbered>>;

    fn handle(&mut self, Take { limit }: Take, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, asked) = oneshot::channel();
        self.taker = Some((limit.max(1), answer));
        self.pump(ctx);
        Box::pin(async move { asked.await.unwrap_or_default() })
    }
}

impl Handler<Ack> for Buffer {
    type Result = ();

    fn handle(&mut self, Ack(names): Ack, ctx: &mut Context<Self>) {
        self.queue.ack(&names);
        self.pump(ctx);
    }
}

impl Handler<SetAside> for Buffer {
    type Result = ();

    fn handle(&mut self, SetAside { name, reason, tell }: SetAside, ctx: &mut Context<Self>) {
        if self.queue.set_aside(name, &reason) && tell {
            let lost = serde_json::json!({ "run": name.run, "from": name.seq, "to": name.seq });
            self.queue.append(record::event("set-aside", self.clock.now(), |body| {
                body.with("lost", &lost).with("reason", &reason)
            }));
        }
        self.pump(ctx);
    }
}

impl Handler<Rewind> for Buffer {
    type Result = MessageResult<Rewind>;

    fn handle(&mut self, _: Rewind, _: &mut Context<Self>) -> Self::Result {
        self.taker = None;
        MessageResult(self.queue.rewind())
    }
}

impl Handler<BeginCommand> for Buffer {
    type Result = ResponseFuture<Result<Begun, NotStored>>;

    fn handle(&mut self, BeginCommand(begin): BeginCommand, ctx: &mut Context<Self>) -> Self::Result {
        self.enqueue(ctx, |answer| JournalJob::Begin(begin, answer))
    }
}

impl Handler<FinishCommand> for Buffer {
    type Result = ResponseFuture<Result<Name, NotStored>>;

    fn handle(&mut self, FinishCommand(finish): FinishCommand, ctx: &mut Context<Self>) -> Self::Result {
        let reply = Numbered { name: self.queue.number(), record: finish.reply.clone() };
        self.enqueue(ctx, |answer| JournalJob::Finish(finish, reply, answer))
    }
}

impl Handler<ListUnfinished> for Buffer {
    type Result = ResponseFuture<Result<Vec<Unfinished>, NotStored>>;

    fn handle(&mut self, _: ListUnfinished, ctx: &mut Context<Self>) -> Self::Result {
        self.enqueue(ctx, JournalJob::List)
    }
}

impl Buffer {
    pub(super) fn enqueue<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        job: impl FnOnce(oneshot::Sender<Result<T, NotStored>>) -> JournalJob,
    ) -> ResponseFuture<Result<T, NotStored>> {
        let (answer, asked) = oneshot::channel();
        let job = job(answer);
        // A finish always gets in: its command has run, and Commands bounds how many there are.
        if self.journal.len() < JOURNAL_WAITING || matches!(job, JournalJob::Finish(..)) {
            self.journal.push_back(job);
        }
        self.pump(ctx);
        let full = || Err(NotStored(format!("{JOURNAL_WAITING} commands wait for it")));
        Box::pin(async move { asked.await.unwrap_or_else(|_| full()) })
    }
}

impl Handler<GetStats> for Buffer {
    type Result = MessageResult<GetStats>;

    fn handle(&mut self, _: GetStats, _: &mut Context<Self>) -> Self::Result {
        let usage = &self.usage;
        MessageResult(Stats {
            stored: usage.records,
            aside: usage.aside,
            bytes: usage.bytes,
            on_disk: usage.on_disk,
            written: written(self.thread_id),
            waiting: self.queue.waiting(),
            in_flight: self.queue.in_flight(),
            eta: self.progress.eta(usage.records),
            dropped: self.queue.gaps.dropped().clone(),
            elided: self.queue.elided(),
            commits: usage.commits,
            synced: usage.synced,
            is_disk_full: usage.is_disk_full,
            busy_for: self.busy_since.map_or(Duration::ZERO, |since| since.elapsed()),
            fault: self.fault.clone(),
        })
    }
}

/// Bytes that a thread of this process has given to the disk (proc(5), `/proc/pid/task/tid/io`).
fn written(thread: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}

impl Handler<Close> for Buffer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, closed) = oneshot::channel();
        self.closing = Some(answer);
        // One last try, whatever failed before.
        self.retry_at = None;
        self.pump(ctx);
        Box::pin(async move {
            // An error means that the actor has stopped, and then the file is closed too.
            closed.await.unwrap_or_default();
        })
    }
}
