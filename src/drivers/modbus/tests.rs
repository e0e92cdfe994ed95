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

#[tokio::test(start_paused = true)]
async fn a_silent_unit_gets_no_time_for_an_answer() {
    let line = SerialLine { baud_rate: 1200, ..SerialLine::at("memory") };
    let (sender, mut others) = tokio::sync::mpsc::unbounded_channel();
    let bus = Bus::new(Access::Memory(line, sender), false, Pace::new(Duration::ZERO));
    let planner = plan::Planner::new(Cost::tcp());
    let mut driver =
        Modbus { way: Way::Bus(bus), turnaround: TURNAROUND, refusals: write::Refusals::default(), planner };
    driver.open(Instant::now() + Duration::from_secs(1)).await.unwrap();
    let _unit = others.recv().await.unwrap();
    let text = Kind::String { length: 250 };
    let device = device(125, vec![point(Area::Holding, 0, text)]);
    let request = driver.plan(&device, &[0]).remove(0);
    let begun = Instant::now();
    let answer = driver.exchange(&request, begun + Duration::from_secs(60)).await;
    assert_eq!(answer, Err(DriverError::Timeout));
    // 500 ms and the request; the answer alone would take more than two seconds.
    assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
}
