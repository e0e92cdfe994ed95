//! A child that commits to the real store and keeps the ledger: batches of all sizes, deletes, events that grow,
//! commands, orderly ends and new beginnings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use fieldgate::buffer::store::{Batch, Store, StoreError};
use fieldgate::record::{Name, Numbered, RecordKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use super::disk::{mark, own_test};
use super::ledger::{MAX_SIZE, held};
use super::specimen::{OLD_RUN, begin, is_event, key, outcome, record};

/// Records that stay in the file at most; more are deleted, oldest first, as the broker's acknowledgements do.
const MOST: usize = 400;

/// How often a child asks a store on a failing disk for the same thing.
const TRIES: usize = 10_000;

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

/// The same with a buffer as the first version left it: with a log that is folded in, or (`has_log`) not yet.
pub fn prepare_old(folder: &Path, has_log: bool) {
    prepare(folder);
    let file = Connection::open(folder.join("buffer.db")).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log).unwrap();
    let schema = include_str!("../../src/buffer/schema/1.sql");
    file.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; BEGIN; {schema}; PRAGMA user_version = 1; COMMIT"
    ))
    .unwrap();
    file.execute("INSERT INTO meta VALUES ('run', ?1)", [i64::try_from(OLD_RUN).unwrap()]).unwrap();
    let mut book = format!("run {OLD_RUN}\nissue");
    for seq in 1..=200 {
        let Numbered { name, record } = record(Name { run: OLD_RUN, seq }, 1);
        let kind = match record.kind {
            RecordKind::Reply => 0,
            RecordKind::Event => 1,
            RecordKind::Readings => 2,
        };
        let (run, seq) = (i64::try_from(name.run).unwrap(), i64::try_from(name.seq).unwrap());
        let (topic, made) = (record.topic.to_string(), record.made.wall.millis());
        file.execute(
            "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![run, seq, kind, topic, &record.body[..], record.correlation.as_deref(), made],
        )
        .unwrap();
        write!(book, " +{OLD_RUN}:{seq}:1").unwrap();
    }
    fs::write(marks(folder), book + "\nack\n").unwrap();
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
            worker.close();
            worker.open();
        }
    }
    if load.close {
        worker.close();
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
        worker.live = held(&mut worker.store).unwrap();
        worker
    }

    fn open(&mut self) {
        let opened = self.insist(Store::open);
        assert!(opened.replaced.is_none(), "{opened:?}");
        (self.run, self.seq) = (opened.run, 0);
        mark(&mut self.marks, &format!("run {}", self.run));
    }

    fn close(&mut self) {
        self.store.end(self.seq);
    }

    fn commit(&mut self) {
        let mut line = "issue".to_owned();
        let mut before: Vec<Name> = self.live.keys().copied().collect();
        let mut insert = Vec::new();
        let mut put = |name: Name, version: u32| {
            write!(line, " +{}:{}:{version}", name.run, name.seq).unwrap();
            insert.push(record(name, version));
        };
        let events: Vec<Name> = self.live.keys().copied().filter(|name| is_event(*name)).collect();
        let grows = self.rng.choice(&events).copied().filter(|name| self.live[name] < 9);
        if let Some(name) = grows.filter(|_| self.rng.u8(..4) == 0) {
            let version = self.live[&name] + 1;
            self.live.insert(name, version);
            put(name, version);
            before.retain(|other| *other != name);
        }
        let most = *self.rng.choice(&[1, 1, 4, 16, 100]).unwrap();
        for _ in 0..self.rng.usize(0..=most) {
            self.seq += 1;
            let name = Name { run: self.run, seq: self.seq };
            self.live.insert(name, 1);
            put(name, 1);
        }
        let goes = self.rng.usize(0..=before.len().min(2 * most)).max(before.len().saturating_sub(MOST));
        let delete: Vec<Name> = before.iter().filter(|_| self.rng.u8(..8) > 0).take(goes).copied().collect();
        for name in &delete {
            self.live.remove(name);
            write!(line, " -{}:{}", name.run, name.seq).unwrap();
        }
        let mut batch = Batch { insert, delete, ..Batch::default() };
        if self.rng.u8(..8) > 0 {
            batch.floor = Some(self.seq);
            mark(&mut self.marks, &line);
            self.insist(|store| store.write(&batch));
        } else {
            let command = begin(self.command, true);
            mark(&mut self.marks, &format!("begin {}", self.command));
            self.insist(|store| store.begin(&command));
            mark(&mut self.marks, &format!("begun {}", self.command));
            self.seq += 1;
            batch.floor = Some(self.seq);
            let reply = Name { run: self.run, seq: self.seq };
            self.live.insert(reply, 1);
            mark(&mut self.marks, &format!("{line} ={}:{}:{}", self.command, reply.run, reply.seq));
            let (key, outcome, reply) = (key(self.command), outcome(self.command), record(reply, 1));
            self.insist(|store| store.finish(&key, Some(outcome.as_bytes()), &reply, &batch));
            self.command += 1;
        }
        mark(&mut self.marks, "ack");
    }

    /// Asks the store. Where the disk fails on purpose it asks again until it is done, as the gateway does.
    fn insist<T>(&mut self, mut ask: impl FnMut(&mut Store) -> Result<T, StoreError>) -> T {
        let is_disturbed = std::env::var_os("DISK_FAULT").is_some();
        for _ in 0..TRIES {
            match ask(&mut self.store) {
                Ok(done) => return done,
                Err(error) => assert!(is_disturbed, "the store failed: {error}"),
            }
        }
        panic!("the store fails for ever");
    }
}
