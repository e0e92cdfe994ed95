//! `fieldgate scan`: which units of a Modbus link answer, and what their registers may mean.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::ask::{Survey, Unit};
use self::range::{Places, Units};
use super::Exit;
use super::direct::{self, Trouble};
use crate::config::{Framing, LinkConfig, Transport};
use crate::drivers::modbus_of;
use crate::point::{Device, Protocol};

mod ask;
mod faces;
mod range;
mod tell;

/// Arguments of `fieldgate scan`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Id of the link, which must have a Modbus driver.
    link: String,
    /// Units to ask, such as 1-32 or 1,5,10-20. Without: 1-247, on modbus-tcp also 255.
    #[arg(long, value_name = "UNITS")]
    units: Option<Units>,
    /// Also the registers of each unit found, such as holding:0-99, input:100 or coil:0-15; may be given several times.
    #[arg(long, value_name = "AREA:RANGE")]
    registers: Vec<Places>,
    /// Show each register in every type and order, also where the value makes little sense.
    #[arg(long)]
    all: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// What a scan was asked and what it found so far.
#[derive(Debug)]
struct Scan<'l> {
    link: &'l LinkConfig,
    /// Every enabled device, of whatever link.
    devices: &'l [Device],
    units: Vec<u8>,
    places: &'l [Places],
    found: Vec<Unit>,
    /// A signal ended it.
    is_interrupted: bool,
}

impl<'l> Scan<'l> {
    /// The device that is this unit already: no second one may be.
    fn device(&self, number: u8) -> Option<&'l Device> {
        self.devices.iter().find(|device| {
            device.link == self.link.id
                && matches!(device.protocol, Protocol::Modbus { unit, .. } if unit == number)
        })
    }

    /// An id that no device has yet.
    fn new_id(&self, number: u8) -> String {
        let ids = (1..).map(|count| match count {
            1 => format!("unit-{number}"),
            count => format!("unit-{number}-{count}"),
        });
        let is_free = |id: &String| !self.devices.iter().any(|device| device.id.as_str() == id.as_str());
        ids.take(self.devices.len() + 1).find(is_free).unwrap_or_default()
    }
}

/// Asks every unit once, and each that answers for its registers. Progress goes to stderr, what was found to stdout, also
/// when SIGINT or SIGTERM ends it early. No unit at all makes it a failure.
#[must_use]
pub fn scan(files: &[PathBuf], arguments: &Arguments) -> Exit {
    let field = match direct::load(files) {
        Ok(field) => field,
        Err(exit) => return exit,
    };
    let asked = direct::link(&field, &arguments.link)
        .and_then(|link| Ok((link, units(link, arguments.units.as_ref())?)));
    let (link, units) = match asked {
        Ok(asked) => asked,
        Err(trouble) => return trouble.tell(),
    };
    note(&forecast(link, units.len()));
    let mut scan = Scan {
        link,
        devices: &field.devices,
        units,
        places: &arguments.registers,
        found: Vec::new(),
        is_interrupted: false,
    };
    let ended = direct::run(interruptible(files, &mut scan));
    let told = if scan.found.is_empty() && ended.is_err() && !arguments.json {
        Ok(())
    } else {
        let text = if arguments.json {
            tell::to_json(&scan, arguments.all)
        } else {
            tell::to_text(&scan, arguments.all)
        };
        io::stdout().lock().write_all(text.as_bytes())
    };
    let exit = match ended {
        Err(trouble) => trouble.tell(),
        Ok(()) if scan.is_interrupted => {
            Trouble::failed("interrupted before all was asked").at(direct::place(link)).tell()
        }
        Ok(()) if scan.found.is_empty() => nobody(link).tell(),
        Ok(()) => Exit::Done,
    };
    direct::written(told, exit)
}

async fn interruptible(files: &[PathBuf], scan: &mut Scan<'_>) -> Result<(), Trouble> {
    let listen =
        |kind| signal(kind).map_err(|error| Trouble::failed(format!("signals cannot be received: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let Scan { link, units, places, found, is_interrupted, .. } = scan;
    let work = async {
        let mut survey = Survey::open(files, link).await?;
        for (index, unit) in units.iter().enumerate() {
            survey
                .progress(|| format!("unit {unit}, {index} of {} asked, {} found", units.len(), found.len()));
            if let Some(unit) = survey.find(*unit).await? {
                note(&format!("unit {} answers", unit.number));
                found.push(unit);
            }
        }
        for unit in found.iter_mut() {
            for place in *places {
                survey.read(unit, *place).await?;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = work => ended,
        _ = interrupt.recv() => { *is_interrupted = true; Ok(()) }
        _ = terminate.recv() => { *is_interrupted = true; Ok(()) }
    }
}

/// The units to ask.
fn units(link: &LinkConfig, wanted: Option<&Units>) -> Result<Vec<u8>, Trouble> {
    let Transport::Modbus { framing, .. } = &link.transport else {
        let what = format!("{} has no Modbus driver, so there are no units to find", direct::place(link));
        return Err(Trouble::usage(what).help("`fieldgate read DEVICE` asks a device"));
    };
    let is_bus = *framing != Framing::Tcp;
    let Some(Units(units)) = wanted else {
        return Ok((1..=247).chain((!is_bus).then_some(255)).collect());
    };
    if is_bus && let Some(unit) = units.iter().find(|unit| !(1..=247).contains(*unit)) {
        let what = format!("unit {unit} cannot be asked on a bus: there units are 1 to 247");
        return Err(Trouble::usage(what)
            .at(direct::place(link))
            .help("write --units 1-247, or a part of it"));
    }
    Ok(units.clone())
}

/// What it will take when nobody is there, which is what takes longest.
fn forecast(link: &LinkConfig, units: usize) -> String {
    let each =
        modbus_of(link).map_or(link.timeout, |modbus| modbus.time_of_silence(link.pause, link.timeout));
    let all = link.pause_after_connect + each * u32::try_from(units).unwrap_or(u32::MAX);
    let plural = if units == 1 { "" } else { "s" };
    format!(
        "asking {units} unit{plural} of {}: {} if none answers, {} for each that is silent (`timeout` of the link, and \
         its line and pauses)",
        direct::place(link),
        span(all),
        span(each),
    )
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn nobody(link: &LinkConfig) -> Trouble {
    let help = match &link.transport {
        Transport::Modbus { framing: Framing::Tcp, .. } => {
            "look whether the server has other unit ids (--units), or is slower than `timeout` of the link"
        }
        _ => {
            "look at power and wiring (A and B swapped?), baud_rate, parity and stop_bits, and whether `timeout` is long \
             enough"
        }
    };
    Trouble::failed("no unit answers").at(direct::place(link)).help(help)
}

/// Tells a person who waits.
fn note(text: &str) {
    // Where stderr is closed nobody waits.
    drop(writeln!(io::stderr(), "{text}"));
}
