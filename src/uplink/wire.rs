//! The byte stream under paho: a Unix socket of our own, carried to the broker's TCP connection.
//!
//! paho 1.3.16 frees a message twice when the socket refuses a publish, which is what a dying broker's does: the
//! process then aborts when the client is destroyed (eclipse-paho/paho.mqtt.c#1621). So paho never sees a broken
//! socket. When the broker is gone, this side says so, goes on swallowing what paho still writes, and
//! closes only when paho has closed its end. Nor does it see a CONNECT refused: the thread that writes it and the one
//! that reads then both report the failure, the second time to a token that was freed with the first, and the process
//! dies. It also keeps names and addresses out of paho, which looks them up under a lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::ClientError;
use super::dial::Boxed;
use super::guard::Guard;
use super::password::Splice;

/// Bytes carried at a time.
const BUFFER: usize = 16 << 10;
/// paho opens its end and writes its CONNECT within this, or never.
const ACCEPT: Duration = Duration::from_secs(30);

/// Turns into the reason when the connection is lost.
pub(super) type Lost = watch::Sender<Option<ClientError>>;

/// A connection to the broker that waits for paho.
pub(super) struct Wire {
    broker: Boxed,
    listener: UnixListener,
    socket: SocketFile,
}

/// Removes the socket's file: nobody else has to find it.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot be removed");
        }
    }
}

impl Wire {
    /// Lays a wire over this stream.
    pub(super) fn over(broker: Boxed) -> io::Result<Self> {
        let (listener, socket) = listen()?;
        Ok(Self { broker, listener, socket })
    }

    /// Where paho connects to.
    pub(super) fn uri(&self) -> String {
        format!("unix://{}", self.socket.0.display())
    }

    /// Carries both ways until paho has closed its end.
    pub(super) async fn carry(self, lost: Lost, mut guard: Guard, splice: Option<Splice>) {
        let Self { broker, listener, socket } = self;
        let paho = timeout(ACCEPT, accept(&listener)).await;
        drop((listener, socket));
        let Ok(Ok(paho)) = paho else {
            tracing::debug!("paho did not open its end");
            return;
        };
        let (mut from_paho, mut to_paho) = paho.into_split();
        let (mut from_broker, mut to_broker) = tokio::io::split(broker);
        let (mut begun, mut answered) = (false, false);
        let mut cut = lost.subscribe();
        let reason = tokio::select! {
            biased;
            _ = cut.wait_for(Option::is_some) => None,
            ended = up(&mut from_paho, &mut to_broker, splice, &mut begun) => match ended {
                // paho has gone by itself; a WebSocket and TLS want to be told.
                Ok(()) => {
                    drop(to_broker.shutdown().await);
                    return;
                }
                Err(error) => Some(broken(&error)),
            },
            error = down(&mut from_broker, &mut to_paho, &mut guard, &mut answered) => Some(error),
        };
        drop((from_broker, to_broker));
        if let Some(reason) = reason {
            lost.send_if_modified(|lost| {
                let is_first = lost.is_none();
                lost.get_or_insert(reason);
                is_first
            });
        }
        // Before the broker's first answer nothing was published, and paho has to see that its connect failed.
        if answered {
            swallow(&mut from_paho).await;
        } else if !begun {
            drop(timeout(ACCEPT, from_paho.read(&mut vec![0; BUFFER])).await);
        }
        drop(to_paho);
    }
}

/// With TLS 1.3 a broker tells only after the handshake that it does not take our certificate (RFC 8446, 4.4.2).
pub(super) fn broken(error: &io::Error) -> ClientError {
    if error.kind() == io::ErrorKind::ConnectionReset {
        return ClientError::Closed;
    }
    let text = error.to_string();
    match text.split_once("alert") {
        Some((_, alert)) => {
            let alert = alert.split(':').next().unwrap_or_default().trim();
            ClientError::Refused(format!(
                "TLS: it ends the connection: {alert}; see mqtt.tls.cert and mqtt.tls.key"
            ))
        }
        None => ClientError::Lost(text),
    }
}

/// A socket under a name that nobody can guess, in the first folder that takes it.
fn listen() -> io::Result<(UnixListener, SocketFile)> {
    let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    let own = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    // A socket's path has at most 107 bytes, so a deep TMPDIR may be too long.
    let folders = own.into_iter().chain([std::env::temp_dir(), Path::new("/tmp").to_owned()]);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        let path = folder.join(format!("fieldgate-{name}.sock"));
        match UnixListener::bind(&path) {
            Ok(listener) => return Ok((listener, SocketFile(path))),
            Err(error) => last = io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        }
    }
    Err(last)
}

/// Takes the connection of this very process; others on the machine are turned away.
async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        if peer == Some(std::process::id()) {
            return Ok(stream);
        }
        tracing::warn!(pid = peer, "another process tried to take the MQTT client's connection");
    }
}

async fn up(
    from: &mut OwnedReadHalf,
    to: &mut WriteHalf<Boxed>,
    mut splice: Option<Splice>,
    begun: &mut bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        *begun = true;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        if let Some(first) = &mut splice {
            let Some(mut connect) = first.pass(bytes) else { continue };
            let sent = to.write_all(&connect).await;
            zeroize::Zeroize::zeroize(&mut connect);
            sent?;
            splice = None;
        } else {
            to.write_all(bytes).await?;
        }
        to.flush().await?;
    }
}

async fn down(
    from: &mut ReadHalf<Boxed>,
    to: &mut OwnedWriteHalf,
    guard: &mut Guard,
    answered: &mut bool,
) -> ClientError {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) => return broken(&error),
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return ClientError::Closed;
        };
        let whole = match guard.pass(bytes) {
            Ok(whole) => whole,
            Err(error) => return error,
        };
        if whole.is_empty() {
            continue;
        }
        *answered = true;
        if let Err(error) = to.write_all(&whole).await {
            return ClientError::Lost(error.to_string());
        }
    }
}

/// Reads until paho closes its end.
async fn swallow(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; BUFFER];
    while from.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_connect_can_be_written_though_the_broker_went_before_it() {
        let (broker, gone) = tokio::io::duplex(64);
        drop(gone);
        let wire = Wire::over(Box::new(broker)).unwrap();
        let mut paho = UnixStream::connect(&wire.socket.0).await.unwrap();
        let (lost, mut told) = watch::channel(None);
        let guard = Guard::new(1 << 10, true, "g".to_owned());
        let carried = actix::spawn(wire.carry(lost, guard, None));
        told.wait_for(Option::is_some).await.unwrap();
        assert!(!carried.is_finished(), "the socket was closed before the CONNECT came");
        paho.write_all(b"CONNECT").await.unwrap();
        assert_eq!(paho.read(&mut [0; 1]).await.unwrap(), 0, "that it failed has to be seen");
    }
}
