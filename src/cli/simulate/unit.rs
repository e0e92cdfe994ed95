//! Modbus units: tables of cells, some of which move.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_modbus::{ExceptionCode, Request, Response};

use super::wave::{self, Wave};
use crate::address::{Address, Area};
use crate::decode::{encode, mask};
use crate::point::{Point, Raw, Value};

/// Most registers and most bits of one read (Modbus Application Protocol V1.1b3, 6.1 and 6.3).
const MOST_REGISTERS: u16 = 125;
const MOST_BITS: u16 = 2000;

/// Values move at most this often; more would be work that nobody sees.
const MOVE_EVERY: Duration = Duration::from_millis(50);

/// One fake device.
#[derive(Debug)]
pub(super) struct Unit {
    /// What exists; a coil is 0 or 1.
    cells: BTreeMap<(Area, u16), u16>,
    moving: Vec<Moving>,
    start: Instant,
    moved: Option<Instant>,
}

#[derive(Debug)]
struct Moving {
    point: Point,
    mask: Vec<u16>,
    wave: Wave,
}

impl Unit {
    /// Every point's cells exist; those that cannot be written move.
    pub(super) fn new(points: &[Point]) -> Self {
        let mut unit =
            Self { cells: BTreeMap::new(), moving: Vec::new(), start: Instant::now(), moved: None };
        for (index, point) in points.iter().enumerate() {
            let Address::Register { area, number, .. } = point.address else {
                continue;
            };
            let count = if area.is_bits() { 1 } else { point.kind.registers() };
            for place in number..=number.saturating_add(count.saturating_sub(1)) {
                unit.cells.entry((area, place)).or_default();
            }
            let mask = mask(point).to_vec();
            if !point.writable {
                let wave = Wave::new(point, index);
                unit.moving.push(Moving { point: point.clone(), mask, wave });
            } else if let Some(value) = wave::initial(point) {
                put(&mut unit.cells, point, &mask, &value);
            }
        }
        unit
    }

    fn step(&mut self) {
        let now = Instant::now();
        if self.moved.is_some_and(|moved| now - moved < MOVE_EVERY) {
            return;
        }
        self.moved = Some(now);
        let age = now - self.start;
        for Moving { point, mask, wave } in &self.moving {
            if let Some(value) = wave.at(age) {
                put(&mut self.cells, point, mask, &value);
            }
        }
    }

    fn read(&mut self, area: Area, start: u16, count: u16, most: u16) -> Result<Vec<u16>, ExceptionCode> {
        if !(1..=most).contains(&count) {
            return Err(ExceptionCode::IllegalDataValue);
        }
        self.step();
        let cell = |offset| {
            let place = start.checked_add(offset)?;
            self.cells.get(&(area, place)).copied()
        };
        let cells: Option<Vec<u16>> = (0..count).map(cell).collect();
        cells.ok_or(ExceptionCode::IllegalDataAddress)
    }

