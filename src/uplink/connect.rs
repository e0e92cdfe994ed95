//! From nothing to a session: the brokers in turn, the way to each, CONNECT.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{ClientError, Connection, Options, Outgoing};
use super::dial::{Dialled, addresses, dial, place};
use super::guard::Guard;
use super::password::Splice;
use super::session::Life;
use super::tls::{Peer, Validity, own_validity};
use super::wire::{Lost, Wire};
use crate::config::{Server, Source, Version};
use crate::status::State;

/// Cuts the wire when a connect is given up half way: what the broker says then would be acknowledged and lost.
struct Cut(Option<Lost>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(lost) = self.0.take() {
            lost.send_if_modified(|lost| {
                let is_first = lost.is_none();
                lost.get_or_insert_with(|| ClientError::Lost("the connect was given up".to_owned()));
                is_first
            });
        }
    }
}

/// Our own certificate's end is told so many days ahead.
const CERTIFICATE_DAYS: i64 = 30;
const DAY: Duration = Duration::from_secs(86_400);

fn remind(Validity { days, text, .. }: &Validity) {
    if *days < CERTIFICATE_DAYS {
        tracing::warn!(days, end = text, "mqtt.tls: our own certificate ends soon; renew it");
    }
}

impl Life {
    /// One round over the brokers, from the first, and over the addresses of each.
    pub(super) async fn connect(&mut self) -> Result<Connection, ClientError> {
        let mut failures = Vec::new();
        let servers = self.setup.config.servers.clone();
        for server in &servers {
            let addresses = match addresses(&self.setup.config, server).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failures.push(error);
                    continue;
                }
            };
            for address in addresses {
                match self.connect_to(server, address).await {
                    Ok(connection) => {
                        let name = place(&server.host, server.port);
                        if std::mem::replace(&mut self.server, name) != self.server {
                            // Another broker: what the last one was told is nothing to this one.
                            (self.announced, self.has_subscribed, self.left) = (0, false, None);
                        }
                        return Ok(connection);
                    }
                    Err(ClientError::Stuck) => return Err(ClientError::Stuck),
                    Err(error) => failures.push(error),
                }
            }
        }
        // What somebody has to mend counts more than what may pass.
        let worst = failures.iter().rposition(|error| matches!(error, ClientError::Refused(_)));
        let last = failures.len().saturating_sub(1);
        Err(failures
            .into_iter()
            .nth(worst.unwrap_or(last))
            .unwrap_or_else(|| ClientError::Unreachable("no broker is configured".to_owned())))
    }

    async fn connect_to(&mut self, server: &Server, address: SocketAddr) -> Result<Connection, ClientError> {
        let config = &self.setup.config;
        // Secrets are read again at each connect: a renewed token counts at once.
        let read = |source: &Source| source.read().map_err(ClientError::Refused);
        let password = config.password.as_ref().map(read).transpose()?;
        let auth = match &config.auth {
            Some(auth) => Some((auth.method.clone(), auth.data.as_ref().map(read).transpose()?)),
            None => None,
        };
        let end = Instant::now() + config.connect_timeout;
        let Dialled { stream, peer } = dial(config, server, address, end, &self.setup.counters).await?;
        let wire = Wire::over(stream).map_err(|error| ClientError::Unreachable(error.to_string()))?;
        let (lost, _) = watch::channel(None);
        let (will, will_delay) = self.will();
        let options = Options {
            uri: wire.uri(),
            lost: lost.clone(),
            version: config.version,
            client_id: self.client_id().to_owned(),
            username: config.username.clone(),
            has_password: password.is_some(),
            auth,
            user_properties: config.connect_user_properties.clone(),
            receive_maximum: config.receive_maximum,
            max_packet_size: config.max_packet_size,
            keep_alive: config.keep_alive,
            clean_start: config.clean_start,
            session_expiry: config.session_expiry,
            connect_timeout: config.connect_timeout,
            will,
            will_delay,
        };
        let guard =
            Guard::new(config.max_packet_size, config.version == Version::V5, self.client_id().to_owned());
        actix::spawn(wire.carry(lost.clone(), guard, password.map(Splice::new)));
        let mut cut = Cut(Some(lost.clone()));
        let mut connecting = pin!(self.client.connect(options));
        let in_time = timeout_at(end, &mut connecting).await;
        let connected = if let Ok(connected) = in_time {
            connected
        } else {
            // Cutting the wire ends it: paho sees that its socket was closed.
            let late = format!("no answer to CONNECT within {:?}", config.connect_timeout);
            lost.send_replace(Some(ClientError::Unreachable(late)));
            connecting.await
        };
        // The wire knows better why than paho, which only sees that its socket was closed.
        let connection = connected.map_err(|error| match (&error, &*lost.borrow()) {
            (ClientError::Unreachable(_) | ClientError::Lost(_), Some(reason)) => {
                let place = place(&server.host, server.port);
                match reason {
                    ClientError::Refused(what) => ClientError::Refused(format!("{place}: {what}")),
                    other => ClientError::Unreachable(format!("{place}: {other}")),
                }
            }
            _ => error,
        })?;
        cut.0 = None;
        if let Some(Peer { own: Some(validity), .. }) = &peer {
            remind(validity);
        }
        self.peer = peer;
        Ok(connection)
    }

    /// Looks at our own certificate once a day, for ever: a connection may last longer than it.
    pub(super) async fn watch_certificate(&self) {
        loop {
            sleep(DAY).await;
            match self.setup.config.tls.as_ref().map(own_validity) {
                Some(Ok(Some(validity))) => remind(&validity),
                Some(Err(error)) => tracing::warn!(%error, "the next connect will fail"),
                Some(Ok(None)) | None => {}
            }
        }
    }

    /// The last will: the gateway's status, or what the configuration puts in its place.
    fn will(&self) -> (Outgoing, Option<Duration>) {
        let Some(will) = &self.setup.config.will else {
            return (self.gateway_status(State::Offline, Some("connection lost")), None);
        };
        let message = Outgoing {
            topic: will.topic.clone(),
            payload: will.payload.clone().into_bytes(),
            qos: will.qos,
            retain: will.retain,
            expiry: will.expiry,
            ..Outgoing::default()
        };
        (message, will.delay)
    }
}
