//! Watching: a small server of HTTP that shows what the gateway does, and changes nothing.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | numbers, in the text format of Prometheus |
//! | `/healthz` | 200 while the core works, else 503 with the reason |
//! | `/api/status` | gateway, links, devices, uplink and buffer as JSON |
//!
//! It asks the other parts when it is asked, and keeps nothing. Every connection carries one request, has a limit
//! on its time and its size, and there are at most [`CONNECTIONS`] of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::Recipient;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::buffer::GetStats;
use crate::clock::{Clock, Timestamp};
use crate::config::WebConfig;
use crate::counters::{Counter, Counters};
use crate::point::{Device, LinkId, Tags};
use crate::session::Backoff;
use crate::status::GetStates;

mod answer;
mod exposition;
mod gate;
mod health;
mod metrics;
mod process;
mod status;

use gate::Gate;

/// Connections at a time. More wait in the queue of the system; none of these lasts longer than [`LIFE`].
const CONNECTIONS: usize = 32;
/// The request has come by then.
const HEAD: Duration = Duration::from_secs(5);
/// A connection is over by then, whatever it does.
const LIFE: Duration = Duration::from_secs(10);
/// Largest head of a request in bytes, the least that hyper allows.
const HEAD_SIZE: usize = 8 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;
/// The wait before a port that is taken is tried again.
const REBIND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The wait after the system gave no connection, for want of descriptors.
const REST: Duration = Duration::from_millis(200);

/// What is needed to be watched.
pub struct Setup {
    /// Where, and by whom.
    pub config: WebConfig,
    /// The number of this run.
    pub run: u64,
    /// When it began.
    pub started: Timestamp,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
    /// What the parts count.
    pub counters: Rc<Counters>,
    /// The buffer's numbers.
    pub stats: Recipient<GetStats>,
    /// The states of devices and uplink.
    pub states: Recipient<GetStates>,
}

/// What is shown of the configuration.
#[derive(Debug)]
pub struct Shown {
    /// The gateway's id.
    pub gateway: String,
    /// Its name for people.
    pub label: Option<String>,
    /// What all links are called.
    pub links: BTreeMap<LinkId, Named>,
    /// All devices.
    pub devices: Vec<Arc<Device>>,
    /// What is not checked on the way to the broker.
    pub insecure: Option<&'static str>,
}

/// What a person calls something.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// A name.
    pub label: Option<String>,
    /// Free marks.
    pub tags: Tags,
}

/// What the server knows beside.
struct Site {
    setup: Setup,
    shown: RefCell<Shown>,
    gate: Gate,
    is_stopping: Cell<bool>,
    /// Answers given, by their code.
    answers: RefCell<BTreeMap<u16, u64>>,
    /// How often a connection had to wait for another to end.
    full: Counter,
}

/// The server. It ends when this is dropped.
pub struct Web {
    site: Rc<Site>,
    task: Option<JoinHandle<()>>,
}

impl Web {
    /// Listens, unless that is off. A port that is taken is tried again and again, and holds up nothing.
    #[must_use]
    pub fn start(setup: Setup, shown: Shown) -> Self {
        let listen_at = setup.config.listen.clone();
        let host = listen_at.as_ref().map_or("", |(host, _)| host);
        let site = Rc::new(Site {
            gate: Gate::new(host, setup.config.token.clone()),
            setup,
            shown: RefCell::new(shown),
            is_stopping: Cell::new(false),
            answers: RefCell::default(),
            full: Counter::default(),
        });
        let task = listen_at.map(|(host, port)| actix::spawn(listen(site.clone(), host, port)));
        Self { site, task }
    }

    /// It listens where this says, to whom this says.
    pub fn is_at(&self, config: &WebConfig) -> bool {
        self.site.setup.config == *config
    }

    /// Shows this from now on.
    pub fn show(&self, shown: Shown) {
        self.site.shown.replace(shown);
    }

    /// From now on the gateway is not well: it ends.
    pub fn say_stopping(&self) {
        self.site.is_stopping.set(true);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn listen(site: Rc<Site>, host: String, port: u16) {
    let mut backoff = Backoff::new(REBIND.0, REBIND.1);
    let mut is_told = false;
    let (listener, address) = loop {
        let bound = TcpListener::bind((host.as_str(), port)).await;
        match bound.and_then(|listener| listener.local_addr().map(|address| (listener, address))) {
            Ok(bound) => break bound,
            Err(error) if backoff.is_fresh() || is_told => tracing::debug!(%error, "web.listen"),
            Err(error) => {
                is_told = true;
                let what = advice(&error);
                tracing::warn!(%error, "web.listen = \"{host}:{port}\": {what}; the gateway runs without it and tries again");
            }
        }
        sleep(backoff.next_wait()).await;
    };
    tracing::info!("web: http://{address}");
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        if slots.available_permits() == 0 {
            site.full.count();
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(actix::spawn(converse(site.clone(), stream, slot))),
            Err(error) => {
                tracing::debug!(%error, "web: no connection");
                sleep(REST).await;
            }
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address",
        io::ErrorKind::PermissionDenied => "this user must not listen there",
        _ => "cannot listen there",
    }
}

/// One connection: one request, one answer, within the limits.
async fn converse(site: Rc<Site>, stream: TcpStream, _slot: OwnedSemaphorePermit) {
    let service = service_fn(|request: Request<Incoming>| {
        let site = site.clone();
        async move {
            let answer = answer::answer(&site, &request).await;
            let code = answer.status();
            *site.answers.borrow_mut().entry(code.as_u16()).or_default() += 1;
            tracing::debug!(method = %request.method(), path = request.uri().path(), %code, "web");
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LIFE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "web: a connection failed"),
        Err(_) => tracing::debug!("web: a connection took too long"),
    }
}
