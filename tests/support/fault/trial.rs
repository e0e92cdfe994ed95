//! Reads and writes at random through a driver, and judges every value by what its register must say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use fieldgate::address::{Address, Area};
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, DeviceId, Kind, LinkId, Point, PointId, Protocol, Raw, Reads};
use tokio::time::Instant;

use super::{Fault, Shared, unit};

/// What is read, as function and count: few sizes, so that a late answer often looks like the awaited one.
const READS: [(u8, u16); 8] = [(3, 125), (3, 125), (4, 125), (3, 60), (4, 60), (3, 2), (3, 1), (1, 20)];

/// Where: on an echoing line, a request at 0x300 looks like an answer with three bytes of data.
const STARTS: [u16; 6] = [0, 7, 0x100, 0x300, 0x301, 0x500];

/// Units asked.
const UNITS: [u8; 3] = [1, 2, 3];

/// One of so many requests is a write.
const WRITES: usize = 20;

/// What came of a trial.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Requests and those that brought what they should.
    pub asked: usize,
    pub answered: usize,
    /// Register values that are right.
    pub good: usize,
    /// What is wrong; empty, or the gateway lies.
    pub wrong: Vec<String>,
    /// Requests by how they failed.
    pub failed: BTreeMap<&'static str, usize>,
}

impl Verdict {
    /// Requests that brought what they should, of a hundred.
    pub fn share(&self) -> usize {
        self.answered * 100 / self.asked.max(1)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, answered, good, wrong, failed } = self;
        write!(
            out,
            "{answered} of {asked} requests brought {good} values, {failed:?}, {} wrong",
            wrong.len()
        )?;
        wrong.iter().take(10).try_for_each(|wrong| write!(out, "\n  {wrong}"))
    }
}

/// A device that is asked for some of its places, all at once.
struct Target {
    device: Arc<Device>,
    unit: u8,
    function: u8,
    start: u16,
}

/// Asks until so many register values are right, one is wrong, or it is clear that there will not be so many.
pub async fn run(
    driver: &mut dyn Driver,
    faults: &Shared,
    patience: Duration,
    values: usize,
    seed: u64,
) -> Verdict {
    let mut dice = Rng::with_seed(seed);
    let targets = targets(patience);
    let mut verdict = Verdict::default();
    // On average an answer has fifty registers.
    while verdict.good < values && verdict.wrong.is_empty() && verdict.asked < values / 10 + 100 {
        let target = dice.choice(&targets).unwrap();
        let believed = faults.done(Fault::WrongEcho);
        verdict.asked += 1;
        let result = if target.function == 3 && dice.usize(..WRITES) == 0 {
            let result = write(driver, target, dice.usize(..target.device.points.len())).await;
            if result.is_ok() && faults.done(Fault::WrongEcho) > believed {
                verdict
                    .wrong
                    .push("a write was confirmed for another place, and that was believed".to_owned());
            }
            result
        } else {
            read(driver, target, patience).await
        };
        match result {
            Ok(found) => {
                let wrong = found.iter().filter_map(|(place, raw)| target.judge(*place, raw));
                let before = verdict.wrong.len();
                verdict.wrong.extend(wrong);
                if verdict.wrong.len() == before {
                    verdict.answered += 1;
                    verdict.good += if target.function <= 2 { 0 } else { found.len() };
                }
            }
            Err(error) => {
                if matches!(error, DriverError::Lost(_)) {
                    // The session would do that; it may have to wait for it.
                    driver.open(Instant::now() + patience).await.ok();
                }
                *verdict.failed.entry(name(&error)).or_default() += 1;
            }
        }
    }
    verdict
}

/// One read.
pub async fn once(driver: &mut dyn Driver, patience: Duration) -> Result<(), DriverError> {
    read(driver, &targets(patience)[0], patience).await.map(drop)
}

