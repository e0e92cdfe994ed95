//! The counting: what the device served against what a subscriber received. A plain function that gives a verdict,
//! so that a broken gateway can be shown to be found out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::collector::{Arrived, Content, Kind, Lost, Received};
use super::counted::Served;

/// How many faults of one kind are kept; the rest is only counted.
const KEPT: usize = 20;

/// What may be missing.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// When the gateway was killed, in the clock of the device's book: it lived before, and was dead after.
    pub kills: Vec<RangeInclusive<u64>>,
    /// A value that the gateway had this long before a kill must arrive: `commit_every` and one sync.
    pub window: Duration,
    /// The reasons of losses that excuse a value. Every reason excuses a hole; a value is not excused by the
    /// word for an unclean stop, because that says only that something may be missing.
    pub excuses: Vec<&'static str>,
}

/// Faults of one kind.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How many there are.
    pub count: usize,
    /// The first of them in words.
    pub first: Vec<String>,
}

impl Faults {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(what());
        }
    }
}

/// What the counting found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Values that the device served and nobody received, outside the window of a kill and outside what an
    /// event calls lost.
    pub lost: Faults,
    /// Numbers of a run that are missing below its highest, and that no event calls lost.
    pub holes: Faults,
    /// Records that came again with another content.
    pub changed: Faults,
    /// Values that were never served, or served once and received as two records, or under another's name.
    pub foreign: Faults,
    /// Readings that came after a newer one of their kind, live or backlog, by the same connection.
    pub disordered: Faults,
    /// Values served.
    pub served: usize,
    /// Values received.
    pub received: usize,
    /// Records that came more than once.
    pub repeats: usize,
    /// Records that came as backlog.
    pub backlog: usize,
    /// Runs that were seen.
    pub runs: usize,
    /// What events call lost.
    pub told: Vec<Lost>,
    /// For each kill that cost a value: how long before it the gateway had the oldest one.
    pub ages: Vec<Duration>,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.kinds().iter().all(|(_, faults)| faults.count == 0)
    }

    /// Shows it to whoever runs the test with `--nocapture`.
    pub fn report(&self, what: &str) {
        eprintln!("{what}: {self}");
    }

    fn kinds(&self) -> [(&'static str, &Faults); 5] {
        [
            ("lost", &self.lost),
            ("holes", &self.holes),
            ("changed", &self.changed),
            ("foreign", &self.foreign),
            ("disordered", &self.disordered),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, received, repeats, backlog, runs, .. } = self;
        write!(
            f,
            "{served} values served, {received} received, {runs} runs, {repeats} repeats, {backlog} as backlog, "
        )?;
        write!(f, "{} ranges told lost, {} kills cost values, ", self.told.len(), self.ages.len())?;
        write!(f, "the oldest {:?} old", self.ages.iter().max().copied().unwrap_or_default())?;
        for (kind, faults) in self.kinds().iter().filter(|(_, faults)| faults.count > 0) {
            write!(f, "\n{kind}: {}", faults.count)?;
            for fault in &faults.first {
                write!(f, "\n    {fault}")?;
            }
        }
        Ok(())
    }
}

/// Compares the book of the device with what arrived.
pub fn judge(served: &[Served], received: &[Received], rule: &Rule) -> Verdict {
    let mut verdict = Verdict { served: served.len(), ..Verdict::default() };
    let records = sort(received, &mut verdict);
    let known: BTreeSet<(u64, u64)> = served.iter().map(|served| (served.unit, served.n)).collect();
    // By unit and answer: the record it came as.
    let mut values: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for (name, arrived) in &records {
        match &arrived.kind {
            Kind::Weighed { unit, n } => {
                if !known.contains(&(*unit, *n)) {
                    verdict.foreign.add(|| format!("{name:?}: answer {n} of unit {unit} was never given"));
                } else if let Some(other) = values.insert((*unit, *n), *name) {
                    verdict
                        .foreign
                        .add(|| format!("answer {n} of unit {unit} came as {other:?} and {name:?}"));
                }
            }
            Kind::Foreign(why) => verdict.foreign.add(|| format!("{name:?}: {why}")),
            Kind::Lost(lost) if !verdict.told.contains(lost) => verdict.told.push(lost.clone()),
            _ => {}
        }
    }
    verdict.received = values.len();
    find_holes(&records, &mut verdict);
    find_lost(served, &values, &records, rule, &mut verdict);
    verdict
}

/// The records by their names, each once. Repeats, nonsense and the order are judged on the way.
fn sort<'r>(received: &'r [Received], verdict: &mut Verdict) -> BTreeMap<(u64, u64), &'r Arrived> {
    let mut records: BTreeMap<(u64, u64), &Arrived> = BTreeMap::new();
    // The newest reading of each connection, live and backlog.
    let mut newest: HashMap<(u64, bool), (u64, u64)> = HashMap::new();
    for Received { connection, content, .. } in received {
        let arrived = match content {
            Content::Record(arrived) => arrived,
            Content::Unnumbered => continue,
            Content::Nonsense(why) => {
                verdict.foreign.add(|| why.clone());
                continue;
            }
        };
        let name = (arrived.run, arrived.seq);
        if let Some(first) = records.get(&name) {
            verdict.repeats += 1;
            if first.digest != arrived.digest {
                verdict.changed.add(|| format!("{name:?}"));
            }
            continue;
        }
        records.insert(name, arrived);
        verdict.backlog += usize::from(arrived.is_backlog);
        if matches!(arrived.kind, Kind::Weighed { .. } | Kind::Bad | Kind::Foreign(_)) {
            let newest = newest.entry((*connection, arrived.is_backlog)).or_insert(name);
            if *newest > name {
                let class = if arrived.is_backlog { "backlog" } else { "live" };
                verdict.disordered.add(|| format!("{class} {name:?} came after {newest:?}"));
            }
            *newest = name.max(*newest);
        }
    }
    verdict.runs = records.keys().map(|(run, _)| *run).collect::<BTreeSet<u64>>().len();
    records
}

