//! The uplink: one connection to the broker after the other.
//!
//! The actor is a shell; [`run`] is the loop over connections, [`session`] one life of a connection. A session
//! drains the buffer, announces what is retained and listens for commands, until one of them fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::buffer::{Ack, Recall, Remember, Rewind, SetAside, Take};
use crate::clock::Clock;
use crate::commands::Received;
use crate::config::MqttConfig;
use crate::counters::UplinkCounters;
use crate::point::{DeviceId, LinkId};
use crate::session::Backoff;
use crate::status::{ReportUplink, Watch};

mod announce;
mod client;
mod connect;
mod denied;
mod dial;
mod drain;
mod guard;
mod listen;
mod origin;
mod paho;
mod password;
mod presence;
mod proxy;
mod session;
mod subscribe;
mod tls;
mod topics;
mod websocket;
mod wire;

use client::{Client, ClientError};
use session::{End, Life};
pub use topics::Topics;

/// Acknowledges what is in flight, says offline, disconnects and stops.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Which link each device is on.
pub type Links = Rc<RefCell<BTreeMap<DeviceId, LinkId>>>;

/// What the uplink needs to live.
#[derive(Clone)]
pub struct Setup {
    /// The broker.
    pub config: MqttConfig,
    /// The number of this run.
    pub run: u64,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
    /// Gives records again that were not acknowledged.
    pub rewind: Recipient<Rewind>,
    /// Gives records.
    pub take: Recipient<Take>,
    /// Forgets records.
    pub ack: Recipient<Ack>,
    /// Keeps records apart that the broker will never take.
    pub set_aside: Recipient<SetAside>,
    /// Tells what changed.
    pub watch: Recipient<Watch>,
    /// Keeps what was subscribed to.
    pub remember: Recipient<Remember>,
    /// Knows what was subscribed to.
    pub recall: Recipient<Recall>,
    /// Takes what was agreed with the broker.
    pub report: Recipient<ReportUplink>,
    /// Which link each device is on; follows the configuration.
    pub links: Links,
    /// Takes commands.
    pub commands: Option<Recipient<Received>>,
    /// Where its work is counted.
    pub counters: Rc<UplinkCounters>,
}

/// The actor.
pub struct Uplink {
    setup: Option<Setup>,
    stop: watch::Sender<bool>,
}

impl Uplink {
    /// An uplink that connects when it is started.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup: Some(setup), stop: watch::channel(false).0 }
    }
}

impl Actor for Uplink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(setup) = self.setup.take() {
            ctx.spawn(run(setup, self.stop.subscribe()).into_actor(self).map(|(), _, ctx| ctx.stop()));
        }
    }
}

impl Handler<Stop> for Uplink {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        self.stop.send_replace(true);
        let stop = self.stop.clone();
        // The life's receiver is dropped when it has ended.
        Box::pin(async move { stop.closed().await })
    }
}

/// Connects again and again until stopped.
async fn run(setup: Setup, mut stop: watch::Receiver<bool>) {
    // The one before may have had a certificate that this one has not.
    setup.counters.certificate_end.set(None);
    let client = match Client::start(setup.counters.refused.clone()) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the MQTT thread cannot be started");
            return;
        }
    };
    let mut life = Life {
        topics: Topics::new(&setup.config, setup.links.clone()),
        client,
        announced: 0,
        has_subscribed: false,
        left: None,
        marks: 0,
        backoff: Backoff::new(setup.config.reconnect_min, setup.config.reconnect_max),
        tries: BTreeMap::new(),
        denials: denied::Denials::default(),
        outage: None,
        server: String::new(),
        peer: None,
        limits: client::Limits::default(),
        assigned: None,
        refused: None,
        takeovers: 0,
        brief: 0,
        told: None,
        setup,
    };
    let error = serve(&mut life, &mut stop).await;
    // Whoever follows has not connected yet.
    if life.setup.report.send(ReportUplink(Err(error))).await.is_err() {
        tracing::error!("the status is gone");
    }
}

/// One connection after the other. Gives the reason for the end.
async fn serve(life: &mut Life, stop: &mut watch::Receiver<bool>) -> String {
    const STOPPED: &str = "the uplink was stopped";
    loop {
        let mut gave_up = stop.clone();
        let connected = tokio::select! {
            connected = life.connect() => connected,
            _ = gave_up.wait_for(|stop| *stop) => return STOPPED.to_owned(),
        };
        let end = match connected {
            Ok(connection) => life.session(connection, stop).await,
            Err(error) => {
                life.setup.counters.failures.count();
                End::Lost(error)
            }
        };
        let End::Lost(error) = end else { return STOPPED.to_owned() };
        if life.setup.report.send(ReportUplink(Err(error.to_string()))).await.is_err() {
            tracing::error!("the status is gone");
        }
        if matches!(error, ClientError::Stuck) {
            // Only a new process gets rid of a thread that hangs inside the library.
            tracing::error!(%error, "the uplink gives up");
            return error.to_string();
        }
        let wait = life.wait_after(&error);
        tokio::select! {
            () = sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return STOPPED.to_owned(),
        }
    }
}
