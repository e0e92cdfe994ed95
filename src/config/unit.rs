//! Durations and sizes as people write them: a number and its unit.

use std::time::Duration;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Only a number.
    #[error("a unit is missing: write 250ms, 5s, 10m, 2h or 7d")]
    Missing,
    /// Not a number and a unit.
    #[error("it is not a number and a unit such as 250ms, 5s, 10m, 2h or 7d")]
    Form,
    /// More than can be held.
    #[error("it is too large")]
    TooLarge,
}

/// The units of a duration, in nanoseconds.
const TIMES: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The units of a size, in bytes.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads `250ms`, `1.5s`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    quantity(text, &TIMES).map(Duration::from_nanos)
}

/// Reads `256MiB`, `1.5GB`; bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, UnitError> {
    quantity(text, &SIZES)
}

/// The number times its unit, in whole smallest parts; what a fraction has beyond them is cut.
fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err(UnitError::Form);
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(UnitError::Missing);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Form)?;
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let places = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| UnitError::Form)?);
    let fraction: u64 = fraction.parse().map_err(|_| UnitError::Form)?;
    let part = u64::try_from(u128::from(fraction) * u128::from(*factor) / places);
    whole.checked_mul(*factor).and_then(|whole| whole.checked_add(part.ok()?)).ok_or(UnitError::TooLarge)
}

/// The shortest way to write a duration: `250ms`, `5s`, `7d`.
pub(super) fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    if nanos == 0 {
        return "0ms".to_owned();
    }
    let fits = TIMES.iter().rev().find(|(_, factor)| nanos.is_multiple_of(u128::from(*factor)));
    match fits {
        Some((unit, factor)) => format!("{}{unit}", nanos / u128::from(*factor)),
        None => format!("{}ms", time.as_secs_f64() * 1000.0),
    }
}

/// The shortest way to write a size: `256MiB`.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = SIZES.iter().rev().find(|(_, factor)| bytes.is_multiple_of(*factor));
    match fits {
        Some((unit, factor)) if bytes > 0 => format!("{}{unit}", bytes / factor),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_number_and_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("0ms", 0), ("1.5s", 1_500), ("0.25 m", 15_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1.5kB"), Ok(1500));
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, error) in [
            ("250", UnitError::Missing),
            ("", UnitError::Form),
            ("ms", UnitError::Form),
            ("-1s", UnitError::Form),
            ("1.s", UnitError::Form),
            ("1.2.3s", UnitError::Form),
            (".5s", UnitError::Form),
            ("1e3s", UnitError::Form),
            ("5 parsecs", UnitError::Form),
            ("99999999999999999999s", UnitError::TooLarge),
            ("99999999999d", UnitError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
        assert_eq!(parse_size("256M"), Err(UnitError::Form));
        assert_eq!(parse_size("256"), Err(UnitError::Missing));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for millis in [0, 1, 250, 1_000, 1_500, 60_000, 604_800_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(time)), Ok(time));
        }
        for size in [0, 1, 999, 1 << 10, 256 << 20, 3_000_000] {
            assert_eq!(parse_size(&show_size(size)), Ok(size));
        }
    }
}
