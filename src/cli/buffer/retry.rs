//! `fieldgate buffer retry`: what was set aside is sent again.

use std::io::{self, Write as _};
use std::path::Path;

use super::{BufferError, Exit};
use crate::buffer::store::visit::{Retried, Visit};
use crate::record::Name;

/// Records moved in one transaction.
const STEP: usize = 64;

/// These, or all when none is named.
pub(super) fn retry(path: &Path, names: &[Name]) -> Result<Exit, BufferError> {
    let mut visit = Visit::open_to_write(path)?;
    let wanted = names.len();
    let names = if names.is_empty() { all(&visit)? } else { names.to_vec() };
    let (mut moved, mut out, mut err) = (0, io::stdout().lock(), io::stderr().lock());
    for step in names.chunks(STEP) {
        for (Name { run, seq }, retried) in visit.retry(step)? {
            let why = match retried {
                Retried::Waits => {
                    moved += 1;
                    continue;
                }
                Retried::Unknown => "is not set aside; `fieldgate buffer stat` lists what is",
                Retried::Damaged => "is damaged; it stays set aside",
                Retried::Twice => "waits already; the one set aside stays",
            };
            // Where stderr is closed there is nobody to tell; the exit code still says it.
            drop(writeln!(err, "{run}:{seq} {why}"));
        }
        visit.rest();
    }
    let when = if visit.is_running() {
        "the running gateway sends them within seconds"
    } else {
        "the gateway sends them when it is started"
    };
    writeln!(out, "{moved} records wait again; {when}")?;
    Ok(if moved >= wanted { Exit::Done } else { Exit::Failed })
}

fn all(visit: &Visit) -> Result<Vec<Name>, BufferError> {
    let mut names: Vec<Name> = Vec::new();
    loop {
        let more = visit.aside(names.last().copied())?;
        if more.is_empty() {
            return Ok(names);
        }
        names.extend(more);
    }
}
