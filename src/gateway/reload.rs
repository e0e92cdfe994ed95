//! A new configuration without a restart: read whole, judged whole, and then followed. With one fault in it, the
//! old one stays.

use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::timeout;

use super::actors::Actors;
use super::{client_id, notify};
use crate::clock::Clock;
use crate::config::{self, BufferConfig, Config, ConfigError, LogFormat};

/// The files are read within this, or the disk they lie on hangs; nothing else happens meanwhile.
const READ: Duration = Duration::from_secs(10);
/// Faults that the answer to a `reload` names; the log has them all.
const TOLD: usize = 5;

/// Where the configuration comes from, and what of it lies outside the actors.
pub struct Origin {
    /// The files of the command line.
    pub files: Vec<PathBuf>,
    /// Sets what is logged from now on.
    pub set_level: Box<dyn Fn(&str)>,
}

/// What only a restart can change: the open buffer, and what every part has asked since the start.
pub(super) struct Fixed {
    pub(super) clock: Clock,
    buffer: BufferConfig,
    format: LogFormat,
}

/// Why the old configuration stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error("the new configuration has faults, the old one stays: {}", first_of(.0))]
    Faulty(ConfigError),
    #[error("{} can only change with a restart; nothing was changed", .0.join(", "))]
    Fixed(Vec<&'static str>),
    #[error("the new configuration cannot be read, the old one stays: {0}")]
    System(String),
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        Self { clock: config.gateway.clock, buffer: config.buffer.clone(), format: config.log.format }
    }

    /// The keys that differ.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (own, new) = (&self.buffer, &other.buffer);
        [
            (self.clock != other.clock, "gateway.clock"),
            (self.format != other.format, "log.format"),
            (own.path != new.path, "buffer.path"),
            (own != new && own.path == new.path, "[buffer]"),
        ]
        .into_iter()
        .filter_map(|(differs, key)| differs.then_some(key))
        .collect()
    }
}

impl Actors {
    /// Reads the configuration again and follows it. Gives what changed. The outcome is logged here.
    pub(super) async fn reload(&mut self, origin: &Origin) -> Result<Vec<String>, ReloadError> {
        tracing::info!("the configuration is read again");
        notify(&[NotifyState::Reloading, monotonic()]);
        let outcome = self.try_reload(origin).await;
        match &outcome {
            Ok(changed) => tracing::info!(?changed, "the configuration is in force"),
            Err(ReloadError::Faulty(error)) => {
                tracing::error!(
                    faults = error.faults.len(),
                    "the new configuration has faults; the old one stays"
                );
                for fault in &error.faults {
                    tracing::error!("{fault}");
                }
            }
            Err(error) => tracing::error!(%error, "not reloaded"),
        }
        notify(&[NotifyState::Ready]);
        outcome
    }

    async fn try_reload(&mut self, origin: &Origin) -> Result<Vec<String>, ReloadError> {
        let files = origin.files.clone();
        // Files may lie on a disk that takes its time.
        let read = tokio::task::spawn_blocking(move || config::load(&files));
        let read =
            timeout(READ, read).await.map_err(|_| ReloadError::System(format!("no end within {READ:?}")))?;
        let read = read.map_err(|error| ReloadError::System(error.to_string()))?;
        let mut config = read.map_err(ReloadError::Faulty)?;
        let differences = self.fixed.differences(&Fixed::of(&config));
        if !differences.is_empty() {
            return Err(ReloadError::Fixed(differences));
        }
        client_id::fill_in(&mut config).map_err(|error| ReloadError::System(error.to_string()))?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        (origin.set_level)(&config.log.level);
        Ok(self.follow(config).await)
    }
}

fn monotonic() -> NotifyState<'static> {
    NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading)
}

fn first_of(error: &ConfigError) -> String {
    let told = error.faults.iter().take(TOLD).map(|fault| {
        let line = fault.line.map_or_else(String::new, |line| format!(", line {line}"));
        format!("{} (in {}{line})", fault.what, fault.source.display())
    });
    let text = told.collect::<Vec<_>>().join("; ");
    match error.faults.len().saturating_sub(TOLD) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}
