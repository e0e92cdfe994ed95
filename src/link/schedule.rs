//! Whose turn it is on a link: poll intervals and the back-off of dead devices.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::drivers::{Driver, Request};
use crate::point::{Device, DeviceId};

/// Failed polls in a row after which a device backs off.
const DEAD_AFTER: u32 = 3;
/// A dead device rests this many times as long as its failing poll took, so that it costs its neighbours at
/// most a tenth of the line.
const REST: u32 = 9;
/// A dead device is tried at least this often, whatever its poll interval.
const LONGEST_REST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Slot {
    device: Arc<Device>,
    requests: Rc<[Request]>,
    due: Instant,
    failures: u32,
}

/// The polls of a link's devices.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    slots: Vec<Slot>,
    /// Since when the link is open. A turn that came before was not missed for want of time.
    open: Option<Instant>,
}

impl Schedule {
    /// Every device is due at once, in the order of the configuration.
    pub(super) fn new(devices: &[Arc<Device>]) -> Self {
        let now = Instant::now();
        let slot = |device: &Arc<Device>| Slot {
            device: device.clone(),
            requests: Rc::new([]),
            due: now,
            failures: 0,
        };
        Self { slots: devices.iter().map(slot).collect(), open: None }
    }

    /// Plans every device's requests; a driver may have learnt something since the last session.
    pub(super) fn plan(&mut self, driver: &mut dyn Driver) {
        self.open = Some(Instant::now());
        for slot in &mut self.slots {
            let all: Vec<usize> = (0..slot.device.points.len()).collect();
            slot.requests = driver.plan(&slot.device, &all).into();
        }
    }

    /// The device that waits longest, its requests, and when it is due.
    pub(super) fn next(&self) -> Option<(Instant, Arc<Device>, Rc<[Request]>)> {
        let slots = self.slots.iter().filter(|slot| !slot.device.is_broadcast());
        let slot = slots.min_by_key(|slot| slot.due)?;
        Some((slot.due, slot.device.clone(), slot.requests.clone()))
    }

    /// The requests of a whole poll of one device.
    pub(super) fn find(&self, device: &DeviceId) -> Option<(Arc<Device>, Rc<[Request]>)> {
        let slot = self.slots.iter().find(|slot| slot.device.id == *device)?;
        Some((slot.device.clone(), slot.requests.clone()))
    }

    /// A poll in turn begins. Missed turns are not made up for: a late device is due now, not several times. The
    /// turn counts from here, so that a device whose poll never ends does not get every turn. Says how many turns
    /// were missed because the link was at work.
    pub(super) fn begin(&mut self, device: &DeviceId) -> u64 {
        let now = Instant::now();
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.device.id == *device) else {
            return 0;
        };
        let interval = slot.device.poll_interval;
        let late = now.saturating_duration_since(self.open.map_or(slot.due, |open| open.max(slot.due)));
        slot.due = (slot.due + interval).max(now);
        u64::try_from(late.as_nanos().checked_div(interval.as_nanos()).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// A poll ended, in turn or by command: a device that gives no sign of life backs off.
    pub(super) fn done(&mut self, device: &DeviceId, begun: Instant, is_good: bool) {
        let now = Instant::now();
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.device.id == *device) else {
            return;
        };
        slot.failures = if is_good { 0 } else { slot.failures.saturating_add(1) };
        if slot.failures >= DEAD_AFTER {
            let cost = (now - begun) * REST;
            let doubled = 1 << (slot.failures - DEAD_AFTER).min(16);
            let rest = slot.device.poll_interval.max(cost).saturating_mul(doubled);
            // At least the fair rest, even where that is longer than a minute.
            slot.due = now + rest.min(LONGEST_REST).max(cost).mul_f64(1.0 - 0.1 * fastrand::f64());
        }
    }

    /// A command reached the device: it lives, so it is polled again at once.
    pub(super) fn revive(&mut self, device: &DeviceId) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.device.id == *device)
            && slot.failures >= DEAD_AFTER
        {
            slot.failures = 0;
            slot.due = Instant::now();
        }
    }

    /// Every device of the link that is polled; a broadcast has no state.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.slots.iter().map(|slot| &slot.device).filter(|device| !device.is_broadcast())
    }
}
