//! From nothing to the first reading.

use std::time::Duration;

use super::{between, count, mebibytes, sound};
use crate::Result;
use crate::figures::{Figure, Target};
use crate::gateway::{self, Kind};
use crate::stage::Stage;

pub(super) const ABOUT: &str =
    "from the start of the process to the first reading at the subscriber, load as in steady";

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let mut run = stage.run(kind, super::steady::LOAD)?;
    run.warm_up(Duration::from_millis(500))?;
    let started = run.started;
    let (rows, ending) = run.end()?;
    sound(&rows)?;
    let first = rows.arrived(0, u64::MAX).next().map(|row| between(started, row.arrival));
    let size = match kind {
        Kind::Fieldgate => Some(mebibytes(std::fs::metadata(gateway::fieldgate())?.len() / 1024)),
        Kind::Bare => None, // one executable with the conductor, its size says nothing
    };
    Ok(vec![
        Figure::aimed("to the first reading, s", 3, first, Target::Most(0.3)),
        Figure::open("orderly stop, s", 2, ending.as_secs_f64()),
        Figure::open("readings missing (by seq)", 0, count(rows.missing)),
        Figure::aimed("size of the binary, MiB", 2, size, Target::Most(12.0)),
    ])
}
