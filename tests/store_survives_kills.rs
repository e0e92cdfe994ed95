//! `kill -9` at any instant of the store's life leaves a buffer that opens, holds every record whose commit was
//! acknowledged, none that was deleted, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fastrand::Rng;
use support::disk::{Control, disturb, preload, quick_folder};
use support::ledger::Ledger;
use support::load::{Load, marks, prepare, prepare_old, work};
use support::{LIMIT, rounds};

const SIGKILL: i32 = 9;

#[test]
#[ignore = "the child of the others"]
fn child() {
    work();
}

/// On a real disk, one buffer all the way: each child finds what the killed one before it has left.
#[test]
fn a_kill_at_any_time_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let mut rng = Rng::with_seed(9);
    let mut ledger = Ledger::default();
    let timer = Timer::new();
    // How long a child needs until it has opened the store.
    let mut start = Duration::from_millis(20);
    let (mut opening, mut between) = (0, 0);
    let all = rounds(150, 1_200);
    for round in 0..all {
        let load = Load {
            seed: round as u64,
            commits: u64::MAX,
            reopen: *rng.choice(&[1, 3, 20]).unwrap(),
            close: false,
        };
        fs::write(marks(folder), "").unwrap();
        let mut child =
            load.child("child", folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // One in four is killed before or while it opens the store, the others further on.
        let lines = if rng.u8(..4) == 0 { 0 } else { rng.usize(1..40) };
        if lines > 0 {
            start = timer.wait_lines(folder, lines, &mut child);
            timer.wait(Duration::from_micros(rng.u64(..3_000)));
        } else {
            timer.wait(start.mul_f64(rng.f64()));
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGKILL), "round {round}: it ended by itself: {said}");
        let told = fs::read_to_string(marks(folder)).unwrap();
        ledger.read(&told);
        opening += usize::from(told.is_empty());
        between += usize::from(ledger.is_open());
        ledger = judge_copy(&ledger, folder).unwrap_or_else(|wrong| panic!("round {round}: {wrong}"));
    }
    println!(
        "{all} kills: {opening} before the store was open, {between} in a commit, {} commits acknowledged",
        ledger.acknowledged
    );
    assert!(opening > all / 20 && between > all / 20 && ledger.acknowledged > all, "the kills do not spread");
}

/// Every place where the file changes: making it, opening it after an end without a word, bringing it up to date,
/// committing, folding the log in, closing.
#[test]
fn a_kill_before_any_change_of_the_file_loses_nothing_that_was_acknowledged() {
    let outside = tempfile::tempdir().unwrap();
    let library = preload("disk", outside.path());
    let control = outside.path().join("control");
    let life = Load { seed: 1, commits: 8, reopen: 4, close: true };

    let new = quick_folder();
    prepare(new.path());
    let left = quick_folder();
    prepare(left.path());
    let abandoned = Load { seed: 0, commits: 12, reopen: 6, close: false };
    let output = abandoned.child("child", left.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(left.path().join("buffer.db-wal").exists());

    let old = quick_folder();
    prepare_old(old.path(), true);

    for (what, template) in
        [("a new file", new.path()), ("a file left behind", left.path()), ("an old file", old.path())]
    {
        let mut place = 1;
        let places = loop {
            let folder = quick_folder();
            copy(template, folder.path());
            let kill = Control::new(&control, &format!("kill {place}"));
            let mut child = life.child("child", folder.path());
            disturb(&mut child, &library, folder.path(), &control);
            let output = child.output().unwrap();
            drop(kill);
            let mut ledger = Ledger::default();
            ledger.read(&fs::read_to_string(marks(folder.path())).unwrap());
            ledger.judge(folder.path()).unwrap_or_else(|wrong| panic!("{what}, change {place}: {wrong:?}"));
            if output.status.success() {
                break place;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(SIGKILL), "{what}, change {place}: {said}");
            place += rounds(11, 1);
        };
        println!("{what}: killed before each of {places} changes");
        assert!(places > 100, "{what}: {places} changes");
    }
}

/// Looks at a copy, so that the next child has to cope with what the kill left.
fn judge_copy(ledger: &Ledger, folder: &Path) -> Result<Ledger, String> {
    let image = quick_folder();
    copy(folder, image.path());
    ledger.judge(image.path()).map_err(|wrong| format!("{wrong:?}"))
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Lets time pass. A kill has to come at some instant; nothing is expected to have happened by then.
struct Timer {
    _open: Sender<()>,
    never: Receiver<()>,
}

impl Timer {
    fn new() -> Self {
        let (open, never) = channel();
        Self { _open: open, never }
    }

    fn wait(&self, time: Duration) {
        self.never.recv_timeout(time).unwrap_err();
    }

    /// Until the child has told so many lines. Returns how long the first one took.
    fn wait_lines(&self, folder: &Path, lines: usize, child: &mut Child) -> Duration {
        let begin = Instant::now();
        let mut first = None;
        loop {
            let told = fs::read_to_string(marks(folder)).unwrap().lines().count();
            if told > 0 {
                first.get_or_insert_with(|| begin.elapsed());
            }
            if let Some(first) = first.filter(|_| told >= lines) {
                return first;
            }
            assert!(begin.elapsed() < LIMIT, "the child does nothing");
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            self.wait(Duration::from_micros(200));
        }
    }
}
