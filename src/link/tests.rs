//! Links under paused time, with a driver that does as it is told and stand-ins for Buffer and Status.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Execute, Link, Setup, Stop, Task, TaskError};
use crate::address::{Address, Area};
use crate::buffer::Append;
use crate::clock::Clock;
use crate::config::{LinkConfig, Transport};
use crate::counters::Traffic;
use crate::drivers::{Driver, DriverError, Request, Span};
use crate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Raw, Sample};
use crate::record::{Name, RecordKind};
use crate::status::{Report, State};

/// What happens on the line, and when.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Opened,
    Asked(String),
    Written(String),
}

type Log = Rc<RefCell<Vec<(Duration, Seen)>>>;

/// Answers at once, unless the device's name says otherwise: `dead` is silent, `absent` is what a gateway cannot
/// reach, `panic` panics once.
struct Scripted {
    log: Log,
    start: Instant,
    has_panicked: Rc<RefCell<bool>>,
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

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let device = request.device.id.to_string();
        self.note(Seen::Asked(device.clone()));
        if device == "dead" {
            sleep_until(deadline).await;
            return Err(DriverError::Timeout);
        }
        if device == "absent" {
            return Err(DriverError::Refused(11));
        }
        assert!(device != "panic" || self.has_panicked.replace(true), "as it was told");
        sleep(Duration::from_millis(10)).await;
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
}

/// A link with these devices of two points, polled every second, with 200 ms of patience.
fn bench(devices: &[&str], opens: Vec<Result<(), DriverError>>) -> Bench {
    tokio::time::pause();
    let id = LinkId::new("line").unwrap();
    let device = |name: &&str| {
        Arc::new(Device {
            id: DeviceId::new(name).unwrap(),
            link: id.clone(),
            label: None,
            tags: None,
            protocol: Protocol::Simulator,
            poll_interval: Duration::from_secs(1),
            patience: Duration::from_millis(200),
            pause: Duration::ZERO,
            points: vec![point("a"), point("b")],
        })
    };
    let sink = Sink::default();
    let (records, reports) = (sink.records.clone(), sink.reports.clone());
    let sink = sink.start();
    let log = Log::default();
    let script = (log.clone(), Rc::new(RefCell::new(false)), Rc::new(RefCell::new(opens)));
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
        },
        driver: Rc::new(move || {
            let (log, has_panicked, opens) = script.clone();
            Box::new(Scripted { log, start, has_panicked, opens })
        }),
        devices: devices.iter().map(device).collect(),
        buffer: sink.clone().recipient(),
        traffic: Traffic::default(),
        status: sink.recipient(),
        layout: crate::config::Layout::Device,
        clock: Clock::Trusted,
    });
    Bench { link: link.start(), log, records, reports }
}

impl Bench {
    fn asked(&self, device: &str) -> Vec<Duration> {
        let seen = Seen::Asked(device.to_owned());
        self.log.borrow().iter().filter(|(_, what)| *what == seen).map(|(when, _)| *when).collect()
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

#[actix::test]
async fn a_dead_device_takes_a_tenth_of_the_line_and_its_neighbour_keeps_its_interval() {
    let bench = bench(&["dead", "alive"], Vec::new());
    sleep(Duration::from_secs(600)).await;
    let dead = bench.asked("dead");
    assert!(dead.len() >= 10, "tried at least once a minute: {dead:?}");
    let longest = dead.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
    assert!(longest <= Duration::from_secs(61), "{longest:?}");
    let busy = Duration::from_millis(200) * u32::try_from(dead.len()).unwrap();
    assert!(busy < Duration::from_secs(60), "{busy:?} of ten minutes");
    let polls = bench.asked("alive").len() / 2;
    assert!((598..=601).contains(&polls), "{polls} polls in 600 s");
    let offline =
        bench.reports.borrow().iter().any(|r| r.device.as_str() == "dead" && r.state == State::Offline);
    assert!(offline);
}

#[actix::test]
async fn a_device_that_a_gateway_cannot_reach_backs_off_like_a_silent_one() {
    let bench = bench(&["absent", "alive"], Vec::new());
    sleep(Duration::from_secs(600)).await;
    let asked = bench.asked("absent").len();
    assert!((10..30).contains(&asked), "asked {asked} times in ten minutes");
    let reports = bench.reports.borrow();
    let report = reports.iter().find(|report| report.device.as_str() == "absent").unwrap();
    assert_eq!((report.state, report.reason.as_deref()), (State::Offline, Some("exception-11")));
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"exception-11","b":"exception-11"}"#));
}

#[actix::test]
async fn after_a_time_out_the_rest_of_the_poll_is_not_asked() {
    let bench = bench(&["dead"], Vec::new());
    sleep(Duration::from_millis(900)).await;
    assert_eq!(bench.asked("dead").len(), 1, "two points, one request");
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"timeout","b":"timeout"}"#));
}

