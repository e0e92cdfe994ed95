//! One life of a link: polls in turn, and between any two requests a command.

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Setup;
use super::job::{self, Job, Task, TaskError, TaskResult};
use super::poll::Poll;
use super::schedule::{Plan, Schedule};
use crate::buffer::Append;
use crate::clock::Timestamp;
use crate::drivers::{Driver, DriverError};
use crate::point::Device;
use crate::record::Record;
use crate::session::Backoff;
use crate::status::Report;

/// Commands in a row before the polls get a turn.
const JOBS_IN_A_ROW: u32 = 4;

/// One life of the connection, with what outlives it.
pub(super) struct Life<'a> {
    pub(super) setup: &'a Setup,
    pub(super) jobs: &'a mut mpsc::Receiver<Job>,
    pub(super) held: &'a mut Option<Job>,
    pub(super) schedule: &'a mut Schedule,
    pub(super) backoff: &'a mut Backoff,
    pub(super) stop: &'a mut watch::Receiver<bool>,
}

impl Life<'_> {
    /// `Ok` when stopped, `Err` when the link is lost.
    pub(super) async fn session(self, driver: &mut dyn Driver) -> Result<(), DriverError> {
        let Life { setup, jobs, held, schedule, backoff, stop } = self;
        if let Err(error) = driver.open(Instant::now() + setup.config.timeout).await {
            setup.say_offline(schedule, &error, backoff.is_fresh()).await;
            return Err(error);
        }
        // In here, so that the patience of the first request does not go by meanwhile.
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = wait_until(Instant::now() + setup.config.pause_after_connect) => {}
        }
        schedule.open();
        let counters = &setup.traffic.link;
        counters.open();
        let mut current: Option<Poll> = None;
        let mut in_a_row = 0;
        let mut ended = None;
        loop {
            if let Some(job) = held.take() {
                let begun = Instant::now();
                let ran = setup.run_job(job, driver, schedule, backoff).await;
                counters.busy.add(begun.elapsed());
                ended = Some(Instant::now());
                ran?;
            }
            counters.use_backup(driver.backup());
            let now = Instant::now();
            let next = match &current {
                Some(poll) => Some(ended.map_or(now, |ended: Instant| ended + poll.pause())),
                None => schedule.due(now, Timestamp::now()),
            };
            let due = next.unwrap_or(now);
            let may_poll = next.is_some();
            let is_poll_due = may_poll && due <= now;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(job) = jobs.recv(), if in_a_row < JOBS_IN_A_ROW || !is_poll_due => {
                    in_a_row += 1;
                    *held = Some(job);
                }
                () = wait_until(due), if may_poll => {
                    let Some(poll) = &mut current else {
                        // Without a turn the wall clock was to be looked at. With one, its device may need a rest first.
                        current = schedule.begin(driver).map(|turn| {
                            counters.overruns.add(turn.missed);
                            Poll::new(turn.device, turn.plan, setup.clock)
                        });
                        continue;
                    };
                    in_a_row = 0;
                    let pause = poll.pause();
                    let asked = Instant::now();
                    let step = poll.step(driver).await;
                    counters.busy.add(asked.elapsed() + pause);
                    ended = Some(Instant::now());
                    if !matches!(step, Ok(false)) {
                        setup.finish(&mut current, driver, schedule, backoff).await;
                    }
                    step?;
                }
            }
        }
    }
}

/// The timer works in whole milliseconds; what is due already does not wait for the next.
async fn wait_until(due: Instant) {
    if due > Instant::now() {
        sleep_until(due).await;
    }
}

impl Setup {
    /// A poll is complete: its record, its state, its next turn.
    async fn finish(
        &self,
        current: &mut Option<Poll>,
        driver: &mut dyn Driver,
        schedule: &mut Schedule,
        backoff: &mut Backoff,
    ) {
        let Some(mut poll) = current.take() else { return };
        if poll.is_answered() {
            backoff.reset();
        }
        let report = schedule.done(&poll);
        self.publish(&mut poll, report, schedule, false).await;
        self.learn(&poll, driver, schedule).await;
    }

    /// Takes what the driver found out about the device during the poll.
    async fn learn(&self, poll: &Poll, driver: &mut dyn Driver, schedule: &mut Schedule) {
        let device = poll.device();
        let Some(learnt) = driver.learnt(device) else { return };
        schedule.replan(&device.id);
        if let Some(kept) = learnt.kept {
            self.keep(device, kept).await;
        }
    }

