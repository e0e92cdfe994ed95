//! Commands: judged here, run on their link between two polls, answered once.
//!
//! An id runs once, also over a restart: the journal in the buffer has the command before the device is asked,
//! and its outcome before the reply leaves.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::buffer::journal::{Begin, Begun, CommandKey, Finish};
use crate::buffer::{Append, BeginCommand, FinishCommand, GetStats, ListUnfinished};
use crate::clock::{Clock, Timestamp};
use crate::command::{BadCommand, Command, Outcome};
use crate::drivers::DriverError;
use crate::link::{Execute, TaskError, TaskResult};
use crate::point::{Device, DeviceId, Reason};
use crate::record::{Record, RecordKind, Topic};
use crate::status::GetStates;

mod judge;

use judge::{Now, judge};

/// Commands judged or running at a time. One more is told `busy`.
const SLOTS: usize = 32;

/// A command as it came from the broker.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Received {
    /// The device of the topic; `None`: for the gateway itself.
    pub device: Option<DeviceId>,
    /// The JSON.
    pub payload: Vec<u8>,
    /// Where the reply goes.
    pub reply: Topic,
    /// MQTT 5 Correlation Data, returned with the reply.
    pub correlation: Option<Arc<[u8]>>,
    /// It came with the retain flag.
    pub is_retained: bool,
    /// It may have waited in the broker while the gateway was away.
    pub may_be_old: bool,
    /// The broker drops it when its time is over (MQTT 5 Message Expiry Interval).
    pub expires: bool,
}

/// Waits until no command runs any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// A device and the link that reaches it.
#[derive(Clone)]
pub struct Target {
    /// The device.
    pub device: Rc<Device>,
    /// Its link.
    pub link: Recipient<Execute>,
}

/// What Commands needs to live.
#[derive(Clone)]
pub struct Setup {
    /// Every device by id.
    pub targets: HashMap<DeviceId, Target>,
    /// Longest time from a command's arrival to its outcome.
    pub timeout: Duration,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
    /// Takes replies of commands that enter no journal.
    pub append: Recipient<Append>,
    /// The journal's start of a command.
    pub begin: Recipient<BeginCommand>,
    /// The journal's end of a command.
    pub finish: Recipient<FinishCommand>,
    /// The commands an earlier run left open.
    pub unfinished: Recipient<ListUnfinished>,
    /// The buffer's numbers, for the gateway's `status`.
    pub stats: Recipient<GetStats>,
    /// The devices' states, for the gateway's `status`.
    pub states: Recipient<GetStates>,
}

/// The actor.
pub struct Commands {
    setup: Rc<Setup>,
    running: usize,
    stopping: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Commands {
    /// With no command running.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup: Rc::new(setup),
            running: 0,
            stopping: None,
        }
    }
}

impl Actor for Commands {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let setup = self.setup.clone();
        ctx.spawn(async move { setup.close_unfinished().await }.into_actor(self));
    }
}

impl Handler<Received> for Commands {
    type Result = ();

    fn handle(&mut self, received: Received, ctx: &mut Context<Self>) {
        let setup = self.setup.clone();
        if self.running >= SLOTS {
            let busy = Outcome::Rejected {
                code: "busy",
                message: format!("{SLOTS} commands run already"),
            };
            ctx.spawn(async move { setup.refuse(&received, busy).await }.into_actor(self));
            return;
        }
        self.running += 1;
        ctx.spawn(
            async move { setup.run(&received).await }
                .into_actor(self)
                .map(|(), commands, _| {
                    commands.running -= 1;
                    if commands.running == 0
                        && let Some(stopped) = commands.stopping.take()
                        && stopped.send(()).is_err()
                    {
                        tracing::debug!("nobody waits for the commands to end");
                    }
                }),
        );
    }
}

impl Handler<Stop> for Commands {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        if self.running == 0 {
            return Box::pin(std::future::ready(()));
        }
        let (stopped, done) = tokio::sync::oneshot::channel();
        self.stopping = Some(stopped);
        Box::pin(async move { done.await.unwrap_or_default() })
    }
}