#[actix::test]
async fn a_command_waits_for_one_request_not_for_a_poll() {
    let bench = bench(&["alive"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    let result = bench.execute("alive", write(), Duration::from_secs(5)).await;
    assert_eq!(result.error, None);
    let order: Vec<Seen> = bench.log.borrow().iter().map(|(_, seen)| seen.clone()).collect();
    let asked = Seen::Asked("alive".to_owned());
    assert!(
        order.starts_with(&[Seen::Opened, asked.clone(), Seen::Written("alive".to_owned())]),
        "{order:?}"
    );
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.asked("alive").len(), 2, "the poll goes on afterwards");
}

#[actix::test]
async fn a_late_command_never_runs() {
    let bench = bench(&["dead", "alive"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    // The line is busy with the silent device for 200 ms.
    let result = bench.execute("alive", write(), Duration::from_millis(50)).await;
    assert_eq!(result.error, Some(TaskError::Late));
    sleep(Duration::from_secs(3)).await;
    assert!(!bench.log.borrow().iter().any(|(_, seen)| matches!(seen, Seen::Written(_))));
}

#[actix::test]
async fn more_commands_than_fit_are_told_busy() {
    let bench = bench(&["dead"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    let all = (0..20).map(|_| bench.execute("dead", write(), Duration::from_secs(5)));
    let results = futures_util::future::join_all(all).await;
    let busy = results.iter().filter(|result| matches!(result.error, Some(TaskError::Busy(_)))).count();
    assert_eq!(busy, 12, "eight wait, the rest is told at once");
    let written = bench.log.borrow().iter().filter(|(_, seen)| matches!(seen, Seen::Written(_))).count();
    assert_eq!(written, 8);
}

#[actix::test]
async fn what_the_device_keeps_is_told_not_what_was_written() {
    let bench = bench(&["stubborn"], Vec::new());
    let result = bench.execute("stubborn", write(), Duration::from_secs(5)).await;
    assert!(matches!(result.error, Some(TaskError::Unverified { .. })), "{result:?}");
    assert_eq!(result.values[0].1.to_string(), "0");
}

#[actix::test]
async fn a_panicking_driver_is_started_anew_and_told() {
    let bench = bench(&["panic"], Vec::new());
    sleep(Duration::from_secs(5)).await;
    let events: Vec<String> = bench
        .records
        .borrow()
        .iter()
        .filter(|(kind, _)| *kind == RecordKind::Event)
        .map(|(_, b)| b.clone())
        .collect();
    assert_eq!(events.len(), 1);
    assert!(
        events[0].contains(r#""event":"panic""#) && events[0].contains("as it was told"),
        "{}",
        events[0]
    );
    assert!(bench.asked("panic").len() > 4, "polled on");
}

#[actix::test]
async fn a_lost_link_is_opened_again_with_growing_waits_or_for_a_command() {
    let lost = || Err(DriverError::Lost("no such port".to_owned()));
    let bench = bench(&["alive"], (0..8).map(|_| lost()).collect());
    sleep(Duration::from_secs(12)).await;
    let opened = |bench: &Bench| bench.log.borrow().iter().filter(|(_, seen)| *seen == Seen::Opened).count();
    let before = opened(&bench);
    assert!((4..=6).contains(&before), "at once, at once again, then after 1, 2, 4, 8 s: {before}");
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"offline","b":"offline"}"#));
    let result = bench.execute("alive", write(), Duration::from_secs(1)).await;
    assert!(
        matches!(result.error, Some(TaskError::Failed { error: DriverError::Lost(_), .. })),
        "{result:?}"
    );
    assert_eq!(opened(&bench), before + 1, "tried for the command");
}

#[actix::test]
async fn a_stopped_link_asks_no_more() {
    let bench = bench(&["alive"], Vec::new());
    sleep(Duration::from_secs(2)).await;
    bench.link.send(Stop).await.unwrap();
    let before = bench.asked("alive").len();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.asked("alive").len(), before);
}
