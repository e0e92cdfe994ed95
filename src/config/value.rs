//! The values a key may have: text, numbers, durations, words, lists.
//!
//! A value of the wrong kind is a fault that names the key and never shows what was found.

use std::ops::RangeInclusive;
use std::time::Duration;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::Value as Json;

use super::effective::Shown;
use super::file::{self, Value};
use super::table::{Table, list};
use super::unit::{self, UnitError};
use crate::point::Tags;

impl Table<'_> {
    pub(super) fn wrong_type(&self, key: &str, wanted: &str, found: &Value, help: &str) {
        self.fault(key, &format!("{{key}} must be {wanted}, not {}", type_of(found)), help);
    }

    /// Text without NUL, which neither MQTT nor a path can hold.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let text = self.any_text(key)?;
        if text.contains('\0') {
            self.fault(key, "{key} holds a NUL character", "remove it");
            return None;
        }
        self.note(key, text.as_str().into());
        Some(text)
    }

    /// Text that may hold every character.
    pub(super) fn any_text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            (Value::String(_, text), _) => Some(text),
            (other, _) => {
                self.wrong_type(key, "text", &other, "put it in quotes");
                None
            }
        }
    }

    /// Text, or a whole number as text.
    pub(super) fn text_or_number(&mut self, key: &'static str) -> Option<String> {
        let text = match self.take(key)? {
            (Value::String(_, text), _) => text,
            (other, _) => {
                let Some(number) = other.to_i128() else {
                    self.wrong_type(key, "text or a number", &other, "put it in quotes");
                    return None;
                };
                number.to_string()
            }
        };
        self.note(key, text.as_str().into());
        Some(text)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let flag = match self.take(key) {
            None => default,
            Some((Value::Bool(_, flag), _)) => flag,
            Some((Value::String(_, text), true)) if text == "true" || text == "false" => text == "true",
            Some((other, _)) => {
                self.wrong_type(key, "true or false", &other, "write true or false without quotes");
                default
            }
        };
        self.note(key, flag.into());
        flag
    }

    /// A whole number in a range.
    pub(super) fn whole<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i128> + Into<i128>,
    {
        let (low, high): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let help = format!("write a whole number from {low} to {high} without quotes");
        let found = match self.take(key)? {
            (Value::String(_, text), true) => text.trim().parse().ok(),
            (Value::String(..), false) => None,
            (other, _) => other.to_i128(),
        };
        let Some(number) = found else {
            self.fault(key, "{key} must be a whole number", help);
            return None;
        };
        let Some(number) = T::try_from(number).ok().filter(|number| range.contains(number)) else {
            self.fault(key, &format!("{{key}} must lie within {low} to {high}"), help);
            return None;
        };
        let shown: i128 = number.into();
        self.note(key, i64::try_from(shown).unwrap_or(i64::MAX).into());
        Some(number)
    }

    /// A part of the whole, in a range.
    pub(super) fn share(&mut self, key: &'static str, range: &RangeInclusive<f64>, default: f64) -> f64 {
        let share = self.decimal(key).and_then(|share| share.to_f64()).unwrap_or(default);
        if !range.contains(&share) {
            let what = format!("{{key}} must lie within {} to {}", range.start(), range.end());
            self.fault(key, &what, format!("write a part of the whole such as {default}"));
        }
        self.note(key, share.into());
        share
    }

    /// A number, exact in decimal. A float of TOML with an exponent stands for the shortest decimal that reads back as it.
    pub(super) fn decimal(&mut self, key: &'static str) -> Option<Decimal> {
        let exact = self.exact(key);
        let text = match self.take(key)? {
            (Value::String(_, text), true) => text.trim().to_owned(),
            (Value::Num(_, number), _) => match (number.to_i128(), number.to_f64()) {
                (Some(whole), _) => whole.to_string(),
                (None, Some(float)) if float.is_finite() => exact.unwrap_or_else(|| float.to_string()),
                _ => "not finite".to_owned(),
            },
            (other, _) => {
                self.wrong_type(key, "a number", &other, "write it without quotes, such as 0.1");
                return None;
            }
        };
        let Ok(number) = Decimal::from_str_exact(&text) else {
            let help = "write a finite number of at most 28 digits, such as 0.1";
            self.fault(key, "{key} is not a number that can be held exactly", help);
            return None;
        };
        let number = number.normalize();
        self.note_as(key, show_decimal(number));
        Some(number)
    }

    /// What was written, where the merged tree has lost digits of it.
    fn exact(&self, key: &str) -> Option<String> {
        let path = self.written(key);
        let (source, _) = self.reader.find(&path)?;
        self.reader.sources.get(source)?.exact.get(&path).cloned()
    }

    /// A duration in a range.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let time = self.given_duration(key, range).unwrap_or(default);
        self.note(key, unit::show_duration(time).into());
        time
    }

    fn given_duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let help = "write a number and its unit: ms, s, m, h or d, such as \"250ms\"";
        let time = self.quantity(key, "a duration", unit::parse_duration, help)?;
        if range.contains(&time) {
            return Some(time);
        }
        let (low, high) = (unit::show_duration(*range.start()), unit::show_duration(*range.end()));
        let what = format!("{{key}} must lie within {low} to {high}");
        self.fault(key, &what, format!("write a duration from \"{low}\" to \"{high}\""));
        None
    }

    /// A size in a range, in bytes.
    pub(super) fn size(&mut self, key: &'static str, range: &RangeInclusive<u64>, default: u64) -> u64 {
        let help = "write a number and its unit: B, KiB, MiB or GiB, such as \"256MiB\"";
        let mut size = default;
        if let Some(given) = self.quantity(key, "a size", unit::parse_size, help) {
            if range.contains(&given) {
                size = given;
            } else {
                let (low, high) = (unit::show_size(*range.start()), unit::show_size(*range.end()));
                let what = format!("{{key}} must lie within {low} to {high}");
                self.fault(key, &what, format!("write a size from \"{low}\" to \"{high}\""));
            }
        }
        self.note(key, unit::show_size(size).into());
        size
    }

    fn quantity<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: fn(&str) -> Result<T, UnitError>,
        help: &str,
    ) -> Option<T> {
        let what = match self.take(key)? {
            (Value::String(_, text), _) => match parse(&text) {
                Ok(quantity) => return Some(quantity),
                Err(UnitError::Missing) => "{key} has no unit".to_owned(),
                Err(UnitError::Form) => format!("{{key}} is not {wanted}"),
                Err(UnitError::TooLarge) => "{key} is too large".to_owned(),
            },
            (Value::Num(..), _) => "{key} has no unit".to_owned(),
            (other, _) => format!("{{key}} must be {wanted}, not {}", type_of(&other)),
        };
        self.fault(key, &what, help);
        None
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.choice_or(key, words, &[])
    }

    /// The same where `others` are words that were looked for already.
    pub(super) fn choice_or<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        others: &[&str],
    ) -> Option<T> {
        let text = self.any_text(key)?;
        if let Some((word, meaning)) = words.iter().find(|(word, _)| *word == text) {
            self.note(key, (*word).into());
            return Some(*meaning);
        }
        let words = list(words.iter().map(|(word, _)| *word).chain(others.iter().copied()));
        self.fault(key, "{key} is none of the words it may be", format!("write one of {words}"));
        None
    }

    /// Takes what is no single value; a variable of the environment holds it as TOML.
    pub(super) fn take_structure(&mut self, key: &'static str) -> Option<Value> {
        let (value, environment) = self.take(key)?;
        let parsed = value.as_str().filter(|_| environment).and_then(file::parse_value);
        Some(parsed.unwrap_or(value))
    }

    /// A list.
    pub(super) fn array(&mut self, key: &'static str) -> Option<Vec<Value>> {
        match self.take_structure(key)? {
            Value::Array(_, values) => Some(values),
            other => {
                self.wrong_type(key, "a list", &other, "write it as [first, second]");
                None
            }
        }
    }

    /// Anything, as JSON.
    pub(super) fn json(&mut self, key: &'static str) -> Option<Json> {
        let json = to_json(&self.take_structure(key)?);
        self.note(key, json.clone());
        Some(json)
    }

    /// Free marks.
    pub(super) fn tags(&mut self) -> Tags {
        let json = self.json("tags")?;
        if !json.is_array() && !json.is_object() {
            let help = "write tags = [\"a\", \"b\"] or tags = { key = \"value\" }";
            self.fault("tags", "{key} must be a list or a table", help);
        }
        Some(json)
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "a date or time",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

fn show_decimal(number: Decimal) -> Shown {
    let text = number.to_string();
    if let Ok(whole) = text.parse::<i64>() {
        return Shown::Json(whole.into());
    }
    match text.parse::<f64>() {
        Ok(float) if Decimal::from_str_exact(&float.to_string()) == Ok(number) => Shown::Json(float.into()),
        // A whole number of TOML ends where an `i64` does.
        _ if number.is_integer() => Shown::Exact(format!("{text}.0")),
        _ => Shown::Exact(text),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::String(_, text) => text.as_str().into(),
        Value::Char(_, character) => character.to_string().into(),
        Value::Bool(_, flag) => (*flag).into(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => i64::try_from(whole).map_or(Json::Null, Json::from),
            (None, float) => float.map_or(Json::Null, Json::from),
        },
        Value::Empty(..) => Json::Null,
        Value::Dict(_, dict) => dict.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
        Value::Array(_, values) => values.iter().map(to_json).collect(),
    }
}
