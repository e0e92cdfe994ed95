//! How the values of a fake device move.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive as _, ToPrimitive as _};

use crate::decode::encode;
use crate::point::{Kind, Point, Value};

/// Ranges of values that look like a measurement, best first.
const VALUES: [(i64, i64); 3] = [(20, 80), (0, 20), (-20, 20)];

/// Ranges of raw numbers, where a scale makes those too coarse or a type too narrow.
const RAW: [(i64, i64); 5] = [(200, 800), (20, 80), (2, 14), (0, 3), (0, 1)];

/// With fewer steps a range does not look like movement.
const FEWEST_STEPS: i64 = 10;

/// How long a switch or a named state stays.
const DWELL: u64 = 10;

/// The values of one point over time.
#[derive(Debug)]
pub(super) enum Wave {
    /// One after the other.
    Turns { values: Vec<Value>, offset: u64 },
    /// Up and down between two numbers.
    Swing { low: Decimal, step: Decimal, steps: Decimal, period: f64 },
}

impl Wave {
    /// The movement of a point; `index` keeps those of a device apart.
    pub(super) fn new(point: &Point, index: usize) -> Self {
        let turns = |values| Self::turns(values, index);
        let names: Vec<Value> = point.values.values().cloned().map(Value::Text).collect();
        match point.kind {
            _ if !names.is_empty() => turns(names),
            Kind::Bool => turns(vec![Value::Bool(false), Value::Bool(true)]),
            Kind::String { length } => {
                let text = point.id.as_str();
                let end = text.len().min(length.into());
                turns(vec![Value::Text(text.get(..end).unwrap_or_default().to_owned())])
            }
            _ => {
                let period = 40.0 + f64::from(u8::try_from(index % 50).unwrap_or(0));
                swing(point, period).unwrap_or_else(|| turns(vec![Value::Decimal(point.offset)]))
            }
        }
    }

    /// The same for the raw numbers of a point, as `raw` is its [`raw_of`]: those that it has names for in turn.
    pub(super) fn raw(point: &Point, raw: &Point, index: usize) -> Self {
        let numbers = point.values.keys().filter(|_| point.kind != Kind::Bool);
        let numbers = numbers.filter_map(|number| Decimal::try_from_i128_with_scale(*number, 0).ok());
        let numbers: Vec<Value> = numbers.map(Value::Decimal).collect();
        if numbers.is_empty() { Self::new(raw, index) } else { Self::turns(numbers, index) }
    }

    /// Each of the values for a while.
    fn turns(values: Vec<Value>, index: usize) -> Self {
        let offset = u64::try_from(index).unwrap_or(0);
        Self::Turns { values, offset }
    }

    /// What it shows at this age.
    pub(super) fn at(&self, age: Duration) -> Option<Value> {
        match self {
            Self::Turns { values, offset } => {
                let count = u64::try_from(values.len()).ok()?;
                let turn = (age.as_secs() / DWELL + offset).checked_rem(count)?;
                values.get(usize::try_from(turn).ok()?).cloned()
            }
            Self::Swing { low, step, steps, period } => {
                let height = 0.5 + 0.5 * (age.as_secs_f64() * TAU / period).sin();
                let taken = (Decimal::from_f64(height)? * steps).round();
                Some(Value::Decimal(low + step * taken))
            }
        }
    }
}

fn swing(point: &Point, period: f64) -> Option<Wave> {
    let is_float = matches!(point.kind, Kind::F32 | Kind::F64);
    let step = if is_float { Decimal::new(1, 2) } else { point.scale };
    let raw = |value: Decimal| Some(value.checked_sub(point.offset)?.checked_div(step)?.round());
    let value = |raw: Decimal| raw.checked_mul(step)?.checked_add(point.offset);
    let limits = point.min.zip(point.max);
    let values = VALUES.map(|(low, high)| (low.into(), high.into()));
    let by_value = limits.into_iter().chain(values).filter_map(|(low, high): (Decimal, Decimal)| {
        let (low, high) = (raw(low)?, raw(high)?);
        ((high - low).abs() >= FEWEST_STEPS.into()).then_some((low.min(high), low.max(high)))
    });
    let by_raw = RAW.map(|(low, high)| (low.into(), high.into()));
    by_value.chain(by_raw).find_map(|(low, high)| {
        let (first, last) = (value(low)?, value(high)?);
        let fits = |value| encode(point, &Value::Decimal(value)).is_ok();
        (fits(first) && fits(last)).then_some(Wave::Swing { low: first, step, steps: high - low, period })
    })
}

/// The point as its device has it: a number without scale, limits, bits and names.
pub(super) fn raw_of(point: &Point) -> Point {
    Point {
        scale: Decimal::ONE,
        offset: Decimal::ZERO,
        bits: None,
        min: None,
        max: None,
        values: BTreeMap::new(),
        ..point.clone()
    }
}

/// What a writable point shows before it is written: the middle of its limits, or something harmless.
pub(super) fn initial(point: &Point) -> Option<Value> {
    let middle = point.min.zip(point.max).and_then(|(min, max)| {
        let middle = (min + max) / Decimal::TWO;
        let raw = middle.checked_sub(point.offset)?.checked_div(point.scale)?.round();
        raw.checked_mul(point.scale)?.checked_add(point.offset)
    });
    let numbers = [middle, Some(Decimal::ZERO), point.min, point.max, Some(point.offset)];
    let mut candidates: Vec<Value> = numbers.into_iter().flatten().map(Value::Decimal).collect();
    candidates.extend(point.values.values().cloned().map(Value::Text));
    candidates.extend([Value::Bool(false), Value::Text(String::new())]);
    candidates.into_iter().find(|value| encode(point, value).is_ok())
}

/// A number as a text device prints it, with so many decimals.
pub(super) fn number(value: &Value, decimals: u32) -> Option<f64> {
    match value {
        Value::Decimal(number) => number.round_dp(decimals).to_f64(),
        _ => None,
    }
}