/// How many requests it takes until ten in a row are answered, once nothing is disturbed any more.
pub async fn recovery(driver: &mut dyn Driver, faults: &Shared, patience: Duration) -> usize {
    faults.set(&[]);
    let targets = targets(patience);
    let mut row = 0;
    for asked in 1..=200 {
        match read(driver, &targets[asked % targets.len()], patience).await {
            Ok(_) => row += 1,
            Err(error) => {
                row = 0;
                if matches!(error, DriverError::Lost(_)) {
                    driver.open(Instant::now() + patience).await.ok();
                }
            }
        }
        if row == 10 {
            return asked - 10;
        }
    }
    panic!("good values do not come back")
}

async fn read(
    driver: &mut dyn Driver,
    target: &Target,
    patience: Duration,
) -> Result<Vec<(u16, Raw)>, DriverError> {
    let due: Vec<usize> = (0..target.device.points.len()).collect();
    let mut found = Vec::new();
    for request in driver.plan(&target.device, &due) {
        for sample in driver.exchange(&request, Instant::now() + patience).await? {
            let raw = sample.raw.map_err(|reason| DriverError::Malformed(format!("{reason:?}")))?;
            found.push((target.start + u16::try_from(sample.point).unwrap(), raw));
        }
    }
    assert_eq!(found.len(), due.len(), "a sample for each point");
    Ok(found)
}

async fn write(
    driver: &mut dyn Driver,
    target: &Target,
    point: usize,
) -> Result<Vec<(u16, Raw)>, DriverError> {
    let place = target.start + u16::try_from(point).unwrap();
    let raw = Raw::Words([unit::word(target.unit, 3, place)].into_iter().collect());
    let limit = Instant::now() + target.device.patience * 4;
    let found = driver.write(&target.device, point, &raw, limit).await?;
    Ok(vec![(place, found)])
}

impl Target {
    fn judge(&self, place: u16, raw: &Raw) -> Option<String> {
        let is_right = match raw {
            Raw::Bit(bit) => *bit == unit::bit(self.unit, place),
            Raw::Words(words) => words.as_slice() == [unit::word(self.unit, self.function, place)],
            _ => false,
        };
        let Self { unit, function, .. } = self;
        (!is_right).then(|| format!("unit {unit} function {function} place {place:#x}: {raw:x?}"))
    }
}

/// What a device of others has to have for a trial, for `tests/peers/modbus_device.py`.
pub fn described() -> serde_json::Value {
    unit::described(3, &[0, 0x100, 0x300, 0x500], 0xA0)
}

fn targets(patience: Duration) -> Vec<Target> {
    let mut targets = Vec::new();
    for unit in UNITS {
        for (function, count) in READS {
            for start in STARTS {
                let device = Arc::new(device(unit, function, start, count, patience));
                targets.push(Target { device, unit, function, start });
            }
        }
    }
    targets
}

fn device(unit: u8, function: u8, start: u16, count: u16, patience: Duration) -> Device {
    let (area, kind) = match function {
        1 => (Area::Coil, Kind::Bool),
        3 => (Area::Holding, Kind::U16),
        _ => (Area::Input, Kind::U16),
    };
    let point = |number: u16| Point {
        writable: function == 3,
        ..Point::new(
            PointId::new(&format!("p{number}")).unwrap(),
            Address::Register { area, number, bit: None },
            kind,
        )
    };
    Device {
        id: DeviceId::new("device").unwrap(),
        link: LinkId::new("link").unwrap(),
        label: None,
        tags: None,
        protocol: Protocol::Modbus { unit, reads: Reads::default(), broadcast: false, read_write: false },
        poll_interval: Duration::from_secs(1),
        align: false,
        patience,
        pause: Duration::ZERO,
        points: (start..start + count).map(point).collect(),
    }
}

fn name(error: &DriverError) -> &'static str {
    match error {
        DriverError::Timeout => "timeout",
        DriverError::Refused(_) => "refused",
        DriverError::Malformed(_) => "malformed",
        DriverError::Unconfirmed(_) => "unconfirmed",
        DriverError::Noise => "noise",
        DriverError::Lost(_) => "lost",
    }
}
