//! The subcommands. Output for people goes to stdout, faults to stderr.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub mod become_plugin;
pub mod buffer;
pub mod check;
mod columns;
mod direct;
mod estimate;
pub mod read;
pub mod run;
pub mod scan;
pub mod simulate;
pub mod status;
pub mod write;

/// How the program ends; systemd acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It failed.
    Failed,
    /// It was asked for in a way that is not done.
    Usage,
    /// A core part died: restart.
    Core,
    /// The configuration is bad: do not restart.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Core => 70,
            Exit::Config => 78,
        })
    }
}

/// Keeps the kernel from writing this process's memory anywhere when it dies: secrets are in it.
///
/// A limit of 0 would still hand the memory to a program that collects cores; of 1 byte there is room for no file,
/// and the kernel asks no program (`core(5)`: a limit of 1 is how such a program protects itself from its own crash).
/// `PR_SET_DUMPABLE` would do it too, but then nobody except root may read what the process counts of itself: neither
/// the gateway how much it wrote, nor whoever measures it.
pub fn forbid_core() {
    let limit = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        // A service manager may have set it to 0 for good; then it is as well.
        let zero = Rlimit { current: Some(0), maximum: Some(0) };
        if getrlimit(Resource::Core) != zero {
            complain(&error);
        }
    }
}

/// Prints an error and what caused it.
pub fn complain(error: &(dyn Error + 'static)) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}\n  because: {error}");
        cause = error.source();
    }
    // Where stderr is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "{text}"));
}
