//! `fieldgate run`: the gateway in the foreground.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::Exit;
use crate::config::{self, LogConfig, LogFormat};
use crate::gateway::{self, GatewayError};

/// Loads the configuration and runs until told to stop.
pub fn run(files: &[PathBuf]) -> Exit {
    let config = match config::load(files) {
        Ok(config) => config,
        Err(error) => {
            super::check::complain(&error);
            return Exit::Config;
        }
    };
    start_log(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    #[cfg(feature = "mutant")]
    tracing::error!(broken = crate::mutant::kind(), "this is a test's gateway that can be broken on purpose");
    let system = actix::System::new();
    let ended = system.block_on(gateway::run(config));
    // Dropping the runtime would wait for threads that a dead resolver holds, for minutes.
    std::mem::forget(system);
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            super::complain(&error);
            match error {
                GatewayError::Core(_) => Exit::Core,
                GatewayError::Store(_) | GatewayError::System(_) => Exit::Failed,
            }
        }
    }
}

/// The log goes to stderr, in the form that the configuration asks for.
fn start_log(config: &LogConfig) {
    // The filter was checked with the rest of the configuration.
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match config.format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Auto => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if let Err(error) = started {
        super::complain(&*error);
    }
}
