//! A broker that does what a test says, packet by packet: refusals and limits that no real broker can be made to give.
//! It keeps nothing and has no subscribers; what it was sent can be looked at.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::LIMIT;

/// How it answers (MQTT 5.0). May be changed at any time.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Reason code of CONNACK.
    pub connack: u8,
    /// Properties of CONNACK, encoded, without their length.
    pub connack_properties: Vec<u8>,
    /// The broker still has the session.
    pub session_present: bool,
    /// Reason codes of PUBACK: for topics that contain this text.
    pub puback: Vec<(&'static str, u8)>,
    /// No PUBACK at all.
    pub withholds: bool,
    /// Sent, as it is, before each PUBACK.
    pub before_puback: Vec<u8>,
}

/// A packet that came.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The connection it came on, from 1.
    pub connection: usize,
    /// The first byte: type and flags.
    pub head: u8,
    /// The rest, without its length.
    pub body: Vec<u8>,
}

impl Packet {
    /// Its type, as the specification numbers them.
    pub fn kind(&self) -> u8 {
        self.head >> 4
    }

    /// The topic and the payload of a PUBLISH with MQTT 5.
    pub fn published(&self) -> Option<(String, String)> {
        if self.kind() != 3 {
            return None;
        }
        let (topic, rest) = text(&self.body);
        let rest = if self.head & 6 == 0 { rest } else { &rest[2..] };
        let (length, used) = number(rest);
        Some((topic, String::from_utf8_lossy(&rest[used + length..]).into_owned()))
    }
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
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
    loop {
        let mut head = [0];
        stream.read_exact(&mut head)?;
        let body = read_body(&mut stream)?;
        let packet = Packet { connection, head: head[0], body };
        let answer = answer(&packet, &lock(state).script);
        lock(state).packets.push(packet);
        told.notify_all();
        match answer {
            Some(answer) => stream.write_all(&answer)?,
            None => return stream.shutdown(std::net::Shutdown::Both),
        }
    }
}

/// What is sent back; nothing closes the connection.
fn answer(packet: &Packet, script: &Script) -> Option<Vec<u8>> {
    let body = &packet.body;
    Some(match packet.kind() {
        1 => {
            let mut answer = vec![u8::from(script.session_present), script.connack];
            answer.push(u8::try_from(script.connack_properties.len()).unwrap());
            answer.extend(&script.connack_properties);
            framed(0x20, &answer)
        }
        3 if packet.head & 6 == 2 && !script.withholds => {
            let (topic, rest) = text(body);
            let code =
                script.puback.iter().find(|(part, _)| topic.contains(part)).map_or(0, |(_, code)| *code);
            let mut answer = script.before_puback.clone();
            answer.extend(framed(0x40, &[rest[0], rest[1], code, 0]));
            answer
        }
        8 => {
            let (length, used) = number(&body[2..]);
            let mut filters = &body[2 + used + length..];
            let mut answer = vec![body[0], body[1], 0];
            while !filters.is_empty() {
                answer.push(filters[text(filters).0.len() + 2] & 3);
                filters = &text(filters).1[1..];
            }
            framed(0x90, &answer)
        }
        12 => vec![0xd0, 0],
        14 => return None,
        _ => Vec::new(),
    })
}

fn framed(head: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    let mut packet = vec![head, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

/// A text with its length before it, and what follows.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (String::from_utf8_lossy(&bytes[2..2 + length]).into_owned(), &bytes[2 + length..])
}

/// A number of one to four bytes (1.5.5), and how many it took.
fn number(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, index + 1);
        }
    }
    panic!("no number: {bytes:?}")
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
