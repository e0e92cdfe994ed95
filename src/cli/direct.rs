//! What `read`, `write` and `scan` share: straight to a device, with the driver of its link and nothing else.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::Exit;
use crate::buffer::store::visit;
use crate::config::{self, Field, Framing, LinkConfig, Medium, SerialLine, Transport, nearest};
use crate::drivers::{Driver, DriverError, create};
use crate::point::{Device, Protocol};

/// Why a tool did not do what it was asked: what, where, and what to do next.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) exit: Exit,
    what: String,
    place: Option<String>,
    help: Option<String>,
}

impl Trouble {
    /// It was tried.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), place: None, help: None }
    }

    /// It was asked for in a way that is not done.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(what) }
    }

    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Tells it, and gives the exit code.
    pub(super) fn tell(&self) -> Exit {
        super::complain(self);
        self.exit
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (word, text) in [("in:  ", &self.place), ("help:", &self.help)] {
            if let Some(text) = text {
                write!(f, "\n  {word} {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}

/// Loads what the tools need: no secret, no broker, no buffer.
pub(super) fn load(files: &[PathBuf]) -> Result<Field, Exit> {
    config::load_field(files).map_err(|error| {
        super::check::complain(&error);
        Exit::Config
    })
}

/// The link of that id.
pub(super) fn link<'f>(field: &'f Field, id: &str) -> Result<&'f LinkConfig, Trouble> {
    let found = field.links.iter().find(|link| link.id.as_str() == id);
    found.ok_or_else(|| unknown("link", id, field.links.iter().map(|link| link.id.as_str())))
}

/// The device of that id, with its link.
pub(super) fn device<'f>(field: &'f Field, id: &str) -> Result<(&'f LinkConfig, Arc<Device>), Trouble> {
    let found = field.devices.iter().find(|device| device.id.as_str() == id);
    let device =
        found.ok_or_else(|| unknown("device", id, field.devices.iter().map(|device| device.id.as_str())))?;
    Ok((link(field, device.link.as_str())?, Arc::new(device.clone())))
}

/// The point of that id, as an index into the device's points.
pub(super) fn point(device: &Device, id: &str) -> Result<usize, Trouble> {
    let ids = || device.points.iter().map(|point| point.id.as_str());
    ids()
        .position(|known| known == id)
        .ok_or_else(|| unknown("point", id, ids()).at(format!("devices.{}", device.id)))
}

/// Most ids listed for somebody who meant another.
const LISTED: usize = 20;

fn unknown<'k>(kind: &str, id: &str, known: impl Iterator<Item = &'k str>) -> Trouble {
    let known: Vec<&str> = known.collect();
    let help = match nearest(id, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {kind} that is enabled in this configuration"),
        None => {
            let listed: Vec<_> = known.iter().take(LISTED).map(|id| format!("`{id}`")).collect();
            let more = if known.len() > LISTED { ", …" } else { "" };
            format!("known here: {}{more}", listed.join(", "))
        }
    };
    Trouble::usage(format!("there is no {kind} `{}` that is enabled", id.escape_debug())).help(help)
}

/// Where a link leads, for people.
pub(super) fn place(link: &LinkConfig) -> String {
    let to = match &link.transport {
        Transport::Modbus { framing, medium, .. } => {
            let framing = match framing {
                Framing::Tcp => "Modbus TCP",
                Framing::Rtu => "Modbus RTU",
                Framing::Ascii => "Modbus ASCII",
            };
            match medium {
                Medium::Tcp { host, port } => format!("{framing}, {host}:{port}"),
                Medium::Line(serial) => format!("{framing}, {}", speed(serial)),
            }
        }
        Transport::Serial { line: serial, .. } => speed(serial),
        Transport::Simulator => "simulator".to_owned(),
        Transport::Plugin(plugin) => format!("plugin {}", plugin.name),
    };
    format!("links.{} ({to})", link.id)
}

fn speed(line: &SerialLine) -> String {
    let parity = match line.parity {
        config::Parity::None => 'N',
        config::Parity::Even => 'E',
        config::Parity::Odd => 'O',
        config::Parity::Mark => 'M',
        config::Parity::Space => 'S',
    };
    let SerialLine { port, baud_rate, data_bits, stop_bits, .. } = line;
    format!("{port}, {baud_rate} baud, {data_bits}{parity}{stop_bits}")
}

/// Where a device is, for people.
pub(super) fn place_of(link: &LinkConfig, device: &Device) -> String {
    match device.protocol {
        Protocol::Modbus { unit, .. } => format!("devices.{}, unit {unit} of {}", device.id, place(link)),
        _ => format!("devices.{}, {}", device.id, place(link)),
    }
}

/// The driver of a device's link, open and rested: what is asked next has all of its time.
pub(super) async fn open(
    files: &[PathBuf],
    link: &LinkConfig,
    device: &Arc<Device>,
) -> Result<Box<dyn Driver>, Trouble> {
    let mut driver = create(link, std::slice::from_ref(device));
    driver.open(Instant::now() + link.timeout).await.map_err(|error| lost(files, link, &error))?;
    sleep(link.pause_after_connect).await;
    Ok(driver)
}

/// What to do about a link that cannot be opened, or was lost.
pub(super) fn lost(files: &[PathBuf], link: &LinkConfig, error: &DriverError) -> Trouble {
    let trouble = Trouble::failed(error.to_string()).at(place(link));
    let gateway = gateway_on(files);
    match &link.transport {
        Transport::Modbus { medium: Medium::Tcp { .. }, .. } => {
            let one = "many devices and serial servers take one connection only";
            trouble.help(match gateway {
                Some(gateway) => format!("{one}, and {gateway}: stop it while you use this"),
                None => format!("look at the address, the network and the power of the device; {one}"),
            })
        }
        Transport::Modbus { medium: Medium::Line(_), .. } | Transport::Serial { .. } => match gateway {
            Some(gateway) => trouble.help(format!(
                "{gateway} and owns its lines: stop it while you use this, or send the command by MQTT"
            )),
            None => trouble,
        },
        Transport::Simulator | Transport::Plugin(_) => trouble,
    }
}

/// A gateway that runs with the same configuration, for people.
fn gateway_on(files: &[PathBuf]) -> Option<String> {
    // Where that cannot be said the hint is missing, nothing else.
    let (buffer, _) = config::load_buffer(files).ok()?;
    let is_held = visit::is_held(&buffer.path);
    is_held
        .then(|| format!("a gateway runs with this configuration (on the buffer {})", buffer.path.display()))
}

/// Runs to the end.
pub(super) fn run<T>(task: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Trouble::failed(format!("no event loop: {error}")))?.block_on(task)
}

/// The exit code of a tool whose output was written, or was not.
pub(super) fn written(result: io::Result<()>, exit: Exit) -> Exit {
    match result {
        Ok(()) => exit,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => Trouble::failed(format!("the output cannot be written: {error}")).tell(),
    }
}
