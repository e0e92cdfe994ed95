//! Records out of the buffer to the broker, and acknowledgements back. Credits bound it: never more than the
//! window is out, so no queue can fill up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::Setup;
use super::client::{Client, ClientError, Limits, Outgoing};
use super::paho::delivered;
use super::topics::Topics;
use crate::buffer::{Ack, Append, Take};
use crate::clock::Timestamp;
use crate::record::{self, Name, Numbered, RecordKind, Topic};

/// A record older than this is marked as backlog.
const BACKLOG: Duration = Duration::from_secs(10);
/// Records that the broker denies are sent again after this long.
const DENIED: Duration = Duration::from_secs(30);

/// A record and what became of its publish.
type Delivered = (Name, Origin, Result<(), ClientError>);

/// What a refusal of a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// On a topic of the gateway.
    Own,
    /// An event: none is made of its own refusal.
    Event,
    /// A reply on a topic that a sender chose.
    Foreign,
}

impl Origin {
    fn of(numbered: &Numbered) -> Self {
        match (&numbered.record.topic, numbered.record.kind) {
            (Topic::Response(_), _) => Self::Foreign,
            (_, RecordKind::Event) => Self::Event,
            _ => Self::Own,
        }
    }
}

type Taking = LocalBoxFuture<'static, Option<Vec<Numbered>>>;

/// One connection's publishes.
pub(super) struct Drain<'a> {
    setup: &'a Setup,
    topics: &'a Topics,
    client: &'a Client,
    limits: Limits,
    window: usize,
    /// The newest record made before this connection.
    newest: Name,
    /// Since when the broker denies records.
    denied: Option<Instant>,
    /// Replies out on topics that their senders chose.
    foreign: BTreeSet<Name>,
    out: FuturesUnordered<BoxFuture<'static, Delivered>>,
}

impl<'a> Drain<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        topics: &'a Topics,
        client: &'a Client,
        limits: Limits,
        window: usize,
        newest: Name,
    ) -> Self {
        let out = FuturesUnordered::new();
        Self {
            setup,
            topics,
            client,
            limits,
            window: window.max(1),
            newest,
            denied: None,
            foreign: BTreeSet::new(),
            out,
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
                () = sleep_until(self.denied.unwrap_or_else(Instant::now) + DENIED), if self.denied.is_some() => {
                    return ClientError::Lost("the broker denied records; they are sent again".to_owned());
                }
                Some(done) = self.out.next(), if !self.out.is_empty() => {
                    if let Err(error) = self.acknowledge(done).await {
                        return error;
                    }
                }
            }
        }
    }

    /// How often each reply on a sender's topic was out when a connection broke, with this one.
    pub(super) fn foreign_tries(&self, before: &BTreeMap<Name, u32>) -> BTreeMap<Name, u32> {
        self.foreign.iter().map(|name| (*name, before.get(name).copied().unwrap_or(0) + 1)).collect()
    }

    /// Takes a reply back that the broker breaks the connection for.
    pub(super) async fn give_up(&self, name: Name) {
        self.set_aside(name, Origin::Foreign, "the broker broke each connection that it was sent on").await;
        if self.setup.ack.send(Ack(vec![name])).await.is_err() {
            tracing::error!("the buffer is gone");
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
        let (mut names, mut messages, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for numbered in &records {
            match self.limits.fit(self.message(numbered, now)) {
                Ok(message) => {
                    names.push((numbered.name, Origin::of(numbered)));
                    messages.push(message);
                }
                Err(size) => {
                    let reason = format!("its {size} bytes are more than the broker takes");
                    self.set_aside(numbered.name, Origin::of(numbered), &reason).await;
                    refused.push(numbered.name);
                }
            }
        }
        if !refused.is_empty() && self.setup.ack.send(Ack(refused)).await.is_err() {
            return Err(ClientError::Lost("the buffer is gone".to_owned()));
        }
        let deliveries = self.client.publish(messages).await?;
        for ((name, origin), delivery) in names.into_iter().zip(deliveries) {
            if origin == Origin::Foreign {
                self.foreign.insert(name);
            }
            self.out.push(async move { (name, origin, delivered(delivery.await)) }.boxed());
        }
        Ok(())
    }

    fn message(&self, numbered: &Numbered, now: Timestamp) -> Outgoing {
        let age = u128::try_from(now.millis() - numbered.record.made.millis()).unwrap_or(0);
        let is_backlog = numbered.name <= self.newest || age > BACKLOG.as_millis();
        let config = &self.setup.config;
        let expires = config.message_expiry.filter(|_| numbered.record.kind == RecordKind::Readings);
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
        while let Some((name, origin, result)) = next {
            if result.is_ok() {
                self.foreign.remove(&name);
            }
            match result {
                Ok(()) => names.push(name),
                Err(ClientError::Unwanted(reason)) => {
                    self.set_aside(name, origin, &reason).await;
                    names.push(name);
                }
                // Anybody may name a topic for his reply that the gateway must not use: that must not stop the rest.
                Err(ClientError::Denied(reason)) if origin == Origin::Foreign => {
                    self.set_aside(name, origin, &reason).await;
                    names.push(name);
                }
                // Rights come back: the record stays out, keeps its place in the window, and is tried again.
                Err(ClientError::Denied(reason)) => {
                    if self.denied.is_none() {
                        tracing::error!(reason, "the broker denies records; they wait");
                    }
                    self.denied.get_or_insert_with(Instant::now);
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
    async fn set_aside(&self, name: Name, origin: Origin, reason: &str) {
        tracing::error!(
            run = name.run,
            seq = name.seq,
            reason,
            "the broker refuses a record; it is set aside"
        );
        if origin == Origin::Event {
            return;
        }
        let lost = serde_json::json!({ "run": name.run, "from": name.seq, "to": name.seq });
        let event = record::event("set-aside", Timestamp::now(), self.setup.clock.is_synced(), |body| {
            body.with("lost", &lost).with("reason", reason)
        });
        if let Err(error) = self.setup.append.send(Append(event)).await {
            tracing::error!(%error, "the buffer is gone");
        }
    }
}
