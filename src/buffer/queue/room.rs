//! Making room, and saying what it cost.

use std::collections::HashSet;

use tokio::time::Instant;

use super::{Copied, Held, Queue, TAIL_BYTES, TAIL_RECORDS};
use crate::buffer::gap::Gap;
use crate::buffer::store::Aside;
use crate::config::WhenFull;
use crate::record::{Name, Numbered, Record, RecordKind};

impl Queue {
    /// One more of this size fits into memory, if need be after older ones have given way.
    pub(super) fn has_room(&mut self, size: usize) -> bool {
        let is_full = |queue: &Self| queue.tail.len() >= TAIL_RECORDS || queue.tail_bytes + size > TAIL_BYTES;
        if !is_full(self) {
            return true;
        }
        self.forget_copies(0, 0);
        while is_full(self) {
            // More than all of it would only drive out the rest.
            if size > TAIL_BYTES || !self.make_room() {
                return false;
            }
        }
        true
    }

    /// Drops the oldest reading of the tail, if that is what gives way.
    fn make_room(&mut self) -> bool {
        if self.rules.when_full == WhenFull::DropNewest {
            return false;
        }
        let droppable =
            |held: &Held| held.kind() == RecordKind::Readings && !self.committing.contains(&held.name());
        let Some(oldest) = self.tail.iter().position(droppable).and_then(|index| self.tail.remove(index))
        else {
            return false;
        };
        self.tail_bytes -= oldest.size();
        self.gaps.lose(oldest.name(), "memory");
        true
    }

    /// The file is full and what is new gives way: the readings that are only in memory and not handed out go.
    pub fn drop_newest(&mut self, reason: &str) {
        for held in std::mem::take(&mut self.tail) {
            if held.kind() == RecordKind::Readings && held.copy == Copied::Nothing {
                self.tail_bytes -= held.size();
                self.gaps.lose(held.name(), reason);
            } else {
                self.tail.push_back(held);
            }
        }
    }

    /// Marks records of the file as lost. Records in flight are left; gives what may be deleted.
    pub fn evict(&mut self, oldest: Vec<Name>, reason: &str) -> Vec<Name> {
        let is_kept = |name: &Name| self.out.contains_key(name) || self.committing.contains(name);
        let dropped: Vec<Name> = oldest.into_iter().filter(|name| !is_kept(name)).collect();
        let gone: HashSet<Name> = dropped.iter().copied().collect();
        self.ready.retain(|numbered| !gone.contains(&numbered.name));
        self.first.retain(|held| !gone.contains(&held.name()));
        self.tail.retain(|held| !gone.contains(&held.name()));
        self.tail_bytes = self.tail.iter().map(Held::size).sum();
        let acked: HashSet<Name> = self.acked.iter().copied().collect();
        let dropped: Vec<Name> = dropped.into_iter().filter(|name| !acked.contains(name)).collect();
        for name in &dropped {
            self.gaps.untell(*name);
            self.gaps.lose(*name, reason);
        }
        self.delete(&dropped);
        dropped
    }

    /// Deletes these from the file with the next commit.
    fn delete(&mut self, names: &[Name]) {
        self.acked.extend(names);
        if !names.is_empty() {
            self.acked_since.get_or_insert_with(Instant::now);
        }
    }

    /// The broker will never take this: it is kept apart with the next commit. `false`: it was not out.
    pub fn set_aside(&mut self, name: Name, reason: &str) -> bool {
        let Some(held) = self.out.remove(&name) else {
            return false;
        };
        self.keep_apart(name, Some(held.numbered), reason);
        true
    }

    /// Rows that do not bear their checksum: kept apart as they are, and lost.
    pub fn damaged(&mut self, names: &[Name]) {
        for name in names {
            self.gaps.lose(*name, "damaged");
            self.keep_apart(*name, None, "damaged");
        }
    }

    fn keep_apart(&mut self, name: Name, numbered: Option<Numbered>, reason: &str) {
        self.aside.push(Aside { name, numbered, reason: reason.to_owned() });
        self.acked_since.get_or_insert_with(Instant::now);
    }

    /// Turns losses into gap events, or grows the events that are not sent yet.
    pub fn tell_gaps(&mut self, event: impl Fn(&Gap) -> Record) {
        while let Some((gap, known)) = self.gaps.untold() {
            let record = event(&gap);
            let name = known.unwrap_or_else(|| self.number());
            if known.is_some() {
                self.grow(name, record);
            } else {
                self.times.note(name, record.made);
                self.push_tail(Held::new(Numbered { name, record }, Copied::Nothing));
            }
            self.gaps.told(&gap, name);
        }
    }

    /// Replaces the body of an event that nobody has seen; the file's copy follows with the next commit.
    fn grow(&mut self, name: Name, record: Record) {
        self.ready.retain(|numbered| numbered.name != name);
        // A commit under way carries the shorter text: this one has to follow it.
        let is_committing = self.committing.remove(&name);
        if let Some(held) = self.tail.iter_mut().find(|held| held.name() == name) {
            self.tail_bytes = self.tail_bytes - held.size() + record.body.len();
            held.grow(record, is_committing);
        } else if let Some(held) = self.first.iter_mut().find(|held| held.name() == name) {
            held.grow(record, is_committing);
        } else {
            self.first.push_back(Held::new(Numbered { name, record }, Copied::Older));
        }
    }
}

impl Held {
    fn grow(&mut self, record: Record, is_committing: bool) {
        if self.copy == Copied::Same || is_committing {
            self.copy = Copied::Older;
        }
        self.numbered.record = record;
    }
}
