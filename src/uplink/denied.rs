//! Topics that the broker denies. Of each, one record is sent again now and then, and what follows waits behind it:
//! rights come back, and some brokers end the connection after a few denials.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Name, Numbered};

/// Denied topics are tried again after this long ...
const AGAIN: Duration = Duration::from_secs(30);
/// ... or this long while what waits fills half of the window, ...
const CROWDED: Duration = Duration::from_secs(5);
/// ... and given up after so many tries, unless the broker denies the gateway everything: then its rights are at
/// fault and everything is kept.
const TRIES: u32 = 3;
/// What waited on a topic that was given up is set aside, and what follows too, unsent, for this long. Then one
/// record is tried again.
const BARRED: Duration = Duration::from_secs(60);

/// A topic that was denied.
#[derive(Default)]
struct Denied {
    tries: u32,
    reason: String,
    /// Its record that is out.
    out: Option<Name>,
    waiting: BTreeMap<Name, Numbered>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Denials {
    topics: BTreeMap<String, Denied>,
    /// Tries on earlier connections, and of topics that were given up.
    earlier: BTreeMap<String, u32>,
    barred: BTreeMap<String, Instant>,
    /// The last try, or the first denial.
    since: Option<Instant>,
}

impl Denials {
    /// The broker denies nothing, and did not lately.
    pub(super) fn is_idle(&self) -> bool {
        self.topics.is_empty() && self.earlier.is_empty() && self.barred.is_empty()
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> usize {
        self.topics.values().map(|denied| denied.waiting.len()).sum()
    }

    /// The record, unless it has to wait behind others of its topic.
    pub(super) fn hold(&mut self, topic: &str, numbered: Numbered) -> Option<Numbered> {
        let Some(denied) = self.topics.get_mut(topic) else { return Some(numbered) };
        denied.waiting.insert(numbered.name, numbered);
        None
    }

    /// Nothing is sent on this topic for now.
    pub(super) fn is_barred(&mut self, topic: &str) -> bool {
        let until = self.barred.get(topic);
        if until.is_some_and(|until| *until <= Instant::now()) {
            self.barred.remove(topic);
            return false;
        }
        until.is_some()
    }

    /// A record was denied. Says whether its topic is newly so.
    pub(super) fn deny(&mut self, topic: &str, numbered: Numbered, reason: String) -> bool {
        self.since.get_or_insert_with(Instant::now);
        let is_new = !self.topics.contains_key(topic);
        let denied = self.topics.entry(topic.to_owned()).or_default();
        if is_new {
            denied.tries = self.earlier.remove(topic).unwrap_or(0) + 1;
        } else if denied.out == Some(numbered.name) {
            // Others may have been out when the first of them came back: they are no tries.
            denied.tries += 1;
        }
        denied.out.take_if(|out| *out == numbered.name);
        denied.reason = reason;
        denied.waiting.insert(numbered.name, numbered);
        is_new
    }

    /// The broker took a record of this topic: what waited behind it may go.
    pub(super) fn allow(&mut self, topic: &str) -> Vec<Numbered> {
        self.earlier.remove(topic);
        self.topics.remove(topic).map(|denied| denied.waiting.into_values().collect()).unwrap_or_default()
    }

    /// This record will not be sent any more, whatever the rights: the next of its topic is tried.
    pub(super) fn drop_out(&mut self, topic: &str, name: Name) {
        if let Some(denied) = self.topics.get_mut(topic) {
            denied.out.take_if(|out| *out == name);
        }
        self.topics.retain(|_, denied| denied.out.is_some() || !denied.waiting.is_empty());
    }

    /// When to try again; always some time while anything waits.
    pub(super) fn again(&self, window: usize) -> Option<Instant> {
        let is_crowded = self.waiting() >= window.div_ceil(2);
        let wait = if is_crowded { CROWDED } else { AGAIN };
        (self.waiting() > 0).then(|| self.since.unwrap_or_else(Instant::now) + wait)
    }

    /// Some topic was tried often enough, so that it has to be known whose fault it is.
    pub(super) fn has_hopeless(&self) -> bool {
        self.topics.values().any(is_hopeless)
    }

    /// What is given up, with the reason: everything of the topics that were tried often enough.
    pub(super) fn give_up(&mut self) -> Vec<(Numbered, String)> {
        let over: Vec<(String, Denied)> =
            self.topics.extract_if(.., |_, denied| is_hopeless(denied)).collect();
        let mut records = Vec::new();
        for (topic, denied) in over {
            self.earlier.insert(topic.clone(), TRIES - 1);
            self.barred.insert(topic, Instant::now() + BARRED);
            let reason = denied.reason;
            records.extend(denied.waiting.into_values().map(|numbered| (numbered, reason.clone())));
        }
        records
    }

    /// One record of each topic, to be sent now.
    pub(super) fn try_again(&mut self) -> Vec<Numbered> {
        self.since = Some(Instant::now());
        let first = |denied: &mut Denied| {
            let (name, numbered) = denied.waiting.pop_first()?;
            denied.out = Some(name);
            Some(numbered)
        };
        self.topics.values_mut().filter(|denied| denied.out.is_none()).filter_map(first).collect()
    }

    /// The connection has ended: the buffer gives again what waited.
    pub(super) fn end(&mut self) {
        let tries = std::mem::take(&mut self.topics).into_iter();
        self.earlier.extend(tries.map(|(topic, denied)| (topic, denied.tries)));
        self.since = None;
    }
}

fn is_hopeless(denied: &Denied) -> bool {
    denied.tries >= TRIES && denied.out.is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Moment, Timestamp};
    use crate::record::{Record, RecordKind, Topic};

