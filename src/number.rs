//! Numbers as JSON writes them, with every digit they have. Pure.

use rust_decimal::Decimal;

/// Most digits of a number with an exponent that is written out as a whole number; `u64` has 20.
const WIDEST: usize = 40;
/// Largest power of ten that is written out as zeros: a `Decimal` has 29 digits.
const MAX_SHIFT: i32 = 60;
/// The least whole number of more digits than an `f64` has.
const TEN_TO_17: u128 = 10u128.pow(17);

/// The decimal that a number stands for; `None`: an `f64` says it better.
#[must_use]
pub fn decimal(number: &str) -> Option<Decimal> {
    let plain = without_exponent(number)?;
    let exact = Decimal::from_str_exact(&plain).ok();
    // Rounded to 28 decimals, which in 0.00000000000000000000123 are fewer digits than the 17 of an f64.
    let rounded =
        || plain.parse().ok().filter(|rounded: &Decimal| rounded.mantissa().unsigned_abs() >= TEN_TO_17);
    exact.or_else(rounded)
}

/// A JSON number in digits alone; `None` where that would be a long text of zeros.
fn without_exponent(number: &str) -> Option<String> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return Some(number.to_owned());
    };
    let exponent: i32 =
        exponent.parse().ok().filter(|exponent| (-MAX_SHIFT..=MAX_SHIFT).contains(exponent))?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = "0".repeat(usize::try_from(exponent.unsigned_abs()).ok()?);
    let (digits, decimals) = match exponent {
        ..0 => (format!("{zeros}{before}{after}"), after.len() + zeros.len()),
        0.. => (format!("{before}{after}{zeros}"), after.len()),
    };
    let (before, after) = digits.split_at_checked(digits.len().checked_sub(decimals)?)?;
    let before = before.trim_start_matches('0');
    let after = after.trim_end_matches('0');
    Some(format!("{sign}{before:0>1}.{after:0<1}"))
}

/// A whole number that is written as `12.0` or `1.2e1`, in digits alone. `None`: it is none, or written so already.
#[must_use]
pub fn whole(text: &str) -> Option<String> {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().ok()?;
    let digits = format!("{before}{after}");
    // Where the point stands, counted in digits from the left.
    let point = i32::try_from(before.len()).ok()?.checked_add(exponent)?;
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let point =
        usize::try_from(point).ok().filter(|point| *point >= significant.len() && *point <= WIDEST)?;
    let number = format!("{significant:0<point$}");
    let number = number.trim_start_matches('0');
    Some(format!("{sign}{number}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whole_numbers_stay_exact(number in any::<i64>(), zeros in 0usize..5, shift in 0u32..6) {
            let plain = number.to_string();
            prop_assert_eq!(whole(&plain), Some(plain.clone()));
            prop_assert_eq!(whole(&format!("{plain}.{}", "0".repeat(zeros))), Some(plain.clone()));
            let shifted = format!("{plain}{}", "0".repeat(usize::try_from(shift).unwrap()));
            let expected = if number == 0 { plain.clone() } else { shifted };
            prop_assert_eq!(whole(&format!("{plain}e{shift}")), Some(expected.clone()));
            prop_assert_eq!(whole(&format!("{expected}e-{shift}")), Some(plain));
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _found = (whole(&text), decimal(&text));
        }
    }
}
