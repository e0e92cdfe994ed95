//! One life of the connection to the broker, and the wait for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::announce::announce;
use super::client::{Client, ClientError, Connection, Limits, Outgoing};
use super::drain::Drain;
use super::listen::{Marker, listen};
use super::tls::Peer;
use super::topics::Topics;
use super::wire::Lost;
use super::{Setup, Stop};
use crate::buffer::Rewind;
use crate::record::{Body, Name};
use crate::session::Backoff;
use crate::status::State;

/// While an outage is younger than this, waits stay short: most outages are.
const YOUNG_OUTAGE: Duration = Duration::from_secs(5 * 60);
/// The longest wait in a young outage.
const YOUNG_WAIT: Duration = Duration::from_secs(5);
/// The shortest wait after a refusal: nothing changes until somebody mends it, and brokers ban the hasty.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one: the next try is a first one again.
const STABLE: Duration = Duration::from_secs(60);
/// After so many takeovers in a row somebody else has our id, and fights for it.
const TAKEOVERS: u32 = 2;
/// At an orderly stop, records in flight get this long to be acknowledged ...
const SETTLE: Duration = Duration::from_secs(2);
/// ... and the offline status this long to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a session ended.
pub(super) enum End {
    Stopped,
    Lost(ClientError),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        Self::Lost(error)
    }
}

/// What outlives a connection.
pub(super) struct Life {
    pub(super) setup: Setup,
    pub(super) topics: Topics,
    pub(super) client: Client,
    /// The last version of retained messages that the broker has.
    pub(super) announced: u64,
    pub(super) has_subscribed: bool,
    /// What the broker's session may still deliver: filters of this configuration and of earlier ones.
    pub(super) left: Option<BTreeSet<String>>,
    pub(super) marks: u64,
    pub(super) backoff: Backoff,
    /// How often a record was out when its connection ended for its sake.
    pub(super) tries: BTreeMap<Name, u32>,
    /// Since when there is no connection.
    pub(super) outage: Option<Instant>,
    /// The broker of the present connection.
    pub(super) server: String,
    /// What TLS told of it.
    pub(super) peer: Option<Peer>,
    /// What it takes and decides.
    pub(super) limits: Limits,
    /// The client id that a broker gave us, since we have none.
    pub(super) assigned: Option<String>,
    /// Why no commands come.
    pub(super) refused: Option<String>,
    /// How often in a row another client took the session over.
    pub(super) takeovers: u32,
}

