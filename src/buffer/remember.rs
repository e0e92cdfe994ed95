//! Small things that other parts keep over a restart, best effort: they go with a damaged file.

use actix::prelude::*;

use super::messages::NotStored;
use super::{Buffer, JournalJob};

/// Largest value: it waits in memory for the store's turn.
const LARGEST: usize = 64 << 10;

/// Keeps a value under a key, in place of the one before; an empty value forgets it. Answered once it is synced.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotStored>")]
pub struct Remember {
    /// Whose value it is.
    pub key: String,
    /// At most 64 KiB.
    pub value: Vec<u8>,
}

/// Asks for the value under a key; empty when there is none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<u8>, NotStored>")]
pub struct Recall(pub String);

impl Handler<Remember> for Buffer {
    type Result = ResponseFuture<Result<(), NotStored>>;

    fn handle(&mut self, Remember { key, value }: Remember, ctx: &mut Context<Self>) -> Self::Result {
        if value.len() > LARGEST {
            let refused = NotStored(format!("{key}: {} bytes are more than {LARGEST}", value.len()));
            return Box::pin(std::future::ready(Err(refused)));
        }
        self.enqueue(ctx, |answer| JournalJob::Remember(key, value, answer))
    }
}

impl Handler<Recall> for Buffer {
    type Result = ResponseFuture<Result<Vec<u8>, NotStored>>;

    fn handle(&mut self, Recall(key): Recall, ctx: &mut Context<Self>) -> Self::Result {
        self.enqueue(ctx, |answer| JournalJob::Recall(key, answer))
    }
}
