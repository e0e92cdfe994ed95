//! What a plugin writes to its stderr: into the log, within bounds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::wire::shown;
use crate::point::LinkId;

/// The time that the numbers below count for.
const WINDOW: Duration = Duration::from_secs(1);
/// Lines logged in it. A traceback fits; whoever writes more for long fills nobody's log.
const LINES: u32 = 50;
/// Bytes read in it. Then the plugin has to wait: throwing away as fast as it can write would cost a core.
const BYTES: usize = 256 << 10;
/// Bytes of one line that are kept.
const LINE: usize = 1024;

/// The last line that a plugin has written, for the reason of its end.
pub(super) type LastWords = Arc<Mutex<String>>;

/// What it was, so far.
pub(super) fn last_words(words: &LastWords) -> String {
    words.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Logs the lines of a stream until it ends.
pub(super) async fn log(link: LinkId, stream: impl AsyncRead + Unpin, words: LastWords) {
    let mut log = Log { link, words, line: Vec::new(), lines: 0, left_out: 0 };
    log.follow(stream).await;
    log.end_line();
    log.end_window();
}

struct Log {
    link: LinkId,
    words: LastWords,
    /// The beginning of the present line.
    line: Vec<u8>,
    /// Lines of the present window.
    lines: u32,
    /// Lines that were not logged, since it was told last.
    left_out: u64,
}

impl Log {
    async fn follow(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = [0; 4096];
        loop {
            // A quiet plugin costs no timer.
            let mut read = stream.read(&mut buffer).await;
            let end = Instant::now() + WINDOW;
            let mut bytes = 0;
            loop {
                let Ok(count @ 1..) = read else { return };
                bytes += count;
                self.take(buffer.get(..count).unwrap_or_default());
                if bytes >= BYTES {
                    sleep_until(end).await;
                    break;
                }
                match timeout_at(end, stream.read(&mut buffer)).await {
                    Ok(next) if Instant::now() < end => read = next,
                    // Not thrown away: it opens the next window.
                    Ok(Ok(count @ 1..)) => {
                        self.take(buffer.get(..count).unwrap_or_default());
                        break;
                    }
                    Ok(_) => return,
                    Err(_) => break,
                }
            }
            self.end_window();
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room).filter(|byte| **byte != b'\n'));
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.trim_end();
        if !line.is_empty() {
            *self.words.lock().unwrap_or_else(PoisonError::into_inner) = shown(line);
            if self.lines < LINES {
                info!(link = %self.link, "plugin: {line}");
            } else {
                self.left_out += 1;
            }
            self.lines += 1;
        }
        self.line.clear();
    }

    fn end_window(&mut self) {
        self.lines = 0;
        if self.left_out > 0 {
            warn!(link = %self.link, left_out = self.left_out, "the plugin writes more lines than are logged");
            self.left_out = 0;
        }
    }
}
