//! One life of the connection to the broker, and the wait for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{FusedFuture as _, FutureExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Setup;
use super::announce::announce;
use super::client::{Client, ClientError, Connection, Limits, Outgoing};
use super::denied::Denials;
use super::drain::Drain;
use super::listen::{Listener, Marker};
use super::tls::Peer;
use super::topics::Topics;
use super::wire::Lost;
use crate::buffer::Rewind;
use crate::record::{Body, Name};
use crate::session::{Backoff, jittered};
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
/// So many connections in a row that ended before that are a sign of the same where the broker says nothing.
const BRIEF: u32 = 4;
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
    /// What the broker denies.
    pub(super) denials: Denials,
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
    /// Connections in a row that ended soon after they had found their session.
    pub(super) brief: u32,
    /// The reason for having no broker that the log has.
    pub(super) told: Option<String>,
}

impl Life {
    /// One life of a connection.
    pub(super) async fn session(&mut self, connection: Connection, stop: &mut watch::Receiver<bool>) -> End {
        let Connection { session_present, limits, inbox, lost } = connection;
        tracing::info!(broker = self.server, session_present, "connected to the broker");
        self.setup.counters.connections.count();
        self.assigned = limits.client_id.clone().or(self.assigned.take());
        (self.limits, self.refused, self.told) = (limits, None, None);
        self.compare();
        self.tell(session_present).await;
        if !session_present {
            // The broker may have lost everything, its retained messages too.
            self.announced = 0;
        }
        let marker = session_present.then(|| self.next_marker());
        let payload = marker.as_ref().map(|marker| marker.payload.clone());
        let listener = Listener {
            setup: self.setup.clone(),
            topics: self.topics.clone(),
            limits: self.limits.clone(),
            inbox,
            marker,
            strange: 0,
        };
        let (over, ended) = watch::channel(false);
        let mut stopping = stop.clone();
        // From the first moment on: what the broker kept for us comes before it has taken our first word.
        let mut listener = pin!(listener.run(ended).fuse());
        let end = {
            let mut life = pin!(self.live(session_present, payload, &lost, stop));
            tokio::select! {
                biased;
                end = &mut life => end,
                () = &mut listener => {
                    // It ends with the client, and that goes in a farewell.
                    if *stopping.borrow_and_update() {
                        life.await
                    } else {
                        End::Lost(ClientError::Lost("the client is gone".to_owned()))
                    }
                }
            }
        };
        over.send_replace(true);
        if !listener.is_terminated() {
            listener.await;
        }
        end
    }

    /// Greets, then drains and announces until one of them fails.
    async fn live(
        &mut self,
        session_present: bool,
        marker: Option<Vec<u8>>,
        lost: &Lost,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let mut broken = lost.subscribe();
        let connected = Instant::now();
        if let Err(error) = self.limits.check() {
            return self.ended(error, connected, session_present, lost);
        }
        let greeted = tokio::select! {
            biased;
            reason = broken.wait_for(Option::is_some) => Some(Err(lost_by(reason.as_deref().ok()))),
            _ = stop.wait_for(|stop| *stop) => None,
            greeted = self.greet(session_present, marker) => Some(greeted),
        };
        let newest = match greeted {
            Some(Ok(newest)) => newest,
            None => {
                self.farewell().await;
                return End::Stopped;
            }
            Some(Err(error)) => return self.ended(error, connected, session_present, lost),
        };
        let status = self.gateway_status(State::Online, None);
        let denials = std::mem::take(&mut self.denials);
        let limits = self.limits.clone();
        let window =
            usize::from(self.setup.config.max_inflight.min(limits.receive_maximum.unwrap_or(u16::MAX)));
        let mut drain =
            Drain::new(&self.setup, &self.topics, &self.client, &limits, window, newest, &self.tries);
        (drain.denials, drain.status) = (denials, status);
        let mut announced = self.announced;
        let end = {
            let announce = announce(&self.setup, &self.topics, &self.client, &limits, &mut announced);
            tokio::select! {
                biased;
                reason = broken.wait_for(Option::is_some) => End::Lost(lost_by(reason.as_deref().ok())),
                _ = stop.wait_for(|stop| *stop) => End::Stopped,
                error = announce => End::Lost(error),
                error = drain.run() => End::Lost(error),
                () = self.watch_certificate() => End::Stopped,
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
                self.farewell().await;
                End::Stopped
            }
            End::Lost(error) => {
                let tries = drain.tries().await;
                let mut denials = std::mem::take(&mut drain.denials);
                drop(drain);
                denials.end();
                (self.tries, self.denials) = (tries, denials);
                self.ended(error, connected, session_present, lost)
            }
        }
    }

