//! The buffer without anything around it.

use super::count;
use crate::Result;
use crate::buffer::{self, Load, Pass};
use crate::figures::{Figure, Target};
use crate::gateway::Kind;
use crate::stage::Stage;

pub(super) const ABOUT: &str = "records through Append, Take and Ack with 64 out. online: acknowledged at once; \
     filling: none taken,\n  committed as fast as it goes without a loss; draining: that backlog, from the file. \
     bare: plain rusqlite\n  in one thread, the same rows, settings and batches, no queue and no checksums";

/// What a size is called in the table.
struct Names {
    online: &'static str,
    online_written: &'static str,
    filling: &'static str,
    draining: &'static str,
    through: &'static str,
}

macro_rules! names {
    ($size:literal) => {
        Names {
            online: concat!($size, " online, records/s"),
            online_written: concat!($size, " online, written, bytes/record"),
            filling: concat!($size, " filling, records/s"),
            draining: concat!($size, " draining, records/s"),
            through: concat!($size, " fill + drain, written, times"),
        }
    };
}

/// An event, a poll of a hundred registers, a large one.
const SIZES: [(Load, Names); 3] = [
    (Load { body: 160, records: 200_000 }, names!("160 B")),
    (Load { body: 1_500, records: 60_000 }, names!("1.5 kB")),
    (Load { body: 8_000, records: 20_000 }, names!("8 kB")),
];

/// fieldgate's rate is at least this part of the plain one.
const PART: f64 = 0.6;

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (load, names) in SIZES {
        let folder = stage.clean(kind)?;
        let passes = buffer::measure(kind, load, &folder)?;
        let records = f64::from(load.records);
        let rate = |pass: Pass| records / pass.seconds;
        let each = |written: u64| count(written) / records;
        let through = each(passes.fill.written + passes.drain.written) / count(u64::try_from(load.body)?);
        figures.extend([
            Figure::aimed(names.online, 0, rate(passes.online), Target::Part(PART)),
            Figure::aimed(names.online_written, 2, each(passes.online.written), Target::Most(1.0)),
            Figure::open(names.filling, 0, rate(passes.fill)),
            Figure::aimed(names.draining, 0, rate(passes.drain), Target::Part(PART)),
            Figure::aimed(names.through, 2, through, Target::Most(2.0)),
        ]);
    }
    Ok(figures)
}
