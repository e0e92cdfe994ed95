//! The gateway that `--run` starts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cli::Exit;

/// A child that runs the same program on the same files.
pub(super) struct Gateway {
    pid: Option<Pid>,
    waiting: JoinHandle<io::Result<ExitStatus>>,
}

impl Gateway {
    /// Starts it with these settings in its environment.
    pub(super) fn start(files: &[PathBuf], settings: &BTreeMap<String, String>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").envs(settings);
        for file in files {
            command.arg("--config").arg(file);
        }
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let waiting = tokio::task::spawn_blocking(move || child.wait());
        Ok(Self { pid, waiting })
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Exit {
        let code = match (&mut self.waiting).await {
            Ok(Ok(status)) => status.code(),
            Ok(Err(_)) | Err(_) => None,
        };
        match code {
            Some(0) => Exit::Done,
            Some(70) => Exit::Core,
            Some(78) => Exit::Config,
            Some(_) | None => Exit::Failed,
        }
    }

    /// Ends it in order, and after `limit` at once.
    pub(super) async fn stop(&mut self, limit: Duration) {
        // `waiting` still runs, so the process id is still this child's.
        for signal in [Signal::TERM, Signal::KILL] {
            if let Some(pid) = self.pid {
                // It may have ended meanwhile, on the same Ctrl-C.
                kill_process(pid, signal).ok();
            }
            if timeout(limit, self.ended()).await.is_ok() {
                return;
            }
        }
    }
}
