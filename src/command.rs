//! A command as it comes and the reply as it goes. Pure.

use std::fmt;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{DeserializeSeed as _, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::clock::{Moment, Timestamp};
use crate::point::{PointId, Value};
use crate::record::{self, Body};
use crate::strict::Strict;

/// Largest command, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// Longest id, in characters.
pub const MAX_ID: usize = 64;

/// Largest power of ten that is written out as zeros: a `Decimal` has 29 digits.
const MAX_SHIFT: i32 = 60;
/// The least whole number of more digits than an `f64` has.
const TEN_TO_17: u128 = 10u128.pow(17);

/// A command that could be read. Whether it may run is another question.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The sender's id, 1 to 64 characters.
    pub id: String,
    /// What to do.
    pub action: String,
    /// `values` of a write as JSON, in the sender's order of names.
    pub values: Vec<(String, String)>,
    /// `points` of a read; `None` means all.
    pub points: Option<Vec<String>>,
    /// Not to be begun after this.
    pub expires_at: Option<Timestamp>,
}

/// A text that is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadCommand {
    /// The id, if one could be read.
    pub id: Option<String>,
    /// `bad-json` or `too-large`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Command {
    /// Reads a command: one JSON object, no key twice, no key unknown.
    pub fn parse(payload: &[u8]) -> Result<Self, BadCommand> {
        if payload.len() > MAX_LENGTH {
            let message = format!("the command is longer than {MAX_LENGTH} bytes");
            return Err(BadCommand { id: None, code: "too-large", message });
        }
        let bad = |id: Option<&str>, message: String| BadCommand {
            id: id.map(str::to_owned),
            code: "bad-json",
            message,
        };
        let mut deserializer = serde_json::Deserializer::from_slice(payload);
        let json = Strict::default()
            .deserialize(&mut deserializer)
            .and_then(|json| deserializer.end().map(|()| json))
            .map_err(|error| bad(None, error.to_string()))?;
        let Json::Object(mut members) = json else {
            return Err(bad(None, "a command is a JSON object".to_owned()));
        };
        let id = match members.remove("id") {
            Some(Json::String(id)) if (1..=MAX_ID).contains(&id.chars().count()) => id,
            Some(_) => return Err(bad(None, format!("`id` is a text of 1 to {MAX_ID} characters"))),
            None => return Err(bad(None, "`id` is missing".to_owned())),
        };
        Self::read(id.clone(), members, payload).map_err(|message| bad(Some(&id), message))
    }

    fn read(id: String, mut members: Map<String, Json>, payload: &[u8]) -> Result<Self, String> {
        let action = match members.remove("action") {
            Some(Json::String(action)) => action,
            Some(_) => return Err("`action` is a text".to_owned()),
            None => return Err("`action` is missing".to_owned()),
        };
        let values = match members.remove("values") {
            None => Vec::new(),
            Some(Json::Object(_)) => written(payload).map_err(|error| error.to_string())?,
            Some(_) => return Err("`values` is an object of points and values".to_owned()),
        };
        let points = match members.remove("points") {
            None => None,
            Some(Json::Array(points)) => {
                let names: Option<Vec<String>> = points.into_iter().map(text).collect();
                Some(names.ok_or("`points` is a list of point ids")?)
            }
            Some(_) => return Err("`points` is a list of point ids".to_owned()),
        };
        let expires_at = match members.remove("expires_at") {
            None => None,
            Some(Json::String(text)) => Some(Timestamp::parse(&text).ok_or("`expires_at` is not RFC 3339")?),
            Some(_) => return Err("`expires_at` is a time in RFC 3339".to_owned()),
        };
        match members.keys().next() {
            Some(key) => Err(format!("`{key}` is not known in a command")),
            None => Ok(Self { id, action, values, points, expires_at }),
        }
    }
}

fn text(json: Json) -> Option<String> {
    if let Json::String(text) = json { Some(text) } else { None }
}

/// The members of `values` as they were written: [`Json`] keeps numbers as `f64`, and the last digits of many are
/// lost in one.
fn written(payload: &[u8]) -> Result<Vec<(String, String)>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Whole {
        values: Members,
    }
    serde_json::from_slice(payload).map(|Whole { values: Members(members) }| members)
}

struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of points and values")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            self.0.push((name, value.get().to_owned()));
        }
        Ok(self)
    }
}

/// The value that a JSON text stands for, digit by digit; `None` for null, lists, objects and what is no JSON.
///
/// A whole number of up to 38 digits and a number of up to 28 digits are exact. Longer ones are rounded to 28
/// decimals, or to the nearest `f64` where that keeps more of them.
#[must_use]
pub fn value(json: &str) -> Option<Value> {
    let json = json.trim_matches([' ', '\t', '\r', '\n']);
    match serde_json::from_str(json).ok()? {
        Json::Bool(on) => Some(Value::Bool(on)),
        Json::String(text) => Some(Value::Text(text)),
        Json::Number(_) => {
            let whole = json.parse().ok();
            // What is larger than a Decimal is larger than every whole-number type.
            let whole = whole.filter(|whole| Decimal::try_from_i128_with_scale(*whole, 0).is_ok());
            let exact = whole.map(Value::Int).or_else(|| decimal(json).map(Value::Decimal));
            // The number of serde_json may be the second nearest f64.
            exact.or_else(|| json.parse().ok().map(Value::F64))
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// The decimal that a number stands for; `None`: an `f64` says it better.
fn decimal(number: &str) -> Option<Decimal> {
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

/// The one outcome of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done; what the device says.
    Succeeded(Vec<(PointId, Value)>),
    /// It was sent to all, and nobody confirms that.
    Sent(Vec<(PointId, Value)>),
    /// The gateway's own answer.
    Answered(Json),
    /// It was tried on the link.
    Failed {
        /// The contract's code.
        code: String,
        /// For a person.
        message: String,
        /// What was done all the same.
        values: Vec<(PointId, Value)>,
    },
    /// It was judged before the link.
    Rejected {
        /// The contract's code.
        code: &'static str,
        /// For a person.
        message: String,
    },
    /// Its time was over before the device was asked.
    Expired(String),
}

impl Outcome {
    /// The word in the reply.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Succeeded(_) | Self::Sent(_) | Self::Answered(_) => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Rejected { .. } => "rejected",
            Self::Expired(_) => "expired",
        }
    }

    /// The code in the reply, where there was no success.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Succeeded(_) | Self::Sent(_) | Self::Answered(_) => None,
            Self::Failed { code, .. } => Some(code),
            Self::Rejected { code, .. } => Some(code),
            Self::Expired(_) => Some("expired"),
        }
    }

    /// The members of the reply.
    #[must_use]
    pub fn body(&self, id: Option<&str>, device: Option<&str>, action: Option<&str>, made: Moment) -> Body {
        let mut body = Body::new();
        for (key, text) in [("id", id), ("device", device), ("action", action)] {
            if let Some(text) = text {
                body = body.with(key, text);
            }
        }
        body = body.with("status", self.status());
        let (error, values) = match self {
            Self::Succeeded(values) | Self::Sent(values) => (None, Some(values)),
            Self::Answered(json) => return body.with("values", json).with_time(made),
            Self::Failed { code, message, values } => {
                (Some((code.as_str(), message)), Some(values).filter(|values| !values.is_empty()))
            }
            Self::Rejected { code, message } => (Some((*code, message)), None),
            Self::Expired(message) => (Some(("expired", message)), None),
        };
        if let Some(values) = values {
            body = body.with_json("values", |out| {
                let members = values.iter().map(|(point, value)| (point.as_str(), value));
                record::object(out, members, |out, value| value.write_json(out));
            });
        }
        if matches!(self, Self::Sent(_)) {
            body = body.with("verified", &false);
        }
        if let Some((code, message)) = error {
            body = body.with("error", &serde_json::json!({ "code": code, "message": message }));
        }
        body.with_time(made)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_write_is_read() {
        let text = br#"{"id":"c-91","action":"write","values":{"setpoint":55.0},"expires_at":"2026-03-01T10:20:00Z"}"#;
        let command = Command::parse(text).unwrap();
        assert_eq!(command.id, "c-91");
        assert_eq!(value(&command.values[0].1), Some(Value::Decimal("55.0".parse().unwrap())));
        assert_eq!(command.expires_at.map(|t| t.to_string()).as_deref(), Some("2026-03-01T10:20:00.000Z"));
    }

    #[test]
    fn what_is_no_command_is_told_why() {
        let deep = format!(r#"{{"id":"a","action":"write","values":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        for (text, part) in [
            ("", "EOF"),
            ("nonsense", "expected"),
            ("[]", "object"),
            ("{}", "`id` is missing"),
            (r#"{"id":"","action":"read"}"#, "1 to 64"),
            (r#"{"id":7,"action":"read"}"#, "1 to 64"),
            (r#"{"id":"a"}"#, "`action` is missing"),
            (r#"{"id":"a","id":"b","action":"read"}"#, "twice"),
            (r#"{"id":"a","action":"write","values":{"x":1,"x":2}}"#, "twice"),
            (r#"{"id":"a","action":"write","values":[1]}"#, "`values`"),
            (r#"{"id":"a","action":"read","points":[1]}"#, "`points`"),
            (r#"{"id":"a","action":"read","expires_at":"soon"}"#, "RFC 3339"),
            (r#"{"id":"a","action":"read","unit":"K"}"#, "`unit`"),
            (r#"{"id":"a","action":"read"} x"#, "trailing"),
            (deep.as_str(), "deeper"),
        ] {
            let error = Command::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, "bad-json", "{text}");
            assert!(error.message.contains(part), "{text}: {}", error.message);
        }
        let long = format!(r#"{{"id":"{}","action":"read"}}"#, "x".repeat(65));
        assert_eq!(Command::parse(long.as_bytes()).unwrap_err().id, None);
        assert_eq!(Command::parse(&vec![b' '; MAX_LENGTH + 1]).unwrap_err().code, "too-large");
    }

    #[test]
    fn numbers_keep_every_digit() {
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            "18446744073709551616",
            "9007199254740993.5",
            "0.1234567890123456789",
            "9223372036854775.807",
            "-0.0000000000000000000000000001",
            "79228162514264337593543950335",
        ] {
            let command = format!(r#"{{"id":"a","action":"write","values":{{"x":1,"y": {text} }}}}"#);
            let command = Command::parse(command.as_bytes()).unwrap();
            assert_eq!(command.values[1], ("y".to_owned(), text.to_owned()));
            assert_eq!(value(text).map(|value| value.to_string()).as_deref(), Some(text));
        }
        let decimal = |text: &str| Some(Value::Decimal(text.parse().unwrap()));
        for (text, expected) in [
            ("1.5e3", decimal("1500.0")),
            ("-12E-1", decimal("-1.2")),
            ("1e-28", decimal("0.0000000000000000000000000001")),
            ("0e5", decimal("0.0")),
            ("9007199254740993.12345678901234567890", decimal("9007199254740993.1234567890123")),
            // Where 28 decimals are few digits, or the number is too large, an f64 is nearer.
            ("1.25e-27", Some(Value::F64(1.25e-27))),
            ("1e300", Some(Value::F64(1e300))),
            ("1e29", Some(Value::F64(1e29))),
            ("100000000000000000000000000000", Some(Value::F64(1e29))),
            ("1e-300", Some(Value::F64(1e-300))),
            ("1e999999999999", None),
            ("01", None),
            ("+1", None),
            ("1.", None),
            ("NaN", None),
            ("null", None),
            ("[1]", None),
            (r#""0x10""#, Some(Value::Text("0x10".into()))),
            (" true ", Some(Value::Bool(true))),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_itself(digits in any::<i64>(), places in 0u32..19, float in any::<f64>()) {
            let number = Decimal::new(digits, places);
            let text = Value::Decimal(number).to_string();
            let read = value(&text);
            let same = if places == 0 { read == Some(Value::Int(digits.into())) } else { read == Some(Value::Decimal(number)) };
            prop_assert!(same, "{} became {:?}", text, read);
            let shifted = format!("{digits}e-{places}");
            prop_assert_eq!(value(&shifted).unwrap().to_string().parse::<Decimal>().unwrap(), number, "{}", shifted);
            // Whatever way a float takes, it is the same float at the end.
            if float.is_finite() {
                let text = Value::F64(float).to_string();
                let again: f64 = value(&text).unwrap().to_string().parse().unwrap();
                prop_assert!(again.total_cmp(&(float + 0.0)).is_eq(), "{}", text);
            }
        }
    }
}
