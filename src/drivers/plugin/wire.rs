//! The JSON lines: requests made, answers read strictly. Pure.
//!
//! Numbers are never parsed into floats on their way: their text goes on to `decode`, digit by digit.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::drivers::DriverError;
use crate::point::{Device, Kind, Point, Protocol, Raw, Reason, Sample, Value};

/// Longest text of the plugin's that is passed on, in characters.
const SHOWN: usize = 200;

/// One request.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    #[serde(flatten)]
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Request<'a> {
    Open { api: u8, timeout_ms: u64, options: &'a Map<String, Json>, devices: Vec<Asked<'a>> },
    Read(Asked<'a>),
    Write(Wanted<'a>),
}

/// A device with some of its points.
#[derive(Serialize)]
struct Asked<'a> {
    device: &'a str,
    address: Option<&'a str>,
    points: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    device: &'a str,
    address: Option<&'a str>,
    point: Place<'a>,
    value: &'a RawValue,
}

/// A point as a plugin has to know it.
#[derive(Serialize)]
struct Place<'a> {
    id: &'a str,
    address: String,
    r#type: &'a str,
    writable: bool,
}

impl<'a> Place<'a> {
    fn new(point: &'a Point) -> Self {
        Self {
            id: point.id.as_str(),
            address: point.address.to_string(),
            r#type: point.kind.name(),
            writable: point.writable,
        }
    }
}

impl<'a> Asked<'a> {
    fn new(device: &'a Device, points: impl Iterator<Item = &'a Point>) -> Self {
        Self {
            device: device.id.as_str(),
            address: address(device),
            points: points.map(Place::new).collect(),
        }
    }
}

fn address(device: &Device) -> Option<&str> {
    match &device.protocol {
        Protocol::Plugin { address } => address.as_deref(),
        _ => None,
    }
}

fn line(id: u64, request: Request) -> Vec<u8> {
    // Names, texts and numbers: none of it can fail, and an empty line would be answered by nobody.
    let mut line = serde_json::to_vec(&Line { id, request }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The first request: how the plugin is set, and what will be asked of it.
pub(super) fn open<'a>(
    id: u64,
    timeout_ms: u64,
    options: &'a Map<String, Json>,
    devices: impl Iterator<Item = &'a Device>,
) -> Vec<u8> {
    let devices = devices.map(|device| Asked::new(device, device.points.iter())).collect();
    line(id, Request::Open { api: 1, timeout_ms, options, devices })
}

/// Asks for points of a device.
pub(super) fn read<'a>(id: u64, device: &'a Device, points: impl Iterator<Item = &'a Point>) -> Vec<u8> {
    line(id, Request::Read(Asked::new(device, points)))
}

/// Writes a raw value, exact; it must be finite, as everything is that `encode` has let through.
pub(super) fn write(id: u64, device: &Device, point: &Point, value: &Value) -> Option<Vec<u8>> {
    let value = RawValue::from_string(value.to_string()).ok()?;
    let (device, address) = (device.id.as_str(), address(device));
    Some(line(id, Request::Write(Wanted { device, address, point: Place::new(point), value: &value })))
}

/// An answer, as far as it is the same for every request. A key that stands twice, or that is not known, is a fault.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer<'a> {
    pub(super) id: u64,
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
pub(super) struct Opened {}

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
pub(super) fn parse(line: &[u8]) -> Result<Answer<'_>, DriverError> {
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
    pub(super) fn opened(&self) -> Result<Opened, DriverError> {
        content(self.result()?)
    }

    /// One sample for each point that was asked for (indices into `device.points`).
    pub(super) fn samples(&self, device: &Device, points: &[usize]) -> Result<Vec<Sample>, DriverError> {
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
    pub(super) fn written(&self, point: &Point) -> Result<Raw, DriverError> {
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
        (_, Some(b'-' | b'0'..=b'9')) => whole(text),
        _ => return Err(Reason::Malformed),
    };
    Ok(Raw::Text(text))
}

/// A number like `4.0` or `2e3` as the whole number that it is; what is none stays as it was and fails in `decode`.
fn whole(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']).or(Some((text, "0"))) else {
        return text.to_owned();
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let after = after.trim_end_matches('0');
    // A digit beyond 10^40 is beyond every type.
    let shift = exponent.parse::<usize>().ok().filter(|shift| (after.len()..=40).contains(shift));
    match shift {
        Some(shift) => format!("{before}{after}{}", "0".repeat(shift - after.len())),
        None => text.to_owned(),
    }
}

