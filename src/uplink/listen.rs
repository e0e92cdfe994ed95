//! Messages from the broker: commands go to Commands, the gateway's own mark ends the doubt about old ones.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Setup;
use super::client::{ClientError, Incoming, Limits};
use super::topics::{Inbound, Topics, is_response_topic};
use crate::commands::Received;
use crate::record::Topic;

/// The mark is waited for this long; then the broker has delivered what it kept, or never will.
const MARKER_WAIT: Duration = Duration::from_secs(30);

/// The gateway's mark to itself after a connect with a session. What comes before it may have waited in the
/// broker for days.
#[derive(Debug)]
pub(super) struct Marker {
    payload: Vec<u8>,
    until: Instant,
}

impl Marker {
    pub(super) fn new(payload: Vec<u8>) -> Self {
        Self { payload, until: Instant::now() + MARKER_WAIT }
    }
}

/// Passes commands on until the connection fails.
pub(super) async fn listen(
    setup: &Setup,
    topics: &Topics,
    limits: &Limits,
    mut inbox: mpsc::Receiver<Incoming>,
    mut marker: Option<Marker>,
) -> ClientError {
    let mut has_told = false;
    while let Some(message) = inbox.recv().await {
        if marker.as_ref().is_some_and(|marker| marker.until <= Instant::now()) {
            tracing::warn!("the broker did not return the gateway's mark; is the marker topic allowed?");
            marker = None;
        }
        let inbound = topics.parse(&message.topic);
        let (topic, identifiers) = (&message.topic, &message.identifiers);
        if inbound.as_ref().is_some_and(|inbound| !topics.is_wanted(inbound, identifiers, limits)) {
            if has_told {
                tracing::debug!(topic, ?identifiers, "not by a subscription of ours");
            } else {
                tracing::warn!(
                    topic,
                    ?identifiers,
                    "a message by a subscription that is not ours is not taken; has another program used our client id?"
                );
            }
            has_told = true;
            continue;
        }
        match inbound {
            None => tracing::debug!(topic = message.topic, "a message for nobody"),
            Some(Inbound::Marker) => {
                if marker.as_ref().is_some_and(|marker| marker.payload == message.payload) {
                    marker = None;
                }
            }
            Some(Inbound::Command(device)) => {
                let Some(commands) = &setup.commands else { continue };
                let response = message.response_topic.filter(|topic| is_response_topic(topic));
                let received = Received {
                    reply: response.map_or_else(|| Topic::Reply(device.clone()), Topic::Response),
                    device,
                    payload: message.payload,
                    correlation: message.correlation,
                    is_retained: message.retained,
                    may_be_old: marker.is_some(),
                    expires: message.expires,
                };
                if let Err(error) = commands.send(received).await {
                    tracing::error!(%error, "the commands actor is gone");
                }
            }
        }
    }
    ClientError::Lost("the client is gone".to_owned())
}