    /// Lets the connection go without DISCONNECT, so that the broker publishes the will.
    fn ended(&mut self, error: ClientError, connected: Instant, session_present: bool, lost: &Lost) -> End {
        // The wire is cut first, because paho says DISCONNECT when a client goes, and then there is no will.
        lost.send_replace(Some(error.clone()));
        self.client.abandon();
        // A connection that was thrown out at once is no success: two clients of one id would chase each
        // other as fast as the network allows.
        if connected.elapsed() > STABLE {
            self.backoff.reset();
            (self.takeovers, self.brief, self.outage) = (0, 0, None);
        } else if session_present && error == ClientError::Closed {
            self.brief += 1;
            self.suspect();
        }
        End::Lost(error)
    }

    /// Before MQTT 5 nobody says that another client has taken the session over, and not every broker does with it.
    fn suspect(&self) {
        if self.brief.is_multiple_of(BRIEF) {
            tracing::error!(
                connections = self.brief,
                "connections end soon after they began, one after the other, and the broker kept the session: do two \
                 clients use the id {:?}? Give each gateway its own gateway.id or mqtt.client_id",
                self.client_id()
            );
        }
    }

    /// Says online, subscribes where the broker has no session, and marks the end of what it kept for us. Gives
    /// the newest record made before.
    async fn greet(&mut self, session_present: bool, marker: Option<Vec<u8>>) -> Result<Name, ClientError> {
        let gone = |_| ClientError::Lost("the buffer is gone".to_owned());
        let newest = self.setup.rewind.send(Rewind).await.map_err(gone)?;
        let mut messages = vec![self.gateway_status(State::Online, None)];
        self.subscribe(session_present).await?;
        if let Some(payload) = marker {
            messages.push(Outgoing { topic: self.topics.marker(), payload, qos: 1, ..Outgoing::default() });
        }
        self.say(messages).await?;
        Ok(newest)
    }

    fn next_marker(&mut self) -> Marker {
        self.marks += 1;
        Marker::new(Body::new().with("run", &self.setup.run).with("mark", &self.marks).object())
    }

    async fn farewell(&self) {
        self.say_offline().await;
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
        let outage = now - *self.outage.get_or_insert(now);
        let mut wait = self.backoff.next_wait();
        if outage < YOUNG_OUTAGE && wait > YOUNG_WAIT {
            wait = jittered(YOUNG_WAIT);
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
        let is_contest = self.takeovers >= TAKEOVERS && matches!(error, ClientError::TakenOver(_));
        if is_contest || matches!(error, ClientError::Refused(_) | ClientError::Denied(_)) {
            wait = wait.max(REFUSED_WAIT);
        }
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            tracing::debug!(%error, ?wait, "no broker");
        } else {
            tracing::warn!(%error, "no broker; readings wait in the buffer");
            self.told = Some(text);
        }
        wait
    }
}

fn lost_by(reason: Option<&Option<ClientError>>) -> ClientError {
    reason.and_then(Clone::clone).unwrap_or_else(|| ClientError::Lost("the client is gone".to_owned()))
}
