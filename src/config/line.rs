//! A serial line: which port, how fast, how a character looks, and who turns an RS-485 driver.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::file::Value;
use super::table::Table;

/// Fastest line, as far as Linux has names for speeds.
const FASTEST: u32 = 4_000_000;

/// Longest delay that the kernel takes for RS-485 (`RS485_MAX_RTS_DELAY`).
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// Keys of a serial line, refused with a reason on other links.
pub(super) const LINE_KEYS: [&str; 7] =
    ["path", "usb", "baud_rate", "parity", "data_bits", "stop_bits", "rs485"];

/// A serial line and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct SerialLine {
    /// Which port of the machine.
    pub port: PortName,
    /// Bits per second, 50 to 4,000,000; any number, not only the usual ones.
    pub baud_rate: u32,
    /// Parity.
    pub parity: Parity,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// The kernel turns the RS-485 driver.
    pub rs485: Option<Rs485>,
}

impl SerialLine {
    /// The line at a path with the defaults: 9600 baud, 8N1.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            port: PortName::Path(path.into()),
            baud_rate: 9600,
            parity: Parity::None,
            data_bits: 8,
            stop_bits: 1,
            rs485: None,
        }
    }

    /// The time of one character on the line: start bit, data bits, parity bit, stop bits.
    #[must_use]
    pub fn character_time(&self) -> Duration {
        let parity = u32::from(self.parity != Parity::None);
        let bits = 1 + u32::from(self.data_bits) + parity + u32::from(self.stop_bits);
        Duration::from_secs_f64(f64::from(bits) / f64::from(self.baud_rate.max(1)))
    }
}

/// Which port of the machine a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// The terminal device, or a link to one.
    Path(PathBuf),
    /// The terminal of this USB adapter, whatever its name is now.
    Usb(UsbId),
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Usb(id) => write!(f, "usb {id}"),
        }
    }
}

/// What a USB adapter calls itself: `0403:6001`, or `0403:6001:SERIAL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbId {
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
    /// Serial number; without one, any adapter of this make will do.
    pub serial: Option<String>,
}

impl UsbId {
    /// Reads `vid:pid` or `vid:pid:serial`: four hexadecimal digits each, and any visible text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let mut number = || {
            let digits = parts.next().filter(|part| part.len() == 4)?;
            // The parser of numbers would take a sign.
            digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
        };
        let (vendor, product) = (number()?, number()?);
        let serial = parts.next().map(str::to_owned);
        let visible = |serial: &String| !serial.is_empty() && !serial.chars().any(char::is_control);
        serial.as_ref().is_none_or(visible).then_some(Self { vendor, product, serial })
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)?;
        match &self.serial {
            Some(serial) => write!(f, ":{serial}"),
            None => Ok(()),
        }
    }
}

/// `parity`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
    /// Always 1.
    Mark,
    /// Always 0.
    Space,
}

/// `rs485`: the kernel switches between sending and receiving, by the RTS line of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rs485 {
    /// RTS is high while sending.
    pub rts_on_send: bool,
    /// RTS is high otherwise.
    pub rts_after_send: bool,
    /// From RTS to the first bit, whole milliseconds, at most 100.
    pub delay_before: Duration,
    /// From the last bit to RTS, whole milliseconds, at most 100.
    pub delay_after: Duration,
    /// The receiver stays on while sending: we hear ourselves.
    pub rx_during_tx: bool,
}

/// Reads the keys of a line.
pub(super) fn line(table: &mut Table) -> Option<SerialLine> {
    let port = port(table);
    let baud_rate = table.whole("baud_rate", 50..=FASTEST).unwrap_or(9600);
    table.note("baud_rate", baud_rate.into());
    let parities = [
        ("none", Parity::None),
        ("even", Parity::Even),
        ("odd", Parity::Odd),
        ("mark", Parity::Mark),
        ("space", Parity::Space),
    ];
    let parity = table.choice("parity", &parities);
    if parity.is_none() {
        table.note("parity", "none".into());
    }
    let data_bits = table.whole("data_bits", 5..=8_u8).unwrap_or(8);
    table.note("data_bits", data_bits.into());
    let stop_bits = stop_bits(table);
    table.note("stop_bits", stop_bits.into());
    let rs485 = rs485(table);
    Some(SerialLine {
        port: port?,
        baud_rate,
        parity: parity.unwrap_or_default(),
        data_bits,
        stop_bits,
        rs485,
    })
}

