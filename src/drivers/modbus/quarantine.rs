//! Keeps a late answer from becoming the value of another point.
//!
//! An RTU answer carries no id: after a time-out, the late answer looks like the answer to the next request.
//! Two facts tell them apart: a unit answers in the order it was asked, and an answer has a shape (unit,
//! function, bytes). So all that was asked and not answered is kept, in order, and what arrives belongs to the
//! first of them that it fits. If that is the newest, it is the answer; otherwise it is late and is skipped.
//! A request whose shape an unanswered one has may not go out: a probe of another shape goes first, and
//! what arrives for the probe proves that nothing older is still to come.

use super::answer::Shape;

/// Time-outs without a frame of the unit after which nothing is expected from it any more.
pub(super) const SILENCE: u8 = 10;

/// Most unanswered requests kept for a unit. Silence alone makes no more than [`SILENCE`]; a unit that
/// keeps saying what nobody asked is only listened to once it has this many.
pub(super) const MAX_UNANSWERED: usize = 16;

/// What was asked and not answered, for every unit that owes an answer; at most 256 units.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    units: Vec<Debt>,
}

/// What one unit owes.
#[derive(Debug)]
struct Debt {
    unit: u8,
    /// In the order asked.
    unanswered: Vec<Shape>,
    /// Time-outs in a row without a frame of this unit.
    silent: u8,
    /// Probes sent since the last answer.
    probes: u8,
    /// Since the last answer, something came that was none.
    confused: bool,
}

/// What has to happen before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Send,
    /// This read, whose answer nobody uses: function and count, at the place of the request.
    Probe { function: u8, count: u16 },
    /// The unit has so many unanswered requests that it must fall silent first.
    Listen,
}

/// To what an arrived frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// To the newest request.
    Answer,
    /// To an earlier one, whose time is over.
    Late,
    /// To none, though the newest request has this unit and function: an answer of the wrong size.
    WrongSize,
    /// To none.
    Foreign,
}

impl Quarantine {
    /// Says whether a request of that shape may go out. `count` is what it reads or writes.
    pub(super) fn before(&self, shape: Shape, count: u16) -> Before {
        let Some(unit) = self.unit(shape.unit) else {
            return Before::Send;
        };
        #[cfg(feature = "mutant")]
        if crate::mutant::is("no-quarantine") {
            return Before::Send;
        }
        if unit.unanswered.len() >= MAX_UNANSWERED {
            return Before::Listen;
        }
        if !unit.unanswered.contains(&shape) {
            return Before::Send;
        }
        let (same, other) = match shape.function {
            1 | 5 | 15 => (1, 2),
            2 => (2, 1),
            4 => (4, 3),
            _ => (3, 4),
        };
        // A unit that does not know the place answers the probe with an exception, and an exception may belong
        // to any unanswered request of its function: so another function has its turn too, and once such an
        // exception came, one that nothing unanswered has. A silent unit gets the same two probes again and
        // again (nobody uses what they bring), which leaves it those functions.
        let fresh = |function: &u8| unit.unanswered.iter().all(|s| s.function != *function);
        let fresh = (1..=4).find(fresh).filter(|_| unit.confused);
        let function = fresh.unwrap_or(if unit.probes % 2 == 0 { same } else { other });
        // Bits come in bytes of eight, so fewer than eight more or less would look the same.
        let step = if function <= 2 { 8 } else { 1 };
        let count = if function == shape.function {
            if count > step { count - step } else { count + step }
        } else {
            // Not the write nor the read in question: any count has another shape.
            1
        };
        Before::Probe { function, count }
    }

    /// A request goes out. It is unanswered until [`Quarantine::heard`] says otherwise.
    pub(super) fn sent(&mut self, shape: Shape, probe: bool) {
        let index = self.units.iter().position(|u| u.unit == shape.unit);
        let index = index.unwrap_or_else(|| {
            self.units.push(Debt {
                unit: shape.unit,
                unanswered: Vec::new(),
                silent: 0,
                probes: 0,
                confused: false,
            });
            self.units.len() - 1
        });
        if let Some(unit) = self.units.get_mut(index) {
            unit.unanswered.push(shape);
            unit.probes = unit.probes.wrapping_add(u8::from(probe));
        }
    }

    /// A frame arrived while `newest` is awaited, or between requests.
    pub(super) fn heard(&mut self, shape: Shape, exception: bool, newest: Option<Shape>) -> Heard {
        let asked = newest.filter(|n| n.unit == shape.unit && n.function == shape.function);
        let Some(unit) = self.units.iter_mut().find(|u| u.unit == shape.unit) else {
            return Heard::Foreign;
        };
        #[cfg(feature = "mutant")]
        if crate::mutant::is("no-quarantine") && newest == Some(shape) {
            unit.unanswered.clear();
            return Heard::Answer;
        }
        unit.silent = 0;
        unit.confused = true;
        #[cfg(feature = "mutant")]
        let exception = exception || crate::mutant::is("no-length");
        let fits = |s: &Shape| s.function == shape.function && (exception || s.bytes == shape.bytes);
        let Some(first) = unit.unanswered.iter().position(fits) else {
            // With an older one of this function unanswered, nobody can say whose wrong answer it is.
            let asked_before = unit.unanswered.iter().filter(|s| s.function == shape.function);
            return match asked {
                Some(_) if asked_before.count() == 1 => Heard::WrongSize,
                _ => Heard::Foreign,
            };
        };
        let is_newest = newest.is_some_and(|n| n.unit == unit.unit) && first + 1 == unit.unanswered.len();
        // In order: what was asked before it will not be answered any more.
        unit.unanswered.drain(..=first);
        if is_newest {
            unit.probes = 0;
            unit.confused = false;
        }
        if unit.unanswered.is_empty() {
            self.units.retain(|u| u.unit != shape.unit);
        }
        if is_newest { Heard::Answer } else { Heard::Late }
    }

    /// The time for an answer of this unit is over, and not one byte came.
    pub(super) fn silent(&mut self, unit: u8) {
        let Some(it) = self.units.iter_mut().find(|u| u.unit == unit) else {
            return;
        };
        it.silent = it.silent.saturating_add(1);
        if it.silent >= SILENCE {
            self.units.retain(|u| u.unit != unit);
        }
    }

    /// Somebody waits for an answer of this shape, or once did.
    pub(super) fn awaits(&self, shape: Shape) -> bool {
        self.unit(shape.unit).is_some_and(|unit| unit.unanswered.contains(&shape))
    }

    fn unit(&self, unit: u8) -> Option<&Debt> {
        self.units.iter().find(|u| u.unit == unit)
    }
}

#[cfg(test)]
mod tests;
