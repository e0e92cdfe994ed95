//! Links under paused time, with a driver that does as it is told and stand-ins for Buffer and Status.

mod jobs;
mod lives;
mod turns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Execute, Link, Setup, Stop, Task, TaskError};
use crate::address::{Address, Area};
use crate::buffer::{Append, Recall, Remember};
use crate::clock::Clock;
use crate::config::{LinkConfig, Transport};
use crate::counters::Traffic;
use crate::drivers::{Driver, DriverError, Kept, Learnt, Request, Span};
use crate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Raw, Sample};
use crate::record::{Name, RecordKind};
use crate::status::{Report, State};

/// What happens on the line, and when.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Opened,
    Asked(String),
    Recalled(String),
    Written(String),
}

type Log = Rc<RefCell<Vec<(Duration, Seen)>>>;

/// Answers after 10 ms, unless the device's name says otherwise: `dead-1` is silent, `until-5-1` for five seconds, `noisy`
/// is on a line that is never quiet, `absent` is what a gateway cannot
/// reach, `panic` panics once, `slow-300` takes 300 ms, `stall` takes ten seconds once, `holey` teaches something once.
struct Scripted {
    log: Log,
    start: Instant,
    has_panicked: Rc<RefCell<bool>>,
    has_stalled: Rc<RefCell<bool>>,
    has_taught: Rc<RefCell<bool>>,
    opens: Rc<RefCell<Vec<Result<(), DriverError>>>>,
}

impl Scripted {
    fn note(&self, seen: Seen) {
        self.log.borrow_mut().push((self.start.elapsed(), seen));
    }
}

#[async_trait(?Send)]
impl Driver for Scripted {
    async fn open(&mut self, _: Instant) -> Result<(), DriverError> {
        self.note(Seen::Opened);
        self.opens.borrow_mut().pop().unwrap_or(Ok(()))
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        // A request for each point, so that there is something between two of them.
        let request =
            |point: &usize| Request { device: device.clone(), points: vec![*point], span: Span::default() };
        due.iter().map(request).collect()
    }

    fn learnt(&mut self, device: &Device) -> Option<Learnt> {
        let is_news = device.id.as_str() == "holey" && !self.has_taught.replace(true);
        let kept = Kept { holes: vec!["holding:7".to_owned()], value: b"seven".to_vec() };
        is_news.then_some(Learnt { kept: Some(kept) })
    }

    fn recall(&mut self, _: &Device, kept: &[u8]) {
        self.note(Seen::Recalled(String::from_utf8_lossy(kept).into_owned()));
    }

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let device = request.device.id.to_string();
        self.note(Seen::Asked(device.clone()));
        let until = device.strip_prefix("until-").and_then(|rest| rest.split('-').next()?.parse().ok());
        if device.starts_with("dead") || self.start.elapsed() < Duration::from_secs(until.unwrap_or(0)) {
            sleep_until(deadline).await;
            return Err(DriverError::Timeout);
        }
        if device == "noisy" {
            sleep_until(deadline).await;
            return Err(DriverError::Noise);
        }
        if device == "absent" {
            return Err(DriverError::Refused(11));
        }
        assert!(device != "panic" || self.has_panicked.replace(true), "as it was told");
        let time = device.strip_prefix("slow-").and_then(|millis| millis.parse().ok()).unwrap_or(10);
        let has_stalled = device != "stall" || self.has_stalled.replace(true);
        sleep(Duration::from_millis(if has_stalled { time } else { 10_000 })).await;
        let sample = |point: &usize| Sample { point: *point, raw: Ok(Raw::Words([7].as_slice().into())) };
        Ok(request.points.iter().map(sample).collect())
    }

    async fn write(
        &mut self,
        device: &Arc<Device>,
        _: usize,
        raw: &Raw,
        _: Instant,
    ) -> Result<Raw, DriverError> {
        self.note(Seen::Written(device.id.to_string()));
        Ok(if device.id.as_str() == "stubborn" { Raw::Words([0].as_slice().into()) } else { raw.clone() })
    }
}

#[derive(Default)]
struct Sink {
    records: Rc<RefCell<Vec<(RecordKind, String)>>>,
    reports: Rc<RefCell<Vec<Report>>>,
    kept: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Append> for Sink {
    type Result = MessageResult<Append>;

    fn handle(&mut self, Append(record): Append, _: &mut Context<Self>) -> Self::Result {
        let body = String::from_utf8_lossy(&record.body).into_owned();
        self.records.borrow_mut().push((record.kind, body));
        MessageResult(Name { run: 1, seq: 1 })
    }
}

impl Handler<Report> for Sink {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        self.reports.borrow_mut().push(report);
    }
}

