//! A broker that does what a test says, packet by packet: refusals and limits that no real broker can be made to give.
//! It keeps nothing and has no subscribers; what it was sent can be looked at.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use super::packet::Packet;
use super::packet::{framed, number};
use super::{LIMIT, canary};

/// How it answers. May be changed at any time.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Reason code of CONNACK.
    pub connack: u8,
    /// Properties of CONNACK, encoded, without their length (MQTT 5.0).
    pub connack_properties: Vec<u8>,
    /// Sent, as it is, in place of CONNACK.
    pub instead_of_connack: Option<Vec<u8>>,
    /// Reason codes of SUBACK: for filters that contain this text.
    pub suback: Vec<(&'static str, u8)>,
    /// The broker still has the session.
    pub session_present: bool,
    /// Reason codes of PUBACK: for topics that contain this text.
    pub puback: Vec<(&'static str, u8)>,
    /// No PUBACK at all.
    pub withholds: bool,
    /// Sent, as it is, before each PUBACK.
    pub before_puback: Vec<u8>,
}

/// The ports of all of them.
static PORTS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// A broker that takes every CONNECT listens at this address.
pub fn is_scripted(url: &str) -> bool {
    PORTS.lock().unwrap().iter().any(|port| url.ends_with(&format!(":{port}")))
}

/// The broker.
pub struct Scripted {
    /// Where it listens.
    pub port: u16,
    state: Arc<Mutex<State>>,
    came: Arc<Condvar>,
}

#[derive(Default)]
struct State {
    script: Script,
    packets: Vec<Packet>,
    connections: usize,
    streams: Vec<TcpStream>,
}

impl Scripted {
    /// One that listens on a free port of loopback until it is dropped.
    pub fn start(script: Script) -> Self {
        Self::start_at(0, script)
    }

    /// One on this port.
    pub fn start_at(port: u16, script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        PORTS.lock().unwrap().push(port);
        let state = Arc::new(Mutex::new(State { script, ..State::default() }));
        let came = Arc::new(Condvar::new());
        let (weak, told) = (Arc::downgrade(&state), came.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(state) = weak.upgrade() else { return };
                let told = told.clone();
                thread::spawn(move || {
                    // A client that goes ends its thread.
                    drop(serve(stream, &state, &told));
                });
            }
        });
        Self { port, state, came }
    }

    /// The address for a client's configuration.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// From now on it answers so.
    pub fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.state).script);
    }

    /// Sends these bytes to everyone connected, as they are.
    pub fn send(&self, bytes: &[u8]) {
        for mut stream in &lock(&self.state).streams {
            // One of them may have gone.
            drop(stream.write_all(bytes));
        }
    }

    /// Cuts every connection, without a word.
    pub fn cut(&self) {
        for stream in lock(&self.state).streams.drain(..) {
            // One of them may have gone.
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    /// Everything that came.
    pub fn packets(&self) -> Vec<Packet> {
        lock(&self.state).packets.clone()
    }

    /// Topics and payloads that came, repeats too.
    pub fn published(&self) -> Vec<(String, String)> {
        self.packets().iter().filter_map(Packet::published).collect()
    }

    /// Waits until `found` makes something of what came.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut found: impl FnMut(&[Packet]) -> Option<T>) -> T {
        let end = Instant::now() + limit;
        let mut state = lock(&self.state);
        loop {
            if let Some(found) = found(&state.packets) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come; the last: {:?}", state.packets.last());
            state = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a publish whose topic ends so and whose payload `wanted` accepts.
    pub fn wait_json(
        &self,
        topic: &str,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        self.wait(what, LIMIT, |packets| {
            let published =
                packets.iter().filter_map(Packet::published).filter(|(of, _)| of.ends_with(topic));
            published.filter_map(|(_, payload)| serde_json::from_str(&payload).ok()).find(|json| wanted(json))
        })
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        // The kernel may give the port to another.
        PORTS.lock().unwrap().retain(|port| *port != self.port);
        // CONNECT is where a secret belongs.
        for packet in self.packets().iter().filter(|packet| packet.connect().is_none()) {
            canary::assert_clean("what the broker was sent", &packet.body);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, told: &Condvar) -> io::Result<()> {
    let connection = {
        let mut state = lock(state);
        state.connections += 1;
        state.streams.push(stream.try_clone()?);
        state.connections
    };
    let mut level = 0;
    loop {
        let mut head = [0];
        stream.read_exact(&mut head)?;
        let body = read_body(&mut stream)?;
        let mut packet = Packet { connection, level, head: head[0], body };
        if let Some(connect) = packet.connect() {
            level = connect.level;
            packet.level = level;
        }
        // Under the lock, so that what a test sends then comes behind the answer.
        let mut state = lock(state);
        let answer = answer(&packet, &state.script);
        state.packets.push(packet);
        told.notify_all();
        match answer {
            Some(answer) => stream.write_all(&answer)?,
            None => return stream.shutdown(std::net::Shutdown::Both),
        }
    }
}

/// What is sent back; nothing closes the connection.
fn answer(packet: &Packet, script: &Script) -> Option<Vec<u8>> {
    let (body, is_v5) = (&packet.body, packet.level == 5);
    Some(match packet.kind() {
        1 => {
            if let Some(other) = &script.instead_of_connack {
                return Some(other.clone());
            }
            let mut answer = vec![u8::from(script.session_present), script.connack];
            if is_v5 {
                answer.push(u8::try_from(script.connack_properties.len()).unwrap());
                answer.extend(&script.connack_properties);
            }
            framed(0x20, &answer)
        }
        3 if packet.head & 6 != 0 && !script.withholds => {
            let publish = packet.publish()?;
            let code = script.puback.iter().find(|(part, _)| publish.topic.contains(part));
            let [high, low] = publish.id.to_be_bytes();
            let mut answer = script.before_puback.clone();
            let code = code.filter(|_| is_v5).map_or(0, |(_, code)| *code);
            // A code of 0 need not be said; the first version has no place for it.
            let codes: &[u8] = if is_v5 { &[high, low, code, 0] } else { &[high, low] };
            answer.extend(framed(if publish.qos == 2 { 0x50 } else { 0x40 }, codes));
            answer
        }
        6 => framed(0x70, &body[..2]),
        8 => {
            let mut answer = vec![body[0], body[1]];
            if is_v5 {
                answer.push(0);
            }
            for (filter, options) in packet.subscribe()?.1 {
                let refused = script.suback.iter().find(|(part, _)| filter.contains(part));
                answer.push(refused.map_or(options & 3, |(_, code)| *code));
            }
            framed(0x90, &answer)
        }
        12 => vec![0xd0, 0],
        14 => return None,
        _ => Vec::new(),
    })
}

fn read_body(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        length.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; number(&length).0];
    stream.read_exact(&mut body)?;
    Ok(body)
}
