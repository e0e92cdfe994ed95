//! What the next commit writes, and what follows from it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Copied, Held, Queue, TAIL_BYTES, TAIL_RECORDS};
use crate::buffer::store::Aside;
use crate::record::{Name, Numbered};

/// Records that stay in memory after their commit, so that live data flows while a backlog drains (few in tests, so
/// that random lives reach the bound) ...
const LIVE_RECORDS: usize = if cfg!(test) { 4 } else { 512 };
/// ... and the most bytes of their bodies.
const LIVE_BYTES: usize = 512 << 10;

/// What the next commit writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Everything that is only in memory, in the order of the names.
    pub insert: Vec<Numbered>,
    /// What may be deleted with it.
    pub delete: Vec<Name>,
    /// What is set aside.
    pub aside: Vec<Aside>,
}

impl Queue {
    /// When the next commit is due: `window` after the oldest record that is only in memory was made.
    #[must_use]
    pub fn commit_due(&self, window: Duration, delete_window: Duration) -> Option<Instant> {
        let unstored = |held: &&Held| held.copy != Copied::Same;
        // The tail is in the order of making; the other two are short.
        let elsewhere = self.first.iter().chain(self.out.values());
        let oldest = self.tail.iter().find(unstored).into_iter().chain(elsewhere.filter(unstored));
        let oldest = oldest.map(|held| held.since).min().map(|since| since + window);
        let delete = self.acked_since.map(|since| since + delete_window);
        match (oldest, delete) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Half of what memory may hold waits, whatever its age: the rest has to last while a commit takes its time.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.tail.len() >= TAIL_RECORDS / 2 + LIVE_RECORDS || self.tail_bytes >= TAIL_BYTES / 2 + LIVE_BYTES
    }

    /// Everything that has to be written, to be committed now.
    pub fn batch(&mut self) -> Pending {
        let mut insert: Vec<Numbered> = self.unstored().map(|held| held.numbered.clone()).collect();
        insert.sort_by_key(|numbered| numbered.name);
        self.committing = insert.iter().map(|numbered| numbered.name).collect();
        self.deleting = std::mem::take(&mut self.acked);
        self.asiding = std::mem::take(&mut self.aside);
        self.acked_since = None;
        Pending { insert, delete: self.deleting.clone(), aside: self.asiding.clone() }
    }

    /// The commit ended. After a failure everything is as before.
    pub fn committed(&mut self, done: bool) {
        let committing = std::mem::take(&mut self.committing);
        let deleting = std::mem::take(&mut self.deleting);
        let asiding = std::mem::take(&mut self.asiding);
        self.is_failing = !done;
        if !done {
            self.acked.extend(deleting);
            self.aside.splice(..0, asiding);
            if !self.acked.is_empty() || !self.aside.is_empty() {
                self.acked_since = Some(Instant::now());
            }
            return;
        }
        let held = self.first.iter_mut().chain(self.out.values_mut()).chain(&mut self.tail);
        for held in held.filter(|held| committing.contains(&held.name())) {
            held.copy = Copied::Same;
        }
        self.forget_copies(LIVE_RECORDS, LIVE_BYTES);
    }

    /// What is in the file leaves memory, the newest apart; its turn is found again by the cursor.
    pub(super) fn forget_copies(&mut self, records: usize, bytes: usize) {
        let stored = self.tail.iter().filter(|held| held.copy == Copied::Same);
        let (mut count, mut size) =
            stored.fold((0, 0), |(count, size), held| (count + 1, size + held.size()));
        let cursor = self.cursor;
        let (mut passed, mut left) = (Vec::new(), false);
        self.tail.retain(|held| {
            let goes = held.copy == Copied::Same && (count > records || size > bytes);
            if goes {
                (count, size) = (count - 1, size - held.size());
                // The file's side has been here already and would not come again.
                if cursor.is_some_and(|cursor| held.name() <= cursor) {
                    passed.push(held.clone());
                }
                left = true;
            }
            !goes
        });
        self.more |= left;
        self.tail_bytes = self.tail.iter().map(Held::size).sum();
        if !passed.is_empty() {
            self.give_back(passed);
        }
    }
}
