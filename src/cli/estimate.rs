//! How much of a link its polls take, reckoned from the configuration alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{LinkConfig, Medium, Transport};
use crate::drivers::{self, Driver, Request, modbus, serial};
use crate::point::Device;

/// Turns of a device's fastest points that are played through, at most; after that its intervals are taken as
/// never coming together.
const TURNS: u128 = 1_000;

/// What the polls of a link need.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    /// Requests of one round: every point of every device polled once.
    pub(super) requests: usize,
    /// Time of one round.
    pub(super) round: Duration,
    /// Shortest poll interval on the link; nothing without devices.
    pub(super) shortest: Option<Duration>,
    /// Share of the link's time, in percent: over 100, polls come late.
    pub(super) percent: f64,
    /// The points of each interval, the shortest first.
    pub(super) groups: Vec<Group>,
    /// What the numbers rest on.
    pub(super) basis: String,
    /// What cannot be met is the fault of this.
    pub(super) limit: String,
}

/// All points on a link that are polled at one interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The interval.
    pub(super) interval: Duration,
    /// Requests of one round of them.
    pub(super) requests: usize,
    /// Time of one round of them.
    pub(super) time: Duration,
    /// What they need within their interval together with the faster ones that can be met, where that is too much.
    pub(super) needs: Option<Duration>,
}

/// Reckons the load of a link with these devices on it.
pub(super) fn estimate(link: &LinkConfig, devices: &[&Device]) -> Load {
    let mut planner = Planner { cost: Cost::of(link), driver: drivers::create(link, &[]) };
    let (basis, limit) = basis(link, &planner.cost);
    let mut load = Load {
        requests: 0,
        round: Duration::ZERO,
        shortest: None,
        percent: 0.0,
        groups: Vec::new(),
        basis,
        limit,
    };
    for device in devices {
        let device = Arc::new((*device).clone());
        let (requests, time) = planner.poll(&device, &(0..device.points.len()).collect::<Vec<_>>());
        load.requests += requests;
        load.round += time;
        let groups = intervals(&device);
        load.percent += 100.0 * planner.share(&device, &groups);
        for (interval, points) in groups {
            let (requests, time) = planner.poll(&device, &points);
            match load.groups.iter_mut().find(|group| group.interval == interval) {
                Some(group) => {
                    group.requests += requests;
                    group.time += time;
                }
                None => load.groups.push(Group { interval, requests, time, needs: None }),
            }
        }
    }
    load.groups.sort_by_key(|group| group.interval);
    load.shortest = load.groups.first().map(|group| group.interval);
    judge(&mut load.groups);
    load
}

/// Says which groups cannot be met: what is faster and can be met takes its part of their interval.
fn judge(groups: &mut [Group]) {
    let mut met: Vec<(Duration, Duration)> = Vec::new();
    for group in groups {
        let turns = |interval: Duration| {
            let turns = group.interval.as_nanos().checked_div(interval.as_nanos()).unwrap_or(0);
            u32::try_from(turns).unwrap_or(u32::MAX)
        };
        let faster: Duration = met.iter().map(|(interval, time)| time.saturating_mul(turns(*interval))).sum();
        let needs = faster + group.time;
        if needs > group.interval {
            group.needs = Some(needs);
        } else {
            met.push((group.interval, group.time));
        }
    }
}

/// The points of a device by their interval, the shortest first.
fn intervals(device: &Device) -> Vec<(Duration, Vec<usize>)> {
    let mut groups: Vec<(Duration, Vec<usize>)> = Vec::new();
    for (index, point) in device.points.iter().enumerate() {
        let interval = point.poll_interval.unwrap_or(device.poll_interval);
        match groups.iter_mut().find(|(known, _)| *known == interval) {
            Some((_, points)) => points.push(index),
            None => groups.push((interval, vec![index])),
        }
    }
    if groups.is_empty() {
        groups.push((device.poll_interval, Vec::new()));
    }
    groups.sort_by_key(|(interval, _)| *interval);
    groups
}

/// What requests cost, by what is spoken.
enum Cost {
    Modbus(modbus::Cost),
    Serial(serial::Cost),
    /// No line, or nobody knows.
    Nothing,
}

impl Cost {
    fn of(link: &LinkConfig) -> Self {
        let modbus = modbus::Cost::of(link).map(Self::Modbus);
        modbus.or_else(|| serial::Cost::of(link).map(Self::Serial)).unwrap_or(Self::Nothing)
    }

