//! One command from its payload to its reply.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::judge::{Allowed, Work, judge};
use super::{Received, Setup, Target};
use crate::buffer::journal::{Begin, Begun, CommandKey, Finish};
use crate::buffer::{Append, BeginCommand, FinishCommand, GetStats, ListUnfinished};
use crate::clock::Moment;
use crate::command::{BadCommand, Command, Outcome};
use crate::drivers::DriverError;
use crate::link::{Execute, Task, TaskError, TaskResult};
use crate::point::{DeviceId, Reason};
use crate::record::{Record, RecordKind};
use crate::status::GetStates;

impl Setup {
    /// From the payload to the reply.
    pub(super) async fn run(&self, received: &Received) {
        if let Some(reply) = self.answer(received).await {
            self.append(reply).await;
        }
    }

    /// The reply of a command that ends without the journal; one that ran has its reply there.
    async fn answer(&self, received: &Received) -> Option<Record> {
        let command = match Command::parse(&received.payload) {
            Ok(command) => command,
            Err(BadCommand { id, code, message }) => {
                let outcome = Outcome::Rejected { code, message };
                return Some(self.reply(received, id.as_deref(), None, &outcome));
            }
        };
        let ended =
            |outcome: &Outcome| Some(self.reply(received, Some(&command.id), Some(&command.action), outcome));
        let rejected = |code, message: String| ended(&Outcome::Rejected { code, message });
        if received.is_retained {
            let message = "a retained command would run again at every connect; publish it without retain";
            return rejected("retained", message.to_owned());
        }
        let arrived = Instant::now();
        let target = received.device.as_ref().and_then(|device| self.assigned.targets.get(device));
        let now = self.clock.now();
        let verdict = judge(received, &command, target, self.assigned.admin, now);
        match self.begin.send(BeginCommand(begin(received, &command, verdict.is_ok()))).await {
            Ok(Ok(Begun::Fresh)) => {}
            Ok(Ok(Begun::Running)) => return None,
            Ok(Ok(Begun::Seen(body))) => {
                self.counters.repeated.count();
                return Some(record(received, body, now));
            }
            Ok(Ok(Begun::Reused)) => {
                return rejected("id-reused", format!("the id {} belongs to another command", command.id));
            }
            Ok(Err(error)) => return rejected("busy", error.to_string()),
            Err(error) => {
                tracing::error!(%error, "the buffer is gone");
                return None;
            }
        }
        match (verdict, target) {
            (Err(outcome), _) => return ended(&outcome),
            (Ok(Allowed { work: Work::Link(task), time_left }), Some(target)) => {
                let timeout = self.assigned.timeout;
                let time = time_left.map_or(timeout, |left| left.min(timeout));
                self.execute(received, &command, target, task, arrived + time).await;
            }
            (Ok(Allowed { work: Work::Reload, .. }), _) => {
                let outcome = self.reload().await;
                self.conclude(received, &command, &outcome, true).await;
            }
            (Ok(_), _) => {
                let outcome = self.own_status().await;
                self.conclude(received, &command, &outcome, true).await;
            }
        }
        None
    }

    /// Runs a command that stands in the journal, and stores its outcome there with its reply.
    async fn execute(
        &self,
        received: &Received,
        command: &Command,
        target: &Target,
        task: Task,
        deadline: Instant,
    ) {
        let execute = Execute { device: target.device.id.clone(), task, deadline };
        let result = target.link.send(execute).await.unwrap_or_else(|_| TaskError::Stopping.into());
        // A device that was not asked leaves the id free: the command may be sent again.
        let keep = !matches!(result.error, Some(TaskError::Busy(_) | TaskError::Stopping));
        let outcome = outcome(result, target.device.is_broadcast());
        tracing::info!(
            device = %target.device.id, command = command.id, action = command.action, "{}", outcome.status()
        );
        self.conclude(received, command, &outcome, keep).await;
    }

    async fn conclude(&self, received: &Received, command: &Command, outcome: &Outcome, keep: bool) {
        let reply = self.reply(received, Some(&command.id), Some(&command.action), outcome);
        let key = CommandKey { device: received.device.clone(), id: command.id.clone() };
        self.finish(Finish { key, keep, reply }).await;
    }

