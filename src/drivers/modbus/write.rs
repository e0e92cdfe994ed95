//! Writes: a value into its registers, without touching what lies beside it, and read back.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use tokio::time::{Instant, sleep};
use tokio_modbus::{Request as Command, Response};

use super::{ACKNOWLEDGE, Answer, BUSY, Modbus, Way, foreign, plan};
use crate::address::{Address, Area};
use crate::decode::{is_same, mask};
use crate::drivers::{Driver as _, DriverError};
use crate::point::{Device, Point, Protocol, Raw};

/// Most registers in one write (Modbus Application Protocol V1.1b3, 6.12).
const MAX_WRITTEN: usize = 123;

/// Most registers written by function 23 (Modbus Application Protocol V1.1b3, 6.17).
const MAX_READ_WRITTEN: usize = 121;

/// The exception of a function that the device does not have.
const NO_FUNCTION: u8 = 1;

/// Time-outs of function 22 or 23 in a row after which the device is taken to lack it.
const SILENT: u8 = 2;

type Words = SmallVec<[u16; 4]>;

/// Which functions a unit lacks, as far as this session knows: at most four a unit.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<(u8, u8), u8>);

impl Refusals {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn lacks(&self, unit: u8, function: u8) -> bool {
        self.0.get(&(unit, function)).is_some_and(|count| *count >= SILENT)
    }

    fn learn(&mut self, unit: u8, function: u8, error: Option<&DriverError>) {
        match error {
            None => {
                self.0.remove(&(unit, function));
            }
            Some(DriverError::Refused(NO_FUNCTION)) => {
                tracing::debug!(unit, function, "the device lacks this function; another is used");
                self.0.insert((unit, function), SILENT);
            }
            // Every device has 5, 6, 15 or 16 and answers them while it is there at all.
            Some(DriverError::Timeout) if matches!(function, 22 | 23) => {
                let count = self.0.entry((unit, function)).or_default();
                *count = count.saturating_add(1);
            }
            Some(_) => {}
        }
    }
}

/// One write of one point.
struct Write<'w> {
    modbus: &'w mut Modbus,
    device: &'w Device,
    point: &'w Point,
    unit: u8,
    number: u16,
    deadline: Instant,
}

/// What came of the request that writes.
enum Written {
    /// Confirmed: what the device has is still to be asked.
    Confirmed,
    /// Under way: it may take a while.
    Acknowledged,
    /// The device says what it has now.
    Told(Words),
}

/// Writes `raw` to a point, once, and gives what the device has then. A broadcast gives `raw` itself.
pub(super) async fn write(
    modbus: &mut Modbus,
    device: &Device,
    point: &Point,
    raw: &Raw,
    deadline: Instant,
) -> Result<Raw, DriverError> {
    let Address::Register { area, number, .. } = point.address else {
        return Err(foreign());
    };
    let Protocol::Modbus { unit, .. } = device.protocol else {
        return Err(foreign());
    };
    let mut write = Write { modbus, device, point, unit, number, deadline };
    if device.is_broadcast() {
        return write.broadcast(area, raw).await;
    }
    let written = match (area, raw) {
        (Area::Coil, Raw::Bit(on)) => write.coil(*on).await,
        (Area::Holding, Raw::Words(words)) => write.words(words).await,
        _ => return Err(unwritable(point)),
    };
    let count = if area.is_bits() { 1 } else { point.kind.registers() };
    let place = (number, count);
    match written {
        Ok(Written::Told(words)) => Ok(Raw::Words(words)),
        Ok(Written::Confirmed) => write.read_back(area, place).await,
        Ok(Written::Acknowledged) => write.await_value(area, place, raw).await,
        Err(DriverError::Unconfirmed(text)) => {
            let found = write.read_back(area, place).await.ok();
            let found = found
                .map_or("what it has now cannot be read".to_owned(), |raw| format!("it has {raw:?} now"));
            Err(DriverError::Unconfirmed(format!("{text}; {found}")))
        }
        Err(error) => Err(error),
    }
}

