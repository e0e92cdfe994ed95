use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::*;
use crate::address::Address;
use crate::decode::decode;
use crate::drivers::DriverError;
use crate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Raw, Reason, Value};

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
        let line = format!(r#"{{"id":1,"error":{{"scope":"{scope}","code":"{code}","message":"a\nb"}}}}"#);
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
