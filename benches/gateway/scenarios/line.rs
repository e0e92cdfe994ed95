//! A serial line that is as slow as a real one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fieldgate::config::SerialLine;
use fieldgate::drivers::Driver;
use fieldgate::drivers::modbus::Modbus;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::planner::block;
use crate::Result;
use crate::figures::{Figure, Target};
use crate::gateway::Kind;
use crate::stage::Stage;

pub(super) const ABOUT: &str = "a pty paced as 9600 baud 8N1, 3.5 characters of silence before a request and before its answer, \
     which comes at\n  once: the part of the transactions that such a line has room for. bare: the line itself";

/// One character of ten bits.
const CHARACTER: Duration = Duration::from_nanos(1_000_000_000 * 10 / 9600);

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (registers, part, short) in [
        (1, "1 register, part of the line", "1 register, silences too short"),
        (10, "10 registers, part of the line", "10 registers, silences too short"),
        (125, "125 registers, part of the line", "125 registers, silences too short"),
    ] {
        let (found, violations) = match kind {
            Kind::Fieldgate => transact(registers, stage.time / 3)?,
            Kind::Bare => (1.0, 0),
        };
        figures.push(Figure::aimed(part, 3, found, Target::Least(0.95)));
        figures.push(Figure::aimed(short, 0, f64::from(violations), Target::Zero));
    }
    Ok(figures)
}

/// The part of the possible transactions, and how many requests began before the line was quiet long enough.
fn transact(registers: u16, time: Duration) -> Result<(f64, u32)> {
    let (master, path) = terminal()?;
    let fake = std::thread::spawn(move || serve(master));
    let line = SerialLine::at(path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = runtime.block_on(async {
        let device = block(registers)?;
        let mut driver = Modbus::rtu(line);
        let soon = || tokio::time::Instant::now() + device.patience;
        driver.open(soon()).await?;
        let due: Vec<usize> = (0..device.points.len()).collect();
        let request = driver.plan(&device, &due).pop().ok_or("nothing planned")?;
        driver.exchange(&request, soon()).await?;
        let begun = Instant::now();
        let mut count = 0_u32;
        while begun.elapsed() < time {
            driver.exchange(&request, soon()).await?;
            count += 1;
        }
        Ok::<_, Box<dyn std::error::Error>>(f64::from(count) / begun.elapsed().as_secs_f64())
    })?;
    let characters = 8.0 + 5.0 + 2.0 * f64::from(registers) + 7.0;
    let possible = 1.0 / (CHARACTER.as_secs_f64() * characters);
    let violations = fake.join().map_err(|_| "the fake died")??;
    Ok((rate / possible, violations))
}

fn terminal() -> Result<(OwnedFd, String)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.into_string()?;
    Ok((master, path))
}

/// Answers reads until the other end hangs up. Gives how many requests came too early.
fn serve(master: OwnedFd) -> std::io::Result<u32> {
    let mut port = File::from(master);
    let mut quiet_from = Instant::now();
    let mut violations = 0;
    let mut request = [0; 8];
    let mut opened = false;
    loop {
        match port.read(request.get_mut(..1).unwrap_or_default()) {
            Ok(1) => opened = true,
            // Not opened yet, or closed again.
            _ if opened => return Ok(violations),
            _ => {
                crate::rest(Duration::from_millis(1));
                continue;
            }
        }
        let begun = Instant::now();
        violations += u32::from(begun < quiet_from);
        port.read_exact(request.get_mut(1..).unwrap_or_default())?;
        let count = u16::from_be_bytes([request[4], request[5]]);
        let mut answer = vec![request[0], request[1], u8::try_from(2 * count).unwrap_or(u8::MAX)];
        answer.extend((0..count).flat_map(u16::to_be_bytes));
        answer.extend(crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&answer).to_le_bytes());
        // The request takes its time, then the line is silent, then the answer takes its time: it is there in whole
        // when its last character is.
        let mut at = begun + CHARACTER * 8 + CHARACTER * 7 / 2;
        let (head, tail) = answer.split_at(answer.len() / 2);
        let mut sent = at;
        for part in [head, tail] {
            at += CHARACTER * u32::try_from(part.len()).unwrap_or(u32::MAX);
            until(at);
            // Before it is written: the gateway may have it before this thread goes on.
            sent = Instant::now();
            port.write_all(part)?;
        }
        quiet_from = sent + CHARACTER * 7 / 2;
    }
}

/// Waits to the point: the last part of a millisecond is too short for a sleep.
fn until(at: Instant) {
    crate::rest(at.saturating_duration_since(Instant::now()).saturating_sub(Duration::from_micros(150)));
    while Instant::now() < at {
        std::hint::spin_loop();
    }
}
