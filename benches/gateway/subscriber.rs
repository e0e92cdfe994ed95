//! The receiving end: a small MQTT 3.1.1 client in a process of its own, that keeps one row for each message.
//!
//! It is written out by hand because it shares the machine with what it measures: a client library would
//! take a third of a core at 10,000 messages a second. It also reads every value of every message.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::child::{Child, Lines};
use crate::rows::{Rows, message};
use crate::{Result, micros};

/// A running subscriber.
pub(crate) struct Subscriber {
    child: Child,
    lines: Lines,
}

/// What it has seen so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Readings messages.
    pub(crate) messages: u64,
    /// Numbers below the highest that did not come, over all runs.
    pub(crate) missing: u64,
    /// Device clock of the newest reading.
    pub(crate) newest: u64,
}

impl Subscriber {
    /// Starts one that takes everything below `bench/`, with a session that outlives its connection.
    pub(crate) fn start(port: u16) -> Result<Self> {
        let (child, mut lines) = Child::role("subscriber", &[port.to_string()])?;
        if lines.next()? != "up" {
            return Err("the subscriber cannot subscribe".into());
        }
        Ok(Self { child, lines })
    }

    /// Asks what it has seen.
    pub(crate) fn seen(&mut self) -> Result<Seen> {
        self.child.say("seen")?;
        let line = self.lines.next()?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut number = || numbers.next().ok_or("a short answer of the subscriber");
        Ok(Seen { messages: number()??, missing: number()??, newest: number()?? })
    }

    /// Waits until it has seen at least one readings message.
    pub(crate) fn wait_for_first(&mut self, patience: Duration) -> Result<()> {
        let begin = Instant::now();
        while self.seen()?.messages == 0 {
            if begin.elapsed() > patience {
                return Err(format!("no reading arrived within {patience:?}").into());
            }
            crate::rest(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it and gives everything it has kept.
    pub(crate) fn finish(mut self) -> Result<Rows> {
        self.child.close();
        let head = self.lines.next()?;
        Rows::load(&head, &self.lines.rest()?)
    }
}

#[derive(Default)]
struct Log {
    rows: Rows,
    runs: HashMap<u64, Numbers>,
    messages: u64,
    newest: u64,
}

/// Which numbers of one run have come.
#[derive(Default)]
struct Numbers {
    seen: Vec<bool>,
    distinct: u64,
}

impl Log {
    fn take(&mut self, payload: &[u8], arrival: u64) {
        let Some(row) = message(payload, arrival) else {
            return; // status and info: no record, no number
        };
        if row.readings == 0 {
            self.rows.others += 1;
        } else {
            self.messages += 1;
        }
        self.rows.wrong += u64::from(!row.consistent);
        self.newest = self.newest.max(row.device_clock);
        let numbers = self.runs.entry(row.run).or_default();
        // A number beyond any real run would only be a mistake of the sender; it must not eat the memory here.
        let index = usize::try_from(row.seq).unwrap_or(0).min(1 << 26);
        if numbers.seen.len() <= index {
            numbers.seen.resize(index + 1, false);
        }
        if let Some(seen) = numbers.seen.get_mut(index) {
            self.rows.repeats += u64::from(*seen);
            numbers.distinct += u64::from(!*seen);
            *seen = true;
        }
        self.rows.list.push(row);
    }

    fn missing(&self) -> u64 {
        let highest = |n: &Numbers| n.seen.len().saturating_sub(1) as u64;
        self.runs.values().map(|n| highest(n).saturating_sub(n.distinct)).sum()
    }
}

/// The process: prints `up` once subscribed, answers each line read, gives everything when its input ends.
pub(crate) fn listen(port: u16) -> Result<()> {
    let log = Arc::new(Mutex::new(Log::default()));
    let kept = log.clone();
    std::thread::spawn(move || {
        let begin = Instant::now();
        let mut announced = false;
        loop {
            // A lost connection is part of one scenario: try again at once, the session is kept.
            if session(port, &kept, &mut announced).is_err() && !announced && begin.elapsed().as_secs() > 20 {
                std::process::exit(1);
            }
            crate::rest(Duration::from_millis(10));
        }
    });
    let mut stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        line?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdout, "{} {} {}", log.messages, log.missing(), log.newest)?;
    }
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.rows.missing = log.missing();
    log.rows.save(&mut stdout)
}

fn session(port: u16, log: &Mutex<Log>, announced: &mut bool) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    // CONNECT: MQTT 3.1.1, no clean session, no keep alive, client id `subscriber` (MQTT 3.1.1, 3.1).
    let mut packet = vec![0x10, 22, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 10];
    packet.extend_from_slice(b"subscriber");
    // SUBSCRIBE `bench/#` with QoS 1 (3.8).
    packet.extend_from_slice(&[0x82, 12, 0, 1, 0, 7]);
    packet.extend_from_slice(b"bench/#");
    packet.push(1);
    stream.write_all(&packet)?;
    let mut chunk = vec![0; 256 * 1024];
    let mut input = Vec::new();
    let mut output = Vec::new();
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let mut used = 0;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((kind, body, length)) = packet_of(input.get(used..).unwrap_or_default()) {
            used += length;
            match kind >> 4 {
                3 => publish(kind, body, &mut log, &mut output),
                9 if !*announced => {
                    *announced = true;
                    writeln!(std::io::stdout(), "up")?;
                }
                _ => {}
            }
        }
        drop(log);
        input.drain(..used);
        stream.write_all(&output)?;
        output.clear();
    }
}

/// The first whole packet: its first byte, its body, and how many bytes it takes (MQTT 3.1.1, 2.2).
fn packet_of(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let kind = *input.first()?;
    let mut length = 0_usize;
    for position in 1..=4_usize {
        let byte = *input.get(position)?;
        length |= usize::from(byte & 0x7f) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            let end = position + 1 + length;
            return Some((kind, input.get(position + 1..end)?, end));
        }
    }
    None
}

fn publish(kind: u8, body: &[u8], log: &mut Log, output: &mut Vec<u8>) {
    let Some(([high, low], rest)) = body.split_first_chunk::<2>() else {
        return;
    };
    let mut rest = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    if kind & 0x06 != 0
        && let Some((id, payload)) = rest.split_first_chunk::<2>()
    {
        output.extend_from_slice(&[0x40, 2]);
        output.extend_from_slice(id);
        rest = payload;
    }
    log.take(rest, micros());
}
