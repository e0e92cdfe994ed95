use super::*;
use crate::address::Area;
use crate::point::{DeviceId, Kind, LinkId, PointId, Reads};

/// A device with these points, for the tests of this folder.
pub(super) fn device(max_registers: u16, points: Vec<Point>) -> Arc<Device> {
    Arc::new(Device {
        id: DeviceId::new("device").unwrap(),
        link: LinkId::new("link").unwrap(),
        label: None,
        tags: None,
        protocol: Protocol::Modbus {
            unit: 1,
            reads: Reads { max_registers, ..Reads::default() },
            broadcast: false,
            read_write: false,
        },
        poll_interval: Duration::from_secs(1),
        align: false,
        patience: Duration::from_millis(500),
        pause: Duration::ZERO,
        points,
    })
}

/// A plain point, for the tests of this folder.
pub(super) fn point(area: Area, number: u16, kind: Kind) -> Point {
    Point {
        writable: true,
        ..Point::new(PointId::new("point").unwrap(), Address::Register { area, number, bit: None }, kind)
    }
}

#[test]
fn a_point_gets_its_own_words_or_nothing() {
    let words = Answer::Words(vec![1, 2, 3]);
    let raw = |number, kind| words.raw(&point(Area::Holding, number, kind), 10);
    assert_eq!(raw(11, Kind::U32), Some(Raw::Words(SmallVec::from_slice(&[2, 3]))));
    assert_eq!(raw(12, Kind::U32), None);
    assert_eq!(raw(9, Kind::U16), None);
    let bits = Answer::Bits(vec![false, true]);
    assert_eq!(bits.raw(&point(Area::Coil, 11, Kind::Bool), 10), Some(Raw::Bit(true)));
}
