//! Commands: judged here, run on their link between two polls, answered once.
//!
//! An id runs once, also over a restart: the journal in the buffer has the command before the device is asked,
//! and its outcome before the reply leaves.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::buffer::{Append, BeginCommand, FinishCommand, GetStats, ListUnfinished};
use crate::clock::Clock;
use crate::command::Outcome;
use crate::counters::CommandCounters;
use crate::link::Execute;
use crate::point::{Device, DeviceId};
use crate::record::Topic;
use crate::status::GetStates;

mod judge;
mod run;

pub use judge::permit;
pub use run::outcome;

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

/// Asks for the configuration to be read again: what changed, or why nothing did. The one word that goes up, and by
/// a channel, because nobody above is an actor.
pub type Reload = oneshot::Sender<Result<Vec<String>, String>>;

/// What may be commanded from now on. What runs goes on.
#[derive(Clone, Default, Message)]
#[rtype(result = "()")]
pub struct Assign {
    /// Every device by id.
    pub targets: HashMap<DeviceId, Target>,
    /// Longest time from a command's arrival to its outcome.
    pub timeout: Duration,
    /// The gateway itself may be told to reload.
    pub admin: bool,
}

/// A device and the link that reaches it.
#[derive(Clone)]
pub struct Target {
    /// The device.
    pub device: Arc<Device>,
    /// Its link.
    pub link: Recipient<Execute>,
}

/// What Commands needs to live.
#[derive(Clone)]
pub struct Setup {
    /// What may be commanded.
    pub assigned: Rc<Assign>,
    /// Reads the configuration again.
    pub reload: mpsc::Sender<Reload>,
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
    /// Where outcomes are counted.
    pub counters: Rc<CommandCounters>,
}

/// The actor.
pub struct Commands {
    setup: Rc<Setup>,
    running: usize,
    stopping: Option<oneshot::Sender<()>>,
}

impl Commands {
    /// With no command running.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup: Rc::new(setup), running: 0, stopping: None }
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
            let busy = Outcome::Rejected { code: "busy", message: format!("{SLOTS} commands run already") };
            ctx.spawn(async move { setup.refuse(&received, &busy).await }.into_actor(self));
            return;
        }
        self.running += 1;
        ctx.spawn(async move { setup.run(&received).await }.into_actor(self).map(|(), commands, _| {
            commands.running -= 1;
            if commands.running == 0
                && let Some(stopped) = commands.stopping.take()
                && stopped.send(()).is_err()
            {
                tracing::debug!("nobody waits for the commands to end");
            }
        }));
    }
}

impl Handler<Assign> for Commands {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Context<Self>) {
        self.setup = Rc::new(Setup { assigned: Rc::new(assign), ..Setup::clone(&self.setup) });
    }
}

impl Handler<Stop> for Commands {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        if self.running == 0 {
            return Box::pin(std::future::ready(()));
        }
        let (stopped, done) = oneshot::channel();
        self.stopping = Some(stopped);
        Box::pin(async move { done.await.unwrap_or_default() })
    }
}
