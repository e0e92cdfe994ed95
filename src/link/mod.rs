//! A link: the one owner of a serial port, a socket or a simulator, and of all devices on it.
//!
//! The actor is a shell: it queues commands and stops. The work is [`session`], one life of the connection,
//! and [`run`], which begins the next life when one has ended.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::buffer::Append;
use crate::clock::{Clock, Timestamp};
use crate::config::LinkConfig;
use crate::drivers::{self, Driver, DriverError};
use crate::point::{Device, DeviceId};
use crate::record::{self, Record};
use crate::session::Backoff;
use crate::status::Report;

mod job;
mod poll;
mod schedule;

use job::Job;
pub use job::{Task, TaskError, TaskResult, Values};
use poll::Poll;
use schedule::Schedule;

/// Commands that may wait for a link. More would wait longer than a person does.
const JOBS: usize = 8;
/// Commands in a row before the polls get a turn.
const JOBS_IN_A_ROW: u32 = 4;
/// The wait before a lost link is opened again.
const REOPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Runs a task on a device of this link. Never queued past its bound, never run past its deadline.
#[derive(Debug, Message)]
#[rtype(result = "TaskResult")]
pub struct Execute {
    /// The device.
    pub device: DeviceId,
    /// What to do.
    pub task: Task,
    /// Not begun after this.
    pub deadline: Instant,
}

/// Ends the request under way, closes the link and stops.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// What a link needs to live.
#[derive(Clone)]
pub struct Setup {
    /// The link.
    pub config: LinkConfig,
    /// Its devices.
    pub devices: Vec<Rc<Device>>,
    /// Where records go.
    pub buffer: Recipient<Append>,
    /// Where states go.
    pub status: Recipient<Report>,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
}

/// The actor.
pub struct Link {
    setup: Option<(Setup, mpsc::Receiver<Job>)>,
    jobs: mpsc::Sender<Job>,
    stop: watch::Sender<bool>,
}

impl Link {
    /// A link that begins to poll when it is started.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let (jobs, queue) = mpsc::channel(JOBS);
        let (stop, _) = watch::channel(false);
        Self {
            setup: Some((setup, queue)),
            jobs,
            stop,
        }
    }
}

impl Actor for Link {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some((setup, queue)) = self.setup.take() {
            let life = run(setup, queue, self.stop.subscribe());
            ctx.spawn(life.into_actor(self).map(|(), _, ctx| ctx.stop()));
        }
    }
}

impl Handler<Execute> for Link {
    type Result = ResponseFuture<TaskResult>;

    fn handle(
        &mut self,
        Execute {
            device,
            task,
            deadline,
        }: Execute,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let (answer, done) = oneshot::channel();
        let queued = self.jobs.try_send(Job {
            device,
            task,
            deadline,
            answer,
        });
        Box::pin(async move {
            match queued {
                // Without an answer the session died under it: the device may have been asked.
                Ok(()) => done.await.unwrap_or_else(|_| TaskError::Interrupted.into()),
                Err(_) => TaskError::Busy(JOBS).into(),
            }
        })
    }
}

impl Handler<Stop> for Link {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        self.stop.send_replace(true);
        let stop = self.stop.clone();
        // The life's receiver is dropped when it has ended.
        Box::pin(async move { stop.closed().await })
    }
}

/// Begins one session after the other until the link is stopped.
async fn run(setup: Setup, mut jobs: mpsc::Receiver<Job>, mut stop: watch::Receiver<bool>) {
    let mut driver = drivers::create(&setup.config);
    let mut schedule = Schedule::new(&setup.devices);
    let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
    let mut held = None;
    loop {
        let life = Life {
            setup: &setup,
            jobs: &mut jobs,
            held: &mut held,
            schedule: &mut schedule,
            backoff: &mut backoff,
            stop: &mut stop,
        };
        match AssertUnwindSafe(life.session(&mut *driver)).catch_unwind().await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                tracing::debug!(link = %setup.config.id, %error, "session ended");
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                tracing::error!(link = %setup.config.id, panic = text, "the driver panicked; it is started anew");
                let detail =
                    |body: record::Body| body.with("link", setup.config.id.as_str()).with("text", text);
                setup
                    .append(record::event(
                        "panic",
                        Timestamp::now(),
                        setup.clock.is_synced(),
                        detail,
                    ))
                    .await;
                driver = drivers::create(&setup.config);
            }
        }
        if let Some(job) = Option::take(&mut held) {
            setup.refuse(job);
        }
        let wait = backoff.next_wait();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            // A command is a reason to try at once: it may have waited hours for this moment.
            job = jobs.recv() => held = job,
            () = sleep(wait) => {}
        }
    }
    jobs.close();
    while let Some(job) = jobs.recv().await {
        answered(job.answer.send(TaskError::Stopping.into()));
    }
}

/// One life of the connection, with what outlives it.
struct Life<'a> {
    setup: &'a Setup,
    jobs: &'a mut mpsc::Receiver<Job>,
    held: &'a mut Option<Job>,
    schedule: &'a mut Schedule,
    backoff: &'a mut Backoff,
    stop: &'a mut watch::Receiver<bool>,
}

