//! What was asked of a store and what it promised, kept outside of it, so that anybody can judge its file later.
//!
//! Lines, in the order of time: `run 7` it was opened and named this run; `begin 5` and `begun 5` a command is
//! entered; `issue +7:12:1 -7:3 =5:7:13` a commit inserts (run, seq, version), deletes, and finishes a command with
//! a reply; `ack` that commit is done. Of a commit that was issued the file may have nothing or all; a large one, or
//! one that finishes a command, also a part. Once acknowledged, it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use fieldgate::buffer::journal::Begun;
use fieldgate::buffer::store::{Lost, Opened, Store, StoreError};
use fieldgate::record::Name;
use rusqlite::Connection;

use super::LIMIT;
use super::specimen::{begin, outcome, record};

/// Big enough that nothing is dropped, small enough that the log is folded in often.
pub const MAX_SIZE: u64 = 2 << 20;

/// Bytes that surely go into one transaction.
const SMALL: usize = 32 << 10;

/// The records that are in a file, with the version of each: events grow.
pub type Versions = BTreeMap<Name, u32>;

/// The book of one buffer.
#[derive(Clone, Default)]
pub struct Ledger {
    run: u64,
    records: Versions,
    commands: BTreeMap<u64, Stage>,
    /// Issued, not yet acknowledged.
    open: Option<Batch>,
    /// The beginning of a line whose end has not come yet.
    part: String,
    /// Commits acknowledged so far.
    pub acknowledged: usize,
}

#[derive(Clone, Debug, Default)]
struct Batch {
    insert: Vec<(Name, u32)>,
    delete: Vec<Name>,
    /// A command, and its reply.
    finish: Option<(u64, Name)>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It holds something else than was promised.
    Content(String),
    /// It cannot be used as it is.
    File(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked for: the file may have it or not.
    Asked,
    Begun,
    Finished,
}

impl Ledger {
    /// Takes what was written since; the end of a line may come later, or never.
    pub fn read(&mut self, text: &str) {
        self.part.push_str(text);
        while let Some(end) = self.part.find('\n') {
            let line: String = self.part.drain(..=end).collect();
            self.line(line.trim_end());
        }
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "run" => self.run = number(rest),
            "begin" => drop(self.commands.insert(number(rest), Stage::Asked)),
            "begun" => drop(self.commands.insert(number(rest), Stage::Begun)),
            "issue" => self.open = Some(Batch::parse(rest)),
            "ack" => {
                let batch = self.open.take().expect("an ack follows an issue");
                self.enter(&batch);
                self.acknowledged += 1;
            }
            _ => panic!("not a line of a ledger: {line}"),
        }
    }

    fn enter(&mut self, batch: &Batch) {
        batch.apply(&mut self.records);
        if let Some((command, _)) = batch.finish {
            self.commands.insert(command, Stage::Finished);
        }
    }

    /// Opens the buffer in `folder` as the gateway does, compares, and sees that it goes on working. Returns the
    /// book in which what was open is settled.
    pub fn judge(&self, folder: &Path) -> Result<Self, Wrong> {
        let copy = fs::read_to_string(folder.join("buffer.db.run")).unwrap_or_default();
        let number = copy.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        if number.is_none_or(|run| run < self.run) {
            return Err(Wrong::File(format!("the copy of the run is {copy:?} after run {}", self.run)));
        }
        let mut later = self.clone();
        let mut store = Store::new(folder.join("buffer.db"), MAX_SIZE);
        later.judge_open(&mut store, folder)?;
        let settled = Self { run: self.run, part: String::new(), ..later.clone() };
        let name = Name { run: later.run, seq: 1 };
        store.commit(&[record(name, 1)], &[]).map_err(|error| unusable("it takes nothing", &error))?;
        store.commit(&[], &[name]).map_err(|error| unusable("it deletes nothing", &error))?;
        store.end(1);
        later.judge_open(&mut Store::new(folder.join("buffer.db"), MAX_SIZE), folder)?;
        Ok(settled)
    }

    /// A commit is under way.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens `store` and compares. What was open before is certain afterwards.
    fn judge_open(&mut self, store: &mut Store, folder: &Path) -> Result<(), Wrong> {
        let opened = open(store).map_err(|error| unusable("it does not open", &error))?;
        if let Some(replaced) = opened.replaced {
            return Err(Wrong::File(format!("it was taken for damaged: {replaced:?}")));
        }
        if opened.run <= self.run {
            return Err(Wrong::File(format!("run {} after run {}", opened.run, self.run)));
        }
        let found = held(store)?;
        if opened.usage.records != found.len() as u64 {
            return Err(Wrong::Content(format!(
                "{} records counted, {} found",
                opened.usage.records,
                found.len()
            )));
        }
        self.judge_records(&found)?;
        self.judge_told(&found, &opened.lost)?;
        self.judge_commands(store, &found)?;
        judge_structure(folder)?;
        (self.run, self.records, self.open) = (opened.run, found, None);
        Ok(())
    }

