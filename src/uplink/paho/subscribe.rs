//! SUBSCRIBE and UNSUBSCRIBE, and the answers to them.

use std::time::Duration;

use paho_mqtt as mqtt;

use super::message::push;
use crate::config::Version;
use crate::uplink::client::{ClientError, Subscription};

/// Longest wait for the answer to a subscription, or to the end of one.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) fn subscribe(
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

/// A refusal is told and no more: the session goes on as it was.
pub(super) fn unsubscribe(client: &mqtt::AsyncClient, filters: &[String]) -> Result<(), ClientError> {
    let response = client.unsubscribe_many(filters).wait_for(ANSWER);
    let response = response.map_err(|error| ClientError::Lost(error.to_string()))?;
    // MQTT 5.0, 3.11.3; before MQTT 5 there are no codes.
    let codes = response.unsubscribe_many_response().unwrap_or_default();
    for (filter, code) in filters.iter().zip(codes).filter(|(_, code)| *code >= 0x80) {
        tracing::warn!(filter, code, "the broker goes on with a subscription that nobody wants");
    }
    Ok(())
}