impl Setup {
    /// From the payload to the reply.
    async fn run(&self, received: &Received) {
        let command = match Command::parse(&received.payload) {
            Ok(command) => command,
            Err(BadCommand { id, code, message }) => {
                let outcome = Outcome::Rejected { code, message };
                return self
                    .append(self.reply(received, id.as_deref(), None, &outcome))
                    .await;
            }
        };
        if received.is_retained {
            let message =
                "a retained command would run again at every connect; publish it without retain".to_owned();
            return self
                .reject(
                    received,
                    &command,
                    &Outcome::Rejected {
                        code: "retained",
                        message,
                    },
                )
                .await;
        }
        let arrived = Instant::now();
        if received.device.is_none() {
            return self.run_own(received, &command).await;
        }
        let target = received
            .device
            .as_ref()
            .and_then(|device| self.targets.get(device));
        let now = Now {
            ts: Timestamp::now(),
            synced: self.clock.is_synced(),
        };
        let verdict = judge(received, &command, target, now);
        let key = CommandKey {
            device: received.device.clone(),
            id: command.id.clone(),
        };
        let begin = Begin {
            key: key.clone(),
            digest: Sha256::digest(&received.payload).into(),
            action: command.action.clone(),
            reply: received.reply.clone(),
            correlation: received.correlation.clone(),
            enter: verdict.is_ok(),
        };
        let busy = |message: String| Outcome::Rejected {
            code: "busy",
            message,
        };
        match self.begin.send(BeginCommand(begin)).await {
            Ok(Ok(Begun::Fresh)) => {}
            Ok(Ok(Begun::Running)) => return,
            Ok(Ok(Begun::Seen(body))) => return self.append(record(received, body)).await,
            Ok(Ok(Begun::Reused)) => {
                let message = format!("the id {} belongs to another command", command.id);
                return self
                    .reject(
                        received,
                        &command,
                        &Outcome::Rejected {
                            code: "id-reused",
                            message,
                        },
                    )
                    .await;
            }
            Ok(Err(error)) => return self.reject(received, &command, &busy(error.to_string())).await,
            Err(error) => {
                tracing::error!(%error, "the buffer is gone");
                return;
            }
        }
        let (allowed, target) = match (verdict, target) {
            (Ok(allowed), Some(target)) => (allowed, target),
            (Err(outcome), _) => return self.reject(received, &command, &outcome).await,
            (Ok(_), None) => return,
        };
        let time = allowed
            .time_left
            .map_or(self.timeout, |left| left.min(self.timeout));
        let execute = Execute {
            device: target.device.id.clone(),
            task: allowed.task,
            deadline: arrived + time,
        };
        let result = target
            .link
            .send(execute)
            .await
            .unwrap_or_else(|_| TaskError::Stopping.into());
        let keep = !matches!(result.error, Some(TaskError::Busy(_) | TaskError::Stopping));
        let outcome = outcome(result);
        tracing::info!(
            device = %target.device.id, command = command.id, action = command.action, "{}", outcome.status()
        );
        let reply = self.reply(received, Some(&command.id), Some(&command.action), &outcome);
        self.finish(Finish { key, keep, reply }).await;
    }

    /// A command for the gateway itself touches no device and enters no journal.
    async fn run_own(&self, received: &Received, command: &Command) {
        let outcome = match command.action.as_str() {
            "status" => self.own_status().await,
            other => Outcome::Rejected {
                code: "unknown-action",
                message: format!("the gateway knows status, not {other}"),
            },
        };
        self.reject(received, command, &outcome).await;
    }

    async fn own_status(&self) -> Outcome {
        let (states, stats) = (self.states.send(GetStates).await, self.stats.send(GetStats).await);
        let (Ok(states), Ok(stats)) = (states, stats) else {
            return Outcome::Rejected {
                code: "busy",
                message: "the gateway is stopping".to_owned(),
            };
        };
        let states: serde_json::Map<_, _> = states
            .into_iter()
            .map(|(device, state)| (device.to_string(), state.name().into()))
            .collect();
        Outcome::Answered(serde_json::json!({
            "devices": states,
            "buffer": {
                "stored": stats.stored,
                "waiting": stats.waiting,
                "in_flight": stats.in_flight,
                "bytes": stats.bytes,
                "dropped": stats.dropped,
                "fault": stats.fault,
            },
        }))
    }

