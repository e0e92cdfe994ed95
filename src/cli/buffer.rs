//! `fieldgate buffer`: looks into the buffer file and changes it by hand, also while a gateway runs on it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Exit;
use crate::buffer::store::visit::{Files, VisitError};
use crate::clock::Timestamp;
use crate::config::{self, parse_duration};
use crate::record::Name;

mod check;
mod export;
mod purge;
mod retry;
mod stat;

/// Arguments of `fieldgate buffer`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The buffer file itself, such as one that was moved aside; else it is `buffer.path` of the configuration.
    #[arg(long, global = true, value_name = "PATH")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Tell what is in it.
    Stat {
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Read all of it and tell whether it is whole.
    Check {
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Write the records that wait to stdout, oldest first, as they would be sent.
    Export {
        /// A JSON object a line, or a table with a head.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Format,
        /// Those set aside instead, with reason and time.
        #[arg(long)]
        aside: bool,
        /// Only this run.
        #[arg(long)]
        run: Option<u64>,
        /// Only what was made at this time or later: RFC 3339, such as 2026-03-01T10:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<Timestamp>,
    },
    /// Delete readings and replies that wait; gap events will name them. Events stay.
    Purge {
        /// Those set aside instead.
        #[arg(long)]
        aside: bool,
        /// Only what is older, such as 7d.
        #[arg(long, value_name = "AGE", value_parser = parse_duration)]
        older_than: Option<Duration>,
        /// Do it. Without, only tell what would be deleted.
        #[arg(long)]
        yes: bool,
    },
    /// Send records again that were set aside.
    Retry {
        /// All of them.
        #[arg(long, conflicts_with = "names", required_unless_present = "names")]
        all: bool,
        /// Their names, as `stat` tells them.
        #[arg(value_name = "RUN:SEQ", value_parser = name)]
        names: Vec<Name>,
    },
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `{"topic":…,"payload":{…}}`
    Jsonl,
    /// `run,seq,kind,ts,topic,payload`
    Csv,
}

/// The file, and what the configuration says of it.
#[derive(Debug)]
struct Subject {
    path: PathBuf,
    /// `buffer.max_size`, if there is a configuration.
    max_size: Option<u64>,
    /// The first part of every topic.
    prefix: String,
}

#[derive(Debug, thiserror::Error)]
enum BufferError {
    #[error(transparent)]
    Visit(#[from] VisitError),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Does one task on the buffer file of the configuration, or on the file that is named.
#[must_use]
pub fn buffer(files: &[PathBuf], arguments: &Arguments) -> Exit {
    let subject = match (config::load_buffer(files), &arguments.file) {
        (Ok((buffer, prefix)), file) => {
            let path = file.clone().unwrap_or(buffer.path);
            Subject { path, max_size: Some(buffer.max_size), prefix }
        }
        // A file that was carried elsewhere has no configuration.
        (Err(_), Some(file)) => Subject { path: file.clone(), max_size: None, prefix: "{prefix}".to_owned() },
        (Err(error), None) => {
            super::check::complain(&error);
            return Exit::Config;
        }
    };
    let done = match &arguments.task {
        Task::Stat { json } => stat::stat(&subject, *json),
        Task::Check { json } => check::check(&subject.path, *json),
        Task::Export { format, aside, run, since } => {
            let wanted = export::Wanted { run: *run, since: *since };
            export::export(&subject, *format, shelf(*aside), wanted)
        }
        Task::Purge { aside, older_than, yes } => {
            purge::purge(&subject.path, shelf(*aside), *older_than, *yes)
        }
        Task::Retry { names, .. } => retry::retry(&subject.path, names),
    };
    match done {
        Ok(exit) => exit,
        // The reader has seen enough.
        Err(BufferError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            super::complain(&error);
            Exit::Failed
        }
    }
}

fn shelf(aside: bool) -> crate::buffer::store::visit::Shelf {
    use crate::buffer::store::visit::Shelf;
    if aside { Shelf::Aside } else { Shelf::Waiting }
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse(text).ok_or("it is not a time such as 2026-03-01T10:00:00Z")
}

fn name(text: &str) -> Result<Name, &'static str> {
    let name = text
        .split_once(':')
        .and_then(|(run, seq)| Some(Name { run: run.parse().ok()?, seq: seq.parse().ok()? }));
    name.ok_or("it is not RUN:SEQ, such as 1767225600:81234")
}

/// The files that were moved aside, for people.
fn moved_aside(path: &Path) -> Vec<String> {
    Files::of(path).moved_aside.iter().map(|path| path.display().to_string()).collect()
}
