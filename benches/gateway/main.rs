//! Measures fieldgate beside a bare pipeline of the same crates; `benches/README.md` says how to read it.
//!
//! One executable, several processes: without a role it conducts the scenarios, with one it is the fake
//! devices, the subscriber or the bare pipeline, so that the cost of each is its own.

mod bare;
mod broker;
mod buffer;
mod child;
mod fakes;
mod figures;
mod gateway;
mod machine;
mod rows;
mod scenarios;
mod stage;
mod subscriber;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Any failure ends one run of one scenario; the text is all that is needed of it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let end = match arguments.split_first() {
        Some((role, rest)) if role == "bare" => bare::run(rest),
        Some((role, rest)) if role == "buffer" => buffer::run(rest),
        Some((role, [count])) if role == "fakes" => count.parse().map_err(Into::into).and_then(fakes::serve),
        Some((role, [port])) if role == "subscriber" => {
            port.parse().map_err(Into::into).and_then(subscriber::listen)
        }
        // Without cargo's mark this is a test run over all targets: minutes of load are not wanted there.
        _ if arguments.iter().any(|argument| argument == "--bench") => scenarios::conduct(),
        _ => writeln!(std::io::stdout(), "nothing measured: use `cargo bench --bench gateway`")
            .map_err(Into::into),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Stderr may be closed; the exit code tells it all the same.
            writeln!(std::io::stderr(), "error: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Microseconds since 1970.
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Waits. The conductor has no event loop that this could block.
#[allow(clippy::disallowed_methods)]
fn rest(time: Duration) {
    std::thread::sleep(time);
}
