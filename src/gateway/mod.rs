//! The whole gateway: the only place where actors learn of each other.
//!
//! It starts them from the buffer outwards, watches that the core lives, gives them a new configuration without
//! a restart, and stops them from the devices inwards, so that what was read last still gets out or onto the disk.

use std::io;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};

use crate::buffer::store::StoreError;
use crate::buffer::{Close, GetStats};
use crate::config::Config;
use crate::{commands, link, uplink};

mod actors;
mod client_id;
mod reload;

use actors::Actors;
pub use reload::Origin;

/// How often the core is looked at.
const TICK: Duration = Duration::from_secs(5);
/// The buffer answers within this, or the watchdog is not fed.
const ANSWER: Duration = Duration::from_secs(10);
/// All of an orderly stop; systemd waits longer before it kills.
const STOP: Duration = Duration::from_secs(8);

/// All of it but the buffer, which has the rest in any case.
const INWARDS: Duration = Duration::from_secs(6);

/// Why the gateway ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The buffer cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses something every process gets.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A core part died; only a new process helps.
    #[error("{0} died; see the log above")]
    Core(&'static str),
}

/// Runs until SIGTERM or SIGINT; SIGHUP has the configuration read again.
pub async fn run(config: Config, origin: Origin) -> Result<(), GatewayError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // One asks at a time; the next waits for its turn.
    let (reload, mut reloads) = mpsc::channel(1);
    let mut actors = Actors::start(config, reload).await?;
    notify(&[NotifyState::Ready]);
    tracing::info!("polling");
    let mut tick = interval_at(Instant::now() + TICK, TICK);
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = tick.tick() => {
                if let Err(dead) = actors.watch().await {
                    break Err(GatewayError::Core(dead));
                }
            }
            // Its outcome is in the log.
            _ = hang_up.recv() => drop(actors.reload(&origin).await),
            Some(answer) = reloads.recv() => {
                let outcome = actors.reload(&origin).await.map_err(|error| error.to_string());
                if answer.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the outcome of a reload");
                }
            }
        }
    };
    notify(&[NotifyState::Stopping]);
    // Who waits for a reload learns that none will come, and does not hold up the stop.
    drop(reloads);
    if let Some(web) = &actors.web {
        web.say_stopping();
    }
    tracing::info!("stopping");
    if timeout(STOP, actors.stop()).await.is_err() {
        tracing::warn!("not everything ended within {STOP:?}; what is committed is safe");
    }
    ended
}

impl Actors {
    /// Says which core part died, if one did, and feeds systemd's watchdog while the store answers.
    async fn watch(&self) -> Result<(), &'static str> {
        let alive = [
            (self.buffer.connected(), "the buffer"),
            (self.status.connected(), "the status"),
            (self.uplink.as_ref().is_none_or(|(_, uplink)| uplink.connected()), "the uplink"),
            (self.commands.connected(), "the commands part"),
            (self.links.values().all(|owner| owner.link.connected()), "a link"),
        ];
        if let Some((_, dead)) = alive.into_iter().find(|(alive, _)| !alive) {
            return Err(dead);
        }
        match timeout(ANSWER, self.buffer.send(GetStats)).await {
            Ok(Ok(stats)) => {
                tracing::debug!(?stats, "buffer");
                if stats.is_stuck() {
                    tracing::error!(busy_for = ?stats.busy_for, "the disk gives no answer; the watchdog is not fed");
                } else {
                    notify(&[NotifyState::Watchdog]);
                }
                Ok(())
            }
            Ok(Err(_)) => Err("the buffer"),
            Err(_) => {
                tracing::error!("the buffer gives no answer; the watchdog is not fed");
                Ok(())
            }
        }
    }

    /// From the devices inwards, each awaited.
    async fn stop(self) {
        let Self { links, commands, uplink, status: _status, buffer, web: _web, .. } = self;
        let inwards = async {
            report(join_all(links.values().map(|owner| owner.link.send(link::Stop))).await);
            report([commands.send(commands::Stop).await]);
            if let Some((_, uplink)) = uplink {
                report([uplink.send(uplink::Stop).await]);
            }
        };
        if timeout(INWARDS, inwards).await.is_err() {
            tracing::warn!("not everything ended within {INWARDS:?}");
        }
        // Whatever hangs above: what is in memory gets onto the disk.
        report([buffer.send(Close).await]);
    }
}

fn report(stopped: impl IntoIterator<Item = Result<(), MailboxError>>) {
    for error in stopped.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "had stopped before");
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
