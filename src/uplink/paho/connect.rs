//! A client, and its CONNECT.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use paho_mqtt as mqtt;
use tokio::sync::mpsc;

use super::connack::{limits, refusal, same};
use super::message::{incoming, outgoing, push, push_user_properties};
use super::{Live, PAHO_INFLIGHT};
use crate::config::Version;
use crate::uplink::client::{ClientError, Connection, Options};
use crate::uplink::password::Splice;

/// Messages from the broker that may wait for the event loop. The broker has been told that they arrived, so
/// one that does not fit is lost; it is counted and told in the log.
const INBOX: usize = 256;
/// paho's thread opens the socket within this, unless the machine is very busy.
const OPENING: Duration = Duration::from_millis(20);

/// Makes a client and connects it; calls `opened` once the client has its socket.
pub(super) fn connect(
    options: &Options,
    refused: &Arc<AtomicU64>,
    opened: impl FnOnce(),
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
        builder.clean_start(options.clean_start).properties(properties(options));
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
    let early = token.clone().wait_for(OPENING);
    opened();
    let answer = if matches!(early, Err(mqtt::Error::Timeout)) { token.wait_for(limit) } else { early };
    let result = match answer {
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

fn properties(options: &Options) -> mqtt::Properties {
    let mut properties = mqtt::Properties::new();
    let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
    push(&mut properties, mqtt::Property::new_u32(mqtt::PropertyCode::SessionExpiryInterval, expiry));
    let receive = mqtt::Property::new_u16(mqtt::PropertyCode::ReceiveMaximum, options.receive_maximum);
    push(&mut properties, receive);
    let largest = mqtt::Property::new_u32(mqtt::PropertyCode::MaximumPacketSize, options.max_packet_size);
    push(&mut properties, largest);
    if let Some((method, data)) = &options.auth {
        push(&mut properties, mqtt::Property::new_string(mqtt::PropertyCode::AuthenticationMethod, method));
        if let Some(data) = data {
            let data = data.expose().to_vec();
            push(&mut properties, mqtt::Property::new_binary(mqtt::PropertyCode::AuthenticationData, data));
        }
    }
    push_user_properties(&mut properties, &options.user_properties);
    properties
}

fn paho_version(version: Version) -> mqtt::MqttVersion {
    match version {
        Version::V31 => mqtt::MqttVersion::V3_1,
        Version::V311 => mqtt::MqttVersion::V3_1_1,
        Version::V5 => mqtt::MqttVersion::V5,
    }
}
