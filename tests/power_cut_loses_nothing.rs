//! A power cut at any instant leaves a buffer that opens, holds every record whose commit was acknowledged, none
//! that was deleted, and nothing else.
//!
//! A child uses the real store while every write and sync of it is recorded; then the power goes at random places
//! of that recording (`support/cut.rs`), and the real store opens what is left.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fastrand::Rng;
use support::cut::Disk;
use support::disk::{Change, Control, changes, disturb, preload, quick_folder, record};
use support::ledger::{Ledger, Wrong};
use support::load::{Load, marks, prepare, prepare_old, work};
use support::rounds;

/// Images that are made of one recording.
const IMAGES: usize = 150;
/// Changes in which a file is made, or brought up to date.
const BEGINNING: usize = 150;
/// Failures that are shown.
const SHOWN: usize = 5;

#[test]
#[ignore = "the child of the others"]
fn child() {
    work();
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let images = rounds(1_500, 20_000);
    let recordings = images.div_ceil(IMAGES);
    let next = AtomicUsize::new(0);
    let results: Vec<Found> = thread::scope(|scope| {
        let one = || {
            let mut found = Found::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= recordings {
                    return found;
                }
                found.add(Recording::make(seed as u64).cut(IMAGES));
            }
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(one)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut all = Found::default();
    for found in results {
        all.add(found);
    }
    println!("{all:?}");
    assert_eq!(all.images, recordings * IMAGES);
    assert!(all.wrong.is_empty(), "{} of {} images are wrong:\n{}", all.wrong.len(), all.images, all.shown());
    // The recordings hold what they are made for.
    assert!(all.folds > recordings && all.between > images / 4, "{all:?}");
}

/// The kernel tells of a failed sync once, forgets what it could not write, and the next sync succeeds without it.
#[test]
fn no_power_cut_after_a_failing_disk_loses_what_was_acknowledged() {
    const FAULTS: [&str; 4] = [
        "fsync EIO 3",
        "fsync EIO 2",
        "write EIO 40\nfsync EIO 9",
        "write ENOSPC 40\nname EIO 3\nfsync EIO 5",
    ];
    let mut all = Found::default();
    let images = rounds(600, 6_000);
    for seed in 0..images.div_ceil(IMAGES) {
        let faults = FAULTS[seed % FAULTS.len()];
        let way = Way { commits: [40, 40, 60], faults, ..Way::default() };
        all.add(Recording::make_by(1 << 40 | seed as u64, way).cut(IMAGES));
    }
    println!("{all:?}");
    assert!(all.wrong.is_empty(), "{} of {} images are wrong:\n{}", all.wrong.len(), all.images, all.shown());
    assert!(all.failed_syncs > all.images / 10, "{all:?}");
}

#[test]
fn fewer_syncs_do_lose_what_was_acknowledged() {
    let mut recording = Recording::make(1 << 32);
    recording.sync_as_normal();
    let damaged = recording.cut(rounds(100, 1_000)).assert_many_lost();
    assert!(damaged.wrong.is_empty(), "fewer syncs lose records, but damage nothing:\n{}", damaged.shown());
}

/// The same by the gateway's own store, set to sync less.
#[cfg(feature = "mutant")]
#[test]
fn a_store_that_syncs_less_is_found_out() {
    for (seed, mutant) in [(1, "normal-sync"), (2, "no-sync")] {
        let way = Way { mutant: Some(mutant), ..Way::default() };
        let damaged = Recording::make_by(1 << 33 | seed, way).cut(rounds(100, 1_000)).assert_many_lost();
        let is_harmless = damaged.wrong.is_empty();
        assert_eq!(is_harmless, mutant == "normal-sync", "{mutant} damages:\n{}", damaged.shown());
    }
}

/// What one use of the store did to its files.
struct Recording {
    seed: u64,
    before: Disk,
    ledger: Ledger,
    changes: Vec<Change>,
}

/// How the store is used.
#[derive(Clone, Copy)]
struct Way {
    /// Commits of each child.
    commits: [u64; 3],
    /// What the disk does wrong.
    faults: &'static str,
    /// What the store does wrong; only the feature `mutant` makes it obey.
    mutant: Option<&'static str>,
}

impl Default for Way {
    fn default() -> Self {
        Self { commits: [80, 80, 200], faults: "", mutant: None }
    }
}

/// What became of the images.
#[derive(Debug, Default)]
struct Found {
    images: usize,
    /// Where, and what.
    wrong: Vec<(String, Wrong)>,
    /// Times that the log was cut to nothing: it had been folded into the file.
    folds: usize,
    failed_syncs: usize,
    /// Images with a commit under way.
    between: usize,
}

impl Recording {
    /// Several children after each other, some of which do not close the store. One recording in three begins with
    /// a file of the first version.
    fn make(seed: u64) -> Self {
        Self::make_by(seed, Way::default())
    }

    fn make_by(seed: u64, way: Way) -> Self {
        let (folder, outside) = (quick_folder(), tempfile::tempdir().unwrap());
        let library = preload("disk", outside.path());
        let (used, log) = (folder.path().join("store"), outside.path().join("log"));
        fs::create_dir(&used).unwrap();
        match seed % 3 {
            1 => prepare_old(&used, seed % 2 == 1),
            _ => prepare(&used),
        }
        let before = Disk::of(&used);
        let mut ledger = Ledger::default();
        ledger.read(&fs::read_to_string(marks(&used)).unwrap());
        let control = outside.path().join("control");
        let _kept = Control::new(&control, way.faults);
        for (part, commits) in (0..).zip(way.commits) {
            // The last one never begins anew: it folds its log into the file while it is in use.
            let reopen = if part == 2 { u64::MAX } else { 20 };
            let load = Load { seed: seed << 4 | part, commits, reopen, close: part == 1 };
            let mut child = load.child("child", &used);
            record(&mut child, &library, &used, &log);
            if !way.faults.is_empty() {
                disturb(&mut child, &library, &used, &control);
                child.env("DISK_SEED", load.seed.to_string()).env("DISK_SPARE", "marks");
            }
            if let Some(mutant) = way.mutant {
                child.env("FIELDGATE_MUTANT", mutant);
            }
            let output = child.output().unwrap();
            assert!(output.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self { seed, before, ledger, changes: changes(&log, &used) }
    }

    /// Forgets the syncs that `synchronous = NORMAL` leaves out: those of the log, but for the one before it is
    /// folded into the file and the one after it begins anew.
    fn sync_as_normal(&mut self) {
        let wal = |change: &Change| *change == Change::Sync("buffer.db-wal".to_owned());
        let is_kept = |index: usize| {
            let is_header =
                matches!(&self.changes[index - 1], Change::Write { at: 0, bytes, .. } if bytes.len() == 32);
            let folds = matches!(self.changes.get(index + 1), Some(Change::Write { file, .. }) if file == "buffer.db");
            is_header || folds
        };
        let kept: Vec<bool> =
            (0..self.changes.len()).map(|index| !wal(&self.changes[index]) || is_kept(index)).collect();
        let mut kept = kept.into_iter();
        self.changes.retain(|_| kept.next().unwrap());
    }

    /// Cuts the power `images` times, at random places.
    fn cut(self, images: usize) -> Found {
        let mut found = Found::default();
        let mut rng = Rng::with_seed(self.seed ^ 0x00c0_ffee);
        // One in four while the file is made, or brought up to date.
        let place = |index: usize| match index % 4 {
            0 => rng.usize(1..=self.changes.len().min(BEGINNING)),
            _ => rng.usize(1..=self.changes.len()),
        };
        let mut places: Vec<usize> = (0..images).map(place).collect();
        places.sort_unstable();
        let mut places = places.into_iter().peekable();
        let (mut disk, mut ledger) = (self.before, self.ledger);
        let folder = quick_folder();
        let mut is_new_log = true;
        for (index, change) in self.changes.iter().enumerate() {
            match change {
                Change::Write { file, bytes, .. } if file == "marks" => {
                    ledger.read(std::str::from_utf8(bytes).unwrap());
                }
                Change::Write { file, .. } if file == "buffer.db-wal" => is_new_log = false,
                Change::Truncate { file, .. } | Change::Create(file) if file == "buffer.db-wal" => {
                    found.folds += usize::from(!is_new_log);
                    is_new_log = true;
                }
                Change::FailedSync(_) => found.failed_syncs += 1,
                _ => {}
            }
            disk.apply(change, &mut rng);
            while places.next_if_eq(&(index + 1)).is_some() {
                found.images += 1;
                found.between += usize::from(ledger.is_open());
                let image = folder.path().join(found.images.to_string());
                if let Err(error) = try_image(&disk, &ledger, &mut rng, &image) {
                    found.wrong.push((format!("seed {}, change {index}", self.seed), error));
                }
            }
        }
        found
    }
}

fn try_image(disk: &Disk, ledger: &Ledger, rng: &mut Rng, folder: &Path) -> Result<(), Wrong> {
    fs::create_dir(folder).unwrap();
    disk.cut(rng, folder);
    // Mapped memory: what is left of it is anything.
    let index: Vec<u8> = (0..rng.usize(..3) * 32_768).map(|_| rng.u8(..)).collect();
    fs::write(folder.join("buffer.db-shm"), index).unwrap();
    let judged = ledger.judge(folder);
    fs::remove_dir_all(folder).unwrap();
    judged.map(drop)
}

impl Found {
    fn add(&mut self, other: Self) {
        self.images += other.images;
        self.wrong.extend(other.wrong);
        self.folds += other.folds;
        self.failed_syncs += other.failed_syncs;
        self.between += other.between;
    }

    /// Fails when hardly an image is wrong. Leaves those that are damaged.
    fn assert_many_lost(mut self) -> Self {
        eprintln!("{} of {} images are wrong", self.wrong.len(), self.images);
        assert!(self.wrong.len() > self.images / 10, "the proof sees no losses: {self:?}");
        self.wrong.retain(|(_, wrong)| matches!(wrong, Wrong::File(_)));
        self
    }

    fn shown(&self) -> String {
        let lines = self.wrong.iter().take(SHOWN).map(|(place, wrong)| format!("  {place}: {wrong:?}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}
