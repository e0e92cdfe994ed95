//! The devices of `tests/peers/frames.py`.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::peers::peer;

/// A running `frames.py`. One device at a time; the next unplugs the one before.
pub struct Frames {
    child: Child,
    talk: RefCell<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

impl Frames {
    /// Starts it, without a device.
    pub fn start() -> Self {
        let mut command = peer("frames.py");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let talk = RefCell::new((child.stdin.take().unwrap(), lines));
        Self { child, talk }
    }

    /// A device of that description; the path of its terminal.
    pub fn open(&self, spec: &Value) -> String {
        self.ask(&json!({ "open": spec }), "ready").remove(0)
    }

    /// Frames sent so far, and how many of them were damaged.
    pub fn sent(&self) -> (u64, u64) {
        let words = self.ask(&json!({ "sent": 1 }), "sent");
        (words[0].parse().unwrap(), words[1].parse().unwrap())
    }

    /// `c_cflag` and the speed of the terminal.
    pub fn settings(&self) -> (u32, u32) {
        let words = self.ask(&json!({ "settings": 1 }), "settings");
        (words[0].parse().unwrap(), words[1].parse().unwrap())
    }

    fn ask(&self, order: &Value, answer: &str) -> Vec<String> {
        let (input, lines) = &mut *self.talk.borrow_mut();
        writeln!(input, "{order}").unwrap();
        let line = lines.next().expect("frames.py goes on").unwrap();
        let mut words = line.split(' ').map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some(answer), "{line}");
        words.collect()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
