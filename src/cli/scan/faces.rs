//! What a register may mean: itself and its neighbours in every type and order. Pure.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::address::{Address, Area};
use crate::decode::decode;
use crate::point::{Kind, Order, Point, PointId, Raw, Value};

/// Greatest number that makes sense without knowing more: of 32 bits, and of 64.
const GREATEST: [f64; 2] = [1e9, 1e12];
/// Least float that does, 0 apart.
const LEAST: f64 = 1e-4;
/// Longest text that is looked for, in registers.
const LONGEST_TEXT: u16 = 32;

/// One reading of registers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Face {
    /// The types that read the same.
    pub(super) kinds: Vec<Kind>,
    pub(super) order: Order,
    /// Which bit, of a `bool`.
    pub(super) bit: Option<u8>,
    pub(super) value: Value,
}

impl Face {
    /// The line for the configuration. It names the order of registers always: a device may have one of its own, which
    /// would count for a line that says nothing.
    pub(super) fn line(&self, area: Area, number: u16) -> String {
        let kind = self.kinds.first().copied().unwrap_or(Kind::U16);
        let name = area.name();
        let mut id = format!("{name}_{number}");
        let mut more = String::new();
        if let Kind::String { length } = kind {
            more = format!(", length = {length}");
        }
        if !area.is_bits() {
            more = format!("{more}, order = \"{}\"", name_of(self.order));
        }
        if let Some(bit) = self.bit {
            id = format!("{id}_bit{bit}");
            more = format!("{more}, bit = {bit}");
        }
        format!("{id} = {{ address = \"{name}:{number}\", type = \"{}\"{more} }}", kind.name())
    }
}

/// The order, as the configuration spells it.
pub(super) fn name_of(order: Order) -> &'static str {
    match order {
        Order::Abcd => "ABCD",
        Order::Cdab => "CDAB",
        Order::Badc => "BADC",
        Order::Dcba => "DCBA",
    }
}

const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

/// What lies at a place, from `cells`, in every type and order; without `all` those that make sense.
pub(super) fn faces(cells: &BTreeMap<(Area, u16), u16>, (area, number): (Area, u16), all: bool) -> Vec<Face> {
    let at = |offset: u16| cells.get(&(area, number.checked_add(offset)?)).copied();
    let Some(word) = at(0) else {
        return Vec::new();
    };
    if area.is_bits() {
        let value = Value::Bool(word != 0);
        return vec![Face { kinds: vec![Kind::Bool], order: Order::Abcd, bit: None, value }];
    }
    let mut faces: Vec<Face> = Vec::new();
    let groups: [&[Kind]; 3] = [
        &[Kind::U16, Kind::I16, Kind::Bcd16, Kind::U8, Kind::I8],
        &[Kind::U32, Kind::I32, Kind::F32, Kind::Bcd32, Kind::U24, Kind::I24],
        &[Kind::U64, Kind::I64, Kind::F64],
    ];
    for kinds in groups {
        let registers = kinds.first().map_or(1, |kind| kind.registers());
        let words: Option<SmallVec<[u16; 4]>> = (0..registers).map(at).collect();
        let Some(words) = words else {
            break;
        };
        for order in ORDERS {
            // One register has no words to reverse.
            if registers == 1 && order.reverses_words() {
                continue;
            }
            let first = faces.len();
            for &kind in kinds {
                let Some(value) = read(area, number, kind, order, &words) else {
                    continue;
                };
                if !all && !is_plausible(kind, order, &value, &words) {
                    continue;
                }
                let same = faces.iter_mut().skip(first).find(|face| face.value == value);
                match same {
                    Some(face) => face.kinds.push(kind),
                    None => faces.push(Face { kinds: vec![kind], order, bit: None, value }),
                }
            }
        }
    }
    faces.extend(texts(cells, (area, number)));
    let set = |bit: &u8| word >> bit & 1 == 1;
    let bits = (0..16).filter(|bit| all || set(bit));
    faces.extend(bits.map(|bit| Face {
        kinds: vec![Kind::Bool],
        order: Order::Abcd,
        bit: Some(bit),
        value: Value::Bool(set(&bit)),
    }));
    faces
}

fn read(area: Area, number: u16, kind: Kind, order: Order, words: &[u16]) -> Option<Value> {
    let address = Address::Register { area, number, bit: None };
    let point = Point { order, ..Point::new(PointId::new("it")?, address, kind) };
    decode(&point, &Raw::Words(SmallVec::from_slice(words))).ok()
}

fn is_plausible(kind: Kind, order: Order, value: &Value, words: &[u16]) -> bool {
    let number = match value {
        Value::Int(number) => number.to_string().parse().unwrap_or(f64::INFINITY),
        Value::F32(number) => f64::from(*number),
        Value::F64(number) => *number,
        Value::Bool(_) | Value::Decimal(_) | Value::Text(_) => return false,
    };
    let is_float = matches!(kind, Kind::F32 | Kind::F64);
    match kind {
        Kind::U16 | Kind::I16 => order == Order::Abcd,
        // Below ten it is the number itself.
        Kind::Bcd16 => order == Order::Abcd && number >= 10.0,
        Kind::Bcd32 => number >= 10_000.0,
        Kind::U8 | Kind::I8 | Kind::U24 | Kind::I24 => false,
        // Of four zeros nothing can be said, and what stands in the first or last word alone is seen there.
        _ if words.iter().all(|word| *word == 0) => false,
        _ => {
            let [short, long] = GREATEST;
            let greatest = if words.len() > 2 { long } else { short };
            number.abs() < greatest && (!is_float || number.abs() >= LEAST)
        }
    }
}

