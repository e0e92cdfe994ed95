//! A gateway broken on purpose, so that the tests can prove that they would notice.
//!
//! Only the feature `mutant` builds it in, and no release has that. Even then nothing is broken until
//! `FIELDGATE_MUTANT` says what:
//!
//! | value | what is broken |
//! |---|---|
//! | `drop` | every 500th record vanishes once it has its number |
//! | `change` | every 300th record has another digit in its first value |
//! | `normal-sync` | a commit does not wait for the disk, only a checkpoint does |
//! | `no-sync` | nothing waits for the disk |
//! | `no-quarantine` | on a bus, any answer of the right shape is believed |
//! | `no-length` | answers of every size are believed |
//! | `no-unit` | answers of every unit are believed |
//! | `no-function` | answers to every function are believed |
//! | `no-echo` | writes count as confirmed whatever is confirmed |
//! | `no-crc` | CRC and LRC of a frame are not looked at |
//! | `no-transaction` | Modbus TCP answers of every transaction are believed |

use std::sync::LazyLock;

use crate::record::{Name, Record};

/// Every so many records one vanishes.
const VANISHES: u64 = 500;
/// Every so many records one is changed.
const CHANGES: u64 = 300;

static KIND: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FIELDGATE_MUTANT").ok());

/// What is broken.
#[must_use]
pub fn kind() -> Option<&'static str> {
    KIND.as_deref()
}

/// This is what is broken.
#[must_use]
pub fn is(what: &str) -> bool {
    kind() == Some(what)
}

/// The record of this name is to vanish.
#[must_use]
pub fn vanishes(name: Name) -> bool {
    kind() == Some("drop") && name.seq.is_multiple_of(VANISHES)
}

/// The record as this gateway keeps it.
#[must_use]
pub fn changed(name: Name, mut record: Record) -> Record {
    if kind() == Some("change")
        && name.seq.is_multiple_of(CHANGES)
        && let Some(body) = with_another_digit(&record.body)
    {
        record.body = body.into_bytes().into();
    }
    record
}

fn with_another_digit(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let values = text.find("\"values\":{")?;
    let end = values + text.get(values..)?.find([',', '}'])?;
    let digit = text.get(end - 1..end)?.parse::<u8>().ok()?;
    Some(format!("{}{}{}", text.get(..end - 1)?, (digit + 1) % 10, text.get(end..)?))
}

/// What `PRAGMA synchronous` is set to and must be read back as: 2 is FULL.
#[must_use]
pub fn full_sync() -> i32 {
    match kind() {
        Some("normal-sync") => 1,
        Some("no-sync") => 0,
        _ => 2,
    }
}
