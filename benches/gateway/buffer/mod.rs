//! The buffer alone, without devices and broker: fieldgate's actor, or plain rusqlite with the same rows.

mod actor;
mod plain;

use std::io::Write;
use std::path::Path;

use fieldgate::buffer::queue::{TAIL_BYTES, TAIL_RECORDS};

use crate::Result;
use crate::child::Child;
use crate::gateway::Kind;

/// Records out at a time, as the uplink has them by default.
const WINDOW: usize = 64;
/// Rows read at a time, and most rows deleted at a time: as the buffer does.
const LOAD: usize = 256;
const DELETE: usize = 512;

/// What is put through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Bytes of each body.
    pub(crate) body: usize,
    /// How many records.
    pub(crate) records: u32,
}

/// One way through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    /// From before the first record until the file was closed after the last one.
    pub(crate) seconds: f64,
    /// Bytes that the thread of the file gave to the disk (`wchar`) after the file was opened.
    pub(crate) written: u64,
}

/// What a child measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passes {
    /// Each record is acknowledged as soon as it is out.
    pub(crate) online: Pass,
    /// Nothing is taken.
    pub(crate) fill: Pass,
    /// What was filled in is opened again, taken and acknowledged.
    pub(crate) drain: Pass,
}

impl Load {
    /// Records that are written in one transaction while the backlog grows: half of what the buffer may keep in
    /// memory.
    fn batch(self) -> usize {
        (TAIL_RECORDS / 2).min(TAIL_BYTES / 2 / self.body.max(1)).max(1)
    }
}

/// Measures in a process of its own.
pub(crate) fn measure(kind: Kind, load: Load, folder: &Path) -> Result<Passes> {
    let arguments =
        [kind.to_string(), load.body.to_string(), load.records.to_string(), folder.display().to_string()];
    let (_child, mut lines) = Child::role("buffer", &arguments)?;
    let mut pass = || {
        let line = lines.next()?;
        let (seconds, written) = line.split_once(' ').ok_or("half a pass")?;
        Ok::<_, Box<dyn std::error::Error>>(Pass { seconds: seconds.parse()?, written: written.parse()? })
    };
    Ok(Passes { online: pass()?, fill: pass()?, drain: pass()? })
}

/// The process: prints one line for each pass.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [kind, body, records, folder] = arguments else {
        return Err("buffer KIND BODY RECORDS FOLDER".into());
    };
    let load = Load { body: body.parse()?, records: records.parse()? };
    let passes = if *kind == Kind::Bare.to_string() {
        plain::measure(load, folder.as_ref())?
    } else {
        actor::measure(load, folder.as_ref())?
    };
    let mut out = std::io::stdout();
    for pass in [passes.online, passes.fill, passes.drain] {
        writeln!(out, "{} {}", pass.seconds, pass.written)?;
    }
    Ok(())
}

/// A body of so many bytes, no two of them the same. To make it must cost little beside what is measured.
fn body(number: u32, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(b"\"device\":\"d0\",\"ts\":\"2026-03-01T12:00:00.000Z\",\"values\":{\"n\":");
    body.extend_from_slice(number.to_string().as_bytes());
    body.extend_from_slice(b",\"text\":\"");
    body.resize(bytes.saturating_sub(2), b'x');
    body.extend_from_slice(b"\"}");
    body
}
