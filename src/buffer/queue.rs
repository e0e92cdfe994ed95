//! Which record is where: the buffer's state without its file. Pure; the actor moves it along.
//!
//! A record is in one of these places until the broker has acknowledged it:
//!
//! * `tail`: made, not yet in the file, not yet handed out;
//! * the file alone: committed, not handed out, loaded again when its turn comes;
//! * `ready`: loaded from the file for the next hand-out;
//! * `out`: handed to Uplink, in the file or not;
//! * `first`: handed out and given back (a connection broke), or a reply, which goes before everything else.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::gap::Gaps;
use crate::config::WhenFull;
use crate::record::{Name, Numbered, Record, RecordKind};

/// Most records that wait in memory for a commit: 250 ms of 20,000 a second.
pub const TAIL_RECORDS: usize = 5_000;
/// Most bytes of their bodies: on the smallest Pi (512 MB) still nothing to notice.
pub const TAIL_BYTES: usize = 8 << 20;

/// Most replies that wait in memory to go first; more take their turn with the readings.
const FIRST_RECORDS: usize = 1_000;

/// A record in memory.
#[derive(Clone, Debug)]
struct Held {
    numbered: Numbered,
    since: Instant,
    copy: Copied,
}

/// What the file has of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Nothing,
    /// A gap event that has grown since.
    Older,
    Same,
}

/// The places of all records.
#[derive(Debug)]
pub struct Queue {
    run: u64,
    next_seq: u64,
    when_full: WhenFull,
    first: VecDeque<Held>,
    ready: VecDeque<Numbered>,
    tail: VecDeque<Held>,
    tail_bytes: usize,
    out: BTreeMap<Name, Held>,
    /// Acknowledged, and still in the file.
    acked: Vec<Name>,
    acked_since: Option<Instant>,
    /// Part of the commit or deletion that the store thread is busy with.
    committing: HashSet<Name>,
    deleting: Vec<Name>,
    /// The last record loaded; the file's records after it may still wait there.
    cursor: Option<Name>,
    more: bool,
    /// What was lost, and the events that say so.
    pub gaps: Gaps,
}

impl Queue {
    /// At the start of a run, with `records` left in the file and `replies` of them loaded.
    #[must_use]
    pub fn new(run: u64, records: u64, replies: Vec<Numbered>, when_full: WhenFull) -> Self {
        let now = Instant::now();
        let first =
            replies.into_iter().map(|numbered| Held { numbered, since: now, copy: Copied::Same }).collect();
        Self {
            run,
            next_seq: 1,
            when_full,
            first,
            ready: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            out: BTreeMap::new(),
            acked: Vec::new(),
            acked_since: None,
            committing: HashSet::new(),
            deleting: Vec::new(),
            cursor: None,
            more: records > 0,
            gaps: Gaps::default(),
        }
    }

    /// The number of this run.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Numbers a record and keeps it; what does not fit is lost by `when_full`, under its number.
    pub fn append(&mut self, record: Record) -> Name {
        let name = self.number();
        let held = |record| Held {
            numbered: Numbered { name, record },
            since: Instant::now(),
            copy: Copied::Nothing,
        };
        // Somebody waits for a reply: it goes before the readings of an outage.
        if record.kind == RecordKind::Reply && self.first.len() < FIRST_RECORDS {
            self.first.push_back(held(record));
            return name;
        }
        let is_full = self.tail.len() >= TAIL_RECORDS || self.tail_bytes + record.body.len() > TAIL_BYTES;
        if is_full && record.kind != RecordKind::Event && !self.make_room() {
            self.gaps.lose(name, "memory");
            return name;
        }
        self.tail_bytes += record.body.len();
        self.tail.push_back(held(record));
        name
    }

    /// Drops the oldest readings of the tail until one more record fits, if that is what gives way.
    fn make_room(&mut self) -> bool {
        if self.when_full == WhenFull::DropNewest {
            return false;
        }
        let droppable = |held: &Held| {
            held.numbered.record.kind == RecordKind::Readings
                && !self.committing.contains(&held.numbered.name)
        };
        let Some(oldest) = self.tail.iter().position(droppable).and_then(|index| self.tail.remove(index))
        else {
            return false;
        };
        self.tail_bytes -= oldest.numbered.record.body.len();
        self.gaps.lose(oldest.numbered.name, "memory");
        true
    }