    fn numbered(seq: u64) -> Numbered {
        let made = Moment { wall: Timestamp::from_millis(0), uptime: 0, synced: true };
        let body: Arc<[u8]> = Arc::from(&b"{}"[..]);
        let record =
            Record { kind: RecordKind::Readings, topic: Topic::Event, body, correlation: None, made };
        Numbered { name: Name { run: 1, seq }, record }
    }

    fn names(records: &[Numbered]) -> Vec<u64> {
        records.iter().map(|numbered| numbered.name.seq).collect()
    }

    #[test]
    fn one_record_of_a_topic_is_tried_and_the_others_wait() {
        let mut denials = Denials::default();
        assert!(denials.deny("a", numbered(1), "no".to_owned()));
        // It was out with the first.
        assert!(!denials.deny("a", numbered(2), "no".to_owned()));
        assert!(denials.hold("a", numbered(3)).is_none());
        assert!(denials.hold("b", numbered(4)).is_some());
        assert_eq!(names(&denials.try_again()), [1]);
        assert!(denials.try_again().is_empty(), "one at a time");
        denials.deny("a", numbered(1), "no".to_owned());
        assert!(!denials.has_hopeless());
        assert_eq!(names(&denials.try_again()), [1]);
        denials.deny("a", numbered(1), "no".to_owned());
        assert!(denials.has_hopeless());
        let given_up: Vec<Numbered> = denials.give_up().into_iter().map(|(numbered, _)| numbered).collect();
        assert_eq!(names(&given_up), [1, 2, 3]);
        assert!(denials.is_barred("a") && !denials.is_barred("b"));
        assert_eq!((denials.waiting(), denials.again(10)), (0, None));
    }

    #[test]
    fn what_waits_is_released_when_one_was_taken() {
        let mut denials = Denials::default();
        denials.deny("a", numbered(1), "no".to_owned());
        denials.hold("a", numbered(2));
        denials.try_again();
        assert_eq!(names(&denials.allow("a")), [2]);
        assert!(denials.hold("a", numbered(3)).is_some());
        assert_eq!(denials.again(10), None);
    }

    #[test]
    fn a_tried_record_that_ends_otherwise_leaves_its_place_to_the_next() {
        let mut denials = Denials::default();
        denials.deny("a", numbered(1), "no".to_owned());
        denials.hold("a", numbered(2));
        denials.try_again();
        denials.drop_out("a", numbered(1).name);
        assert!(denials.again(10).is_some());
        assert_eq!(names(&denials.try_again()), [2]);
        denials.drop_out("a", numbered(2).name);
        assert!(denials.hold("a", numbered(3)).is_some(), "nothing waits any more");
        assert_eq!(denials.again(10), None);
    }
}
