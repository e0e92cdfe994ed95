//! The process as the system sees it (proc(5)), by the names that every program of Prometheus' world uses.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::exposition::{Exposition, Kind};
use crate::clock::{Timestamp, uptime};

pub(super) fn write(out: &mut Exposition) {
    let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before may hold everything, so the fields are counted from behind it: state is the third.
    let after = line.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let second = to_float(clock_ticks_per_second().max(1));
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let seconds = to_float(user + system) / second;
        out.one("process_cpu_seconds_total", Kind::Counter, "Processor time used, in seconds.", seconds);
    }
    if let Some(threads) = field(20) {
        out.one("process_threads", Kind::Gauge, "Threads.", threads);
    }
    if let Some(begun) = field(22) {
        // Ticks since the machine was started. The kernel's own date of that is hidden by the unit's sandbox.
        let age = millis(uptime()) - to_float(begun) / second;
        let start = millis(Timestamp::now().millis()) - age;
        out.one("process_start_time_seconds", Kind::Gauge, "When it was started, in Unix seconds.", start);
    }
    if let Some(bytes) = field(23) {
        out.one("process_virtual_memory_bytes", Kind::Gauge, "Address space, in bytes.", bytes);
    }
    if let Some(pages) = field(24) {
        let bytes = pages.saturating_mul(u64::try_from(page_size()).unwrap_or(4096));
        out.one("process_resident_memory_bytes", Kind::Gauge, "Memory held, in bytes.", bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the one that this look takes.
        let open = open.count().saturating_sub(1);
        out.one("process_open_fds", Kind::Gauge, "Open files and sockets.", open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        out.one("process_max_fds", Kind::Gauge, "Files and sockets that may be open.", most);
    }
}

/// Rounded beyond 2^53.
#[allow(clippy::cast_precision_loss, reason = "whole up to 2^53, and rounded beyond")]
pub(super) fn to_float(number: u64) -> f64 {
    number as f64
}

/// In seconds.
#[allow(clippy::cast_precision_loss, reason = "whole up to 2^53, which no clock reaches")]
pub(super) fn millis(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
