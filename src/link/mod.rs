//! A link: the one owner of a serial port, a socket or a simulator, and of all devices on it.
//!
//! The actor is a shell: it queues commands and stops. The work is [`session`], one life of the connection,
//! and [`run`], which begins the next life when one has ended.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::buffer::{Append, Recall, Remember};
use crate::clock::Clock;
use crate::config::{Layout, LinkConfig};
use crate::counters::{LinkCounters, Traffic};
use crate::drivers::Driver;
use crate::point::{Device, DeviceId};
use crate::record::{self};
use crate::session::Backoff;
use crate::status::Report;

mod holes;
mod job;
mod poll;
mod published;
mod schedule;
mod session;
#[cfg(test)]
mod tests;
mod turns;

use job::Job;
pub use job::{Task, TaskError, TaskResult, Values, write};
use schedule::Schedule;
pub use schedule::first_round;
use session::{Life, answered};

/// Commands that may wait for a link. More would wait longer than a person does.
const JOBS: usize = 8;
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
    /// Makes its driver, at the start and after a panic.
    pub driver: Rc<dyn Fn() -> Box<dyn Driver>>,
    /// Its devices.
    pub devices: Vec<Arc<Device>>,
    /// Where records go.
    pub buffer: Recipient<Append>,
    /// What is to be kept over a restart.
    pub remember: Recipient<Remember>,
    /// Asks for what was kept.
    pub recall: Recipient<Recall>,
    /// Where states go.
    pub status: Recipient<Report>,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
    /// One record a poll, or one a reading.
    pub layout: Layout,
    /// Where its work is counted.
    pub traffic: Traffic,
}

/// The actor.
pub struct Link {
    setup: Option<(Setup, mpsc::Receiver<Job>)>,
    jobs: mpsc::Sender<Job>,
    stop: watch::Sender<bool>,
    counters: Rc<LinkCounters>,
}

impl Link {
    /// A link that begins to poll when it is started.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let (jobs, queue) = mpsc::channel(JOBS);
        let (stop, _) = watch::channel(false);
        let counters = setup.traffic.link.clone();
        Self { setup: Some((setup, queue)), jobs, stop, counters }
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

    fn handle(&mut self, Execute { device, task, deadline }: Execute, _: &mut Context<Self>) -> Self::Result {
        let (answer, done) = oneshot::channel();
        let queued = self.jobs.try_send(Job { device, task, deadline, answer });
        if queued.is_err() {
            self.counters.refused.count();
        }
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
    let mut driver = (setup.driver)();
    setup.recall(&mut *driver).await;
    let mut schedule = Schedule::new(&setup.devices, setup.config.dead_share);
    let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
    let mut held = None;
    loop {
        let tried = Instant::now();
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
                setup.traffic.link.lose(error.to_string());
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                setup.traffic.link.panics.count();
                setup.traffic.link.lose(format!("the driver panicked: {text}"));
                tracing::error!(link = %setup.config.id, panic = text, "the driver panicked; it is started anew");
                let detail =
                    |body: record::Body| body.with("link", setup.config.id.as_str()).with("text", text);
                setup.append(record::event("panic", setup.clock.now(), detail)).await;
                driver = (setup.driver)();
                setup.recall(&mut *driver).await;
            }
        }
        if let Some(job) = Option::take(&mut held) {
            setup.refuse(job);
        }
        let wait = backoff.next_wait();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            // A command is a reason to try at once: it may have waited hours for this moment.
            job = jobs.recv() => {
                held = job;
                sleep_until(tried + REOPEN.0).await;
            }
            () = sleep(wait) => {}
        }
    }
    jobs.close();
    while let Some(job) = jobs.recv().await {
        answered(&job.answer.send(TaskError::Stopping.into()));
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
