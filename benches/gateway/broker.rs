//! A real mosquitto on a free loopback port.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::{Result, micros};

/// A running mosquitto; it can be stopped and brought back on the same port with its state kept.
pub(crate) struct Broker {
    child: Child,
    folder: PathBuf,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Broker {
    /// Starts one that keeps its state in `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        // `user`: mosquitto started as root would give its rights away and then could not write here.
        // No limit on what waits for the subscriber: what is missing at the end is the gateway's doing alone.
        // No Nagle: the age of a message is measured, not the patience of the broker's socket.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_inflight_messages 0\nmax_queued_messages 0\n\
             set_tcp_nodelay true\nlog_type error\nlog_type warning\n",
            folder.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), text)?;
        let child = Self::launch(folder)?;
        let mut broker = Self { child, folder: folder.to_owned(), port };
        broker.wait()?;
        Ok(broker)
    }

    /// Stops it; returns when it is gone.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.child.stop(PATIENCE)?;
        Ok(())
    }

    /// Starts it again; returns the moment (microseconds since 1970) it accepted a connection.
    pub(crate) fn come_back(&mut self) -> Result<u64> {
        self.child = Self::launch(&self.folder)?;
        self.wait()
    }

    fn launch(folder: &Path) -> Result<Child> {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "mosquitto"]
            .map(Path::new)
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or(Path::new("mosquitto"));
        let configuration = folder.join("mosquitto.conf");
        let log = folder.join("mosquitto.log");
        Child::logged(program, &[Path::new("-c"), &configuration], &log)
            .map_err(|error| format!("{error} (is mosquitto installed?)").into())
    }

    fn wait(&mut self) -> Result<u64> {
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            self.child.alive()?;
            if begin.elapsed() > PATIENCE {
                return Err("mosquitto does not accept connections".into());
            }
            crate::rest(Duration::from_millis(2));
        }
        Ok(micros())
    }
}
