//! The buffer: numbers every record at once, keeps it until the broker has it.
//!
//! [`Queue`] knows which record is where, [`store`] owns the file on a thread of its own, and this actor moves
//! records between them: it sends the store one message at a time and lets the queue grow meanwhile, up to
//! its bound. [`Append`] therefore never waits for a disk. While the broker acknowledges within
//! `commit_every`, nothing is written at all.

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::config::BufferConfig;
use crate::record::{self, Name, Numbered, Record};

pub mod gap;
pub mod journal;
pub mod queue;
pub mod store;
mod thread;

use journal::{Begin, Begun, Finish, Unfinished};
use queue::Queue;
use store::{Opened, StoreError, Usage};
use thread::{Done, Job, StoreThread};

/// Records loaded from the file at a time: a few windows of publishes.
const LOAD: usize = 256;
/// Acknowledged records stay in the file at most this long, to be deleted with the next insert ...
const DELETE_WITHIN: Duration = Duration::from_secs(1);
/// ... or until so many of them wait.
const DELETE_MANY: usize = 512;
/// After a failed commit the next try waits this long; records wait in memory, up to the queue's bound.
const RETRY: Duration = Duration::from_secs(1);
/// Commands that may wait for the journal: as many as Commands runs at a time, twice.
const JOURNAL_WAITING: usize = 64;
/// Room kept free below `max_size`, as a part of it, so that eviction runs ahead of the limit.
const HEADROOM: u64 = 16;
/// Records dropped in one go, at least.
const EVICT: usize = 256;

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

/// A new connection begins: what was handed out and not acknowledged is taken again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
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

/// Asks for numbers. An answer also proves that the actor and its store thread live.
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
pub struct NotStored(String);

/// The buffer in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records in the file.
    pub stored: u64,
    /// Bytes of the file in use.
    pub bytes: u64,
    /// Records in memory that are not in the file.
    pub waiting: usize,
    /// Records handed to Uplink and not acknowledged.
    pub in_flight: usize,
    /// Records dropped at a bound since the start.
    pub dropped: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Why the last commit failed, while it does.
    pub fault: Option<String>,
}

enum JournalJob {
    Begin(Begin, oneshot::Sender<Result<Begun, NotStored>>),
    Finish(Finish, Numbered, oneshot::Sender<Result<Name, NotStored>>),
    List(oneshot::Sender<Result<Vec<Unfinished>, NotStored>>),
}

/// The actor.
pub struct Buffer {
    config: BufferConfig,
    clock: Clock,
    queue: Queue,
    thread: Addr<StoreThread>,
    is_busy: bool,
    usage: Usage,
    journal: VecDeque<JournalJob>,
    taker: Option<(usize, oneshot::Sender<Vec<Numbered>>)>,
    /// The journal job that the store thread is busy with.
    running: Option<JournalJob>,
    is_timer_set: bool,
    /// No commit before this: the last one failed.
    retry_at: Option<Instant>,
    fault: Option<String>,
    commits: u64,
    closing: Option<oneshot::Sender<()>>,
}

impl Buffer {
    /// Opens the file, begins a run, and starts the actor.
    pub async fn start(config: BufferConfig, clock: Clock) -> Result<(Addr<Self>, u64), StoreError> {
        let (path, max_size) = (config.path.clone(), config.max_size);
        let thread = SyncArbiter::start(1, move || StoreThread::new(path.clone(), max_size));
        let opened = match thread.send(Job::Open).await {
            Ok(Ok(Done::Opened(opened))) => opened,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => return Err(StoreError::Full),
        };
        let Opened {
            run,
            records,
            replaced,
            replies,
        } = opened;
        let mut queue = Queue::new(run, records, replies, config.when_full);
        if let Some(path) = replaced {
            tracing::error!(path = %path.display(), "the buffer file was damaged; it was moved here and a new one begun");
            let (ts, synced) = (Timestamp::now(), clock.is_synced());
            queue.append(record::event("buffer-replaced", ts, synced, |body| {
                body.with("moved_to", &path.display().to_string())
            }));
        }
        let usage = Usage { records, bytes: 0 };
        let buffer = Self {
            config,
            clock,
            queue,
            thread,
            is_busy: false,
            usage,
            journal: VecDeque::new(),
            taker: None,
            running: None,
            is_timer_set: false,
            retry_at: None,
            fault: None,
            commits: 0,
            closing: None,
        };
        Ok((Actor::start(buffer), run))
    }

