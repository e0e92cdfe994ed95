//! The thread that SQLite runs on. Its queue has no bound, so only Buffer talks to it, one message at a time;
//! it returns errors and never panics, because a panic here would close its address for good.

use std::path::PathBuf;

use actix::prelude::*;

use super::journal::{Begin, Begun, Finish, Unfinished};
use super::store::{Opened, Store, StoreError, Usage};
use crate::record::{Name, Numbered};

/// One piece of work; each that writes is one synced transaction.
#[derive(Debug, Message)]
#[rtype(result = "Result<Done, StoreError>")]
pub(super) enum Job {
    /// Open the file and begin a run.
    Open,
    /// Insert and delete.
    Commit { insert: Vec<Numbered>, delete: Vec<Name> },
    /// The records after this one.
    Load { after: Option<Name>, limit: usize },
    /// The names of the oldest readings.
    Oldest(usize),
    /// Enter a command.
    Begin(Begin),
    /// Store an outcome with its reply and all that waits.
    Finish { finish: Finish, insert: Vec<Numbered>, acked: Vec<Name> },
    /// The commands left open.
    Unfinished,
    /// Close the file.
    Close,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Opened(Opened),
    Committed(Usage),
    Loaded(Vec<Numbered>),
    Oldest(Vec<Name>),
    Begun(Begun),
    Finished(Usage),
    Unfinished(Vec<Unfinished>),
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
            Job::Open => Done::Opened(store.open()?),
            Job::Commit { insert, delete } => Done::Committed(store.commit(&insert, &delete)?),
            Job::Load { after, limit } => Done::Loaded(store.load(after, limit)?),
            Job::Oldest(limit) => Done::Oldest(store.oldest(limit)?),
            Job::Begin(begin) => Done::Begun(store.begin(&begin)?),
            Job::Finish { finish, insert, acked } => {
                let outcome = finish.keep.then_some(&finish.reply.body[..]);
                Done::Finished(store.finish(&finish.key, outcome, &insert, &acked)?)
            }
            Job::Unfinished => Done::Unfinished(store.unfinished()?),
            Job::Close => {
                store.close();
                Done::Closed
            }
        })
    }
}