    async fn publish(&self, poll: &mut Poll, report: Report, schedule: &mut Schedule, is_whole: bool) {
        self.traffic.count(&report.device, poll.result(), poll.begun().elapsed());
        // A full mailbox is no loss: the next report says the same or better.
        if let Err(error) = self.status.try_send(report) {
            tracing::debug!(%error, "a report was dropped");
            self.traffic.link.unreported.count();
        }
        schedule.keep_changes(poll, is_whole);
        for record in poll.records(self.layout) {
            self.append(record).await;
        }
    }

    pub(super) async fn append(&self, record: Record) {
        if let Err(error) = self.buffer.send(Append(record)).await {
            tracing::error!(link = %self.config.id, %error, "the buffer is gone");
        }
    }

    /// The link cannot be opened: every device says so.
    async fn say_offline(&self, schedule: &mut Schedule, error: &DriverError, is_first: bool) {
        if is_first {
            tracing::warn!(link = %self.config.id, %error, "cannot be opened");
        } else {
            tracing::debug!(link = %self.config.id, %error, "still cannot be opened");
        }
        let devices: Vec<_> = schedule.devices().cloned().collect();
        for device in &devices {
            let mut poll = Poll::offline(device, self.clock);
            let mut report = poll.report();
            report.reason = Some(error.to_string());
            self.publish(&mut poll, report, schedule, false).await;
        }
    }

    /// The link could not be opened for this command.
    pub(super) fn refuse(&self, job: Job) {
        let point = self.devices.iter().find(|device| device.id == job.device).and_then(|d| d.points.first());
        let result = match point {
            _ if job.deadline <= Instant::now() => TaskError::Late,
            None => TaskError::Stopping,
            Some(point) => TaskError::Failed {
                point: point.id.clone(),
                error: DriverError::Lost(format!("link {} cannot be opened", self.config.id)),
            },
        };
        answered(&job.answer.send(result.into()));
    }

    /// Runs a command. `Err` only for a lost link.
    async fn run_job(
        &self,
        job: Job,
        driver: &mut dyn Driver,
        schedule: &mut Schedule,
        backoff: &mut Backoff,
    ) -> Result<(), DriverError> {
        let Job { device, task, deadline, answer } = job;
        let Some((device, plan)) = schedule.find(&device, driver) else {
            answered(&answer.send(TaskError::Stopping.into()));
            return Ok(());
        };
        if Instant::now() >= deadline {
            answered(&answer.send(TaskError::Late.into()));
            return Ok(());
        }
        let mut lost = None;
        let result = match task {
            Task::Write(values) => job::write(driver, &device, &values, deadline).await,
            Task::Poll | Task::Read(_) => {
                let plan = match &task {
                    Task::Read(points) => Plan::of(&device, points.clone(), driver),
                    _ => plan,
                };
                let mut poll = Poll::new(device.clone(), plan, self.clock);
                loop {
                    match poll.step(driver).await {
                        Ok(false) => {}
                        Ok(true) => break,
                        Err(error) => {
                            lost = Some(error);
                            break;
                        }
                    }
                }
                let mut result = poll_result(&device, &poll);
                if task == Task::Poll {
                    // It asks for a message, and that names the bad points itself.
                    result.error.take_if(|_| poll.is_answered());
                    let report = schedule.done(&poll);
                    self.publish(&mut poll, report, schedule, true).await;
                }
                self.learn(&poll, driver, schedule).await;
                result
            }
        };
        match &result.error {
            Some(TaskError::Failed { error: error @ DriverError::Lost(_), .. }) => lost = Some(error.clone()),
            Some(TaskError::Failed { error: DriverError::Malformed(_) | DriverError::Noise, .. }) => {}
            Some(TaskError::Failed { error, .. }) if error.is_silence() => {}
            _ if lost.is_some() => {}
            _ => {
                backoff.reset();
                schedule.revive(&device.id);
            }
        }
        answered(&answer.send(result));
        lost.map_or(Ok(()), Err)
    }
}

fn poll_result(device: &Device, poll: &Poll) -> TaskResult {
    let mut result = TaskResult { values: Vec::new(), error: None };
    for reading in poll.readings() {
        let Some(point) = device.points.get(reading.point) else {
            continue;
        };
        match &reading.value {
            Ok(value) => result.values.push((point.id.clone(), value.clone())),
            Err(reason) if result.error.is_none() => {
                result.error = Some(TaskError::Bad { point: point.id.clone(), reason: *reason });
            }
            Err(_) => {}
        }
    }
    result
}

pub(super) fn answered(sent: &Result<(), TaskResult>) {
    if sent.is_err() {
        tracing::debug!("the sender of a command has gone");
    }
}
