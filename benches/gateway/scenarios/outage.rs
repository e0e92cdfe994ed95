//! The broker goes away and comes back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{between, count, mebibytes, readings, sound};
use crate::figures::{Figure, Target};
use crate::gateway::{Kind, Load};
use crate::rows::{Row, Rows};
use crate::stage::{Run, Stage};
use crate::{Result, micros};

pub(super) const ABOUT: &str = "10 links x 1 device x 10 registers, 10 polls/s each: 1,000 readings/s, QoS 1; the broker \
     is stopped\n  and brought back on its port with its sessions; reconnect.max = 1s";

const LOAD: Load = Load { units: 1, registers: 10, interval: Duration::from_millis(100) };

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let mut run = stage.run(kind, LOAD)?;
    run.warm_up(Duration::from_secs(3))?;
    run.gateway.forget_peak()?;
    let before = run.gateway.usage()?;
    let going = micros();
    run.broker.stop()?;
    let gone = micros();
    crate::rest(stage.outage);
    run.gateway.alive()?;
    let away = run.gateway.usage()?;
    let back = run.broker.come_back()?;
    let fresh = catch_up(&mut run)?;
    let after = run.gateway.usage()?;
    let (rows, _) = run.end()?;
    sound(&rows)?;
    // What the broker had taken before, it delivers by itself: only what was made while it was away counts.
    let first =
        rows.arrived(back, u64::MAX).find(|row| row.ts > gone / 1000).map(|row| between(back, row.arrival));
    let growth = after.peak.saturating_sub(before.rss);
    let written = count(away.written - before.written) / 1024.0;
    Ok(vec![
        Figure::aimed("records missing (by seq)", 0, fresh.then(|| count(rows.missing)), Target::Zero),
        Figure::open("events (losses and others)", 0, count(rows.others)),
        Figure::open("records that came twice", 0, count(rows.repeats)),
        Figure::open("longest gap between polls, ms", 0, longest_gap(&rows, going, back)),
        Figure::aimed("broker back to first delivery, s", 2, first, Target::Most(2.0)),
        Figure::aimed("backlog drained, readings/s", 0, drain(&rows, gone, back), Target::Least(50_000.0)),
        Figure::aimed("memory growth, MiB", 2, mebibytes(growth), Target::Most(4.0)),
        Figure::open("written to disk while away, KiB", 0, written),
    ])
}

/// Waits until nothing is missing and the newest reading is fresh, then a little more for a late repeat.
/// Says whether fresh readings arrive at all: without them nobody can tell what is missing.
fn catch_up(run: &mut Run) -> Result<bool> {
    let begin = Instant::now();
    let fresh = loop {
        crate::rest(Duration::from_millis(200));
        let seen = run.subscriber.seen()?;
        let fresh = between(seen.newest, micros()) < 0.5;
        if fresh && seen.missing == 0 {
            break true;
        }
        // What is missing now is lost: that is a figure, not a failure of the measurement.
        if begin.elapsed() > Duration::from_secs(20) {
            break fresh;
        }
        run.gateway.alive()?;
    };
    crate::rest(Duration::from_secs(1));
    Ok(fresh)
}

/// The longest time between two readings of one device in the outage, in milliseconds, by their `ts`.
fn longest_gap(rows: &Rows, going: u64, back: u64) -> Option<f64> {
    let mut times: HashMap<u32, Vec<u64>> = HashMap::new();
    let span = going / 1000..=back / 1000;
    for row in rows.arrived(0, u64::MAX).filter(|row| span.contains(&row.ts)) {
        times.entry(row.device).or_default().push(row.ts);
    }
    let longest = times.values_mut().filter_map(|times| {
        // The edges count too: a device that stopped being polled shows as a gap up to the return.
        times.extend([*span.start(), *span.end()]);
        times.sort_unstable();
        times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one).max()
    });
    longest.max().map(count)
}

/// The speed of the middle of the backlog: from a tenth of its readings to nine tenths, in readings a second.
fn drain(rows: &Rows, gone: u64, back: u64) -> Option<f64> {
    let backlog: Vec<&Row> =
        rows.arrived(back, u64::MAX).filter(|row| (gone / 1000..back / 1000).contains(&row.ts)).collect();
    let middle = backlog.get(backlog.len() / 10..backlog.len() * 9 / 10)?;
    let (first, last) = (middle.first()?, middle.last()?);
    Some(readings(middle.iter().copied()) / between(first.arrival, last.arrival))
}