impl Write<'_> {
    async fn coil(&mut self, on: bool) -> Result<Written, DriverError> {
        if !self.modbus.refusals.lacks(self.unit, 5) {
            match self.send(&Command::WriteSingleCoil(self.number, on), 1).await {
                Err(DriverError::Refused(NO_FUNCTION)) => {}
                result => return result,
            }
        }
        self.send(&Command::WriteMultipleCoils(self.number, vec![on].into()), 1).await
    }

    async fn words(&mut self, words: &Words) -> Result<Written, DriverError> {
        check_length(self.point, words)?;
        let mask = mask(self.point);
        if mask.iter().all(|mask| *mask == u16::MAX) {
            return self.registers(self.number, words).await;
        }
        if let Some((place, word, mask)) = single(self.number, words, &mask) {
            return self.masked(place, word, mask).await;
        }
        // Function 22 knows one register; several of them one by one would be a torn value.
        self.merged(self.number, words, &mask).await
    }

    /// Whole registers: nothing beside them is touched.
    async fn registers(&mut self, place: u16, words: &[u16]) -> Result<Written, DriverError> {
        let count = u16::try_from(words.len()).map_err(|_| unwritable(self.point))?;
        let knows_both = matches!(self.device.protocol, Protocol::Modbus { read_write: true, .. });
        let is_whole = count == self.point.kind.registers();
        if knows_both
            && is_whole
            && words.len() <= MAX_READ_WRITTEN
            && !self.modbus.refusals.lacks(self.unit, 23)
        {
            let both = Command::ReadWriteMultipleRegisters(place, count, place, words.into());
            match self.send(&both, count).await {
                Err(DriverError::Refused(NO_FUNCTION)) => {}
                result => return result,
            }
        }
        if let [word] = words
            && !self.modbus.refusals.lacks(self.unit, 6)
        {
            match self.send(&Command::WriteSingleRegister(place, *word), 1).await {
                Err(DriverError::Refused(NO_FUNCTION)) => {}
                result => return result,
            }
        }
        self.send(&Command::WriteMultipleRegisters(place, words.into()), count).await
    }

    /// Some bits of one register (Modbus Application Protocol V1.1b3, 6.16).
    async fn masked(&mut self, place: u16, word: u16, mask: u16) -> Result<Written, DriverError> {
        if !self.modbus.refusals.lacks(self.unit, 22) {
            match self.send(&Command::MaskWriteRegister(place, !mask, word & mask), 1).await {
                Err(DriverError::Refused(NO_FUNCTION)) => {}
                result => return result,
            }
        }
        self.merged(place, &[word], &[mask]).await
    }

    /// Reads, puts the bits in, writes. Nobody else writes meanwhile by this link; the device itself may.
    async fn merged(&mut self, place: u16, words: &[u16], mask: &[u16]) -> Result<Written, DriverError> {
        let count = u16::try_from(words.len()).map_err(|_| unwritable(self.point))?;
        let until = self.until();
        let Answer::Words(now) = self.modbus.read(self.device, 3, (place, count), until).await? else {
            return Err(foreign());
        };
        let merge = |((now, word), mask): ((&u16, &u16), &u16)| (now & !mask) | (word & mask);
        let merged: Words = now.iter().zip(words).zip(mask).map(merge).collect();
        self.registers(place, &merged).await
    }

    /// Sends a request that writes, once.
    async fn send(&mut self, request: &Command<'_>, count: u16) -> Result<Written, DriverError> {
        let until = self.until();
        let result = self.modbus.ask(self.device, request, (self.number, count), until).await;
        let function = request.function_code().value();
        self.modbus.refusals.learn(self.unit, function, result.as_ref().err());
        match result {
            Ok(Response::ReadWriteMultipleRegisters(words)) => Ok(Written::Told(words.into())),
            Ok(_) => Ok(Written::Confirmed),
            Err(DriverError::Refused(ACKNOWLEDGE)) => Ok(Written::Acknowledged),
            Err(error) => Err(error),
        }
    }

    async fn read_back(&mut self, area: Area, place: (u16, u16)) -> Result<Raw, DriverError> {
        let until = self.until();
        let answer = self.modbus.read(self.device, plan::read_function(area), place, until).await?;
        answer.raw(self.point, self.number).ok_or_else(foreign)
    }

    /// Reads until the device has what was written, or its time is over.
    async fn await_value(&mut self, area: Area, place: (u16, u16), raw: &Raw) -> Result<Raw, DriverError> {
        let until = self.until();
        let mut wait = BUSY;
        loop {
            sleep(wait).await;
            wait *= 2;
            let found = self.read_back(area, place).await?;
            if is_same(self.point, &found, raw) || Instant::now() + wait >= until {
                return Ok(found);
            }
        }
    }

    /// To every unit: no answer, no second try, nothing read.
    async fn broadcast(&mut self, area: Area, raw: &Raw) -> Result<Raw, DriverError> {
        let request = match (area, raw) {
            (Area::Coil, Raw::Bit(on)) => Command::WriteSingleCoil(self.number, *on),
            (Area::Holding, Raw::Words(words)) => {
                check_length(self.point, words)?;
                let mask = mask(self.point);
                match (words.as_slice(), single(self.number, words, &mask)) {
                    ([word], _) if mask.as_slice() == [u16::MAX] => {
                        Command::WriteSingleRegister(self.number, *word)
                    }
                    (words, _) if mask.iter().all(|mask| *mask == u16::MAX) => {
                        Command::WriteMultipleRegisters(self.number, words.into())
                    }
                    (_, Some((place, word, mask))) => Command::MaskWriteRegister(place, !mask, word & mask),
                    _ => return Err(unwritable(self.point)),
                }
            }
            _ => return Err(unwritable(self.point)),
        };
        let (turnaround, until) = (self.modbus.turnaround, self.until() + self.modbus.turnaround);
        match &mut self.modbus.way {
            Way::Tcp(_) => Err(foreign()),
            Way::Bus(bus) => bus
                .broadcast(&request, self.device.pause, turnaround, until.min(self.deadline))
                .await
                .map(|()| raw.clone()),
        }
    }

    /// When the next request has to be answered.
    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + self.device.patience + self.modbus.overhead(self.device))
    }
}

/// The one register of which bits are written, with those bits.
fn single(number: u16, words: &[u16], mask: &[u16]) -> Option<(u16, u16, u16)> {
    let mut touched = (number..=u16::MAX).zip(words).zip(mask).filter(|(_, mask)| **mask != 0);
    let ((place, word), mask) = touched.next()?;
    touched.next().is_none().then_some((place, *word, *mask))
}

fn check_length(point: &Point, words: &[u16]) -> Result<(), DriverError> {
    let fits = (1..=MAX_WRITTEN).contains(&words.len()) && words.len() == usize::from(point.kind.registers());
    if fits { Ok(()) } else { Err(unwritable(point)) }
}

fn unwritable(point: &Point) -> DriverError {
    DriverError::Malformed(format!("no Modbus write fits {} ({})", point.address, point.kind.name()))
}
