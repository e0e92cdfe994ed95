//! Messages from the broker: commands go to Commands, the gateway's own mark ends the doubt about old ones.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Setup;
use super::client::{Incoming, Limits};
use super::topics::{Inbound, Topics, is_response_topic};
use crate::commands::Received;
use crate::record::Topic;

/// The mark is waited for this long; then the broker has delivered what it kept, or never will.
const MARKER_WAIT: Duration = Duration::from_secs(30);

/// The gateway's mark to itself after a connect with a session. What comes before it may have waited in the
/// broker for days.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) payload: Vec<u8>,
    /// What came after this is believed without it.
    until: Instant,
    /// Its absence was told.
    is_missed: bool,
}

impl Marker {
    pub(super) fn new(payload: Vec<u8>) -> Self {
        Self { payload, until: Instant::now() + MARKER_WAIT, is_missed: false }
    }
}

/// What listens on one connection.
pub(super) struct Listener {
    pub(super) setup: Setup,
    pub(super) topics: Topics,
    pub(super) limits: Limits,
    pub(super) inbox: mpsc::Receiver<Incoming>,
    pub(super) marker: Option<Marker>,
    /// Messages by subscriptions that are not ours.
    pub(super) strange: u64,
}

impl Listener {
    /// Passes commands on until the connection ends, and then those that have come by then: the broker was told
    /// that they arrived and sends them to nobody else.
    pub(super) async fn run(mut self, mut ended: watch::Receiver<bool>) {
        loop {
            let missed = self.marker.as_ref().filter(|marker| !marker.is_missed).map(|marker| marker.until);
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                _ = ended.wait_for(|ended| *ended) => break,
                () = sleep_until(missed.unwrap_or_else(Instant::now)), if missed.is_some() => self.miss(),
            }
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message).await;
        }
    }

    fn miss(&mut self) {
        tracing::warn!("the broker did not return the gateway's mark; is the marker topic allowed?");
        if let Some(marker) = &mut self.marker {
            marker.is_missed = true;
        }
    }

    async fn take(&mut self, message: Incoming) {
        // Judged by when it came: it may have waited here while the connection was greeted.
        self.marker.take_if(|marker| marker.until <= message.came);
        let inbound = self.topics.parse(&message.topic);
        if inbound.as_ref().is_some_and(|inbound| !self.is_wanted(inbound, &message)) {
            return;
        }
        match inbound {
            None => tracing::debug!(topic = message.topic, "a message for nobody"),
            Some(Inbound::Marker) => drop(self.marker.take_if(|marker| marker.payload == message.payload)),
            Some(Inbound::Command(device)) => {
                let Some(commands) = &self.setup.commands else { return };
                let response = message.response_topic.filter(|topic| is_response_topic(topic));
                let received = Received {
                    reply: response.map_or_else(|| Topic::Reply(device.clone()), Topic::Response),
                    device,
                    payload: message.payload,
                    correlation: message.correlation,
                    is_retained: message.retained,
                    // What another member of the group left behind may be of any age, whatever our own mark says.
                    may_be_old: self.marker.is_some() || self.topics.is_shared(),
                    expires: message.expires,
                };
                if let Err(error) = commands.send(received).await {
                    tracing::error!(%error, "the commands actor is gone");
                }
            }
        }
    }

    /// It came by a subscription of ours.
    fn is_wanted(&mut self, inbound: &Inbound, message: &Incoming) -> bool {
        let (topic, identifiers) = (&message.topic, &message.identifiers);
        if self.topics.is_wanted(inbound, identifiers, &self.limits) {
            return true;
        }
        self.strange += 1;
        if self.strange == 1 {
            tracing::warn!(
                topic,
                ?identifiers,
                "a message by a subscription that is not ours is not taken; has another program used our client id?"
            );
        } else {
            tracing::debug!(topic, ?identifiers, count = self.strange, "not by a subscription of ours");
        }
        false
    }
}
