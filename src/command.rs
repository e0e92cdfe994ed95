//! A command as it comes and the reply as it goes. Pure.

use rust_decimal::Decimal;
use serde::de::DeserializeSeed as _;
use serde_json::{Map, Value as Json};

use crate::clock::{Moment, Timestamp};
use crate::point::{PointId, Value};
use crate::record::{self, Body};
use crate::strict::Strict;

/// Largest command, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// Longest id, in characters.
pub const MAX_ID: usize = 64;

/// A command that could be read. Whether it may run is another question.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The sender's id, 1 to 64 characters.
    pub id: String,
    /// What to do.
    pub action: String,
    /// `values` of a write, in the sender's order of names.
    pub values: Vec<(String, Json)>,
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
        Self::read(id.clone(), members).map_err(|message| bad(Some(&id), message))
    }

    fn read(id: String, mut members: Map<String, Json>) -> Result<Self, String> {
        let action = match members.remove("action") {
            Some(Json::String(action)) => action,
            Some(_) => return Err("`action` is a text".to_owned()),
            None => return Err("`action` is missing".to_owned()),
        };
        let values = match members.remove("values") {
            None => Vec::new(),
            Some(Json::Object(values)) => values.into_iter().collect(),
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

/// The value that a JSON value stands for; `None` for null, lists and objects.
#[must_use]
pub fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(on) => Some(Value::Bool(*on)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Number(number) => {
            if let Some(whole) = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)) {
                return Some(Value::Int(whole));
            }
            // The shortest text of the number is what the sender meant: 55.1, not 55.10000000000000142.
            let text = number.to_string();
            let decimal = text.parse().or_else(|_| Decimal::from_scientific(&text));
            decimal.map(Value::Decimal).ok().or_else(|| number.as_f64().map(Value::F64))
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
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
    fn large_integers_keep_every_digit() {
        for text in ["18446744073709551615", "-9223372036854775808"] {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(value(&json).map(|value| value.to_string()).as_deref(), Some(text));
        }
    }
}
