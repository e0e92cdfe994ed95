//! What was lost, and the events that say so: every missing number lies in the range of one.

use std::collections::BTreeMap;

use crate::clock::Moment;
use crate::record::{self, Name, Record};

/// A range of lost numbers of one run. It may cover numbers that did arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The run.
    pub run: u64,
    /// First lost number.
    pub from: u64,
    /// Last lost number.
    pub to: u64,
    /// Why: `max_size` or `disk-full` (the file), `max_age`, `memory` (records that wait for a commit), `damaged` (a
    /// row), `corrupt` (the whole file), `purged` (by hand), `unclean-stop` (numbers given after the last commit).
    pub reason: String,
}

impl Gap {
    /// The event that tells it.
    #[must_use]
    pub fn event(&self, made: Moment) -> Record {
        let lost = serde_json::json!({ "run": self.run, "from": self.from, "to": self.to });
        record::event("gap", made, |body| body.with("lost", &lost).with("reason", &self.reason))
    }
}

#[derive(Debug)]
struct Open {
    gap: Gap,
    event: Option<Name>,
    is_told: bool,
}

/// The gaps whose event nobody has seen yet: they grow instead of a second event being made.
#[derive(Debug, Default)]
pub struct Gaps {
    open: BTreeMap<(u64, String), Open>,
    dropped: BTreeMap<String, u64>,
}

impl Gaps {
    /// Notes a lost record.
    pub fn lose(&mut self, name: Name, reason: &str) {
        self.lose_range(&Gap { run: name.run, from: name.seq, to: name.seq, reason: reason.to_owned() });
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
    }

    /// Notes a range that may hold lost records; how many is not known.
    pub fn lose_range(&mut self, gap: &Gap) {
        let open = self.open.entry((gap.run, gap.reason.clone()));
        let open = open.or_insert_with(|| Open { gap: gap.clone(), event: None, is_told: false });
        open.gap.from = open.gap.from.min(gap.from);
        open.gap.to = open.gap.to.max(gap.to);
        open.is_told = false;
    }

    /// A gap that no event tells yet, and the event that told less of it.
    #[must_use]
    pub fn untold(&self) -> Option<(Gap, Option<Name>)> {
        let open = self.open.values().find(|open| !open.is_told)?;
        Some((open.gap.clone(), open.event))
    }

    /// The event `name` tells the gap now.
    pub fn told(&mut self, gap: &Gap, name: Name) {
        if let Some(open) = self.open.get_mut(&(gap.run, gap.reason.clone())) {
            open.event = Some(name);
            open.is_told = true;
        }
    }

    /// A record leaves: if it tells a gap, that gap is closed, because somebody may see the event now.
    pub fn sent(&mut self, name: Name) {
        self.open.retain(|_, open| open.event != Some(name));
    }

    /// An event is lost before anybody saw it: what it told wants another one.
    pub fn untell(&mut self, name: Name) {
        for open in self.open.values_mut().filter(|open| open.event == Some(name)) {
            (open.event, open.is_told) = (None, false);
        }
    }

    /// Records lost since the start, by reason.
    #[must_use]
    pub fn dropped(&self) -> &BTreeMap<String, u64> {
        &self.dropped
    }
}
