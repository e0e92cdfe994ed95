//! The subcommands. Output for people goes to stdout, faults to stderr.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

pub mod buffer;
pub mod check;
mod estimate;
pub mod run;
pub mod simulate;

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
