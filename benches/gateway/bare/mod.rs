//! The bare pipeline: the same crates and the same promise, with nothing around them.
//!
//! No actors, no configuration, no commands, no decoding beyond `u16`: tokio-modbus polls, one JSON message
//! a poll, a batch into the store (WAL, FULL) of what is not acknowledged after 250 ms, paho with QoS 1. It
//! shows what the crates cost on this machine; the rest of fieldgate's figures is fieldgate's own.

mod poll;
mod store;
mod tail;
mod uplink;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::Result;
use crate::gateway::Load;
use tail::Tail;

/// What runs, read from the arguments.
struct Settings {
    broker: u16,
    buffer: PathBuf,
    ports: Vec<u16>,
    load: Load,
}

impl Settings {
    fn read(arguments: &[String]) -> Result<Self> {
        let [broker, buffer, ports, units, registers, interval] = arguments else {
            return Err("bare BROKER BUFFER PORTS UNITS REGISTERS INTERVAL_US".into());
        };
        Ok(Self {
            broker: broker.parse()?,
            buffer: buffer.into(),
            ports: ports.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?,
            load: Load {
                units: units.parse()?,
                registers: registers.parse()?,
                interval: Duration::from_micros(interval.parse()?),
            },
        })
    }
}

/// The process: runs until it is ended.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let settings = Settings::read(arguments)?;
    let store = store::open(&settings.buffer)?;
    let tail = Rc::new(Tail::new(crate::micros() / 1_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut first = 0;
        for port in settings.ports {
            tokio::task::spawn_local(poll::link(tail.clone(), port, first, settings.load));
            first += settings.load.units;
        }
        let commits = tokio::task::spawn_local(tail::commit(tail.clone(), store.clone()));
        let publishes = tokio::task::spawn_local(uplink::run(tail, store, settings.broker));
        tokio::select! {
            end = commits => end?,
            end = publishes => end?,
        }
    })
}
