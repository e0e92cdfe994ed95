//! A request, and what its answer must look like. tokio-modbus checks this in debug builds alone, by panic.

use std::time::Duration;

use tokio_modbus::{Request, Response};

use crate::drivers::DriverError;

/// The shape of an answer: all that tells answers on a serial line apart, since they carry no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Unit asked.
    pub unit: u8,
    /// Function asked.
    pub function: u8,
    /// Bytes after the function code, without CRC.
    pub bytes: u8,
}

impl Shape {
    /// The shape of the good answer to `request`; `None` for a request this driver does not send.
    pub(super) fn of(unit: u8, request: &Request<'_>) -> Option<Self> {
        let bytes = match request {
            Request::ReadCoils(_, count) | Request::ReadDiscreteInputs(_, count) => 1 + count.div_ceil(8),
            Request::ReadHoldingRegisters(_, count)
            | Request::ReadInputRegisters(_, count)
            | Request::ReadWriteMultipleRegisters(_, count, ..) => count.checked_mul(2)?.checked_add(1)?,
            Request::MaskWriteRegister(..) => 6,
            Request::WriteSingleCoil(..)
            | Request::WriteSingleRegister(..)
            | Request::WriteMultipleCoils(..)
            | Request::WriteMultipleRegisters(..) => 4,
            _ => return None,
        };
        Some(Self { unit, function: request.function_code().value(), bytes: u8::try_from(bytes).ok()? })
    }

    /// The answer repeats what was written, and tells nothing else.
    pub(super) fn is_confirmation(self) -> bool {
        matches!(self.function, 5 | 6 | 15 | 16 | 22)
    }
}

/// What goes out, and to whom.
#[derive(Clone, Copy)]
pub(super) struct Question<'r> {
    pub(super) unit: u8,
    pub(super) request: &'r Request<'r>,
    /// What it reads or writes: first place and how many.
    pub(super) place: (u16, u16),
    /// Rest that the unit needs before it.
    pub(super) pause: Duration,
    /// How long the unit may take to begin to answer.
    pub(super) patience: Duration,
}

/// Bytes of a request of this driver: function code and data.
pub(super) fn size(request: &Request<'_>) -> u32 {
    let bytes = match request {
        Request::WriteMultipleCoils(_, bits) => 6 + bits.len().div_ceil(8),
        Request::WriteMultipleRegisters(_, words) => 6 + words.len() * 2,
        Request::ReadWriteMultipleRegisters(.., words) => 10 + words.len() * 2,
        Request::MaskWriteRegister(..) => 7,
        _ => 5,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The read request of that function.
pub(super) fn read(function: u8, start: u16, count: u16) -> Option<Request<'static>> {
    Some(match function {
        1 => Request::ReadCoils(start, count),
        2 => Request::ReadDiscreteInputs(start, count),
        3 => Request::ReadHoldingRegisters(start, count),
        4 => Request::ReadInputRegisters(start, count),
        _ => return None,
    })
}

/// The request changes nothing, so it may go out again.
pub(super) fn is_read(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::ReadCoils(..)
            | Request::ReadDiscreteInputs(..)
            | Request::ReadHoldingRegisters(..)
            | Request::ReadInputRegisters(..)
    )
}

/// Checks size and echo of an answer. Bits come in whole bytes, so up to seven more than asked.
pub(super) fn check(request: &Request<'_>, response: &Response) -> Result<(), DriverError> {
    let size = |what: &str, asked: usize, came: usize| {
        Err(DriverError::Malformed(format!("asked for {asked} {what}, got {came}")))
    };
    #[cfg(feature = "mutant")]
    if crate::mutant::is(if is_read(request) { "no-length" } else { "no-echo" }) {
        return Ok(());
    }
    match (request, response) {
        (Request::ReadCoils(_, count), Response::ReadCoils(bits))
        | (Request::ReadDiscreteInputs(_, count), Response::ReadDiscreteInputs(bits)) => {
            let asked = usize::from(*count).next_multiple_of(8);
            if bits.len() != asked {
                return size("bits in whole bytes", asked, bits.len());
            }
        }
        (Request::ReadHoldingRegisters(_, count), Response::ReadHoldingRegisters(words))
        | (Request::ReadInputRegisters(_, count), Response::ReadInputRegisters(words))
        | (Request::ReadWriteMultipleRegisters(_, count, ..), Response::ReadWriteMultipleRegisters(words)) => {
            if words.len() != usize::from(*count) {
                return size("registers", usize::from(*count), words.len());
            }
        }
        (Request::WriteSingleCoil(place, bit), Response::WriteSingleCoil(at, got))
            if place == at && bit == got => {}
        (Request::WriteSingleRegister(place, word), Response::WriteSingleRegister(at, got))
            if place == at && word == got => {}
        (Request::WriteMultipleRegisters(place, words), Response::WriteMultipleRegisters(at, count))
            if place == at && words.len() == usize::from(*count) => {}
        (Request::WriteMultipleCoils(place, bits), Response::WriteMultipleCoils(at, count))
            if place == at && bits.len() == usize::from(*count) => {}
        (Request::MaskWriteRegister(place, and, or), Response::MaskWriteRegister(at, got_and, got_or))
            if (place, and, or) == (at, got_and, got_or) => {}
        (Request::ReadDeviceIdentification(..), Response::ReadDeviceIdentification(..)) => {}
        (
            Request::WriteSingleCoil(..)
            | Request::WriteSingleRegister(..)
            | Request::WriteMultipleRegisters(..)
            | Request::WriteMultipleCoils(..)
            | Request::MaskWriteRegister(..),
            _,
        ) => return Err(unconfirmed(request.function_code().value())),
        _ => {
            return Err(DriverError::Malformed("the answer is one to another function".to_owned()));
        }
    }
    Ok(())
}

