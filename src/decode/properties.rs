use proptest::prelude::*;
use rust_decimal::Decimal;

use super::fixtures::{kinds, point, text, words};
use super::{decode, encode, from_layout, to_layout};
use crate::address::{Address, Area};
use crate::point::{Kind, Order, Raw, Reason, Value};

fn any_kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(kinds())
}

fn any_order() -> impl Strategy<Value = Order> {
    proptest::sample::select(vec![Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba])
}

fn any_decimal(largest: i64) -> impl Strategy<Value = Decimal> {
    (-largest..=largest, 0u32..6).prop_map(|(digits, places)| Decimal::new(digits, places))
}

#[test]
fn words_of_the_wrong_number_are_malformed() {
    for kind in kinds() {
        let right = usize::from(kind.registers());
        for count in (0..9).filter(|count| *count != right) {
            let raw = words(&vec![0x3131; count]);
            assert_eq!(decode(&point(kind), &raw), Err(Reason::Malformed), "{kind:?} {count}");
        }
    }
    assert_eq!(decode(&point(Kind::U16), &Raw::Bit(true)), Err(Reason::Malformed));
}

proptest! {
    // Scales up to 1,000: beyond, 20 digits and five decimals no longer fit a Decimal, and that is Invalid.
    #[test]
    fn what_was_decoded_encodes_and_decodes_to_itself(
        kind in any_kind(), order in any_order(), wire in any::<[u16; 4]>(),
        scale in any_decimal(1_000), offset in any_decimal(1_000), plain in any::<bool>(),
    ) {
        let mut p = point(kind);
        p.order = order;
        if !plain && !scale.is_zero() && !matches!(kind, Kind::F32 | Kind::F64) {
            (p.scale, p.offset) = (scale, offset);
        }
        let raw = words(&wire[..usize::from(kind.registers())]);
        if let Ok(value) = decode(&p, &raw) {
            let again = encode(&p, &value).unwrap();
            prop_assert_eq!(decode(&p, &again), Ok(value));
            let whole = !matches!(kind, Kind::I8 | Kind::U8 | Kind::I24 | Kind::U24 | Kind::Bool | Kind::String { .. });
            prop_assert!(!whole || again == raw, "{:?} became {:?}", raw, again);
        } else {
            let may_refuse = matches!(kind, Kind::F32 | Kind::F64 | Kind::Bcd16 | Kind::Bcd32 | Kind::String { .. });
            prop_assert!(may_refuse, "{:?}", kind);
        }
    }

    #[test]
    fn a_layout_of_bytes_says_what_registers_say(kind in any_kind(), order in any_order(), wire in any::<[u8; 8]>()) {
        let bytes = &wire[..usize::from(kind.bytes())];
        let words = from_layout(kind, order, bytes).unwrap();
        prop_assert_eq!(to_layout(kind, order, &words), Some(bytes.to_vec()));
        let mut p = point(kind);
        p.order = order;
        let value = decode(&p, &Raw::Words(words.clone()));
        let whole = |bytes: &[u8]| bytes.iter().fold(0_i128, |whole, byte| whole << 8 | i128::from(*byte));
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        // By hand, where one line says it.
        match (kind, order) {
            (Kind::U8, _) | (Kind::U16 | Kind::U24 | Kind::U32 | Kind::U64, Order::Abcd) => {
                prop_assert_eq!(value, Ok(Value::Int(whole(bytes))));
            }
            (Kind::U16, Order::Badc) | (Kind::U16 | Kind::U24 | Kind::U32 | Kind::U64, Order::Dcba) => {
                prop_assert_eq!(value, Ok(Value::Int(whole(&reversed))));
            }
            (Kind::I24, Order::Abcd) => {
                let number = whole(bytes);
                prop_assert_eq!(value, Ok(Value::Int(if bytes[0] < 128 { number } else { number - (1 << 24) })));
            }
            (Kind::U32, Order::Cdab) => {
                let swapped = [&bytes[2..], &bytes[..2]].concat();
                prop_assert_eq!(value, Ok(Value::Int(whole(&swapped))));
            }
            _ => {}
        }
        prop_assert_eq!(from_layout(kind, order, &wire[..bytes.len() - 1]), None);
    }

    #[test]
    fn scaled_floats_come_back(order in any_order(), hundredths in -1_000_000i32..1_000_000, places in 0u32..4) {
        for kind in [Kind::F32, Kind::F64] {
            let mut p = point(kind);
            p.order = order;
            p.scale = Decimal::new(1, places);
            p.offset = Decimal::new(5, 1);
            let raw = text(&format!("{}", f64::from(hundredths) / 100.0));
            let value = decode(&p, &raw).unwrap();
            prop_assert_eq!(decode(&p, &encode(&p, &value).unwrap()), Ok(value));
        }
    }

    #[test]
    fn texts_come_back(order in any_order(), wanted in "[ -~]{0,7}[!-~]") {
        let mut p = point(Kind::String { length: 8 });
        p.order = order;
        let value = Value::Text(wanted);
        prop_assert_eq!(decode(&p, &encode(&p, &value).unwrap()), Ok(value));
    }

    #[test]
    fn nothing_panics(
        kind in any_kind(), order in any_order(), scale in any::<[u8; 16]>(), offset in any::<[u8; 16]>(),
        bits in proptest::option::of(any::<(u8, u8)>()), bit in proptest::option::of(any::<u8>()),
        wire in proptest::collection::vec(any::<u16>(), 0..6), frame in ".*", number in any::<f64>(),
        near in "[-+]? ?[0-9]{0,40}([.][0-9]{0,4})?(e[0-9]{1,3})?", sentinel in any::<i128>(),
        wanted in any::<i128>(),
    ) {
        let mut p = point(kind);
        (p.order, p.bits, p.invalid) = (order, bits, vec![sentinel, 0]);
        p.address = Address::Register { area: Area::Holding, number: 0, bit };
        for (scale, offset) in [(Decimal::ONE, Decimal::ZERO), (decimal_of(scale), decimal_of(offset))] {
            (p.scale, p.offset) = (scale, offset);
            (p.min, p.max) = (Some(offset), Some(scale));
            for raw in [words(&wire), text(&frame), text(&near), Raw::Number(number), Raw::Bit(true)] {
                if let Ok(value) = decode(&p, &raw) {
                    prop_assert!(!value.to_string().contains("null"), "{:?}", value);
                    let _checked = encode(&p, &value);
                }
            }
            let wanted = [
                Value::Int(wanted), Value::F64(number), Value::Decimal(scale), Value::Text(frame.clone()),
            ];
            for value in &wanted {
                let _checked = encode(&p, value);
            }
        }
    }
}

/// Any decimal at all, the largest and the finest included.
fn decimal_of(bytes: [u8; 16]) -> Decimal {
    let mut number = Decimal::deserialize(bytes);
    let places = number.scale() % 29;
    if number.set_scale(places).is_err() {
        number = Decimal::MAX;
    }
    number
}
