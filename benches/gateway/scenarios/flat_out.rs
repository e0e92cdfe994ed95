//! As much as goes through.

use std::time::Duration;

use super::{ages, between, count, mebibytes, middle_and_tail, readings, sound};
use crate::figures::{Figure, Target};
use crate::gateway::{Kind, Load};
use crate::machine;
use crate::stage::{LINKS, Stage};
use crate::{Result, micros};

pub(super) const ABOUT: &str = "100 registers a poll, QoS 1. fieldgate: the same 10 fakes, 10 links x 12 devices \
     (unit ids 1 to 12),\n  each every 10 ms (the shortest poll_interval): 1,200,000 readings/s offered. bare: \
     10 links x 1 device,\n  polled again at once; it waits while 256 messages are unsent";

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let load = match kind {
        Kind::Fieldgate => Load { units: 12, registers: 100, interval: Duration::from_millis(10) },
        Kind::Bare => Load { units: 1, registers: 100, interval: Duration::ZERO },
    };
    let mut run = stage.run(kind, load)?;
    run.warm_up(Duration::from_secs(2))?;
    let (from, before, busy_before) = (micros(), run.gateway.usage()?, machine::busy()?);
    let answered_before = stage.fakes.answered()?;
    crate::rest(stage.time);
    let answered = stage.fakes.answered()? - answered_before;
    let (to, after, busy_after) = (micros(), run.gateway.usage()?, machine::busy()?);
    let (rows, ending) = run.end()?;
    sound(&rows)?;
    let time = between(from, to);
    let delivered = readings(rows.arrived(from, to)) / time;
    let polled = count(answered) * f64::from(load.registers) / time;
    let (p50, p99) = middle_and_tail(&ages(rows.arrived(from, to)));
    let busy = 100.0 * (busy_after.0 - busy_before.0) / (busy_after.1 - busy_before.1);
    let written = count(after.written - before.written) / 1024.0 / time;
    Ok(vec![
        Figure::open("readings/s offered", 0, load.offered(LINKS)),
        Figure::open("readings/s polled", 0, polled),
        Figure::aimed("readings/s delivered", 0, delivered, Target::Least(600_000.0)),
        Figure::open("CPU, % of one core", 0, 100.0 * (after.cpu - before.cpu) / time),
        Figure::open("whole machine busy, %", 0, busy),
        Figure::open("memory resident at most, MiB", 1, mebibytes(after.peak)),
        Figure::open("device to subscriber, p50, ms", 1, p50),
        Figure::open("device to subscriber, p99, ms", 1, p99),
        Figure::open("written to disk, KiB/s", 0, written),
        Figure::open("events (losses and others)", 0, count(rows.others)),
        Figure::open("orderly stop, s", 2, ending.as_secs_f64()),
    ])
}
