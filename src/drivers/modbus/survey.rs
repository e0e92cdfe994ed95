//! Asks units of which nothing is configured: for who looks what there is on a line.

use std::time::Duration;

use tokio::time::Instant;
use tokio_modbus::bytes::Bytes;
use tokio_modbus::{Request as Command, Response};

use super::answer::Question;
use super::{Answer, Modbus, Way, answer, foreign, plan};
use crate::address::Area;
use crate::drivers::DriverError;

/// Most registers in one read.
pub const MAX_REGISTERS: u16 = plan::MAX_REGISTERS;
/// Most coils or discrete inputs in one read.
pub const MAX_BITS: u16 = plan::MAX_BITS;

/// Function 43 with MEI type 14 asks for the basic category, from its first object on (Modbus Application Protocol
/// V1.1b3, 6.21). As bytes, because tokio-modbus keeps the word for the category to itself.
const IDENTIFY: [u8; 4] = [43, 14, 1, 0];

/// Longest text of an identification that is kept, in characters.
const LONGEST_TEXT: usize = 64;

/// What a unit says of itself (Modbus Application Protocol V1.1b3, 6.21: the basic category).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Which revision.
    pub revision: String,
}

impl Modbus {
    /// Reads `count` places of a unit, bits as 0 and 1. `pause`: the rest of the link before it; `patience`: how long the
    /// unit may take to begin to answer.
    pub async fn read_block(
        &mut self,
        unit: u8,
        (area, start, count): (Area, u16, u16),
        pause: Duration,
        patience: Duration,
    ) -> Result<Vec<u16>, DriverError> {
        let request = answer::read(plan::read_function(area), start, count).ok_or_else(foreign)?;
        let question = Question { unit, request: &request, place: (start, count), pause, patience };
        let response = self.put_alone(question).await?;
        let mut words = match Answer::of(response).ok_or_else(foreign)? {
            Answer::Bits(bits) => bits.into_iter().map(u16::from).collect(),
            Answer::Words(words) => words,
        };
        // Bits come in whole bytes.
        words.truncate(count.into());
        Ok(words)
    }

    /// Puts a question that nothing but its own time bounds.
    async fn put_alone(&mut self, question: Question<'_>) -> Result<Response, DriverError> {
        let limit = question.patience + question.pause + self.way.overhead();
        self.put(question, Instant::now() + limit).await
    }

    /// How long a unit that is silent is asked and waited for, before the next one can be.
    #[must_use]
    pub fn time_of_silence(&self, pause: Duration, patience: Duration) -> Duration {
        match &self.way {
            // The connection is made anew.
            Way::Tcp(tcp) => patience + pause.max(tcp.overhead()),
            Way::Bus(bus) => bus.time_of_silence(pause, patience),
        }
    }

    /// What a unit says of itself. `None`: this transport is not asked. On a bus the length of this answer is not known
    /// beforehand, and so a late one could not be told from another.
    pub async fn identify(
        &mut self,
        unit: u8,
        pause: Duration,
        patience: Duration,
    ) -> Result<Option<Identity>, DriverError> {
        if !matches!(self.way, Way::Tcp(_)) {
            return Ok(None);
        }
        let request = Command::try_from(Bytes::from_static(&IDENTIFY)).map_err(|_| foreign())?;
        let question = Question { unit, request: &request, place: (0, 0), pause, patience };
        let response = self.put_alone(question).await?;
        let Response::ReadDeviceIdentification(response) = response else {
            return Err(foreign());
        };
        let text = |id: u8| {
            let object = response.device_id_objects.iter().find(|object| object.id == id);
            let text = object.map(|object| String::from_utf8_lossy(&object.value)).unwrap_or_default();
            let clean = text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT);
            clean.collect::<String>().trim().to_owned()
        };
        Ok(Some(Identity { vendor: text(0), product: text(1), revision: text(2) }))
    }
}
