//! Records made before the clock was set: which they are, and how far their times are off.

use std::collections::HashSet;

use serde_json::json;

use super::{Copied, Held, Queue};
use crate::clock::Moment;
use crate::record::{self, Name, Record};

/// A clock that moved by less than this was not set: it drifted.
const STEP_MS: i64 = 1_000;
/// Stretches between two steps of an unset clock that are remembered; more are not mended for the receiver.
const STRETCHES: usize = 64;

/// A stretch of records made while the unset clock ran evenly.
#[derive(Debug)]
struct Stretch {
    from: u64,
    to: u64,
    /// The wall time of uptime 0, as the clock had it.
    base: i64,
}

/// The stretches of this run.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<Stretch>);

impl Times {
    /// Notes a record that may be one of them.
    pub(super) fn note(&mut self, name: Name, made: Moment) {
        if made.synced {
            return;
        }
        let base = made.wall.millis() - made.uptime;
        let is_room = self.0.len() < STRETCHES;
        match self.0.last_mut() {
            Some(last) if (last.base - base).abs() < STEP_MS => last.to = last.to.max(name.seq),
            _ if is_room => self.0.push(Stretch { from: name.seq, to: name.seq, base }),
            _ => {}
        }
    }
}

impl Queue {
    /// Some records of this run were made before the clock was set.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        !self.times.0.is_empty()
    }

    /// The clock is set now: what nobody has seen gets its true time, in memory at once; until
    /// [`Queue::retimed`] nothing is loaded from the file. Gives the event that lets a receiver mend the others, the
    /// wall time of uptime 0, and the names whose rows, if they have one, must stay as they are.
    pub fn clock_set(&mut self, now: Moment) -> (Record, i64, HashSet<Name>) {
        let base = now.wall.millis() - now.uptime;
        let unsynced: Vec<_> = std::mem::take(&mut self.times.0)
            .iter()
            .map(|stretch| {
                let offset = base - stretch.base;
                json!({ "run": self.run, "from": stretch.from, "to": stretch.to, "offset_ms": offset })
            })
            .collect();
        let event = record::event("clock-set", now, |body| {
            let offset = unsynced.last().map_or(json!(0), |stretch| stretch["offset_ms"].clone());
            body.with("offset_ms", &offset).with("unsynced", &unsynced)
        });
        // What the file has comes from there again, once it is right: nothing may leave while its row says otherwise.
        self.tail.retain(|held| held.copy != Copied::Same);
        for held in self.tail.iter_mut().chain(&mut self.first).filter(|held| !held.handed) {
            if held.numbered.record.set_time(base) && held.copy == Copied::Same {
                held.copy = Copied::Older;
            }
        }
        self.tail_bytes = self.tail.iter().map(Held::size).sum();
        // What has no row yet may get one before its turn comes.
        let handed = self.first.iter().filter(|held| held.handed).chain(self.out.values());
        let seen = handed.map(Held::name).collect();
        self.ready.clear();
        (self.cursor, self.more, self.is_retiming) = (None, true, true);
        (event, base, seen)
    }

    /// The file's times are right.
    pub fn retimed(&mut self) {
        self.is_retiming = false;
    }
}