/// `path` or `usb`; of both, the one that comes from the later source.
fn port(table: &mut Table) -> Option<PortName> {
    const HELP: &str = "write the device, such as \"/dev/ttyUSB0\", or usb = \"0403:6001\"";
    if table.has("path") && table.has("usb") {
        let (path, usb) = (table.position("path").0, table.position("usb").0);
        match path.cmp(&usb) {
            std::cmp::Ordering::Less => table.forget(&["path"]),
            std::cmp::Ordering::Greater => table.forget(&["usb"]),
            std::cmp::Ordering::Equal => {
                table.fault("usb", "{key} and path exclude one another", "keep one of them");
                table.forget(&["path", "usb"]);
                return None;
            }
        }
    }
    if let Some(text) = table.text("usb") {
        let id = UsbId::parse(&text);
        if id.is_none() {
            let help = "write vendor and product in hexadecimal, such as \"0403:6001\" or \"0403:6001:A1B2C3\"; \
                        `lsusb` lists them";
            table.fault("usb", "{key} is no id of a USB adapter", help);
        }
        table.forget(&["path"]);
        return id.map(PortName::Usb);
    }
    if !table.has("path") && !table.was_given("usb") {
        table.fault("path", "{key} is missing", HELP);
    }
    let path = table.text("path")?;
    if path.is_empty() {
        table.fault("path", "{key} is empty", HELP);
    }
    Some(PortName::Path(path.into()))
}

fn stop_bits(table: &mut Table) -> u8 {
    let half = match table.rest().get("stop_bits") {
        Some(Value::Num(_, number)) => number.to_f64().is_some_and(|number| (number - 1.5).abs() < 0.01),
        Some(Value::String(_, text)) => text == "1.5",
        _ => false,
    };
    if half {
        table.fault(
            "stop_bits",
            "{key} = 1.5 does not exist: Linux knows 1 and 2",
            "write 2, which every receiver of 1.5 takes; with data_bits = 5 most ports make 1.5 of it",
        );
        table.forget(&["stop_bits"]);
    }
    table.whole("stop_bits", 1..=2_u8).unwrap_or(1)
}

fn rs485(table: &mut Table) -> Option<Rs485> {
    let mut inner = table.table("rs485")?;
    let rts_on_send = inner.flag("rts_on_send", true);
    let rts_after_send = inner.flag("rts_after_send", !rts_on_send);
    if rts_on_send == rts_after_send {
        let what = "{key} is the same as rts_on_send: the line would never change its direction";
        inner.fault("rts_after_send", what, "write the opposite of rts_on_send, or leave one of them out");
    }
    let mut delay = |key| {
        let delay = inner.duration(key, Duration::ZERO..=LONGEST_DELAY, Duration::ZERO);
        if !delay.subsec_nanos().is_multiple_of(1_000_000) {
            inner.fault(key, "{key} is no whole number of milliseconds", "the kernel counts in \"1ms\"");
        }
        delay
    };
    let (delay_before, delay_after) = (delay("delay_before"), delay("delay_after"));
    let rx_during_tx = inner.flag("rx_during_tx", false);
    inner.finish();
    Some(Rs485 { rts_on_send, rts_after_send, delay_before, delay_after, rx_during_tx })
}

#[cfg(test)]
mod tests {
    use super::UsbId;

    #[test]
    fn ids_of_adapters_read_back() {
        for (text, shown) in [
            ("0403:6001", Some("0403:6001")),
            ("1A86:7523:A1:B2", Some("1a86:7523:A1:B2")),
            ("0403:6001:with blank", Some("0403:6001:with blank")),
            ("0403", None),
            ("0403:", None),
            ("403:6001", None),
            ("+403:6001", None),
            ("0403:600g", None),
            ("0403:6001:", None),
            ("0403:6001:\u{7}", None),
            ("", None),
        ] {
            let id = UsbId::parse(text);
            assert_eq!(id.as_ref().map(ToString::to_string).as_deref(), shown, "{text}");
        }
    }
}
