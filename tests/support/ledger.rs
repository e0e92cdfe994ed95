//! What was asked of a store and what it promised, kept outside of it, so that anybody can judge its file later.
//!
//! Lines, in the order of time: `run 7` it was opened and named this run; `begin 5` and `begun 5` a command is
//! entered; `issue +7:12:1 -7:3 =5` a commit inserts (run, seq, version), deletes, and finishes a command; `ack`
//! that commit is done. A commit that was issued is in the file whole or not at all; once acknowledged, it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use fieldgate::buffer::journal::Begun;
use fieldgate::buffer::store::{Opened, Store, StoreError};
use fieldgate::record::{Name, Numbered};
use rusqlite::Connection;

use super::LIMIT;
use super::specimen::{begin, outcome, record};

/// Big enough that nothing is dropped, small enough that the log is folded in often.
pub const MAX_SIZE: u64 = 8 << 20;

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
    finish: Option<u64>,
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
        if let Some(command) = batch.finish {
            self.commands.insert(command, Stage::Finished);
        }
    }

    /// Opens the buffer in `folder` as the gateway does, compares, and sees that it goes on working. Returns the
    /// book in which what was open is settled.
    pub fn judge(&self, folder: &Path) -> Result<Self, Wrong> {
        let copy = fs::read_to_string(folder.join("buffer.db.run")).unwrap_or_default();
        if copy
            .split_whitespace()
            .next()
            .and_then(|run| run.parse::<u64>().ok())
            .is_none_or(|run| run < self.run)
        {
            return Err(Wrong::File(format!("the copy of the run is {copy:?} after run {}", self.run)));
        }
        let mut later = self.clone();
        let mut store = Store::new(folder.join("buffer.db"), MAX_SIZE);
        later.judge_open(&mut store, folder)?;
        let settled = Self { run: self.run, part: String::new(), ..later.clone() };
        let name = Name { run: later.run, seq: 1 };
        store.commit(&[record(name, 1)], &[]).map_err(|error| unusable("it takes nothing", &error))?;
        store.commit(&[], &[name]).map_err(|error| unusable("it deletes nothing", &error))?;
        store.close();
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
        self.run = opened.run;
        let fits = self.judge_records(&load(store)?)?;
        let [_, is_after] = self.judge_commands(store, fits)?;
        if let Some(batch) = self.open.take().filter(|_| is_after) {
            self.enter(&batch);
        }
        self.commands.retain(|_, stage| *stage != Stage::Asked);
        let beside = Connection::open(folder.join("buffer.db"));
        let said = beside
            .and_then(|beside| beside.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
        match said {
            Ok(said) if said == "ok" => Ok(()),
            Ok(said) => Err(Wrong::File(said)),
            Err(error) => Err(unusable("its integrity is unknown", &error)),
        }
    }

    /// Compares the records; says whether they fit without and with the commit that is open.
    fn judge_records(&self, found: &[Numbered]) -> Result<[bool; 2], Wrong> {
        let versions = versions(found)?;
        let mut with_open = self.records.clone();
        if let Some(batch) = &self.open {
            batch.apply(&mut with_open);
        }
        let fits = [versions == self.records, versions == with_open];
        if fits != [false; 2] {
            return Ok(fits);
        }
        let surely = self.records.iter().filter(|(name, _)| with_open.contains_key(name));
        let lost: Vec<_> = surely.filter(|(name, _)| !versions.contains_key(name)).collect();
        let known = |name| with_open.contains_key(name) || self.records.contains_key(name);
        let extra: Vec<_> = versions.keys().filter(|name| !known(name)).collect();
        Err(Wrong::Content(format!(
            "{} records, to be {} or {}; {} lost: {:?}; {} too many: {:?}",
            versions.len(),
            self.records.len(),
            with_open.len(),
            lost.len(),
            lost.iter().take(5).collect::<Vec<_>>(),
            extra.len(),
            extra.iter().take(5).collect::<Vec<_>>(),
        )))
    }

    /// Compares the commands, and narrows down what the records left open.
    fn judge_commands(&self, store: &mut Store, fits: [bool; 2]) -> Result<[bool; 2], Wrong> {
        let finishing = self.open.as_ref().and_then(|batch| batch.finish);
        let mut narrowed = fits;
        for (&command, &stage) in &self.commands {
            let known =
                store.begin(&begin(command, false)).map_err(|error| unusable("it has no journal", &error))?;
            let is_finished = known == Begun::Seen(outcome(command).into_bytes().into());
            let is_right = match stage {
                Stage::Asked => matches!(known, Begun::Fresh | Begun::Running),
                Stage::Begun if finishing == Some(command) => {
                    narrowed = [fits[0] && known == Begun::Running, fits[1] && is_finished];
                    narrowed != [false; 2]
                }
                Stage::Begun => known == Begun::Running,
                Stage::Finished => is_finished,
            };
            if !is_right {
                let text = format!("command {command} is {stage:?}, the file says {known:?} ({fits:?})");
                return Err(Wrong::Content(text));
            }
        }
        Ok(narrowed)
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
                "=" => batch.finish = Some(numbers[0]),
                _ => panic!("not an item of a commit: {item}"),
            }
        }
        batch
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

fn unusable(what: &str, error: &dyn std::error::Error) -> Wrong {
    Wrong::File(format!("{what}: {error}"))
}

/// All records of a store, read in pieces as the gateway does.
pub fn load(store: &mut Store) -> Result<Vec<Numbered>, Wrong> {
    let mut found: Vec<Numbered> = Vec::new();
    loop {
        let more = store
            .load(found.last().map(|numbered| numbered.name), 64)
            .map_err(|error| unusable("it cannot be read", &error))?;
        if !more.damaged.is_empty() {
            return Err(Wrong::File(format!("rows without their checksum: {:?}", more.damaged)));
        }
        if more.records.is_empty() {
            return Ok(found);
        }
        found.extend(more.records);
    }
}

/// The versions of these records. Fails when one is not the same to the letter as it was made.
pub fn versions(found: &[Numbered]) -> Result<Versions, Wrong> {
    let version = |numbered: &Numbered| {
        let made = (1..=9).find(|version| record(numbered.name, *version) == *numbered);
        let made =
            made.ok_or_else(|| Wrong::Content(format!("{:?} is not what was stored", numbered.name)))?;
        Ok((numbered.name, made))
    };
    found.iter().map(version).collect()
}
