//! fieldgate's buffer, by the messages of its neighbours.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use fieldgate::buffer::{Ack, Append, Buffer, Close, GetStats, Stats, Take};
use fieldgate::clock::Clock;
use fieldgate::config::{BufferConfig, WhenFull};
use fieldgate::point::DeviceId;
use fieldgate::record::{Name, Record, RecordKind, Topic};
use tokio::sync::Semaphore;

use super::{Load, Pass, Passes, WINDOW, body};
use crate::Result;

/// Records appended and not acknowledged, at most, while the broker answers: a few windows.
const AHEAD: usize = 4 * WINDOW;
/// While a backlog grows, the file is asked after so many records whether it follows.
const ASK: u32 = 64;

/// All passes, each with a buffer opened for it.
pub(super) fn measure(load: Load, folder: &Path) -> Result<Passes> {
    let device = DeviceId::new("d0").ok_or("a bad id")?;
    actix::System::new().block_on(async {
        let online = online(load, &device, folder.join("online.db")).await?;
        let fill = fill(load, &device, folder.join("backlog.db")).await?;
        let drain = drain(load, folder.join("backlog.db")).await?;
        Ok(Passes { online, fill, drain })
    })
}

/// A buffer, and where its counters stood when the pass began.
struct Opened {
    buffer: Addr<Buffer>,
    before: Stats,
    begun: Instant,
}

impl Opened {
    /// With the settings that a gateway has by default.
    async fn new(path: PathBuf) -> Result<Self> {
        let config = BufferConfig {
            path,
            commit_every: Duration::from_millis(250),
            max_size: 256 << 20,
            max_age: Duration::from_secs(30 * 86_400),
            when_full: WhenFull::DropOldest,
            live_share: 0.5,
            backlog_rate: 0,
        };
        let (buffer, _run) = Buffer::start(config, Clock::Trusted).await?;
        let before = buffer.send(GetStats).await?;
        Ok(Self { buffer, before, begun: Instant::now() })
    }

    /// Closes the file; `left` records have to be in it.
    async fn end(self, left: u32) -> Result<Pass> {
        self.buffer.send(Close).await?;
        let seconds = self.begun.elapsed().as_secs_f64();
        let after = self.buffer.send(GetStats).await?;
        if !after.dropped.is_empty() || after.stored != u64::from(left) {
            return Err(format!("not every record went its way: {after:?}").into());
        }
        let (before, after) = self.before.written.zip(after.written).ok_or("the system counts no bytes")?;
        Ok(Pass { seconds, written: after - before })
    }
}

async fn online(load: Load, device: &DeviceId, path: PathBuf) -> Result<Pass> {
    let opened = Opened::new(path).await?;
    let credits = Rc::new(Semaphore::new(AHEAD));
    let taker = actix::spawn(take(opened.buffer.clone(), load.records, Some(credits.clone())));
    for number in 0..load.records {
        credits.acquire().await?.forget();
        opened.buffer.send(Append(record(load, device, number))).await?;
    }
    taker.await??;
    opened.end(0).await
}

async fn fill(load: Load, device: &DeviceId, path: PathBuf) -> Result<Pass> {
    let opened = Opened::new(path).await?;
    // What is on its way to the file counts to the bound of the memory too.
    let most = u64::try_from(2 * load.batch() * 9 / 10)?;
    for number in 0..load.records {
        if number % ASK == 0 {
            while u64::from(number) > opened.buffer.send(GetStats).await?.stored + most {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        opened.buffer.send(Append(record(load, device, number))).await?;
    }
    opened.end(load.records).await
}

async fn drain(load: Load, path: PathBuf) -> Result<Pass> {
    let opened = Opened::new(path).await?;
    take(opened.buffer.clone(), load.records, None).await?;
    opened.end(0).await
}

/// Takes and acknowledges so many records, a window at a time; each acknowledgement lets another one in.
async fn take(buffer: Addr<Buffer>, records: u32, credits: Option<Rc<Semaphore>>) -> Result<()> {
    let mut left = usize::try_from(records)?;
    let mut out: Vec<Name> = Vec::with_capacity(WINDOW);
    while left > 0 {
        let taken = buffer.send(Take { limit: WINDOW - out.len() }).await?;
        out.extend(taken.iter().map(|numbered| numbered.name));
        if out.len() == WINDOW || out.len() >= left {
            left = left.saturating_sub(out.len());
            if let Some(credits) = &credits {
                credits.add_permits(out.len());
            }
            buffer.send(Ack(std::mem::replace(&mut out, Vec::with_capacity(WINDOW)))).await?;
        }
    }
    Ok(())
}

fn record(load: Load, device: &DeviceId, number: u32) -> Record {
    Record {
        kind: RecordKind::Readings,
        topic: Topic::Readings(device.clone()),
        body: body(number, load.body).into(),
        correlation: None,
        made: Clock::Trusted.now(),
    }
}
