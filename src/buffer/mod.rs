//! The buffer: numbers every record at once, keeps it until the broker has it.
//!
//! [`queue`] knows which record is where, [`store`] owns the file on a thread of its own, and this actor moves
//! records between them: it sends the store one message at a time and lets the queue grow meanwhile, up to
//! its bound. [`Append`] therefore never waits for a disk. While the broker acknowledges within
//! `commit_every`, nothing is written at all.

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{BufferConfig, WhenFull};
use crate::record::{Name, Numbered};

mod allowance;
mod chores;
mod done;
pub mod gap;
pub mod journal;
mod messages;
mod progress;
pub mod queue;
mod remember;
pub mod store;
#[cfg(test)]
mod tests;
mod thread;

use allowance::Allowance;
use chores::Chores;
use journal::{Begin, Begun, Finish, Unfinished};
pub use messages::{
    Ack, Append, BeginCommand, Close, FinishCommand, GetStats, ListUnfinished, NotStored, Rewind, SetAside,
    Stats, Take,
};
use progress::Progress;
use queue::{Pending, Queue, Rules};
pub use remember::{Recall, Remember};
use store::{Batch, Opened, Retime, StoreError, Usage};
use thread::{Done, Job, StoreThread};

/// Records loaded from the file at a time, a few windows of publishes. As many again are asked for while these are
/// handed out, so that the file and the broker are at work together ...
const LOAD: usize = 512;
/// ... and the bytes of bodies that are enough.
const LOAD_BYTES: usize = 512 << 10;
/// Acknowledged records stay in the file at most this long, to be deleted with the next insert ...
const DELETE_WITHIN: Duration = Duration::from_secs(1);
/// ... or until so many of them wait.
const DELETE_MANY: usize = 4_096;
/// After a failed commit the next try waits this long; records wait in memory, up to the queue's bound.
const RETRY: Duration = Duration::from_secs(1);
/// Room kept free below the limit, as a part of it, so that eviction runs ahead of it.
const HEADROOM: u64 = 16;
/// Records dropped in one go, at least.
const EVICT: usize = 256;
/// A new ceiling is written when this part of the numbers below it is left.
const CEILING: u64 = 4;

/// Whether there is room for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// As the numbers say.
    Measured,
    /// The last commit found none, whatever the numbers say.
    Missing,
    /// Evicted records are not deleted yet: no more go before that shows what it brought.
    Evicting,
}

/// Who takes turns with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Journal,
    Commit,
    Other,
}

enum JournalJob {
    Begin(Begin, oneshot::Sender<Result<Begun, NotStored>>),
    Finish(Finish, Numbered, oneshot::Sender<Result<Name, NotStored>>),
    List(oneshot::Sender<Result<Vec<Unfinished>, NotStored>>),
    Remember(String, Vec<u8>, oneshot::Sender<Result<(), NotStored>>),
    Recall(String, oneshot::Sender<Result<Vec<u8>, NotStored>>),
}

/// The actor.
pub struct Buffer {
    config: BufferConfig,
    clock: Clock,
    queue: Queue,
    thread: Addr<StoreThread>,
    /// The number of the store's thread, by which the system counts what it writes.
    thread_id: i32,
    /// Since when the store thread is at work.
    busy_since: Option<Instant>,
    usage: Usage,
    journal: VecDeque<JournalJob>,
    taker: Option<(usize, oneshot::Sender<Vec<Numbered>>)>,
    /// The journal job that the store thread is busy with.
    running: Option<JournalJob>,
    /// When the timer wakes, and its handle.
    timer: Option<(Instant, SpawnHandle)>,
    /// Who had the last turn: whoever waits beside it has the next.
    last: Turn,
    /// No load before this: the last one failed.
    load_at: Option<Instant>,
    /// No commit before this: the last one failed.
    retry_at: Option<Instant>,
    fault: Option<String>,
    /// The file is damaged: it is replaced before anything else.
    is_damaged: bool,
    room: Room,
    /// Losses up to this one of the file's list have an event.
    told: Option<i64>,
    /// Times of this run that are being made right in the file.
    retime: Option<Retime>,
    chores: Chores,
    allowance: Allowance,
    progress: Progress,
    /// The last run ended without a word.
    is_unclean: bool,
    closing: Option<oneshot::Sender<()>>,
}

