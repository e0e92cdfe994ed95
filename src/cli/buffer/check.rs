//! `fieldgate buffer check`: reads all of the file and changes nothing.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;

use super::{BufferError, Exit, moved_aside};
use crate::buffer::store::visit::{Entry, Shelf, Visit, VisitError};

/// Most damaged rows told.
const SHOWN: usize = 20;
/// The reason of a row that was set aside because it is damaged: that is known.
const DAMAGED: &str = "damaged";

pub(super) fn check(path: &Path, json: bool) -> Result<Exit, BufferError> {
    let (mut rows, mut known, mut bad) = (0_u64, 0_u64, 0_u64);
    let mut faults = Vec::new();
    let mut note = |entry: &Entry, faults: &mut Vec<String>| {
        rows += 1;
        let Err(name) = &entry.record else { return };
        if entry.aside.as_ref().is_some_and(|(reason, _)| reason == DAMAGED) {
            known += 1;
            return;
        }
        bad += 1;
        if faults.len() < SHOWN {
            faults.push(format!("the row {}:{} does not bear its checksum", name.run, name.seq));
        }
    };
    match Visit::open(path) {
        Ok(visit) => {
            faults = visit.faults()?;
            if let Err(fault) = look_through(&visit, |entry| note(entry, &mut faults)) {
                faults.push(damaged(fault)?);
            }
        }
        Err(fault) => faults.push(damaged(fault)?),
    }
    let mut out = io::stdout().lock();
    let (is_whole, moved_aside) = (faults.is_empty() && bad == 0, moved_aside(path));
    if json {
        let report = json!({
            "file": path.display().to_string(),
            "whole": is_whole,
            "rows": rows,
            "faults": faults,
            "damaged_rows": bad,
            "damaged_aside": known,
            "moved_aside": moved_aside,
        });
        writeln!(out, "{report:#}")?;
    } else if is_whole {
        writeln!(out, "{}: whole, {rows} records", path.display())?;
    } else {
        writeln!(out, "{}: damaged", path.display())?;
        for fault in &faults {
            writeln!(out, "  {fault}")?;
        }
        if bad > 0 {
            writeln!(
                out,
                "damaged rows: {bad} of {rows}; `fieldgate run` sets them aside and names them in a gap event"
            )?;
        }
        if faults.len() as u64 > bad {
            writeln!(
                out,
                "what to do: `fieldgate run` moves a damaged file aside whole, carries over what can be read and \
                 begins a new one"
            )?;
        }
    }
    if !json {
        if known > 0 {
            writeln!(out, "set aside because they were damaged: {known}")?;
        }
        for path in moved_aside {
            writeln!(out, "moved aside as damaged: {path}")?;
        }
    }
    Ok(if is_whole { Exit::Done } else { Exit::Failed })
}

/// Each row bears its checksum, or is noted.
fn look_through(visit: &Visit, mut note: impl FnMut(&Entry)) -> Result<(), VisitError> {
    for shelf in [Shelf::Waiting, Shelf::Aside] {
        let mut after = None;
        loop {
            let page = visit.page(shelf, after)?;
            let Some(last) = page.last() else { break };
            page.iter().for_each(&mut note);
            after = Some(last.name());
        }
    }
    Ok(())
}

/// The text of a damage; everything else ends the check.
fn damaged(fault: VisitError) -> Result<String, VisitError> {
    match fault {
        VisitError::Damaged { error, .. } => Ok(error),
        other => Err(other),
    }
}
