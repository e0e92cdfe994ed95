use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::fixtures::{dec, point, text, words};
use super::{EncodeError, decode, encode};
use crate::address::{Address, Area};
use crate::point::{Kind, Order, Raw, Reason, Value};

#[test]
fn orders_move_words_and_bytes() {
    // 0x11223344 and 12.34f32 = 0x414570A4, as the device of each order would send them.
    for (order, wire, float) in [
        (Order::Abcd, [0x1122, 0x3344], [0x4145, 0x70A4]),
        (Order::Cdab, [0x3344, 0x1122], [0x70A4, 0x4145]),
        (Order::Badc, [0x2211, 0x4433], [0x4541, 0xA470]),
        (Order::Dcba, [0x4433, 0x2211], [0xA470, 0x4541]),
    ] {
        let mut p = point(Kind::U32);
        p.order = order;
        assert_eq!(decode(&p, &words(&wire)), Ok(Value::Int(0x1122_3344)), "{order:?}");
        p.kind = Kind::U24;
        assert_eq!(decode(&p, &words(&wire)), Ok(Value::Int(0x0022_3344)), "{order:?}");
        p.kind = Kind::F32;
        assert_eq!(decode(&p, &words(&float)).unwrap().to_string(), "12.34", "{order:?}");
    }
    let mut long = point(Kind::U64);
    long.order = Order::Cdab;
    let expected = Ok(Value::Int(0x1122_3344_5566_7788));
    assert_eq!(decode(&long, &words(&[0x7788, 0x5566, 0x3344, 0x1122])), expected);
    long.order = Order::Dcba;
    assert_eq!(decode(&long, &words(&[0x8877, 0x6655, 0x4433, 0x2211])), expected);
    // One register and text know the byte swap alone.
    for (order, expected) in [(Order::Cdab, 0x1122), (Order::Badc, 0x2211), (Order::Dcba, 0x2211)] {
        let mut short = point(Kind::U16);
        short.order = order;
        assert_eq!(decode(&short, &words(&[0x1122])), Ok(Value::Int(expected)));
        short.kind = Kind::U8;
        assert_eq!(decode(&short, &words(&[0x1122])), Ok(Value::Int(expected & 0xFF)));
    }
    let mut label = point(Kind::String { length: 4 });
    label.order = Order::Dcba;
    assert_eq!(decode(&label, &words(&[0x6261, 0x6463])), Ok(Value::Text("abcd".into())));
}

#[test]
fn signs_and_widths() {
    for (kind, wire, expected) in [
        (Kind::I8, &[0x12FF][..], -1),
        (Kind::I16, &[0x8000], -32768),
        (Kind::I24, &[0x12FF, 0xFFFE], -2),
        (Kind::I32, &[0xFFFF, 0xFFFD], -3),
        (Kind::I64, &[0x8000, 0, 0, 0], i128::from(i64::MIN)),
        (Kind::U64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF], i128::from(u64::MAX)),
        (Kind::Bcd16, &[0x1234], 1234),
        (Kind::Bcd32, &[0x0012, 0x3456], 123_456),
    ] {
        assert_eq!(decode(&point(kind), &words(wire)), Ok(Value::Int(expected)), "{kind:?}");
    }
    assert_eq!(decode(&point(Kind::Bcd16), &words(&[0x12A4])), Err(Reason::Invalid));
}

#[test]
fn scaling_is_exact_and_keeps_its_decimals() {
    let mut p = point(Kind::I16);
    p.scale = dec("0.1");
    for (raw, expected) in [(614, "61.4"), (550, "55.0"), (0, "0.0"), (0xFFFF, "-0.1")] {
        assert_eq!(decode(&p, &words(&[raw])).unwrap().to_string(), expected);
    }
    p.offset = dec("-40");
    assert_eq!(decode(&p, &words(&[614])).unwrap().to_string(), "21.4");
    let mut long = point(Kind::U64);
    long.scale = dec("0.001");
    let all = decode(&long, &words(&[0xFFFF; 4])).unwrap();
    assert_eq!(all.to_string(), "18446744073709551.615");
    long.scale = dec("0.1234567890123");
    assert_eq!(decode(&long, &words(&[0xFFFF; 4])), Err(Reason::Invalid), "never rounded");
    let mut float = point(Kind::F32);
    float.scale = dec("0.1");
    assert_eq!(decode(&float, &words(&[0x4145, 0x70A4])).unwrap().to_string(), "1.234");
    assert!(matches!(decode(&float, &words(&[0x7F7F, 0xFFFF])), Ok(Value::F64(v)) if v > 3.4e37));
    float.kind = Kind::F64;
    float.scale = dec("1000");
    assert_eq!(decode(&float, &Raw::Number(f64::MAX)), Err(Reason::Invalid));
    float.kind = Kind::F32;
    assert_eq!(decode(&float, &words(&[0x7FC0, 0])), Err(Reason::NotANumber));
    assert_eq!(decode(&point(Kind::F32), &words(&[0xFF80, 0])), Err(Reason::NotANumber));
}

