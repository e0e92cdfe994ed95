//! Handing out: replies first, then live data and backlog by their shares, each in the order of its numbers.

use std::collections::HashSet;
use std::time::Duration;

use super::{Copied, Held, Queue};
use crate::record::{Name, Numbered, RecordKind};

/// A record that has waited so long is no longer live. Well below the ten seconds after which it is marked as
/// backlog, because its poll took time too: what is marked must not overtake the rest of the backlog.
const LIVE: Duration = Duration::from_secs(5);

/// What was handed out.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records.
    pub records: Vec<Numbered>,
    /// How many of them were made before the present connection.
    pub backlog: usize,
}

/// Where a record waits.
#[derive(Clone, Copy, Debug)]
enum Place {
    First(usize),
    Ready,
    Tail(usize),
}

impl Queue {
    /// Hands out up to `limit` records, at most `allowance` of them made before the present connection; with
    /// `only_stored` none that is not in the file. Nothing: nothing waits, or the file has to be asked
    /// ([`Queue::wants_load`]).
    pub fn take(&mut self, limit: usize, only_stored: bool, allowance: usize) -> Taken {
        let mut taken = Taken::default();
        while taken.records.len() < limit {
            let Some(place) = self.next_place(only_stored, taken.backlog < allowance) else { break };
            let held = match place {
                Place::First(index) => self.first.remove(index),
                Place::Ready => self.ready.pop_front().map(|numbered| Held::new(numbered, Copied::Same)),
                Place::Tail(index) => self.tail.remove(index).inspect(|held| self.tail_bytes -= held.size()),
            };
            let Some(mut held) = held else { break };
            let is_backlog = held.kind() != RecordKind::Reply && held.name() <= self.before;
            taken.backlog += usize::from(is_backlog);
            held.handed = true;
            self.gaps.sent(held.name());
            taken.records.push(held.numbered.clone());
            self.out.insert(held.name(), held);
        }
        taken
    }

    fn next_place(&mut self, only_stored: bool, may_backlog: bool) -> Option<Place> {
        // On a broken disk all that is in memory goes: what waits behind would wait for ever.
        let may_older = self.is_failing && !only_stored;
        let may_go = |held: &Held| match held.copy {
            Copied::Same => true,
            Copied::Nothing => !only_stored,
            Copied::Older => may_older,
        };
        let reply = self.first.iter().position(|held| held.kind() == RecordKind::Reply && may_go(held));
        if reply.is_some() {
            return reply.map(Place::First);
        }
        let oldest = self.oldest(may_go);
        let old = oldest.filter(|(name, _)| may_backlog || *name > self.before);
        let live = self.tail.partition_point(|held| self.is_late(held));
        let has_live = self.tail.get(live).is_some_and(may_go)
            && (self.rules.live_share > 0.0 || (oldest.is_none() && !self.more));
        if self.is_live_turn(old.is_some(), has_live) {
            return Some(Place::Tail(live));
        }
        old.map(|(_, place)| place)
    }

    /// It has its turn with the backlog, or it would overtake it. The tail is in the order of names and of making.
    fn is_late(&self, held: &Held) -> bool {
        held.name() <= self.before || held.since.elapsed() >= LIVE
    }