impl Buffer {
    /// Opens the file, begins a run, and starts the actor.
    pub async fn start(config: BufferConfig, clock: Clock) -> Result<(Addr<Self>, u64), StoreError> {
        let (path, max_size) = (config.path.clone(), config.max_size);
        let thread = SyncArbiter::start(1, move || StoreThread::new(path.clone(), max_size));
        let (opened, thread_id) = match thread.send(Job::Open).await {
            Ok(Ok(Done::Opened(opened, thread_id))) => (*opened, thread_id),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => return Err(StoreError::Damaged("its thread is gone".to_owned())),
        };
        let Opened { run, usage, replaced, replies, lost, is_unclean } = opened;
        let rules = Rules { when_full: config.when_full, live_share: config.live_share };
        let mut buffer = Self {
            queue: Queue::new(run, usage.records, replies, rules),
            allowance: Allowance::new(config.backlog_rate),
            config,
            clock,
            thread,
            thread_id,
            busy_since: None,
            usage,
            journal: VecDeque::new(),
            taker: None,
            running: None,
            timer: None,
            last: Turn::Other,
            load_at: None,
            retry_at: None,
            fault: None,
            is_damaged: false,
            room: Room::Measured,
            told: None,
            retime: None,
            chores: Chores::new(),
            progress: Progress::new(),
            is_unclean,
            closing: None,
        };
        if let Some(replaced) = &replaced {
            buffer.tell_replaced(replaced);
        }
        buffer.tell_lost(&lost);
        Ok((Actor::start(buffer), run))
    }

