//! A plant as it is: ten devices, a hundred registers each, ten times a second.

use std::time::Duration;

use super::{ages, between, count, mebibytes, middle_and_tail, readings, sound};
use crate::figures::{Figure, Target};
use crate::gateway::{Kind, Load};
use crate::stage::Stage;
use crate::{Result, micros};

pub(super) const ABOUT: &str =
    "10 links x 1 device x 100 registers, 10 polls/s each: 10,000 readings/s, QoS 1";

pub(super) const LOAD: Load = Load { units: 1, registers: 100, interval: Duration::from_millis(100) };

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let mut run = stage.run(kind, LOAD)?;
    run.warm_up(Duration::from_secs(2))?;
    let (from, before) = (micros(), run.gateway.usage()?);
    crate::rest(stage.time);
    let (to, after) = (micros(), run.gateway.usage()?);
    let (rows, _) = run.end()?;
    sound(&rows)?;
    let time = between(from, to);
    let cpu = after.cpu - before.cpu;
    let ages = ages(rows.arrived(from, to));
    let (p50, p99) = middle_and_tail(&ages);
    let written = count(after.written - before.written) / 1024.0 / time;
    Ok(vec![
        Figure::open("readings/s delivered", 0, readings(rows.arrived(from, to)) / time),
        Figure::aimed("readings missing (by seq)", 0, count(rows.missing), Target::Zero),
        Figure::open("CPU, seconds", 2, cpu),
        Figure::aimed("CPU, % of one core", 2, 100.0 * cpu / time, Target::Most(2.0)),
        Figure::aimed("memory resident, MiB", 1, mebibytes(after.rss), Target::Most(14.0)),
        Figure::open("memory resident at most, MiB", 1, mebibytes(after.peak)),
        Figure::open("device to subscriber, p50, ms", 2, p50),
        Figure::aimed("device to subscriber, p99, ms", 2, p99, Target::Most(10.0)),
        Figure::open("device to subscriber, worst, ms", 2, ages.last().copied()),
        Figure::aimed("written to disk, KiB/s", 2, written, Target::Most(1.0)),
        Figure::open("written to disk since the start, KiB", 0, count(after.written / 1024)),
    ])
}
