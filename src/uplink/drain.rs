//! Records out of the buffer to the broker, and acknowledgements back. Credits bound it: never more than the
//! window is out, so no queue can fill up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use super::Setup;
use super::client::{Client, ClientError, Limits, Outgoing, UNACKNOWLEDGED, unacknowledged};
use super::denied::Denials;
use super::origin::Origin;
use super::paho::delivered;
use super::topics::Topics;
use crate::buffer::{Ack, SetAside, Take};
use crate::clock::Moment;
use crate::record::{Name, Numbered, RecordKind};

/// A record older than this is marked as backlog.
const BACKLOG: Duration = Duration::from_secs(10);
/// A reply on a topic that its sender chose is sent this often. Some brokers answer a forbidden topic by breaking
/// the connection, and anybody may name one.
const FOREIGN_TRIES: u32 = 3;

/// A record and what became of its publish.
type Delivered = (Numbered, Result<(), ClientError>);

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
    /// What the broker denies.
    pub(super) denials: Denials,
    /// When the last acknowledgement came, or the first of what is out went.
    progress: Instant,
    /// The gateway's status, as the broker has it.
    pub(super) status: Outgoing,
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
            denials: Denials::default(),
            progress: Instant::now(),
            status: Outgoing::default(),
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
            let credits = self.window.saturating_sub(self.out.len() + self.denials.waiting());
            if taking.is_none() && credits > 0 {
                let asked = self.setup.take.send(Take { limit: credits });
                taking = Some(async move { asked.await.ok() }.boxed_local());
            }
            let again = self.denials.again(self.window);
            tokio::select! {
                // First what is there already: it may be what a limit below waits for.
                biased;
                Some(done) = self.out.next(), if !self.out.is_empty() => {
                    if let Err(error) = self.acknowledge(done).await {
                        return error;
                    }
                }
                records = async { taking.as_mut()?.await }, if taking.is_some() => {
                    taking = None;
                    let Some(records) = records else {
                        return ClientError::Lost("the buffer is gone".to_owned());
                    };
                    if let Err(error) = self.publish(records).await {
                        return error;
                    }
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    if let Err(error) = self.try_again().await {
                        return error;
                    }
                }
                () = sleep_until(self.progress + UNACKNOWLEDGED), if !self.out.is_empty() => {
                    return unacknowledged();
                }
            }
        }
    }

    /// How often records were out when a connection ended for their sake, with this one: replies on topics of
    /// their senders, and what the broker denied. Those that were tried often enough are set aside.
    pub(super) async fn tries(&mut self) -> BTreeMap<Name, u32> {
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
        tries
    }

    /// Sends one record of each denied topic again; what was denied too often is set aside, if the broker takes
    /// anything of this gateway.
    async fn try_again(&mut self) -> Result<(), ClientError> {
        if self.denials.has_hopeless() && self.has_rights().await? {
            for (numbered, reason) in self.denials.give_up() {
                self.set_aside(numbered.name, Origin::of(&numbered), &reason).await;
            }
        }
        let again = self.denials.try_again();
        self.send(again).await
    }

    /// Whether the broker takes the gateway's own status: if not, everything may be denied, and nothing is given up.
    async fn has_rights(&self) -> Result<bool, ClientError> {
        for delivery in self.client.publish(vec![self.status.clone()]).await? {
            let result = timeout(UNACKNOWLEDGED, delivery).await.map_err(|_| unacknowledged())?;
            match delivered(result) {
                Ok(()) => {}
                Err(ClientError::Denied(_) | ClientError::Unwanted(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
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
        // The usual case costs nothing.
        if self.denials.is_idle() {
            return self.send(records).await;
        }
        let mut free = Vec::with_capacity(records.len());
        for numbered in records {
            let topic = self.topics.of(&numbered.record.topic);
            if self.denials.is_barred(&topic) {
                let reason = "the broker denied what came before it on its topic";
                self.set_aside(numbered.name, Origin::of(&numbered), reason).await;
            } else {
                free.extend(self.denials.hold(&topic, numbered));
            }
        }
        self.send(free).await
    }

    async fn send(&mut self, records: Vec<Numbered>) -> Result<(), ClientError> {
        let now = self.setup.clock.now();
        let (mut fitting, mut messages) = (Vec::new(), Vec::new());
        for numbered in records {
            let message = self.message(&numbered, now);
            match self.limits.fit(message) {
                Ok(message) => {
                    fitting.push(numbered);
                    messages.push(message);
                }
                Err(size) => {
                    self.denials.drop_out(&self.topics.of(&numbered.record.topic), numbered.name);
                    let reason = format!("its {size} bytes are more than the broker takes");
                    self.set_aside(numbered.name, Origin::of(&numbered), &reason).await;
                }
            }
        }
        if self.out.is_empty() {
            self.progress = Instant::now();
        }
        let deliveries = self.client.publish(messages).await?;
        self.setup.counters.published.add(u64::try_from(fitting.len()).unwrap_or(0));
        for (numbered, delivery) in fitting.into_iter().zip(deliveries) {
            if Origin::of(&numbered) == Origin::Foreign {
                self.foreign.insert(numbered.name);
            }
            self.out.push(async move { (numbered, delivered(delivery.await)) }.boxed());
        }
        Ok(())
    }

    /// `backlog` marks what was delayed: older than ten seconds, made before this connection, or overtaken by a
    /// newer record, so that what bears no mark is in order.
    fn message(&mut self, numbered: &Numbered, now: Moment) -> Outgoing {
        let made = numbered.record.made;
        let age = u128::try_from(now.uptime - made.uptime).unwrap_or(0);
        let is_overtaken = numbered.record.kind != RecordKind::Reply && numbered.name < self.live;
        let is_backlog = numbered.name <= self.newest || age > BACKLOG.as_millis() || is_overtaken;
        if !is_backlog && numbered.record.kind != RecordKind::Reply {
            self.live = numbered.name;
        }
        let config = &self.setup.config;
        let is_reading = numbered.record.kind == RecordKind::Readings;
        // It counts from when the reading was made, as if it had left at once; no less than a second is left.
        let left = |expiry: Duration| {
            let is_known = made.synced && now.synced;
            let age = u64::try_from(now.wall.millis() - made.wall.millis()).ok().filter(|_| is_known);
            expiry.saturating_sub(Duration::from_secs(age.unwrap_or(0) / 1000)).max(Duration::from_secs(1))
        };
        Outgoing {
            topic: self.topics.of(&numbered.record.topic),
            payload: numbered.payload(is_backlog),
            // A loss that no event tells could never be known, so only readings may go without acknowledgement.
            qos: if is_reading { config.qos } else { config.qos.max(1) },
            retain: config.retain_readings && is_reading,
            expiry: config.message_expiry.filter(|_| is_reading).map(left),
            correlation: numbered.record.correlation.clone(),
            marks: self.topics.marks(),
        }
    }

    /// Tells the buffer of this acknowledgement and of all others that are there already.
    async fn acknowledge(&mut self, first: Delivered) -> Result<(), ClientError> {
        let (mut names, mut released) = (Vec::new(), Vec::new());
        let mut failed = None;
        let mut next = Some(first);
        self.progress = Instant::now();
        while let Some((numbered, result)) = next {
            let (name, origin) = (numbered.name, Origin::of(&numbered));
            match result {
                Ok(()) => {
                    self.setup.counters.acknowledged.count();
                    self.foreign.remove(&name);
                    if !self.denials.is_idle() {
                        released.extend(self.denials.allow(&self.topics.of(&numbered.record.topic)));
                    }
                    names.push(name);
                }
                Err(ClientError::Unwanted(reason)) => {
                    self.denials.drop_out(&self.topics.of(&numbered.record.topic), name);
                    self.set_aside(name, origin, &reason).await;
                }
                // Anybody may name a topic for his reply that the gateway must not use: that must not stop the rest.
                Err(ClientError::Denied(reason)) if origin == Origin::Foreign => {
                    self.setup.counters.denied.count();
                    self.denials.drop_out(&self.topics.of(&numbered.record.topic), name);
                    self.foreign.remove(&name);
                    self.set_aside(name, origin, &reason).await;
                }
                // Rights come back: the record stays out, keeps its place in the window, and is tried again.
                Err(ClientError::Denied(reason)) => {
                    self.setup.counters.denied.count();
                    let topic = self.topics.of(&numbered.record.topic);
                    if self.denials.deny(&topic, numbered, reason.clone()) {
                        tracing::error!(reason, topic, "the broker denies records; they wait");
                    }
                }
                Err(error) => failed = Some(error),
            }
            next = self.out.next().now_or_never().flatten();
        }
        if !names.is_empty() && self.setup.ack.send(Ack(names)).await.is_err() {
            failed = Some(ClientError::Lost("the buffer is gone".to_owned()));
        }
        match failed {
            Some(error) => Err(error),
            None if released.is_empty() => Ok(()),
            None => self.send(released).await,
        }
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
