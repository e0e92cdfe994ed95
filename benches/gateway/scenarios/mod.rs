//! The scenarios, and their order: both gateways in turn within each run, so that a drift meets both.

mod buffer;
mod flat_out;
mod line;
mod outage;
mod planner;
mod start;
mod steady;
mod tcp;

use std::io::Write;

use crate::Result;
use crate::figures::{Figure, Runs};
use crate::gateway::Kind;
use crate::machine;
use crate::rows::{Row, Rows, percentile};
use crate::stage::Stage;

/// One scenario.
struct Scenario {
    name: &'static str,
    about: &'static str,
    measure: fn(&mut Stage, Kind) -> Result<Vec<Figure>>,
}

const ALL: [Scenario; 8] = [
    Scenario { name: "steady", about: steady::ABOUT, measure: steady::measure },
    Scenario { name: "flat-out", about: flat_out::ABOUT, measure: flat_out::measure },
    Scenario { name: "outage", about: outage::ABOUT, measure: outage::measure },
    Scenario { name: "start", about: start::ABOUT, measure: start::measure },
    Scenario { name: "buffer", about: buffer::ABOUT, measure: buffer::measure },
    Scenario { name: "planner", about: planner::ABOUT, measure: planner::measure },
    Scenario { name: "tcp", about: tcp::ABOUT, measure: tcp::measure },
    Scenario { name: "line", about: line::ABOUT, measure: line::measure },
];

/// Runs what `BENCH_SCENARIOS` and `BENCH_GATEWAYS` name, or all of it, and writes the tables to stdout.
pub(crate) fn conduct() -> Result<()> {
    let mut stage = Stage::set()?;
    let mut out = std::io::stdout();
    let mut missed = 0;
    let mut failed = 0;
    writeln!(out)?;
    machine::describe(&mut out, &stage)?;
    for scenario in ALL.iter().filter(|scenario| named("BENCH_SCENARIOS", scenario.name)) {
        writeln!(out, "\n{}: {}", scenario.name, scenario.about)?;
        let mut runs = Runs::default();
        for _ in 0..stage.runs {
            for (kind, of) in Kind::ALL.into_iter().zip(&mut runs.of) {
                if !named("BENCH_GATEWAYS", &kind.to_string()) {
                    continue;
                }
                match (scenario.measure)(&mut stage, kind) {
                    Ok(figures) => of.push(figures),
                    Err(error) => {
                        failed += 1;
                        writeln!(out, "  ! a run of {kind} was not measured: {error}")?;
                    }
                }
            }
        }
        missed += runs.write(&mut out)?;
    }
    writeln!(out, "\ntargets missed: {missed}; runs that could not be measured: {failed}")?;
    if failed > 0 {
        return Err("not everything could be measured".into());
    }
    Ok(())
}

/// The variable is unset, or `name` is one of the words in it.
fn named(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| list.split([',', ' ']).any(|word| word == name))
}

/// Milliseconds from the device's answer to the subscriber, sorted.
fn ages<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<f64> {
    let mut ages: Vec<_> = rows.map(|row| between(row.device_clock, row.arrival) * 1000.0).collect();
    ages.sort_by(f64::total_cmp);
    ages
}

/// Seconds from one moment to another, both in microseconds.
fn between(from: u64, to: u64) -> f64 {
    std::time::Duration::from_micros(to.saturating_sub(from)).as_secs_f64()
}

/// Readings in the rows.
fn readings<'a>(rows: impl Iterator<Item = &'a Row>) -> f64 {
    rows.fold(0.0, |sum, row| sum + f64::from(row.readings)) // an empty `sum()` is -0
}

/// The figures that must be right before any other counts: nothing missing, nothing mixed up.
fn sound(rows: &Rows) -> Result<()> {
    if rows.wrong > 0 {
        return Err(format!("{} messages carry values of different answers", rows.wrong).into());
    }
    Ok(())
}

/// A count as a figure; counts here stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn count(number: u64) -> f64 {
    number as f64
}

/// KiB to MiB.
fn mebibytes(kibibytes: u64) -> f64 {
    count(kibibytes) / 1024.0
}

/// The median and the 99th percentile.
fn middle_and_tail(sorted: &[f64]) -> (Option<f64>, Option<f64>) {
    (percentile(sorted, 0.5), percentile(sorted, 0.99))
}
