//! A proxy between the gateway and a device that does to answers what bad lines, adapters and devices do.
//!
//! It works on any pair of streams: in memory under paused time, on sockets and on ptys. What it does is chosen by
//! shares and a seeded generator, and is counted.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unreachable_pub, missing_docs, reason = "a part of tests, and of the unit tests of the drivers")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

pub mod harm;
pub mod proxy;
pub mod real;
pub mod trial;
pub mod unit;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It goes through.
    None,
    /// It comes when nobody waits for it any more.
    Late,
    /// It comes late, but in time.
    Delay,
    /// It comes byte by byte.
    Split,
    /// It waits and comes together with the next.
    Merge,
    /// It never comes.
    Drop,
    /// Bits of it are flipped, where the protocol has a check that notices.
    Corrupt,
    /// Random bytes come before it.
    NoiseBefore,
    /// Random bytes come after it.
    NoiseAfter,
    /// The request comes back first, as by an RS-485 adapter that hears itself.
    Echo,
    /// It comes twice, with less than the silence between frames in between.
    Twice,
    /// It is too short, too long, odd, or its count says something else; its check is good.
    WrongSize,
    /// Another unit says it, and about another place.
    WrongUnit,
    /// It is the answer to another function, and about another place.
    WrongFunction,
    /// An answer to another transaction and about another place comes instead of it.
    Foreign,
    /// The device refuses, with a code that there is or one that there is not.
    Refusal,
    /// A write is confirmed for another place.
    WrongEcho,
    /// The connection is reset in the middle of it.
    Reset,
    /// Nothing comes on this connection any more, and nobody closes it.
    HalfOpen,
}

/// How many of a thousand answers suffer which fault. The rest goes through.
pub type Shares = &'static [(Fault, u32)];

/// 5 % late, 1 % damaged, 1 % of the wrong size, and a little of everything else.
pub const EVERYTHING: Shares = &[
    (Fault::Late, 50),
    (Fault::Corrupt, 10),
    (Fault::WrongSize, 10),
    (Fault::Delay, 3),
    (Fault::Split, 3),
    (Fault::Merge, 3),
    (Fault::Drop, 3),
    (Fault::NoiseBefore, 3),
    (Fault::NoiseAfter, 3),
    (Fault::Echo, 10),
    (Fault::Twice, 10),
    (Fault::WrongUnit, 3),
    (Fault::WrongFunction, 3),
    (Fault::Foreign, 3),
    (Fault::Refusal, 3),
    (Fault::WrongEcho, 100),
    (Fault::Reset, 2),
    (Fault::HalfOpen, 2),
];

/// The times of a line.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long the gateway waits for an answer.
    pub patience: Duration,
    /// From byte to byte of one that comes in bytes.
    pub byte: Duration,
    /// The silence between two frames; zero on a connection.
    pub silence: Duration,
}

/// The faults of a line: which, how often, and what was done so far.
pub struct Faults {
    shares: Shares,
    times: Times,
    dice: Rng,
    done: BTreeMap<Fault, usize>,
}

/// Faults that a proxy and its test share.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Faults>>);

impl Shared {
    /// Faults of these shares, always the same for one `seed`.
    pub fn new(shares: Shares, times: Times, seed: u64) -> Self {
        let (dice, done) = (Rng::with_seed(seed), BTreeMap::new());
        Self(Arc::new(Mutex::new(Faults { shares, times, dice, done })))
    }

    /// The shares from now on.
    pub fn set(&self, shares: Shares) {
        self.lock().shares = shares;
    }

    /// How often this was done.
    pub fn done(&self, fault: Fault) -> usize {
        self.lock().done.get(&fault).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.lock().done)
    }
}

/// Where the generators begin: `PROPTEST_RNG_SEED`, as `make` sets it.
pub fn seed() -> u64 {
    std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_301)
}
