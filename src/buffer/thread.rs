//! The thread that SQLite runs on. Its queue has no bound, so only Buffer talks to it, one message at a time;
//! it returns errors and never panics, because a panic here would close its address for good.

use std::path::PathBuf;

use actix::prelude::*;
use rustix::thread::gettid;

use super::journal::{Begin, Begun, Finish, Unfinished};
use super::store::{Batch, Changed, Limit, Loaded, Opened, Replaced, Retime, Store, StoreError, Usage};
use super::{LOAD, LOAD_BYTES};
use crate::record::{Name, Numbered};

/// One piece of work; each that writes is made of synced transactions.
#[derive(Debug, Message)]
#[rtype(result = "Result<Done, StoreError>")]
pub(super) enum Job {
    /// Open the file and begin a run.
    Open,
    /// Insert, delete, set aside.
    Write(Batch),
    /// Write that numbers up to this one were given, and nothing else.
    Raise(u64),
    /// The next records after this one.
    Load(Option<Name>),
    /// The names of the oldest records that may go.
    Oldest(usize),
    /// The names of readings that are too old.
    Expired(Limit),
    /// Give records of this run their true time.
    Retime(Retime),
    /// Enter a command.
    Begin(Begin),
    /// Store an outcome with its reply, and all that waits.
    Finish(Box<(Finish, Numbered, Batch)>),
    /// The commands left open.
    Unfinished,
    /// Keep a value under this key.
    Remember(String, Vec<u8>),
    /// The value under this key.
    Recall(String),
    /// See what another program changed.
    LookAgain,
    /// Give room back to the disk.
    Tidy,
    /// Move the damaged file aside and begin a new one.
    Replace,
    /// Close the file. This was the last number; nothing, when some were never stored.
    Close(Option<u64>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// With the number of this thread.
    Opened(Box<Opened>, i32),
    Written(Usage),
    Raised(Usage),
    Loaded(Loaded),
    Oldest(Vec<Name>),
    Expired(Vec<Name>),
    /// The number to go on after.
    Retimed(Option<u64>),
    Begun(Begun),
    Finished(Usage),
    Unfinished(Vec<Unfinished>),
    Remembered,
    Recalled(Vec<u8>),
    Looked(Option<Changed>),
    /// Nothing is left to be given back.
    Tidied(bool),
    Replaced(Replaced),
    Closed,
}

/// The actor of the thread.
pub(super) struct StoreThread {
    store: Store,
}

impl StoreThread {
    pub(super) fn new(path: PathBuf, max_size: u64) -> Self {
        Self { store: Store::new(path, max_size) }
    }
}

impl Actor for StoreThread {
    type Context = SyncContext<Self>;
}

impl Handler<Job> for StoreThread {
    type Result = Result<Done, StoreError>;

    fn handle(&mut self, job: Job, _: &mut SyncContext<Self>) -> Self::Result {
        let store = &mut self.store;
        Ok(match job {
            Job::Open => Done::Opened(Box::new(store.open()?), gettid().as_raw_nonzero().get()),
            Job::Write(batch) => Done::Written(store.write(&batch)?),
            Job::Raise(given) => {
                Done::Raised(store.write(&Batch { given: Some(given), ..Batch::default() })?)
            }
            Job::Load(after) => Done::Loaded(store.load_within(after, LOAD, LOAD_BYTES)?),
            Job::Oldest(limit) => Done::Oldest(store.oldest(limit)?),
            Job::Expired(limit) => Done::Expired(store.expired(limit)?),
            Job::Retime(work) => Done::Retimed(store.retime(&work)?),
            Job::Begin(begin) => Done::Begun(store.begin(&begin)?),
            Job::Finish(work) => {
                let (finish, reply, batch) = *work;
                let outcome = finish.keep.then_some(&finish.reply.body[..]);
                Done::Finished(store.finish(&finish.key, outcome, &reply, &batch)?)
            }
            Job::Unfinished => Done::Unfinished(store.unfinished()?),
            Job::Remember(key, value) => {
                store.remember(&key, &value)?;
                Done::Remembered
            }
            Job::Recall(key) => Done::Recalled(store.recall(&key)?),
            Job::LookAgain => Done::Looked(store.look_again()?),
            Job::Tidy => Done::Tidied(store.tidy()?),
            Job::Replace => Done::Replaced(store.replace()?),
            Job::Close(newest) => {
                match newest {
                    Some(newest) => store.end(newest),
                    None => store.close(),
                }
                Done::Closed
            }
        })
    }
}
