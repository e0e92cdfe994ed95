//! What is retained: the states and descriptions of devices, published as they change.

use super::Setup;
use super::client::{Client, ClientError, Limits, Outgoing};
use super::paho::confirmed;
use super::topics::Topics;
use crate::status::Watch;

/// Retained messages in flight: five hundred devices must not crowd out the readings.
const AT_A_TIME: usize = 16;

/// Publishes every change after `announced` until the connection fails. `announced` follows what the broker has.
pub(super) async fn announce(
    setup: &Setup,
    topics: &Topics,
    client: &Client,
    limits: &Limits,
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
                marks: topics.marks(),
                ..Outgoing::default()
            });
            let fitting = messages.filter_map(|message| {
                let topic = message.topic.clone();
                let fitted = limits.fit(message);
                fitted
                    .inspect_err(|size| {
                        setup.counters.too_large.count();
                        tracing::error!(topic, size, "larger than the broker takes; not told");
                    })
                    .ok()
            });
            let deliveries = match client.publish(fitting.collect()).await {
                Ok(deliveries) => deliveries,
                Err(error) => return error,
            };
            for delivery in deliveries {
                if let Err(error) = confirmed(delivery).await {
                    return error;
                }
            }
        }
        *announced = changes.version;
    }
}
