//! What every scenario needs: the settings, the fakes, and one broker, subscriber and gateway for each run.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::Broker;
use crate::child::Child;
use crate::fakes::Fakes;
use crate::gateway::{self, Kind, Load};
use crate::rows::Rows;
use crate::subscriber::Subscriber;
use crate::{Result, micros};

/// How many fakes there are, each with a link of its own.
pub(crate) const LINKS: usize = 10;

/// The settings, and what all runs share.
pub(crate) struct Stage {
    /// Runs of each scenario (`BENCH_RUNS`).
    pub(crate) runs: u32,
    /// Length of a measurement (`BENCH_SECONDS`).
    pub(crate) time: Duration,
    /// How long the broker stays away (`BENCH_OUTAGE_SECONDS`).
    pub(crate) outage: Duration,
    /// Where the files of the runs lie: on the disk of the target folder, not in a tmpfs.
    pub(crate) folder: PathBuf,
    /// The devices.
    pub(crate) fakes: Fakes,
}

/// One run: the parts around the gateway, then the gateway.
pub(crate) struct Run {
    /// The gateway measured.
    pub(crate) gateway: Child,
    /// Its receiver.
    pub(crate) subscriber: Subscriber,
    /// The broker between them.
    pub(crate) broker: Broker,
    /// When the gateway was started, microseconds since 1970.
    pub(crate) started: u64,
    kind: Kind,
    folder: PathBuf,
}

/// A gateway may take so long until its first reading, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

impl Stage {
    /// Reads the settings and starts the fakes.
    pub(crate) fn set() -> Result<Self> {
        let seconds = |name, default| {
            Ok::<_, Box<dyn std::error::Error>>(Duration::from_secs(number(name, default)?.into()))
        };
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            runs: number("BENCH_RUNS", 3)?.max(1),
            time: seconds("BENCH_SECONDS", 10)?,
            outage: seconds("BENCH_OUTAGE_SECONDS", 30)?,
            folder,
            fakes: Fakes::start(LINKS)?,
        })
    }

    /// A folder with nothing left over from an earlier run.
    pub(crate) fn clean(&self, kind: Kind) -> Result<PathBuf> {
        let folder = self.folder.join(kind.to_string());
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts a broker, a subscriber and a gateway.
    pub(crate) fn run(&self, kind: Kind, load: Load) -> Result<Run> {
        let folder = self.clean(kind)?;
        let broker = Broker::start(&folder)?;
        let subscriber = Subscriber::start(broker.port)?;
        let started = micros();
        let gateway = gateway::start(kind, load, &self.fakes.ports, broker.port, &folder)?;
        let run = Run { gateway, subscriber, broker, started, kind, folder };
        Ok(run)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::env::var_os("BENCH_KEEP").is_none() {
            // What stays behind is in cargo's folder for such files, and `cargo clean` takes it.
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

impl Run {
    /// Waits for the first reading, then so much longer.
    pub(crate) fn warm_up(&mut self, time: Duration) -> Result<()> {
        let first = self.subscriber.wait_for_first(PATIENCE);
        if let Err(error) = first.and_then(|()| self.gateway.alive()) {
            let log = self.folder.join(format!("{}.log", self.kind));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(3).collect();
            return Err(format!("{error}; its log ends with: {}", last.join(" | ")).into());
        }
        crate::rest(time);
        Ok(())
    }

    /// Ends the gateway, then the rest, and gives what arrived and how long the gateway took to end.
    pub(crate) fn end(mut self) -> Result<(Rows, Duration)> {
        let took = self.gateway.stop(PATIENCE)?;
        crate::rest(Duration::from_millis(200));
        let rows = self.subscriber.finish()?;
        self.broker.stop()?;
        Ok((rows, took))
    }
}

/// Reads a whole number from the environment.
fn number(name: &str, default: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse().map_err(|_| format!("{name} is not a whole number: {text}"))?),
        Err(_) => Ok(default),
    }
}