#[test]
fn sentinels_match_both_readings() {
    let mut p = point(Kind::I16);
    p.scale = dec("0.1");
    for sentinel in [0x8000, -32768] {
        p.invalid = vec![sentinel];
        assert_eq!(decode(&p, &words(&[0x8000])), Err(Reason::Invalid));
        assert!(decode(&p, &words(&[0x7FFF])).is_ok());
        let refused = encode(&p, &Value::Decimal(dec("-3276.8")));
        assert!(matches!(refused, Err(EncodeError::OutOfRange(_))), "{refused:?}");
    }
    let mut float = point(Kind::F32);
    float.invalid = vec![-9999, 0x7FC0_0000];
    assert_eq!(decode(&float, &words(&[0x7FC0, 0])), Err(Reason::Invalid));
    assert_eq!(decode(&float, &text("-9999.0")), Err(Reason::Invalid));
    let mut field = point(Kind::U16);
    field.bits = Some((4, 7));
    field.invalid = vec![15, 0xFF00];
    assert_eq!(decode(&field, &words(&[0x12F4])), Err(Reason::Invalid));
    assert_eq!(decode(&field, &words(&[0xFF00])), Err(Reason::Invalid));
    assert_eq!(decode(&field, &words(&[0x000F])), Ok(Value::Int(0)));
}

#[test]
fn bits_and_names() {
    let mut p = point(Kind::I16);
    p.bits = Some((12, 15));
    assert_eq!(decode(&p, &words(&[0xF123])), Ok(Value::Int(15)), "unsigned");
    assert_eq!(encode(&p, &Value::Int(2)), Ok(words(&[0x2000])));
    assert!(matches!(encode(&p, &Value::Int(16)), Err(EncodeError::OutOfRange(_))));
    let mut mode = point(Kind::I16);
    mode.values = BTreeMap::from([(0, "off".into()), (1, "auto".into()), (0xFFFF, "error".into())]);
    assert_eq!(decode(&mode, &words(&[1])), Ok(Value::Text("auto".into())));
    assert_eq!(decode(&mode, &words(&[7])), Ok(Value::Int(7)));
    assert_eq!(decode(&mode, &words(&[0xFFFF])), Ok(Value::Text("error".into())));
    assert_eq!(encode(&mode, &Value::Text("auto".into())), Ok(words(&[1])));
    assert_eq!(encode(&mode, &Value::Text("error".into())), Ok(words(&[0xFFFF])));
    let unknown = encode(&mode, &Value::Text("on".into()));
    assert!(matches!(unknown, Err(EncodeError::WrongType(m)) if m.contains("auto")));
    let mut alarm = point(Kind::Bool);
    alarm.order = Order::Badc;
    alarm.address = Address::Register { area: Area::Holding, number: 20, bit: Some(3) };
    assert_eq!(decode(&alarm, &words(&[0x0800])), Ok(Value::Bool(true)));
    assert_eq!(decode(&alarm, &words(&[0x0008])), Ok(Value::Bool(false)));
    assert_eq!(encode(&alarm, &Value::Bool(true)), Ok(words(&[0x0800])));
    assert_eq!(encode(&alarm, &Value::Bool(false)), Ok(words(&[0])));
}

#[test]
fn texts() {
    let p = point(Kind::String { length: 5 });
    assert_eq!(decode(&p, &words(&[0x6162, 0x2020, 0x2041])), Ok(Value::Text("ab".into())));
    assert_eq!(decode(&p, &words(&[0x6100, 0x6263, 0x6465])), Ok(Value::Text("a".into())));
    assert_eq!(decode(&p, &words(&[0xFFFE, 0, 0])), Err(Reason::Malformed));
    assert_eq!(encode(&p, &Value::Text("abc".into())), Ok(words(&[0x6162, 0x6300, 0])));
    for bad in ["abcdef", "a\0b"] {
        let refused = encode(&p, &Value::Text(bad.into()));
        assert!(matches!(refused, Err(EncodeError::OutOfRange(_))), "{bad:?}");
    }
}

