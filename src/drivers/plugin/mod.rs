//! Somebody else's program as a driver: JSON lines on its stdin and stdout, one request at a time.
//! `plugins/README.md` is the other side of this.
//!
//! Nothing that the program does is believed without a look: an answer counts only by the number of the request it
//! belongs to, and what it writes, how much and how fast has bounds. What goes beyond ends the process with all it
//! has started; the link begins it anew, with the back-off of a lost link.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use self::child::{Child, Gone};
use self::wire::Answer;
use super::{Driver, DriverError, Request, Span};
use crate::config::{LinkConfig, PluginConfig};
use crate::decode::{decode, encode};
use crate::point::{Device, LinkId, Point, Raw, Sample, Value};

mod child;
mod stderr;
mod wire;

/// Points of one request, so that request and answer stay short beside their bounds.
const POINTS: usize = 250;
/// Requests in a row without an answer after which a plugin is taken to hang.
const PATIENCE: u32 = 3;
/// Least time from one start to the next: a program that dies at once must not keep the machine busy with starts.
const PAUSE: Duration = Duration::from_secs(1);

/// The driver `plugin:NAME`.
pub struct Plugin {
    config: PluginConfig,
    link: LinkId,
    timeout: Duration,
    devices: Vec<Arc<Device>>,
    child: Option<Child>,
    started: Option<Instant>,
    /// The number of the last request; it goes on over restarts.
    id: u64,
    /// Requests in a row without an answer.
    unanswered: u32,
    /// Answers that came too late, and lines that were none, between two requests.
    skipped: u64,
}

impl Plugin {
    /// The driver of a link with these devices; nothing is started before [`Driver::open`].
    #[must_use]
    pub fn new(config: PluginConfig, link: &LinkConfig, devices: &[Arc<Device>]) -> Self {
        Self {
            config,
            link: link.id.clone(),
            timeout: link.timeout,
            devices: devices.to_vec(),
            child: None,
            started: None,
            id: 0,
            unanswered: 0,
            skipped: 0,
        }
    }

    /// Sends a request and makes something of its answer.
    async fn ask<T>(
        &mut self,
        request: impl FnOnce(&Self, u64) -> Option<Vec<u8>>,
        judge: impl Fn(&Answer) -> Result<T, DriverError>,
        deadline: Instant,
    ) -> Result<T, DriverError> {
        let Some(mut child) = self.child.take() else {
            return Err(DriverError::Lost("the plugin does not run".to_owned()));
        };
        self.id += 1;
        let id = self.id;
        let request = request(self, id)
            .ok_or_else(|| DriverError::Malformed("the value cannot be written as JSON".to_owned()));
        let asked = match request {
            // A call that was dropped may have left the half of a line.
            Ok(_) if child.is_deaf() => Err(Gone::Refused("does not read its stdin".to_owned())),
            Ok(request) => self.settle(&mut child, request),
            Err(error) => {
                self.child = Some(child);
                return Err(error);
            }
        };
        let heard = match asked {
            Ok(()) => self.hear(&mut child, id, judge, deadline).await,
            Err(gone) => Err(gone),
        };
        match heard {
            Ok(result) => {
                self.child = Some(child);
                result
            }
            Err(gone) => {
                self.unanswered = 0;
                let why = child.end(gone).await;
                Err(DriverError::Lost(format!("the plugin {} was given up: {why}", self.config.name)))
            }
        }
    }

    /// Passes over what came since the last answer, then sends the request.
    fn settle(&mut self, child: &mut Child, request: Vec<u8>) -> Result<(), Gone> {
        let (last, link) = (self.id - 1, &self.link);
        let (before, mut skipped, mut early) = (self.skipped, self.skipped, None);
        let asked = child.ask(request, |line| {
            skipped += 1;
            // One of them tells it all; the number tells the rest.
            if skipped == before + 1 {
                debug!(%link, skipped, line = wire::shown(&String::from_utf8_lossy(line)), "a line nobody waits for");
            }
            early = early.or(wire::parse(line).ok().map(|answer| answer.id).filter(|id| *id > last));
        });
        self.skipped = skipped;
        match early {
            Some(id) => Err(foreign(id)),
            None => asked,
        }
    }

