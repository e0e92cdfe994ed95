//! The checksums of frames.

use crc::{CRC_16_IBM_3740, CRC_16_KERMIT, CRC_16_MODBUS, CRC_16_XMODEM, Crc};

use crate::config::{Checksum, ChecksumKind};

const MODBUS: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
const CCITT: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);
const XMODEM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
const KERMIT: Crc<u16> = Crc::<u16>::new(&CRC_16_KERMIT);

/// The checksum over these bytes as it stands on the wire, in capital digits where it is text.
pub(super) fn over(checksum: &Checksum, bytes: &[u8]) -> Vec<u8> {
    let sum = || bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let raw = match checksum.kind {
        ChecksumKind::Crc16Modbus => MODBUS.checksum(bytes).to_le_bytes().to_vec(),
        ChecksumKind::Crc16Ccitt => CCITT.checksum(bytes).to_be_bytes().to_vec(),
        ChecksumKind::Crc16Xmodem => XMODEM.checksum(bytes).to_be_bytes().to_vec(),
        ChecksumKind::Crc16Kermit => KERMIT.checksum(bytes).to_le_bytes().to_vec(),
        ChecksumKind::Sum8 => vec![sum()],
        ChecksumKind::Xor8 => vec![bytes.iter().fold(0, |sum, byte| sum ^ byte)],
        ChecksumKind::Lrc => vec![sum().wrapping_neg()],
    };
    if checksum.hex { raw.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect() } else { raw }
}

/// The checksum that stands at `at` in the frame is right, and its mark stands before it.
///
/// `frame` begins with its first byte on the wire. What does not fit into it is wrong.
pub(super) fn is_right(checksum: &Checksum, frame: &[u8], at: usize) -> bool {
    let covered =
        at.checked_sub(checksum.mark.len()).and_then(|end| frame.get(usize::from(checksum.from)..end));
    let mark = frame.get(..at).is_some_and(|before| before.ends_with(&checksum.mark));
    let found = frame.get(at..at + checksum.width());
    match (covered, found) {
        (Some(covered), Some(found)) if mark => found.eq_ignore_ascii_case(&over(checksum, covered)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(kind: ChecksumKind, hex: bool) -> Checksum {
        Checksum { kind, hex, from: 0, mark: Vec::new(), after_end: false }
    }

    #[test]
    fn the_check_values_of_the_catalogue_come_out() {
        let check = b"123456789";
        for (kind, raw, text) in [
            (ChecksumKind::Crc16Modbus, &[0x37, 0x4B][..], "374B"),
            (ChecksumKind::Crc16Ccitt, &[0x29, 0xB1], "29B1"),
            (ChecksumKind::Crc16Xmodem, &[0x31, 0xC3], "31C3"),
            (ChecksumKind::Crc16Kermit, &[0x89, 0x21], "8921"),
            (ChecksumKind::Sum8, &[0xDD], "DD"),
            (ChecksumKind::Xor8, &[0x31], "31"),
            (ChecksumKind::Lrc, &[0x23], "23"),
        ] {
            assert_eq!(over(&checksum(kind, false), check), raw, "{kind:?}");
            assert_eq!(over(&checksum(kind, true), check), text.as_bytes(), "{kind:?}");
        }
    }

    #[test]
    fn a_mark_and_a_beginning_do_not_count() {
        let mut nmea = checksum(ChecksumKind::Xor8, true);
        (nmea.from, nmea.mark) = (1, b"*".to_vec());
        let line = b"$GPGLL,5300.97914,N,00259.98174,E,125926,A*28";
        assert!(is_right(&nmea, line, line.len() - 2));
        assert!(is_right(&nmea, &line.to_ascii_uppercase(), line.len() - 2));
        assert!(!is_right(&nmea, line, line.len() - 1));
        assert!(!is_right(&nmea, &[&line[..line.len() - 3], b"#28"].concat(), line.len() - 2));
        assert!(!is_right(&nmea, b"*28", 1));
    }
}
