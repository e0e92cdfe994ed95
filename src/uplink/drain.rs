//! Records out of the buffer to the broker, and acknowledgements back. Credits bound it: never more than the
//! window is out, so no queue can fill up.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Setup;
use super::client::{Client, ClientError, Outgoing, delivered};
use super::topics::Topics;
use crate::buffer::{Ack, Append, Take};
use crate::clock::Timestamp;
use crate::record::{self, Name, Numbered, RecordKind};

/// A record older than this is marked as backlog.
const BACKLOG: Duration = Duration::from_secs(10);

/// A record and what became of its publish.
type Delivered = (Name, RecordKind, Result<(), ClientError>);
type Taking = LocalBoxFuture<'static, Option<Vec<Numbered>>>;

/// One connection's publishes.
pub(super) struct Drain<'a> {
    setup: &'a Setup,
    topics: &'a Topics,
    client: &'a Client,
    window: usize,
    connected: Timestamp,
    out: FuturesUnordered<BoxFuture<'static, Delivered>>,
}

impl<'a> Drain<'a> {
    pub(super) fn new(setup: &'a Setup, topics: &'a Topics, client: &'a Client, window: usize) -> Self {
        let connected = Timestamp::now();
        Self {
            setup,
            topics,
            client,
            window: window.max(1),
            connected,
            out: FuturesUnordered::new(),
        }
    }

    /// Publishes until the connection fails.
    pub(super) async fn run(&mut self) -> ClientError {
        // One Take at a time; it stays open while acknowledgements come in.
        let mut taking: Option<Taking> = None;
        loop {
            let credits = self.window - self.out.len().min(self.window);
            if taking.is_none() && credits > 0 {
                let asked = self.setup.take.send(Take { limit: credits });
                taking = Some(async move { asked.await.ok() }.boxed_local());
            }
            tokio::select! {
                records = async { taking.as_mut()?.await }, if taking.is_some() => {
                    taking = None;
                    let Some(records) = records else {
                        return ClientError::Lost("the buffer is gone".to_owned());
                    };
                    if let Err(error) = self.publish(records).await {
                        return error;
                    }
                }
                Some(done) = self.out.next(), if !self.out.is_empty() => {
                    if let Err(error) = self.acknowledge(done).await {
                        return error;
                    }
                }
            }
        }
    }

    /// Waits for the acknowledgements of what is out.
    pub(super) async fn settle(&mut self) {
        while let Some(done) = self.out.next().await {
            if self.acknowledge(done).await.is_err() {
                return;
            }
        }
    }

    async fn publish(&mut self, records: Vec<Numbered>) -> Result<(), ClientError> {
        let now = Timestamp::now();
        let messages = records
            .iter()
            .map(|numbered| self.message(numbered, now))
            .collect();
        let deliveries = self.client.publish(messages).await?;
        for (numbered, delivery) in records.into_iter().zip(deliveries) {
            let (name, kind) = (numbered.name, numbered.record.kind);
            self.out
                .push(async move { (name, kind, delivered(delivery.await)) }.boxed());
        }
        Ok(())
    }

    fn message(&self, numbered: &Numbered, now: Timestamp) -> Outgoing {
        let made = numbered.record.made;
        let age = u128::try_from(now.millis() - made.millis()).unwrap_or(0);
        let is_backlog = made < self.connected || age > BACKLOG.as_millis();
        let config = &self.setup.config;
        let expires = config
            .message_expiry
            .filter(|_| numbered.record.kind == RecordKind::Readings);
        Outgoing {
            topic: self.topics.of(&numbered.record.topic),
            payload: numbered.payload(is_backlog),
            qos: config.qos,
            retain: false,
            expiry: expires,
            correlation: numbered.record.correlation.clone(),
        }
    }

    /// Tells the buffer of this acknowledgement and of all others that are there already.
    async fn acknowledge(&mut self, first: Delivered) -> Result<(), ClientError> {
        let mut names = Vec::new();
        let mut failed = None;
        let mut next = Some(first);
        while let Some((name, kind, result)) = next {
            match result {
                Ok(()) => names.push(name),
                Err(ClientError::Unwanted(reason)) => {
                    self.set_aside(name, kind, &reason).await;
                    names.push(name);
                }
                Err(error) => failed = Some(error),
            }
            next = self.out.next().now_or_never().flatten();
        }
        if !names.is_empty() && self.setup.ack.send(Ack(names)).await.is_err() {
            failed = Some(ClientError::Lost("the buffer is gone".to_owned()));
        }
        failed.map_or(Ok(()), Err)
    }

    /// The broker will never take this record: it leaves the buffer, and an event says so. A refused event is
    /// told in the log alone, or it would bring forth the next one.
    async fn set_aside(&self, name: Name, kind: RecordKind, reason: &str) {
        tracing::error!(
            run = name.run,
            seq = name.seq,
            reason,
            "the broker refuses a record; it is set aside"
        );
        if kind == RecordKind::Event {
            return;
        }
        let lost = serde_json::json!({ "run": name.run, "from": name.seq, "to": name.seq });
        let event = record::event(
            "set-aside",
            Timestamp::now(),
            self.setup.clock.is_synced(),
            |body| body.with("lost", &lost).with("reason", reason),
        );
        if let Err(error) = self.setup.append.send(Append(event)).await {
            tracing::error!(%error, "the buffer is gone");
        }
    }
}
