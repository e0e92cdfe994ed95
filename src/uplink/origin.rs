//! Whose topic a record goes to: that decides what a refusal of it means.

use crate::record::{Numbered, RecordKind, Topic};

/// What a refusal of a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// On a topic of the gateway.
    Own,
    /// An event: none is made of its own refusal.
    Event,
    /// A reply on a topic that a sender chose.
    Foreign,
}

impl Origin {
    pub(super) fn of(numbered: &Numbered) -> Self {
        match (&numbered.record.topic, numbered.record.kind) {
            (Topic::Response(_), _) => Self::Foreign,
            (_, RecordKind::Event) => Self::Event,
            _ => Self::Own,
        }
    }
}
