//! The actors, and how they follow a configuration: at the start nothing runs yet, at a reload what is the same
//! goes on undisturbed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::reload::Fixed;
use super::{GatewayError, client_id, report};
use crate::buffer::Buffer;
use crate::clock::Timestamp;
use crate::commands::{self, Assign, Commands, Reload, Target};
use crate::config::{CommandsConfig, Config, Layout, LinkConfig, MqttConfig, WebConfig};
use crate::counters::Counters;
use crate::drivers;
use crate::link::{self, Link};
use crate::point::{Device, LinkId};
use crate::status::{Define, Status};
use crate::uplink::{self, Uplink};
use crate::web::{self, Named, Shown, Web};

/// A link that must give up its port ends the request under way first. One that takes longer is left behind; the new
/// owner of the port then tries until it is free.
const STOP_LINKS: Duration = Duration::from_secs(8);

/// The running actors.
pub(super) struct Actors {
    pub(super) run: u64,
    started: Timestamp,
    pub(super) fixed: Fixed,
    pub(super) buffer: Addr<Buffer>,
    pub(super) status: Addr<Status>,
    pub(super) commands: Addr<Commands>,
    pub(super) links: BTreeMap<LinkId, Owner>,
    /// Which link each device is on.
    routes: uplink::Links,
    pub(super) uplink: Option<(Destination, Addr<Uplink>)>,
    pub(super) web: Option<Web>,
    counters: Rc<Counters>,
}

/// A link with what it was made from.
pub(super) struct Owner {
    made_from: Made,
    pub(super) link: Addr<Link>,
}

/// What a link is made from.
#[derive(PartialEq)]
struct Made {
    config: LinkConfig,
    layout: Layout,
    devices: Vec<Arc<Device>>,
}

/// What the uplink is made from.
#[derive(PartialEq)]
pub(super) struct Destination {
    config: MqttConfig,
    takes_commands: bool,
}

impl Actors {
    /// Opens the buffer and starts everything.
    pub(super) async fn start(
        mut config: Config,
        reload: mpsc::Sender<Reload>,
    ) -> Result<Self, GatewayError> {
        client_id::fill_in(&mut config)?;
        let clock = config.gateway.clock;
        let (buffer, run) = Buffer::start(config.buffer.clone(), clock).await?;
        let (links, devices) = (config.links.len(), config.devices.len());
        tracing::info!(gateway = config.gateway.id, run, links, devices, "started");
        let status = Status::new(run).start();
        let counters = Rc::new(Counters::default());
        let commands = Commands::new(commands::Setup {
            assigned: Rc::new(Assign::default()),
            reload,
            clock,
            append: buffer.clone().recipient(),
            begin: buffer.clone().recipient(),
            finish: buffer.clone().recipient(),
            unfinished: buffer.clone().recipient(),
            stats: buffer.clone().recipient(),
            states: status.clone().recipient(),
            counters: counters.commands.clone(),
        })
        .start();
        let fixed = Fixed::of(&config);
        let (links, uplink, web) = (BTreeMap::new(), None, None);
        let mut actors = Self {
            run,
            started: Timestamp::now(),
            fixed,
            buffer,
            status,
            commands,
            links,
            routes: uplink::Links::default(),
            uplink,
            web,
            counters,
        };
        actors.follow(config).await;
        Ok(actors)
    }

    /// Makes the actors what the configuration says, and gives the names of what is new, gone or other.
    pub(super) async fn follow(&mut self, config: Config) -> Vec<String> {
        let Config { gateway, mqtt, commands, web, links, devices, .. } = config;
        let devices: Vec<Arc<Device>> = devices.into_iter().map(Arc::new).collect();
        let name = |link: &LinkConfig| {
            (link.id.clone(), Named { label: link.label.clone(), tags: link.tags.clone() })
        };
        let named = links.iter().map(name).collect();
        let mut wanted: BTreeMap<LinkId, Made> = BTreeMap::new();
        for config in links {
            let devices = devices.iter().filter(|device| device.link == config.id).cloned().collect();
            wanted.insert(config.id.clone(), Made { config, layout: mqtt.layout, devices });
        }
        let mut changed = self.stop_links(&wanted).await;
        report([self.status.send(Define(devices.clone())).await]);
        changed.extend(self.start_links(wanted));
        changed.sort();
        changed.dedup();
        self.assign(&commands, &devices).await;
        *self.routes.borrow_mut() =
            devices.iter().map(|device| (device.id.clone(), device.link.clone())).collect();
        let (label, insecure) = (gateway.label, mqtt.insecure());
        if self.be_watched(web, Shown { gateway: gateway.id, label, links: named, devices, insecure }) {
            changed.push("web".to_owned());
        }
        let destination = Destination { config: mqtt, takes_commands: commands.enabled };
        if self.connect(destination).await {
            changed.push("mqtt".to_owned());
        }
        changed
    }

