//! Devices that share no code with the gateway.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::{LIMIT, Process, project, python};

/// A line of Modbus units served by pymodbus.
pub struct ModbusPeer {
    /// `host:port` or the path of a terminal.
    pub address: String,
    process: Process,
}

impl ModbusPeer {
    /// Units on a TCP port; `tests/peers/modbus_device.py` says what `units` holds.
    pub fn tcp(units: &Value) -> Self {
        Self::start("tcp", units)
    }

    /// The same, and every request and refusal is noted.
    pub fn traced(units: &Value) -> Self {
        Self::start_with(&["tcp", &units.to_string(), "trace"])
    }

    /// Units on a serial line.
    pub fn rtu(units: &Value) -> Self {
        Self::start("rtu", units)
    }

    /// Units on `tcp`, `rtu`, `rtu-tcp`, `ascii` or `ascii-tcp`.
    pub fn on(transport: &str, units: &Value) -> Self {
        Self::start(transport, units)
    }

    fn start(how: &str, units: &Value) -> Self {
        Self::start_with(&[how, &units.to_string()])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let mut command = peer("modbus_device.py");
        let process = Process::start("modbus_device.py", command.args(arguments));
        let line = process.wait_line("listening ", LIMIT);
        let address = line.trim_start_matches("listening ").to_owned();
        Self { address, process }
    }

    /// Freezes it (STOP) or lets it go on (CONT): its connections stay open meanwhile.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// The requests so far, if they are traced: `UNIT FUNCTION ADDRESS COUNT`.
    pub fn asked(&self) -> Vec<String> {
        self.said("asked ")
    }

    /// Waits until it has told of so many requests.
    pub fn wait_asked(&self, count: usize) -> Vec<String> {
        self.process.wait(&format!("{count} requests"), LIMIT, |lines| {
            Some(said(lines, "asked ")).filter(|asked| asked.len() >= count)
        })
    }

    /// How many requests it refused, if they are traced.
    pub fn refused(&self) -> usize {
        self.said("refused ").len()
    }

    /// The writes that reached the device, one text each: `UNIT AREA ADDRESS [VALUES]`.
    pub fn writes(&self) -> Vec<String> {
        self.said("wrote ")
    }

    fn said(&self, what: &str) -> Vec<String> {
        said(&self.process.lines(), what)
    }

    /// Waits until so many have reached it.
    pub fn wait_writes(&self, count: usize) -> Vec<String> {
        self.process.wait(&format!("{count} writes"), LIMIT, |lines| {
            Some(said(lines, "wrote ")).filter(|writes| writes.len() >= count)
        })
    }
}

fn said(lines: &[String], what: &str) -> Vec<String> {
    lines.iter().filter_map(|line| line.strip_prefix(what)).map(str::to_owned).collect()
}

/// The scale of `tests/peers/scale.py`.
pub struct Scale {
    /// The path of its terminal.
    pub path: String,
    process: Process,
}

impl Scale {
    /// One that answers each request with a weight that grows by one kilogram.
    pub fn start() -> Self {
        let mut command = peer("scale.py");
        let process = Process::start("scale.py", command.arg("answer"));
        let line = process.wait_line("path ", LIMIT);
        let path = line.trim_start_matches("path ").to_owned();
        Self { path, process }
    }

    /// How many answers it has sent: the last one weighed this many kilograms and a half.
    pub fn sent(&self) -> u64 {
        count_sent(&self.process.lines())
    }

    /// Waits until it has sent `more` answers from now on, and returns how many there are.
    pub fn wait_sent(&self, more: u64) -> u64 {
        let goal = self.sent() + more;
        self.process.wait(&format!("answer {goal}"), LIMIT, |lines| {
            Some(count_sent(lines)).filter(|sent| *sent >= goal)
        })
    }
}

fn count_sent(lines: &[String]) -> u64 {
    let last = lines.iter().rev().find_map(|line| line.strip_prefix("sent "));
    last.map_or(0, |count| count.parse().unwrap())
}

/// A command that runs a script of `tests/peers/`.
pub fn peer(script: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(project().join("tests/peers").join(script));
    command
}
