//! One life of the connection to the broker, and the wait for the next.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Setup;
use super::announce::announce;
use super::client::{Client, ClientError, Connection, Options, Outgoing};
use super::drain::Drain;
use super::listen::{Marker, listen};
use super::paho::confirmed;
use super::topics::Topics;
use super::wire::{Lost, Wire};
use crate::buffer::Rewind;
use crate::record::{Body, Name};
use crate::session::Backoff;
use crate::status::{FORMAT, State};

/// While an outage is younger than this, waits stay short: most outages are.
const YOUNG_OUTAGE: Duration = Duration::from_secs(5 * 60);
/// The longest wait in a young outage.
const YOUNG_WAIT: Duration = Duration::from_secs(5);
/// The shortest wait after a refusal: nothing changes until somebody mends it, and brokers ban the hasty.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// Addresses of one name that are tried in a row.
const ADDRESSES: usize = 4;
/// A connection that lasted this long was a good one: the next try is a first one again.
const STABLE: Duration = Duration::from_secs(10);
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
    pub(super) marks: u64,
    pub(super) backoff: Backoff,
    /// How often a record was out when its connection ended for its sake.
    pub(super) tries: BTreeMap<Name, u32>,
    /// Since when there is no connection.
    pub(super) outage: Option<Instant>,
}

impl Life {
    /// Looks the name up and tries its addresses in turn.
    pub(super) async fn connect(&self) -> Result<Connection, ClientError> {
        let config = &self.setup.config;
        let broker = format!("{}:{}", config.host, config.port);
        // The resolver may never answer, and paho would hold its lock while it waits: so the name is looked up
        // here, with a limit.
        let found =
            timeout(config.connect_timeout, tokio::net::lookup_host((config.host.as_str(), config.port)))
                .await;
        let addresses: Vec<_> = match found {
            Ok(Ok(addresses)) => addresses.take(ADDRESSES).collect(),
            Ok(Err(error)) => return Err(ClientError::Unreachable(format!("{broker}: {error}"))),
            Err(_) => {
                return Err(ClientError::Unreachable(format!("{broker}: the name look-up gives no answer")));
            }
        };
        let mut failed = ClientError::Unreachable(format!("{broker}: the name has no address"));
        for address in addresses {
            let wire = match Wire::open(address, config.connect_timeout).await {
                Ok(wire) => wire,
                Err(error) => {
                    failed = ClientError::Unreachable(format!("{broker} ({address}): {error}"));
                    continue;
                }
            };
            let (lost, _) = watch::channel(None);
            let options = Options {
                uri: wire.uri(),
                lost: lost.clone(),
                version: config.version,
                client_id: config.client_id.clone(),
                username: config.username.clone(),
                password: config.password.clone(),
                keep_alive: config.keep_alive,
                clean_start: config.clean_start,
                session_expiry: config.session_expiry,
                connect_timeout: config.connect_timeout,
                will: self.gateway_status(State::Offline, Some("connection lost")),
            };
            actix::spawn(wire.carry(lost));
            match self.client.connect(options).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// One life of a connection.
    pub(super) async fn session(&mut self, connection: Connection, stop: &mut watch::Receiver<bool>) -> End {
        let Connection { session_present, limits, inbox, lost } = connection;
        let mut broken = lost.subscribe();
        tracing::info!(
            host = %self.setup.config.host, port = self.setup.config.port, session_present, "connected to the broker"
        );
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
            Drain::new(&self.setup, &self.topics, &self.client, limits, window, newest, &self.tries);
        let mut announced = self.announced;
        let end = {
            let announce = announce(&self.setup, &self.topics, &self.client, limits, &mut announced);
            let listen = listen(&self.setup, &self.topics, inbox, marker);
            tokio::select! {
                biased;
                reason = broken.wait_for(Option::is_some) => End::Lost(lost_by(reason.as_deref().ok())),
                _ = stop.wait_for(|stop| *stop) => End::Stopped,
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
                self.farewell().await;
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
        lost.send_replace(Some(error.to_string()));
        self.client.abandon();
        // A connection that was thrown out at once is no success: two clients of one id would chase each
        // other as fast as the network allows.
        if connected.elapsed() > STABLE {
            self.backoff.reset();
        }
        End::Lost(error)
    }

    /// Says online, subscribes where the broker has no session, and marks the end of what it kept for us. Gives
    /// the newest record made before.
    async fn greet(&mut self, session_present: bool) -> Result<(Option<Marker>, Name), ClientError> {
        let gone = |_| ClientError::Lost("the buffer is gone".to_owned());
        let newest = self.setup.rewind.send(Rewind).await.map_err(gone)?;
        let mut messages = vec![self.gateway_status(State::Online, None)];
        if self.setup.commands.is_some() && !(session_present && self.has_subscribed) {
            match self.client.subscribe(self.topics.filters().to_vec()).await {
                Ok(()) => self.has_subscribed = true,
                // Readings do not depend on it.
                Err(error @ ClientError::Denied(_)) => tracing::error!(%error, "no commands will come"),
                Err(error) => return Err(error),
            }
        }
        let mut marker = None;
        if session_present {
            self.marks += 1;
            let payload = Body::new().with("run", &self.setup.run).with("mark", &self.marks).object();
            marker = Some(Marker::new(payload.clone()));
            messages.push(Outgoing {
                topic: self.topics.marker(),
                payload,
                qos: 1,
                retain: false,
                expiry: None,
                correlation: None,
            });
        }
        for delivery in self.client.publish(messages).await? {
            confirmed(delivery.await)?;
        }
        Ok((marker, newest))
    }

    async fn farewell(&self) {
        let status = vec![self.gateway_status(State::Offline, Some("stopped"))];
        let said = async {
            for delivery in self.client.publish(status).await? {
                confirmed(delivery.await)?;
            }
            Ok::<(), ClientError>(())
        };
        match timeout(FAREWELL, said).await {
            Ok(Ok(())) => tracing::info!("said offline to the broker"),
            Ok(Err(error)) => tracing::warn!(%error, "the broker was not told that the gateway stops"),
            Err(_) => tracing::warn!("the broker was not told that the gateway stops: no answer"),
        }
        if let Err(error) = timeout(FAREWELL, self.client.disconnect()).await {
            tracing::debug!(%error, "DISCONNECT");
        }
    }

    /// The retained status of the gateway itself; also its last will.
    fn gateway_status(&self, state: State, reason: Option<&str>) -> Outgoing {
        let mut body = Body::new().with("format", &FORMAT).with("state", state.name());
        if let Some(reason) = reason {
            body = body.with("reason", reason);
        }
        body = body.with_time(self.setup.clock.now()).with("run", &self.setup.run);
        if state == State::Online {
            body = body.with("version", env!("CARGO_PKG_VERSION"));
        }
        Outgoing {
            topic: self.topics.status(),
            payload: body.object(),
            qos: 1,
            retain: true,
            expiry: None,
            correlation: None,
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
        if matches!(error, ClientError::Refused(_) | ClientError::Denied(_)) {
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

fn lost_by(reason: Option<&Option<String>>) -> ClientError {
    ClientError::Lost(reason.and_then(Clone::clone).unwrap_or_else(|| "the client is gone".to_owned()))
}
