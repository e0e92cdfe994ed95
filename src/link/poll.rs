//! One poll of one device: its requests one by one, and the record they make.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::published::Published;
use super::schedule::Plan;
use crate::clock::{Clock, Moment};
use crate::config::Layout;
use crate::counters::PollResult;
use crate::decode::{self, decode};
use crate::drivers::{Driver, DriverError, Request};
use crate::point::{Device, Reading, Reason};
use crate::record::{self, Record};
use crate::status::{Report, State};

/// Failed requests, refusals apart, after which the rest of a poll is not asked any more.
const GIVE_UP: u32 = 2;

/// Requests that a poll may ask beyond its plan to find out what the device refuses. To halve a block of 125 places
/// down to one takes up to 28; what needs more goes on with the next poll.
const EXTRA: usize = 32;

/// A poll under way. Between two of its requests a command may run.
#[derive(Debug)]
pub(super) struct Poll {
    device: Arc<Device>,
    requests: Rc<[Request]>,
    next: usize,
    /// Parts of a request that was refused: they come before the next of the plan.
    parts: Vec<Request>,
    extra: usize,
    readings: Vec<Reading>,
    failures: u32,
    answered: bool,
    /// The line was never quiet before anybody was asked.
    is_drowned: bool,
    /// How the link was lost.
    lost: Option<String>,
    clock: Clock,
    /// What is wrong with the first answer that gives no value.
    detail: Option<String>,
    /// The first answer.
    at: Option<Moment>,
    begun: Instant,
}

impl Poll {
    pub(super) fn new(device: Arc<Device>, plan: Plan, clock: Clock) -> Self {
        let mut readings = Vec::with_capacity(plan.points.len());
        // What the device is known to refuse is not asked again, and not forgotten either.
        let refused =
            plan.refused.iter().filter_map(|sample| Some((sample.point, *sample.raw.as_ref().err()?)));
        readings.extend(refused.map(|(point, reason)| Reading { point, value: Err(reason) }));
        Self {
            device,
            requests: plan.requests,
            next: 0,
            parts: Vec::new(),
            extra: EXTRA,
            readings,
            failures: 0,
            answered: false,
            is_drowned: false,
            lost: None,
            detail: None,
            clock,
            at: None,
            begun: Instant::now(),
        }
    }

    /// All points bad: the link is down, nobody was asked.
    pub(super) fn offline(device: &Arc<Device>, clock: Clock) -> Self {
        let plan = Plan { points: Rc::new([]), requests: Rc::new([]), refused: Rc::new([]) };
        let mut poll = Self::new(device.clone(), plan, clock);
        poll.fail(0..device.points.len(), Reason::Offline);
        poll
    }

    /// Whose it is.
    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// When it began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Rest that its device needs before each request.
    pub(super) fn pause(&self) -> Duration {
        self.device.pause
    }

    /// Sends the next request. `Ok(true)`: that was the last. `Err`: the link is lost; the poll is complete.
    pub(super) async fn step(&mut self, driver: &mut dyn Driver) -> Result<bool, DriverError> {
        let requests = Rc::clone(&self.requests);
        let part = self.parts.pop();
        let request = match (&part, requests.get(self.next)) {
            (Some(part), _) => part,
            (None, Some(request)) => {
                self.next += 1;
                request
            }
            (None, None) => return Ok(true),
        };
        let limit = self.device.patience + driver.overhead(&self.device);
        match driver.exchange(request, Instant::now() + limit).await {
            Ok(samples) => {
                self.at.get_or_insert_with(|| self.clock.now());
                self.answered = true;
                for sample in samples {
                    let Some(point) = self.device.points.get(sample.point) else {
                        continue;
                    };
                    let value =
                        sample.raw.as_ref().map_err(|reason| *reason).and_then(|raw| decode(point, raw));
                    let wrong = || decode::complaint(point, sample.raw.as_ref().ok()?, &value);
                    self.detail = self.detail.take().or_else(wrong);
                    self.readings.push(Reading { point: sample.point, value });
                }
            }
            Err(error) => {
                tracing::debug!(device = %self.device.id, %error, "a request failed");
                if let DriverError::Refused(code) = error
                    && self.split(driver, request, code)
                {
                    return Ok(false);
                }
                let reason = error.reason();
                if reason == Reason::Malformed {
                    self.detail.get_or_insert_with(|| error.to_string());
                }
                self.fail(request.points.iter().copied(), reason);
                match error {
                    _ if error.is_silence() => self.failures = GIVE_UP,
                    DriverError::Refused(_) => {
                        self.at.get_or_insert_with(|| self.clock.now());
                        self.answered = true;
                    }
                    DriverError::Timeout | DriverError::Malformed(_) | DriverError::Unconfirmed(_) => {
                        self.failures += 1;
                    }
                    DriverError::Noise => {
                        self.is_drowned = self.failures == 0 && !self.answered;
                        self.failures = GIVE_UP;
                    }
                    DriverError::Lost(_) => {
                        self.lost = Some(error.to_string());
                        self.skip(reason);
                        return Err(error);
                    }
                }
                if self.failures >= GIVE_UP {
                    self.skip(reason);
                }
            }
        }
        Ok(self.parts.is_empty() && self.next >= self.requests.len())
    }

