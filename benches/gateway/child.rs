//! Child processes: started here, spoken to by lines, ended by their own pid, and what `/proc` says of them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// One child process; ended with SIGKILL when it is dropped while still running.
pub(crate) struct Child {
    inner: std::process::Child,
    stdin: Option<ChildStdin>,
    name: String,
}

/// What a child prints.
pub(crate) struct Lines(BufReader<ChildStdout>);

/// What the kernel counts for a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU seconds, user and system, of all its threads.
    pub(crate) cpu: f64,
    /// Resident memory now, in KiB.
    pub(crate) rss: u64,
    /// The most resident memory since the start or since [`Child::forget_peak`], in KiB.
    pub(crate) peak: u64,
    /// Bytes it caused to be written to a disk.
    pub(crate) written: u64,
}

/// Ticks of a second in `/proc/PID/stat`; fixed for user space (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

impl Child {
    /// Starts this program again in one of its other roles.
    pub(crate) fn role(role: &str, arguments: &[String]) -> Result<(Self, Lines)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).args(arguments).stdout(Stdio::piped());
        let mut child = Self::spawn(role, &mut command)?;
        let stdout = child.inner.stdout.take().ok_or("a child without stdout")?;
        Ok((child, Lines(BufReader::new(stdout))))
    }

    /// Starts a program whose output goes to `log`.
    pub(crate) fn logged<A: AsRef<OsStr>>(program: &Path, arguments: &[A], log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdout(log.try_clone()?).stderr(log);
        Self::spawn(&program.display().to_string(), &mut command)
    }

    fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut inner = command
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let stdin = inner.stdin.take();
        let name = name.to_owned();
        Ok(Self { inner, stdin, name })
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("its input is closed")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Closes its standard input; our own roles end then.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Fails when it has ended by itself.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.inner.try_wait()? {
            Some(status) => Err(format!("{} ended early: {status}", self.name).into()),
            None => Ok(()),
        }
    }

    /// Asks it to end (SIGTERM), waits at most `patience`, then kills it. Says how long it took.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<Duration> {
        let begin = Instant::now();
        if self.inner.try_wait()?.is_none() {
            kill_process(self.pid()?, Signal::TERM)?;
        }
        while self.inner.try_wait()?.is_none() {
            if begin.elapsed() > patience {
                self.inner.kill()?;
                self.inner.wait()?;
            }
            crate::rest(Duration::from_millis(5));
        }
        Ok(begin.elapsed())
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let stat = self.read("stat")?;
        // The name in brackets may hold blanks; the fields after it are counted from 3 (proc(5)).
        let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        let mut ticks = || times.next().ok_or("no times in stat");
        let cpu = (ticks()?? + ticks()??) / TICKS;
        let status = self.read("status")?;
        Ok(Usage {
            cpu,
            rss: field(&status, "VmRSS:")?,
            peak: field(&status, "VmHWM:")?,
            written: field(&self.read("io")?, "write_bytes:")?,
        })
    }

    /// Lets the peak of resident memory begin anew (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.inner.id()), "5")?)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.inner.id());
        Ok(std::fs::read_to_string(&path).map_err(|error| format!("{} ({path}): {error}", self.name))?)
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.inner.id())?).ok_or("a child without pid")?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.inner.try_wait(), Ok(None)) && self.inner.kill().is_ok() {
            // Reaped, or gone already: nothing is left to do either way.
            self.inner.wait().ok();
        }
    }
}

impl Lines {
    /// The next line, without its end.
    pub(crate) fn next(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("a child ended without an answer".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Everything that is left.
    pub(crate) fn rest(mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

fn field(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or_else(|| format!("no {key}"))?;
    Ok(line.split_whitespace().next().ok_or("an empty field")?.parse()?)
}