    /// The oldest record that waits outside of the live data; nothing while the file may have an older one, or while
    /// it must not go yet.
    fn oldest(&self, may_go: impl Fn(&Held) -> bool) -> Option<(Name, Place)> {
        let may_come = |held: &Held| may_go(held) || held.copy == Copied::Older;
        let first = self.first.iter().enumerate().filter(|(_, held)| may_come(held));
        let first = first.map(|(index, held)| (held.name(), Place::First(index), may_go(held)));
        let ready = self.ready.front().map(|numbered| (numbered.name, Place::Ready, true));
        let rest = self.tail.front().filter(|held| self.is_late(held) && may_come(held));
        let rest = rest.map(|held| (held.name(), Place::Tail(0), may_go(held)));
        let (name, place, may_go) = first.chain(ready).chain(rest).min_by_key(|(name, ..)| *name)?;
        let is_certain = ready.is_some() || !self.more || Some(name) <= self.cursor;
        (is_certain && may_go).then_some((name, place))
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

    /// The next records are in the file: load what comes after this. Asked for while `few` or fewer are at hand, and
    /// their bodies are not `bytes` already.
    #[must_use]
    pub fn wants_load(&self, few: usize, bytes: usize) -> Option<Option<Name>> {
        let is_wanted = self.more && !self.is_retiming && self.ready.len() <= few;
        let size = || self.ready.iter().map(|numbered| numbered.record.body.len()).sum::<usize>();
        (is_wanted && size() < bytes).then_some(self.cursor)
    }

    /// Takes what was loaded, up to the row `last`; `more` rows may wait behind it.
    pub fn loaded(&mut self, records: Vec<Numbered>, last: Option<Name>, more: bool) {
        self.more = more;
        self.cursor = last.or(self.cursor);
        let Some((first, last)) = records.first().zip(records.last()) else { return };
        let span = first.name..=last.name;
        let mut known: HashSet<Name> = self
            .first
            .iter()
            .chain(self.out.values())
            .map(Held::name)
            .chain(self.acked.iter().chain(&self.deleting).copied())
            .chain(self.aside.iter().chain(&self.asiding).map(|aside| aside.name))
            .chain(self.ready.iter().map(|numbered| numbered.name))
            .filter(|name| span.contains(name))
            .collect();
        // An event that grew while its shorter text was committed: the longer one is on its way.
        known.extend(self.tail.iter().filter(|held| held.copy == Copied::Older).map(Held::name));
        let start = self.ready.len();
        self.ready.extend(records.into_iter().filter(|numbered| !known.contains(&numbered.name)));
        // The file's side has come so far: the copies kept for the live side would be handed out twice.
        let loaded: HashSet<Name> = self.ready.iter().skip(start).map(|numbered| numbered.name).collect();
        self.tail.retain(|held| !(span.contains(&held.name()) && loaded.contains(&held.name())));
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

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::*;
    use crate::clock::Moment;
    use crate::config::WhenFull;
    use crate::record::{Record, event};

    fn made() -> Record {
        event("made", Moment::synced(0), |body| body)
    }

    #[test]
    fn what_was_made_before_the_connection_does_not_overtake_the_file() {
        let rules = Rules { when_full: WhenFull::DropOldest, live_share: 0.5 };
        let mut queue = Queue::new(2, 3, Vec::new(), rules);
        let given_back = queue.append(made());
        assert_eq!(queue.take(1, false, usize::MAX).records.len(), 1);
        let waits = queue.append(made());
        let before = queue.rewind();
        assert_eq!(before, waits);
        let live = queue.append(made());
        // The file may hold something older than what was given back.
        let names = |taken: Taken| -> Vec<Name> { taken.records.iter().map(|record| record.name).collect() };
        assert_eq!(names(queue.take(9, false, usize::MAX)), [live]);
        let rows: Vec<Numbered> =
            (1..=3).map(|seq| Numbered { name: Name { run: 1, seq }, record: made() }).collect();
        queue.loaded(rows.clone(), Some(rows[2].name), false);
        let live = queue.append(made());
        let mut all = names(queue.take(9, false, usize::MAX));
        assert!(all.contains(&live), "live data has its share");
        all.retain(|name| *name <= before);
        let backlog: Vec<Name> = rows.iter().map(|row| row.name).chain([given_back, waits]).collect();
        assert_eq!(all, backlog);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_long_is_no_longer_live() {
        let rules = Rules { when_full: WhenFull::DropOldest, live_share: 1.0 };
        let mut queue = Queue::new(2, 1, Vec::new(), rules);
        let late = queue.append(made());
        tokio::time::advance(LIVE).await;
        let live = queue.append(made());
        let names = |taken: Taken| -> Vec<Name> { taken.records.iter().map(|record| record.name).collect() };
        assert_eq!(names(queue.take(9, false, usize::MAX)), [live]);
        let row = Numbered { name: Name { run: 1, seq: 1 }, record: made() };
        queue.loaded(vec![row.clone()], Some(row.name), false);
        assert_eq!(names(queue.take(9, false, usize::MAX)), [row.name, late]);
    }
}
