//! What Commands asks of the journal: an id runs once, also over a restart.

use std::sync::Arc;

use crate::point::DeviceId;
use crate::record::{Record, Topic};

/// Names a command: an id is unique on its command topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandKey {
    /// The device of the topic; `None` is the gateway's own.
    pub device: Option<DeviceId>,
    /// The sender's id.
    pub id: String,
}

impl CommandKey {
    /// The stored form of the topic: the device's id, or nothing.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.device.as_ref().map_or("", DeviceId::as_str)
    }

    /// From the stored form.
    #[must_use]
    pub fn from_stored(topic: &str, id: String) -> Self {
        Self { device: DeviceId::new(topic), id }
    }
}

/// Asks whether a command may start, and enters it.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The command.
    pub key: CommandKey,
    /// SHA-256 of its body.
    pub digest: [u8; 32],
    /// What it does.
    pub action: String,
    /// Where its reply goes.
    pub reply: Topic,
    /// MQTT 5 Correlation Data of its reply.
    pub correlation: Option<Arc<[u8]>>,
    /// Enter it. A rejected command only asks: it may be sent again under the same id.
    pub enter: bool,
}

/// What the journal knows of a command's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing; it is entered now, and synced.
    Fresh,
    /// It has begun and has no outcome yet.
    Running,
    /// It has this outcome: the body of its reply.
    Seen(Arc<[u8]>),
    /// It belongs to a command with another body.
    Reused,
}

/// Stores a command's outcome; its reply may leave once that is synced.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The command.
    pub key: CommandKey,
    /// Keep the outcome. `false` takes the command out of the journal: the device was never asked.
    pub keep: bool,
    /// The reply.
    pub reply: Record,
}

/// A command that was begun by an earlier run and never finished.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The command.
    pub key: CommandKey,
    /// What it does.
    pub action: String,
    /// Where its reply goes.
    pub reply: Topic,
    /// MQTT 5 Correlation Data of its reply.
    pub correlation: Option<Arc<[u8]>>,
}
