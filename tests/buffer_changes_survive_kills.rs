//! `fieldgate buffer purge` and `retry`, killed before any change of the file: every record is where it was, where it
//! was to go, or named as lost; never nowhere, and never twice.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use fieldgate::record::Name;
use rusqlite::Connection;
use support::disk::{Control, disturb, preload, quick_folder};
use support::specimen::{is_event, record};
use support::stocked::stocked;
use support::{fieldgate, rounds};

const WAITING: i64 = 400;
/// Moved by four transactions.
const ASIDE: i64 = 200;
const SIGKILL: i32 = 9;

/// What a file holds.
struct Found {
    waiting: BTreeMap<i64, Vec<u8>>,
    aside: BTreeMap<i64, Vec<u8>>,
    lost: Vec<(i64, i64)>,
}

impl Found {
    fn read(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("buffer.db")).unwrap();
        let said: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok");
        let rows = |text: &str| {
            let mut statement = connection.prepare(text).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let mut ranges = connection.prepare("SELECT first, last FROM lost WHERE reason = 'purged'").unwrap();
        let ranges = ranges.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        Self {
            waiting: rows("SELECT seq, body FROM records"),
            aside: rows("SELECT seq, body FROM aside"),
            lost: ranges.collect::<Result<_, _>>().unwrap(),
        }
    }

    fn is_lost(&self, seq: i64) -> bool {
        self.lost.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }
}

/// Runs the task on copies of one file, killed before each of its changes, and lets `judge` see what is left.
/// Returns how many changes there were.
fn kill_everywhere(task: &[&str], judge: impl Fn(&Found, bool)) -> usize {
    let outside = tempfile::tempdir().unwrap();
    let library = preload("disk", outside.path());
    let control = outside.path().join("control");
    let template = quick_folder();
    let (_, records) = stocked(template.path(), WAITING.cast_unsigned(), ASIDE.cast_unsigned());
    let run = records[0].name.run;
    let mut place = 1;
    loop {
        let folder = quick_folder();
        fs::copy(template.path().join("buffer.db"), folder.path().join("buffer.db")).unwrap();
        let kill = Control::new(&control, &format!("kill {place}"));
        let mut tool = fieldgate();
        tool.args(["buffer", "--file"]).arg(folder.path().join("buffer.db")).args(task);
        disturb(&mut tool, &library, folder.path(), &control);
        let output = tool.output().unwrap();
        drop(kill);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || output.status.signal() == Some(SIGKILL), "change {place}: {said}");
        let found = Found::read(folder.path());
        for (seq, body) in found.waiting.iter().chain(&found.aside) {
            assert_eq!(
                *body,
                *record(Name { run, seq: seq.cast_unsigned() }, 1).record.body,
                "{seq} is another one"
            );
        }
        judge(&found, output.status.success());
        if output.status.success() {
            return place;
        }
        place += rounds(7, 1);
    }
}

#[test]
fn a_purge_that_is_killed_has_told_what_it_deleted() {
    let changes = kill_everywhere(&["purge", "--yes"], |found, is_done| {
        for seq in 1..=WAITING {
            let name = Name { run: 1, seq: seq.cast_unsigned() };
            let is_there = found.waiting.contains_key(&seq);
            assert!(is_there || found.is_lost(seq), "{seq} is gone and nobody tells it");
            assert!(is_there || !is_event(name), "{seq} is an event and gone");
            assert!(!is_done || !is_there || is_event(name), "{seq} was to go");
        }
        assert_eq!(found.aside.len(), 200);
    });
    println!("killed before each of {changes} changes");
    assert!(changes > 20, "{changes} changes");
}

#[test]
fn a_retry_that_is_killed_has_each_record_once() {
    let changes = kill_everywhere(&["retry", "--all"], |found, is_done| {
        for seq in 1..=WAITING + ASIDE {
            let places = [&found.waiting, &found.aside].map(|table| u8::from(table.contains_key(&seq)));
            assert_eq!(places[0] + places[1], 1, "{seq} lies in {places:?} places");
            assert!(!is_done || places[0] == 1, "{seq} was to be moved");
        }
        assert_eq!(found.lost, []);
    });
    println!("killed before each of {changes} changes");
    assert!(changes > 20, "{changes} changes");
}
