//! The MQTT client: the only folder that names paho-mqtt.
//!
//! paho takes one global lock in every call, and a connect can hold it for seconds. So all of it happens on
//! one thread of its own: create, connect, publish, disconnect, drop. Each connection gets a fresh client,
//! because after a reconnect the old one sends again by itself, or never answers. Its persistence, offline queue and
//! automatic reconnect stay off: the buffer alone keeps records.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Duration;

use paho_mqtt as mqtt;
use tokio::time::timeout;

use super::client::{Call, ClientError, UNACKNOWLEDGED, unacknowledged};
use crate::config::Version;

mod connack;
mod connect;
mod message;
mod subscribe;

pub(super) use connack::parting;
use connect::connect;
use message::outgoing;
use subscribe::{subscribe, unsubscribe};
pub(super) use subscribe::{subscribed, unsubscribed};

/// paho's own bound on publishes in flight; ours is smaller, and retained messages come on top of it.
const PAHO_INFLIGHT: i32 = 2_000;
/// How often a client on its way out is looked at.
const LEAVING: Duration = Duration::from_millis(20);
/// How often that is done when the thread ends: 20 s, longer than a connect of the default time takes.
const PARTING: u32 = 1_000;
/// Longest wait for a DISCONNECT to leave.
const DISCONNECT: Duration = Duration::from_secs(2);

/// A publish under way: resolves when the broker has acknowledged it.
pub(super) type Delivery = mqtt::DeliveryToken;

/// A subscription under way, or the end of one: resolves when the broker has answered.
pub(super) type Answer = mqtt::Token;

/// What became of a publish.
pub(super) fn delivered(result: mqtt::Result<()>) -> Result<(), ClientError> {
    use mqtt::ReasonCode::{PacketTooLarge, PayloadFormatInvalid, TopicNameInvalid};
    result.map_err(|error| match error {
        // These say that this very message will never be taken. Everything else may pass: rights, quotas.
        mqtt::Error::ReasonCode(code @ (PacketTooLarge | PayloadFormatInvalid | TopicNameInvalid), _) => {
            ClientError::Unwanted(code.to_string())
        }
        mqtt::Error::ReasonCode(code, _) => ClientError::Denied(code.to_string()),
        other => ClientError::Lost(other.to_string()),
    })
}

/// The same for a message that is no record: that it was not taken is told, and nothing more.
pub(super) async fn confirmed(delivery: Delivery) -> Result<(), ClientError> {
    let result = timeout(UNACKNOWLEDGED, delivery).await.map_err(|_| unacknowledged())?;
    match delivered(result) {
        Err(error @ (ClientError::Denied(_) | ClientError::Unwanted(_))) => {
            tracing::error!(%error, "a status or mark was not taken");
            Ok(())
        }
        other => other,
    }
}

/// A paho client, connected or on its way out.
struct Live {
    client: mqtt::AsyncClient,
    version: Version,
    /// The callbacks of its CONNECT hold this too, and paho's thread drops them a moment after it told the
    /// outcome, with its own copy of the client. Were that the last copy, the client would be destroyed inside
    /// paho's callback, under the lock that destroying takes: every MQTT call would hang for ever. So a client
    /// goes only when nobody else holds this.
    held: Arc<()>,
}

/// The thread: one call after the other, for the client of the present connection.
pub(super) fn serve(queue: &thread_mpsc::Receiver<Call>, refused: &Arc<AtomicU64>) {
    let mut live: Option<Live> = None;
    // The client of the last connection, until the next has its socket.
    let mut former: Option<Live> = None;
    let mut leaving: Vec<Live> = Vec::new();
    let mut resident = resident();
    loop {
        leaving.retain(|live| Arc::strong_count(&live.held) > 1);
        let call = if leaving.is_empty() {
            queue.recv().ok()
        } else {
            match queue.recv_timeout(LEAVING) {
                Ok(call) => Some(call),
                Err(thread_mpsc::RecvTimeoutError::Timeout) => continue,
                Err(thread_mpsc::RecvTimeoutError::Disconnected) => None,
            }
        };
        let Some(call) = call else {
            leaving.extend(live.take().into_iter().chain(former.take()));
            return part(leaving);
        };
        // An answer that nobody waits for any more belongs to a session that has ended.
        match call {
            Call::Connect(options, answer) => {
                if let Some(gone) = live.take() {
                    leaving.extend(former.replace(gone));
                }
                // paho's thread waits up to a second for what it knew before it saw the new socket; that an old one
                // is closed wakes it.
                let wake = || {
                    leaving.extend(former.take());
                    leaving.retain(|live| Arc::strong_count(&live.held) > 1);
                };
                match connect(&options, refused, wake) {
                    Ok((made, result)) => {
                        if result.is_ok() {
                            live = Some(made);
                        } else {
                            leaving.push(made);
                        }
                        drop(answer.send(result));
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Call::Publish(messages, answer) => {
                let Some(Live { client, version, .. }) = &live else {
                    continue;
                };
                let deliveries =
                    messages.into_iter().map(|message| client.publish(outgoing(message, None, *version)));
                drop(answer.send(deliveries.collect()));
            }
            Call::Subscribe(packets, answer) => {
                let Some(Live { client, version, .. }) = &live else {
                    continue;
                };
                let answers = packets.iter().map(|packet| subscribe(client, *version, packet));
                drop(answer.send(answers.collect()));
            }
            Call::Unsubscribe(filters, answer) => {
                let Some(Live { client, .. }) = &live else {
                    continue;
                };
                drop(answer.send(unsubscribe(client, &filters)));
            }
            Call::Abandon => {
                if let Some(gone) = live.take() {
                    leaving.extend(former.replace(gone));
                }
            }
            Call::Disconnect(answer) => {
                if let Some(Live { client, .. }) = &live {
                    let options = mqtt::DisconnectOptionsBuilder::new().timeout(DISCONNECT).finalize();
                    if let Err(error) = client.disconnect(options).wait_for(DISCONNECT) {
                        tracing::debug!(%error, "DISCONNECT");
                    }
                }
                leaving.extend(live.take().into_iter().chain(former.take()));
                // Before the answer: the process may end after it, and must not end inside paho.
                leaving.retain(|live| Arc::strong_count(&live.held) > 1);
                drop(resident.take());
                if answer.send(()).is_err() {
                    tracing::debug!("nobody waits for the DISCONNECT");
                }
            }
        }
    }
}

/// The handle is gone: the clients go as soon as paho lets go of them.
fn part(mut leaving: Vec<Live>) {
    for _ in 0..PARTING {
        leaving.retain(|live| Arc::strong_count(&live.held) > 1);
        if leaving.is_empty() {
            return;
        }
        std::thread::park_timeout(LEAVING);
    }
    tracing::warn!(clients = leaving.len(), "paho does not let go of its clients; they are left to it");
    std::mem::forget(leaving);
}

/// A client that never connects. paho puts itself away with its last client and starts anew with the next, and
/// leaves two sockets open each time (eclipse-paho/paho.mqtt.c#1676): a thousand reconnects would take every file
/// the process may have. So the last client is this one.
fn resident() -> Option<mqtt::AsyncClient> {
    let options = mqtt::CreateOptionsBuilder::new()
        .server_uri("unix:///nowhere")
        .persistence(mqtt::PersistenceType::None)
        .finalize();
    mqtt::AsyncClient::new(options)
        .inspect_err(|error| tracing::warn!(%error, "each reconnect will cost two files"))
        .ok()
}
