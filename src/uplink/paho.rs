//! The MQTT client: the only module that names paho-mqtt.
//!
//! paho takes one global lock in every call, and a connect can hold it for seconds. So all of it happens on
//! one thread of its own: create, connect, publish, disconnect, drop. Each connection gets a fresh client,
//! because after a reconnect the old one sends again by itself, or never answers. Its persistence, offline queue and
//! automatic reconnect stay off: the buffer alone keeps records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Duration;

use paho_mqtt as mqtt;
use tokio::sync::mpsc;

use super::client::{Call, ClientError, Connection, Incoming, Limits, Options, Outgoing, Subscription};
use super::password::Splice;
use crate::command;
use crate::config::Version;

/// Messages from the broker that may wait for the event loop. The broker has been told that they arrived, so
/// one that does not fit is lost; it is counted and told in the log.
const INBOX: usize = 256;
/// paho's own bound on publishes in flight; ours is smaller, and retained messages come on top of it.
const PAHO_INFLIGHT: i32 = 2_000;
/// Longest wait for the answer to a subscription.
const ANSWER: Duration = Duration::from_secs(10);
/// Marks the messages of our subscriptions (MQTT 5.0, 3.8.2.1.2).
pub(super) const IDENTIFIER: u32 = 1;
/// How often a client on its way out is looked at.
const LEAVING: Duration = Duration::from_millis(20);
/// Longest wait for a DISCONNECT to leave.
const DISCONNECT: Duration = Duration::from_secs(2);

