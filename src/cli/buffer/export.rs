//! `fieldgate buffer export`: records as they would be sent. A page is read and let go before it is written:
//! whoever reads stdout may take his time.

use std::io::{self, BufWriter, Write};

use super::{BufferError, Exit, Format, Subject};
use crate::buffer::store::visit::{Entry, Page, Shelf, Visit};
use crate::clock::Timestamp;
use crate::record::{Name, Numbered, RecordKind};
use crate::uplink::Topics;

/// Which records are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) run: Option<u64>,
    pub(super) since: Option<Timestamp>,
}

pub(super) fn export(
    subject: &Subject,
    format: Format,
    shelf: Shelf,
    wanted: Wanted,
) -> Result<Exit, BufferError> {
    let visit = Visit::open(&subject.path)?;
    let topics = Topics::below(&subject.prefix);
    let mut out = BufWriter::new(io::stdout().lock());
    if format == Format::Csv {
        let more = if shelf == Shelf::Aside { ",reason,at" } else { "" };
        writeln!(out, "run,seq,kind,ts,topic,payload{more}")?;
    }
    // The last number of the run before, which nothing has.
    let mut after = wanted.run.map(|run| Name { run, seq: 0 });
    let mut damaged = 0_u64;
    loop {
        let page: Page = visit.page(shelf, after)?;
        let Some(last) = page.last().map(Entry::name) else { break };
        for entry in &page {
            if wanted.run.is_some_and(|run| run != entry.name().run) {
                continue;
            }
            match &entry.record {
                Ok(numbered) if wanted.since.is_some_and(|since| numbered.record.made.wall < since) => {}
                Ok(numbered) => {
                    let topic = topics.of(&numbered.record.topic);
                    write(&mut out, format, &topic, numbered, entry.aside.as_ref())?;
                }
                Err(Name { run, seq }) => {
                    damaged += 1;
                    // Where stderr is closed there is nobody to tell; the exit code still says it.
                    drop(writeln!(io::stderr(), "{run}:{seq} is damaged and left out"));
                }
            }
        }
        if wanted.run.is_some_and(|run| run != last.run) {
            break;
        }
        after = Some(last);
    }
    out.flush()?;
    Ok(if damaged > 0 { Exit::Failed } else { Exit::Done })
}

fn write(
    out: &mut impl Write,
    format: Format,
    topic: &str,
    numbered: &Numbered,
    aside: Option<&(String, Timestamp)>,
) -> io::Result<()> {
    let payload = numbered.payload(false);
    match format {
        Format::Jsonl => {
            write!(out, "{{\"topic\":{},\"payload\":", serde_json::Value::from(topic))?;
            out.write_all(&payload)?;
            if let Some((reason, at)) = aside {
                let reason = serde_json::Value::from(reason.as_str());
                write!(out, ",\"reason\":{reason},\"at\":\"{at}\"")?;
            }
            writeln!(out, "}}")
        }
        Format::Csv => {
            let Numbered { name, record } = numbered;
            let kind = kind(record.kind);
            write!(out, "{},{},{kind},{},", name.run, name.seq, record.made.wall)?;
            quote(out, topic.as_bytes())?;
            out.write_all(b",")?;
            quote(out, &payload)?;
            if let Some((reason, at)) = aside {
                out.write_all(b",")?;
                quote(out, reason.as_bytes())?;
                write!(out, ",{at}")?;
            }
            writeln!(out)
        }
    }
}

/// The kind's name.
pub(super) fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Reply => "reply",
        RecordKind::Event => "event",
        RecordKind::Readings => "readings",
    }
}

/// A field in quotes (RFC 4180).
fn quote(out: &mut impl Write, field: &[u8]) -> io::Result<()> {
    out.write_all(b"\"")?;
    for (index, part) in field.split(|byte| *byte == b'"').enumerate() {
        if index > 0 {
            out.write_all(b"\"\"")?;
        }
        out.write_all(part)?;
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        for (field, quoted) in [("", r#""""#), ("a,b", r#""a,b""#), (r#"{"a":"b"}"#, r#""{""a"":""b""}""#)] {
            let mut out = Vec::new();
            quote(&mut out, field.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), quoted);
        }
    }
}
