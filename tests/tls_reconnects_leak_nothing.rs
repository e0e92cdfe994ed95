//! A TLS connection that is cut again and again, at rest, with readings on their way and in the middle of the handshake,
//! costs neither a thread nor a file nor memory, and loses no reading.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::certificates::{Authority, Kind, Paper};
use support::{Broker, Gateway, LIMIT, Process, Records, Subscriber, free_port, head_at, rounds};
use tempfile::TempDir;

const SMALL: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"50ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";
/// A tenth of the connections come before the measuring: caches fill, the allocator takes what it keeps.
const WARM_UP: usize = 10;
/// What the memory may grow by: 10 kB for each of 500 connections.
const GROWTH: u64 = 5 << 20;
/// Each so many connections are cut inside the handshake.
const UNFINISHED: usize = 4;
/// More bytes than a broker sends before it waits for the client's part of the handshake.
const HANDSHAKE: usize = 2_000;

/// A relay that carries bytes until it is told to cut.
struct Cutter {
    port: u16,
    open: Arc<Mutex<VecDeque<[TcpStream; 2]>>>,
}

impl Cutter {
    fn before(broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(VecDeque::new()));
        let shared = Arc::clone(&open);
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let server = TcpStream::connect(("127.0.0.1", broker)).unwrap();
                // Another place in the handshake each time.
                let is_unfinished = number % UNFINISHED == UNFINISHED - 1;
                let most = if is_unfinished { number * 37 % HANDSHAKE } else { usize::MAX };
                let both = || [client.try_clone().unwrap(), server.try_clone().unwrap()];
                if !is_unfinished {
                    shared.lock().unwrap().push_back(both());
                }
                let ([client, server], [to, from]) = (both(), both());
                thread::spawn(move || carry([client, server], usize::MAX));
                thread::spawn(move || carry([from, to], most));
            }
        });
        Self { port, open }
    }

    /// Cuts every connection that was not cut before.
    fn cut(&self) {
        for pair in self.open.lock().unwrap().drain(..) {
            close(&pair);
        }
    }
}

/// Carries so many bytes from one to the other, and closes both.
fn carry([mut from, mut to]: [TcpStream; 2], most: usize) {
    let mut buffer = vec![0; 16 << 10];
    let mut left = most;
    while left > 0 {
        let take = buffer.len().min(left);
        let Ok(length @ 1..) = from.read(&mut buffer[..take]) else { break };
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        left -= length;
    }
    close(&[from, to]);
}

fn close(pair: &[TcpStream; 2]) {
    // The other thread, or the gateway, may have closed it.
    for stream in pair {
        stream.shutdown(Shutdown::Both).ok();
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    threads: usize,
    files: usize,
    memory: u64,
}

impl Held {
    fn of(process: &Process) -> Self {
        let folder = Path::new("/proc").join(process.pid().to_string());
        let count = |name| fs::read_dir(folder.join(name)).unwrap().count();
        Self { threads: count("task"), files: count("fd"), memory: process.memory() }
    }

    /// What it holds while it is connected, with nothing left of an earlier connection: the library lets a client go a
    /// moment after its connection. Waits until it is no more than `most`, or gives up and returns it as it is.
    fn settled(process: &Process, most: Option<Self>) -> Self {
        let end = Instant::now() + LIMIT;
        let (mut last, mut same) = (Self::of(process), 0);
        loop {
            thread::park_timeout(Duration::from_millis(50));
            let now = Self::of(process);
            let is_same = (now.threads, now.files) == (last.threads, last.files);
            same = if is_same { same + 1 } else { 0 };
            last = now;
            let fits = most.is_none_or(|most| now.threads <= most.threads && now.files <= most.files);
            if (same >= 20 && fits) || Instant::now() > end {
                return now;
            }
        }
    }
}

struct Running {
    id: &'static str,
    cutter: Cutter,
    gateway: Gateway,
    _folder: TempDir,
}

impl Running {
    fn start(id: &'static str, broker: u16, version: &str, tls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cutter = Cutter::before(broker);
        let head = head_at(folder.path(), &format!("mqtts://127.0.0.1:{}", cutter.port))
            .replace("id = \"g\"", &format!("id = \"{id}\""))
            .replace("level = \"debug\"", "level = \"info\"")
            .replace(r#"min = "200ms", max = "1s""#, r#"min = "100ms", max = "100ms""#);
        let config = format!("{head}version = \"{version}\"\n[mqtt.tls]\n{tls}{SMALL}");
        let gateway = Gateway::run(folder.path(), &config);
        Self { id, cutter, gateway, _folder: folder }
    }

    /// Waits for the connection of this number, from 1.
    fn wait(&mut self, number: usize) {
        let what = format!("connection {number} of {}", self.id);
        self.gateway.process().wait(&what, LIMIT, |lines| {
            let connected = lines.iter().filter(|line| line.contains("connected to the broker"));
            (connected.count() >= number).then_some(())
        });
    }
}

#[test]
fn threads_files_and_memory_stay_what_they_were() {
    let connections = rounds(60, 500);
    let authority = Authority::new("own");
    let [good, plant]: [Paper; 2] = ["good", "plant"].map(|name| authority.issue(name, Kind::Good));
    let port = free_port();
    let broker = Broker::with(&authority.listener(port, &good));
    let watcher = Subscriber::start(&broker, "fieldgate/+/small/readings");
    let ca = format!("ca = \"{}\"\n", authority.file().display());
    let own = format!("{ca}cert = \"{}\"\nkey = \"{}\"\n", plant.cert.display(), plant.key.display());
    let mut all = [Running::start("old", port, "3.1.1", &ca), Running::start("new", port, "5", &own)];

    let mut before = Vec::new();
    for number in 1..=connections {
        for running in &mut all {
            running.wait(number);
        }
        if number == connections / WARM_UP {
            before = all.each_mut().map(|running| Held::settled(running.gateway.process(), None)).into();
        }
        // Some connections are cut while they are greeted, some when readings are on their way.
        if number % 2 == 0 {
            let [one, other] =
                all.each_ref().map(|running| format!("fieldgate/{}/small/readings", running.id));
            let seen = watcher.messages().len();
            watcher.wait("a reading of both", LIMIT, |messages| {
                let new = &messages[seen..];
                let has = |topic: &str| new.iter().any(|message| message.topic == topic);
                (has(&one) && has(&other)).then_some(())
            });
        }
        if number < connections {
            for running in &all {
                running.cutter.cut();
            }
        }
    }

    for (running, before) in all.iter_mut().zip(before) {
        let after = Held::settled(running.gateway.process(), Some(before));
        let growth = after.memory.saturating_sub(before.memory);
        eprintln!(
            "{}: {connections} connections, {} threads then {}, {} files then {}, {} kB then {}",
            running.id,
            before.threads,
            after.threads,
            before.files,
            after.files,
            before.memory >> 10,
            after.memory >> 10
        );
        assert!(after.threads <= before.threads, "threads: {before:?}, {after:?}");
        assert!(after.files <= before.files, "files: {before:?}, {after:?}");
        assert!(growth <= GROWTH, "memory: {before:?}, {after:?}");
        assert!(running.gateway.stop().success());
    }
    let messages = watcher.messages();
    for Running { id, .. } in &all {
        let own: Vec<_> = messages.iter().filter(|m| m.topic.contains(&format!("/{id}/"))).cloned().collect();
        let records = Records::of(&own);
        let runs = records.runs();
        assert_eq!(runs.len(), 1, "{id} died: {runs:?}");
        assert_eq!(records.holes(runs[0]), [0_u64; 0], "{id}");
    }
}
