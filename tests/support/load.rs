//! A child that commits to the real store and keeps the ledger: batches of all sizes, deletes, events that grow,
//! commands, orderly ends and new beginnings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use fieldgate::buffer::store::{Batch, Store};
use fieldgate::record::Name;

use super::disk::{mark, own_test};
use super::ledger::{MAX_SIZE, load, versions};
use super::specimen::{begin, is_event, key, outcome, record};

/// Records that stay in the file at most; more are deleted, oldest first, as the broker's acknowledgements do.
const MOST: usize = 400;

/// What a child is told.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Decides everything.
    pub seed: u64,
    /// Commits until it ends.
    pub commits: u64,
    /// One in so many commits is followed by an orderly end and a new beginning.
    pub reopen: u64,
    /// It closes the store in the end, or simply stops being there.
    pub close: bool,
}

impl Load {
    /// A child that does this in `folder`; it is the ignored test `name` of the same file, which calls [`work`].
    pub fn child(&self, name: &str, folder: &Path) -> Command {
        let text = format!("{} {} {} {}", self.seed, self.commits, self.reopen, u8::from(self.close));
        own_test(name, [("STORE_LOAD", text.into()), ("STORE_FOLDER", folder.as_os_str().to_owned())])
    }
}

/// The ledger of a folder.
pub fn marks(folder: &Path) -> PathBuf {
    folder.join("marks")
}

/// A folder whose next run has a number far ahead of the clock, so that only what the store wrote can tell which
/// runs there were.
pub fn prepare(folder: &Path) {
    fs::write(folder.join("buffer.db.run"), "4000000000\n").unwrap();
    fs::write(marks(folder), "").unwrap();
}

/// The child's part.
pub fn work() {
    // Whoever runs all ignored tests has nothing for it to do.
    let Ok(text) = std::env::var("STORE_LOAD") else { return };
    let folder = PathBuf::from(std::env::var_os("STORE_FOLDER").unwrap());
    let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
    let load = Load { seed: numbers[0], commits: numbers[1], reopen: numbers[2], close: numbers[3] == 1 };
    let mut worker = Worker::start(&folder, load.seed);
    for _ in 0..load.commits {
        worker.commit();
        if worker.rng.u64(..load.reopen) == 0 {
            worker.store.close();
            worker.open();
        }
    }
    if load.close {
        worker.store.close();
    }
    std::process::exit(0);
}

struct Worker {
    rng: Rng,
    store: Store,
    marks: File,
    run: u64,
    seq: u64,
    live: BTreeMap<Name, u32>,
    command: u64,
}

impl Worker {
    fn start(folder: &Path, seed: u64) -> Self {
        let mut worker = Self {
            rng: Rng::with_seed(seed),
            store: Store::new(folder.join("buffer.db"), MAX_SIZE),
            marks: File::options().append(true).open(marks(folder)).unwrap(),
            run: 0,
            seq: 0,
            live: BTreeMap::new(),
            command: seed << 16,
        };
        worker.open();
        let found = load(&mut worker.store).unwrap();
        worker.live = versions(&found).unwrap();
        worker
    }

    fn open(&mut self) {
        let opened = self.store.open().unwrap();
        assert!(opened.replaced.is_none(), "{opened:?}");
        (self.run, self.seq) = (opened.run, 0);
        mark(&mut self.marks, &format!("run {}", self.run));
    }

    fn commit(&mut self) {
        let mut line = "issue".to_owned();
        let mut insert = Vec::new();
        let mut put = |name: Name, version: u32| {
            write!(line, " +{}:{}:{version}", name.run, name.seq).unwrap();
            insert.push(record(name, version));
        };
        let events: Vec<Name> = self.live.keys().copied().filter(|name| is_event(*name)).collect();
        // An outcome and its reply are one transaction; what else waits follows in the next.
        let finishes = self.rng.u8(..8) == 0;
        let grows = self.rng.choice(&events).copied().filter(|name| self.live[name] < 9 && !finishes);
        if let Some(name) = grows.filter(|_| self.rng.u8(..4) == 0) {
            let version = self.live[&name] + 1;
            self.live.insert(name, version);
            put(name, version);
        }
        let most = *self.rng.choice(&[1, 1, 4, 16, 100]).unwrap();
        for _ in 0..if finishes { 1 } else { self.rng.usize(0..=most) } {
            self.seq += 1;
            let name = Name { run: self.run, seq: self.seq };
            self.live.insert(name, 1);
            put(name, 1);
        }
        // A batch forgets before it stores, because that makes room: what is new stays.
        let fresh: BTreeSet<Name> = insert.iter().map(|numbered| numbered.name).collect();
        let old = || self.live.keys().filter(|name| !fresh.contains(name));
        let mut delete: Vec<Name> = Vec::new();
        let goes = self.rng.usize(0..=self.live.len().min(2 * most));
        let goes = if finishes { 0 } else { goes.max(self.live.len().saturating_sub(MOST)) };
        let rng = &mut self.rng;
        delete.extend(old().filter(|_| rng.u8(..8) > 0).take(goes).copied());
        for name in &delete {
            self.live.remove(name);
            write!(line, " -{}:{}", name.run, name.seq).unwrap();
        }
        if finishes {
            self.command += 1;
            mark(&mut self.marks, &format!("begin {}", self.command));
            self.store.begin(&begin(self.command, true)).unwrap();
            mark(&mut self.marks, &format!("begun {}", self.command));
            write!(line, " ={}", self.command).unwrap();
        }
        mark(&mut self.marks, &line);
        if finishes {
            let outcome = outcome(self.command);
            let rest = Batch::default();
            self.store.finish(&key(self.command), Some(outcome.as_bytes()), &insert[0], &rest).unwrap();
        } else {
            self.store.commit(&insert, &delete).unwrap();
        }
        mark(&mut self.marks, "ack");
    }
}