fn find_holes(records: &BTreeMap<(u64, u64), &Arrived>, verdict: &mut Verdict) {
    let covers = |lost: &Lost, run, seq| lost.run == run && (lost.from..=lost.to).contains(&seq);
    let (mut run, mut expected) = (0, 1);
    for (of, seq) in records.keys() {
        if *of != run {
            (run, expected) = (*of, 1);
        }
        for missing in expected..*seq {
            if !verdict.told.iter().any(|lost| covers(lost, run, missing)) {
                verdict.holes.add(|| format!("{missing} of run {run}"));
            }
        }
        expected = seq + 1;
    }
}

fn find_lost(
    served: &[Served],
    values: &BTreeMap<(u64, u64), (u64, u64)>,
    records: &BTreeMap<(u64, u64), &Arrived>,
    rule: &Rule,
    verdict: &mut Verdict,
) {
    let excused: Vec<&Lost> =
        verdict.told.iter().filter(|lost| rule.excuses.contains(&lost.reason.as_str())).collect();
    // The missing answers, by where they belong: between which two records of their unit.
    let mut missing: BTreeMap<(Place, Place), Vec<&Served>> = BTreeMap::new();
    let mut ages: BTreeMap<u64, Duration> = BTreeMap::new();
    for (answer, taken) in with_proof(served) {
        let key = (answer.unit, answer.n);
        if values.contains_key(&key) {
            continue;
        }
        let Some(taken) = taken else { continue };
        let kills = rule.kills.iter().filter(|kill| *kill.end() >= taken);
        if let Some(kill) = kills.min_by_key(|kill| *kill.end()) {
            let age = Duration::from_nanos(kill.start().saturating_sub(taken));
            let oldest = ages.entry(*kill.end()).or_default();
            *oldest = age.max(*oldest);
            if age < rule.window {
                continue;
            }
        }
        let before = values.range(..key).next_back().filter(|((unit, _), _)| *unit == answer.unit);
        let after = values.range(key..).next().filter(|((unit, _), _)| *unit == answer.unit);
        missing
            .entry((before.map(|(_, name)| *name), after.map(|(_, name)| *name)))
            .or_default()
            .push(answer);
    }
    verdict.ages = ages.into_values().collect();
    for ((before, after), answers) in missing {
        // As many of them are excused as numbers are told lost where they belong.
        let room = room_between(before, after, &excused, records);
        for answer in answers.iter().skip(room) {
            let Served { unit, n, answered, .. } = answer;
            verdict.lost.add(|| {
                format!("answer {n} of unit {unit}, given at {answered}, between {before:?} and {after:?}")
            });
        }
    }
}

/// The name of a record, if there is one.
type Place = Option<(u64, u64)>;

/// Each answer, and when it is proved that the gateway had it: it asked again on the same connection.
fn with_proof(served: &[Served]) -> Vec<(&Served, Option<u64>)> {
    let mut next: HashMap<u64, u64> = HashMap::new();
    let mut all: Vec<_> =
        served.iter().rev().map(|answer| (answer, next.insert(answer.connection, answer.asked))).collect();
    all.reverse();
    all
}

/// How many numbers between two records never came and are told lost.
fn room_between(
    before: Place,
    after: Place,
    excused: &[&Lost],
    records: &BTreeMap<(u64, u64), &Arrived>,
) -> usize {
    let (first, last) = (before.unwrap_or((0, 0)), after.unwrap_or((u64::MAX, u64::MAX)));
    let ranges = excused.iter().filter_map(|lost| {
        let from = (lost.run, lost.from).max((first.0, first.1 + 1));
        let to = (lost.run, lost.to).min((last.0, last.1.saturating_sub(1)));
        (from.0 == lost.run && to.0 == lost.run && from <= to).then_some((lost.run, from.1..=to.1))
    });
    let mut by_run: BTreeMap<u64, Vec<RangeInclusive<u64>>> = BTreeMap::new();
    for (run, range) in ranges {
        by_run.entry(run).or_default().push(range);
    }
    let mut room = 0;
    for (run, mut ranges) in by_run {
        ranges.sort_by_key(|range| *range.start());
        let mut done = 0;
        for range in ranges {
            let (from, to) = ((*range.start()).max(done + 1), *range.end());
            if from <= to {
                let came = records.range((run, from)..=(run, to)).count();
                room += usize::try_from(to - from + 1).unwrap_or(usize::MAX) - came;
                done = to;
            }
        }
    }
    room
}