/// A write whose confirmation does not repeat it.
pub(super) fn unconfirmed(function: u8) -> DriverError {
    DriverError::Unconfirmed(format!("function {function} was confirmed for another place or value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_echoes_must_match() {
        let malformed = |request: &Request<'_>, response: &Response| {
            assert!(
                matches!(
                    check(request, response),
                    Err(DriverError::Malformed(_) | DriverError::Unconfirmed(_))
                ),
                "{request:?} {response:?}"
            );
        };
        let registers = Request::ReadHoldingRegisters(0, 4);
        assert_eq!(check(&registers, &Response::ReadHoldingRegisters(vec![0; 4])), Ok(()));
        malformed(&registers, &Response::ReadHoldingRegisters(vec![0; 2]));
        malformed(&registers, &Response::ReadHoldingRegisters(vec![0; 5]));
        malformed(&registers, &Response::ReadInputRegisters(vec![0; 4]));
        let bits = Request::ReadCoils(0, 9);
        assert_eq!(check(&bits, &Response::ReadCoils(vec![false; 16])), Ok(()));
        malformed(&bits, &Response::ReadCoils(vec![false; 8]));
        malformed(&bits, &Response::ReadCoils(vec![false; 24]));
        let word = Request::WriteSingleRegister(7, 55);
        assert_eq!(check(&word, &Response::WriteSingleRegister(7, 55)), Ok(()));
        malformed(&word, &Response::WriteSingleRegister(9, 55));
        malformed(&word, &Response::WriteSingleRegister(7, 1));
        let bit = Request::WriteSingleCoil(7, true);
        assert_eq!(check(&bit, &Response::WriteSingleCoil(7, true)), Ok(()));
        malformed(&bit, &Response::WriteSingleCoil(7, false));
        malformed(&bit, &Response::WriteSingleCoil(8, true));
        let mask = Request::MaskWriteRegister(4, 0xF2, 0x25);
        assert_eq!(check(&mask, &Response::MaskWriteRegister(4, 0xF2, 0x25)), Ok(()));
        malformed(&mask, &Response::MaskWriteRegister(5, 0xF2, 0x25));
        malformed(&mask, &Response::MaskWriteRegister(4, 0xF3, 0x25));
        malformed(&mask, &Response::MaskWriteRegister(4, 0xF2, 0x24));
        let both = Request::ReadWriteMultipleRegisters(3, 2, 3, vec![1, 2].into());
        assert_eq!(check(&both, &Response::ReadWriteMultipleRegisters(vec![1, 2])), Ok(()));
        malformed(&both, &Response::ReadWriteMultipleRegisters(vec![1]));
        malformed(&both, &Response::ReadHoldingRegisters(vec![1, 2]));
        let words = Request::WriteMultipleRegisters(3, vec![1, 2].into());
        assert_eq!(check(&words, &Response::WriteMultipleRegisters(3, 2)), Ok(()));
        malformed(&words, &Response::WriteMultipleRegisters(3, 1));
        malformed(&words, &Response::WriteMultipleRegisters(4, 2));
    }

    #[test]
    fn sizes_count_the_function_and_its_data() {
        assert_eq!(size(&Request::ReadCoils(0, 9)), 5);
        assert_eq!(size(&Request::WriteSingleRegister(0, 1)), 5);
        assert_eq!(size(&Request::MaskWriteRegister(0, 1, 1)), 7);
        assert_eq!(size(&Request::WriteMultipleCoils(0, vec![true; 9].into())), 8);
        assert_eq!(size(&Request::WriteMultipleRegisters(0, vec![1; 123].into())), 252);
        assert_eq!(size(&Request::ReadWriteMultipleRegisters(0, 1, 0, vec![1; 121].into())), 252);
    }

    #[test]
    fn shapes_count_the_bytes_after_the_function() {
        let bytes = |request: &Request<'_>| Shape::of(1, request).map(|s| (s.function, s.bytes));
        assert_eq!(bytes(&Request::ReadCoils(0, 9)), Some((1, 3)));
        assert_eq!(bytes(&Request::ReadInputRegisters(0, 125)), Some((4, 251)));
        assert_eq!(bytes(&Request::ReadInputRegisters(0, 128)), None);
        assert_eq!(bytes(&Request::WriteSingleRegister(0, 1)), Some((6, 4)));
        assert_eq!(bytes(&Request::MaskWriteRegister(0, 1, 1)), Some((22, 6)));
        assert_eq!(bytes(&Request::ReadWriteMultipleRegisters(0, 2, 0, vec![1, 2].into())), Some((23, 5)));
        assert_eq!(bytes(&Request::ReportServerId), None);
    }
}