    /// Commands that an earlier run began and never finished: nobody knows whether the device was asked.
    async fn close_unfinished(&self) {
        let list = match self.unfinished.send(ListUnfinished).await {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => {
                tracing::error!(%error, "commands left open by the last run stay open");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the buffer is gone");
                return;
            }
        };
        for open in list {
            tracing::warn!(
                id = open.key.id,
                device = open.key.topic(),
                "a command was interrupted by the last stop"
            );
            let outcome = Outcome::Failed {
                code: "interrupted".to_owned(),
                message:
                    "the gateway stopped while the command ran; read the device before you send it again"
                        .to_owned(),
                values: Vec::new(),
            };
            let device = open.key.device.as_ref().map(DeviceId::as_str);
            let (ts, synced) = (Timestamp::now(), self.clock.is_synced());
            let body = outcome
                .body(Some(&open.key.id), device, Some(&open.action), ts, synced)
                .finish();
            let reply = Record {
                kind: RecordKind::Reply,
                topic: open.reply,
                body,
                correlation: open.correlation,
                made: ts,
            };
            self.finish(Finish {
                key: open.key,
                keep: true,
                reply,
            })
            .await;
        }
    }

    async fn refuse(&self, received: &Received, outcome: Outcome) {
        match Command::parse(&received.payload) {
            Ok(command) => self.reject(received, &command, &outcome).await,
            Err(bad) => {
                self.append(self.reply(received, bad.id.as_deref(), None, &outcome))
                    .await
            }
        }
    }

    async fn reject(&self, received: &Received, command: &Command, outcome: &Outcome) {
        self.append(self.reply(received, Some(&command.id), Some(&command.action), outcome))
            .await;
    }

    fn reply(
        &self,
        received: &Received,
        id: Option<&str>,
        action: Option<&str>,
        outcome: &Outcome,
    ) -> Record {
        let device = received.device.as_ref().map(DeviceId::as_str);
        let body = outcome.body(id, device, action, Timestamp::now(), self.clock.is_synced());
        record(received, body.finish())
    }

    async fn append(&self, record: Record) {
        if let Err(error) = self.append.send(Append(record)).await {
            tracing::error!(%error, "the buffer is gone; a reply is lost");
        }
    }

    async fn finish(&self, finish: Finish) {
        match self.finish.send(FinishCommand(finish)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the outcome of a command is not stored"),
            Err(error) => tracing::error!(%error, "the buffer is gone; the outcome of a command is lost"),
        }
    }
}

fn record(received: &Received, body: Arc<[u8]>) -> Record {
    Record {
        kind: RecordKind::Reply,
        topic: received.reply.clone(),
        body,
        correlation: received.correlation.clone(),
        made: Timestamp::now(),
    }
}

/// What a task's result means to the sender.
fn outcome(result: TaskResult) -> Outcome {
    let TaskResult { values, error } = result;
    let Some(error) = error else {
        return Outcome::Succeeded(values);
    };
    let message = error.to_string();
    let code = match error {
        TaskError::Busy(_) | TaskError::Stopping => {
            return Outcome::Rejected {
                code: "busy",
                message,
            };
        }
        TaskError::Late => return Outcome::Expired(message),
        TaskError::Interrupted => "interrupted".to_owned(),
        TaskError::Unverified { .. } => "verify-failed".to_owned(),
        TaskError::Failed {
            error: DriverError::Timeout,
            ..
        } => "timeout".to_owned(),
        TaskError::Failed {
            error: DriverError::Refused(code),
            ..
        } => format!("exception-{code}"),
        TaskError::Failed {
            error: DriverError::Malformed(_),
            ..
        } => "malformed".to_owned(),
        TaskError::Failed {
            error: DriverError::Lost(_),
            ..
        } => "offline".to_owned(),
        // Sentinels and NaN: the device answered, with no value that could be told.
        TaskError::Bad {
            reason: Reason::Invalid | Reason::NotANumber,
            ..
        } => "malformed".to_owned(),
        TaskError::Bad { reason, .. } => reason.to_string(),
    };
    Outcome::Failed {
        code,
        message,
        values,
    }
}
