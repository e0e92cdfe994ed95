//! A file in numbers. Each is found by a short read of its own, so beside a running gateway they need not add up.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Entry, Shelf, Visit, VisitError};
use crate::buffer::store::Lost;
use crate::buffer::store::lost::lost;
use crate::buffer::store::rows::{name, read, to_sql};
use crate::buffer::store::space::pages;
use crate::record::{Name, Numbered};

/// Numbers counted in one read.
const STEP: i64 = 50_000;
/// Most records set aside that are shown.
const ASIDE: usize = 50;
/// A page of the file, in bytes.
const PAGE: u64 = 4096;

/// The records of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRange {
    /// The run.
    pub run: u64,
    /// How many of its records wait.
    pub records: u64,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

/// What the file holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The last run begun, or the present one.
    pub run: u64,
    /// Whether the last run ended in order. `None`: it goes on, or the file does not say.
    pub is_clean: Option<bool>,
    /// The runs that have records here, oldest first.
    pub runs: Vec<RunRange>,
    /// Events among the records.
    pub events: u64,
    /// Replies among the records.
    pub replies: u64,
    /// The oldest and the newest record by name, unless there are none or they are damaged.
    pub ends: [Option<Numbered>; 2],
    /// Bytes of the file that are in use.
    pub used: u64,
    /// Records set aside.
    pub aside: u64,
    /// The first of them, at most 50.
    pub aside_shown: Vec<Entry>,
    /// Commands in the journal.
    pub commands: u64,
    /// Commands without an outcome.
    pub commands_open: u64,
    /// Losses that no event tells yet.
    pub lost: Vec<Lost>,
}

impl Survey {
    /// Records that wait.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.runs.iter().map(|range| range.records).sum()
    }
}

impl Visit {
    /// Counts everything.
    pub fn survey(&self) -> Result<Survey, VisitError> {
        let mut survey = Survey { runs: self.runs()?, ..Survey::default() };
        survey.run = self.number("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'run'")?;
        survey.events = self.number("SELECT count(*) FROM records WHERE kind < 2 AND kind = 1")?;
        survey.replies = self.number("SELECT count(*) FROM records WHERE kind < 2 AND kind = 0")?;
        survey.ends = [self.end("ASC")?, self.end("DESC")?];
        survey.used =
            self.attempt(|connection| pages(connection).map(|(all, free)| all.saturating_sub(free) * PAGE))?;
        survey.commands = self.number("SELECT count(*) FROM commands")?;
        survey.commands_open = self.number("SELECT count(*) FROM commands WHERE outcome IS NULL")?;
        if self.version() > 1 {
            survey.aside = self.number("SELECT count(*) FROM aside")?;
            survey.aside_shown = self.page(Shelf::Aside, None)?;
            survey.aside_shown.truncate(ASIDE);
            survey.lost = self.attempt(lost)?;
            let clean = "SELECT clean FROM runs WHERE run = ?1";
            let clean = |connection: &Connection| {
                connection.query_row(clean, [to_sql(survey.run)], |row| row.get(0)).optional()
            };
            survey.is_clean = if self.is_running() { None } else { self.attempt(clean)? };
        }
        Ok(survey)
    }

    /// The runs with their records, counted along the index alone.
    fn runs(&self) -> Result<Vec<RunRange>, VisitError> {
        let mut runs: Vec<RunRange> = Vec::new();
        let mut after = Name { run: 0, seq: 0 };
        while let Some(first) = self.next_name(after)? {
            let mut range = RunRange { run: first.run, records: 0, first: first.seq, last: first.seq };
            loop {
                let (count, last) = self.attempt(|connection| {
                    let text = "SELECT count(*), max(seq) FROM \
                                (SELECT seq FROM records WHERE run = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3)";
                    let next = range.last + u64::from(range.records > 0);
                    connection
                        .prepare_cached(text)?
                        .query_row(params![to_sql(range.run), to_sql(next), STEP], |row| {
                            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
                        })
                })?;
                range.records += u64::try_from(count).unwrap_or(0);
                range.last = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(range.last);
                if count < STEP {
                    break;
                }
            }
            after = Name { run: range.run, seq: u64::MAX };
            runs.push(range);
        }
        Ok(runs)
    }

    fn next_name(&self, after: Name) -> Result<Option<Name>, VisitError> {
        self.attempt(|connection| {
            connection
                .prepare_cached(
                    "SELECT run, seq FROM records WHERE (run, seq) > (?1, ?2) ORDER BY run, seq LIMIT 1",
                )?
                .query_row([to_sql(after.run), to_sql(after.seq)], name)
                .optional()
        })
    }

    fn end(&self, order: &str) -> Result<Option<Numbered>, VisitError> {
        let columns = self.columns();
        self.attempt(|connection| {
            let text = format!("SELECT {columns} FROM records ORDER BY run {order}, seq {order} LIMIT 1");
            Ok(connection.query_row(&text, [], read).optional()?.and_then(Result::ok))
        })
    }

    fn number(&self, text: &str) -> Result<u64, VisitError> {
        let number: i64 = self.attempt(|connection| connection.query_row(text, [], |row| row.get(0)))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }
}