    /// Has the configuration read again.
    async fn reload(&self) -> Outcome {
        let busy = || Outcome::Rejected { code: "busy", message: "the gateway is stopping".to_owned() };
        let (answer, asked) = oneshot::channel();
        if self.reload.send(answer).await.is_err() {
            return busy();
        }
        match asked.await {
            Ok(Ok(changed)) => Outcome::Answered(serde_json::json!({ "changed": changed })),
            Ok(Err(message)) => Outcome::Failed { code: "malformed".to_owned(), message, values: Vec::new() },
            Err(_) => busy(),
        }
    }

    /// The gateway's own state.
    async fn own_status(&self) -> Outcome {
        let asked = (self.states.send(GetStates).await, self.stats.send(GetStats).await);
        let (Ok(states), Ok(numbers)) = asked else {
            return Outcome::Rejected { code: "busy", message: "the gateway is stopping".to_owned() };
        };
        let devices: serde_json::Map<_, _> = states
            .devices
            .into_iter()
            .map(|known| (known.device.to_string(), known.state.name().into()))
            .collect();
        Outcome::Answered(serde_json::json!({
            "devices": devices,
            "uplink": states.uplink.ok(),
            "buffer": numbers.to_json(),
        }))
    }

    /// Commands that an earlier run began and never finished: nobody knows whether the device was asked.
    pub(super) async fn close_unfinished(&self) {
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
            self.counters.count(&outcome);
            let device = open.key.device.as_ref().map(DeviceId::as_str);
            let made = self.clock.now();
            let body = outcome.body(Some(&open.key.id), device, Some(&open.action), made).finish();
            let reply = Record {
                kind: RecordKind::Reply,
                topic: open.reply,
                body,
                correlation: open.correlation,
                made,
            };
            self.finish(Finish { key: open.key, keep: true, reply }).await;
        }
    }

    /// Answers a command that is not even judged.
    pub(super) async fn refuse(&self, received: &Received, outcome: &Outcome) {
        let (id, action) = match Command::parse(&received.payload) {
            Ok(command) => (Some(command.id), Some(command.action)),
            Err(bad) => (bad.id, None),
        };
        self.append(self.reply(received, id.as_deref(), action.as_deref(), outcome)).await;
    }

    fn reply(
        &self,
        received: &Received,
        id: Option<&str>,
        action: Option<&str>,
        outcome: &Outcome,
    ) -> Record {
        self.counters.count(outcome);
        let device = received.device.as_ref().map(DeviceId::as_str);
        let made = self.clock.now();
        record(received, outcome.body(id, device, action, made).finish(), made)
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

fn begin(received: &Received, command: &Command, enter: bool) -> Begin {
    Begin {
        key: CommandKey { device: received.device.clone(), id: command.id.clone() },
        digest: Sha256::digest(&received.payload).into(),
        action: command.action.clone(),
        reply: received.reply.clone(),
        correlation: received.correlation.clone(),
        enter,
    }
}

fn record(received: &Received, body: Arc<[u8]>, made: Moment) -> Record {
    Record {
        kind: RecordKind::Reply,
        topic: received.reply.clone(),
        body,
        correlation: received.correlation.clone(),
        made,
    }
}

/// What a task's result means to who wanted it.
#[must_use]
pub fn outcome(result: TaskResult, is_broadcast: bool) -> Outcome {
    let TaskResult { values, error } = result;
    let Some(error) = error else {
        return if is_broadcast { Outcome::Sent(values) } else { Outcome::Succeeded(values) };
    };
    let message = error.to_string();
    let code = match error {
        TaskError::Busy(_) | TaskError::Stopping => {
            return Outcome::Rejected { code: "busy", message };
        }
        TaskError::Late => return Outcome::Expired(message),
        TaskError::Interrupted => "interrupted".to_owned(),
        TaskError::Unverified { .. } | TaskError::Failed { error: DriverError::Unconfirmed(_), .. } => {
            "verify-failed".to_owned()
        }
        TaskError::Failed { error: DriverError::Timeout, .. } => "timeout".to_owned(),
        TaskError::Failed { error: DriverError::Refused(code), .. } => format!("exception-{code}"),
        // Sentinels and NaN: the device answered, with no value that could be told.
        TaskError::Failed { error: DriverError::Malformed(_) | DriverError::Noise, .. }
        | TaskError::Bad { reason: Reason::Invalid | Reason::NotANumber, .. } => "malformed".to_owned(),
        TaskError::Failed { error: DriverError::Lost(_), .. } => "offline".to_owned(),
        TaskError::Bad { reason, .. } => reason.to_string(),
    };
    Outcome::Failed { code, message, values }
}
