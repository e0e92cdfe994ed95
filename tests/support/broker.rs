//! A real mosquitto of the test's own.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{LIMIT, Process, free_port, program};

/// A mosquitto on a free port of loopback, in a folder of its own. Its port stays the same over stop and start.
pub struct Broker {
    /// Where it listens.
    pub port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Broker {
    /// One that forgets everything when it ends.
    pub fn start() -> Self {
        Self::with("persistence false\n")
    }

    /// One that keeps sessions and retained messages over an orderly stop.
    pub fn persistent() -> Self {
        Self::with("persistence true\nautosave_interval 0\n")
    }

    /// One that knows a single user.
    pub fn with_user(name: &str, password: &str) -> Self {
        let mut broker = Self::prepare("persistence false\nallow_anonymous false\n");
        let file = broker.folder.path().join("passwords");
        let made = Command::new(program("mosquitto_passwd"))
            .args(["-c", "-b"])
            .arg(&file)
            .args([name, password])
            .status()
            .unwrap();
        assert!(made.success(), "mosquitto_passwd failed");
        let mut text = fs::read_to_string(broker.file()).unwrap();
        writeln!(text, "password_file {}", file.display()).unwrap();
        fs::write(broker.file(), text).unwrap();
        broker.start_again();
        broker
    }

    /// One with these lines in its configuration.
    pub fn with(lines: &str) -> Self {
        let mut broker = Self::prepare(&format!("allow_anonymous true\n{lines}"));
        broker.start_again();
        broker
    }

    fn prepare(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        // Started as root it would become a user who cannot enter the folder. Nothing may be dropped from a
        // session's queue, or the tests would count the broker's losses.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nmax_queued_messages 0\nlog_dest stderr\npersistence_location {}/\n{lines}",
            folder.path().display()
        );
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        Self { port, process: None, folder }
    }

    /// Starts it again on the same port.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        let mut command = Command::new(program("mosquitto"));
        let process = Process::start("mosquitto", command.arg("-c").arg(self.file()));
        process.wait_line(" running", LIMIT);
        self.process = Some(process);
    }

    /// Stops it in order: what it keeps is written.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the broker does not run");
        process.signal(Signal::TERM);
        process.wait_exit(LIMIT);
    }

    /// Ends it at once: what it has not written is lost.
    pub fn kill(&mut self) {
        self.process.take().expect("the broker does not run").kill();
    }

    /// Stops it answering, without closing anything.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The address for a client's configuration.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its process, for its log.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the broker does not run")
    }

    fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }
}
