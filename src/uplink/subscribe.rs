//! What the broker's session delivers: what this configuration wants, and nothing that an earlier one wanted.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::client::{ClientError, Refused};
use super::session::Life;
use crate::buffer::{Recall, Remember};

/// The filters of the last subscription are kept under this name, with those of the broker and the client.
const KEY: &str = "subscriptions";
/// A disk that hangs must not hold up the connection: what was subscribed to before is then left for the next one.
const PATIENCE: Duration = Duration::from_secs(2);

impl Life {
    /// Subscribes where the broker has no session, and ends subscriptions of an earlier configuration where it has one.
    pub(super) async fn subscribe(&mut self, session_present: bool) -> Result<(), ClientError> {
        let wanted = match self.setup.commands {
            Some(_) => self.topics.subscriptions(&self.limits),
            None => Vec::new(),
        };
        let filters: BTreeSet<String> = wanted.iter().map(|wanted| wanted.filter.clone()).collect();
        let before = self.before().await;
        let is_subscribed = session_present && self.has_subscribed;
        if self.setup.commands.is_some() && wanted.is_empty() {
            // Each gateway of the group would run every command.
            tracing::error!(
                "no commands will come: the broker has no shared subscriptions; see mqtt.shared_subscription"
            );
            self.refused = Some("the broker has no shared subscriptions".to_owned());
            self.tell(session_present).await;
        }
        if !is_subscribed && !wanted.is_empty() {
            // Before the broker knows of them, so that none is forgotten by a crash in between.
            self.keep(before.union(&filters).cloned().collect()).await;
            let refused = self.client.subscribe(wanted).await?;
            self.has_subscribed = refused.is_empty();
            self.complain(refused, session_present).await;
        }
        let stale: Vec<String> = before.difference(&filters).cloned().collect();
        if !stale.is_empty() && session_present {
            tracing::info!(?stale, "subscriptions of an earlier configuration end");
            self.client.unsubscribe(stale).await?;
        }
        self.keep(filters).await;
        Ok(())
    }

    /// Readings do not depend on subscriptions: what is refused is told, and the connection goes on.
    async fn complain(&mut self, refused: Vec<Refused>, session_present: bool) {
        let marker = self.topics.marker();
        let mut commands = Vec::new();
        for Refused { filter, code } in refused {
            if filter == marker {
                tracing::warn!(filter, code, "the broker refuses the subscription to the gateway's own mark");
            } else {
                tracing::error!(
                    filter,
                    code,
                    "no commands will come this way: the broker refuses it; see its access rules"
                );
                commands.push(format!("subscription to {filter}: {code}"));
            }
        }
        if !commands.is_empty() {
            self.refused = Some(commands.join("; "));
            self.tell(session_present).await;
        }
    }

    /// Sessions belong to a broker and a client id.
    fn key(&self) -> String {
        format!("{KEY} {} {}", self.server, self.client_id())
    }

    /// The filters that the session may still have.
    async fn before(&mut self) -> BTreeSet<String> {
        if let Some(left) = &self.left {
            return left.clone();
        }
        let recalled = timeout(PATIENCE, self.setup.recall.send(Recall(self.key()))).await;
        let Ok(Ok(Ok(text))) = recalled else {
            tracing::warn!("what was subscribed to before is not known: the buffer gives no answer");
            return BTreeSet::new();
        };
        let lines = String::from_utf8_lossy(&text);
        let before: BTreeSet<String> = lines.lines().map(str::to_owned).collect();
        self.left = Some(before.clone());
        before
    }

    /// Keeps them for the next connection, over a restart. Written only when they change.
    async fn keep(&mut self, filters: BTreeSet<String>) {
        if self.left.as_ref().is_none_or(|left| *left == filters) {
            return;
        }
        let lines = filters.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        let kept = self.setup.remember.send(Remember { key: self.key(), value: lines.into_bytes() });
        if let Ok(Ok(Ok(()))) = timeout(PATIENCE, kept).await {
            self.left = Some(filters);
        } else {
            tracing::warn!("what was subscribed to cannot be kept: an end of it may be missed");
        }
    }
}