    /// Asks the parts of a refused request in its place, if there are any and if they are not too many.
    fn split(&mut self, driver: &mut dyn Driver, request: &Request, code: u8) -> bool {
        let mut parts = driver.split(request, code);
        if parts.is_empty() || parts.len() > self.extra {
            return false;
        }
        self.extra -= parts.len();
        self.at.get_or_insert_with(|| self.clock.now());
        self.answered = true;
        parts.reverse();
        self.parts.extend(parts);
        true
    }

    /// The device answered at least one request, if only to refuse it.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Nobody was asked, for the noise of the line.
    pub(super) fn is_drowned(&self) -> bool {
        self.is_drowned
    }

    /// Every value that is good, by point.
    pub(super) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// How it ended, for the count.
    pub(super) fn result(&self) -> PollResult {
        match self.readings.iter().find_map(|reading| reading.value.as_ref().err()) {
            None => PollResult::Good,
            Some(_) if self.answered => PollResult::Degraded,
            // A gateway without an answer of its unit says so by an exception.
            Some(Reason::Timeout | Reason::Exception(_)) => PollResult::Timeout,
            Some(Reason::Offline) => PollResult::Offline,
            Some(_) => PollResult::Malformed,
        }
    }

    /// What the status is told.
    pub(super) fn report(&self) -> Report {
        let bad =
            self.readings.iter().find_map(|reading| Some((reading.point, reading.value.as_ref().err()?)));
        let (state, reason) = match bad {
            None => (State::Online, None),
            Some((_, reason)) if !self.answered => (State::Offline, Some(self.silence(*reason))),
            Some((point, reason)) => {
                let point = self.device.points.get(point).map(|point| point.id.as_str()).unwrap_or_default();
                (State::Degraded, Some(format!("{point}: {reason}")))
            }
        };
        let detail = self.detail.clone().filter(|_| state != State::Online);
        Report { device: self.device.id.clone(), state, reason, detail, ts: self.moment().wall }
    }

    /// Leaves what has to be published; `is_whole` leaves all.
    pub(super) fn keep_changes(&mut self, published: &mut Published, is_whole: bool) {
        published.keep_changes(&self.device, &mut self.readings, self.begun, is_whole);
    }

    /// Why nothing came: the adapter, if the driver says so, or the device.
    fn silence(&self, reason: Reason) -> String {
        match &self.lost {
            Some(lost) => lost.clone(),
            None if reason == Reason::Timeout => format!("device silent: {reason}"),
            None => reason.to_string(),
        }
    }

    /// The records: one of all readings, or one of each. None where there are no readings.
    pub(super) fn records(&mut self, layout: Layout) -> Vec<Record> {
        self.readings.sort_unstable_by_key(|reading| reading.point);
        let made = self.moment();
        match layout {
            _ if self.readings.is_empty() => Vec::new(),
            Layout::Device => vec![record::readings(&self.device, &self.readings, made)],
            Layout::Point => self
                .readings
                .iter()
                .filter_map(|reading| record::reading(&self.device, reading, made))
                .collect(),
        }
    }

    fn moment(&self) -> Moment {
        self.at.unwrap_or_else(|| self.clock.now())
    }

    fn skip(&mut self, reason: Reason) {
        let requests = Rc::clone(&self.requests);
        let parts = std::mem::take(&mut self.parts);
        let rest = parts.iter().chain(requests.get(self.next..).unwrap_or_default());
        self.fail(rest.flat_map(|request| request.points.iter().copied()), reason);
        self.next = self.requests.len();
    }

    fn fail(&mut self, points: impl IntoIterator<Item = usize>, reason: Reason) {
        self.readings.extend(points.into_iter().map(|point| Reading { point, value: Err(reason) }));
    }
}
