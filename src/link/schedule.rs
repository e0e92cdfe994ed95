//! Whose turn it is on a link: earliest deadline first, with the back-off of dead devices.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::poll::Poll;
use super::published::Published;
use super::turns::Group;
use crate::clock::Timestamp;
use crate::drivers::{Driver, Request};
use crate::point::{Device, DeviceId, Reason, Sample};
use crate::status::{Report, State};

/// Failed polls in a row after which a device backs off.
const DEAD_AFTER: u32 = 3;
/// Failed polls of suspects that may follow one another at their own pace: with them a single device that fell silent
/// is found dead. What comes on top keeps to the share.
const CREDIT: u32 = 2;
/// Of no consequence before somebody is dead.
const FIRST_SHARE: f64 = 0.1;
/// A dead device is tried at least this often, whatever its poll interval.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// The wall clock is looked at this often while an aligned device waits: it may have been set.
const LOOK: Duration = Duration::from_secs(10);
/// Plans kept for a device. Groups that come together again and again are few; others are planned when they come.
const PLANS: usize = 8;

/// What is asked when some points of a device are due.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) points: Rc<[usize]>,
    pub(super) requests: Rc<[Request]>,
    /// What the device is known to refuse.
    pub(super) refused: Rc<[Sample]>,
}

impl Plan {
    /// Plans a poll of these points.
    pub(super) fn of(device: &Arc<Device>, points: Vec<usize>, driver: &mut dyn Driver) -> Self {
        Self {
            requests: driver.plan(device, &points).into(),
            refused: driver.refused(device, &points).into(),
            points: points.into(),
        }
    }
}

/// A poll whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) device: Arc<Device>,
    pub(super) plan: Plan,
    /// Turns of its points that were left out because the link was at work.
    pub(super) missed: u64,
}

/// Takes all turns that are due when a link begins, as the link does, and asks nobody. Gives the number of requests.
#[must_use]
pub fn first_round(devices: &[Arc<Device>], driver: &mut dyn Driver) -> usize {
    let mut schedule = Schedule::new(devices, FIRST_SHARE);
    schedule.open();
    let mut requests = 0;
    while schedule.due(Instant::now(), Timestamp::now()).is_some()
        && let Some(turn) = schedule.begin(driver)
    {
        requests += turn.plan.requests.len();
    }
    requests
}

#[derive(Debug)]
struct Slot {
    device: Arc<Device>,
    groups: Vec<Group>,
    /// The last used first.
    plans: Vec<Plan>,
    failures: u32,
    /// It gave a sign of life at its last poll.
    is_alive: bool,
    published: Published,
    /// The points without a value at their last poll.
    bad: BTreeMap<usize, Reason>,
}

/// The polls of a link's devices.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: Vec<Slot>,
    /// The part of the link's time that a dead device may take.
    dead_share: f64,
    /// Devices whose last poll failed may be polled from then on, while others answer. Nothing: none has failed yet.
    gate: Option<Instant>,
    /// Since when the link is open: a turn that came before was not missed for want of time.
    open: Instant,
}

impl Schedule {
    /// Every device is due at once, in the order of the configuration.
    pub(super) fn new(devices: &[Arc<Device>], dead_share: f64) -> Self {
        let now = Instant::now();
        let slot = |device: &Arc<Device>| Slot {
            device: device.clone(),
            groups: Group::of(device, now),
            plans: Vec::new(),
            failures: 0,
            is_alive: false,
            published: Published::new(device),
            bad: BTreeMap::new(),
        };
        Self { slots: devices.iter().map(slot).collect(), dead_share, gate: None, open: now }
    }

    /// The link is open. Every device is planned anew: the driver may be another one.
    pub(super) fn open(&mut self) {
        self.open = Instant::now();
        for slot in &mut self.slots {
            slot.plans.clear();
        }
    }

    /// A device is read in another way from now on.
    pub(super) fn replan(&mut self, device: &DeviceId) {
        if let Some(slot) = self.slot(device) {
            slot.plans.clear();
        }
    }

