//! The device whose values are counted: `tests/peers/counted.py` says what it serves and writes down.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use super::peers::peer;
use super::{LIMIT, Process};

/// Nanoseconds of `CLOCK_MONOTONIC`: the clock in the device's book.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Between which times a gateway was killed.
pub fn killing(kill: impl FnOnce()) -> RangeInclusive<u64> {
    let before = monotonic();
    kill();
    before..=monotonic()
}

/// An answer of the device, as its book has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The unit that answered; its device is called `unit-N`.
    pub unit: u64,
    /// Which of its answers this is, from 1.
    pub n: u64,
    /// The connection it went out on.
    pub connection: u64,
    /// When it was asked for, in nanoseconds.
    pub asked: u64,
    /// When it was out.
    pub answered: u64,
}

/// Which point of which answer a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The unit.
    pub unit: u64,
    /// The point of the unit, from 0; it is called `pN`.
    pub point: u64,
    /// The answer, from 1.
    pub n: u64,
}

impl Origin {
    /// Reads it out of a value.
    pub fn of(value: u64) -> Self {
        Self { unit: value / 10_u64.pow(15), point: value / 10_u64.pow(12) % 1000, n: value % 10_u64.pow(12) }
    }

    /// The value that says it.
    pub fn value(self) -> u64 {
        self.unit * 10_u64.pow(15) + self.point * 10_u64.pow(12) + self.n
    }
}

/// A running device of some units with some points each.
pub struct Counted {
    address: String,
    points: usize,
    process: Process,
}

impl Counted {
    /// Starts it; a poll of 31 points is what one Modbus request carries.
    pub fn start(points: usize) -> Self {
        let mut command = peer("counted.py");
        let process = Process::start("counted.py", command.arg(points.to_string()));
        let line = process.wait_line("listening ", LIMIT);
        let address = line.trim_start_matches("listening ").to_owned();
        Self { address, points, process }
    }

    /// Its link and the devices `unit-1` to `unit-UNITS`, polled so often.
    pub fn devices(&self, units: u64, interval: &str) -> String {
        // The device is never late, only a busy machine is: no time-out, so that every answer is taken.
        let mut text = format!(
            "[links.counted]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\ntimeout = \"30s\"\n",
            self.address
        );
        for unit in 1..=units {
            writeln!(
                text,
                "[devices.unit-{unit}]\nlink = \"counted\"\naddress = {unit}\npoll_interval = \"{interval}\""
            )
            .unwrap();
            for point in 0..self.points {
                writeln!(text, "points.p{point} = {{ address = \"input:{}\", type = \"u64\" }}", 4 * point)
                    .unwrap();
            }
        }
        text
    }

    /// The book so far.
    pub fn served(&self) -> Vec<Served> {
        self.process.lines().iter().filter_map(|line| parse(line)).collect()
    }

    /// Waits for `more` answers from now on.
    pub fn wait_served(&self, more: usize) {
        let goal = self.served().len() + more;
        self.process.wait(&format!("answer {goal}"), LIMIT, |lines| {
            // Each line but the first is an answer.
            (lines.len() > goal).then_some(())
        });
    }

    /// Ends the counting: from here on no value is served, and the book stays as it is.
    pub fn mute(&self) {
        self.process.signal(Signal::USR1);
        self.process.wait_line("muted", LIMIT);
    }
}

fn parse(line: &str) -> Option<Served> {
    let mut numbers = line.strip_prefix("served ")?.split(' ').map(|text| text.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Some(Served { unit: next(), n: next(), connection: next(), asked: next(), answered: next() })
}
