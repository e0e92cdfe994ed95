use proptest::prelude::*;

use super::*;

#[test]
fn a_write_is_read() {
    let text =
        br#"{"id":"c-91","action":"write","values":{"setpoint":55.0},"expires_at":"2026-03-01T10:20:00Z"}"#;
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
