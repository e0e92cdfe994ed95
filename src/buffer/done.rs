//! What follows from what the store did, or could not do.

use actix::prelude::*;
use tokio::time::Instant;

use super::gap::Gap;
use super::store::{self, Changed, Loaded, Lost, Replaced, Retime, StoreError, Usage};
use super::thread::Done;
use super::{Buffer, JournalJob, NotStored, RETRY, Room};
use crate::record::{self, Name};

impl Buffer {
    pub(super) fn done(&mut self, result: Result<Done, StoreError>, was_load: bool) {
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.failed(&error, was_load),
        };
        if !was_load {
            self.retry_at = None;
        }
        match done {
            Done::Opened(..) | Done::Closed => {
                if let Some(answer) = self.closing.take() {
                    told(&answer.send(()));
                }
            }
            Done::Written(usage) => self.written(usage),
            Done::Raised(usage) => {
                self.usage = usage;
                self.chores.written();
            }
            Done::Loaded(Loaded { records, damaged, last, is_cut }) => {
                self.load_at = None;
                self.queue.loaded(records, last, is_cut);
                self.queue.damaged(&damaged);
                self.tell_gaps();
            }
            Done::Oldest(names) => self.make_room(names),
            Done::Expired(names) => self.expire(names),
            Done::Retimed(next) => {
                let work = self.retime.take();
                match (work, next) {
                    (Some(work), Some(after)) => self.retime = Some(Retime { after, ..work }),
                    _ => self.queue.retimed(),
                }
            }
            Done::Begun(begun) => {
                if let Some(JournalJob::Begin(_, answer)) = self.running.take() {
                    told(&answer.send(Ok(begun)));
                }
            }
            Done::Finished(usage) => {
                self.written(usage);
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
            Done::Remembered => {
                self.chores.written();
                if let Some(JournalJob::Remember(.., answer)) = self.running.take() {
                    told(&answer.send(Ok(())));
                }
            }
            Done::Recalled(value) => {
                if let Some(JournalJob::Recall(_, answer)) = self.running.take() {
                    told(&answer.send(Ok(value)));
                }
            }
            Done::Looked(None) => {}
            Done::Looked(Some(Changed { usage, lost })) => {
                self.usage = usage;
                self.queue.look_again(false);
                self.tell_lost(&lost);
            }
            Done::Tidied(is_done) => self.chores.tidied(is_done),
            Done::Replaced(replaced) => {
                (self.is_damaged, self.fault) = (false, None);
                self.queue.look_again(true);
                self.tell_replaced(&replaced);
                self.tell_lost(&replaced.lost);
            }
        }
    }

    fn written(&mut self, usage: Usage) {
        if self.fault.take().is_some() {
            tracing::info!("the buffer file can be written again");
        }
        self.usage = usage;
        (self.room, self.told) = (Room::Measured, None);
        self.queue.committed(true);
        self.chores.written();
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
            Some(JournalJob::Remember(.., answer)) => told(&answer.send(Err(not_stored))),
            Some(JournalJob::Recall(_, answer)) => told(&answer.send(Err(not_stored))),
            // The device has been asked: the outcome must get into the journal, however long it takes.
            Some(job @ JournalJob::Finish(..)) => self.journal.push_front(job),
            None => {}
        }
        match error {
            StoreError::Full(usage) => {
                self.usage = usage.clone();
                // On a full disk, what was evicted before has brought nothing yet, and more would not either.
                if self.room != Room::Evicting || !usage.is_disk_full {
                    self.room = Room::Missing;
                }
            }
            StoreError::Damaged(_) => {
                // At once, unless it is the replacement that failed.
                let is_known = std::mem::replace(&mut self.is_damaged, true);
                self.retry_at = self.retry_at.filter(|_| is_known);
            }
            _ => {}
        }
    }

    fn make_room(&mut self, oldest: Vec<Name>) {
        // The next commit deletes them, and says how full the file is then.
        self.room = Room::Evicting;
        let reason = self.full_reason();
        self.queue.evict(oldest, reason);
        self.tell_gaps();
    }

    pub(super) fn tell_gaps(&mut self) {
        let clock = self.clock;
        self.queue.tell_gaps(|gap| gap.event(clock.now()));
    }

    /// Tells losses that were entered in the file's list.
    pub(super) fn tell_lost(&mut self, lost: &[Lost]) {
        for Lost { id, run, first, last, reason } in lost {
            self.queue.gaps.lose_range(&Gap { run: *run, from: *first, to: *last, reason: reason.clone() });
            self.told = self.told.max(Some(*id));
        }
        self.tell_gaps();
    }

    pub(super) fn tell_replaced(&mut self, replaced: &Replaced) {
        let moved_to = replaced.moved_to.as_ref().map(|path| path.display().to_string());
        tracing::error!(
            moved_to,
            salvaged = replaced.salvaged,
            "the buffer file was damaged; it was moved aside and a new one begun"
        );
        let event = record::event("buffer-replaced", self.clock.now(), |body| {
            body.with("moved_to", &moved_to).with("salvaged", &replaced.salvaged)
        });
        self.queue.append(event);
    }

    /// Once the clock is set, records of this run that nobody has seen get their true time.
    pub(super) fn see_clock(&mut self) {
        if !self.queue.has_unsynced() || self.retime.is_some() {
            return;
        }
        let now = self.clock.now();
        if !now.synced {
            return;
        }
        tracing::info!("the clock is set");
        let upto = self.queue.newest().seq;
        let (event, base, seen) = self.queue.clock_set(now);
        // A reply has its number before it is stored.
        for job in &mut self.journal {
            if let JournalJob::Finish(_, reply, _) = job {
                let _is_changed = reply.record.set_time(base);
            }
        }
        self.retime = Some(Retime { base, after: 0, upto, seen });
        self.queue.append(event);
    }

    /// Looks through the whole file beside polling: the last run was cut off.
    pub(super) fn look_for_faults(&mut self, ctx: &mut Context<Self>) {
        let path = self.config.path.clone();
        let look = tokio::task::spawn_blocking(move || store::faults(&path));
        ctx.spawn(look.into_actor(self).map(|faults, buffer, ctx| {
            let Some(fault) = faults.unwrap_or_default().into_iter().next() else {
                return;
            };
            tracing::error!(fault, "the buffer file is damaged");
            buffer.is_damaged = true;
            buffer.pump(ctx);
        }));
    }
}

/// The asker may have gone; then nobody needs the answer.
fn told<T>(sent: &Result<(), T>) {
    if sent.is_err() {
        tracing::debug!("an answer of the buffer had nobody to go to");
    }
}
