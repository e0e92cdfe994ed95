//! The rests that slow devices and serial servers need.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::drivers::DriverError;

/// Knows when the next request may go out.
#[derive(Debug)]
pub(super) struct Pace {
    after_connect: Duration,
    /// Not before this, whatever the device.
    opened: Instant,
    /// The last request was over.
    ended: Option<Instant>,
}

impl Pace {
    /// `after_connect`: how long a fresh connection or port is left alone.
    pub(super) fn new(after_connect: Duration) -> Self {
        Self { after_connect, opened: Instant::now(), ended: None }
    }

    /// How long a fresh connection or port is left alone.
    pub(super) fn after_connect(&self) -> Duration {
        self.after_connect
    }

    /// The connection or the port is open.
    pub(super) fn open(&mut self) {
        self.opened = Instant::now() + self.after_connect;
    }

    /// A request is over, answered or not.
    pub(super) fn end(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// Waits until a request may go out that needs so much rest before it. A rest that reaches beyond the
    /// deadline is a time-out: nothing was sent.
    pub(super) async fn wait(&self, pause: Duration, deadline: Instant) -> Result<(), DriverError> {
        let from = self.ended.map_or(self.opened, |ended| self.opened.max(ended + pause));
        if from > Instant::now() {
            sleep_until(from.min(deadline)).await;
        }
        if from > deadline { Err(DriverError::Timeout) } else { Ok(()) }
    }
}
