//! What the parts count of their own work, for whoever watches.
//!
//! Each part adds where it happens and asks nobody; a number is read only when somebody looks. All of it lives on
//! the one thread of the event loop, but for what the MQTT thread counts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::command::Outcome;
use crate::point::{DeviceId, LinkId};

mod link;

pub use link::{BOUNDS, DeviceCounters, Durations, LinkCounters, PollResult, Traffic};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().saturating_add(more));
    }

    /// How many since the start.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Everything that is counted. A link or a device that is set up again under its id goes on where it was.
#[derive(Debug, Default)]
pub struct Counters {
    links: RefCell<BTreeMap<LinkId, Rc<LinkCounters>>>,
    devices: RefCell<BTreeMap<DeviceId, Rc<DeviceCounters>>>,
    /// Of the connection to the broker.
    pub uplink: Rc<UplinkCounters>,
    /// Of the commands.
    pub commands: Rc<CommandCounters>,
}

impl Counters {
    /// What a link counts, with its devices.
    #[must_use]
    pub fn traffic<'d>(&self, link: &LinkId, devices: impl Iterator<Item = &'d DeviceId>) -> Traffic {
        let mut known = self.devices.borrow_mut();
        let device = |id: &DeviceId| (id.clone(), known.entry(id.clone()).or_default().clone());
        let devices = devices.map(device).collect();
        Traffic { link: self.links.borrow_mut().entry(link.clone()).or_default().clone(), devices }
    }

    /// The links that somebody counts for.
    pub fn links(&self) -> Vec<(LinkId, Rc<LinkCounters>)> {
        used(&self.links.borrow())
    }

    /// The devices that somebody counts for.
    pub fn devices(&self) -> Vec<(DeviceId, Rc<DeviceCounters>)> {
        used(&self.devices.borrow())
    }
}

/// What is left out of the configuration keeps its numbers, in case it comes back, but is not shown.
fn used<Id: Clone, T>(all: &BTreeMap<Id, Rc<T>>) -> Vec<(Id, Rc<T>)> {
    let used = all.iter().filter(|(_, counters)| Rc::strong_count(counters) > 1);
    used.map(|(id, counters)| (id.clone(), counters.clone())).collect()
}

/// What the uplink counts.
#[derive(Debug, Default)]
pub struct UplinkCounters {
    /// Connections that the broker accepted.
    pub connections: Counter,
    /// Rounds over the brokers that brought no connection.
    pub failures: Counter,
    /// Records handed over to be sent; one that is sent again counts again.
    pub published: Counter,
    /// Records that the broker has.
    pub acknowledged: Counter,
    /// Publishes that the broker denied for want of rights.
    pub denied: Counter,
    /// Records set aside because the broker will never take them.
    pub set_aside: Counter,
    /// Statuses and descriptions that are larger than the broker takes.
    pub too_large: Counter,
    /// How often another client took the session over.
    pub takeovers: Counter,
    /// Messages from the broker that came faster than they were taken, and were lost. The MQTT thread counts them.
    pub refused: Arc<AtomicU64>,
    /// When our own client certificate ends, in Unix seconds; known once it was read for a connection.
    pub certificate_end: Cell<Option<i64>>,
}

/// What became of the commands.
#[derive(Debug, Default)]
pub struct CommandCounters {
    succeeded: Counter,
    failed: Counter,
    rejected: Counter,
    expired: Counter,
    /// By the code of the reply.
    errors: RefCell<BTreeMap<String, u64>>,
    /// Commands that came again and got the stored reply.
    pub repeated: Counter,
}

impl CommandCounters {
    /// A command ended.
    pub fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Succeeded(_) | Outcome::Sent(_) | Outcome::Answered(_) => &self.succeeded,
            Outcome::Failed { .. } => &self.failed,
            Outcome::Rejected { .. } => &self.rejected,
            Outcome::Expired(_) => &self.expired,
        };
        counter.count();
        if let Some(code) = outcome.code() {
            let mut errors = self.errors.borrow_mut();
            match errors.get_mut(code) {
                Some(count) => *count += 1,
                None => drop(errors.insert(code.to_owned(), 1)),
            }
        }
    }

    /// How many ended in each way.
    pub fn by_status(&self) -> [(&'static str, u64); 4] {
        [
            ("succeeded", self.succeeded.get()),
            ("failed", self.failed.get()),
            ("rejected", self.rejected.get()),
            ("expired", self.expired.get()),
        ]
    }

    /// How many had no success, by code.
    pub fn by_code(&self) -> BTreeMap<String, u64> {
        self.errors.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_set_up_again_goes_on_and_who_is_gone_is_not_shown() {
        let (bus, boiler) = (LinkId::new("bus").unwrap(), DeviceId::new("boiler").unwrap());
        let counters = Counters::default();
        let traffic = counters.traffic(&bus, [&boiler].into_iter());
        traffic.link.overruns.add(3);
        assert_eq!(counters.links().len(), 1);
        drop(traffic);
        assert!(counters.links().is_empty() && counters.devices().is_empty());
        let again = counters.traffic(&bus, [&boiler].into_iter());
        assert_eq!((again.link.overruns.get(), counters.devices().len()), (3, 1));
    }
}
