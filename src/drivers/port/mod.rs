//! Opens a serial port, for every driver that has one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rs485::Rs485 as _;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use tokio_serial::{DataBits, ErrorKind, Parity, SerialStream, StopBits};

use super::DriverError;
use crate::config::{self, PortName, Rs485, SerialLine};

mod holder;
mod usb;

/// Opens a line of this machine; [`Ports::open`] says how.
pub(super) fn open(line: &SerialLine) -> Result<SerialStream, DriverError> {
    Ports::default().open(line)
}

/// Where a machine lists its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The kernel's view of devices, `/sys`.
    pub sysfs: PathBuf,
    /// Their nodes, `/dev`.
    pub dev: PathBuf,
}

impl Default for Ports {
    fn default() -> Self {
        Self { sysfs: "/sys".into(), dev: "/dev".into() }
    }
}

impl Ports {
    /// Opens the line for itself alone: a second opener would take every other byte, so the port is locked
    /// (`TIOCEXCL` and `flock`). Raw mode, no flow control. What it fails with names the port and what to do, and
    /// begins with `adapter missing` where there is none.
    ///
    /// An adapter that is chosen by its USB id is looked for anew each time. Opening never waits for a carrier.
    /// Needs a tokio runtime.
    pub fn open(&self, line: &SerialLine) -> Result<SerialStream, DriverError> {
        let path = match &line.port {
            PortName::Path(path) => path.clone(),
            PortName::Usb(id) => usb::find(self, id).map_err(|error| DriverError::Lost(error.to_string()))?,
        };
        open_path(&path, line)
    }
}

fn open_path(path: &Path, line: &SerialLine) -> Result<SerialStream, DriverError> {
    let shown = path.display();
    let lost = |what: &str| DriverError::Lost(format!("{shown}: {what}"));
    let Some(name) = path.to_str() else {
        return Err(lost("the path is not UTF-8; give the port a plain name"));
    };
    // Before the lock, which keeps us out as well.
    let second = if line.parity == config::Parity::None { None } else { node(path).ok() };
    let data_bits = match line.data_bits {
        5 => DataBits::Five,
        6 => DataBits::Six,
        7 => DataBits::Seven,
        _ => DataBits::Eight,
    };
    let parity = match line.parity {
        config::Parity::None => Parity::None,
        config::Parity::Even | config::Parity::Space => Parity::Even,
        config::Parity::Odd | config::Parity::Mark => Parity::Odd,
    };
    let stop_bits = if line.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    let builder =
        tokio_serial::new(name, line.baud_rate).data_bits(data_bits).parity(parity).stop_bits(stop_bits);
    let stream = SerialStream::open(&builder).map_err(|error| why_not(path, &error))?;
    if line.parity != config::Parity::None {
        let is_sticky = matches!(line.parity, config::Parity::Mark | config::Parity::Space);
        let set = second.ok_or(io::ErrorKind::NotFound.into()).and_then(|second| stick(&second, is_sticky));
        set.map_err(|error| lost(&format!("does not take this parity: {error}")))?;
    }
    if let Some(rs485) = &line.rs485 {
        set_rs485(&stream, rs485).map_err(|error| {
            lost(&format!(
                "does not know RS-485 direction control ({error}); remove `rs485` from the link if the adapter \
                 turns by itself, or use a port whose driver has it"
            ))
        })?;
    }
    Ok(stream)
}

/// What an operator has to do about a port that cannot be opened.
fn why_not(path: &Path, error: &tokio_serial::Error) -> DriverError {
    let shown = path.display();
    DriverError::Lost(match error.kind() {
        ErrorKind::Io(io::ErrorKind::NotFound) => missing(path),
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            format!("{shown}: may not be opened; add the user to the group that owns it (usually `dialout`)")
        }
        // flock answers EWOULDBLOCK, TIOCEXCL answers EBUSY, and both arrive as `NoDevice`.
        ErrorKind::NoDevice | ErrorKind::Io(io::ErrorKind::WouldBlock) => match holder::of(path) {
            Some(holder) => format!("{shown}: another program has it open: {holder}; stop that one"),
            None => format!(
                "{shown}: another program has it open (a second gateway, a modem manager, a getty); stop that one"
            ),
        },
        // What is wrong arrives without its number: ask once more.
        _ => match node(path) {
            Err(errno) if errno == rustix::io::Errno::NXIO || errno == rustix::io::Errno::NODEV => {
                missing(path)
            }
            _ => format!("{shown}: cannot be opened as a serial port: {error}"),
        },
    })
}

fn missing(path: &Path) -> String {
    format!(
        "adapter missing: {}: there is no such port; is the adapter plugged in? `ls -l /dev/serial/by-id` lists them",
        path.display()
    )
}

fn node(path: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the parity bit always what odd parity (mark) or even parity (space) of nothing is, or takes that back:
/// it outlives the program that set it.
fn stick(node: &OwnedFd, is_sticky: bool) -> io::Result<()> {
    let mut settings = tcgetattr(node)?;
    if settings.control_modes.contains(ControlModes::CMSPAR) == is_sticky {
        return Ok(());
    }
    settings.control_modes.set(ControlModes::CMSPAR, is_sticky);
    tcsetattr(node, OptionalActions::Now, &settings)?;
    // A driver that cannot do it leaves it as it is without a word.
    if tcgetattr(node)?.control_modes.contains(ControlModes::CMSPAR) == is_sticky {
        return Ok(());
    }
    Err(io::ErrorKind::Unsupported.into())
}

fn set_rs485(stream: &SerialStream, wanted: &Rs485) -> io::Result<()> {
    let millis = |delay: std::time::Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
    let mut settings = rs485::SerialRs485::new();
    settings
        .set_enabled(true)
        .set_rts_on_send(wanted.rts_on_send)
        .set_rts_after_send(wanted.rts_after_send)
        .delay_rts_before_send_ms(millis(wanted.delay_before))
        .delay_rts_after_send_ms(millis(wanted.delay_after))
        .set_rx_during_tx(wanted.rx_during_tx);
    let asked = format!("{settings:?}");
    // The kernel writes into it what it made of the wish.
    stream.set_rs485_conf(&settings)?;
    let got = format!("{:?}", stream.get_rs485_conf()?);
    if got != asked {
        tracing::warn!(asked, got, "the port does RS-485 in another way than it was told");
    }
    Ok(())
}