/// A publish under way: resolves when the broker has acknowledged it.
pub(super) type Delivery = mqtt::DeliveryToken;

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
pub(super) fn confirmed(result: mqtt::Result<()>) -> Result<(), ClientError> {
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
    let mut leaving: Vec<Live> = Vec::new();
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
        let Some(call) = call else { return };
        // An answer that nobody waits for any more belongs to a session that has ended.
        match call {
            Call::Connect(options, answer) => {
                leaving.extend(live.take());
                leaving.retain(|live| Arc::strong_count(&live.held) > 1);
                match connect(&options, refused) {
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
            Call::Subscribe(filters, answer) => {
                let Some(Live { client, version, .. }) = &live else {
                    continue;
                };
                drop(answer.send(subscribe(client, *version, &filters)));
            }
            Call::Abandon => leaving.extend(live.take()),
            Call::Disconnect(answer) => {
                if let Some(Live { client, .. }) = &live {
                    let options = mqtt::DisconnectOptionsBuilder::new().timeout(DISCONNECT).finalize();
                    if let Err(error) = client.disconnect(options).wait_for(DISCONNECT) {
                        tracing::debug!(%error, "DISCONNECT");
                    }
                }
                leaving.extend(live.take());
                // Before the answer: the process may end after it, and must not end inside paho.
                leaving.retain(|live| Arc::strong_count(&live.held) > 1);
                if answer.send(()).is_err() {
                    tracing::debug!("nobody waits for the DISCONNECT");
                }
            }
        }
    }
}

fn connect(
    options: &Options,
    refused: &Arc<AtomicU64>,
) -> Result<(Live, Result<Connection, ClientError>), ClientError> {
    let broken = |error: mqtt::Error| ClientError::Unreachable(error.to_string());
    let create = mqtt::CreateOptionsBuilder::new()
        .server_uri(options.uri.clone())
        .client_id(options.client_id.clone())
        .mqtt_version(paho_version(options.version))
        .persistence(mqtt::PersistenceType::None)
        .send_while_disconnected(false)
        // Also bounds what is handed over while connected; with 100, its default, a refusal is no rare thing.
        .max_buffered_messages(PAHO_INFLIGHT)
        .finalize();
    let client = mqtt::AsyncClient::new(create).map_err(broken)?;

    let (inbox_sender, inbox) = mpsc::channel(INBOX);
    let (lost_sender, lost) = (options.lost.clone(), options.lost.clone());
    let refused = refused.clone();
    client.set_message_callback(move |_, message| {
        if let Some(message) = message
            && inbox_sender.try_send(incoming(&message)).is_err()
        {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (disconnected, client_id) = (lost_sender.clone(), options.client_id.clone());
    client.set_disconnected_callback(move |_, _, reason| {
        let reason = match reason {
            mqtt::ReasonCode::SessionTakenOver => ClientError::TakenOver(client_id.clone()),
            // These stay until somebody mends them.
            mqtt::ReasonCode::NotAuthorized
            | mqtt::ReasonCode::AdministrativeAction
            | mqtt::ReasonCode::UseAnotherServer
            | mqtt::ReasonCode::ServerMoved => ClientError::Refused(format!("it said: {reason}")),
            other => ClientError::Lost(format!("the broker said: {other}")),
        };
        disconnected.send_replace(Some(reason));
    });
    client.set_connection_lost_callback(move |_| {
        lost_sender.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert_with(|| ClientError::Lost("no answer, or closed by the broker".to_owned()));
            is_first
        });
    });

    let mut builder = mqtt::ConnectOptionsBuilder::with_mqtt_version(paho_version(options.version));
    builder
        .keep_alive_interval(options.keep_alive)
        .connect_timeout(options.connect_timeout)
        .max_inflight(PAHO_INFLIGHT)
        .will_message(outgoing(options.will.clone(), options.will_delay, options.version));
    if options.version == Version::V5 {
        let mut properties = mqtt::Properties::new();
        let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
        push(&mut properties, mqtt::Property::new_u32(mqtt::PropertyCode::SessionExpiryInterval, expiry));
        let receive = mqtt::Property::new_u16(mqtt::PropertyCode::ReceiveMaximum, options.receive_maximum);
        push(&mut properties, receive);
        let largest = mqtt::Property::new_u32(mqtt::PropertyCode::MaximumPacketSize, options.max_packet_size);
        push(&mut properties, largest);
        if let Some((method, data)) = &options.auth {
            push(
                &mut properties,
                mqtt::Property::new_string(mqtt::PropertyCode::AuthenticationMethod, method),
            );
            if let Some(data) = data {
                let data = data.expose().to_vec();
                push(
                    &mut properties,
                    mqtt::Property::new_binary(mqtt::PropertyCode::AuthenticationData, data),
                );
            }
        }
        push_user_properties(&mut properties, &options.user_properties);
        builder.clean_start(options.clean_start).properties(properties);
    } else {
        builder.clean_session(options.clean_start);
    }
    if let Some(username) = &options.username {
        builder.user_name(username);
    }
    if options.has_password {
        builder.password(Splice::placeholder());
    }
    // paho's own limit comes first; the second covers a stuck lock.
    let limit = options.connect_timeout + Duration::from_secs(5);
    let held = Arc::new(());
    let (on_success, on_failure) = (held.clone(), held.clone());
    let token = client.connect_with_callbacks(
        builder.finalize(),
        move |_, _| drop(Arc::downgrade(&on_success)),
        move |_, _, _| drop(Arc::downgrade(&on_failure)),
    );
    let result = match token.wait_for(limit) {
        Ok(response) => Ok(Connection {
            session_present: response.connect_response().is_some_and(|response| response.session_present),
            limits: limits(response.properties()),
            inbox,
            lost,
        }),
        Err(mqtt::Error::ReasonCode(code, _)) => Err(refusal(&code.to_string(), code)),
        Err(mqtt::Error::ConnectReturn(code)) => Err(refusal(&code.to_string(), same(code))),
        Err(other) => Err(ClientError::Unreachable(other.to_string())),
    };
    let version = options.version;
    Ok((Live { client, version, held }, result))
}

fn refusal(text: &str, code: mqtt::ReasonCode) -> ClientError {
    use mqtt::ReasonCode as Code;
    let keys = match code {
        Code::BadUserNameOrPassword | Code::NotAuthorized => {
            "mqtt.username, mqtt.password and mqtt.client_id"
        }
        Code::ClientIdentifierNotValid => "mqtt.client_id",
        Code::UnsupportedProtocolVersion => "mqtt.version",
        Code::BadAuthenticationMethod => "mqtt.auth",
        // Of all that CONNECT holds only the will can be meant.
        Code::RetainNotSupported | Code::QosNotSupported | Code::TopicNameInvalid => "mqtt.will",
        Code::UseAnotherServer | Code::ServerMoved => "mqtt.url",
        _ => return ClientError::Refused(format!("the broker says: {text}")),
    };
    ClientError::Refused(format!("the broker says: {text}; see {keys}"))
}

/// The code of MQTT 5 that means the same.
fn same(code: mqtt::ConnectReturnCode) -> mqtt::ReasonCode {
    use mqtt::ConnectReturnCode as Old;
    match code {
        Old::Accepted => mqtt::ReasonCode::Success,
        Old::UnacceptableProtocolVersion => mqtt::ReasonCode::UnsupportedProtocolVersion,
        Old::IdentifierRejected => mqtt::ReasonCode::ClientIdentifierNotValid,
        Old::ServerUnavailable => mqtt::ReasonCode::ServerUnavailable,
        Old::BadUserNameOrPassword => mqtt::ReasonCode::BadUserNameOrPassword,
        Old::NotAuthorized => mqtt::ReasonCode::NotAuthorized,
    }
}

fn limits(properties: &mqtt::Properties) -> Limits {
    let get = |code| properties.get(code);
    let no = |code| get(code).and_then(|p| p.get_byte()) == Some(0);
    Limits {
        receive_maximum: get(mqtt::PropertyCode::ReceiveMaximum).and_then(|p| p.get_u16()),
        maximum_qos: get(mqtt::PropertyCode::MaximumQos).and_then(|p| p.get_byte()),
        maximum_packet_size: get(mqtt::PropertyCode::MaximumPacketSize).and_then(|p| p.get_u32()),
        retain_unavailable: no(mqtt::PropertyCode::RetainAvailable),
        wildcards_unavailable: no(mqtt::PropertyCode::WildcardSubscriptionAvailable),
        identifiers_unavailable: no(mqtt::PropertyCode::SubscriptionIdentifiersAvailable),
        shared_unavailable: no(mqtt::PropertyCode::SharedSubscriptionAvailable),
        client_id: properties.get_string(mqtt::PropertyCode::AssignedClientIdentifer),
        keep_alive: get(mqtt::PropertyCode::ServerKeepAlive).and_then(|p| p.get_u16()),
        session_expiry: get(mqtt::PropertyCode::SessionExpiryInterval).and_then(|p| p.get_u32()),
    }
}

fn subscribe(
    client: &mqtt::AsyncClient,
    version: Version,
    subscriptions: &[Subscription],
) -> Result<(), ClientError> {
    let filters: Vec<&str> = subscriptions.iter().map(|subscription| subscription.filter.as_str()).collect();
    let qos = vec![1; filters.len()];
    let token = if version == Version::V5 {
        let options: Vec<_> = subscriptions
            .iter()
            .map(|subscription| {
                let handling = if subscription.retained {
                    mqtt::RetainHandling::SendRetainedOnSubscribe
                } else {
                    mqtt::RetainHandling::DontSendRetained
                };
                // Retain As Published: a live copy of a retained command must show that it is one.
                mqtt::SubscribeOptions::new(subscription.no_local, true, handling)
            })
            .collect();
        let mut properties = mqtt::Properties::new();
        if let Some(identifier) = subscriptions.iter().find_map(|subscription| subscription.identifier) {
            let code = mqtt::PropertyCode::SubscriptionIdentifier;
            push(&mut properties, mqtt::Property::new_int(code, i32::try_from(identifier).unwrap_or(1)));
        }
        client.subscribe_many_with_options(&filters, &qos, &options, properties)
    } else {
        client.subscribe_many(&filters, &qos)
    };
    let response = token.wait_for(ANSWER).map_err(|error| ClientError::Lost(error.to_string()))?;
    let granted = response.subscribe_many_response().unwrap_or_default();
    if granted.len() < filters.len() {
        return Err(ClientError::Lost("the broker did not answer every subscription".to_owned()));
    }
    match filters.iter().zip(granted).find(|(_, granted)| *granted >= 0x80) {
        Some((filter, code)) => Err(ClientError::Denied(format!("subscription to {filter}, code {code}"))),
        None => Ok(()),
    }
}

fn outgoing(message: Outgoing, delay: Option<Duration>, version: Version) -> mqtt::Message {
    let builder = mqtt::MessageBuilder::new()
        .topic(message.topic)
        .payload(message.payload)
        .qos(i32::from(message.qos))
        .retained(message.retain);
    let is_plain = message.expiry.is_none() && message.correlation.is_none() && message.marks.is_none();
    if version != Version::V5 || (is_plain && delay.is_none()) {
        return builder.finalize();
    }
    let mut properties = mqtt::Properties::new();
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    if let Some(expiry) = message.expiry.map(seconds) {
        push(&mut properties, mqtt::Property::new_u32(mqtt::PropertyCode::MessageExpiryInterval, expiry));
    }
    if let Some(delay) = delay.map(seconds) {
        push(&mut properties, mqtt::Property::new_u32(mqtt::PropertyCode::WillDelayInterval, delay));
    }
    if let Some(correlation) = &message.correlation {
        let value = correlation.to_vec();
        push(&mut properties, mqtt::Property::new_binary(mqtt::PropertyCode::CorrelationData, value));
    }
    if let Some(marks) = &message.marks {
        push_user_properties(&mut properties, &marks.user_properties);
        if let Some(content_type) = &marks.content_type {
            push(&mut properties, mqtt::Property::new_string(mqtt::PropertyCode::ContentType, content_type));
        }
        if let Some(is_text) = marks.payload_format {
            let code = mqtt::PropertyCode::PayloadFormatIndicator;
            push(&mut properties, mqtt::Property::new_byte(code, u8::from(is_text)));
        }
    }
    builder.properties(properties).finalize()
}

fn push_user_properties(properties: &mut mqtt::Properties, user: &[(String, String)]) {
    for (key, value) in user {
        let code = mqtt::PropertyCode::UserProperty;
        push(properties, mqtt::Property::new_string_pair(code, key, value));
    }
}

fn push(properties: &mut mqtt::Properties, property: mqtt::Result<mqtt::Property>) {
    if let Err(error) = property.and_then(|property| properties.push(property)) {
        tracing::warn!(%error, "an MQTT property is left out");
    }
}

fn incoming(message: &mqtt::Message) -> Incoming {
    let properties = message.properties();
    // Enough to see that it is too long; a broker may send 256 MB.
    let payload = message.payload().get(..=command::MAX_LENGTH).unwrap_or(message.payload());
    Incoming {
        topic: message.topic().to_owned(),
        payload: payload.to_vec(),
        retained: message.retained(),
        expires: properties.get(mqtt::PropertyCode::MessageExpiryInterval).is_some(),
        response_topic: properties.get_string(mqtt::PropertyCode::ResponseTopic),
        correlation: properties.get_binary(mqtt::PropertyCode::CorrelationData).map(Arc::from),
    }
}

fn paho_version(version: Version) -> mqtt::MqttVersion {
    match version {
        Version::V31 => mqtt::MqttVersion::V3_1,
        Version::V311 => mqtt::MqttVersion::V3_1_1,
        Version::V5 => mqtt::MqttVersion::V5,
    }
}
