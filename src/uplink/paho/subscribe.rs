//! SUBSCRIBE and UNSUBSCRIBE, and the answers to them.

use paho_mqtt as mqtt;

use super::Answer;
use super::message::push;
use crate::config::Version;
use crate::uplink::client::{ClientError, Refused, Subscription};

pub(super) fn subscribe(
    client: &mqtt::AsyncClient,
    version: Version,
    subscriptions: &[Subscription],
) -> Answer {
    let filters: Vec<&str> = subscriptions.iter().map(|subscription| subscription.filter.as_str()).collect();
    let qos = vec![1; filters.len()];
    if version == Version::V5 {
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
    }
}

/// What the broker says to these subscriptions.
pub(in crate::uplink) fn subscribed(
    subscriptions: &[Subscription],
    answer: mqtt::Result<mqtt::ServerResponse>,
) -> Result<Vec<Refused>, ClientError> {
    let refused =
        |subscription: &Subscription, code: String| Refused { filter: subscription.filter.clone(), code };
    let response = match (answer, subscriptions) {
        (Ok(response), _) => response,
        // A refusal of the only filter comes as an error.
        (Err(mqtt::Error::ReasonCode(code, _)), [only]) => return Ok(vec![refused(only, code.to_string())]),
        (Err(error), _) => return Err(ClientError::Lost(error.to_string())),
    };
    let granted = response.subscribe_many_response().unwrap_or_default();
    if granted.len() < subscriptions.len() {
        return Err(ClientError::Lost("the broker did not answer every subscription".to_owned()));
    }
    let answers = subscriptions.iter().zip(granted).filter(|(_, granted)| *granted >= 0x80);
    Ok(answers.map(|(subscription, code)| refused(subscription, format!("code {code}"))).collect())
}

pub(super) fn unsubscribe(client: &mqtt::AsyncClient, filters: &[String]) -> Answer {
    client.unsubscribe_many(filters)
}

/// What the broker says to the end of these. A refusal is told and no more: the session goes on as it was.
pub(in crate::uplink) fn unsubscribed(
    filters: &[String],
    answer: mqtt::Result<mqtt::ServerResponse>,
) -> Result<(), ClientError> {
    let response = answer.map_err(|error| ClientError::Lost(error.to_string()))?;
    // MQTT 5.0, 3.11.3; before MQTT 5 there are no codes.
    let codes = response.unsubscribe_many_response().unwrap_or_default();
    for (filter, code) in filters.iter().zip(codes).filter(|(_, code)| *code >= 0x80) {
        tracing::warn!(filter, code, "the broker goes on with a subscription that nobody wants");
    }
    Ok(())
}
