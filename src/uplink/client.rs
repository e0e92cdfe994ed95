//! The handle of the MQTT thread, and the words it understands.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::paho::{self, Answer, Delivery};
use super::wire::Lost;
use crate::config::{Secret, Version};

/// More than the fixed and variable header and the properties of any PUBLISH of ours take, topic, payload and
/// correlation apart.
const HEADER: usize = 32;
/// An answer of the MQTT library takes at most this long, a connect apart; after that it hangs.
const HANG: Duration = Duration::from_secs(60);
/// Longest wait for the broker's answer to a subscription, or to the end of one.
const ANSWER: Duration = Duration::from_secs(10);

/// A broker that answers pings and acknowledges nothing is left after this long: on the slowest link that carries
/// anything, a window of publishes takes less.
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// The reason for leaving it.
pub(super) fn unacknowledged() -> ClientError {
    ClientError::Lost(format!("the broker has acknowledged nothing for {UNACKNOWLEDGED:?}"))
}

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
    /// A password follows on the wire.
    pub(super) has_password: bool,
    /// MQTT 5: method and data.
    pub(super) auth: Option<(String, Option<Secret>)>,
    /// MQTT 5.
    pub(super) user_properties: Vec<(String, String)>,
    /// MQTT 5: most publishes on their way to us.
    pub(super) receive_maximum: u16,
    /// MQTT 5: largest packet to us.
    pub(super) max_packet_size: u32,
    pub(super) keep_alive: Duration,
    pub(super) clean_start: bool,
    pub(super) session_expiry: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) will: Outgoing,
    /// MQTT 5: the will waits so long after the connection was lost.
    pub(super) will_delay: Option<Duration>,
}

/// A message to publish.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// MQTT 5.
    pub(super) expiry: Option<Duration>,
    /// MQTT 5.
    pub(super) correlation: Option<Arc<[u8]>>,
    /// MQTT 5: user properties, content type and payload format, the same for every publish.
    pub(super) marks: Option<Arc<Marks>>,
}

/// What every publish bears with MQTT 5.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) user_properties: Vec<(String, String)>,
    pub(super) content_type: Option<String>,
    /// The payload is UTF-8.
    pub(super) payload_format: Option<bool>,
}

impl Marks {
    /// More than they take in a packet.
    fn size(&self) -> usize {
        let properties: usize =
            self.user_properties.iter().map(|(key, value)| 5 + key.len() + value.len()).sum();
        properties + self.content_type.as_ref().map_or(0, |text| 3 + text.len()) + 2
    }
}

/// A message from the broker.
#[derive(Debug)]
pub(super) struct Incoming {
    /// When.
    pub(super) came: Instant,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retained: bool,
    pub(super) expires: bool,
    /// MQTT 5: of the subscriptions that it comes by.
    pub(super) identifiers: Vec<u32>,
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

/// What the broker takes and decides (MQTT 5.0, 3.2.2.3).
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own in the specification")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_qos: Option<u8>,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) retain_unavailable: bool,
    pub(super) wildcards_unavailable: bool,
    pub(super) identifiers_unavailable: bool,
    pub(super) shared_unavailable: bool,
    /// It gave us this client id.
    pub(super) client_id: Option<String>,
    /// It wants this keep alive, in seconds.
    pub(super) keep_alive: Option<u16>,
    /// It keeps the session so many seconds.
    pub(super) session_expiry: Option<u32>,
}

/// Below this not even the status fits.
const LEAST_PACKET: u32 = 128;

impl Limits {
    /// A broker with which nothing can be done, in words (MQTT 5.0, 3.2.2.3.3 and 3.2.2.3.6).
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let what = match (self.receive_maximum, self.maximum_packet_size) {
            (Some(0), _) => "takes no publish at a time (Receive Maximum 0)".to_owned(),
            (_, Some(most)) if most < LEAST_PACKET => {
                format!("takes packets of {most} bytes at most, and none of this gateway is so small")
            }
            _ => return Ok(()),
        };
        Err(ClientError::Refused(format!("the broker says that it {what}; see its settings")))
    }

    /// The message as the broker takes it, or its size if it is too large.
    pub(super) fn fit(&self, mut message: Outgoing) -> Result<Outgoing, usize> {
        let correlation = message.correlation.as_ref().map_or(0, |correlation| correlation.len());
        let size = HEADER + message.topic.len() + message.payload.len() + correlation;
        let size = size + message.marks.as_ref().map_or(0, |marks| marks.size());
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
    #[error("the connection is refused: {0}")]
    Refused(String),
    /// Another client with our id has taken the session over.
    #[error(
        "another client with the id {0:?} has taken the session over; give each gateway its own gateway.id or mqtt.client_id"
    )]
    TakenOver(String),
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// By the broker, without a word.
    #[error("the connection was lost: closed by the broker")]
    Closed,
    #[error("the broker denies a publish or a subscription: {0}; see its access rules")]
    Denied(String),
    #[error("the MQTT library gives no answer any more")]
    Stuck,
    #[error("the broker will never take this message: {0}")]
    Unwanted(String),
}

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) filter: String,
    /// MQTT 5: our own messages do not come back.
    pub(super) no_local: bool,
    /// MQTT 5: what is retained comes too.
    pub(super) retained: bool,
    /// MQTT 5: comes with each message, 1 to 268,435,455; nothing where the broker knows none.
    pub(super) identifier: Option<u32>,
}

/// A subscription that the broker refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) filter: String,
    /// Its reason code, in words where paho has them.
    pub(super) code: String,
}

/// What the thread is asked.
pub(super) enum Call {
    Connect(Box<Options>, oneshot::Sender<Result<Connection, ClientError>>),
    Publish(Vec<Outgoing>, oneshot::Sender<Vec<Delivery>>),
    Subscribe(Vec<Vec<Subscription>>, oneshot::Sender<Vec<Answer>>),
    Unsubscribe(Vec<String>, oneshot::Sender<Answer>),
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
    /// Starts the thread. What it refuses is counted there.
    pub(super) fn start(refused: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (calls, queue) = thread_mpsc::channel();
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

    /// Subscribes, and gives what the broker refuses.
    pub(super) async fn subscribe(
        &self,
        subscriptions: Vec<Subscription>,
    ) -> Result<Vec<Refused>, ClientError> {
        // A SUBSCRIBE bears one identifier for all its filters (MQTT 5.0, 3.8.2.1.2).
        let one = |a: &Subscription, b: &Subscription| a.identifier == b.identifier;
        let packets: Vec<Vec<Subscription>> = subscriptions.chunk_by(one).map(<[_]>::to_vec).collect();
        let asked = packets.clone();
        // The thread does not wait for the broker: it may be asked to connect again before an answer comes.
        let answers = self.ask(HANG, |answer| Call::Subscribe(asked, answer)).await?;
        let mut refused = Vec::new();
        for (packet, answer) in packets.iter().zip(answers) {
            refused.extend(paho::subscribed(packet, timeout(ANSWER, answer).await.map_err(|_| silent())?)?);
        }
        Ok(refused)
    }

    /// Ends subscriptions; one that there is not is no error.
    pub(super) async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), ClientError> {
        let asked = filters.clone();
        let answer = self.ask(HANG, |answer| Call::Unsubscribe(asked, answer)).await?;
        paho::unsubscribed(&filters, timeout(ANSWER, answer).await.map_err(|_| silent())?)
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

fn silent() -> ClientError {
    ClientError::Lost("the broker does not answer a subscription".to_owned())
}