    /// Moves on whatever can move: a waiting Take, then one message to the store.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.serve_taker();
        if self.busy_since.is_some() {
            return;
        }
        let now = Instant::now();
        self.see_clock();
        let may_write = self.retry_at.is_none_or(|at| now >= at);
        let may_load = self.load_at.is_none_or(|at| now >= at);
        if self.is_damaged {
            if may_write {
                self.send(Job::Replace, ctx);
            } else {
                self.set_timer(ctx);
            }
            return;
        }
        let commit = may_write && self.is_commit_due(now);
        if may_write
            && !(commit && self.last == Turn::Journal)
            && let Some(job) = self.journal.pop_front()
        {
            self.last = Turn::Journal;
            self.send_journal(job, ctx);
        } else if commit && self.last != Turn::Commit {
            self.last = Turn::Commit;
            self.send_commit(ctx);
        } else if let Some(job) = self.other(now, may_write, may_load) {
            self.last = Turn::Other;
            self.send(job, ctx);
        } else if commit {
            self.send_commit(ctx);
        } else if self.closing.is_some() && (!self.has_work() || self.fault.is_some()) {
            self.send(Job::Close(self.is_all_stored().then(|| self.queue.newest().seq)), ctx);
        } else {
            self.set_timer(ctx);
        }
    }

    /// What has a turn between two commits: on a slow disk the next is due when one is done.
    fn other(&mut self, now: Instant, may_write: bool, may_load: bool) -> Option<Job> {
        if may_write && self.is_ceiling_near() {
            // What waits may still be acknowledged within its window.
            return Some(Job::Raise(self.queue.newest().seq));
        }
        if may_write && let Some(work) = &self.retime {
            return Some(Job::Retime(work.clone()));
        }
        let is_drained = self.taker.is_none() && self.queue.in_flight() == 0;
        if may_load
            && !is_drained
            && let Some(after) = self.queue.wants_load(LOAD, LOAD_BYTES)
        {
            return Some(Job::Load(after));
        }
        if may_write && self.closing.is_none() { self.chore(now) } else { None }
    }

    fn send_commit(&mut self, ctx: &mut Context<Self>) {
        if self.is_file_full() {
            let reason = self.full_reason();
            if self.config.when_full == WhenFull::DropNewest {
                self.queue.drop_newest(reason);
                self.tell_gaps();
                self.room = Room::Measured;
            } else {
                // What is in flight or waits to be deleted is passed over, and it may be the oldest.
                let passed = self.queue.in_flight() + self.queue.acked();
                let many = EVICT.max(2 * self.queue.waiting()) + passed;
                self.send(Job::Oldest(many), ctx);
                return;
            }
        }
        let batch = self.batch();
        self.send(Job::Write(batch), ctx);
    }

    fn batch(&mut self) -> Batch {
        let Pending { insert, delete, aside } = self.queue.batch();
        // A reply has its number before it is stored.
        let replies = self.journal.iter().chain(&self.running).filter_map(|job| match job {
            JournalJob::Finish(_, reply, _) => Some(reply.name.seq - 1),
            _ => None,
        });
        let given = self.queue.newest().seq;
        let floor = replies.chain([given]).min();
        Batch { insert, delete, aside, floor, given: Some(given), told: self.told }
    }

    fn serve_taker(&mut self) {
        let Some((limit, answer)) = self.taker.take() else {
            return;
        };
        let allowance = self.allowance.now();
        let taken = self.queue.take(limit, self.config.commit_every.is_zero(), allowance);
        if taken.records.is_empty() {
            self.taker = Some((limit, answer));
            return;
        }
        self.allowance.spend(taken.backlog);
        if let Err(records) = answer.send(taken.records) {
            // The session that asked has ended; nobody has seen them.
            let names: Vec<Name> = records.iter().map(|numbered| numbered.name).collect();
            self.queue.undo(&names);
        }
    }

    fn is_commit_due(&self, now: Instant) -> bool {
        self.closing.is_some() && self.has_work()
            || self.queue.acked() >= DELETE_MANY
            || self.queue.is_half_full()
            || self.commit_due().is_some_and(|due| due <= now)
    }

    fn is_ceiling_near(&self) -> bool {
        self.queue.newest().seq + self.usage.ceiling / CEILING >= self.usage.ceiling
    }

    /// Every number given is in the file, acknowledged or told.
    fn is_all_stored(&self) -> bool {
        self.queue.waiting() == 0 && !self.journal.iter().any(|job| matches!(job, JournalJob::Finish(..)))
    }

    fn has_work(&self) -> bool {
        self.queue.commit_due(Duration::ZERO, Duration::ZERO).is_some()
    }

    fn commit_due(&self) -> Option<Instant> {
        self.queue.commit_due(self.config.commit_every, DELETE_WITHIN)
    }

    fn is_file_full(&self) -> bool {
        let Usage { bytes, limit, .. } = self.usage;
        match self.room {
            Room::Measured => bytes > limit - limit / HEADROOM,
            Room::Missing => true,
            Room::Evicting => false,
        }
    }

    fn full_reason(&self) -> &'static str {
        if self.usage.is_disk_full { "disk-full" } else { "max_size" }
    }

    fn send_journal(&mut self, job: JournalJob, ctx: &mut Context<Self>) {
        let message = match &job {
            JournalJob::Begin(begin, _) => Job::Begin(begin.clone()),
            JournalJob::List(_) => Job::Unfinished,
            JournalJob::Remember(key, value, _) => Job::Remember(key.clone(), value.clone()),
            JournalJob::Recall(key, _) => Job::Recall(key.clone()),
            JournalJob::Finish(finish, reply, _) => {
                let work = (finish.clone(), reply.clone(), self.batch());
                Job::Finish(Box::new(work))
            }
        };
        self.running = Some(job);
        self.send(message, ctx);
    }

    fn send(&mut self, job: Job, ctx: &mut Context<Self>) {
        self.busy_since = Some(Instant::now());
        let was_load = matches!(job, Job::Load(_));
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

    /// Wakes when the next thing is due; an earlier thing replaces a later one.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let is_waiting = !self.journal.is_empty() || self.retime.is_some() || self.is_damaged;
        let write = if is_waiting { Some(Instant::now()) } else { self.commit_due() };
        let write = write.into_iter().chain([self.chores.due()]).min();
        let write = write.map(|due| self.retry_at.map_or(due, |retry| due.max(retry)));
        // Once that is past, something else holds up the load.
        let load = self.load_at.filter(|at| *at > Instant::now() && self.taker.is_some());
        let backlog = self.allowance.next().filter(|_| self.taker.is_some());
        let Some(due) = write.into_iter().chain(load).chain(backlog).min() else {
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

impl Actor for Buffer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.is_unclean {
            self.look_for_faults(ctx);
        }
        self.pump(ctx);
    }
}