    /// When the next poll is due; never longer ahead than the wall clock can be trusted.
    pub(super) fn due(&mut self, now: Instant, wall: Timestamp) -> Option<Instant> {
        let mut first: Option<Instant> = None;
        let gate = self.gate();
        for slot in &mut self.slots {
            let may_jump = slot.device.align && slot.failures < DEAD_AFTER;
            let gate = gate.filter(|_| slot.is_suspect());
            for group in &mut slot.groups {
                if may_jump {
                    group.align(now, wall);
                }
                let due = opens(group.due, gate);
                let due = if may_jump { due.min(now + LOOK) } else { due };
                first = Some(first.map_or(due, |first| first.min(due)));
            }
        }
        first
    }

    /// The poll whose deadline comes first, if one is due: all points of its device that are due together.
    pub(super) fn begin(&mut self, driver: &mut dyn Driver) -> Option<Turn> {
        let now = Instant::now();
        let open = self.open;
        let gate = self.gate();
        let deadline = |slot: &Slot| {
            let gate = gate.filter(|_| slot.is_suspect());
            let due = slot.groups.iter().filter(|group| opens(group.due, gate) <= now);
            due.map(Group::deadline).min()
        };
        let candidates = self.slots.iter_mut().filter_map(|slot| Some((deadline(slot)?, slot)));
        let (_, slot) = candidates.min_by_key(|(deadline, _)| *deadline)?;
        let mut points = Vec::new();
        let mut missed = 0;
        let is_kept_back = gate.is_some() && slot.is_suspect();
        for group in slot.groups.iter_mut().filter(|group| group.due <= now) {
            points.extend_from_slice(&group.points);
            let late = group.take(now, open);
            // What a suspect was kept waiting is no want of time.
            missed += if is_kept_back { 0 } else { late };
        }
        points.sort_unstable();
        Some(Turn { device: slot.device.clone(), plan: slot.plan(points, driver), missed })
    }

    /// A whole poll of one device.
    pub(super) fn find(&mut self, device: &DeviceId, driver: &mut dyn Driver) -> Option<(Arc<Device>, Plan)> {
        let slot = self.slot(device)?;
        let all = (0..slot.device.points.len()).collect();
        Some((slot.device.clone(), slot.plan(all, driver)))
    }

    /// A poll ended, in turn or by command: a device that gives no sign of life backs off. Gives what the status is
    /// told: a point that was not polled this time counts as its last poll left it.
    pub(super) fn done(&mut self, poll: &Poll) -> Report {
        let dead = self.slots.iter().filter(|slot| slot.failures >= DEAD_AFTER).count();
        let share = self.dead_share;
        let mut report = poll.report();
        let Some(slot) = self.slot(&report.device.clone()) else {
            return report;
        };
        for reading in poll.readings() {
            match &reading.value {
                Ok(_) => drop(slot.bad.remove(&reading.point)),
                Err(reason) => drop(slot.bad.insert(reading.point, *reason)),
            }
        }
        if poll.is_answered() {
            (slot.failures, slot.is_alive) = (0, true);
            if let Some((point, reason)) = slot.bad.first_key_value() {
                let id = slot.device.points.get(*point).map(|point| point.id.as_str()).unwrap_or_default();
                report.state = State::Degraded;
                report.reason = Some(format!("{id}: {reason}"));
            }
            return report;
        }
        if poll.is_drowned() {
            // No fault of the device; its line is free for nobody else meanwhile.
            if slot.failures >= DEAD_AFTER {
                slot.rest(poll.begun().elapsed(), share, dead);
            }
            return report;
        }
        slot.is_alive = false;
        let is_new = slot.failures + 1 == DEAD_AFTER;
        slot.failures = slot.failures.saturating_add(1);
        let cost = poll.begun().elapsed();
        if slot.failures >= DEAD_AFTER {
            slot.rest(cost, share, dead + usize::from(is_new));
        }
        self.shut(cost);
        report
    }