impl Life<'_> {
    /// `Ok` when stopped, `Err` when the link is lost.
    async fn session(self, driver: &mut dyn Driver) -> Result<(), DriverError> {
        let Life {
            setup,
            jobs,
            held,
            schedule,
            backoff,
            stop,
        } = self;
        if let Err(error) = driver.open(Instant::now() + setup.config.timeout).await {
            setup.say_offline(schedule, &error).await;
            return Err(error);
        }
        schedule.plan(driver);
        let mut current: Option<Poll> = None;
        let mut in_a_row = 0;
        let mut rest_until = Instant::now();
        loop {
            if let Some(job) = held.take() {
                setup.run_job(job, driver, schedule, backoff).await?;
            }
            let next = if current.is_some() { None } else { schedule.next() };
            let due = next.as_ref().map_or(rest_until, |(due, ..)| rest_until.max(*due));
            let may_poll = current.is_some() || next.is_some();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(job) = jobs.recv(), if in_a_row < JOBS_IN_A_ROW || !may_poll => {
                    in_a_row += 1;
                    *held = Some(job);
                }
                () = sleep_until(due), if may_poll => {
                    in_a_row = 0;
                    let poll = match next {
                        Some((_, device, requests)) => current.insert(Poll::new(device, requests)),
                        None => match &mut current {
                            Some(poll) => poll,
                            None => continue,
                        },
                    };
                    let step = poll.step(driver).await;
                    rest_until = Instant::now() + setup.config.pause;
                    if !matches!(step, Ok(false)) {
                        setup.finish(&mut current, schedule, backoff).await;
                    }
                    step?;
                }
            }
        }
    }
}

impl Setup {
    /// A poll is complete: its record, its state, its next turn.
    async fn finish(&self, current: &mut Option<Poll>, schedule: &mut Schedule, backoff: &mut Backoff) {
        let Some(mut poll) = current.take() else { return };
        let report = poll.report();
        if poll.is_answered() {
            backoff.reset();
        }
        schedule.done(&report.device, poll.begun(), poll.is_answered());
        self.publish(&mut poll, report).await;
    }

    async fn publish(&self, poll: &mut Poll, report: Report) {
        // A full mailbox is no loss: the next report says the same or better.
        if let Err(error) = self.status.try_send(report) {
            tracing::debug!(%error, "a report was dropped");
        }
        if let Some(record) = poll.record(self.clock) {
            self.append(record).await;
        }
    }

    async fn append(&self, record: Record) {
        if let Err(error) = self.buffer.send(Append(record)).await {
            tracing::error!(link = %self.config.id, %error, "the buffer is gone");
        }
    }

    /// The link cannot be opened: every device says so.
    async fn say_offline(&self, schedule: &Schedule, error: &DriverError) {
        tracing::warn!(link = %self.config.id, %error, "cannot be opened");
        for device in schedule.devices() {
            let mut poll = Poll::offline(device);
            let mut report = poll.report();
            report.reason = Some(error.to_string());
            self.publish(&mut poll, report).await;
        }
    }

    /// The link could not be opened for this command.
    fn refuse(&self, job: Job) {
        let point = self
            .devices
            .iter()
            .find(|device| device.id == job.device)
            .and_then(|d| d.points.first());
        let result = match point {
            _ if job.deadline <= Instant::now() => TaskError::Late,
            None => TaskError::Stopping,
            Some(point) => TaskError::Failed {
                point: point.id.clone(),
                error: DriverError::Lost(format!("link {} cannot be opened", self.config.id)),
            },
        };
        answered(job.answer.send(result.into()));
    }

    /// Runs a command. `Err` only for a lost link.
    async fn run_job(
        &self,
        job: Job,
        driver: &mut dyn Driver,
        schedule: &mut Schedule,
        backoff: &mut Backoff,
    ) -> Result<(), DriverError> {
        let Job {
            device,
            task,
            deadline,
            answer,
        } = job;
        let Some((device, requests)) = schedule.find(&device) else {
            answered(answer.send(TaskError::Stopping.into()));
            return Ok(());
        };
        if Instant::now() >= deadline {
            answered(answer.send(TaskError::Late.into()));
            return Ok(());
        }
        let mut lost = None;
        let result = match task {
            Task::Write(values) => job::write(driver, &device, &values, deadline).await,
            Task::Poll | Task::Read(_) => {
                let mut poll = match &task {
                    Task::Read(points) => Poll::new(device.clone(), driver.plan(&device, points).into()),
                    _ => Poll::new(device.clone(), requests),
                };
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
                let result = poll_result(&device, &poll);
                if task == Task::Poll {
                    let report = poll.report();
                    schedule.done(&device.id, poll.begun(), poll.is_answered());
                    self.publish(&mut poll, report).await;
                }
                result
            }
        };
        match &result.error {
            Some(TaskError::Failed {
                error: error @ DriverError::Lost(_),
                ..
            }) => lost = Some(error.clone()),
            Some(TaskError::Failed {
                error: DriverError::Timeout | DriverError::Malformed(_),
                ..
            }) => {}
            _ if lost.is_some() => {}
            _ => {
                backoff.reset();
                schedule.revive(&device.id);
            }
        }
        answered(answer.send(result));
        lost.map_or(Ok(()), Err)
    }
}

fn poll_result(device: &Device, poll: &Poll) -> TaskResult {
    let mut result = TaskResult {
        values: Vec::new(),
        error: None,
    };
    for reading in poll.readings() {
        let Some(point) = device.points.get(reading.point) else {
            continue;
        };
        match &reading.value {
            Ok(value) => result.values.push((point.id.clone(), value.clone())),
            Err(reason) if result.error.is_none() => {
                result.error = Some(TaskError::Bad {
                    point: point.id.clone(),
                    reason: *reason,
                });
            }
            Err(_) => {}
        }
    }
    result
}

fn answered(sent: Result<(), TaskResult>) {
    if sent.is_err() {
        tracing::debug!("the sender of a command has gone");
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
