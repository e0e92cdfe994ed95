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
use crate::config::{BufferConfig, WhenFull};
use crate::record::{self, Name, Numbered};

pub mod gap;
pub mod journal;
mod messages;
pub mod queue;
pub mod store;
#[cfg(test)]
mod tests;
mod thread;

use journal::{Begin, Begun, Finish, Unfinished};
pub use messages::{
    Ack, Append, BeginCommand, Close, FinishCommand, GetStats, ListUnfinished, NotStored, Rewind, Stats, Take,
};
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
/// Room kept free below `max_size`, as a part of it, so that eviction runs ahead of the limit.
const HEADROOM: u64 = 16;
/// Records dropped in one go, at least.
const EVICT: usize = 256;

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
    /// Since when the store thread is at work.
    busy_since: Option<Instant>,
    usage: Usage,
    journal: VecDeque<JournalJob>,
    taker: Option<(usize, oneshot::Sender<Vec<Numbered>>)>,
    /// The journal job that the store thread is busy with.
    running: Option<JournalJob>,
    /// When the timer wakes, and its handle.
    timer: Option<(Instant, SpawnHandle)>,
    /// The journal had the last turn; a commit that is due has the next.
    was_journal: bool,
    /// No load before this: the last one failed.
    load_at: Option<Instant>,
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
        let Opened { run, records, replaced, replies } = opened;
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
            busy_since: None,
            usage,
            journal: VecDeque::new(),
            taker: None,
            running: None,
            timer: None,
            was_journal: false,
            load_at: None,
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
        if self.busy_since.is_some() {
            return;
        }
        let now = Instant::now();
        let may_write = self.retry_at.is_none_or(|at| now >= at);
        let may_load = self.load_at.is_none_or(|at| now >= at);
        let commit = may_write && self.is_commit_due(now);
        if may_write
            && !(commit && self.was_journal)
            && let Some(job) = self.journal.pop_front()
        {
            self.was_journal = true;
            self.send_journal(job, ctx);
        } else if commit {
            self.was_journal = false;
            self.send_commit(ctx);
        } else if self.taker.is_some()
            && may_load
            && let Some(after) = self.queue.wants_load()
        {
            self.send(Job::Load { after, limit: LOAD }, ctx);
        } else if self.closing.is_some() && (!self.has_work() || self.fault.is_some()) {
            self.send(Job::Close, ctx);
        } else {
            self.set_timer(ctx);
        }
    }

    fn send_commit(&mut self, ctx: &mut Context<Self>) {
        if self.is_file_full() && self.config.when_full == WhenFull::DropNewest {
            self.queue.drop_newest();
            self.tell_gaps();
        } else if self.is_file_full() {
            self.send(Job::Oldest(EVICT.max(2 * self.queue.waiting())), ctx);
            return;
        }
        let (insert, delete) = self.queue.batch();
        self.send(Job::Commit { insert, delete }, ctx);
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
        self.closing.is_some() && self.has_work()
            || self.queue.acked() >= DELETE_MANY
            || self.commit_due().is_some_and(|due| due <= now)
    }

    fn has_work(&self) -> bool {
        self.queue.waiting() > 0 || self.queue.acked() > 0
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
                Job::Finish { finish: finish.clone(), insert, acked }
            }
        };
        self.running = Some(job);
        self.send(message, ctx);
    }

    fn send(&mut self, job: Job, ctx: &mut Context<Self>) {
        self.busy_since = Some(Instant::now());
        let was_load = matches!(job, Job::Load { .. });
        let sent = self.thread.send(job);
        ctx.spawn(sent.into_actor(self).map(move |result, buffer, ctx| {
            buffer.busy_since = None;
            match result {
                Ok(result) => buffer.done(result, was_load),
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

    fn done(&mut self, result: Result<Done, StoreError>, was_load: bool) {
        match result {
            Ok(done) => {
                if self.fault.take().is_some() {
                    tracing::info!("the buffer file can be written again");
                }
                if !was_load {
                    self.retry_at = None;
                }
                match done {
                    Done::Opened(_) => {}
                    Done::Committed(usage) => {
                        self.usage = usage;
                        self.commits += 1;
                        self.queue.committed(true);
                    }
                    Done::Loaded(records) => {
                        self.load_at = None;
                        self.queue.loaded(records, LOAD);
                    }
                    Done::Oldest(names) => self.evict(names),
                    Done::Begun(begun) => {
                        if let Some(JournalJob::Begin(_, answer)) = self.running.take() {
                            told(&answer.send(Ok(begun)));
                        }
                    }
                    Done::Finished(usage) => {
                        self.usage = usage;
                        self.commits += 1;
                        self.queue.committed(true);
                        if let Some(JournalJob::Finish(_, reply, answer)) = self.running.take() {
                            told(&answer.send(Ok(reply.name)));
                            self.queue.release(reply);
                        }
                    }
                    Done::Unfinished(list) => {
                        if let Some(JournalJob::List(answer)) = self.running.take() {
                            told(&answer.send(Ok(list)));
                        }
                    }
                    Done::Closed => {
                        if let Some(answer) = self.closing.take() {
                            told(&answer.send(()));
                        }
                    }
                }
            }
            Err(error) => self.failed(&error, was_load),
        }
    }

    fn failed(&mut self, error: &StoreError, was_load: bool) {
        self.queue.committed(false);
        // A load must not hold up the commits, nor they it.
        if was_load {
            self.load_at = Some(Instant::now() + RETRY);
        } else {
            self.retry_at = Some(Instant::now() + RETRY);
        }
        if self.fault.is_none() {
            tracing::error!(%error, "the buffer file cannot be written; records wait in memory");
        }
        self.fault = Some(error.to_string());
        let not_stored = NotStored(error.to_string());
        match self.running.take() {
            Some(JournalJob::Begin(_, answer)) => told(&answer.send(Err(not_stored))),
            Some(JournalJob::List(answer)) => told(&answer.send(Err(not_stored))),
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
        self.queue.tell_gaps(|gap| gap.event(Timestamp::now(), clock.is_synced()));
    }

    /// Wakes when the next thing is due; an earlier thing replaces a later one.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let write = if self.journal.is_empty() { self.commit_due() } else { Some(Instant::now()) };
        let write = write.map(|due| self.retry_at.map_or(due, |retry| due.max(retry)));
        let load = self.load_at.filter(|_| self.taker.is_some());
        let Some(due) = write.into_iter().chain(load).min() else {
            return;
        };
        match self.timer {
            Some((at, _)) if at <= due => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let handle = ctx.run_later(due.saturating_duration_since(Instant::now()), |buffer, ctx| {
            buffer.timer = None;
            buffer.pump(ctx);
        });
        self.timer = Some((due, handle));
    }
}

/// The asker may have gone; then nobody needs the answer.
fn told<T>(sent: &Result<(), T>) {
    if sent.is_err() {
        tracing::debug!("an answer of the buffer had nobody to go to");
    }
}

impl Actor for Buffer {
    type Context = Context<Self>;
}
