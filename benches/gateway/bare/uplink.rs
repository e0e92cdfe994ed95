//! The broker connection: paho, MQTT 5, QoS 1, a fresh client for every connection.

use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use paho_mqtt::{
    AsyncClient, ConnectOptionsBuilder, CreateOptionsBuilder, MQTT_VERSION_5, Message, PersistenceType,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::store::Request;
use super::tail::{Record, Tail};
use crate::Result;

/// Most publishes without acknowledgement; fieldgate's default.
const INFLIGHT: usize = 64;

/// Connects and publishes, for ever.
pub(super) async fn run(tail: Rc<Tail>, store: mpsc::UnboundedSender<Request>, port: u16) -> Result<()> {
    loop {
        let options = CreateOptionsBuilder::new()
            .server_uri(format!("mqtt://127.0.0.1:{port}"))
            .client_id("bare")
            .mqtt_version(MQTT_VERSION_5)
            .persistence(PersistenceType::None)
            .finalize();
        let client = AsyncClient::new(options)?;
        let (lost, mut ended) = mpsc::unbounded_channel();
        client.set_connection_lost_callback(move |_| {
            // Nobody listening any more: the client is being dropped.
            lost.send(()).ok();
        });
        let options = ConnectOptionsBuilder::new_v5()
            .clean_start(false)
            .max_inflight(i32::try_from(INFLIGHT)?)
            .finalize();
        if client.connect(options).await.is_ok() {
            tail.rewind();
            tokio::select! {
                end = drain(&tail, &store, &client) => end?,
                _ = ended.recv() => {}
            }
        }
        sleep(Duration::from_secs(1)).await;
        // Dropping a client can block for a second (paho joins its threads): not on the loop of the polls. And never
        // right after a failed connect: paho's callback may still hold the last clone of it, and dropped
        // there it waits for a lock that its own thread has.
        tokio::task::spawn_blocking(move || drop(client)).await?;
    }
}

/// Publishes what the tail gives, for ever or until a publish fails.
async fn drain(tail: &Tail, store: &mpsc::UnboundedSender<Request>, client: &AsyncClient) -> Result<()> {
    let mut acks = FuturesUnordered::new();
    loop {
        tail.load(store).await?;
        while tail.flying() < INFLIGHT
            && let Some(record) = tail.take()
        {
            let message =
                Message::new(format!("bench/d{}/readings", record.device), payload(tail.run, &record)?, 1);
            let token = client.publish(message);
            acks.push(async move { token.await.map(|()| record.seq) });
        }
        let mut next = tokio::select! {
            Some(ack) = acks.next(), if !acks.is_empty() => Some(ack),
            () = tail.fresh.notified(), if tail.flying() < INFLIGHT => None,
        };
        while let Some(ack) = next {
            let Ok(seq) = ack else {
                return Ok(());
            };
            tail.ack(seq);
            next = acks.next().now_or_never().flatten();
        }
    }
}

fn payload(run: u64, record: &Record) -> Result<Vec<u8>> {
    let mut payload = Vec::with_capacity(record.body.len() + 40);
    write!(payload, "{{\"run\":{run},\"seq\":{},", record.seq)?;
    payload.extend_from_slice(&record.body);
    payload.push(b'}');
    Ok(payload)
}
