//! The handle of the MQTT thread, and the words it understands.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::paho::{self, Delivery};
use super::wire::Lost;
use crate::config::{Secret, Version};

/// More than the fixed and variable header and the properties of any PUBLISH of ours take, topic, payload and
/// correlation apart.
const HEADER: usize = 32;
/// An answer of the MQTT library takes at most this long, a connect apart; after that it hangs.
const HANG: Duration = Duration::from_secs(60);

/// How a connection is made.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Where paho connects to.
    pub(super) uri: String,
    /// Turns into the reason when the connection is lost.
    pub(super) lost: Lost,
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) keep_alive: Duration,
    pub(super) clean_start: bool,
    pub(super) session_expiry: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) will: Outgoing,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// MQTT 5.
    pub(super) expiry: Option<Duration>,
    /// MQTT 5.
    pub(super) correlation: Option<Arc<[u8]>>,
}

/// A message from the broker.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retained: bool,
    pub(super) expires: bool,
    pub(super) response_topic: Option<String>,
    pub(super) correlation: Option<Arc<[u8]>>,
}

/// What the broker said to the CONNECT.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session_present: bool,
    /// What the broker takes; MQTT 5 alone tells.
    pub(super) limits: Limits,
    pub(super) inbox: mpsc::Receiver<Incoming>,
    /// Turns into the reason when the connection is lost; setting it cuts the wire.
    pub(super) lost: Lost,
}

/// What the broker takes (MQTT 5.0, 3.2.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_qos: Option<u8>,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) retain_unavailable: bool,
}

impl Limits {
    /// The message as the broker takes it, or its size if it is too large.
    pub(super) fn fit(self, mut message: Outgoing) -> Result<Outgoing, usize> {
        let correlation = message.correlation.as_ref().map_or(0, |correlation| correlation.len());
        let size = HEADER + message.topic.len() + message.payload.len() + correlation;
        let most = self.maximum_packet_size.and_then(|most| usize::try_from(most).ok());
        if most.is_some_and(|most| size > most) {
            return Err(size);
        }
        message.qos = self.maximum_qos.map_or(message.qos, |most| message.qos.min(most));
        message.retain &= !self.retain_unavailable;
        Ok(message)
    }
}

/// Why the broker is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the broker refused the connection: {0}; see user name, password and client id")]
    Refused(String),
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the broker denies a publish or a subscription: {0}; see its access rules")]
    Denied(String),
    #[error("the MQTT library gives no answer any more")]
    Stuck,
    #[error("the broker will never take this message: {0}")]
    Unwanted(String),
}

/// What the thread is asked.
pub(super) enum Call {
    Connect(Box<Options>, oneshot::Sender<Result<Connection, ClientError>>),
    Publish(Vec<Outgoing>, oneshot::Sender<Vec<Delivery>>),
    Subscribe(Vec<String>, oneshot::Sender<Result<(), ClientError>>),
    Disconnect(oneshot::Sender<()>),
    Abandon,
}

/// The handle of the thread. Dropping it ends the thread once paho lets go.
#[derive(Clone)]
pub(super) struct Client {
    calls: thread_mpsc::Sender<Call>,
    refused: Arc<AtomicU64>,
}

impl Client {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (calls, queue) = thread_mpsc::channel();
        let refused = Arc::new(AtomicU64::new(0));
        let counter = refused.clone();
        thread::Builder::new().name("paho".to_owned()).spawn(move || paho::serve(&queue, &counter))?;
        Ok(Self { calls, refused })
    }

    /// Messages that came faster than they were taken, since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) async fn connect(&self, options: Options) -> Result<Connection, ClientError> {
        let limit = options.connect_timeout + HANG;
        self.ask(limit, |answer| Call::Connect(Box::new(options), answer)).await?
    }

    /// Hands messages to paho; each delivery resolves by itself.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Result<Vec<Delivery>, ClientError> {
        self.ask(HANG, |answer| Call::Publish(messages, answer)).await
    }

    pub(super) async fn subscribe(&self, filters: Vec<String>) -> Result<(), ClientError> {
        self.ask(HANG, |answer| Call::Subscribe(filters, answer)).await?
    }

    /// Sends DISCONNECT, so that the broker does not publish the will.
    pub(super) async fn disconnect(&self) -> Result<(), ClientError> {
        self.ask(HANG, Call::Disconnect).await
    }

    /// Closes the connection without a word: the broker publishes the will.
    pub(super) fn abandon(&self) {
        if self.calls.send(Call::Abandon).is_err() {
            tracing::error!("the client thread is gone");
        }
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> Result<T, ClientError> {
        let gone = || ClientError::Lost("the client thread is gone".to_owned());
        let (answer, asked) = oneshot::channel();
        self.calls.send(call(answer)).map_err(|_| gone())?;
        timeout(limit, asked).await.map_err(|_| ClientError::Stuck)?.map_err(|_| gone())
    }
}