    fn time(&self, request: &Request) -> Duration {
        match self {
            Self::Modbus(cost) => cost.time(request),
            Self::Serial(cost) => cost.time(request),
            Self::Nothing => Duration::ZERO,
        }
    }
}

/// Plans polls as the link would, and reckons their time.
struct Planner {
    cost: Cost,
    driver: Box<dyn Driver>,
}

impl Planner {
    /// Requests and time of a poll of these points.
    fn poll(&mut self, device: &Arc<Device>, points: &[usize]) -> (usize, Duration) {
        let requests = self.driver.plan(device, points);
        (requests.len(), requests.iter().map(|request| self.cost.time(request)).sum())
    }

    /// The part of the link's time that a device takes. Points of different intervals share requests when they
    /// are due together, so its turns are played through until they come together again.
    fn share(&mut self, device: &Arc<Device>, groups: &[(Duration, Vec<usize>)]) -> f64 {
        let step = groups.iter().map(|(interval, _)| interval.as_nanos()).fold(0, gcd).max(1);
        let whole = groups.iter().map(|(interval, _)| interval.as_nanos() / step).fold(1, lcm);
        if whole > TURNS {
            let alone = |(interval, points): &(Duration, Vec<usize>)| {
                self.poll(device, points).1.as_secs_f64() / interval.as_secs_f64()
            };
            return groups.iter().map(alone).sum();
        }
        let mut times: HashMap<Vec<bool>, Duration> = HashMap::new();
        let mut sum = Duration::ZERO;
        for turn in 0..whole {
            let is_due = |interval: &Duration| (turn * step).is_multiple_of(interval.as_nanos().max(1));
            let due: Vec<bool> = groups.iter().map(|(interval, _)| is_due(interval)).collect();
            if !due.contains(&true) {
                continue;
            }
            sum += *times.entry(due).or_insert_with_key(|due| {
                let due = groups.iter().zip(due).filter(|(_, due)| **due);
                let mut points: Vec<usize> =
                    due.flat_map(|((_, points), _)| points.iter().copied()).collect();
                points.sort_unstable();
                self.poll(device, &points).1
            });
        }
        let whole = Duration::from_nanos(u64::try_from(whole * step).unwrap_or(u64::MAX));
        sum.as_secs_f64() / whole.as_secs_f64()
    }
}

/// What the numbers rest on, and what they stand against.
fn basis(link: &LinkConfig, cost: &Cost) -> (String, String) {
    match &link.transport {
        Transport::Modbus { medium: Medium::Tcp { .. }, .. } => {
            ("with the time its devices need to answer".to_owned(), "over TCP".to_owned())
        }
        Transport::Modbus { medium: Medium::Line(serial), .. } => (
            format!("at {} baud, with the time its devices need to answer", serial.baud_rate),
            format!("at {} baud", serial.baud_rate),
        ),
        Transport::Serial { line, .. } => {
            let answers = match cost {
                Cost::Serial(cost) => format!(", with {cost} that come at once"),
                Cost::Modbus(_) | Cost::Nothing => String::new(),
            };
            (format!("at {} baud{answers}", line.baud_rate), format!("at {} baud", line.baud_rate))
        }
        Transport::Simulator => ("no line".to_owned(), "here".to_owned()),
        Transport::Plugin(plugin) => {
            (format!("the plugin {} takes what it takes", plugin.name), "by this plugin".to_owned())
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Least common multiple, as far as it matters.
fn lcm(a: u128, b: u128) -> u128 {
    if a > TURNS { a } else { (a / gcd(a, b).max(1)).saturating_mul(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_impossible_is_told_and_what_is_slower_is_judged_without_it() {
        let group = |interval, time| Group {
            interval: Duration::from_millis(interval),
            requests: 1,
            time: Duration::from_millis(time),
            needs: None,
        };
        let mut groups = [group(100, 60), group(200, 90), group(1000, 390), group(5000, 1), group(10_000, 4)];
        judge(&mut groups);
        let needs: Vec<_> = groups.iter().map(|group| group.needs.map(|needs| needs.as_millis())).collect();
        // 2 x 60 + 90 is too much for 200 ms; 10 x 60 + 390 just goes into a second; then 50 x 60 + 5 x 390 + 1.
        assert_eq!(needs, [None, Some(210), None, None, None]);
    }
}
