//! What was lost, and the events that say so: every missing number lies in the range of one.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
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
    /// Which bound was reached: `max_size` (the file) or `memory` (records that wait for a commit).
    pub reason: &'static str,
}

impl Gap {
    /// The event that tells it.
    #[must_use]
    pub fn event(&self, ts: Timestamp, synced: bool) -> Record {
        let lost = serde_json::json!({ "run": self.run, "from": self.from, "to": self.to });
        record::event("gap", ts, synced, |body| body.with("lost", &lost).with("reason", self.reason))
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
    open: BTreeMap<(u64, &'static str), Open>,
    dropped: u64,
}

impl Gaps {
    /// Notes a lost record.
    pub fn lose(&mut self, name: Name, reason: &'static str) {
        self.dropped += 1;
        let gap = Gap { run: name.run, from: name.seq, to: name.seq, reason };
        let open = self.open.entry((name.run, reason)).or_insert(Open { gap, event: None, is_told: false });
        open.gap.from = open.gap.from.min(name.seq);
        open.gap.to = open.gap.to.max(name.seq);
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
        if let Some(open) = self.open.get_mut(&(gap.run, gap.reason)) {
            open.event = Some(name);
            open.is_told = true;
        }
    }

    /// A record leaves: if it tells a gap, that gap is closed, because somebody may see the event now.
    pub fn sent(&mut self, name: Name) {
        self.open.retain(|_, open| open.event != Some(name));
    }

    /// Records lost since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