#[test]
fn text_frames() {
    for (kind, raw, expected) in [
        (Kind::F64, "+  12.50", Ok(Value::F64(12.5))),
        (Kind::F64, " -  3 ", Ok(Value::F64(-3.0))),
        (Kind::F32, "12.34", Ok(Value::F32(12.34))),
        (Kind::F64, "+-1", Err(Reason::Malformed)),
        (Kind::F64, "1 2", Err(Reason::Malformed)),
        (Kind::F64, "", Err(Reason::Malformed)),
        (Kind::F64, "nan", Err(Reason::NotANumber)),
        (Kind::F64, "-inf", Err(Reason::NotANumber)),
        (Kind::F64, "1e999", Err(Reason::Invalid)),
        (Kind::F32, "1e39", Err(Reason::Invalid)),
        (Kind::I16, "- 12", Ok(Value::Int(-12))),
        (Kind::I16, "32768", Err(Reason::Invalid)),
        (Kind::I16, "1.5", Err(Reason::Malformed)),
        (Kind::U8, "-1", Err(Reason::Invalid)),
        (Kind::U64, "18446744073709551615", Ok(Value::Int(u64::MAX.into()))),
        (Kind::U64, &"9".repeat(60), Err(Reason::Invalid)),
        (Kind::Bcd16, "9999", Ok(Value::Int(9999))),
        (Kind::Bcd16, "10000", Err(Reason::Invalid)),
        (Kind::Bool, " ON", Ok(Value::Bool(true))),
        (Kind::Bool, "0", Ok(Value::Bool(false))),
        (Kind::Bool, "maybe", Err(Reason::Malformed)),
        (Kind::String { length: 2 }, " ST ", Ok(Value::Text("ST".into()))),
        (Kind::String { length: 2 }, "STA", Err(Reason::Invalid)),
    ] {
        assert_eq!(decode(&point(kind), &text(raw)), expected, "{kind:?} {raw:?}");
    }
    assert_eq!(decode(&point(Kind::I16), &Raw::Number(-2.6)), Ok(Value::Int(-3)));
    assert_eq!(decode(&point(Kind::U8), &Raw::Number(256.0)), Err(Reason::Invalid));
    assert_eq!(decode(&point(Kind::Bool), &Raw::Number(1.0)), Ok(Value::Bool(true)));
}

#[test]
fn refusals_say_why() {
    let mut p = point(Kind::I16);
    p.scale = dec("0.5");
    (p.min, p.max) = (Some(dec("20.0")), Some(dec("75.0")));
    for (value, expected) in [
        (Value::Int(99), "setpoint 99 is above its max 75"),
        (Value::F64(19.5), "setpoint 19.5 is below its min 20"),
    ] {
        assert_eq!(encode(&p, &value), Err(EncodeError::OutOfRange(expected.into())));
    }
    (p.min, p.max) = (None, None);
    assert_eq!(
        encode(&p, &Value::Int(99999)),
        Err(EncodeError::OutOfRange("setpoint 99999 does not fit its type i16: -16384 to 16383.5".into()))
    );
    for (kind, value) in [
        (Kind::I16, Value::Bool(true)),
        (Kind::I16, Value::Text("7".into())),
        (Kind::F32, Value::Text("7".into())),
        (Kind::Bool, Value::Int(1)),
        (Kind::Bool, Value::Text("true".into())),
        (Kind::String { length: 4 }, Value::Int(1)),
    ] {
        let refused = encode(&point(kind), &value);
        assert!(matches!(refused, Err(EncodeError::WrongType(_))), "{kind:?} {value:?}");
    }
    let mut float = point(Kind::F32);
    assert!(matches!(encode(&float, &Value::F64(1e39)), Err(EncodeError::OutOfRange(_))));
    float.max = Some(dec("75"));
    assert!(matches!(encode(&float, &Value::F64(1e30)), Err(EncodeError::OutOfRange(_))));
    assert!(matches!(encode(&point(Kind::U64), &Value::Int(i128::MAX)), Err(EncodeError::OutOfRange(_))));
}

