//! The whole gateway: the only place where actors learn of each other.
//!
//! It starts them from the buffer outwards, watches that the core lives, and stops them from the devices
//! inwards, so that what was read last still gets out or onto the disk.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval_at, timeout};

use crate::buffer::store::StoreError;
use crate::buffer::{self, Buffer, Close, GetStats};
use crate::commands::{self, Commands, Target};
use crate::config::Config;
use crate::drivers;
use crate::link::{self, Link};
use crate::point::{Device, LinkId};
use crate::status::Status;
use crate::uplink::{self, Uplink};

/// How often the core is looked at.
const TICK: Duration = Duration::from_secs(5);
/// The buffer answers within this, or the watchdog is not fed.
const ANSWER: Duration = Duration::from_secs(10);
/// All of an orderly stop; systemd waits longer before it kills.
const STOP: Duration = Duration::from_secs(8);

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

/// The running actors.
struct Actors {
    links: Vec<Addr<Link>>,
    commands: Option<Addr<Commands>>,
    uplink: Addr<Uplink>,
    status: Addr<Status>,
    buffer: Addr<Buffer>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), GatewayError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let actors = start(config).await?;
    notify(NotifyState::Ready);
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
        }
    };
    notify(NotifyState::Stopping);
    tracing::info!("stopping");
    if timeout(STOP, actors.stop()).await.is_err() {
        tracing::warn!("not everything ended within {STOP:?}; what is committed is safe");
    }
    ended
}

async fn start(config: Config) -> Result<Actors, GatewayError> {
    let Config {
        gateway, buffer: buffer_config, mut mqtt, commands: commands_config, links, devices, ..
    } = config;
    let (clock, layout) = (gateway.clock, mqtt.layout);
    if mqtt.client_id.contains("{random}") {
        let random = random_text(&buffer_config.path.with_added_extension("client"))?;
        mqtt.client_id = mqtt.client_id.replace("{random}", &random);
    }
    let (buffer, run) = Buffer::start(buffer_config, clock).await?;
    tracing::info!(gateway = gateway.id, run, links = links.len(), devices = devices.len(), "started");
    let devices: Vec<Rc<Device>> = devices.into_iter().map(Rc::new).collect();
    let status = Status::new(run, &devices).start();

    let mut by_id: HashMap<LinkId, Addr<Link>> = HashMap::new();
    for config in links {
        let id = config.id.clone();
        let link = Link::new(link::Setup {
            devices: devices.iter().filter(|device| device.link == id).cloned().collect(),
            layout,
            driver: Rc::new({
                let config = config.clone();
                move || drivers::create(&config)
            }),
            config,
            buffer: buffer.clone().recipient(),
            status: status.clone().recipient(),
            clock,
        });
        by_id.insert(id, link.start());
    }

    let commands = commands_config.enabled.then(|| {
        let target = |device: &Rc<Device>| {
            let link = by_id.get(&device.link)?.clone().recipient();
            Some((device.id.clone(), Target { device: device.clone(), link }))
        };
        Commands::new(commands::Setup {
            targets: devices.iter().filter_map(target).collect(),
            timeout: commands_config.timeout,
            clock,
            append: buffer.clone().recipient(),
            begin: buffer.clone().recipient(),
            finish: buffer.clone().recipient(),
            unfinished: buffer.clone().recipient(),
            stats: buffer.clone().recipient(),
            states: status.clone().recipient(),
        })
        .start()
    });

    let uplink = Uplink::new(uplink::Setup {
        config: mqtt,
        run,
        clock,
        rewind: buffer.clone().recipient(),
        take: buffer.clone().recipient(),
        ack: buffer.clone().recipient(),
        set_aside: buffer.clone().recipient(),
        watch: status.clone().recipient(),
        report: status.clone().recipient(),
        links: devices.iter().map(|device| (device.id.clone(), device.link.clone())).collect(),
        commands: commands.clone().map(Addr::recipient),
    })
    .start();
    Ok(Actors { links: by_id.into_values().collect(), commands, uplink, status, buffer })
}

impl Actors {
    /// Says which core part died, if one did, and feeds systemd's watchdog while the store answers.
    async fn watch(&self) -> Result<(), &'static str> {
        let alive = [
            (self.buffer.connected(), "the buffer"),
            (self.status.connected(), "the status"),
            (self.uplink.connected(), "the uplink"),
            (self.commands.as_ref().is_none_or(Addr::connected), "the commands part"),
            (self.links.iter().all(Addr::connected), "a link"),
        ];
        if let Some((_, dead)) = alive.into_iter().find(|(alive, _)| !alive) {
            return Err(dead);
        }
        match timeout(ANSWER, self.buffer.send(GetStats)).await {
            Ok(Ok(stats)) => {
                tracing::debug!(?stats, "buffer");
                if stats.busy_for < ANSWER {
                    notify(NotifyState::Watchdog);
                } else {
                    tracing::error!(busy_for = ?stats.busy_for, "the disk gives no answer; the watchdog is not fed");
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
        let Self { links, commands, uplink, status: _status, buffer } = self;
        report(join_all(links.iter().map(|link| link.send(link::Stop))).await);
        if let Some(commands) = commands {
            report([commands.send(commands::Stop).await]);
        }
        report([uplink.send(uplink::Stop).await]);
        report([buffer.send(Close).await]);
    }
}

fn report(stopped: impl IntoIterator<Item = Result<(), MailboxError>>) {
    for error in stopped.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "had stopped before");
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Ten characters, made once and kept in this file.
fn random_text(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 10 => Ok(text.trim().to_owned()),
        Ok(_) => make_random_text(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_random_text(path),
        Err(error) => Err(error),
    }
}

fn make_random_text(path: &Path) -> io::Result<String> {
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(10).collect();
    buffer::store::write_synced(path, &text)?;
    Ok(text)
}
