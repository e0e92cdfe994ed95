//! A child process whose lines are kept, and which ends with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::canary;

/// How many lines a failed test shows of each process.
const SHOWN: usize = 120;

/// How long a child that has ended may take to say its last: its pipes may be held open by another.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running child. Dropping it kills it; when the test is failing, its last lines are shown first. None of its lines may
/// hold a secret.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Lines>,
}

#[derive(Default)]
struct Lines {
    /// The lines so far, and how many of the two streams have ended.
    kept: Mutex<(Vec<String>, u8)>,
    more: Condvar,
}

impl Process {
    /// Starts the command and keeps both of its streams.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            // Open as long as this lives: the peers end with it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let lines = Arc::new(Lines::default());
        keep(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep(child.stderr.take().unwrap(), Arc::clone(&lines));
        Self { name: name.to_owned(), child, lines }
    }

    /// Waits until `found` makes something of the lines so far. Fails after `limit`, and at once when the process ended.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut found: impl FnMut(&[String]) -> Option<T>) -> T {
        let end = Instant::now() + limit;
        let mut kept = self.lines.lock();
        loop {
            if let Some(result) = found(&kept.0) {
                return result;
            }
            let left = end.saturating_duration_since(Instant::now());
            let over = if kept.1 == 2 {
                "it ended"
            } else if left.is_zero() {
                "time is up"
            } else {
                kept = self.lines.more.wait_timeout(kept, left).unwrap().0;
                continue;
            };
            drop(kept);
            panic!("{}: waited for {what}, but {over} ({limit:?})", self.name);
        }
    }

    /// Waits for a line that holds `text`, and returns it.
    pub fn wait_line(&self, text: &str, limit: Duration) -> String {
        self.wait(&format!("a line with `{text}`"), limit, |lines| {
            lines.iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().0.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself; whoever cares asks for its exit status.
        kill_process(pid.unwrap(), signal).ok();
    }

    /// Waits for its end. Both streams have been read to theirs by then.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        let mut kept = self.lines.lock();
        while kept.1 < 2 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(kept);
                panic!("{} still runs after {limit:?}", self.name);
            }
            kept = self.lines.more.wait_timeout(kept, left).unwrap().0;
        }
        drop(kept);
        self.child.wait().unwrap()
    }

    /// Waits so long, and says whether it has ended by then.
    pub fn ends_within(&self, time: Duration) -> bool {
        !self.wait_or_end(time, |_| false) && self.lines.lock().1 == 2
    }

    /// Waits until `found` likes the lines so far. `false`: it has ended, or `limit` is over.
    pub fn wait_or_end(&self, limit: Duration, mut found: impl FnMut(&[String]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut kept = self.lines.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if found(&kept.0) {
                return true;
            }
            if kept.1 == 2 || left.is_zero() {
                return false;
            }
            kept = self.lines.more.wait_timeout(kept, left).unwrap().0;
        }
    }

    /// Bytes of memory it holds now.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has ended");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Processor time it has taken so far.
    pub fn used(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        // In ticks of 10 ms.
        fields.map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().unwrap())).sum()
    }

    /// Ends it at once, as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self.lines();
            eprintln!("--- {} said last:", self.name);
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                eprintln!(
                    "    {}",
                    if canary::find(line.as_bytes()).is_none() { line } else { "(a secret)" }
                );
            }
        }
        self.kill();
        if !thread::panicking() {
            self.ends_within(LAST_WORDS);
            for line in self.lines() {
                canary::assert_clean(&format!("what {} said", self.name), line.as_bytes());
            }
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, u8)> {
        self.kept.lock().unwrap()
    }
}

/// Reads a stream to its end, line by line.
fn keep(stream: impl Read + Send + 'static, lines: Arc<Lines>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            lines.lock().0.push(text);
            lines.more.notify_all();
        }
        lines.lock().1 += 1;
        lines.more.notify_all();
    });
}
