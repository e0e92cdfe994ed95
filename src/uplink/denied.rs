//! Topics that the broker denies. Of each, one record is sent again now and then, and what follows waits behind it:
//! rights come back, and some brokers end the connection after a few denials.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Name, Numbered};

/// A denied topic is tried again after this long ...
const AGAIN: Duration = Duration::from_secs(30);
/// ... or this long when what waits fills half of the window and the broker takes other topics, ...
const CROWDED: Duration = Duration::from_secs(5);
/// ... and barred after so many tries, if it takes others meanwhile: then this topic alone is the fault. While it
/// takes none, the rights of the whole gateway are, and everything is kept.
const TRIES: u32 = 3;
/// What waited on a barred topic, and what follows within this time, is set aside unsent.
const BARRED: Duration = Duration::from_secs(600);

/// A topic that was denied.
struct Denied {
    tries: u32,
    reason: String,
    /// One of its records is out.
    is_tried: bool,
    waiting: BTreeMap<Name, Numbered>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Denials {
    topics: BTreeMap<String, Denied>,
    /// Tries on earlier connections.
    earlier: BTreeMap<String, u32>,
    barred: BTreeMap<String, Instant>,
    /// When the first of them was denied since the last try.
    since: Option<Instant>,
}

impl Denials {
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
        let denied = self.topics.entry(topic.to_owned()).or_insert_with(|| Denied {
            tries: self.earlier.remove(topic).unwrap_or(0),
            reason: String::new(),
            is_tried: true,
            waiting: BTreeMap::new(),
        });
        // Several may have been out when the first of them came back.
        denied.tries += u32::from(std::mem::take(&mut denied.is_tried));
        denied.reason = reason;
        denied.waiting.insert(numbered.name, numbered);
        is_new
    }

    /// The broker took a record of this topic: what waited behind it may go.
    pub(super) fn allow(&mut self, topic: &str) -> Vec<Numbered> {
        self.earlier.remove(topic);
        self.topics.remove(topic).map(|denied| denied.waiting.into_values().collect()).unwrap_or_default()
    }

    /// When to try again.
    pub(super) fn again(&self, window: usize, takes_others: bool) -> Option<Instant> {
        let is_crowded = takes_others && self.waiting() >= window.div_ceil(2);
        self.since.map(|since| since + if is_crowded { CROWDED } else { AGAIN })
    }

    /// What is given up, with the reason: everything of the topics that were tried often enough.
    pub(super) fn give_up(&mut self, takes_others: bool) -> Vec<(Numbered, String)> {
        let is_over = |denied: &Denied| takes_others && denied.tries >= TRIES && !denied.is_tried;
        let over: Vec<(String, Denied)> = self.topics.extract_if(.., |_, denied| is_over(denied)).collect();
        let mut records = Vec::new();
        for (topic, denied) in over {
            self.barred.insert(topic, Instant::now() + BARRED);
            let reason = denied.reason;
            records.extend(denied.waiting.into_values().map(|numbered| (numbered, reason.clone())));
        }
        records
    }

    /// One record of each topic, to be sent now.
    pub(super) fn try_again(&mut self) -> Vec<Numbered> {
        self.since = None;
        let first = |denied: &mut Denied| {
            denied.is_tried = true;
            Some(denied.waiting.pop_first()?.1)
        };
        self.topics.values_mut().filter_map(first).collect()
    }

    /// The connection has ended: the buffer gives again what waited.
    pub(super) fn end(&mut self) {
        let tries = std::mem::take(&mut self.topics).into_iter();
        self.earlier.extend(tries.map(|(topic, denied)| (topic, denied.tries)));
        self.since = None;
    }
}
