//! The way to the broker, one layer on the other: name, TCP, proxy, TLS, WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::ClientError;
use super::tls::{self, Peer};
use super::{proxy, websocket};
use crate::config::{MqttConfig, Server};
use crate::counters::UplinkCounters;

/// Addresses of one name that are tried in a row.
const ADDRESSES: usize = 4;

/// A byte stream to the broker, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The stream.
pub(super) type Boxed = Box<dyn Stream>;

/// A way that was found.
pub(super) struct Dialled {
    pub(super) stream: Boxed,
    /// What TLS told of the broker and of our own certificate.
    pub(super) peer: Option<Peer>,
}

/// Where the first connection of a way goes: to the broker, or to the proxy.
pub(super) async fn addresses(config: &MqttConfig, server: &Server) -> Result<Vec<SocketAddr>, ClientError> {
    let (host, port) = match &config.proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (server.host.as_str(), server.port),
    };
    // The resolver may never answer, and paho would hold its lock while it waits: so the name is looked up
    // here, with a limit.
    let unreachable = |what: &str| ClientError::Unreachable(format!("{}: {what}", place(host, port)));
    match timeout(config.connect_timeout, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let found: Vec<_> = addresses.take(ADDRESSES).collect();
            if found.is_empty() { Err(unreachable("the name has no address")) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(unreachable(&error.to_string())),
        Err(_) => Err(unreachable("the name look-up gives no answer")),
    }
}

/// Goes the whole way over one address, before `end`.
pub(super) async fn dial(
    config: &MqttConfig,
    server: &Server,
    address: SocketAddr,
    end: Instant,
    counters: &UplinkCounters,
) -> Result<Dialled, ClientError> {
    let way = async {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| unreachable(config, server, address, &error))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(config, server, address, &error))?;
        let mut stream: Boxed = Box::new(tcp);
        if let Some(proxy) = &config.proxy {
            stream = proxy::tunnel(stream, proxy, server).await?;
        }
        let mut peer = None;
        if config.scheme.is_tls() {
            // The scheme alone decides; without the table everything has its default.
            let tls = config.tls.clone().unwrap_or_default();
            let (encrypted, found) = tls::encrypt(stream, &tls, &server.host, counters).await?;
            (stream, peer) = (encrypted, Some(found));
        }
        if config.scheme.is_websocket() {
            stream = websocket::open(stream, config, server).await?;
        }
        Ok(Dialled { stream, peer })
    };
    timeout_at(end, way)
        .await
        .unwrap_or_else(|_| Err(unreachable(config, server, address, &late(config.connect_timeout))))
}

fn unreachable(
    config: &MqttConfig,
    server: &Server,
    address: SocketAddr,
    error: &impl std::fmt::Display,
) -> ClientError {
    let place = match &config.proxy {
        Some(proxy) => format!("the proxy {}", place(&proxy.host, proxy.port)),
        None => place(&server.host, server.port),
    };
    ClientError::Unreachable(format!("{place} ({address}): {error}"))
}

fn late(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

/// Host and port as a person writes them.
pub(super) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