    /// Moves on whatever can move: a waiting Take, then one message to the store.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.serve_taker();
        if self.is_busy {
            return;
        }
        let now = Instant::now();
        let may_write = self.retry_at.is_none_or(|at| now >= at);
        if may_write && let Some(job) = self.journal.pop_front() {
            self.send_journal(job, ctx);
        } else if may_write && self.is_commit_due(now) {
            if self.is_file_full() {
                self.send(Job::Oldest(EVICT.max(2 * self.queue.waiting())), ctx);
            } else {
                let (insert, delete) = self.queue.batch();
                self.send(Job::Commit { insert, delete }, ctx);
            }
        } else if self.taker.is_some()
            && let Some(after) = self.queue.wants_load()
        {
            self.send(Job::Load { after, limit: LOAD }, ctx);
        } else if self.closing.is_some() && (self.queue.waiting() == 0 || self.fault.is_some()) {
            self.send(Job::Close, ctx);
        } else {
            self.set_timer(ctx);
        }
    }

    fn serve_taker(&mut self) {
        let Some((limit, answer)) = self.taker.take() else {
            return;
        };
        let records = self.queue.take(limit, self.config.commit_every.is_zero());
        if records.is_empty() {
            self.taker = Some((limit, answer));
        } else if let Err(records) = answer.send(records) {
            // The session that asked has ended; nobody has seen them.
            let names: Vec<Name> = records.iter().map(|numbered| numbered.name).collect();
            self.queue.rewind(Some(&names));
        }
    }

    fn is_commit_due(&self, now: Instant) -> bool {
        self.closing.is_some() && self.queue.waiting() > 0
            || self.queue.acked() >= DELETE_MANY
            || self.commit_due().is_some_and(|due| due <= now)
    }

    fn commit_due(&self) -> Option<Instant> {
        self.queue.commit_due(self.config.commit_every, DELETE_WITHIN)
    }

    fn is_file_full(&self) -> bool {
        self.usage.bytes > self.config.max_size - self.config.max_size / HEADROOM
    }

    fn send_journal(&mut self, job: JournalJob, ctx: &mut Context<Self>) {
        let message = match &job {
            JournalJob::Begin(begin, _) => Job::Begin(begin.clone()),
            JournalJob::List(_) => Job::Unfinished,
            JournalJob::Finish(finish, reply, _) => {
                let (mut insert, acked) = self.queue.batch();
                insert.push(reply.clone());
                Job::Finish {
                    finish: finish.clone(),
                    insert,
                    acked,
                }
            }
        };
        self.running = Some(job);
        self.send(message, ctx);
    }

    fn send(&mut self, job: Job, ctx: &mut Context<Self>) {
        self.is_busy = true;
        let sent = self.thread.send(job);
        ctx.spawn(sent.into_actor(self).map(|result, buffer, ctx| {
            buffer.is_busy = false;
            match result {
                Ok(result) => buffer.done(result),
                // The store thread is gone for good; only a new process helps, and systemd starts one.
                Err(error) => {
                    tracing::error!(%error, "the store thread is gone");
                    ctx.stop();
                    return;
                }
            }
            buffer.pump(ctx);
        }));
    }

    fn done(&mut self, result: Result<Done, StoreError>) {
        match result {
            Ok(done) => {
                if self.fault.take().is_some() {
                    tracing::info!("the buffer file can be written again");
                }
                self.retry_at = None;
                match done {
                    Done::Opened(_) => {}
                    Done::Committed(usage) => {
                        self.usage = usage;
                        self.commits += 1;
                        self.queue.committed(true);
                    }
                    Done::Loaded(records) => self.queue.loaded(records, LOAD),
                    Done::Oldest(names) => self.evict(names),
                    Done::Begun(begun) => {
                        if let Some(JournalJob::Begin(_, answer)) = self.running.take() {
                            told(answer.send(Ok(begun)));
                        }
                    }
                    Done::Finished(usage) => {
                        self.usage = usage;
                        self.commits += 1;
                        self.queue.committed(true);
                        if let Some(JournalJob::Finish(_, reply, answer)) = self.running.take() {
                            told(answer.send(Ok(reply.name)));
                            self.queue.release(reply);
                        }
                    }
                    Done::Unfinished(list) => {
                        if let Some(JournalJob::List(answer)) = self.running.take() {
                            told(answer.send(Ok(list)));
                        }
                    }
                    Done::Closed => {
                        if let Some(answer) = self.closing.take() {
                            told(answer.send(()));
                        }
                    }
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.queue.committed(false);
        self.retry_at = Some(Instant::now() + RETRY);
        if self.fault.is_none() {
            tracing::error!(%error, "the buffer file cannot be written; records wait in memory");
        }
        self.fault = Some(error.to_string());
        let not_stored = NotStored(error.to_string());
        match self.running.take() {
            Some(JournalJob::Begin(_, answer)) => told(answer.send(Err(not_stored))),
            Some(JournalJob::List(answer)) => told(answer.send(Err(not_stored))),
            // The device has been asked: the outcome must get into the journal, however long it takes.
            Some(job @ JournalJob::Finish(..)) => self.journal.push_front(job),
            None => {}
        }
        // A disk that is full for other reasons is not made roomier by dropping records: then only wait.
        if matches!(error, StoreError::Full) && self.usage.bytes > self.config.max_size / 2 {
            self.usage.bytes = self.usage.bytes.max(self.config.max_size);
        }
    }

    fn evict(&mut self, oldest: Vec<Name>) {
        let delete = self.queue.evict(oldest);
        if delete.is_empty() {
            // Only replies and events are left: let the commit try, the file has spare pages for them.
            self.usage.bytes = 0;
        } else {
            self.queue.delete(delete);
            self.tell_gaps();
            // One round may not be enough; the next commit says how full the file is then.
            self.usage.bytes = 0;
        }
    }

    fn tell_gaps(&mut self) {
        let clock = self.clock;
        self.queue
            .tell_gaps(|gap| gap.event(Timestamp::now(), clock.is_synced()));
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        if self.is_timer_set {
            return;
        }
        let due = if self.journal.is_empty() {
            self.commit_due()
        } else {
            self.retry_at
        };
        let Some(due) = due.map(|due| self.retry_at.map_or(due, |retry| due.max(retry))) else {
            return;
        };
        self.is_timer_set = true;
        ctx.run_later(due.saturating_duration_since(Instant::now()), |buffer, ctx| {
            buffer.is_timer_set = false;
            buffer.pump(ctx);
        });
    }
}

/// The asker may have gone; then nobody needs the answer.
fn told<T>(sent: Result<(), T>) {
    if sent.is_err() {
        tracing::debug!("an answer of the buffer had nobody to go to");
    }
}

impl Actor for Buffer {
    type Context = Context<Self>;
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

impl Handler<Rewind> for Buffer {
    type Result = ();

    fn handle(&mut self, _: Rewind, _: &mut Context<Self>) {
        self.taker = None;
        self.queue.rewind(None);
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
        let reply = Numbered {
            name: self.queue.number(),
            record: finish.reply.clone(),
        };
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
    fn enqueue<T: 'static>(
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
        MessageResult(Stats {
            stored: self.usage.records,
            bytes: self.usage.bytes,
            waiting: self.queue.waiting(),
            in_flight: self.queue.in_flight(),
            dropped: self.queue.gaps.dropped(),
            commits: self.commits,
            fault: self.fault.clone(),
        })
    }
}

impl Handler<Close> for Buffer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, closed) = oneshot::channel();
        self.closing = Some(answer);
        self.pump(ctx);
        Box::pin(async move {
            // An error means that the actor has stopped, and then the file is closed too.
            closed.await.unwrap_or_default();
        })
    }
}