    /// Each record is there as it was before the open commit or as it is after it; a small commit is whole.
    fn judge_records(&self, found: &Versions) -> Result<(), Wrong> {
        let mut with_open = self.records.clone();
        if let Some(batch) = &self.open {
            batch.apply(&mut with_open);
        }
        if *found == self.records || *found == with_open {
            return Ok(());
        }
        let names = found.keys().chain(self.records.keys()).chain(with_open.keys());
        let may_be = |name: &Name| [self.records.get(name), with_open.get(name)];
        let wrong: BTreeSet<Name> =
            names.copied().filter(|name| !may_be(name).contains(&found.get(name))).collect();
        let lost = wrong.iter().filter(|name| !found.contains_key(name)).count();
        let first: Vec<_> = wrong.iter().take(5).map(|name| (name, found.get(name), may_be(name))).collect();
        let text = format!(
            "{} records, to be {} or {}; {} of them wrong, {lost} lost: {first:?}",
            found.len(),
            self.records.len(),
            with_open.len(),
            wrong.len()
        );
        let is_partial = wrong.is_empty() && self.open.as_ref().is_some_and(|batch| !batch.is_small());
        if is_partial { Ok(()) } else { Err(Wrong::Content(text)) }
    }

    /// What the open commit was to store and is not there has a number that was given: the file must call it lost.
    fn judge_told(&self, found: &Versions, lost: &[Lost]) -> Result<(), Wrong> {
        let open = self.open.iter().flat_map(|batch| &batch.insert);
        let gone = open.filter(|(name, version)| *version == 1 && !found.contains_key(name));
        let is_told = |name: &Name| {
            lost.iter().any(|lost| lost.run == name.run && (lost.first..=lost.last).contains(&name.seq))
        };
        match gone.map(|(name, _)| name).find(|name| !is_told(name)) {
            None => Ok(()),
            Some(name) => Err(Wrong::Content(format!("{name:?} is gone and not told as lost: {lost:?}"))),
        }
    }

    fn judge_commands(&mut self, store: &mut Store, found: &Versions) -> Result<(), Wrong> {
        let finishing = self.open.as_ref().and_then(|batch| batch.finish);
        for (&command, stage) in &mut self.commands {
            let known =
                store.begin(&begin(command, false)).map_err(|error| unusable("it has no journal", &error))?;
            let is_finished = known == Begun::Seen(outcome(command).into_bytes().into());
            let reply = finishing.filter(|(finishing, _)| *finishing == command).map(|(_, reply)| reply);
            let is_right = match (*stage, reply) {
                (Stage::Asked, _) => matches!(known, Begun::Fresh | Begun::Running),
                // The outcome and the reply are stored together.
                (Stage::Begun, Some(reply)) if found.contains_key(&reply) => is_finished,
                (Stage::Begun, _) => known == Begun::Running,
                (Stage::Finished, _) => is_finished,
            };
            if !is_right {
                let text = format!("command {command} is {stage:?} ({reply:?}), the file says {known:?}");
                return Err(Wrong::Content(text));
            }
            if is_finished {
                *stage = Stage::Finished;
            }
        }
        self.commands.retain(|_, stage| *stage != Stage::Asked);
        Ok(())
    }
}

impl Batch {
    fn parse(text: &str) -> Self {
        let mut batch = Self::default();
        for item in text.split_whitespace() {
            let (sign, rest) = item.split_at(1);
            let numbers: Vec<u64> = rest.split(':').map(number).collect();
            let name = || Name { run: numbers[0], seq: numbers[1] };
            match sign {
                "+" => batch.insert.push((name(), u32::try_from(numbers[2]).unwrap())),
                "-" => batch.delete.push(name()),
                "=" => {
                    let reply = Name { run: numbers[1], seq: numbers[2] };
                    batch.finish = Some((numbers[0], reply));
                    batch.insert.push((reply, 1));
                }
                _ => panic!("not an item of a commit: {item}"),
            }
        }
        batch
    }

    /// It is one transaction.
    fn is_small(&self) -> bool {
        let bytes = |(name, version): &(Name, u32)| record(*name, *version).record.body.len() + 128;
        self.finish.is_none() && self.insert.iter().map(bytes).sum::<usize>() < SMALL
    }

    fn apply(&self, to: &mut Versions) {
        to.extend(self.insert.iter().copied());
        for name in &self.delete {
            to.remove(name);
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Opens a store. A child that another thread starts has every lock of this process between its fork and its exec.
fn open(store: &mut Store) -> Result<Opened, StoreError> {
    let end = Instant::now() + LIMIT;
    loop {
        match store.open() {
            Err(StoreError::Locked(_)) if Instant::now() < end => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn judge_structure(folder: &Path) -> Result<(), Wrong> {
    let beside = Connection::open(folder.join("buffer.db"));
    let said = beside
        .and_then(|beside| beside.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
    match said {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => Err(Wrong::File(said)),
        Err(error) => Err(unusable("its integrity is unknown", &error)),
    }
}

fn unusable(what: &str, error: &dyn std::error::Error) -> Wrong {
    Wrong::File(format!("{what}: {error}"))
}

/// The records of a store, read in pieces as the gateway does, and their versions. Fails when one is not the same
/// to the letter as it was made.
pub fn held(store: &mut Store) -> Result<Versions, Wrong> {
    let (mut held, mut last) = (Versions::new(), None);
    loop {
        let more = store.load(last, 64).map_err(|error| unusable("it cannot be read", &error))?;
        if !more.damaged.is_empty() {
            return Err(Wrong::Content(format!("damaged rows: {:?}", more.damaged)));
        }
        let Some(newest) = more.last else { return Ok(held) };
        for numbered in more.records {
            let version = (1..=9).find(|version| record(numbered.name, *version) == numbered);
            let other = || Wrong::Content(format!("{:?} is not what was stored", numbered.name));
            held.insert(numbered.name, version.ok_or_else(other)?);
        }
        last = Some(newest);
    }
}
