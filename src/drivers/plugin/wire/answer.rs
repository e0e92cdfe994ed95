//! Answers: read strictly, and given to `decode` digit by digit.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::shown;
use crate::drivers::DriverError;
use crate::number;
use crate::point::{Device, Kind, Point, Raw, Reason, Sample};

/// An answer, as far as it is the same for every request. A key that stands twice, or that is not known, is a fault.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Answer<'a> {
    pub(in super::super) id: u64,
    #[serde(borrow, default)]
    ok: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    scope: Scope,
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Device,
    Link,
}

/// Nothing more is said of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Opened {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    #[serde(borrow)]
    samples: Vec<Told<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told<'a> {
    point: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Reads a line as an answer.
pub(in super::super) fn parse(line: &[u8]) -> Result<Answer<'_>, DriverError> {
    serde_json::from_slice(line).map_err(|error| {
        let line = String::from_utf8_lossy(line);
        DriverError::Malformed(format!("the plugin's line is no answer ({error}): {}", shown(&line)))
    })
}

impl<'a> Answer<'a> {
    /// What was asked for, or the failure that the plugin tells of.
    fn result(&self) -> Result<&'a RawValue, DriverError> {
        match (self.ok, &self.error) {
            (Some(ok), None) => Ok(ok),
            (None, Some(failure)) => Err(failure.to_error()),
            _ => Err(malformed("an answer has either `ok` or `error`")),
        }
    }

    /// The plugin is ready.
    pub(in super::super) fn opened(&self) -> Result<Opened, DriverError> {
        content(self.result()?)
    }

    /// One sample for each point that was asked for (indices into `device.points`).
    pub(in super::super) fn samples(
        &self,
        device: &Device,
        points: &[usize],
    ) -> Result<Vec<Sample>, DriverError> {
        let told: Read = content(self.result()?)?;
        let mut found: Vec<Option<&RawValue>> = vec![None; points.len()];
        for Told { point: id, value } in told.samples {
            let is_asked =
                |index: &usize| device.points.get(*index).is_some_and(|point| point.id.as_str() == id);
            let place = points.iter().position(is_asked).and_then(|place| found.get_mut(place));
            match place {
                None => {
                    let what = format!("the plugin tells the point {}, which was not asked for", shown(&id));
                    return Err(malformed(&what));
                }
                Some(Some(_)) => return Err(malformed(&format!("the plugin tells the point {id} twice"))),
                Some(place) => *place = Some(value),
            }
        }
        let sample = |(index, value): (&usize, Option<&RawValue>)| {
            let kind = device.points.get(*index).map(|point| point.kind);
            let raw = match kind.zip(value) {
                Some((kind, value)) => raw(kind, value),
                None => Err(Reason::Malformed),
            };
            Sample { point: *index, raw }
        };
        Ok(points.iter().zip(found).map(sample).collect())
    }

    /// The value that a point has after a write.
    pub(in super::super) fn written(&self, point: &Point) -> Result<Raw, DriverError> {
        let Written { value } = content(self.result()?)?;
        raw(point.kind, value).map_err(|reason| {
            let what = format!("the plugin's value of {} after the write is {reason}", point.id);
            DriverError::Unconfirmed(what)
        })
    }
}

impl Failure {
    fn to_error(&self) -> DriverError {
        let message = shown(&self.message);
        let number = self.code.strip_prefix("exception-").and_then(|number| number.parse().ok());
        match (self.scope, self.code.as_str(), number) {
            (Scope::Link, code, _) => DriverError::Lost(format!("{}: {message}", shown(code))),
            (Scope::Device, "timeout", _) => DriverError::Timeout,
            (Scope::Device, _, Some(number)) => DriverError::Refused(number),
            (Scope::Device, "malformed", _) => DriverError::Malformed(message),
            (Scope::Device, code, None) => DriverError::Malformed(format!("{}: {message}", shown(code))),
        }
    }
}

fn content<'a, T: Deserialize<'a>>(ok: &'a RawValue) -> Result<T, DriverError> {
    serde_json::from_str(ok.get()).map_err(|error| malformed(&format!("the plugin's `ok` is wrong: {error}")))
}

fn malformed(what: &str) -> DriverError {
    DriverError::Malformed(what.to_owned())
}

/// The value as the text that `decode` reads, if its JSON type is that of the point.
fn raw(kind: Kind, value: &RawValue) -> Result<Raw, Reason> {
    let text = value.get();
    let text = match (kind, text.as_bytes().first()) {
        (_, Some(b'n')) => return Err(Reason::Invalid),
        (Kind::Bool, _) if text == "0" || text == "1" => text.to_owned(),
        (Kind::String { .. }, Some(b'"')) => serde_json::from_str(text).map_err(|_| Reason::Malformed)?,
        (Kind::Bool, Some(b't' | b'f')) | (Kind::F32 | Kind::F64, Some(b'-' | b'0'..=b'9')) => {
            text.to_owned()
        }
        (Kind::Bool | Kind::String { .. }, _) => return Err(Reason::Malformed),
        (_, Some(b'-' | b'0'..=b'9')) => number::whole(text).unwrap_or_else(|| text.to_owned()),
        _ => return Err(Reason::Malformed),
    };
    Ok(Raw::Text(text))
}