impl Life {
    /// One life of a connection.
    pub(super) async fn session(
        &mut self,
        connection: Connection,
        stop: &mut watch::Receiver<Option<Stop>>,
    ) -> End {
        let Connection { session_present, limits, inbox, lost } = connection;
        let mut broken = lost.subscribe();
        tracing::info!(broker = self.server, session_present, "connected to the broker");
        self.setup.counters.connections.count();
        self.assigned = limits.client_id.clone().or(self.assigned.take());
        self.limits = limits.clone();
        self.refused = None;
        self.compare();
        self.tell(session_present).await;
        let connected = Instant::now();
        self.outage = None;
        if !session_present {
            // The broker may have lost everything, its retained messages too.
            self.announced = 0;
        }
        let greeted = tokio::select! {
            biased;
            reason = broken.wait_for(Option::is_some) => Err(lost_by(reason.as_deref().ok())),
            greeted = self.greet(session_present) => greeted,
        };
        let (marker, newest) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => return self.ended(error, connected, &lost),
        };
        let window =
            usize::from(self.setup.config.max_inflight.min(limits.receive_maximum.unwrap_or(u16::MAX)));
        let mut drain =
            Drain::new(&self.setup, &self.topics, &self.client, &limits, window, newest, &self.tries);
        let mut announced = self.announced;
        let end = {
            let announce = announce(&self.setup, &self.topics, &self.client, &limits, &mut announced);
            let listen = listen(&self.setup, &self.topics, &limits, inbox, marker);
            tokio::select! {
                biased;
                reason = broken.wait_for(Option::is_some) => End::Lost(lost_by(reason.as_deref().ok())),
                _ = stop.wait_for(Option::is_some) => End::Stopped,
                error = listen => End::Lost(error),
                error = announce => End::Lost(error),
                error = drain.run() => End::Lost(error),
            }
        };
        self.announced = announced;
        if self.client.refused() > 0 {
            tracing::warn!(
                count = self.client.refused(),
                "messages from the broker came too fast and were lost"
            );
        }
        match end {
            End::Stopped => {
                // What is not acknowledged in time stays in the buffer.
                if timeout(SETTLE, drain.settle()).await.is_err() {
                    tracing::info!("not everything was acknowledged; the rest goes out at the next start");
                }
                self.farewell(*stop.borrow()).await;
                End::Stopped
            }
            End::Lost(error) => {
                let tries = drain.tries().await;
                drop(drain);
                self.tries = tries;
                self.ended(error, connected, &lost)
            }
        }
    }

    /// Lets the connection go without DISCONNECT, so that the broker publishes the will.
    fn ended(&mut self, error: ClientError, connected: Instant, lost: &Lost) -> End {
        // The wire is cut first, because paho says DISCONNECT when a client goes, and then there is no will.
        lost.send_replace(Some(error.clone()));
        self.client.abandon();
        // A connection that was thrown out at once is no success: two clients of one id would chase each
        // other as fast as the network allows.
        if connected.elapsed() > STABLE {
            self.backoff.reset();
            self.takeovers = 0;
        }
        End::Lost(error)
    }

    /// Says online, subscribes where the broker has no session, and marks the end of what it kept for us. Gives
    /// the newest record made before.
    async fn greet(&mut self, session_present: bool) -> Result<(Option<Marker>, Name), ClientError> {
        let gone = |_| ClientError::Lost("the buffer is gone".to_owned());
        let newest = self.setup.rewind.send(Rewind).await.map_err(gone)?;
        let mut messages = vec![self.gateway_status(State::Online, None)];
        self.subscribe(session_present).await?;
        let mut marker = None;
        if session_present {
            self.marks += 1;
            let payload = Body::new().with("run", &self.setup.run).with("mark", &self.marks).object();
            marker = Some(Marker::new(payload.clone()));
            messages.push(Outgoing { topic: self.topics.marker(), payload, qos: 1, ..Outgoing::default() });
        }
        self.say(messages).await?;
        Ok((marker, newest))
    }

    async fn farewell(&self, stop: Option<Stop>) {
        if stop != Some(Stop::ForAnother) {
            self.say_offline().await;
        }
        if let Err(error) = timeout(FAREWELL, self.client.disconnect()).await {
            tracing::debug!(%error, "DISCONNECT");
        }
    }

    async fn say_offline(&self) {
        let status = vec![self.gateway_status(State::Offline, Some("stopped"))];
        match timeout(FAREWELL, self.say(status)).await {
            Ok(Ok(())) => tracing::info!("said offline to the broker"),
            Ok(Err(error)) => tracing::warn!(%error, "the broker was not told that the gateway stops"),
            Err(_) => tracing::warn!("the broker was not told that the gateway stops: no answer"),
        }
    }

    /// How long to wait before the next connect.
    pub(super) fn wait_after(&mut self, error: &ClientError) -> Duration {
        let now = Instant::now();
        let first = self.outage.is_none();
        let outage = now - *self.outage.get_or_insert(now);
        let mut wait = self.backoff.next_wait();
        if outage < YOUNG_OUTAGE {
            wait = wait.min(YOUNG_WAIT);
        }
        if let ClientError::TakenOver(_) = error {
            self.takeovers += 1;
            self.setup.counters.takeovers.count();
        }
        if self.takeovers >= TAKEOVERS {
            tracing::error!(
                takeovers = self.takeovers,
                "two clients with one id throw each other out; give each gateway its own gateway.id or mqtt.client_id"
            );
        }
        let is_contest = self.takeovers >= TAKEOVERS;
        if is_contest || matches!(error, ClientError::Refused(_) | ClientError::Denied(_)) {
            wait = wait.max(REFUSED_WAIT);
        }
        if first {
            tracing::warn!(%error, "no broker; readings wait in the buffer");
        } else {
            tracing::debug!(%error, ?wait, "no broker");
        }
        wait
    }
}

fn lost_by(reason: Option<&Option<ClientError>>) -> ClientError {
    reason.and_then(Clone::clone).unwrap_or_else(|| ClientError::Lost("the client is gone".to_owned()))
}
