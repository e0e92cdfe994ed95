//! The same on sockets and ptys, in a thread of its own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fieldgate::config::{Framing, Medium, SerialLine};
use fieldgate::drivers::modbus::{Modbus, Settings};
use rustix::fs::{Mode, OFlags};
use tokio::io::duplex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio_serial::{SerialPort as _, SerialPortBuilderExt as _, SerialStream};

use super::proxy::{End, Proxy};
use super::wire::Wire;
use super::{Shared, unit};

/// Every transport.
pub const TRANSPORTS: [&str; 5] = ["tcp", "rtu", "rtu-tcp", "ascii", "ascii-tcp"];

/// Who answers behind the proxy.
#[derive(Clone, Debug)]
pub enum Device {
    /// The units of [`unit`].
    Own,
    /// A server of others on the same transport: `host:port` or the path of its terminal.
    Other(String),
}

/// Serves a device through these faults on one of [`TRANSPORTS`] as long as the test runs, and says where: a port or
/// the path of a terminal.
pub fn start(transport: &str, device: Device, faults: Shared) -> String {
    let (told, place) = std::sync::mpsc::channel();
    let transport = transport.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = wire(&transport);
            if transport.contains("tcp") {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                told.send(listener.local_addr().unwrap().port().to_string()).unwrap();
                connections(listener, wire, &device, faults).await;
            } else {
                terminal(wire, &device, faults, |path| told.send(path).unwrap()).await;
            }
        });
    });
    place.recv().unwrap()
}

/// A driver for what is served there, at 115200 baud.
pub fn driver(transport: &str, place: &str) -> Modbus {
    let framing = match wire(transport) {
        Wire::Tcp => Framing::Tcp,
        Wire::Rtu => Framing::Rtu,
        Wire::Ascii => Framing::Ascii,
    };
    let medium = match place.parse() {
        Ok(port) => Medium::Tcp { host: "127.0.0.1".to_owned(), port },
        Err(_) => Medium::Line(SerialLine { baud_rate: 115_200, ..SerialLine::at(place) }),
    };
    let (pause_after_connect, turnaround) = (Duration::ZERO, Duration::ZERO);
    Modbus::new(Settings { framing, medium, backup: None, pause_after_connect, turnaround })
}

fn wire(transport: &str) -> Wire {
    match transport {
        "tcp" => Wire::Tcp,
        "rtu" | "rtu-tcp" => Wire::Rtu,
        _ => Wire::Ascii,
    }
}

async fn connections(listener: TcpListener, wire: Wire, device: &Device, faults: Shared) {
    let (sender, gateways) = unbounded_channel();
    if wire != Wire::Tcp {
        // A serial server: one line for all connections.
        tokio::spawn(Proxy::new(gateways, device.end(wire).await, wire, true, faults.clone()).run());
    }
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let gateway = prepared(stream);
        if wire == Wire::Tcp {
            let (only, gateways) = unbounded_channel();
            only.send(gateway).unwrap();
            let device = device.end(wire).await;
            tokio::spawn(Proxy::new(gateways, device, wire, true, faults.clone()).run());
        } else {
            sender.send(gateway).unwrap();
        }
    }
}

/// Every byte at once, and an end that is a reset.
fn prepared(stream: TcpStream) -> End {
    stream.set_nodelay(true).unwrap();
    stream.set_zero_linger().unwrap();
    Box::new(stream)
}

async fn terminal(wire: Wire, device: &Device, faults: Shared, tell: impl FnOnce(String)) {
    let (stream, path, _held) = pty();
    let (sender, gateways) = unbounded_channel();
    sender.send(Box::new(stream) as End).unwrap();
    tell(path);
    Proxy::new(gateways, device.end(wire).await, wire, false, faults).run().await;
}

/// A terminal: the side of its device, and the path for who reads the device. It lives as long as the third.
pub fn pty() -> (SerialStream, String, OwnedFd) {
    let (stream, other) = SerialStream::pair().unwrap();
    let path = other.name().unwrap();
    // `other` has a lock.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let held = rustix::fs::open(Path::new(&path), flags, Mode::empty()).unwrap();
    (stream, path, held)
}

impl Device {
    async fn end(&self, wire: Wire) -> End {
        match self {
            Self::Own => {
                let (ours, theirs) = duplex(4096);
                tokio::spawn(unit::serve(theirs, wire));
                Box::new(ours)
            }
            Self::Other(path) if path.starts_with('/') => {
                Box::new(tokio_serial::new(path, 115_200).open_native_async().unwrap())
            }
            Self::Other(address) => {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
        }
    }
}
