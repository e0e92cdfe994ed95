//! What a device refuses to read.
//!
//! A read is refused as a whole (exception 2 or 3) when one of its places cannot be read, so a hole is a stretch of
//! places of which no request may cover all: a point that is refused by itself, the gap between two points that
//! can be read, or the seam between two blocks of a device's memory. A refused read is halved until each hole is
//! found.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{PLACES, Place, Spot, area_name};
use crate::drivers::{Kept, Learnt};
use crate::point::{Device, Protocol};

/// Polls in a row in which a point must be refused by itself before it is not asked any more: a device that has
/// just been switched on may refuse what it has a moment later.
const SURE: u8 = 3;

/// What was learnt is forgotten after so long: a device that was extended or mended is seen as it is within a day,
/// and finding the same holes again costs a few dozen requests.
const FORGET: Duration = Duration::from_secs(86_400);

/// Most holes of a device: with 20 bytes each they stay far below what the buffer keeps. A device with more of
/// them refuses reads from time to time, and the log says so.
const MOST: usize = 1_000;

/// Polls in a row in which the device refused everything, after which its reads are not halved any more...
const BARREN: u32 = 3;

/// ...but every so many polls, in case that is over.
const BARREN_AGAIN: u32 = 16;

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was refused by itself, but not often enough yet.
    Doubtful,
    /// It is refused with this code.
    Refused(u8),
}

/// No request may cover all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    place: Place,
    code: u8,
    /// Polls in which it was found.
    seen: u8,
}

/// A read that was refused, with the parts it was split into, if it could be.
#[derive(Debug)]
struct Suspect {
    place: Place,
    code: u8,
    parts: Option<(Place, Place)>,
}

/// What is known of one device.
#[derive(Debug)]
pub(super) struct Learner {
    holes: Vec<Hole>,
    /// What was kept and told last.
    told: Vec<Kind>,
    /// When the holes changed last, and when they were begun to be learnt.
    changed: Instant,
    since: Instant,
    barren: u32,
    /// Of the present poll.
    good: Vec<Place>,
    suspects: Vec<Suspect>,
}

/// A hole as it is kept: function, first place, the one behind the last, exception code.
type Kind = (u8, u32, u32, u8);

/// What is kept over a restart.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    points: String,
    holes: Vec<Kind>,
}

impl Default for Learner {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            holes: Vec::new(),
            told: Vec::new(),
            changed: now,
            since: now,
            barren: 0,
            good: Vec::new(),
            suspects: Vec::new(),
        }
    }
}

impl Learner {
    /// The holes of an area, by their ends.
    pub(super) fn holes(&self, function: u8) -> Vec<(u32, u32)> {
        let own = self.holes.iter().filter(|hole| hole.place.function == function);
        let mut holes: Vec<_> = own.map(|hole| (hole.place.start, hole.place.end)).collect();
        holes.sort_unstable_by_key(|hole| hole.1);
        holes
    }

    /// What is known of a place; nothing is good.
    pub(super) fn verdict(&self, place: Place) -> Option<Verdict> {
        let inside = self.holes.iter().filter(|hole| place.holds(hole.place));
        let worst = inside.max_by_key(|hole| hole.seen)?;
        Some(if worst.seen >= SURE { Verdict::Refused(worst.code) } else { Verdict::Doubtful })
    }

    /// A read was answered.
    pub(super) fn answered(&mut self, place: Place) {
        self.good.push(place);
    }

    /// A read was refused. Gives its two halves, unless there is one place in it only or halving leads nowhere.
    pub(super) fn refused(&mut self, place: Place, mut spots: Vec<Spot>, code: u8) -> Vec<Spot> {
        spots.sort_by_key(|spot| (spot.place.start, spot.place.end));
        let may_split = self.barren < BARREN || self.barren.is_multiple_of(BARREN_AGAIN);
        let parts = if may_split { halve(spots) } else { None };
        let places = parts.as_ref().map(|(left, right)| (left.place, right.place));
        self.suspects.push(Suspect { place, code, parts: places });
        parts.map_or_else(Vec::new, |(left, right)| vec![left, right])
    }

