//! From nothing to a session: the brokers in turn, the way to each, CONNECT.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::client::{ClientError, Connection, Options, Outgoing};
use super::dial::{Dialled, addresses, dial, place};
use super::guard::Guard;
use super::password::Splice;
use super::session::Life;
use super::tls::{Peer, Validity};
use super::wire::Wire;
use crate::config::{Server, Source, Version};
use crate::status::State;

/// Our own certificate's end is told so many days ahead.
const CERTIFICATE_DAYS: i64 = 30;

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
                        self.server = place(&server.host, server.port);
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
        let Dialled { stream, peer } = dial(config, server, address, &self.setup.counters).await?;
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
        let guard = Guard::new(config.max_packet_size, config.version == Version::V5);
        actix::spawn(wire.carry(lost.clone(), guard, password.map(Splice::new)));
        let connected = self.client.connect(options).await;
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
        if let Some(Peer { own: Some(Validity { days, text, .. }), .. }) = &peer
            && *days < CERTIFICATE_DAYS
        {
            tracing::warn!(days, end = text, "mqtt.tls: our own certificate ends soon; renew it");
        }
        self.peer = peer;
        Ok(connection)
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
