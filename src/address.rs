//! Where a point lies in its device.

use std::fmt;

pub use path::{JsonPath, Step};

mod path;

/// The address of a point, in the grammar of its driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A Modbus address.
    Register {
        /// The table it lies in.
        area: Area,
        /// Zero-based, as on the wire.
        number: u16,
        /// One bit of a register, 0 (least significant) to 15.
        bit: Option<u8>,
    },
    /// A name: the group of a regex, or a signal of the simulator.
    Name(String),
    /// The way to a value inside a JSON text.
    Path(JsonPath),
    /// A column of a line, from 0.
    Column(u16),
    /// A place in a frame of bytes.
    Byte {
        /// From 0, the first byte of what is decoded.
        offset: u16,
        /// One bit of that byte, 0 (least significant) to 7.
        bit: Option<u8>,
    },
}

/// The four tables of the Modbus data model (Modbus Application Protocol V1.1b3, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Single bits, read and write: functions 1, 5, 15.
    Coil,
    /// Single bits, read only: function 2.
    Discrete,
    /// 16-bit registers, read only: function 4.
    Input,
    /// 16-bit registers, read and write: functions 3, 6, 16.
    Holding,
}

impl Area {
    /// The area's name in an address.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }

    /// Its elements are single bits.
    #[must_use]
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The protocol lets a client write it.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Coil | Self::Holding)
    }
}

/// Why a text is no Modbus address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `area:number` nor a Modicon number.
    #[error("`{0}` is not a Modbus address")]
    Form(String),
    /// The number does not fit in 16 bits.
    #[error("`{0}` lies outside 0 to 65535")]
    Range(String),
}

/// Reads `holding:40`, `input:3`, `coil:4`, `discrete:0`, or the five- or six-digit Modicon number of the
/// same place (`40041` and `400041` are `holding:40`: the first digit is the table, the rest counts from 1).
pub fn parse_modbus(text: &str) -> Result<(Area, u16), AddressError> {
    let range = || AddressError::Range(text.to_owned());
    let form = || AddressError::Form(text.to_owned());
    if let Some((area, number)) = text.split_once(':') {
        let area = match area {
            "coil" => Area::Coil,
            "discrete" => Area::Discrete,
            "input" => Area::Input,
            "holding" => Area::Holding,
            _ => return Err(form()),
        };
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(form());
        }
        return Ok((area, number.parse().map_err(|_| range())?));
    }
    if !(text.len() == 5 || text.len() == 6) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(form());
    }
    let (table, number) = text.split_at(1);
    let area = match table {
        "0" => Area::Coil,
        "1" => Area::Discrete,
        "3" => Area::Input,
        "4" => Area::Holding,
        _ => return Err(form()),
    };
    let number: u32 = number.parse().map_err(|_| form())?;
    let number = number.checked_sub(1).ok_or_else(range)?;
    Ok((area, u16::try_from(number).map_err(|_| range())?))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { area, number, bit: None } => write!(f, "{}:{number}", area.name()),
            Self::Register { area, number, bit: Some(bit) } => {
                write!(f, "{}:{number} bit {bit}", area.name())
            }
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => path.fmt(f),
            Self::Column(column) => column.fmt(f),
            Self::Byte { offset, bit: None } => offset.fmt(f),
            Self::Byte { offset, bit: Some(bit) } => write!(f, "{offset} bit {bit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modicon_numbers_name_the_same_registers() {
        for (text, expected) in [
            ("holding:40", (Area::Holding, 40)),
            ("40041", (Area::Holding, 40)),
            ("400041", (Area::Holding, 40)),
            ("465536", (Area::Holding, 65535)),
            ("30001", (Area::Input, 0)),
            ("10010", (Area::Discrete, 9)),
            ("00005", (Area::Coil, 4)),
            ("discrete:0", (Area::Discrete, 0)),
        ] {
            assert_eq!(parse_modbus(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "40",
            "holding:",
            "holding:-1",
            "holding:65536",
            "20001",
            "40000",
            "465537",
            "h:1",
            "4004x",
            "holding:1:2",
        ] {
            assert!(parse_modbus(text).is_err(), "{text}");
        }
    }
}
