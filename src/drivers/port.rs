//! Opens a serial port, for every driver that has one.

use tokio_serial::{DataBits, ErrorKind, Parity, SerialStream, StopBits};

use super::DriverError;
use crate::config::{self, SerialLine};

/// Opens the line for itself alone: a second opener would take every other byte, so the port is locked
/// (`TIOCEXCL` and `flock`). Raw mode, no flow control. What it fails with names the port and what to do.
///
/// Opening never waits for a carrier. Needs a tokio runtime.
pub(super) fn open(line: &SerialLine) -> Result<SerialStream, DriverError> {
    let path = line.path.display();
    let lost = |what: String| DriverError::Lost(format!("{path}: {what}"));
    let Some(name) = line.path.to_str() else {
        return Err(lost("the path is not UTF-8; give the port a plain name".to_owned()));
    };
    let data_bits = match line.data_bits {
        5 => DataBits::Five,
        6 => DataBits::Six,
        7 => DataBits::Seven,
        _ => DataBits::Eight,
    };
    let parity = match line.parity {
        config::Parity::None => Parity::None,
        config::Parity::Even => Parity::Even,
        config::Parity::Odd => Parity::Odd,
    };
    let stop_bits = if line.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    let builder =
        tokio_serial::new(name, line.baud_rate).data_bits(data_bits).parity(parity).stop_bits(stop_bits);
    SerialStream::open(&builder).map_err(|error| match error.kind() {
        ErrorKind::Io(std::io::ErrorKind::NotFound) => lost(
            "there is no such port; is the adapter plugged in? `ls -l /dev/serial/by-id` lists them"
                .to_owned(),
        ),
        ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
            lost("may not be opened; add the user to the group that owns it (usually `dialout`)".to_owned())
        }
        // flock answers EWOULDBLOCK, TIOCEXCL answers EBUSY, and both arrive as `NoDevice`.
        ErrorKind::NoDevice | ErrorKind::Io(std::io::ErrorKind::WouldBlock) => lost(
            "another program has it open (a second gateway, a modem manager, a getty); stop that one"
                .to_owned(),
        ),
        _ => lost(format!("cannot be opened as a serial port: {error}")),
    })
}
