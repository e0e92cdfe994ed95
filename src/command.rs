//! A command as it comes and the reply as it goes. Pure.

use std::fmt;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{DeserializeSeed as _, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::clock::Timestamp;
use crate::number;
use crate::point::Value;
use crate::strict::Strict;

mod outcome;

pub use outcome::Outcome;

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
            let exact = whole.map(Value::Int).or_else(|| number::decimal(json).map(Value::Decimal));
            // The number of serde_json may be the second nearest f64.
            exact.or_else(|| json.parse().ok().map(Value::F64))
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