    /// Stops the links that are gone or become others, all at once: a new one may need the port of an old one.
    async fn stop_links(&mut self, wanted: &BTreeMap<LinkId, Made>) -> Vec<String> {
        let stays = |id: &LinkId, owner: &Owner| wanted.get(id) == Some(&owner.made_from);
        let gone: Vec<(LinkId, Owner)> = self.links.extract_if(.., |id, owner| !stays(id, owner)).collect();
        let stops = join_all(gone.iter().map(|(_, owner)| owner.link.send(link::Stop)));
        if let Ok(stopped) = timeout(STOP_LINKS, stops).await {
            report(stopped);
        } else {
            tracing::warn!("a link did not end within {STOP_LINKS:?}");
        }
        gone.into_iter().map(|(id, _)| format!("links.{id}")).collect()
    }

    fn start_links(&mut self, wanted: BTreeMap<LinkId, Made>) -> Vec<String> {
        let mut started = Vec::new();
        for (id, made_from) in wanted {
            if self.links.contains_key(&id) {
                continue;
            }
            let of_devices = made_from.devices.iter().map(|device| &device.id);
            let link = Link::new(link::Setup {
                traffic: self.counters.traffic(&id, of_devices),
                devices: made_from.devices.clone(),
                layout: made_from.layout,
                driver: Rc::new({
                    let (config, devices) = (made_from.config.clone(), made_from.devices.clone());
                    move || drivers::create(&config, &devices)
                }),
                config: made_from.config.clone(),
                buffer: self.buffer.clone().recipient(),
                remember: self.buffer.clone().recipient(),
                recall: self.buffer.clone().recipient(),
                status: self.status.clone().recipient(),
                clock: self.fixed.clock,
            });
            started.push(format!("links.{id}"));
            self.links.insert(id, Owner { made_from, link: link.start() });
        }
        started
    }

    async fn assign(&self, config: &CommandsConfig, devices: &[Arc<Device>]) {
        let target = |device: &Arc<Device>| {
            let link = self.links.get(&device.link)?.link.clone().recipient();
            Some((device.id.clone(), Target { device: device.clone(), link }))
        };
        let targets = devices.iter().filter_map(target).collect();
        let assign = Assign { targets, timeout: config.timeout, admin: config.admin };
        report([self.commands.send(assign).await]);
    }

    /// Listens elsewhere or to others, if that is other; what is shown follows in any case.
    fn be_watched(&mut self, config: WebConfig, shown: Shown) -> bool {
        if let Some(web) = &self.web
            && web.is_at(&config)
        {
            web.show(shown);
            return false;
        }
        // The port may be the same.
        self.web = None;
        let setup = web::Setup {
            config,
            run: self.run,
            started: self.started,
            clock: self.fixed.clock,
            counters: self.counters.clone(),
            stats: self.buffer.clone().recipient(),
            states: self.status.clone().recipient(),
        };
        self.web = Some(Web::start(setup, shown));
        true
    }

    /// Puts a new uplink in the place of the old, if it has to be another one.
    async fn connect(&mut self, destination: Destination) -> bool {
        if self.uplink.as_ref().is_some_and(|(present, _)| *present == destination) {
            return false;
        }
        if let Some((_, uplink)) = self.uplink.take() {
            report([uplink.send(uplink::Stop).await]);
        }
        let uplink = Uplink::new(uplink::Setup {
            config: destination.config.clone(),
            run: self.run,
            clock: self.fixed.clock,
            rewind: self.buffer.clone().recipient(),
            take: self.buffer.clone().recipient(),
            ack: self.buffer.clone().recipient(),
            set_aside: self.buffer.clone().recipient(),
            remember: self.buffer.clone().recipient(),
            recall: self.buffer.clone().recipient(),
            watch: self.status.clone().recipient(),
            report: self.status.clone().recipient(),
            links: self.routes.clone(),
            commands: destination.takes_commands.then(|| self.commands.clone().recipient()),
            counters: self.counters.uplink.clone(),
        });
        self.uplink = Some((destination, uplink.start()));
        true
    }
}
