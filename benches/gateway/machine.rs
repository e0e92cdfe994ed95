//! The machine measured on, for the head of the output.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::stage::Stage;

/// A machine busier than this (load average of the last minute) before the start spoils the figures.
const QUIET: f64 = 0.5;

/// Writes what the figures depend on.
pub(crate) fn describe(out: &mut impl Write, stage: &Stage) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().replace(' ', "");
    writeln!(out, "machine   {cores} cores, {model}, {memory}")?;
    let kernel = read("/proc/sys/kernel/osrelease");
    writeln!(out, "kernel    Linux {}", kernel.trim())?;
    writeln!(out, "compiler  {}", said("rustc", "--version"))?;
    writeln!(out, "broker    {}", said("mosquitto", "-h"))?;
    writeln!(out, "disk      {} ({})", file_system(&stage.folder), stage.folder.display())?;
    writeln!(
        out,
        "length    {} runs of each, median; {} s each; outage of {} s",
        stage.runs,
        stage.time.as_secs(),
        stage.outage.as_secs()
    )?;
    let load = read("/proc/loadavg");
    let load: f64 = load.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
    let note = if load > QUIET { "  ! the machine is busy with something else" } else { "" };
    writeln!(out, "load      {load} before the start{note}")?;
    if cfg!(debug_assertions) {
        writeln!(out, "\n! a build without optimisation: the figures mean nothing")?;
    }
    Ok(())
}

/// CPU seconds so far: all cores busy, and all cores together (proc(5), /proc/stat).
pub(crate) fn busy() -> Result<(f64, f64)> {
    let stat = read("/proc/stat");
    let line = stat.lines().next().ok_or("no /proc/stat")?;
    // user nice system idle iowait irq softirq steal; guest time is part of user time already.
    let times = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse::<f64>)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let all: f64 = times.iter().sum();
    let idle: f64 = times.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

/// The first line a program prints; `mosquitto -h` ends with an error although it answers.
fn said(program: &str, argument: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    Command::new(program)
        .arg(argument)
        .env("PATH", path)
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The type of the file system a folder lies on: that of the longest mount point above it.
fn file_system(folder: &Path) -> String {
    read("/proc/mounts")
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
        })
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