#[test]
fn scaled_values_are_written_rounded() {
    let mut p = point(Kind::I16);
    p.scale = dec("0.1");
    for (value, raw) in [
        ("61.4", 614),
        ("61.44", 614),
        ("61.45", 615),
        ("61.4499999999999999999999999", 614),
        ("61.36", 614),
        ("-0.04", 0),
        ("-0.05", -1),
        ("-61.45", -615),
        ("3276.74", 32767),
    ] {
        let written = encode(&p, &Value::Decimal(dec(value))).unwrap();
        assert_eq!(decode(&p, &written), Ok(Value::Decimal(Decimal::new(raw, 1))), "{value}");
    }
    let beyond = encode(&p, &Value::Decimal(dec("3276.75")));
    assert_eq!(
        beyond,
        Err(EncodeError::OutOfRange("setpoint 3276.75 does not fit its type i16: -3276.8 to 3276.7".into()))
    );
    // A half goes away from the raw 0, whatever the sign of the scale and the offset.
    (p.scale, p.offset) = (dec("-0.5"), dec("100"));
    for (value, expected) in [("99.75", "99.5"), ("100.25", "100.5"), ("99.8", "100.0")] {
        let written = encode(&p, &Value::Decimal(dec(value))).unwrap();
        assert_eq!(decode(&p, &written).unwrap().to_string(), expected, "{value}");
    }
    // Never beyond a limit, on either side of the nearest step.
    for (scale, min, max, value, expected) in [
        ("0.5", "20.3", "75.3", "75.3", Ok("75.0")),
        ("0.5", "20.3", "75.3", "20.3", Ok("20.5")),
        ("0.5", "20.2", "75.3", "20.2", Ok("20.5")),
        ("-0.5", "20.2", "75.3", "75.3", Ok("75.0")),
        ("-0.5", "20.2", "75.3", "20.2", Ok("20.5")),
        (
            "0.5",
            "20.1",
            "20.4",
            "20.4",
            Err("setpoint 20.4 cannot be: no whole step of its scale 0.5 lies within its limits"),
        ),
    ] {
        (p.scale, p.offset) = (dec(scale), Decimal::ZERO);
        (p.min, p.max) = (Some(dec(min)), Some(dec(max)));
        let written =
            encode(&p, &Value::Decimal(dec(value))).map(|raw| decode(&p, &raw).unwrap().to_string());
        let expected = expected.map(str::to_owned).map_err(|text| EncodeError::OutOfRange(text.into()));
        assert_eq!(written, expected, "{scale} {value}");
    }
    let plain = point(Kind::U16);
    assert_eq!(encode(&plain, &Value::Decimal(dec("7.0"))), Ok(words(&[7])));
    let part = encode(&plain, &Value::Decimal(dec("7.2")));
    assert_eq!(part, Err(EncodeError::OutOfRange("setpoint 7.2 is not a whole number".into())));
}

#[test]
fn sixty_four_bits_are_written_digit_by_digit() {
    let mut p = point(Kind::I64);
    p.scale = dec("0.001");
    let value = dec("9007199254740993.003");
    let written = encode(&p, &Value::Decimal(value)).unwrap();
    assert_eq!(decode(&p, &written), Ok(Value::Decimal(value)), "an f64 would have lost its end");
    p.scale = Decimal::ONE;
    p.kind = Kind::U64;
    for number in [u64::MAX, u64::MAX - 1, (1 << 53) + 1] {
        let written = encode(&p, &Value::Int(number.into())).unwrap();
        assert_eq!(decode(&p, &written), Ok(Value::Int(number.into())));
    }
}

#[test]
fn texts_are_padded_with_nul_and_keep_their_letters() {
    let mut p = point(Kind::String { length: 7 });
    let value = Value::Text("grün€".into());
    assert!(matches!(encode(&p, &value), Err(EncodeError::OutOfRange(_))), "eight bytes");
    let value = Value::Text("grün".into());
    assert_eq!(encode(&p, &value), Ok(words(&[0x6772, 0xC3BC, 0x6E00, 0x0000])));
    p.order = Order::Badc;
    let swapped = words(&[0x7267, 0xBCC3, 0x006E, 0x0000]);
    assert_eq!(encode(&p, &value), Ok(swapped.clone()));
    assert_eq!(decode(&p, &swapped), Ok(value));
    // A device of another century: no UTF-8.
    assert_eq!(decode(&p, &words(&[0x72E4, 0, 0, 0])), Err(Reason::Malformed));
}
