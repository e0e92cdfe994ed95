//! Connects to a server, or to the spare one.

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::carrier::Carrier;
use crate::drivers::DriverError;

/// The addresses of a link.
#[derive(Debug)]
pub(super) struct Dial {
    first: (String, u16),
    backup: Option<(String, u16)>,
    is_on_backup: bool,
    /// Gets the other ends of the pipes that tests have for connections.
    #[cfg(test)]
    others: Option<Others>,
}

/// Takes the other ends of pipes.
#[cfg(test)]
pub(super) type Others = tokio::sync::mpsc::UnboundedSender<tokio::io::DuplexStream>;

/// A pipe whose other end goes there.
#[cfg(test)]
pub(super) fn pipe(others: &Others) -> Result<Carrier, DriverError> {
    let (ours, theirs) = tokio::io::duplex(4096);
    others.send(theirs).map_err(|_| DriverError::Lost("nobody takes pipes any more".to_owned()))?;
    Ok(Carrier::Memory(ours))
}

impl Dial {
    /// Host and port of the server, and of the one that takes over.
    pub(super) fn new(first: (String, u16), backup: Option<(String, u16)>) -> Self {
        Self {
            first,
            backup,
            is_on_backup: false,
            #[cfg(test)]
            others: None,
        }
    }

    /// Connects by pipes in memory.
    #[cfg(test)]
    pub(super) fn in_memory(others: Others) -> Self {
        Self { others: Some(others), ..Self::new(("memory".to_owned(), 0), None) }
    }

    /// Where the last connection leads, or the next will be tried.
    pub(super) fn place(&self) -> String {
        let (host, port) = self.backup.as_ref().filter(|_| self.is_on_backup).unwrap_or(&self.first);
        format!("{host}:{port}")
    }

    /// The spare address, while the last connection leads there.
    pub(super) fn backup(&self) -> Option<String> {
        self.is_on_backup.then(|| self.place())
    }

    /// Connects to the first that takes the connection; always begins with the first.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Carrier, DriverError> {
        #[cfg(test)]
        if let Some(others) = &self.others {
            return pipe(others);
        }
        let Some(backup) = &self.backup else {
            return connect(&self.first, deadline).await;
        };
        let now = Instant::now();
        // One that is silent must leave time for the other.
        let half = now + deadline.saturating_duration_since(now) / 2;
        let error = match connect(&self.first, half).await {
            Ok(stream) => {
                if std::mem::take(&mut self.is_on_backup) {
                    tracing::info!(address = self.place(), "connected to the first address again");
                }
                return Ok(stream);
            }
            Err(error) => error,
        };
        match connect(backup, deadline).await {
            Ok(stream) => {
                if !std::mem::replace(&mut self.is_on_backup, true) {
                    tracing::warn!(address = self.place(), %error, "connected to the backup");
                }
                Ok(stream)
            }
            Err(second) => Err(DriverError::Lost(format!("{error}; {second}"))),
        }
    }
}

async fn connect((host, port): &(String, u16), deadline: Instant) -> Result<Carrier, DriverError> {
    let lost =
        |why: &dyn std::fmt::Display| DriverError::Lost(format!("cannot connect to {host}:{port}: {why}"));
    let stream = match timeout_at(deadline, TcpStream::connect((host.as_str(), *port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(lost(&error)),
        Err(_elapsed) => return Err(lost(&"nobody answered in time; is the address right?")),
    };
    // A request is one small packet that somebody waits for.
    stream.set_nodelay(true).map_err(|error| lost(&error))?;
    Ok(Carrier::Connection(stream))
}
