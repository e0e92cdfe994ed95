//! What a link counts: of itself, and of each device on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Counter;
use crate::point::DeviceId;

/// The busy part of a link's time is that of the last one to two of these.
const WINDOW: Duration = Duration::from_secs(30);
/// Bounds of the poll times that are told apart, in seconds: a fast device on a network, a slow one on a line, and
/// what has run into time-outs.
pub const BOUNDS: [f64; 7] = [0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 10.0];

/// What a link and its devices count.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Of the link itself.
    pub link: Rc<LinkCounters>,
    /// Of its devices.
    pub devices: BTreeMap<DeviceId, Rc<DeviceCounters>>,
}

impl Traffic {
    /// A poll is complete.
    pub fn count(&self, device: &DeviceId, result: PollResult, time: Duration) {
        if let Some(counters) = self.devices.get(device) {
            counters.count(result, time);
        }
    }
}

/// Of a link.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// How often it was opened.
    pub opened: Counter,
    /// Turns that were left out because the link was at work when they came.
    pub overruns: Counter,
    /// Commands refused because too many waited.
    pub refused: Counter,
    /// How often its driver panicked.
    pub panics: Counter,
    /// Reports of states that found no room in the mailbox.
    pub unreported: Counter,
    /// Time at work, requests and the rests after them.
    pub busy: Busy,
    fault: RefCell<Option<String>>,
    backup: RefCell<Option<String>>,
    is_open: Cell<bool>,
}

impl LinkCounters {
    /// The link is open.
    pub fn open(&self) {
        self.opened.count();
        self.is_open.set(true);
        self.fault.replace(None);
    }

    /// The link is lost, or cannot be opened.
    pub fn lose(&self, why: String) {
        self.is_open.set(false);
        self.fault.replace(Some(why));
    }

    /// This spare address is in use, or none.
    pub fn use_backup(&self, address: Option<String>) {
        self.backup.replace(address);
    }

    /// The spare address in use.
    pub fn backup(&self) -> Option<String> {
        self.backup.borrow().clone()
    }

    /// It is open now.
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Why it is not open.
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    /// Every point is good.
    Good,
    /// The device answered, and some points are bad.
    Degraded,
    /// No answer in time.
    Timeout,
    /// Nothing but damaged or foreign answers.
    Malformed,
    /// The link is down.
    Offline,
}

impl PollResult {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Good, Self::Degraded, Self::Timeout, Self::Malformed, Self::Offline];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Offline => "offline",
        }
    }
}

/// Of a device.
#[derive(Debug, Default)]
pub struct DeviceCounters {
    good: Counter,
    degraded: Counter,
    timeout: Counter,
    malformed: Counter,
    offline: Counter,
    /// How long its polls took.
    pub durations: Durations,
}

impl DeviceCounters {
    fn count(&self, result: PollResult, time: Duration) {
        self.of(result).count();
        // Nobody was asked.
        if result != PollResult::Offline {
            self.durations.count(time);
        }
    }

    /// Polls that ended like this.
    #[must_use]
    pub fn polls(&self, result: PollResult) -> u64 {
        self.of(result).get()
    }

    fn of(&self, result: PollResult) -> &Counter {
        match result {
            PollResult::Good => &self.good,
            PollResult::Degraded => &self.degraded,
            PollResult::Timeout => &self.timeout,
            PollResult::Malformed => &self.malformed,
            PollResult::Offline => &self.offline,
        }
    }
}

/// Times, sorted by [`BOUNDS`].
#[derive(Debug, Default)]
pub struct Durations {
    within: [Counter; BOUNDS.len()],
    count: Counter,
    sum: Cell<Duration>,
}

impl Durations {
    fn count(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some((_, counter)) = BOUNDS.iter().zip(&self.within).find(|(bound, _)| seconds <= **bound) {
            counter.count();
        }
        self.count.count();
        self.sum.set(self.sum.get().saturating_add(time));
    }

    /// Each bound in seconds, and how many times were not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counted = BOUNDS.iter().zip(&self.within);
        counted.scan(0, |sum, (bound, counter)| {
            *sum += counter.get();
            Some((*bound, *sum))
        })
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.count.get()
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        self.sum.get()
    }
}

/// How much of its time something is at work.
#[derive(Debug, Default)]
pub struct Busy {
    total: Cell<Duration>,
    /// Since when the present window counts, and how much of it was busy.
    window: Cell<Option<(Instant, Duration)>>,
    /// Length and busy part of the window before.
    before: Cell<(Duration, Duration)>,
}

impl Busy {
    /// It was at work for so long, until now.
    pub fn add(&self, time: Duration) {
        let now = Instant::now();
        self.total.set(self.total.get().saturating_add(time));
        let (since, busy) =
            self.window.get().unwrap_or_else(|| (now.checked_sub(time).unwrap_or(now), Duration::ZERO));
        let (busy, length) = (busy + time, now - since);
        if length < WINDOW {
            self.window.set(Some((since, busy)));
        } else {
            self.before.set((length, busy));
            self.window.set(Some((now, Duration::ZERO)));
        }
    }

    /// Since the start.
    pub fn total(&self) -> Duration {
        self.total.get()
    }

    /// The part of the last half minute to minute, 0 to 1.
    pub fn ratio(&self) -> f64 {
        let Some((since, busy)) = self.window.get() else { return 0.0 };
        let length = since.elapsed();
        let (length_before, busy_before) =
            if length < WINDOW { self.before.get() } else { (Duration::ZERO, Duration::ZERO) };
        let all = (length + length_before).as_secs_f64();
        if all <= 0.0 { 0.0 } else { ((busy + busy_before).as_secs_f64() / all).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn the_busy_part_is_that_of_the_last_minute() {
        tokio::time::pause();
        let busy = Busy::default();
        assert!(busy.ratio() == 0.0);
        let rest = |millis| tokio::time::advance(Duration::from_millis(millis));
        for _ in 0..100 {
            rest(1000).await;
            busy.add(Duration::from_millis(250));
        }
        assert!((busy.ratio() - 0.25).abs() < 0.01, "{}", busy.ratio());
        assert_eq!(busy.total(), Duration::from_secs(25));
        for _ in 0..70 {
            rest(1000).await;
            busy.add(Duration::from_millis(750));
        }
        assert!((busy.ratio() - 0.75).abs() < 0.01, "{}", busy.ratio());
        rest(600_000).await;
        assert!(busy.ratio() < 0.05, "{}", busy.ratio());
    }

    #[test]
    fn times_are_counted_up_to_each_bound() {
        let durations = Durations::default();
        for millis in [1, 5, 6, 400, 60_000] {
            durations.count(Duration::from_millis(millis));
        }
        let within: Vec<u64> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(within, [2, 3, 3, 4, 4, 4, 4]);
        assert_eq!((durations.total(), durations.sum()), (5, Duration::from_millis(60_412)));
    }
}
