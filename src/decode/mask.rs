//! Which bits of its registers a point owns.

use super::pattern::{self, Words};
use crate::address::Address;
use crate::point::{Kind, Point, Raw};

/// The bits of its registers that a point owns, in the order on the wire: who writes it leaves the others
/// alone. As long as the type's registers.
#[must_use]
pub fn mask(point: &Point) -> Words {
    let whole = match (point.kind, &point.address, point.bits) {
        (Kind::String { length }, ..) => {
            let bytes = vec![0xFF; length.into()];
            return pattern::from_bytes(point.order, &bytes, point.kind.registers());
        }
        (Kind::Bool, Address::Register { bit: Some(bit), .. }, _) => {
            1_u64.checked_shl((*bit).into()).unwrap_or(0)
        }
        (kind, _, Some((low, high))) if kind != Kind::Bool => {
            let width = u32::from(high.saturating_sub(low)) + 1;
            pattern::mask(width).checked_shl(low.into()).unwrap_or(0) & pattern::mask(pattern::width(kind))
        }
        (kind, ..) => pattern::mask(pattern::width(kind)),
    };
    pattern::to_words(point.kind, point.order, whole)
}

/// Says whether two raw answers agree in all that the point owns.
#[must_use]
pub fn is_same(point: &Point, one: &Raw, other: &Raw) -> bool {
    match (one, other) {
        (Raw::Words(one), Raw::Words(other)) => {
            let mask = mask(point);
            let differs = |((one, other), mask): ((&u16, &u16), &u16)| (one ^ other) & mask != 0;
            one.len() == other.len()
                && one.len() == mask.len()
                && !one.iter().zip(other).zip(&mask).any(differs)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Area;
    use crate::decode::{decode, encode};
    use crate::point::{Order, PointId};
    use proptest::prelude::*;
    use smallvec::SmallVec;

    const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

    fn point(kind: Kind, order: Order, bit: Option<u8>, bits: Option<(u8, u8)>) -> Point {
        let address = Address::Register { area: Area::Holding, number: 0, bit };
        Point { order, bits, ..Point::new(PointId::new("p").unwrap(), address, kind) }
    }

    #[test]
    fn the_bits_lie_where_the_order_puts_them() {
        for (kind, order, bit, bits, expected) in [
            (Kind::U16, Order::Badc, None, None, &[0xFFFF][..]),
            (Kind::U8, Order::Abcd, None, None, &[0x00FF]),
            (Kind::I8, Order::Badc, None, None, &[0xFF00]),
            (Kind::Bool, Order::Abcd, Some(3), None, &[0x0008]),
            (Kind::Bool, Order::Badc, Some(3), None, &[0x0800]),
            (Kind::U16, Order::Abcd, None, Some((4, 7)), &[0x00F0]),
            (Kind::U32, Order::Abcd, None, Some((12, 19)), &[0x000F, 0xF000]),
            (Kind::U32, Order::Cdab, None, Some((12, 19)), &[0xF000, 0x000F]),
            (Kind::U24, Order::Dcba, None, None, &[0xFFFF, 0xFF00]),
            (Kind::U64, Order::Abcd, None, None, &[0xFFFF; 4]),
            (Kind::String { length: 3 }, Order::Abcd, None, None, &[0xFFFF, 0xFF00]),
            (Kind::String { length: 3 }, Order::Badc, None, None, &[0xFFFF, 0x00FF]),
        ] {
            let expected = SmallVec::<[u16; 4]>::from_slice(expected);
            assert_eq!(mask(&point(kind, order, bit, bits)), expected, "{kind:?} {order:?} {bit:?} {bits:?}");
        }
    }

    proptest! {
        #[test]
        fn what_lies_outside_the_mask_does_not_matter_and_what_lies_inside_does(
            pick in 0_usize..7, order in prop::sample::select(ORDERS.to_vec()), low in 0_u8..16, more in 0_u8..16,
            before in any::<[u16; 2]>(), wire in any::<[u16; 2]>(),
        ) {
            let bits = (low, (low + more).min(15));
            let p = match pick {
                0 => point(Kind::Bool, order, Some(low), None),
                1 => point(Kind::U16, order, None, Some(bits)),
                2 => point(Kind::U32, order, None, Some((low, low + more))),
                3 => point(Kind::I8, order, None, None),
                4 => point(Kind::U24, order, None, None),
                5 => point(Kind::I32, order, None, None),
                _ => point(Kind::I16, order, None, None),
            };
            let count = usize::from(p.kind.registers());
            let mask = mask(&p);
            let wanted = decode(&p, &Raw::Words(wire[..count].into())).unwrap();
            let Ok(Raw::Words(field)) = encode(&p, &wanted) else { panic!("no words") };
            // Nothing outside the field is touched, and the field reads as what was wanted.
            prop_assert!(field.iter().zip(&mask).all(|(word, mask)| word & !mask == 0));
            let merged: SmallVec<[u16; 4]> =
                (0..count).map(|n| (before[n] & !mask[n]) | field[n]).collect();
            prop_assert_eq!(decode(&p, &Raw::Words(merged.clone())), Ok(wanted));
            prop_assert!(is_same(&p, &Raw::Words(merged), &Raw::Words(field)));
        }
    }
}