    /// The file is full and what is new gives way: the readings that are only in memory and not handed out go.
    pub fn drop_newest(&mut self) {
        for held in std::mem::take(&mut self.tail) {
            if held.numbered.record.kind == RecordKind::Readings {
                self.tail_bytes -= held.numbered.record.body.len();
                self.gaps.lose(held.numbered.name, "max_size");
            } else {
                self.tail.push_back(held);
            }
        }
    }

    /// The newest name given.
    #[must_use]
    pub fn newest(&self) -> Name {
        Name { run: self.run, seq: self.next_seq - 1 }
    }

    /// Numbers a reply without letting it out: it leaves after its commit, by [`Queue::release`].
    pub fn number(&mut self) -> Name {
        let name = Name { run: self.run, seq: self.next_seq };
        self.next_seq += 1;
        name
    }

    /// A committed reply may leave now, before everything else.
    pub fn release(&mut self, numbered: Numbered) {
        self.first.push_back(Held { numbered, since: Instant::now(), copy: Copied::Same });
    }

    /// Turns losses into gap events, or grows the events that are not sent yet.
    pub fn tell_gaps(&mut self, event: impl Fn(&super::gap::Gap) -> Record) {
        while let Some((gap, known)) = self.gaps.untold() {
            let record = event(&gap);
            match known {
                None => {
                    let name = self.number();
                    self.tail_bytes += record.body.len();
                    let numbered = Numbered { name, record };
                    self.tail.push_back(Held { numbered, since: Instant::now(), copy: Copied::Nothing });
                    self.gaps.told(&gap, name);
                }
                Some(name) => {
                    self.grow(name, record);
                    self.gaps.told(&gap, name);
                }
            }
        }
    }

    /// Replaces the body of an event that nobody has seen; the file's copy follows with the next commit.
    fn grow(&mut self, name: Name, record: Record) {
        self.ready.retain(|numbered| numbered.name != name);
        // A commit under way carries the shorter text: this one has to follow it.
        let is_committing = self.committing.remove(&name);
        if let Some(held) = self.tail.iter_mut().find(|held| held.numbered.name == name) {
            self.tail_bytes += record.body.len();
            self.tail_bytes -= held.numbered.record.body.len();
            held.numbered.record = record;
            if is_committing {
                held.copy = Copied::Older;
            }
        } else if let Some(held) = self.first.iter_mut().find(|held| held.numbered.name == name) {
            held.numbered.record = record;
            held.copy = Copied::Older;
        } else {
            let numbered = Numbered { name, record };
            self.first.push_back(Held { numbered, since: Instant::now(), copy: Copied::Older });
        }
    }

