//! Wall-clock time, and whether it can be believed.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use rtime_clock::adjtime::{Timex, adjtimex};
use rustix::time::{ClockId, clock_gettime};

/// A time of day: UTC, in milliseconds since 1970. Prints as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// What the system clock says.
    #[must_use]
    pub fn now() -> Self {
        Self(DateTime::<Utc>::from(SystemTime::now()).timestamp_millis())
    }

    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, with any offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self(time.timestamp_millis()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// When something happened, by every clock there is: wall time alone jumps when the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the system clock said.
    pub wall: Timestamp,
    /// Milliseconds since the machine was started, sleep included. It never jumps.
    pub uptime: i64,
    /// The system clock was set.
    pub synced: bool,
}

/// Milliseconds since the machine was started, sleep included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn uptime() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Tells one start of the machine from another. The unit passes it on as `BOOT_ID`, because its sandbox hides the
/// kernel's file; where neither is there, every run counts as a start of its own.
#[must_use]
pub fn boot_id(run: u64) -> String {
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let known = std::env::var("BOOT_ID").ok().or_else(kernel);
    // systemd writes it without dashes, the kernel with.
    let id: String = known.unwrap_or_default().chars().filter(char::is_ascii_hexdigit).take(32).collect();
    if id.len() == 32 { id } else { format!("run-{run}") }
}

/// Whom to ask whether the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Clock {
    /// The kernel: synced when NTP or PTP disciplines it.
    #[default]
    Kernel,
    /// Nobody: the clock is always taken as synced (containers often never say so).
    Trusted,
}

/// What adjtimex(2) returns while the clock is not synchronised (`TIME_ERROR`).
const TIME_ERROR: i32 = 5;

/// systemd-timesyncd makes this file once it has set the clock (systemd-timesyncd.service(8)).
const TIMESYNCD_SYNCED: &str = "/run/systemd/timesync/synchronized";

impl Clock {
    /// The present moment.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment { wall: Timestamp::now(), uptime: uptime(), synced: self.is_synced() }
    }

    /// The clock is set.
    ///
    /// A Pi has no battery-backed clock and boots in the past, so a time taken before is marked.
    #[must_use]
    pub fn is_synced(self) -> bool {
        match self {
            Self::Trusted => true,
            Self::Kernel => match adjtimex(&mut Timex::new()) {
                Ok(state) => state != TIME_ERROR,
                // The unit's sandbox forbids every call that could set the clock, this one with them.
                Err(_) => Path::new(TIMESYNCD_SYNCED).exists(),
            },
        }
    }
}

#[cfg(test)]
impl Moment {
    /// With a set clock.
    pub(crate) fn synced(millis: i64) -> Self {
        Self { wall: Timestamp(millis), uptime: millis, synced: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_with_milliseconds_and_reads_offsets() {
        let time = Timestamp::parse("2026-03-01T11:15:02.12+01:00");
        assert_eq!(time.map(|t| t.to_string()).as_deref(), Some("2026-03-01T10:15:02.120Z"));
        assert_eq!(Timestamp::parse("2026-03-01"), None);
        assert_eq!(Timestamp::parse("tomorrow"), None);
    }

    #[test]
    fn a_trusted_clock_is_synced() {
        assert!(Clock::Trusted.is_synced());
    }
}