/// The beginning of a text of the plugin's, on one line.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.trim().chars().take(SHOWN).map(plain).collect();
    if text.trim().chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::decode::decode;
    use crate::point::{DeviceId, LinkId, PointId};
    use std::time::Duration;

    fn device(points: &[(&str, Kind)]) -> Device {
        let point = |(id, kind): &(&str, Kind)| {
            Point::new(PointId::new(id).unwrap(), Address::Name(format!("at {id}")), *kind)
        };
        Device {
            id: DeviceId::new("roof").unwrap(),
            link: LinkId::new("box").unwrap(),
            label: None,
            tags: None,
            protocol: Protocol::Plugin { address: Some("3".to_owned()) },
            poll_interval: Duration::from_secs(1),
            align: false,
            patience: Duration::from_secs(1),
            pause: Duration::ZERO,
            points: points.iter().map(point).collect(),
        }
    }

    /// The value of one point in an answer.
    fn told(kind: Kind, value: &str) -> Result<Value, String> {
        let device = device(&[("a", kind)]);
        let line = format!(r#"{{"id":1,"ok":{{"samples":[{{"point":"a","value":{value}}}]}}}}"#);
        let answer = parse(line.as_bytes()).map_err(|error| error.to_string())?;
        let samples = answer.samples(&device, &[0]).map_err(|error| error.to_string())?;
        assert_eq!(samples.len(), 1);
        let raw = samples[0].raw.clone();
        raw.and_then(|raw| decode(&device.points[0], &raw)).map_err(|reason| reason.to_string())
    }

    #[test]
    fn values_keep_every_digit_and_their_type() {
        let text = Kind::String { length: 8 };
        for (kind, value, wanted) in [
            (Kind::U64, "18446744073709551615", Ok("18446744073709551615")),
            (Kind::I64, "-9223372036854775808", Ok("-9223372036854775808")),
            (Kind::F64, "0.1", Ok("0.1")),
            (Kind::F32, "12.34", Ok("12.34")),
            (Kind::F64, "1e3", Ok("1000.0")),
            (Kind::U16, "4.0", Ok("4")),
            (Kind::U16, "1.25e2", Ok("125")),
            (Kind::U16, "2E+3", Ok("2000")),
            (Kind::I16, "-0.0", Ok("0")),
            (Kind::Bool, "true", Ok("true")),
            (Kind::Bool, "0", Ok("false")),
            (text, "\"ab\\u00e9\"", Ok("\"abé\"")),
            (Kind::U64, "18446744073709551616", Err("invalid")),
            (Kind::U16, "-1", Err("invalid")),
            (Kind::F64, "1e999", Err("invalid")),
            (Kind::U16, "1e30", Err("invalid")),
            (Kind::U16, "1e99999999999999999999", Err("malformed")),
            (Kind::U16, "4.5", Err("malformed")),
            (Kind::U16, "1e-1", Err("malformed")),
            (Kind::U16, "true", Err("malformed")),
            (Kind::U16, "\"4\"", Err("malformed")),
            (Kind::U16, "[4]", Err("malformed")),
            (Kind::Bool, "2", Err("malformed")),
            (Kind::Bool, "\"true\"", Err("malformed")),
            (text, "4", Err("malformed")),
            (text, "true", Err("malformed")),
            (text, "{}", Err("malformed")),
            (text, "\"123456789\"", Err("invalid")),
            (Kind::F64, "null", Err("invalid")),
        ] {
            let got = told(kind, value).map(|value| value.to_string());
            assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned), "{kind:?} {value}");
        }
        let digits = "9".repeat(100_000);
        assert_eq!(told(Kind::U16, &digits), Err("invalid".to_owned()));
        assert_eq!(told(Kind::F64, &digits), Err("invalid".to_owned()));
        for no_json in ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x10", "'a'", "1_000"] {
            assert!(told(Kind::F64, no_json).unwrap_err().contains("is no answer"), "{no_json}");
        }
    }

    #[test]
    fn an_answer_that_says_too_much_or_too_little_is_none() {
        let device = device(&[("a", Kind::U16), ("b", Kind::U16), ("c", Kind::U16)]);
        let judge = |line: &str| parse(line.as_bytes())?.samples(&device, &[0, 1]);
        let good = judge(r#"{"id":1,"ok":{"samples":[{"point":"b","value":2},{"point":"a","value":1}]}}"#);
        let values: Vec<_> = good.unwrap().into_iter().map(|sample| (sample.point, sample.raw)).collect();
        let text = |text: &str| Ok(Raw::Text(text.to_owned()));
        assert_eq!(values, [(0, text("1")), (1, text("2"))]);
        let missing = judge(r#"{"id":1,"ok":{"samples":[{"point":"b","value":2}]}}"#).unwrap();
        assert_eq!(missing[0].raw, Err(Reason::Malformed));
        assert_eq!(missing[1].raw, text("2"));
        for line in [
            r#"{"id":1,"ok":{"samples":[{"point":"c","value":2}]}}"#,
            r#"{"id":1,"ok":{"samples":[{"point":"zz","value":2}]}}"#,
            r#"{"id":1,"ok":{"samples":[{"point":"a","value":2},{"point":"a","value":2}]}}"#,
            r#"{"id":1,"ok":{"samples":[{"point":"a","value":2,"value":3}]}}"#,
            r#"{"id":1,"ok":{"samples":[{"point":"a"}]}}"#,
            r#"{"id":1,"ok":{"samples":[{"point":"a","value":1,"x":0}]}}"#,
            r#"{"id":1,"ok":{}}"#,
            r#"{"id":1,"ok":{"value":1}}"#,
            r#"{"id":1,"ok":[]}"#,
            r#"{"id":1}"#,
            r#"{"id":1,"ok":{"samples":[]},"error":{"scope":"device","code":"timeout"}}"#,
            r#"{"id":1,"id":1,"ok":{"samples":[]}}"#,
            r#"{"id":1,"ok":{"samples":[]},"ok":{"samples":[]}}"#,
            r#"{"id":-1,"ok":{"samples":[]}}"#,
            r#"{"id":"1","ok":{"samples":[]}}"#,
            r#"{"id":1,"error":{"scope":"world","code":"x"}}"#,
            r#"{"id":1,"error":"no"}"#,
            r#"{"id":1,"ok":{"samples":[]}} {}"#,
            "[]",
            "",
            "hello",
            "\u{feff}{}",
        ] {
            assert!(matches!(judge(line), Err(DriverError::Malformed(_))), "{line}");
        }
        assert!(parse(b"{\"id\":1,\"ok\":\"\xff\"}").and_then(|answer| answer.opened()).is_err());
        let deep = format!(r#"{{"id":1,"ok":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(judge(&deep), Err(DriverError::Malformed(_))));
    }

    #[test]
    fn failures_have_a_scope() {
        let device = device(&[("a", Kind::U16)]);
        let judge = |scope: &str, code: &str| {
            let line =
                format!(r#"{{"id":1,"error":{{"scope":"{scope}","code":"{code}","message":"a\nb"}}}}"#);
            parse(line.as_bytes()).unwrap().samples(&device, &[0]).unwrap_err()
        };
        assert_eq!(judge("device", "timeout"), DriverError::Timeout);
        assert_eq!(judge("device", "exception-2"), DriverError::Refused(2));
        assert_eq!(judge("device", "malformed"), DriverError::Malformed("a\u{fffd}b".to_owned()));
        assert_eq!(
            judge("device", "exception-999"),
            DriverError::Malformed("exception-999: a\u{fffd}b".to_owned())
        );
        assert_eq!(judge("link", "offline"), DriverError::Lost("offline: a\u{fffd}b".to_owned()));
    }

    #[test]
    fn requests_are_what_the_readme_says() {
        let device = device(&[("a", Kind::U64), ("b", Kind::String { length: 9 })]);
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        assert_eq!(
            text(read(7, &device, device.points.iter().take(1))),
            "{\"id\":7,\"read\":{\"device\":\"roof\",\"address\":\"3\",\"points\":[{\"id\":\"a\",\"address\":\"at a\",\
             \"type\":\"u64\",\"writable\":false}]}}\n"
        );
        let line = write(8, &device, &device.points[0], &Value::Int(u64::MAX.into())).unwrap();
        assert_eq!(
            text(line),
            "{\"id\":8,\"write\":{\"device\":\"roof\",\"address\":\"3\",\"point\":{\"id\":\"a\",\"address\":\"at a\",\
             \"type\":\"u64\",\"writable\":false},\"value\":18446744073709551615}}\n"
        );
        let options = Map::from_iter([("root".to_owned(), Json::from("/"))]);
        let line = text(open(1, 5000, &options, std::iter::once(&device)));
        assert!(line.starts_with(
            "{\"id\":1,\"open\":{\"api\":1,\"timeout_ms\":5000,\"options\":{\"root\":\"/\"},\"devices\":[{\"device\":\"roof\","
        ), "{line}");
    }
}
