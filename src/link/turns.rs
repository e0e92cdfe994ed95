//! When the points of one device are due: those of one interval are a group, and a group keeps its beat.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::point::Device;

/// Milliseconds of a day; aligned polls count from its beginning.
const DAY: i64 = 86_400_000;

/// Points of a device that are polled at the same interval.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) interval: Duration,
    /// Indices into the device's points, ascending.
    pub(super) points: Vec<usize>,
    /// When it is to be polled.
    pub(super) due: Instant,
    /// It was polled in turn at this moment.
    last: Option<Instant>,
    /// Its next turn was set by the wall clock.
    is_aligned: bool,
}

impl Group {
    /// The groups of a device, the fastest first. A device without points has one group: it is visited all the same.
    /// A broadcast has none: nobody answers.
    pub(super) fn of(device: &Device, now: Instant) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        if device.is_broadcast() {
            return groups;
        }
        let group = |interval, points| Self { interval, points, due: now, last: None, is_aligned: false };
        for (index, point) in device.points.iter().enumerate() {
            let interval = point.poll_interval.unwrap_or(device.poll_interval);
            match groups.iter_mut().find(|group| group.interval == interval) {
                Some(group) => group.points.push(index),
                None => groups.push(group(interval, vec![index])),
            }
        }
        if groups.is_empty() {
            groups.push(group(device.poll_interval, Vec::new()));
        }
        groups.sort_by_key(|group| group.interval);
        groups
    }

    /// By when the poll that is due should have begun.
    pub(super) fn deadline(&self) -> Instant {
        self.due + self.interval
    }

    /// It is polled now. The next turn is the first one of its beat that lies ahead: turns that were missed are
    /// not made up for. Gives how many were missed since `open`.
    pub(super) fn take(&mut self, now: Instant, open: Instant) -> u64 {
        let turns = |time: Duration| {
            let turns = time.as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
            u32::try_from(turns).unwrap_or(u32::MAX)
        };
        let missed = turns(now.saturating_duration_since(self.due));
        let counted = turns(now.saturating_duration_since(self.due.max(open)));
        let step = self.interval.saturating_mul(missed.saturating_add(1));
        self.due = self.due.checked_add(step).unwrap_or(now).max(now);
        self.last = Some(now);
        counted.into()
    }

    /// Sets the next turn by the wall clock, unless it has come already. The clock may have been set meanwhile.
    pub(super) fn align(&mut self, now: Instant, wall: Timestamp) {
        if self.due <= now && self.is_aligned {
            return;
        }
        // Half an interval is kept in any case: a timer that rings early, or a clock that is set back a little, must
        // not give one turn twice.
        let least = self
            .last
            .map_or(Duration::ZERO, |last| (last + self.interval / 2).saturating_duration_since(now));
        self.is_aligned = true;
        self.due = now + least + until_multiple(wall.millis() + millis(least), self.interval);
    }
}

/// The time from a moment (milliseconds since 1970, UTC) to the next multiple of the interval since midnight;
/// nothing when it is one. What does not divide the day begins anew at midnight; days count from 1970.
fn until_multiple(at: i64, interval: Duration) -> Duration {
    let interval = millis(interval).max(1);
    let (since, period) = if interval >= DAY { (at, i64::MAX) } else { (at.rem_euclid(DAY), DAY) };
    let past = since.rem_euclid(interval);
    let wait = if past == 0 { 0 } else { (interval - past).min(period - since) };
    Duration::from_millis(u64::try_from(wait).unwrap_or(0))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_count_from_midnight() {
        let at = |text: &str| Timestamp::parse(text).unwrap().millis();
        for (now, interval, wait) in [
            ("2026-03-01T00:00:00.000Z", 5_000, 0),
            ("2026-03-01T10:15:02.120Z", 5_000, 2_880),
            ("2026-03-01T10:15:02.120Z", 900_000, 897_880),
            ("2026-03-01T23:59:59.999Z", 3_600_000, 1),
            // Seven seconds do not divide the day: its last turn is short.
            ("2026-03-01T23:59:58.000Z", 7_000, 2_000),
            ("2026-03-01T00:00:07.500Z", 7_000, 6_500),
            ("2026-03-01T12:00:00.000Z", 86_400_000, 43_200_000),
            ("1970-01-02T12:00:00.000Z", 2 * 86_400_000, 43_200_000),
        ] {
            let found = until_multiple(at(now), Duration::from_millis(interval));
            assert_eq!(found, Duration::from_millis(wait), "{now}, {interval} ms");
        }
    }
}
