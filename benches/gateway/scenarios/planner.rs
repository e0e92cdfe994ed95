//! Ten thousand points on one link, scheduled and planned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::address::{Address, Area};
use fieldgate::config::SerialLine;
use fieldgate::drivers::modbus::Modbus;
use fieldgate::link::first_round;
use fieldgate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Reads};

use crate::Result;
use crate::figures::{Figure, Target};
use crate::gateway::Kind as Gateway;
use crate::stage::Stage;

pub(super) const ABOUT: &str = "10,000 points on one link are due and become requests: of one device with gaps in each area, \
     and of a hundred devices.\n  bare: a request for each point";

/// Points on the link.
const POINTS: u16 = 10_000;

pub(super) fn measure(_stage: &mut Stage, kind: Gateway) -> Result<Vec<Figure>> {
    let line = SerialLine { baud_rate: 9600, ..SerialLine::at("bench") };
    let one = vec![device(0, POINTS)?];
    let hundred = (0..100).map(|unit| device(unit, POINTS / 100)).collect::<Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    for (devices, time, requests) in [
        (one, "one device, ms", "one device, requests"),
        (hundred, "a hundred devices, ms", "a hundred devices, requests"),
    ] {
        let mut driver = Modbus::rtu(line.clone());
        let begun = Instant::now();
        let count = u32::try_from(match kind {
            Gateway::Fieldgate => first_round(&devices, &mut driver),
            Gateway::Bare => devices.iter().map(|device| device.points.len()).sum(),
        })?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        figures.push(Figure::aimed(time, 2, took, Target::Most(50.0)));
        figures.push(Figure::open(requests, 0, f64::from(count)));
    }
    Ok(figures)
}

/// A device whose points lie one to four places apart, a quarter of them in each area.
fn device(unit: u8, points: u16) -> Result<Arc<Device>> {
    let areas = [Area::Coil, Area::Discrete, Area::Input, Area::Holding];
    let point = |n: u16| {
        let area = *areas.get(usize::from(n % 4))?;
        let kind = if area.is_bits() { Kind::Bool } else { Kind::U16 };
        let address = Address::Register { area, number: n / 4 * 4 + (n / 4) % 3, bit: None };
        Some(Point::new(PointId::new(&format!("p{n}"))?, address, kind))
    };
    let points = (0..points).map(point).collect::<Option<Vec<_>>>().ok_or("no id")?;
    Ok(Arc::new(Device {
        id: DeviceId::new(&format!("d{unit}")).ok_or("no id")?,
        link: LinkId::new("bench").ok_or("no id")?,
        label: None,
        tags: None,
        protocol: Protocol::Modbus { unit, reads: Reads::default(), broadcast: false, read_write: false },
        poll_interval: Duration::from_secs(1),
        align: false,
        patience: Duration::from_millis(500),
        pause: Duration::ZERO,
        points,
    }))
}

/// A device with so many holding registers in a row, each a point.
pub(super) fn block(registers: u16) -> Result<Arc<Device>> {
    let mut device = Arc::unwrap_or_clone(device(1, 0)?);
    let point = |number| {
        let address = Address::Register { area: Area::Holding, number, bit: None };
        Some(Point::new(PointId::new(&format!("p{number}"))?, address, Kind::U16))
    };
    device.points = (0..registers).map(point).collect::<Option<_>>().ok_or("no id")?;
    device.patience = Duration::from_secs(5);
    Ok(Arc::new(device))
}
