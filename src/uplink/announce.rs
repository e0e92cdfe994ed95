//! What is retained: the states and descriptions of devices, published as they change.

use super::Setup;
use super::client::{Client, ClientError, Outgoing, delivered};
use super::topics::Topics;
use crate::status::Watch;

/// Retained messages in flight: five hundred devices must not crowd out the readings.
const AT_A_TIME: usize = 16;

/// Publishes every change after `announced` until the connection fails. `announced` follows what the broker has.
pub(super) async fn announce(
    setup: &Setup,
    topics: &Topics,
    client: &Client,
    announced: &mut u64,
) -> ClientError {
    loop {
        let Ok(changes) = setup.watch.send(Watch { since: *announced }).await else {
            return ClientError::Lost("the status actor is gone".to_owned());
        };
        for some in changes.retained.chunks(AT_A_TIME) {
            let messages = some.iter().map(|retained| Outgoing {
                topic: topics.retained(&retained.device, retained.aspect),
                payload: retained.payload.clone(),
                qos: 1,
                retain: true,
                expiry: None,
                correlation: None,
            });
            let deliveries = match client.publish(messages.collect()).await {
                Ok(deliveries) => deliveries,
                Err(error) => return error,
            };
            for delivery in deliveries {
                if let Err(error) = delivered(delivery.await) {
                    return error;
                }
            }
        }
        *announced = changes.version;
    }
}
