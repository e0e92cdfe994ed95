//! Asks units whether they are there, and halves what they refuse until it is known what they have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::note;
use super::range::Places;
use crate::address::Area;
use crate::cli::direct::{self, Trouble};
use crate::config::LinkConfig;
use crate::drivers::modbus::{Identity, MAX_BITS, MAX_REGISTERS, Modbus};
use crate::drivers::{DriverError, modbus_of};

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Requests of one range that may stay without a good answer before the rest is left alone.
const FAILURES: u32 = 3;

/// A unit that answered.
#[derive(Debug)]
pub(super) struct Unit {
    /// Its id.
    pub(super) number: u8,
    /// How it answered, where that was no value: `exception-2`, or what was damaged.
    pub(super) answer: Option<String>,
    /// What it says of itself.
    pub(super) identity: Option<Identity>,
    /// What it has; bits are 0 and 1.
    pub(super) cells: BTreeMap<(Area, u16), u16>,
    /// What it refused, by its exception.
    pub(super) holes: BTreeMap<(Area, u16), u8>,
    /// What was not asked to the end, and why.
    pub(super) left: Vec<String>,
}

/// A link that is asked.
pub(super) struct Survey<'l> {
    files: &'l [PathBuf],
    link: &'l LinkConfig,
    driver: Modbus,
    told: Instant,
    /// It was said that the line is never quiet.
    is_noisy: bool,
}

impl<'l> Survey<'l> {
    /// Opens the link.
    pub(super) async fn open(files: &'l [PathBuf], link: &'l LinkConfig) -> Result<Self, Trouble> {
        let Some(driver) = modbus_of(link) else {
            return Err(Trouble::usage(format!("{} has no Modbus driver", direct::place(link))));
        };
        let mut survey = Self { files, link, driver, told: Instant::now(), is_noisy: false };
        survey.reopen().await?;
        Ok(survey)
    }

    /// Says now and then how far it is.
    pub(super) fn progress(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            note(&text());
        }
    }

    /// Asks one unit for one register. Whatever it answers, it is there.
    pub(super) async fn find(&mut self, unit: u8) -> Result<Option<Unit>, Trouble> {
        let answer = match self.ask(unit, (Area::Holding, 0, 1)).await? {
            Err(DriverError::Noise) => {
                if !std::mem::replace(&mut self.is_noisy, true) {
                    note(
                        "the line is never quiet, so nobody is asked: look for a unit that babbles, and at the wiring",
                    );
                }
                return Ok(None);
            }
            Err(DriverError::Lost(_)) => return Ok(None),
            Err(error) if error.is_silence() => return Ok(None),
            Ok(_) => None,
            Err(DriverError::Refused(code)) => Some(format!("exception-{code}")),
            Err(error) => Some(error.to_string()),
        };
        // Few devices know it, and what they make of it is their affair.
        let identity = self.driver.identify(unit, self.link.pause, self.link.timeout).await.ok().flatten();
        let (cells, holes, left) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Some(Unit { number: unit, answer, identity, cells, holes, left }))
    }

    /// Reads a range in blocks. A block that is refused is halved, so that a hole costs few requests.
    pub(super) async fn read(&mut self, unit: &mut Unit, places: Places) -> Result<(), Trouble> {
        let Places { area, first, last } = places;
        let most = u32::from(if area.is_bits() { MAX_BITS } else { MAX_REGISTERS });
        let end = u32::from(last) + 1;
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        let mut start = u32::from(first);
        while start < end {
            blocks.push((start, most.min(end - start)));
            start += most;
        }
        blocks.reverse();
        let mut failures = 0;
        while let Some((start, count)) = blocks.pop() {
            let (Ok(at), Ok(length)) = (u16::try_from(start), u16::try_from(count)) else {
                continue;
            };
            let name = area.name();
            self.progress(|| format!("unit {}, {name}:{at} of {name}:{first}-{last}", unit.number));
            match self.ask(unit.number, (area, at, length)).await? {
                Ok(words) => unit.cells.extend((at..=last).map(|place| (area, place)).zip(words)),
                Err(DriverError::Refused(1)) => {
                    unit.left.push(format!("{name}: the unit has no such area (exception-1)"));
                    return Ok(());
                }
                Err(DriverError::Refused(_)) if count > 1 => {
                    // At an even place, because a device may refuse half of a value.
                    let half = if count == 2 { 1 } else { (count / 2).next_multiple_of(2) };
                    blocks.extend([(start + half, count - half), (start, half)]);
                }
                Err(DriverError::Refused(code)) => {
                    unit.holes.insert((area, at), code);
                }
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES {
                        unit.left.push(format!("{name}:{at}-{last}: {error}; not asked further"));
                        return Ok(());
                    }
                    blocks.push((start, count));
                }
            }
        }
        Ok(())
    }

    /// Asks, on a fresh link where the old one was lost: some servers hang up on a unit they do not have.
    async fn ask(
        &mut self,
        unit: u8,
        place: (Area, u16, u16),
    ) -> Result<Result<Vec<u16>, DriverError>, Trouble> {
        for _ in 0..2 {
            match self.driver.read_block(unit, place, self.link.pause, self.link.timeout).await {
                Err(DriverError::Lost(_)) => self.reopen().await?,
                answer => return Ok(answer),
            }
        }
        Ok(Err(DriverError::Lost("the connection ends at each request".to_owned())))
    }

    async fn reopen(&mut self) -> Result<(), Trouble> {
        use crate::drivers::Driver as _;
        let opened = self.driver.open(Instant::now() + self.link.timeout).await;
        opened.map_err(|error| direct::lost(self.files, self.link, &error))
    }
}
