//! Has a value changed? Pure.

use rust_decimal::Decimal;

use crate::point::Value;

/// Says whether `new` is another value than `old`: for numbers, whether it lies further away than `deadband`.
///
/// Numbers are compared as they are printed, so a step of 0.1 is 0.1 for an `f32` too; where decimals are too short
/// for them, as `f64`. A number in place of a text is a change.
#[must_use]
pub fn is_change(old: &Value, new: &Value, deadband: Decimal) -> bool {
    if old == new {
        return false;
    }
    if deadband.is_zero() || !is_number(old) || !is_number(new) {
        return true;
    }
    let exact = decimal(old).zip(decimal(new)).and_then(|(old, new)| new.checked_sub(old));
    match exact {
        Some(distance) => distance.abs() > deadband,
        None => (binary(new) - binary(old)).abs() > binary(&Value::Decimal(deadband)),
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Decimal(_) | Value::F32(_) | Value::F64(_))
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(number) => Decimal::try_from_i128_with_scale(*number, 0).ok(),
        Value::Decimal(number) => Some(*number),
        Value::F32(number) => Decimal::from_str_exact(&number.to_string()).ok(),
        Value::F64(number) => Decimal::from_str_exact(&number.to_string()).ok(),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

/// The nearest `f64`; NaN, which is no change of anything, for what is no number.
fn binary(value: &Value) -> f64 {
    match value {
        Value::F32(number) => (*number).into(),
        Value::F64(number) => *number,
        Value::Int(number) => number.to_string().parse().unwrap_or(f64::NAN),
        Value::Decimal(number) => number.to_string().parse().unwrap_or(f64::NAN),
        Value::Bool(_) | Value::Text(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_more_than_the_deadband() {
        let dec = |text: &str| Value::Decimal(text.parse().unwrap());
        let text = |text: &str| Value::Text(text.to_owned());
        for (old, new, deadband, expected) in [
            (Value::Int(7), Value::Int(7), "0", false),
            (Value::Int(7), Value::Int(8), "0", true),
            (Value::Int(7), Value::Int(8), "1", false),
            (Value::Int(7), Value::Int(5), "1.9", true),
            (Value::Int(i64::MIN.into()), Value::Int(u64::MAX.into()), "1e0", true),
            // 2^53 and the next whole number are one f64.
            (Value::Int(9_007_199_254_740_992), Value::Int(9_007_199_254_740_993), "0.5", true),
            (dec("20.0"), dec("20.5"), "0.5", false),
            (dec("20.0"), dec("19.4"), "0.5", true),
            (Value::F32(20.0), Value::F32(20.1), "0.1", false),
            (Value::F32(20.0), Value::F32(20.2), "0.1", true),
            (Value::F64(1e300), Value::F64(1.1e300), "5", true),
            (Value::F64(1e-300), Value::F64(2e-300), "5", false),
            // A scaled float may come as either.
            (dec("1000"), Value::F64(1e40), "5", true),
            (Value::Bool(true), Value::Bool(false), "0", true),
            (text("auto"), text("auto"), "0", false),
            (text("auto"), text("off"), "2", true),
            (text("auto"), Value::Int(9), "20", true),
        ] {
            let deadband = deadband.parse().unwrap_or(Decimal::ONE);
            assert_eq!(is_change(&old, &new, deadband), expected, "{old:?} {new:?} {deadband}");
        }
    }
}
