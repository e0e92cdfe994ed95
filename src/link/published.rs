//! What was published last of a device, and what of a new poll differs from it enough to be published.
//!
//! These are values to compare with, one for each point, and no place where readings wait: a reading that is not
//! published is gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::decode::is_change;
use crate::point::{Device, Reading, Reason, Reporting, Value};

/// The last published reading of each point that is published by change.
#[derive(Debug)]
pub(super) struct Published(Vec<Option<Last>>);

#[derive(Clone, Debug)]
struct Last {
    value: Result<Value, Reason>,
    at: Instant,
}

impl Published {
    /// Nothing was published yet: the first poll is published whole.
    pub(super) fn new(device: &Device) -> Self {
        Self(vec![None; device.points.len()])
    }

    /// Leaves of a poll's readings those that are to be published, and takes them as published. `begun` is when the
    /// poll began; `is_whole` keeps all of them, because somebody asked for them.
    pub(super) fn keep_changes(
        &mut self,
        device: &Device,
        readings: &mut Vec<Reading>,
        begun: Instant,
        is_whole: bool,
    ) {
        readings.retain(|reading| {
            let Some((point, last)) = device.points.get(reading.point).zip(self.0.get_mut(reading.point))
            else {
                return true;
            };
            let Reporting::Change { deadband, heartbeat } = point.reporting else {
                return true;
            };
            let has_changed = match last.as_ref().map(|last| (&last.value, &reading.value)) {
                None => true,
                Some((Ok(old), Ok(new))) => is_change(old, new, deadband),
                Some((old, new)) => old != new,
            };
            let interval = point.poll_interval.unwrap_or(device.poll_interval);
            let is_due = || {
                let age = last.as_ref().map(|last| begun.saturating_duration_since(last.at));
                age.zip(heartbeat).is_some_and(|(age, heartbeat)| age + ahead(interval) > heartbeat)
            };
            let keep = is_whole || has_changed || is_due();
            if keep {
                *last = Some(Last { value: reading.value.clone(), at: begun });
            }
            keep
        });
    }
}

/// How far ahead the heartbeat looks: the next poll may come late by half an interval and is still early enough.
fn ahead(interval: Duration) -> Duration {
    interval + interval / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::super::tests::device;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn by_change(deadband: i64, heartbeat: Option<u64>) -> Reporting {
        Reporting::Change { deadband: Decimal::from(deadband), heartbeat: heartbeat.map(Duration::from_secs) }
    }

    fn reading(point: usize, value: Result<i128, Reason>) -> Reading {
        Reading { point, value: value.map(Value::Int) }
    }

    /// The points of each poll that are published; the polls come every second.
    fn run(reporting: [Reporting; 2], polls: &[[Result<i128, Reason>; 2]]) -> Vec<Vec<usize>> {
        let mut device = device("d");
        for (point, reporting) in device.points.iter_mut().zip(reporting) {
            point.reporting = reporting;
        }
        let mut published = Published::new(&device);
        let start = Instant::now();
        let mut told = Vec::new();
        for (second, [a, b]) in polls.iter().enumerate() {
            let mut readings = vec![reading(0, *a), reading(1, *b)];
            let begun = start + SECOND * u32::try_from(second).unwrap();
            published.keep_changes(&device, &mut readings, begun, false);
            told.push(readings.iter().map(|reading| reading.point).collect());
        }
        told
    }

    #[test]
    fn changes_are_measured_from_what_was_published_last() {
        // By ones, a value walks out of its deadband at the third step, however small each of them is.
        let polls: Vec<_> = (0..8).map(|n| [Ok(n), Ok(7)]).collect();
        let told = run([by_change(2, None), Reporting::Always], &polls);
        let first: Vec<_> = told.iter().map(|told| told.contains(&0)).collect();
        assert_eq!(first, [true, false, false, true, false, false, true, false]);
        assert!(told.iter().all(|told| told.contains(&1)), "report = always");
    }

    #[test]
    fn a_quiet_poll_has_nothing_and_quality_always_counts() {
        let (timeout, invalid) = (Err(Reason::Timeout), Err(Reason::Invalid));
        let polls = [
            [Ok(1), Ok(1)],
            [Ok(1), Ok(1)],
            [timeout, Ok(1)],
            [timeout, Ok(1)],
            [invalid, Ok(1)],
            [Ok(1), Ok(2)],
        ];
        let told = run([by_change(100, None), by_change(0, None)], &polls);
        assert_eq!(told, [vec![0, 1], vec![], vec![0], vec![], vec![0], vec![0, 1]]);
    }

    #[test]
    fn a_heartbeat_repeats_good_and_bad_before_its_time_is_over() {
        let told = run([by_change(0, Some(4)), by_change(0, Some(1))], &[[Ok(1), Err(Reason::Offline)]; 10]);
        let times: Vec<_> = (0..10).filter(|second| told[*second].contains(&0)).collect();
        assert_eq!(times, [0, 3, 6, 9], "a fourth second might be late");
        assert!(told.iter().all(|told| told.contains(&1)), "shorter than the interval: every poll");
    }

    proptest! {
        #[test]
        fn who_applies_the_messages_knows_every_value(
            deadbands in any::<[u8; 2]>(), heartbeats in proptest::array::uniform2(proptest::option::of(3_u64..20)),
            polls in proptest::collection::vec((any::<[Option<i8>; 2]>(), -200_i64..200, 0_u8..20), 1..80),
        ) {
            let mut device = device("d");
            for at in 0..2 {
                device.points[at].reporting = by_change((deadbands[at] % 40).into(), heartbeats[at]);
            }
            let mut published = Published::new(&device);
            let start = Instant::now();
            let mut known: [Option<(Result<Value, Reason>, Instant)>; 2] = [None, None];
            for (second, (values, jitter, asked)) in polls.iter().enumerate() {
                // Polls come early and late by up to 0.2 s.
                let millis = i64::try_from(second).unwrap() * 1000 + 400 + jitter;
                let begun = start + Duration::from_millis(u64::try_from(millis).unwrap());
                let all: Vec<_> = (0..2)
                    .map(|at| reading(at, values[at].map(i128::from).ok_or(Reason::Timeout)))
                    .collect();
                let mut readings = all.clone();
                published.keep_changes(&device, &mut readings, begun, *asked == 0);
                prop_assert!(*asked != 0 || readings == all);
                for Reading { point, value } in readings {
                    known[point] = Some((value, begun));
                }
                for Reading { point, value } in all {
                    let (told, at) = known[point].clone().unwrap();
                    if let (Ok(Value::Int(told)), Ok(Value::Int(now))) = (&told, &value) {
                        prop_assert!((told - now).unsigned_abs() <= u128::from(deadbands[point] % 40));
                    } else {
                        prop_assert_eq!(told, value);
                    }
                    if let Some(heartbeat) = heartbeats[point] {
                        // Until the next poll, should that come 0.2 s late.
                        let next = start + Duration::from_millis(u64::try_from(second).unwrap() * 1000 + 1600);
                        prop_assert!(next - at <= Duration::from_secs(heartbeat), "{:?}", next - at);
                    }
                }
            }
        }
    }
}
