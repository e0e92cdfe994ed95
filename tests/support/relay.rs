//! A relay between the gateway and its broker that knows MQTT well enough to hold acknowledgements back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Broker;

/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;

/// How acknowledgements get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// At once.
    Freely,
    /// Not at all; they wait.
    Withheld,
    /// One each so often.
    Each(Duration),
}

/// A running relay. The broker may come and go behind it; who connects while it is away is cut off.
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    gate: Arc<Gate>,
}

struct Gate {
    pass: Mutex<Pass>,
    changed: Condvar,
}

impl Relay {
    /// Starts it before this broker.
    pub fn start(broker: &Broker) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate { pass: Mutex::new(Pass::Freely), changed: Condvar::new() });
        let (broker, shared) = (broker.port, Arc::clone(&gate));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) {
                    carry(&client, &server, &shared);
                }
            }
        });
        Self { port, gate }
    }

    /// From now on acknowledgements get through like this.
    pub fn pass(&self, pass: Pass) {
        *self.gate.pass.lock().unwrap() = pass;
        self.gate.changed.notify_all();
    }

    /// A gateway's configuration with this in its broker's place.
    pub fn before(&self, broker: &Broker, config: &str) -> String {
        let through = config.replace(&broker.url(), &format!("mqtt://127.0.0.1:{}", self.port));
        assert_ne!(through, config, "the broker stands nowhere in the configuration");
        through
    }
}

impl Gate {
    /// Waits until one more acknowledgement may pass.
    fn wait(&self, last: Instant) {
        let mut pass = self.pass.lock().unwrap();
        loop {
            let left = match *pass {
                Pass::Freely => return,
                Pass::Withheld => Duration::from_secs(3600),
                Pass::Each(time) => (last + time).saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                return;
            }
            pass = self.changed.wait_timeout(pass, left).unwrap().0;
        }
    }
}

/// Carries bytes both ways until one side ends.
fn carry(client: &TcpStream, server: &TcpStream, gate: &Arc<Gate>) {
    let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from, mut to) = both();
    thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        close(&from, &to);
    });
    let (to, from) = both();
    let to = Arc::new(Mutex::new(to));
    let (held, waiting) = channel();
    let (gate, sink) = (Arc::clone(gate), Arc::clone(&to));
    thread::spawn(move || acknowledge(&waiting, &sink, &gate));
    thread::spawn(move || {
        answer(&from, &to, &held);
        close(&from, &to.lock().unwrap());
    });
}

fn close(one: &TcpStream, other: &TcpStream) {
    // Both may be closed already.
    one.shutdown(Shutdown::Both).ok();
    other.shutdown(Shutdown::Both).ok();
}

/// Carries what the broker says, but leaves its acknowledgements to another.
fn answer(mut from: &TcpStream, to: &Mutex<TcpStream>, held: &Sender<Vec<u8>>) -> Option<()> {
    loop {
        let mut packet = vec![0; 1];
        from.read_exact(&mut packet).ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            from.read_exact(&mut byte).ok()?;
            packet.push(byte[0]);
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let start = packet.len();
        packet.resize(start + length, 0);
        from.read_exact(&mut packet[start..]).ok()?;
        if packet[0] == PUBACK {
            held.send(packet).ok()?;
        } else {
            to.lock().unwrap().write_all(&packet).ok()?;
        }
    }
}

fn acknowledge(waiting: &Receiver<Vec<u8>>, sink: &Mutex<TcpStream>, gate: &Gate) {
    let mut last = Instant::now();
    for packet in waiting {
        gate.wait(last);
        last = Instant::now();
        if sink.lock().unwrap().write_all(&packet).is_err() {
            return;
        }
    }
}
