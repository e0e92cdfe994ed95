//! What the broker's session delivers: what this configuration wants, and nothing that an earlier one wanted.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::client::ClientError;
use super::session::Life;
use crate::buffer::{Recall, Remember};

/// The filters of the last subscription are kept under this name.
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
        if !is_subscribed && !wanted.is_empty() {
            // Before the broker knows of them, so that none is forgotten by a crash in between.
            self.keep(before.union(&filters).cloned().collect()).await;
            match self.client.subscribe(wanted).await {
                Ok(()) => self.has_subscribed = true,
                // Readings do not depend on it.
                Err(error @ ClientError::Denied(_)) => {
                    tracing::error!(%error, "no commands will come");
                    self.refused = Some(error.to_string());
                    self.tell(session_present).await;
                }
                Err(error) => return Err(error),
            }
        }
        let stale: Vec<String> = before.difference(&filters).cloned().collect();
        if !stale.is_empty() && session_present {
            tracing::info!(?stale, "subscriptions of an earlier configuration end");
            self.client.unsubscribe(stale).await?;
        }
        self.keep(filters).await;
        Ok(())
    }

    /// The filters that the session may still have.
    async fn before(&mut self) -> BTreeSet<String> {
        if let Some(left) = &self.left {
            return left.clone();
        }
        let recalled = timeout(PATIENCE, self.setup.recall.send(Recall(KEY.to_owned()))).await;
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
        let kept = self.setup.remember.send(Remember { key: KEY.to_owned(), value: lines.into_bytes() });
        if let Ok(Ok(Ok(()))) = timeout(PATIENCE, kept).await {
            self.left = Some(filters);
        } else {
            tracing::warn!("what was subscribed to cannot be kept: an end of it may be missed");
        }
    }
}
