//! The two things measured: fieldgate itself, and the bare pipeline of the same crates.

use std::fmt;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::child::Child;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The release binary, with a configuration file.
    Fieldgate,
    /// This program's own role `bare`.
    Bare,
}

impl Kind {
    /// Both, in the order of the columns.
    pub(crate) const ALL: [Self; 2] = [Self::Fieldgate, Self::Bare];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fieldgate => "fieldgate",
            Self::Bare => "bare",
        })
    }
}

/// What is polled: every fake over a link of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Units asked on each link.
    pub(crate) units: u16,
    /// Registers of one poll, each one reading.
    pub(crate) registers: u16,
    /// Time between two polls of one unit; zero: without a rest (only the bare pipeline can).
    pub(crate) interval: Duration,
}

impl Load {
    /// Readings a second that `links` links offer; nothing for a load without rest.
    pub(crate) fn offered(&self, links: usize) -> Option<f64> {
        let polls = f64::from(self.units) * f64::from(u32::try_from(links).ok()?);
        (!self.interval.is_zero()).then(|| polls * f64::from(self.registers) / self.interval.as_secs_f64())
    }
}

/// The fieldgate binary: the one cargo built beside this, or another one named by `BENCH_FIELDGATE`.
pub(crate) fn fieldgate() -> PathBuf {
    std::env::var_os("BENCH_FIELDGATE").map_or_else(|| env!("CARGO_BIN_EXE_fieldgate").into(), Into::into)
}

/// Starts one in `folder`, polling the fakes on `ports`, publishing to the broker on `broker`.
pub(crate) fn start(kind: Kind, load: Load, ports: &[u16], broker: u16, folder: &Path) -> Result<Child> {
    let log = folder.join(format!("{kind}.log"));
    let buffer = folder.join("buffer.db");
    match kind {
        Kind::Fieldgate => {
            let file = folder.join("fieldgate.toml");
            std::fs::write(&file, configuration(load, ports, broker, &buffer)?)?;
            let file = file.display().to_string();
            Child::logged(&fieldgate(), &["run", "--config", &file], &log)
        }
        Kind::Bare => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let arguments = [
                "bare".to_owned(),
                broker.to_string(),
                buffer.display().to_string(),
                ports.join(","),
                load.units.to_string(),
                load.registers.to_string(),
                load.interval.as_micros().to_string(),
            ];
            Child::logged(&std::env::current_exe()?, &arguments, &log)
        }
    }
}

fn configuration(load: Load, ports: &[u16], broker: u16, buffer: &Path) -> Result<String> {
    let mut text = format!(
        "[gateway]\nid = \"bench\"\nclock = \"trusted\"\n[log]\nlevel = \"warn\"\n\
         [buffer]\npath = \"{}\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\nprefix = \"bench\"\nreconnect = {{ max = \"1s\" }}\n\
         [web]\nlisten = \"off\"\n",
        buffer.display()
    );
    let mut number = 0;
    for (link, port) in ports.iter().enumerate() {
        writeln!(text, "[links.l{link}]\ndriver = \"modbus-tcp\"\naddress = \"127.0.0.1:{port}\"")?;
        for unit in 1..=load.units {
            let interval = load.interval.as_millis();
            writeln!(
                text,
                "[devices.d{number}]\nlink = \"l{link}\"\naddress = {unit}\npoll_interval = \"{interval}ms\"\n\
                 [devices.d{number}.points]"
            )?;
            for register in 0..load.registers {
                writeln!(text, "r{register:03} = {{ address = \"holding:{register}\", type = \"u16\" }}")?;
            }
            number += 1;
        }
    }
    Ok(text)
}
