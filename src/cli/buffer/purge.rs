//! `fieldgate buffer purge`: deletes by hand, and leaves word of it.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use super::{BufferError, Exit};
use crate::buffer::store::visit::{Purge, Purged, Shelf, Visit, VisitError};

pub(super) fn purge(
    path: &Path,
    shelf: Shelf,
    older_than: Option<Duration>,
    yes: bool,
) -> Result<Exit, BufferError> {
    let purge = Purge { shelf, older_than };
    let what = match shelf {
        Shelf::Waiting => "readings and replies that wait",
        Shelf::Aside => "records set aside",
    };
    let mut out = io::stdout().lock();
    if !yes {
        let visit = Visit::open_current(path)?;
        let sum = add_up(|after| visit.count_purge(purge, after))?;
        writeln!(out, "{} {what} would be deleted; say --yes to do it", sum.gone)?;
        tell_ageless(&mut out, sum)?;
        return Ok(Exit::Usage);
    }
    let mut visit = Visit::open_to_write(path)?;
    let sum = add_up(|after| {
        let step = visit.purge(purge, after)?;
        if step.next.is_some() {
            visit.rest();
        }
        Ok(step)
    })?;
    let is_running = visit.is_running();
    if is_running {
        writeln!(out, "{} {what} were deleted; the running gateway tells it by a gap event", sum.gone)?;
        if shelf == Shelf::Waiting {
            writeln!(out, "what the gateway had in memory, or under way, may still be delivered")?;
        }
    } else {
        while visit.shrink()? {}
        writeln!(
            out,
            "{} {what} were deleted; the next start of the gateway tells it by a gap event",
            sum.gone
        )?;
    }
    tell_ageless(&mut out, sum)?;
    Ok(Exit::Done)
}

fn add_up(
    mut step: impl FnMut(Option<crate::record::Name>) -> Result<Purged, VisitError>,
) -> Result<Purged, VisitError> {
    let mut sum = Purged::default();
    loop {
        let one = step(sum.next)?;
        sum = Purged { gone: sum.gone + one.gone, ageless: sum.ageless + one.ageless, next: one.next };
        if sum.next.is_none() {
            return Ok(sum);
        }
    }
}

fn tell_ageless(out: &mut impl io::Write, sum: Purged) -> io::Result<()> {
    if sum.ageless == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "{} stay: they were made before the clock was set, by an earlier start of the machine, so nobody knows \
         their age; without --older-than they go too",
        sum.ageless
    )
}
