//! What the buffer does by itself from time to time.

use std::time::Duration;

use tokio::time::Instant;

use super::store::Limit;
use super::thread::Job;
use super::{Buffer, DELETE_WITHIN};

/// Another program may have changed the file.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Readings may have become too old: looked at this often at most, ...
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// ... and at least ten times within their age.
const EXPIRE_SHARE: u32 = 10;
/// So many readings are judged at a time; while all of them are too old, at once again.
const EXPIRE: usize = 512;
/// Nothing was written for so long: room is given back.
const IDLE: Duration = Duration::from_secs(10);

/// When each is due.
#[derive(Debug)]
pub(super) struct Chores {
    look: Instant,
    expire: Instant,
    /// Nothing: all room was given back.
    tidy: Option<Instant>,
}

impl Chores {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { look: now + LOOK_EVERY, expire: now, tidy: Some(now + IDLE) }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Instant {
        let next = self.look.min(self.expire);
        self.tidy.map_or(next, |tidy| next.min(tidy))
    }

    /// The file was written.
    pub(super) fn written(&mut self) {
        self.tidy = Some(Instant::now() + IDLE);
    }

    /// There is more to be given back, or not.
    pub(super) fn tidied(&mut self, is_done: bool) {
        self.tidy = (!is_done).then(Instant::now);
    }

    /// There is more that is too old.
    pub(super) fn expire_again(&mut self) {
        self.expire = Instant::now();
    }
}

impl Buffer {
    /// The next chore that is due.
    pub(super) fn chore(&mut self, now: Instant) -> Option<Job> {
        let chores = &mut self.chores;
        if chores.look <= now {
            chores.look = now + LOOK_EVERY;
            return Some(Job::LookAgain);
        }
        if chores.expire <= now {
            // An earlier round has to be deleted first, or it would be found again.
            if self.queue.acked() > 0 {
                chores.expire = now + DELETE_WITHIN;
                return None;
            }
            chores.expire = now + EXPIRE_EVERY.min(self.config.max_age / EXPIRE_SHARE);
            let limit = Limit { age: self.config.max_age, now: self.clock.now(), most: EXPIRE };
            return (self.usage.records > 0).then_some(Job::Expired(limit));
        }
        if chores.tidy.is_some_and(|tidy| tidy <= now) {
            chores.tidy = None;
            return Some(Job::Tidy);
        }
        None
    }

    /// Takes a round of readings that are too old.
    pub(super) fn expire(&mut self, names: Vec<crate::record::Name>) {
        let was_full = names.len() >= EXPIRE;
        if !self.queue.evict(names, "max_age").is_empty() {
            self.tell_gaps();
            if was_full {
                self.chores.expire_again();
            }
        }
    }
}
