//! Handing out: replies first, then live data and backlog by their shares, each in the order of its numbers.

use std::collections::HashSet;

use super::{Copied, Held, Queue};
use crate::record::{Name, Numbered, RecordKind};

/// What was handed out.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records.
    pub records: Vec<Numbered>,
    /// How many of them were made before the present connection.
    pub backlog: usize,
}

impl Queue {
    /// Hands out up to `limit` records, at most `allowance` of them made before the present connection; with
    /// `only_stored` none that is not in the file. Nothing: nothing waits, or the file has to be asked
    /// ([`Queue::wants_load`]).
    pub fn take(&mut self, limit: usize, only_stored: bool, allowance: usize) -> Taken {
        let mut taken = Taken::default();
        while taken.records.len() < limit {
            let may_go = |held: &Held| held.copy == Copied::Same || !only_stored;
            let reply = self.first.iter().position(|held| held.kind() == RecordKind::Reply && may_go(held));
            let held = if let Some(index) = reply {
                self.first.remove(index)
            } else {
                let old = self.first.iter().position(may_go);
                let oldest = old.and_then(|index| self.first.get(index)).map(Held::name);
                let oldest = oldest.or_else(|| self.ready.front().map(|numbered| numbered.name));
                let is_backlog = oldest.is_some_and(|name| name <= self.before);
                let has_old = oldest.is_some() && !(is_backlog && taken.backlog >= allowance);
                let has_live = self.tail.front().is_some_and(may_go)
                    && (self.rules.live_share > 0.0 || (oldest.is_none() && !self.more));
                if self.is_live_turn(has_old, has_live) {
                    self.tail.pop_front().inspect(|held| self.tail_bytes -= held.size())
                } else if has_old {
                    taken.backlog += usize::from(is_backlog);
                    match old {
                        Some(index) => self.first.remove(index),
                        None => self.ready.pop_front().map(|numbered| Held::new(numbered, Copied::Same)),
                    }
                } else {
                    None
                }
            };
            let Some(mut held) = held else { break };
            held.handed = true;
            self.gaps.sent(held.name());
            taken.records.push(held.numbered.clone());
            self.out.insert(held.name(), held);
        }
        taken
    }

    /// Live data takes its share while both wait; what one side does not use, the other gets.
    fn is_live_turn(&mut self, has_old: bool, has_live: bool) -> bool {
        if !(has_old && has_live) {
            return has_live;
        }
        self.turn += self.rules.live_share;
        let is_live = self.turn >= 1.0;
        if is_live {
            self.turn -= 1.0;
        }
        is_live
    }

    /// The next records are in the file: load what comes after this. Asked for while `few` or fewer are at hand.
    #[must_use]
    pub fn wants_load(&self, few: usize) -> Option<Option<Name>> {
        (self.more && !self.is_retiming && self.ready.len() <= few).then_some(self.cursor)
    }

    /// Takes what was loaded, up to the row `last`; `more` rows may wait behind it.
    pub fn loaded(&mut self, records: Vec<Numbered>, last: Option<Name>, more: bool) {
        self.more = more;
        self.cursor = last.or(self.cursor);
        let mut known: HashSet<Name> = self
            .first
            .iter()
            .chain(self.out.values())
            .map(Held::name)
            .chain(self.acked.iter().chain(&self.deleting).copied())
            .chain(self.aside.iter().chain(&self.asiding).map(|aside| aside.name))
            .chain(self.ready.iter().map(|numbered| numbered.name))
            .collect();
        // An event that grew while its shorter text was committed: the longer one is on its way.
        known.extend(self.tail.iter().filter(|held| held.copy == Copied::Older).map(Held::name));
        let start = self.ready.len();
        self.ready.extend(records.into_iter().filter(|numbered| !known.contains(&numbered.name)));
        // The file's side has come so far: the copies kept for the live side would be handed out twice.
        let loaded: HashSet<Name> = self.ready.iter().skip(start).map(|numbered| numbered.name).collect();
        self.tail.retain(|held| !loaded.contains(&held.name()));
        self.tail_bytes = self.tail.iter().map(Held::size).sum();
    }

    /// The file was changed by somebody else, or is a new one: everything in it is looked at again.
    pub fn look_again(&mut self, is_new: bool) {
        self.ready.clear();
        (self.cursor, self.more) = (None, true);
        if is_new {
            for held in self.tail.iter_mut().chain(&mut self.first).chain(self.out.values_mut()) {
                held.copy = Copied::Nothing;
            }
        }
    }
}
