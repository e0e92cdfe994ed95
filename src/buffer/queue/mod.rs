//! Which record is where: the buffer's state without its file. Pure; the actor moves it along.
//!
//! A record is in one of these places until the broker has acknowledged it:
//!
//! * `tail`: made and not yet handed out; after its commit the newest stay here too, so that live data flows while
//!   a backlog drains;
//! * the file alone: committed, not handed out, loaded again when its turn comes;
//! * `ready`: loaded from the file for the next hand-out;
//! * `out`: handed to Uplink, in the file or not;
//! * `first`: handed out and given back (a connection broke), or a reply, which goes before everything else.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::time::Instant;

use super::gap::Gaps;
use super::store::Aside;
use crate::config::WhenFull;
use crate::record::{Name, Numbered, Record, RecordKind};

mod commit;
mod room;
mod take;
#[cfg(test)]
mod tests;
mod times;

pub use commit::Pending;
pub use take::Taken;
use times::Times;

/// Most records that wait in memory for a commit: 250 ms of 20,000 a second.
pub const TAIL_RECORDS: usize = 5_000;
/// Most bytes of their bodies: on the smallest Pi (512 MB) still nothing to notice.
pub const TAIL_BYTES: usize = 8 << 20;

/// Most replies that wait in memory to go first; more take their turn with the readings.
const FIRST_RECORDS: usize = 1_000;

/// How the queue decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What gives way at a bound.
    pub when_full: WhenFull,
    /// While a backlog drains, at least this part of what is handed out is live.
    pub live_share: f64,
}

/// A record in memory.
#[derive(Clone, Debug)]
struct Held {
    numbered: Numbered,
    since: Instant,
    copy: Copied,
    /// Somebody may have seen it: its text stays as it is.
    handed: bool,
}

impl Held {
    fn new(numbered: Numbered, copy: Copied) -> Self {
        Self { numbered, since: Instant::now(), copy, handed: false }
    }

    fn name(&self) -> Name {
        self.numbered.name
    }

    fn size(&self) -> usize {
        self.numbered.record.body.len()
    }

    fn kind(&self) -> RecordKind {
        self.numbered.record.kind
    }
}

/// What the file has of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Nothing,
    /// An earlier text: it has grown, or got its true time. It does not leave before the file has the present one,
    /// or a kill would make the next run send the other text under the same name.
    Older,
    Same,
}

/// The places of all records.
#[derive(Debug)]
pub struct Queue {
    run: u64,
    next_seq: u64,
    rules: Rules,
    first: VecDeque<Held>,
    ready: VecDeque<Numbered>,
    tail: VecDeque<Held>,
    tail_bytes: usize,
    out: BTreeMap<Name, Held>,
    /// Acknowledged, and still in the file.
    acked: Vec<Name>,
    acked_since: Option<Instant>,
    /// To be set aside with the next commit.
    aside: Vec<Aside>,
    /// Part of the commit or deletion that the store thread is busy with.
    committing: HashSet<Name>,
    deleting: Vec<Name>,
    asiding: Vec<Aside>,
    /// The last record loaded; the file's records after it may still wait there.
    cursor: Option<Name>,
    more: bool,
    /// Loads wait: the file's times are being made right.
    is_retiming: bool,
    /// The newest name when the present connection began: everything up to it is backlog.
    before: Name,
    /// Whose turn it is, live or backlog.
    turn: f64,
    times: Times,
    elided: u64,
    /// The last work of the store failed.
    is_failing: bool,
    /// What was lost, and the events that say so.
    pub gaps: Gaps,
}

impl Queue {
    /// At the start of a run, with `records` left in the file and `replies` of them loaded.
    #[must_use]
    pub fn new(run: u64, records: u64, replies: Vec<Numbered>, rules: Rules) -> Self {
        let first = replies.into_iter().map(|numbered| Held {
            // An earlier run may have handed it out.
            handed: true,
            ..Held::new(numbered, Copied::Same)
        });
        Self {
            run,
            next_seq: 1,
            rules,
            first: first.collect(),
            ready: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            out: BTreeMap::new(),
            acked: Vec::new(),
            acked_since: None,
            aside: Vec::new(),
            committing: HashSet::new(),
            deleting: Vec::new(),
            asiding: Vec::new(),
            cursor: None,
            more: records > 0,
            is_retiming: false,
            before: Name { run, seq: 0 },
            turn: 0.0,
            times: Times::default(),
            elided: 0,
            is_failing: false,
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
        #[cfg(feature = "mutant")]
        let record = crate::mutant::changed(name, record);
        #[cfg(feature = "mutant")]
        if crate::mutant::vanishes(name) {
            return name;
        }
        self.times.note(name, record.made);
        let held = |record| Held::new(Numbered { name, record }, Copied::Nothing);
        // Somebody waits for a reply: it goes before the readings of an outage.
        if record.kind == RecordKind::Reply && self.first.len() < FIRST_RECORDS {
            self.first.push_back(held(record));
            return name;
        }
        if record.kind != RecordKind::Event && !self.has_room(record.body.len()) {
            self.gaps.lose(name, "memory");
            return name;
        }
        self.push_tail(held(record));
        name
    }

    fn push_tail(&mut self, held: Held) {
        self.tail_bytes += held.size();
        self.tail.push_back(held);
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
        self.times.note(numbered.name, numbered.record.made);
        self.first.push_back(Held::new(numbered, Copied::Same));
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
            } else {
                self.elided += 1;
            }
        }
    }

    /// A new connection begins: gives back what was handed out and not acknowledged; it is taken again first, oldest
    /// first. Gives the newest name: everything up to it was made before this connection.
    pub fn rewind(&mut self) -> Name {
        let back = std::mem::take(&mut self.out).into_values().collect();
        self.give_back(back);
        self.before = self.newest();
        self.before
    }

    /// Nobody has seen these after all.
    pub fn undo(&mut self, names: &[Name]) {
        let back = names.iter().filter_map(|name| self.out.remove(name)).collect();
        self.give_back(back);
    }

    fn give_back(&mut self, back: Vec<Held>) {
        for held in back.into_iter().rev() {
            self.first.push_front(held);
        }
        self.first.make_contiguous().sort_by_key(|held| (held.kind() != RecordKind::Reply, held.name()));
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

    /// Acknowledged records that are still in the file.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Records that the broker had before they were written.
    #[must_use]
    pub fn elided(&self) -> u64 {
        self.elided
    }

    fn unstored(&self) -> impl Iterator<Item = &Held> {
        let held = self.tail.iter().chain(self.first.iter()).chain(self.out.values());
        held.filter(|held| held.copy != Copied::Same && !self.committing.contains(&held.name()))
    }
}