    /// Waits for the answer to request `id`. `Err`: the process is of no more use.
    async fn hear<T>(
        &mut self,
        child: &mut Child,
        id: u64,
        judge: impl Fn(&Answer) -> Result<T, DriverError>,
        deadline: Instant,
    ) -> Result<Result<T, DriverError>, Gone> {
        let skipped = self.skipped;
        // Looked at each time: lines that are always ready would keep the timer from being asked.
        while Instant::now() < deadline {
            let Ok(line) = timeout_at(deadline, child.line()).await else { break };
            let line = line?;
            let answer = match wire::parse(&line) {
                Ok(answer) => answer,
                // The answer itself may still come; then its number is an old one.
                Err(error) => return Ok(Err(error)),
            };
            if answer.id > id {
                return Err(foreign(answer.id));
            }
            if answer.id < id {
                self.skipped += 1;
                if skipped == self.skipped - 1 {
                    debug!(link = %self.link, skipped = self.skipped, id = answer.id, "an answer came too late");
                }
                continue;
            }
            self.unanswered = 0;
            return Ok(judge(&answer));
        }
        if child.has_ended() {
            return Err(Gone::Ended);
        }
        self.unanswered += 1;
        if child.is_deaf() {
            return Err(Gone::Refused("does not read its stdin".to_owned()));
        }
        if self.unanswered >= PATIENCE {
            return Err(Gone::Refused(format!("gave no answer to {PATIENCE} requests in a row")));
        }
        Ok(Err(DriverError::Timeout))
    }
}

fn foreign(id: u64) -> Gone {
    Gone::Refused(format!("answers request {id}, which it was never sent"))
}

/// The raw value of a point: a number without its scale, a text, a boolean.
fn bare(point: &Point) -> Point {
    Point {
        bits: point.bits,
        order: point.order,
        ..Point::new(point.id.clone(), point.address.clone(), point.kind)
    }
}

#[async_trait(?Send)]
impl Driver for Plugin {
    async fn open(&mut self, deadline: Instant) -> Result<(), DriverError> {
        self.child = None;
        if let Some(next) = self.started.map(|started| started + PAUSE).filter(|next| *next > Instant::now())
        {
            if next >= deadline {
                return Err(DriverError::Lost(format!(
                    "the plugin {} was started just now",
                    self.config.name
                )));
            }
            sleep_until(next).await;
        }
        self.started = Some(Instant::now());
        self.unanswered = 0;
        match Child::start(&self.config, &self.link) {
            Ok(child) => self.child = Some(child),
            Err(Gone::Ended) => return Err(DriverError::Lost("the plugin ended".to_owned())),
            Err(Gone::Refused(why)) => {
                return Err(DriverError::Lost(format!("the plugin {} {why}", self.config.name)));
            }
        }
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let request = |own: &Self, id| {
            let devices = own.devices.iter().map(AsRef::as_ref);
            Some(wire::open(id, timeout, &own.config.options, devices))
        };
        match self.ask(request, |answer| answer.opened().map(drop), deadline).await {
            Err(error @ DriverError::Lost(_)) => {
                self.child = None;
                Err(error)
            }
            Err(error) => {
                self.child = None;
                Err(DriverError::Lost(format!("the plugin {} does not open: {error}", self.config.name)))
            }
            Ok(()) => Ok(()),
        }
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        let request = |points: &[usize]| Request {
            device: device.clone(),
            points: points.to_vec(),
            span: Span::default(),
        };
        due.chunks(POINTS).map(request).collect()
    }

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        if self.child.is_none() {
            // A write that was not answered has ended it.
            self.open(deadline).await?;
        }
        let Request { device, points, .. } = request;
        let line = |_: &Self, id| {
            let points = points.iter().filter_map(|index| device.points.get(*index));
            Some(wire::read(id, device, points))
        };
        self.ask(line, |answer| answer.samples(device, points), deadline).await
    }

    async fn write(
        &mut self,
        device: &Arc<Device>,
        point: usize,
        raw: &Raw,
        deadline: Instant,
    ) -> Result<Raw, DriverError> {
        let Some(point) = device.points.get(point) else {
            return Err(DriverError::Malformed("no such point".to_owned()));
        };
        if self.child.is_none() {
            self.open(deadline).await?;
        }
        let bare = bare(point);
        let wanted = decode(&bare, raw).map_err(|reason| DriverError::Malformed(reason.to_string()))?;
        let line = |_: &Self, id| wire::write(id, device, point, &wanted);
        let answered = self.ask(line, |answer| answer.written(point), deadline).await;
        if answered == Err(DriverError::Timeout) {
            // What it still holds must not be done when nobody expects it any more.
            if let Some(child) = self.child.take() {
                let why = child.end(Gone::Refused("did not answer a write".to_owned())).await;
                debug!(link = %self.link, why, "the plugin is given up");
            }
        }
        let found = value(&bare, &answered?)?;
        if found == wanted {
            return Ok(raw.clone());
        }
        encode(&bare, &found).map_err(|error| DriverError::Unconfirmed(error.to_string()))
    }
}

/// What the plugin says of a point after a write.
fn value(bare: &Point, raw: &Raw) -> Result<Value, DriverError> {
    decode(bare, raw)
        .map_err(|reason| DriverError::Unconfirmed(format!("{} is {reason} after the write", bare.id)))
}