    /// Hands out up to `limit` records. Empty: nothing waits, or the file has to be asked ([`Queue::wants_load`]).
    pub fn take(&mut self, limit: usize, only_stored: bool) -> Vec<Numbered> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let held = if let Some(index) =
                self.first.iter().position(|held| held.copy == Copied::Same || !only_stored)
            {
                self.first.remove(index)
            } else if let Some(numbered) = self.ready.pop_front() {
                Some(Held { numbered, since: Instant::now(), copy: Copied::Same })
            } else if self.more || only_stored {
                None
            } else {
                self.tail.pop_front().inspect(|held| self.tail_bytes -= held.numbered.record.body.len())
            };
            let Some(held) = held else { break };
            self.gaps.sent(held.numbered.name);
            taken.push(held.numbered.clone());
            self.out.insert(held.numbered.name, held);
        }
        taken
    }

    /// The next records are in the file: load what comes after this.
    #[must_use]
    pub fn wants_load(&self) -> Option<Option<Name>> {
        (self.more && self.ready.is_empty()).then_some(self.cursor)
    }

    /// Takes what was loaded; fewer than asked for means that the file has no more.
    pub fn loaded(&mut self, records: Vec<Numbered>, limit: usize) {
        self.more = records.len() >= limit;
        self.cursor = records.last().map(|numbered| numbered.name).or(self.cursor);
        let known: HashSet<Name> = self
            .first
            .iter()
            .chain(self.out.values())
            // An event that grew while its shorter text was committed: the longer one is on its way.
            .chain(self.tail.iter().filter(|held| held.copy == Copied::Older))
            .map(|held| held.numbered.name)
            .chain(self.acked.iter().copied())
            .chain(self.deleting.iter().copied())
            .collect();
        self.ready.extend(records.into_iter().filter(|numbered| !known.contains(&numbered.name)));
    }

    /// The broker has these.
    pub fn ack(&mut self, names: &[Name]) {
        for name in names {
            let Some(held) = self.out.remove(name) else {
                continue;
            };
            if held.copy != Copied::Nothing || self.committing.contains(name) {
                self.acked.push(*name);
                self.acked_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Gives back what was handed out and not acknowledged; it is taken again first, oldest first.
    pub fn rewind(&mut self, names: Option<&[Name]>) {
        let back: Vec<Held> = match names {
            None => std::mem::take(&mut self.out).into_values().collect(),
            Some(names) => names.iter().filter_map(|name| self.out.remove(name)).collect(),
        };
        for held in back.into_iter().rev() {
            self.first.push_front(held);
        }
        self.first
            .make_contiguous()
            .sort_by_key(|held| (held.numbered.record.kind != RecordKind::Reply, held.numbered.name));
    }

    /// When the next commit is due: `window` after the oldest record that is only in memory was made.
    #[must_use]
    pub fn commit_due(&self, window: Duration, delete_window: Duration) -> Option<Instant> {
        // The tail is in the order of making; the other two are short.
        let elsewhere = self.first.iter().chain(self.out.values());
        let oldest = self.tail.front().into_iter().chain(elsewhere.filter(|held| held.copy != Copied::Same));
        let oldest = oldest.map(|held| held.since).min().map(|since| since + window);
        let delete = self.acked_since.map(|since| since + delete_window);
        match (oldest, delete) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Acknowledged records that are still in the file.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Everything that is only in memory, to be committed now, and what may be deleted with it.
    pub fn batch(&mut self) -> (Vec<Numbered>, Vec<Name>) {
        let mut insert: Vec<Numbered> = self.unstored().map(|held| held.numbered.clone()).collect();
        insert.sort_by_key(|numbered| numbered.name);
        self.committing = insert.iter().map(|numbered| numbered.name).collect();
        self.deleting = std::mem::take(&mut self.acked);
        self.acked_since = None;
        (insert, self.deleting.clone())
    }

    /// The commit ended. After a failure everything is as before.
    pub fn committed(&mut self, done: bool) {
        let committing = std::mem::take(&mut self.committing);
        let deleting = std::mem::take(&mut self.deleting);
        if !done {
            self.acked.extend(deleting);
            if !self.acked.is_empty() {
                self.acked_since = Some(Instant::now());
            }
            return;
        }
        let held = self.first.iter_mut().chain(self.out.values_mut());
        for held in held.filter(|held| committing.contains(&held.numbered.name)) {
            held.copy = Copied::Same;
        }
        // What nobody took is in the file now and leaves memory; its turn is found again by the cursor.
        let before = self.tail.len();
        self.tail.retain(|held| !committing.contains(&held.numbered.name));
        self.more |= self.tail.len() < before;
        self.tail_bytes = self.tail.iter().map(|held| held.numbered.record.body.len()).sum();
    }

    /// Marks records of the file as lost to make room. Records in flight are left; gives what may be deleted.
    pub fn evict(&mut self, oldest: Vec<Name>) -> Vec<Name> {
        let dropped: Vec<Name> = oldest.into_iter().filter(|name| !self.out.contains_key(name)).collect();
        let gone: HashSet<Name> = dropped.iter().copied().collect();
        self.ready.retain(|numbered| !gone.contains(&numbered.name));
        self.first.retain(|held| !gone.contains(&held.numbered.name));
        for name in dropped.iter().filter(|name| !self.acked.contains(name)) {
            self.gaps.lose(*name, "max_size");
        }
        dropped
    }

    /// Deletes these from the file with the next commit.
    pub fn delete(&mut self, names: Vec<Name>) {
        self.acked.extend(names);
        self.acked_since.get_or_insert_with(Instant::now);
    }

    /// Records in memory that are not in the file.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.unstored().count()
    }

    /// Records handed out and not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.out.len()
    }

    fn unstored(&self) -> impl Iterator<Item = &Held> {
        let held = self.tail.iter().chain(self.first.iter()).chain(self.out.values());
        held.filter(|held| held.copy != Copied::Same && !self.committing.contains(&held.numbered.name))
    }
}