impl Handler<Remember> for Sink {
    type Result = MessageResult<Remember>;

    fn handle(&mut self, Remember { key, value }: Remember, _: &mut Context<Self>) -> Self::Result {
        self.kept.borrow_mut().insert(key, value);
        MessageResult(Ok(()))
    }
}

impl Handler<Recall> for Sink {
    type Result = MessageResult<Recall>;

    fn handle(&mut self, Recall(key): Recall, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Ok(self.kept.borrow().get(&key).cloned().unwrap_or_default()))
    }
}

fn point(id: &str) -> Point {
    Point {
        writable: true,
        ..Point::new(
            PointId::new(id).unwrap(),
            Address::Register { area: Area::Holding, number: 0, bit: None },
            Kind::U16,
        )
    }
}

struct Bench {
    link: Addr<Link>,
    log: Log,
    records: Rc<RefCell<Vec<(RecordKind, String)>>>,
    reports: Rc<RefCell<Vec<Report>>>,
    kept: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    traffic: Traffic,
}

/// A device of two points, polled every second, with 200 ms of patience.
pub(super) fn device(name: &str) -> Device {
    Device {
        id: DeviceId::new(name).unwrap(),
        link: LinkId::new("line").unwrap(),
        label: None,
        tags: None,
        protocol: Protocol::Simulator,
        poll_interval: Duration::from_secs(1),
        align: false,
        patience: Duration::from_millis(200),
        pause: Duration::ZERO,
        points: vec![point("a"), point("b")],
    }
}

/// A link with such devices.
fn bench(devices: &[&str], opens: Vec<Result<(), DriverError>>) -> Bench {
    bench_of(devices.iter().map(|name| device(name)).collect(), 0.1, opens)
}

/// A link with any devices, of which a dead one may take so much of the line's time.
fn bench_of(devices: Vec<Device>, dead_share: f64, opens: Vec<Result<(), DriverError>>) -> Bench {
    tokio::time::pause();
    let id = LinkId::new("line").unwrap();
    let sink = Sink::default();
    let (records, reports, kept) = (sink.records.clone(), sink.reports.clone(), sink.kept.clone());
    let sink = sink.start();
    let (log, traffic) = (Log::default(), Traffic::default());
    let script = (log.clone(), Rc::new(RefCell::new(opens)));
    let flags: [Rc<RefCell<bool>>; 3] = Default::default();
    let start = Instant::now();
    let link = Link::new(Setup {
        config: LinkConfig {
            id: id.clone(),
            label: None,
            tags: None,
            transport: Transport::Simulator,
            timeout: Duration::from_millis(200),
            pause: Duration::ZERO,
            pause_after_connect: Duration::ZERO,
            dead_share,
        },
        driver: Rc::new(move || {
            let (log, opens) = script.clone();
            let [has_panicked, has_stalled, has_taught] = flags.clone();
            Box::new(Scripted { log, start, has_panicked, has_stalled, has_taught, opens })
        }),
        devices: devices.into_iter().map(Arc::new).collect(),
        buffer: sink.clone().recipient(),
        remember: sink.clone().recipient(),
        recall: sink.clone().recipient(),
        traffic: traffic.clone(),
        status: sink.recipient(),
        layout: crate::config::Layout::Device,
        clock: Clock::Trusted,
    });
    Bench { link: link.start(), log, records, reports, kept, traffic }
}

impl Bench {
    fn asked(&self, device: &str) -> Vec<Duration> {
        let seen = Seen::Asked(device.to_owned());
        self.log.borrow().iter().filter(|(_, what)| *what == seen).map(|(when, _)| *when).collect()
    }

    /// What became of each poll of a device, as JSON members.
    fn readings(&self, device: &str) -> Vec<String> {
        let is_its = |body: &&String| body.contains(&format!("\"device\":\"{device}\""));
        let records = self.records.borrow();
        let readings = records.iter().filter(|(kind, _)| *kind == RecordKind::Readings);
        readings.map(|(_, body)| body).filter(is_its).cloned().collect()
    }

    async fn execute(&self, device: &str, task: Task, within: Duration) -> super::TaskResult {
        let execute =
            Execute { device: DeviceId::new(device).unwrap(), task, deadline: Instant::now() + within };
        self.link.send(execute).await.unwrap()
    }
}

fn write() -> Task {
    Task::Write(vec![(0, Raw::Words([7].as_slice().into()))])
}
