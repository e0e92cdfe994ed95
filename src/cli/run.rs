//! `fieldgate run`: the gateway in the foreground.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

use super::Exit;
use crate::config::{self, LogConfig, LogFormat};
use crate::gateway::{self, GatewayError, Origin};

/// Loads the configuration and runs until told to stop.
pub fn run(files: &[PathBuf]) -> Exit {
    let config = match config::load(files) {
        Ok(config) => config,
        Err(error) => {
            super::check::complain(&error);
            return Exit::Config;
        }
    };
    let set_level = start_log(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    #[cfg(feature = "mutant")]
    tracing::error!(broken = crate::mutant::kind(), "this is a test's gateway that can be broken on purpose");
    let system = actix::System::new();
    let ended = system.block_on(gateway::run(config, Origin { files: files.to_vec(), set_level }));
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

/// The log goes to stderr, in the form that the configuration asks for. Gives what sets another level.
fn start_log(config: &LogConfig) -> Box<dyn Fn(&str)> {
    let (level, handle) = reload::Layer::new(filter(&config.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match config.format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Auto => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    if let Err(error) = tracing_subscriber::registry().with(level).with(lines).try_init() {
        super::complain(&error);
    }
    Box::new(move |level| {
        if let Err(error) = handle.reload(filter(level)) {
            super::complain(&error);
        }
    })
}

fn filter(level: &str) -> EnvFilter {
    // It was checked with the rest of the configuration.
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}
