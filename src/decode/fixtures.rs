//! What the tests of this module share.

use rust_decimal::Decimal;
use smallvec::SmallVec;

use crate::address::{Address, Area};
use crate::point::{Kind, Point, PointId, Raw};

/// A plain point of this type.
pub(super) fn point(kind: Kind) -> Point {
    Point {
        writable: true,
        ..Point::new(
            PointId::new("setpoint").unwrap(),
            Address::Register { area: Area::Holding, number: 40, bit: None },
            kind,
        )
    }
}

pub(super) fn dec(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

pub(super) fn words(words: &[u16]) -> Raw {
    Raw::Words(SmallVec::from_slice(words))
}

pub(super) fn text(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

/// Every type.
pub(super) fn kinds() -> Vec<Kind> {
    let named = Kind::NAMES.iter().map(|name| Kind::parse(name, 0).unwrap());
    named.chain([Kind::String { length: 5 }, Kind::String { length: 8 }]).collect()
}