/// The texts that begin here: the register before holds none.
fn texts(cells: &BTreeMap<(Area, u16), u16>, (area, number): (Area, u16)) -> Vec<Face> {
    let text_at = |number: u16| cells.get(&(area, number)).is_some_and(|word| is_text(*word));
    if number.checked_sub(1).is_some_and(text_at) || !text_at(number) {
        return Vec::new();
    }
    let words = (0..LONGEST_TEXT).map_while(|offset| {
        cells.get(&(area, number.checked_add(offset)?)).copied().filter(|word| is_text(*word))
    });
    let words: Vec<u16> = words.collect();
    if words.len() < 2 {
        return Vec::new();
    }
    let length = u16::try_from(words.len() * 2).unwrap_or(u16::MAX);
    let kind = Kind::String { length };
    let face = |order: Order| {
        let value = read(area, number, kind, order, &words)?;
        let is_whole =
            matches!(&value, Value::Text(text) if text.len() + 2 > usize::from(length) && text.is_ascii());
        is_whole.then_some(Face { kinds: vec![kind], order, bit: None, value })
    };
    [Order::Abcd, Order::Badc].into_iter().filter_map(face).collect()
}

/// Two printable characters, or one and the NUL that ends or fills.
fn is_text(word: u16) -> bool {
    let printable = |byte: u8| (0x20..0x7F).contains(&byte);
    match word.to_be_bytes() {
        [0, 0] => false,
        [first, second] => (printable(first) || first == 0) && (printable(second) || second == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(words: &[u16]) -> BTreeMap<(Area, u16), u16> {
        words.iter().zip(10..).map(|(word, number)| ((Area::Holding, number), *word)).collect()
    }

    fn shown(words: &[u16], all: bool) -> Vec<String> {
        let faces = faces(&cells(words), (Area::Holding, 10), all);
        let shown = |face: &Face| {
            let kinds: Vec<_> = face.kinds.iter().map(|kind| kind.name()).collect();
            format!("{} {} {}", kinds.join("|"), name_of(face.order), face.value)
        };
        faces.iter().map(shown).collect()
    }

    #[test]
    fn every_width_and_order_is_shown() {
        let of = |words: &[u16]| shown(words, false);
        assert!(of(&[550]).starts_with(&["u16|i16 ABCD 550".to_owned(), "bcd16 ABCD 226".to_owned()]));
        assert!(of(&[0xFFFE]).contains(&"i16 ABCD -2".to_owned()));
        // 12.34 as f32 is 0x414570A4.
        for (words, order) in [
            ([0x4145, 0x70A4], "ABCD"),
            ([0x70A4, 0x4145], "CDAB"),
            ([0x4541, 0xA470], "BADC"),
            ([0xA470, 0x4541], "DCBA"),
        ] {
            let found = of(&words);
            assert!(found.contains(&format!("f32 {order} 12.34")), "{found:?}");
        }
        let long = of(&[0, 0, 1, 0]);
        assert!(long.contains(&"u64|i64 ABCD 65536".to_owned()), "{long:?}");
        let text = of(&[0x6E61, 0x6D65]);
        assert!(
            text.contains(&"string ABCD \"name\"".to_owned())
                && text.contains(&"string BADC \"anem\"".to_owned())
        );
        assert!(of(&[0b101]).ends_with(&["bool ABCD true".to_owned(), "bool ABCD true".to_owned()]));
    }

    #[test]
    fn all_leaves_out_only_what_is_no_value() {
        // 0xFFFF is no BCD, and as a float it is a NaN in every order of two such words.
        let kinds = shown(&[0xFFFF, 0xFFFF], true);
        assert!(!kinds.iter().any(|shown| shown.contains("bcd") || shown.contains("f32")), "{kinds:?}");
        for part in ["u16 ABCD 65535", "u16 BADC", "u8 ABCD 255", "u32 DCBA 4294967295", "i24"] {
            assert!(kinds.iter().any(|shown| shown.contains(part)), "{part}: {kinds:?}");
        }
    }

    #[test]
    fn the_line_is_that_of_the_configuration() {
        let face = |kind, order, bit| Face { kinds: vec![kind], order, bit, value: Value::Bool(true) };
        let line = |face: Face| face.line(Area::Holding, 40);
        let plain = line(face(Kind::U16, Order::Abcd, None));
        assert_eq!(plain, "holding_40 = { address = \"holding:40\", type = \"u16\", order = \"ABCD\" }");
        let text = line(face(Kind::String { length: 8 }, Order::Badc, None));
        assert!(text.ends_with("type = \"string\", length = 8, order = \"BADC\" }"), "{text}");
        let bit = line(face(Kind::Bool, Order::Abcd, Some(3)));
        assert!(
            bit.starts_with("holding_40_bit3 = {") && bit.ends_with("order = \"ABCD\", bit = 3 }"),
            "{bit}"
        );
        let coil = face(Kind::Bool, Order::Abcd, None).line(Area::Coil, 4);
        assert_eq!(coil, "coil_4 = { address = \"coil:4\", type = \"bool\" }");
    }
}