    /// Judges what the poll has shown.
    pub(super) fn settle(&mut self, device: &Device) -> Option<Learnt> {
        let now = Instant::now();
        let good = std::mem::take(&mut self.good);
        let suspects = std::mem::take(&mut self.suspects);
        let before: Vec<Hole> = self.holes.clone();
        if good.is_empty() {
            // A device that refuses everything has another trouble than holes.
            self.barren = if suspects.is_empty() { self.barren } else { self.barren.saturating_add(1) };
        } else {
            self.barren = 0;
            self.holes.retain(|hole| !good.iter().any(|good| good.holds(hole.place)));
            for suspect in &suspects {
                self.judge(suspect, &good);
            }
        }
        if !self.holes.is_empty() && now - self.since >= FORGET {
            self.holes.clear();
            self.since = now;
        }
        if self.holes != before {
            self.changed = now;
            if before.is_empty() {
                self.since = now;
            }
            return Some(Learnt { kept: None });
        }
        let is_settled = suspects.is_empty() && self.holes.iter().all(|hole| hole.seen >= SURE);
        if !is_settled || now - self.changed < longest_interval(device) {
            return None;
        }
        let mut holes: Vec<Kind> = self.holes.iter().map(Hole::kind).collect();
        holes.sort_unstable();
        if holes == self.told {
            return None;
        }
        self.told.clone_from(&holes);
        let names = holes.iter().map(name).collect();
        let memory = Memory { points: fingerprint(device), holes };
        let value = if memory.holes.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&memory).unwrap_or_default()
        };
        Some(Learnt { kept: Some(Kept { holes: names, value }) })
    }

    fn judge(&mut self, suspect: &Suspect, good: &[Place]) {
        let (place, seen) = match suspect.parts {
            None => (suspect.place, 1),
            // Both halves can be read: what lies between them is to blame.
            Some((left, right)) if good.contains(&left) && good.contains(&right) => {
                (between(suspect.place, left, right), SURE)
            }
            Some(_) => return,
        };
        if let Some(known) = self.holes.iter_mut().find(|hole| hole.place == place) {
            known.seen = known.seen.saturating_add(seen).min(SURE);
            known.code = suspect.code;
            return;
        }
        if self.holes.len() >= MOST {
            tracing::warn!(most = MOST, "a device refuses more places than are remembered");
            return;
        }
        // The smaller hole says all that a larger one around it said.
        self.holes.retain(|hole| !hole.place.holds(place));
        self.holes.push(Hole { place, code: suspect.code, seen });
    }

    /// Reads what was kept, unless the device has other points now.
    pub(super) fn recall(device: &Device, kept: &[u8]) -> Option<Self> {
        let memory: Memory = serde_json::from_slice(kept).ok()?;
        let is_sound = |hole: &Kind| hole.1 < hole.2 && hole.2 <= PLACES;
        if memory.points != fingerprint(device) || !memory.holes.iter().all(is_sound) {
            return None;
        }
        let hole = |&(function, start, end, code): &Kind| Hole {
            place: Place { function, start, end },
            code,
            seen: SURE,
        };
        let holes = memory.holes.iter().take(MOST).map(hole).collect();
        Some(Self { holes, told: memory.holes, ..Self::default() })
    }
}

impl Hole {
    fn kind(&self) -> Kind {
        (self.place.function, self.place.start, self.place.end, self.code)
    }
}

/// Two halves with about as many places each, parted where the gap between them is widest.
fn halve(spots: Vec<Spot>) -> Option<(Spot, Spot)> {
    let count = spots.len();
    let (low, high) = ((count / 4).max(1), count - count / 4);
    let mut end = 0;
    let mut best: Option<(usize, u32)> = None;
    for (index, spot) in spots.iter().enumerate() {
        let gap = spot.place.start.saturating_sub(end);
        end = end.max(spot.place.end);
        let middle = |at: usize| at.abs_diff(count / 2);
        let is_better =
            best.is_none_or(|(at, widest)| gap > widest || (gap == widest && middle(index) < middle(at)));
        if (low..=high).contains(&index) && index < count && is_better {
            best = Some((index, gap));
        }
    }
    let (at, _) = best?;
    let mut left = spots;
    let right = left.split_off(at);
    Some((join(left)?, join(right)?))
}

fn join(spots: Vec<Spot>) -> Option<Spot> {
    let mut all = spots.into_iter();
    let mut whole = all.next()?;
    for spot in all {
        whole.place.end = whole.place.end.max(spot.place.end);
        whole.points.extend(spot.points);
    }
    Some(whole)
}

/// The least stretch that every read of both parts covers.
fn between(whole: Place, left: Place, right: Place) -> Place {
    let (start, end) = match left.end.cmp(&right.start) {
        Ordering::Less => (left.end, right.start),
        Ordering::Equal => (left.end.saturating_sub(1), right.start + 1),
        Ordering::Greater => (whole.start, whole.end),
    };
    Place { function: whole.function, start, end }
}

/// For people: `holding:40-47`.
fn name(&(function, start, end, _): &Kind) -> String {
    let area = area_name(function);
    if end - start == 1 { format!("{area}:{start}") } else { format!("{area}:{start}-{}", end - 1) }
}

/// A poll of every point has passed after this.
fn longest_interval(device: &Device) -> Duration {
    let own = device.points.iter().filter_map(|point| point.poll_interval);
    // A poll may come a little early for the one before it came late.
    own.max().map_or(device.poll_interval, |own| own.max(device.poll_interval)).mul_f64(0.9)
}

/// Tells one set of addresses from another.
pub(super) fn fingerprint(device: &Device) -> String {
    let mut places: Vec<_> = device.points.iter().filter_map(Place::of).map(Place::order).collect();
    places.sort_unstable();
    let mut hash = Sha256::new();
    if let Protocol::Modbus { unit, .. } = &device.protocol {
        hash.update([*unit]);
    }
    for (function, start, end) in places {
        hash.update([function]);
        hash.update(start.to_be_bytes());
        hash.update(end.0.to_be_bytes());
    }
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