    /// A poll failed that took so long: for the share of that, the next suspect waits. Nobody waits for what failed long
    /// ago, nor for more than one poll.
    fn shut(&mut self, cost: Duration) {
        let wait = fair(cost, self.dead_share);
        let now = Instant::now();
        let earliest = now.checked_sub(wait * CREDIT).unwrap_or(now);
        let gate = self.gate.map_or(earliest, |gate| gate.max(earliest));
        self.gate = Some((gate + wait).min(now + wait));
    }

    /// From when on suspects may be polled; nothing when nobody would be kept waiting by them.
    fn gate(&self) -> Option<Instant> {
        self.gate.filter(|_| self.slots.iter().any(|slot| slot.is_alive))
    }

    /// Leaves of a poll what has to be published; `is_whole` leaves all.
    pub(super) fn keep_changes(&mut self, poll: &mut Poll, is_whole: bool) {
        let device = poll.device().id.clone();
        if let Some(slot) = self.slot(&device) {
            poll.keep_changes(&mut slot.published, is_whole);
        }
    }

    /// A command reached the device: it lives, so it is polled again at once.
    pub(super) fn revive(&mut self, device: &DeviceId) {
        let Some(slot) = self.slot(device) else { return };
        let failures = std::mem::take(&mut slot.failures);
        slot.is_alive |= failures > 0;
        if failures >= DEAD_AFTER {
            slot.set_due(Instant::now());
        }
    }

    /// Every device of the link that is polled; a broadcast has no state.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.slots.iter().map(|slot| &slot.device).filter(|device| !device.is_broadcast())
    }

    fn slot(&mut self, device: &DeviceId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.device.id == *device)
    }
}

impl Slot {
    /// It failed, but not often enough to be dead: those rest for a time of their own.
    fn is_suspect(&self) -> bool {
        (1..DEAD_AFTER).contains(&self.failures)
    }

    fn plan(&mut self, points: Vec<usize>, driver: &mut dyn Driver) -> Plan {
        let known = self.plans.iter().position(|plan| *plan.points == *points);
        let plan = if let Some(known) = known {
            self.plans.remove(known)
        } else {
            self.plans.truncate(PLANS - 1);
            Plan::of(&self.device, points, driver)
        };
        self.plans.insert(0, plan.clone());
        plan
    }

    /// The device is dead: it rests as long as its failing poll was too dear, and longer each time.
    ///
    /// Alone it never gets more than its share. Several dead devices share one share, as far as each is still tried
    /// every minute.
    fn rest(&mut self, cost: Duration, share: f64, dead: usize) {
        let fair = fair(cost, share);
        let together = fair.saturating_mul(u32::try_from(dead).unwrap_or(u32::MAX));
        let interval = self.groups.first().map_or(Duration::ZERO, |group| group.interval);
        let doubled = 1 << (self.failures - DEAD_AFTER).min(16);
        let wished = interval.max(together).saturating_mul(doubled);
        let rest = wished.min(LONGEST_REST.saturating_sub(cost)).max(fair);
        // A little less by chance, so that those that died together do not come back in step.
        let chance = rest.saturating_sub(fair).mul_f64(0.1 * fastrand::f64());
        let rest = rest.saturating_sub(chance);
        self.set_due(Instant::now() + rest);
    }

    fn set_due(&mut self, due: Instant) {
        for group in &mut self.groups {
            group.due = due;
        }
    }
}

/// How long the link is the others' after a poll that took so long, for the poll to be no more than its share.
fn fair(cost: Duration, share: f64) -> Duration {
    cost.mul_f64((1.0 / share.clamp(0.01, 0.5)) - 1.0)
}

/// When what is due then may be polled behind the gate. Nobody is left alone for longer than a dead device.
fn opens(due: Instant, gate: Option<Instant>) -> Instant {
    gate.map_or(due, |gate| due.max(gate.min(due + LONGEST_REST)))
}