    fn write(&mut self, area: Area, start: u16, cells: &[u16]) -> Result<(), ExceptionCode> {
        let end = usize::from(start) + cells.len();
        let places: Vec<(Area, u16)> =
            (usize::from(start)..end).filter_map(|place| Some((area, u16::try_from(place).ok()?))).collect();
        // All of them or none, as a device does it.
        if places.len() != cells.len() || !places.iter().all(|place| self.cells.contains_key(place)) {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        self.cells.extend(places.into_iter().zip(cells.iter().copied()));
        Ok(())
    }

    /// Answers functions 1 to 6, 15, 16, 22 and 23; what does not exist is exception 2.
    pub(super) fn answer(&mut self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        let bits = |cells: Vec<u16>| cells.into_iter().map(|cell| cell != 0).collect();
        let quantity = |count: usize| u16::try_from(count).map_err(|_| ExceptionCode::IllegalDataValue);
        Ok(match request {
            Request::ReadCoils(start, count) => {
                Response::ReadCoils(bits(self.read(Area::Coil, *start, *count, MOST_BITS)?))
            }
            Request::ReadDiscreteInputs(start, count) => {
                Response::ReadDiscreteInputs(bits(self.read(Area::Discrete, *start, *count, MOST_BITS)?))
            }
            Request::ReadInputRegisters(start, count) => {
                Response::ReadInputRegisters(self.read(Area::Input, *start, *count, MOST_REGISTERS)?)
            }
            Request::ReadHoldingRegisters(start, count) => {
                Response::ReadHoldingRegisters(self.read(Area::Holding, *start, *count, MOST_REGISTERS)?)
            }
            Request::WriteSingleCoil(place, on) => {
                self.write(Area::Coil, *place, &[u16::from(*on)])?;
                Response::WriteSingleCoil(*place, *on)
            }
            Request::WriteMultipleCoils(start, coils) => {
                let cells: Vec<u16> = coils.iter().map(|on| u16::from(*on)).collect();
                self.write(Area::Coil, *start, &cells)?;
                Response::WriteMultipleCoils(*start, quantity(cells.len())?)
            }
            Request::WriteSingleRegister(place, word) => {
                self.write(Area::Holding, *place, &[*word])?;
                Response::WriteSingleRegister(*place, *word)
            }
            Request::WriteMultipleRegisters(start, words) => {
                self.write(Area::Holding, *start, words)?;
                Response::WriteMultipleRegisters(*start, quantity(words.len())?)
            }
            Request::MaskWriteRegister(place, and, or) => {
                let [word] = self.read(Area::Holding, *place, 1, 1)?[..] else {
                    return Err(ExceptionCode::IllegalDataAddress);
                };
                self.write(Area::Holding, *place, &[(word & and) | (or & !and)])?;
                Response::MaskWriteRegister(*place, *and, *or)
            }
            Request::ReadWriteMultipleRegisters(start, count, place, words) => {
                self.write(Area::Holding, *place, words)?;
                let words = self.read(Area::Holding, *start, *count, MOST_REGISTERS)?;
                Response::ReadWriteMultipleRegisters(words)
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        })
    }
}

/// Puts a value into its cells, and leaves the bits alone that are not its own.
fn put(cells: &mut BTreeMap<(Area, u16), u16>, point: &Point, mask: &[u16], value: &Value) {
    let Address::Register { area, number, .. } = point.address else {
        return;
    };
    let words: Vec<u16> = match encode(point, value) {
        Ok(Raw::Bit(on)) => vec![on.into()],
        Ok(Raw::Words(words)) => words.to_vec(),
        // A sentinel in the middle of the range: the value before stays.
        Ok(_) | Err(_) => return,
    };
    for ((place, word), mask) in (number..=u16::MAX).zip(words).zip(mask) {
        if let Some(cell) = cells.get_mut(&(area, place)) {
            *cell = (*cell & !mask) | (word & mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::point::{Kind, Order, PointId};
    use rust_decimal::Decimal;

    fn point(kind: Kind, number: u16, bit: Option<u8>, bits: Option<(u8, u8)>) -> Point {
        Point {
            bits,
            ..Point::new(
                PointId::new("p").unwrap(),
                Address::Register { area: Area::Holding, number, bit },
                kind,
            )
        }
    }

    #[test]
    fn points_of_one_register_leave_each_other_alone() {
        for order in [Order::Abcd, Order::Badc] {
            let mut points = [
                point(Kind::Bool, 7, Some(3), None),
                point(Kind::U16, 7, None, Some((4, 7))),
                point(Kind::U16, 7, None, Some((8, 15))),
                point(Kind::Bool, 7, Some(0), None),
            ];
            for point in &mut points {
                point.order = order;
            }
            let values = [Value::Bool(true), Value::Int(5), Value::Int(0xA5), Value::Bool(false)];
            let mut unit = Unit::new(&points);
            for (point, value) in points.iter().zip(&values) {
                put(&mut unit.cells, point, &mask(point), value);
            }
            let cell = unit.cells[&(Area::Holding, 7)];
            for (point, value) in points.iter().zip(values) {
                let raw = Raw::Words([cell].as_slice().into());
                assert_eq!(decode(point, &raw), Ok(value), "{order:?} {cell:#x}");
            }
        }
    }

    #[test]
    fn a_writable_point_begins_inside_its_limits() {
        let mut setpoint = point(Kind::I16, 40, None, None);
        setpoint.writable = true;
        setpoint.scale = Decimal::new(1, 1);
        (setpoint.min, setpoint.max) = (Some(20.into()), Some(75.into()));
        let mut unit = Unit::new(&[setpoint]);
        let cells = unit.read(Area::Holding, 40, 1, MOST_REGISTERS);
        assert_eq!(cells, Ok(vec![475]));
    }
}
