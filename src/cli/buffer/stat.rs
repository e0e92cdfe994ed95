//! `fieldgate buffer stat`: the file in numbers, for people or as one JSON object.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use super::export::kind;
use super::{BufferError, Exit, Subject, moved_aside};
use crate::buffer::store::Lost;
use crate::buffer::store::visit::{Entry, Files, RunRange, Survey, Visit, is_held};
use crate::clock::Timestamp;
use crate::record::{Name, Numbered};

/// Most runs and losses that people are shown.
const SHOWN: usize = 10;

pub(super) fn stat(subject: &Subject, json: bool) -> Result<Exit, BufferError> {
    let found = Visit::open(&subject.path).and_then(|visit| Ok((visit.survey()?, visit.version())));
    let mut out = io::stdout().lock();
    match found {
        Ok((survey, version)) if json => writeln!(out, "{:#}", report(subject, &survey, version))?,
        Ok((survey, version)) => tell(&mut out, subject, &survey, version)?,
        Err(error) if json => {
            let report = json!({
                "file": subject.path.display().to_string(),
                "gateway_running": is_held(&subject.path),
                "bytes": bytes(subject, None),
                "moved_aside": moved_aside(&subject.path),
                "fault": error.to_string(),
            });
            writeln!(out, "{report:#}")?;
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

fn report(subject: &Subject, survey: &Survey, version: i32) -> Json {
    let Survey { run, is_clean, events, replies, aside, commands, commands_open, .. } = survey;
    let [oldest, newest] = survey.ends.each_ref().map(|end| end.as_ref().map(record));
    let records = survey.records();
    let range = |range: &RunRange| {
        let RunRange { run, records, first, last } = range;
        json!({ "run": run, "records": records, "first": first, "last": last })
    };
    let lost =
        |lost: &Lost| json!({ "run": lost.run, "from": lost.first, "to": lost.last, "reason": lost.reason });
    json!({
        "file": subject.path.display().to_string(),
        "schema": version,
        "gateway_running": is_held(&subject.path),
        "run": run,
        "ended_in_order": is_clean,
        "records": {
            "total": records,
            "readings": readings(survey),
            "events": events,
            "replies": replies,
        },
        "runs": survey.runs.iter().map(range).collect::<Json>(),
        "oldest": oldest,
        "newest": newest,
        "bytes": bytes(subject, Some(survey.used)),
        "aside": { "total": aside, "records": survey.aside_shown.iter().map(aside_json).collect::<Json>() },
        "commands": { "total": commands, "open": commands_open },
        "lost_untold": survey.lost.iter().map(lost).collect::<Json>(),
        "moved_aside": moved_aside(&subject.path),
    })
}

fn readings(survey: &Survey) -> u64 {
    survey.records().saturating_sub(survey.events + survey.replies)
}

fn bytes(subject: &Subject, used: Option<u64>) -> Json {
    let Files { file, log, reserve, .. } = Files::of(&subject.path);
    json!({ "file": file, "used": used, "log": log, "reserve": reserve, "max_size": subject.max_size })
}

fn record(numbered: &Numbered) -> Json {
    let Numbered { name, record } = numbered;
    let age = (Timestamp::now().millis() - record.made.wall.millis()) / 1000;
    json!({
        "run": name.run,
        "seq": name.seq,
        "ts": record.made.wall.to_string(),
        "clock": if record.made.synced { "synced" } else { "unsynced" },
        "age_s": age,
    })
}

fn aside_json(entry: &Entry) -> Json {
    let Name { run, seq } = entry.name();
    let (reason, at) = entry.aside.as_ref().map(|(reason, at)| (reason, at.to_string())).unzip();
    let known = entry.record.as_ref().ok().map(|numbered| &numbered.record);
    json!({
        "run": run,
        "seq": seq,
        "kind": known.map(|record| kind(record.kind)),
        "topic": known.map(|record| record.topic.to_string()),
        "bytes": entry.record.as_ref().ok().map(|numbered| numbered.payload(false).len()),
        "reason": reason,
        "at": at,
    })
}

fn tell(out: &mut impl Write, subject: &Subject, survey: &Survey, version: i32) -> io::Result<()> {
    let Subject { path, max_size, .. } = subject;
    let is_running = is_held(path);
    let who = if is_running { "a gateway runs on it" } else { "no gateway runs on it" };
    writeln!(out, "{}: schema {version}, {who}", path.display())?;
    writeln!(out, "run:        {}{}", survey.run, if is_running { "" } else { ", the last one" })?;
    if survey.is_clean == Some(false) {
        writeln!(
            out,
            "            it ended without a word; the next start tells which numbers may be missing"
        )?;
    }
    writeln!(
        out,
        "records:    {} (readings {}, events {}, replies {})",
        survey.records(),
        readings(survey),
        survey.events,
        survey.replies
    )?;
    for RunRange { run, records, first, last } in newest(&survey.runs) {
        writeln!(out, "  run {run}: {records}, seq {first} to {last}")?;
    }
    tell_rest(out, "earlier runs", survey.runs.len().saturating_sub(SHOWN))?;
    for (which, end) in ["oldest:     ", "newest:     "].iter().zip(&survey.ends) {
        let Some(Numbered { name, record }) = end else { continue };
        let wall = record.made.wall;
        let age = if record.made.synced { age(wall) } else { "the clock was not set".to_owned() };
        writeln!(out, "{which}{}:{}, {wall}, {age}", name.run, name.seq)?;
    }
    let Files { file, log, reserve, .. } = Files::of(path);
    let most = max_size.map_or_else(String::new, |max_size| format!(", max_size {}", size(max_size)));
    let [file, log, reserve, used] = [file, log, reserve, survey.used].map(size);
    writeln!(out, "bytes:      file {file} (in use {used}), log {log}, reserve {reserve}{most}")?;
    writeln!(
        out,
        "commands:   {} in the journal, {} without outcome",
        survey.commands, survey.commands_open
    )?;
    for Lost { run, first, last, reason, .. } in newest(&survey.lost) {
        writeln!(out, "lost, not yet told: run {run}, seq {first} to {last}: {reason}")?;
    }
    tell_rest(out, "losses", survey.lost.len().saturating_sub(SHOWN))?;
    tell_aside(out, survey)?;
    for path in moved_aside(Path::new(path)) {
        writeln!(out, "moved aside as damaged: {path}")?;
    }
    Ok(())
}

fn tell_aside(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    writeln!(out, "set aside:  {}", survey.aside)?;
    for entry in &survey.aside_shown {
        let Name { run, seq } = entry.name();
        let what = entry.record.as_ref().map_or_else(
            |_| String::new(),
            |numbered| format!("{}, {} bytes: ", numbered.record.topic, numbered.payload(false).len()),
        );
        let reason = entry.aside.as_ref().map_or("", |(reason, _)| reason);
        let at = entry.aside.as_ref().map_or_else(String::new, |(_, at)| age(*at));
        writeln!(out, "  {run}:{seq} {what}{reason} ({at})")?;
    }
    let shown = u64::try_from(survey.aside_shown.len()).unwrap_or(0);
    tell_rest(out, "records", usize::try_from(survey.aside.saturating_sub(shown)).unwrap_or(0))
}

fn tell_rest(out: &mut impl Write, what: &str, count: usize) -> io::Result<()> {
    if count > 0 { writeln!(out, "  and {count} more {what}") } else { Ok(()) }
}

fn newest<T>(all: &[T]) -> impl Iterator<Item = &T> {
    all.iter().skip(all.len().saturating_sub(SHOWN))
}

/// How long ago, in the largest two units.
fn age(then: Timestamp) -> String {
    let seconds = (Timestamp::now().millis() - then.millis()) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        ..0 => "in the future".to_owned(),
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{minutes} min {} s ago", seconds % 60),
        3600..86_400 => format!("{hours} h {minutes} min ago"),
        _ => format!("{days} d {hours} h ago"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
