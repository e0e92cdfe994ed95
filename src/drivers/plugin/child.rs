//! The process of a plugin: how it is started, talked to and ended.

use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::stderr::{self, LastWords, last_words};
use crate::config::PluginConfig;
use crate::point::LinkId;

/// The hidden subcommand that becomes the plugin; `cli/become_plugin.rs` says what it is for.
const STARTER: &str = "become-plugin";

/// All that a plugin finds in its environment: no key, no credential and no proxy of the gateway's.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// Longest line of an answer, in bytes; 250 points of the longest text need half of it.
const LONGEST_LINE: usize = 1 << 20;
/// Most bytes that are read for one answer, those before it included.
const MOST_BYTES: usize = 4 << 20;
/// Most lines among them: looking at one costs more than reading it.
const MOST_LINES: u32 = 1000;
/// Bytes read at once, at least.
const CHUNK: usize = 8 << 10;
/// How long a plugin whose stdin was closed may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long one that has closed its stdout is waited for, so that its exit code can be told.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why nothing more can be had of this process.
pub(super) enum Gone {
    /// It cannot be started, or has broken a bound.
    Refused(String),
    /// It has closed its stdout: most likely it has ended.
    Ended,
}

/// A running plugin. Dropping it closes its stdin, and ends it if it does not end by itself.
pub(super) struct Child {
    process: Option<tokio::process::Child>,
    /// Its process group, which has its own number; children of its own are in there too.
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What came behind the last line that was taken.
    pending: Vec<u8>,
    /// Up to where `pending` holds no line end.
    searched: usize,
    /// Bytes read since the last request.
    read: usize,
    /// Lines taken since the last request.
    lines: u32,
    /// The part of a request that the plugin has not taken yet.
    unsent: Vec<u8>,
    log: JoinHandle<()>,
    words: LastWords,
}

impl Child {
    /// Starts the program.
    pub(super) fn start(plugin: &PluginConfig, link: &LinkId) -> Result<Self, Gone> {
        plugin.check_ownership().map_err(|error| Gone::Refused(error.to_string()))?;
        // Through the link of the kernel: the program's file may have been replaced by an update.
        let mut process = Command::new("/proc/self/exe")
            .arg(STARTER)
            .arg("--")
            .arg(std::process::id().to_string())
            .arg(&plugin.program)
            .args(&plugin.arguments)
            .current_dir(&plugin.folder)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Gone::Refused(format!("cannot be started: {error}")))?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Gone::Refused("has no pipes".to_owned()));
        };
        let words = LastWords::default();
        Ok(Self {
            group: process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw),
            process: Some(process),
            stdin: Some(stdin),
            stdout,
            pending: Vec::new(),
            searched: 0,
            read: 0,
            lines: 0,
            unsent: Vec::new(),
            log: tokio::spawn(stderr::log(link.clone(), stderr, words.clone())),
            words,
        })
    }

    /// It has not taken all of an earlier request.
    pub(super) fn is_deaf(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The program has ended. Where a child of its own holds its stdout, nothing else shows that.
    pub(super) fn has_ended(&self) -> bool {
        self.group.is_none_or(|process| !is_running(process))
    }

    /// Gives out the lines that came unasked, then has `request` on its way.
    pub(super) fn ask(&mut self, request: Vec<u8>, mut unasked: impl FnMut(&[u8])) -> Result<(), Gone> {
        (self.read, self.lines) = (0, 0);
        loop {
            while let Some(line) = self.next_line()? {
                unasked(&line);
            }
            self.pending.reserve(CHUNK);
            match self.stdout.read_buf(&mut self.pending).now_or_never() {
                None => break,
                Some(Ok(count @ 1..)) => self.count(count)?,
                Some(_) => return Err(Gone::Ended),
            }
        }
        self.unsent.extend(request);
        Ok(())
    }

    /// Sends what is left of the request, and waits for the next line. Dropped before its end, it has lost nothing.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, Gone> {
        loop {
            if let Some(line) = self.next_line()? {
                return Ok(line);
            }
            let Some(stdin) = &mut self.stdin else { return Err(Gone::Ended) };
            self.pending.reserve(CHUNK);
            // Both at once: each side would wait for the other where the pipes are full.
            tokio::select! {
                read = self.stdout.read_buf(&mut self.pending) => match read {
                    Ok(count @ 1..) => self.count(count)?,
                    Ok(_) | Err(_) => return Err(Gone::Ended),
                },
                sent = stdin.write(&self.unsent), if !self.unsent.is_empty() => match sent {
                    Ok(count @ 1..) => drop(self.unsent.drain(..count)),
                    // It has closed its stdin; what it said before is still to be heard.
                    Ok(_) | Err(_) => self.unsent.clear(),
                },
            }
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Gone> {
        self.read += bytes;
        if self.read > MOST_BYTES {
            return Err(Gone::Refused(format!("writes more than {} MiB for one answer", MOST_BYTES >> 20)));
        }
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        let rest = self.pending.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            if self.searched > LONGEST_LINE {
                return Err(Gone::Refused(format!("writes a line of more than {} MiB", LONGEST_LINE >> 20)));
            }
            return Ok(None);
        };
        self.lines += 1;
        if self.lines > MOST_LINES {
            return Err(Gone::Refused(format!("writes more than {MOST_LINES} lines for one answer")));
        }
        let mut line: Vec<u8> = self.pending.drain(..=self.searched + end).collect();
        self.searched = 0;
        line.pop();
        Ok(Some(line))
    }

    /// Ends it at once, with what it has started, and says how it went.
    pub(super) async fn end(mut self, gone: Gone) -> String {
        let mut text = match gone {
            Gone::Refused(text) => format!("it {text}"),
            Gone::Ended => {
                let has_ended = exited(self.group, LAST_WORDS).await;
                self.kill();
                let status = match &mut self.process {
                    Some(process) => timeout(LAST_WORDS, process.wait()).await,
                    None => return String::new(),
                };
                // It writes its last words before it ends, but nobody may have read them yet.
                drop(timeout(LAST_WORDS, &mut self.log).await);
                match status {
                    Ok(Ok(status)) if has_ended => format!("it ended ({status})"),
                    _ => "it has closed its stdout".to_owned(),
                }
            }
        };
        let words = last_words(&self.words);
        if !words.is_empty() {
            text = format!("{text}; it said last: {words}");
        }
        self.kill();
        text
    }

    /// Ends the process and its group at once.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Nobody is left in it where it fails. The number is not another's: its leader was not waited for yet.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// Waits for the end of a process and leaves it to be waited for. `false`: it still runs after so long.
async fn exited(process: Option<Pid>, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let Some(process) = process else { return true };
    while is_running(process) {
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Looks without waiting for it: as long as nobody has, its number is not another's.
fn is_running(process: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(process), options), Ok(None))
}

impl Drop for Child {
    fn drop(&mut self) {
        let log = self.log.abort_handle();
        // The end of its stdin is what tells it to go.
        drop(self.stdin.take());
        let (group, process) = (self.group.take(), self.process.take());
        let kill = move || {
            if let Some(group) = group {
                kill_process_group(group, Signal::KILL).ok();
            }
        };
        match Handle::try_current() {
            Ok(runtime) if group.is_some() => drop(runtime.spawn(async move {
                exited(group, FAREWELL).await;
                kill();
                log.abort();
                if let Some(mut process) = process {
                    drop(process.wait().await);
                }
            })),
            Ok(_) | Err(_) => {
                kill();
                log.abort();
            }
        }
    }
}
