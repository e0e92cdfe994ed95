//! Fake Modbus TCP devices, in a process of their own so that their cost is nobody else's.
//!
//! Each answers functions 3 and 4 of any unit. The first four registers of an answer are the clock at that
//! moment (microseconds since 1970, most significant word first); register `i` after them is a counter plus `i`.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::child::{Child, Lines};
use crate::{Result, micros};

/// Most registers in one read (Modbus Application Protocol V1.1b3, 6.3).
const MOST: u16 = 125;

/// The running fakes.
pub(crate) struct Fakes {
    child: Child,
    lines: Lines,
    /// Their ports on 127.0.0.1.
    pub(crate) ports: Vec<u16>,
}

impl Fakes {
    /// Starts `count` fakes.
    pub(crate) fn start(count: usize) -> Result<Self> {
        let (child, mut lines) = Child::role("fakes", &[count.to_string()])?;
        let ports = lines.next()?.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        Ok(Self { child, lines, ports })
    }

    /// How many requests they have answered so far.
    pub(crate) fn answered(&mut self) -> Result<u64> {
        self.child.say("answered")?;
        Ok(self.lines.next()?.parse()?)
    }
}

/// The process: prints the ports in one line, and the number of answers for each line read.
pub(crate) fn serve(count: usize) -> Result<()> {
    let answered = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut ports = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            ports.push(listener.local_addr()?.port().to_string());
            tokio::spawn(accept(listener, answered.clone()));
        }
        writeln!(std::io::stdout(), "{}", ports.join(" "))?;
        let asked = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            for line in std::io::stdin().lock().lines() {
                line?;
                writeln!(std::io::stdout(), "{}", answered.load(Ordering::Relaxed))?;
            }
            Ok(())
        });
        Ok(asked.await??)
    })
}

async fn accept(listener: TcpListener, answered: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answered = answered.clone();
        // A client that goes away in the middle of a request is the end of that connection, nothing more.
        tokio::spawn(async move { converse(stream, &answered).await.is_ok() });
    }
}

async fn converse(mut stream: TcpStream, answered: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(4096);
    let mut output = Vec::with_capacity(4096);
    let mut counter = 0_u16;
    while stream.read_buf(&mut input).await? > 0 {
        let mut used = 0;
        while let Some((transaction, body)) = frame(input.get(used..).unwrap_or_default()) {
            used += 6 + body.len();
            answer(&mut output, transaction, body, counter);
            counter = counter.wrapping_add(1);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        input.drain(..used);
        stream.write_all(&output).await?;
        output.clear();
    }
    Ok(())
}

/// The first whole frame of `input`: its transaction id, and what stands after the length.
fn frame(input: &[u8]) -> Option<([u8; 2], &[u8])> {
    let ([t1, t2, _, _, high, low], rest) = input.split_first_chunk::<6>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    Some(([*t1, *t2], rest.get(..length)?))
}

fn answer(output: &mut Vec<u8>, transaction: [u8; 2], body: &[u8], counter: u16) {
    output.extend_from_slice(&transaction);
    let (unit, function) = (body.first().copied().unwrap_or(0), body.get(1).copied().unwrap_or(0));
    let count = match body {
        [_, 3 | 4, _, _, high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    if !(1..=MOST).contains(&count) {
        let code = if matches!(function, 3 | 4) { 3 } else { 1 };
        output.extend_from_slice(&[0, 0, 0, 3, unit, function | 0x80, code]);
        return;
    }
    output.extend_from_slice(&[0, 0]);
    output.extend_from_slice(&(2 * count + 3).to_be_bytes());
    // At most 250, checked above.
    output.extend_from_slice(&[unit, function, u8::try_from(2 * count).unwrap_or(u8::MAX)]);
    let clock = micros().to_be_bytes();
    output.extend_from_slice(clock.get(..usize::from(2 * count.min(4))).unwrap_or_default());
    for index in 4..count {
        output.extend_from_slice(&counter.wrapping_add(index).to_be_bytes());
    }
}
