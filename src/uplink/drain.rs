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
use crate::buffer::{Ack, SetAside, Take};
use crate::clock::uptime;
use crate::record::{Name, Numbered, RecordKind, Topic};

/// A record older than this is marked as backlog.
const BACKLOG: Duration = Duration::from_secs(10);
/// Records that the broker denies are sent again after this long ...
const DENIED: Duration = Duration::from_secs(30);
/// ... or this long when they fill half of the window and it takes others, ...
const CROWDED: Duration = Duration::from_secs(5);
/// ... and set aside after so many tries, if it takes others meanwhile: then these alone are the fault. While it
/// takes none, the rights of the whole gateway are, and everything is kept.
const DENIED_TRIES: u32 = 3;
/// A reply on a topic that its sender chose is sent this often. Some brokers answer a forbidden topic by breaking
/// the connection, and anybody may name one.
const FOREIGN_TRIES: u32 = 3;

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
    limits: &'a Limits,
    window: usize,
    /// The newest record made before this connection.
    newest: Name,
    /// The newest record sent without the mark of a delay.
    live: Name,
    /// Since when the broker denies records, and which.
    denied: Option<Instant>,
    denials: BTreeMap<Name, (Origin, String)>,
    /// Records that this connection brought to the broker.
    delivered: u64,
    /// Replies out on topics that their senders chose.
    foreign: BTreeSet<Name>,
    /// How often records were tried before, see [`Drain::tries`].
    before: &'a BTreeMap<Name, u32>,
    out: FuturesUnordered<BoxFuture<'static, Delivered>>,
}

impl<'a> Drain<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        topics: &'a Topics,
        client: &'a Client,
        limits: &'a Limits,
        window: usize,
        newest: Name,
        before: &'a BTreeMap<Name, u32>,
    ) -> Self {
        let out = FuturesUnordered::new();
        Self {
            setup,
            topics,
            client,
            limits,
            window: window.max(1),
            newest,
            live: newest,
            denied: None,
            denials: BTreeMap::new(),
            delivered: 0,
            foreign: BTreeSet::new(),
            before,
            out,
        }
    }

    /// Publishes until the connection fails.
    pub(super) async fn run(&mut self) -> ClientError {
        // One Take at a time; it stays open while acknowledgements come in.
        let mut taking: Option<Taking> = None;
        loop {
            // What was denied keeps its place: it waits in the buffer's memory like the rest of the window.
            let credits = self.window.saturating_sub(self.out.len() + self.denials.len());
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
                () = sleep_until(self.again()), if self.denied.is_some() => {
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

    /// How often records were out when a connection ended for their sake, with this one: replies on topics of
    /// their senders, and what the broker denied. Those that were tried often enough are set aside.
    pub(super) async fn tries(&self) -> BTreeMap<Name, u32> {
        let mut tries = BTreeMap::new();
        for name in &self.foreign {
            let count = self.before.get(name).copied().unwrap_or(0) + 1;
            if count < FOREIGN_TRIES {
                tries.insert(*name, count);
                continue;
            }
            let reason = "the broker broke each connection that it was sent on";
            self.set_aside(*name, Origin::Foreign, reason).await;
        }
        for (name, (origin, reason)) in &self.denials {
            let count = self.before.get(name).copied().unwrap_or(0) + 1;
            if count < DENIED_TRIES || self.delivered == 0 {
                tries.insert(*name, count);
                continue;
            }
            self.set_aside(*name, *origin, reason).await;
        }
        tries
    }

    /// When what was denied is tried again.
    fn again(&self) -> Instant {
        let is_crowded = self.delivered > 0 && self.denials.len() >= self.window.div_ceil(2);
        self.denied.unwrap_or_else(Instant::now) + if is_crowded { CROWDED } else { DENIED }
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
        let now = uptime();
        let (mut names, mut messages) = (Vec::new(), Vec::new());
        for numbered in &records {
            let message = self.message(numbered, now);
            match self.limits.fit(message) {
                Ok(message) => {
                    names.push((numbered.name, Origin::of(numbered)));
                    messages.push(message);
                }
                Err(size) => {
                    let reason = format!("its {size} bytes are more than the broker takes");
                    self.set_aside(numbered.name, Origin::of(numbered), &reason).await;
                }
            }
        }
        let deliveries = self.client.publish(messages).await?;
        self.setup.counters.published.add(u64::try_from(names.len()).unwrap_or(0));
        for ((name, origin), delivery) in names.into_iter().zip(deliveries) {
            if origin == Origin::Foreign {
                self.foreign.insert(name);
            }
            self.out.push(async move { (name, origin, delivered(delivery.await)) }.boxed());
        }
        Ok(())
    }

    /// `backlog` marks what was delayed: older than ten seconds, made before this connection, or overtaken by a
    /// newer record, so that what bears no mark is in order.
    fn message(&mut self, numbered: &Numbered, now: i64) -> Outgoing {
        let age = u128::try_from(now - numbered.record.made.uptime).unwrap_or(0);
        let is_overtaken = numbered.record.kind != RecordKind::Reply && numbered.name < self.live;
        let is_backlog = numbered.name <= self.newest || age > BACKLOG.as_millis() || is_overtaken;
        if !is_backlog && numbered.record.kind != RecordKind::Reply {
            self.live = numbered.name;
        }
        let config = &self.setup.config;
        let expires = config.message_expiry.filter(|_| numbered.record.kind == RecordKind::Readings);
        Outgoing {
            topic: self.topics.of(&numbered.record.topic),
            payload: numbered.payload(is_backlog),
            qos: config.qos,
            retain: config.retain_readings && numbered.record.kind == RecordKind::Readings,
            expiry: expires,
            correlation: numbered.record.correlation.clone(),
            marks: self.topics.marks(),
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
            if let Err(ClientError::Denied(_)) = result {
                self.setup.counters.denied.count();
            }
            match result {
                Ok(()) => {
                    self.delivered += 1;
                    self.setup.counters.acknowledged.count();
                    names.push(name);
                }
                Err(ClientError::Unwanted(reason)) => self.set_aside(name, origin, &reason).await,
                // Anybody may name a topic for his reply that the gateway must not use: that must not stop the rest.
                Err(ClientError::Denied(reason)) if origin == Origin::Foreign => {
                    self.foreign.remove(&name);
                    self.set_aside(name, origin, &reason).await;
                }
                // Rights come back: the record stays out, keeps its place in the window, and is tried again.
                Err(ClientError::Denied(reason)) => {
                    if self.denied.is_none() {
                        tracing::error!(reason, "the broker denies records; they wait");
                    }
                    self.denied.get_or_insert_with(Instant::now);
                    self.denials.insert(name, (origin, reason));
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

    /// The broker will never take this record: it is kept apart, and an event says so. A refused event is told in
    /// the log alone, or it would bring forth the next one.
    async fn set_aside(&self, name: Name, origin: Origin, reason: &str) {
        self.setup.counters.set_aside.count();
        tracing::error!(
            run = name.run,
            seq = name.seq,
            reason,
            "the broker refuses a record; it is set aside"
        );
        let (reason, tell) = (reason.to_owned(), origin != Origin::Event);
        if let Err(error) = self.setup.set_aside.send(SetAside { name, reason, tell }).await {
            tracing::error!(%error, "the buffer is gone");
        }
    }
}
