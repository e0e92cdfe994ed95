//! Messages and their properties, ours and paho's.

use std::sync::Arc;
use std::time::Duration;

use paho_mqtt as mqtt;
use tokio::time::Instant;

use crate::command;
use crate::config::Version;
use crate::uplink::client::{Incoming, Outgoing};

/// So many subscription identifiers of a message are looked at; more than there are subscriptions of ours.
const IDENTIFIERS: usize = 16;

pub(super) fn outgoing(message: Outgoing, delay: Option<Duration>, version: Version) -> mqtt::Message {
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

pub(super) fn push_user_properties(properties: &mut mqtt::Properties, user: &[(String, String)]) {
    for (key, value) in user {
        let code = mqtt::PropertyCode::UserProperty;
        push(properties, mqtt::Property::new_string_pair(code, key, value));
    }
}

pub(super) fn push(properties: &mut mqtt::Properties, property: mqtt::Result<mqtt::Property>) {
    if let Err(error) = property.and_then(|property| properties.push(property)) {
        tracing::warn!(%error, "an MQTT property is left out");
    }
}

pub(super) fn incoming(message: &mqtt::Message) -> Incoming {
    let properties = message.properties();
    let identifier = |index| properties.get_int_at(mqtt::PropertyCode::SubscriptionIdentifier, index);
    // Enough to see that it is too long; a broker may send 256 MB.
    let payload = message.payload().get(..=command::MAX_LENGTH).unwrap_or(message.payload());
    Incoming {
        came: Instant::now(),
        topic: message.topic().to_owned(),
        payload: payload.to_vec(),
        retained: message.retained(),
        identifiers: (0..IDENTIFIERS).map_while(identifier).filter_map(|id| u32::try_from(id).ok()).collect(),
        expires: properties.get(mqtt::PropertyCode::MessageExpiryInterval).is_some(),
        response_topic: properties.get_string(mqtt::PropertyCode::ResponseTopic),
        correlation: properties.get_binary(mqtt::PropertyCode::CorrelationData).map(Arc::from),
    }
}
