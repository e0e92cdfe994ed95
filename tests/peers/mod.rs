//! Starts the Python peers and talks to them.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod fake;
pub(crate) mod matrix;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fieldgate::address::{Address, Area};
use fieldgate::config::{Framing, Medium, SerialLine};
use fieldgate::drivers::modbus::{Modbus, Settings};
use fieldgate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Reads};
use tokio::time::Instant;

/// How long a peer may take to say something, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running Python peer; ends with this value, and by itself when the test process ends.
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// What it said after `ready`: a port or a path.
    pub(crate) place: String,
}

impl Peer {
    /// Starts `tests/peers/SCRIPT` and waits until it is ready.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("FIELDGATE_TEST_PYTHON")
            .map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
        assert!(
            python.exists(),
            "{} is missing: run `make test`, which installs the test peers",
            python.display()
        );
        let mut child = Command::new(python)
            .arg(root.join("tests/peers").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut peer = Self { child, stdin, lines, place: String::new() };
        let ready = peer.line();
        ready.strip_prefix("ready ").unwrap().clone_into(&mut peer.place);
        peer
    }

    /// Tells it something and returns its answer.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        self.line()
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(LIMIT);
        line.expect(
            "the peer says nothing; do its packages fit? run `make test`, which installs the test peers",
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

/// A line at that path: 19200 baud, 8N1.
pub(crate) fn line(path: &str) -> SerialLine {
    SerialLine { baud_rate: 19_200, ..SerialLine::at(path) }
}

/// A driver for a peer on that transport: `tcp`, `rtu`, `rtu-tcp`, `ascii` or `ascii-tcp`.
pub(crate) fn driver(transport: &str, place: &str) -> Modbus {
    Modbus::new(settings(transport, place))
}

/// The settings of that driver: no backup, no rests but the one after a broadcast.
pub(crate) fn settings(transport: &str, place: &str) -> Settings {
    let framing = match transport {
        "tcp" => Framing::Tcp,
        "rtu" | "rtu-tcp" => Framing::Rtu,
        _ => Framing::Ascii,
    };
    let medium = match place.parse() {
        Ok(port) => Medium::Tcp { host: "127.0.0.1".to_owned(), port },
        Err(_) => Medium::Line(line(place)),
    };
    Settings {
        framing,
        medium,
        backup: None,
        pause_after_connect: Duration::ZERO,
        turnaround: Duration::from_millis(100),
    }
}

/// A unit with these points.
pub(crate) fn device(unit: u8, points: &[(Area, u16, Kind)]) -> Arc<Device> {
    let point = |&(area, number, kind): &(Area, u16, Kind)| Point {
        writable: true,
        ..Point::new(PointId::new("point").unwrap(), Address::Register { area, number, bit: None }, kind)
    };
    Arc::new(Device {
        id: DeviceId::new("device").unwrap(),
        link: LinkId::new("link").unwrap(),
        label: None,
        tags: None,
        protocol: Protocol::Modbus { unit, reads: Reads::default(), broadcast: false, read_write: false },
        poll_interval: Duration::from_secs(1),
        align: false,
        // What bounds a request here is the deadline that it is given.
        patience: LIMIT / 2,
        pause: Duration::ZERO,
        points: points.iter().map(point).collect(),
    })
}

/// A deadline so many milliseconds away.
pub(crate) fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// A deadline that only a hang misses, on a loaded machine too.
pub(crate) fn soon() -> Instant {
    Instant::now() + LIMIT / 2
}
