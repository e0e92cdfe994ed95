//! Points that are due become the requests that keep the link busy for the shortest time.
//!
//! Reading across a gap between two points is worth it while that costs less than another request would. What a
//! device refuses to read is learnt on the way ([`holes`]); no request covers it again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cost::Cost;
use crate::address::{Address, Area};
use crate::drivers::{Learnt, Request, Span};
use crate::point::{Device, DeviceId, Point, Protocol, Reads, Reason, Sample};

mod cover;
mod holes;
#[cfg(test)]
mod tests;

use cover::{Rules, cover};
use holes::Learner;

/// Most registers in one read: 250 data bytes (Modbus Application Protocol V1.1b3, 6.3 and 6.4).
pub(super) const MAX_REGISTERS: u16 = 125;

/// Most coils or discrete inputs in one read: 250 data bytes (Modbus Application Protocol V1.1b3, 6.1 and 6.2).
pub(super) const MAX_BITS: u16 = 2000;

/// Places of the 16-bit address space.
const PLACES: u32 = 1 << 16;

/// The number that stands in [`Span::area`]: the function that reads the area.
pub(super) fn read_function(area: Area) -> u8 {
    match area {
        Area::Coil => 1,
        Area::Discrete => 2,
        Area::Holding => 3,
        Area::Input => 4,
    }
}

/// The area that a function reads.
fn area_name(function: u8) -> &'static str {
    match function {
        1 => Area::Coil.name(),
        2 => Area::Discrete.name(),
        3 => Area::Holding.name(),
        _ => Area::Input.name(),
    }
}

/// Where a point lies. Ordered area by area and upwards, of two that begin together the longer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    function: u8,
    start: u32,
    end: u32,
}

impl Place {
    fn of(point: &Point) -> Option<Self> {
        let Address::Register { area, number, .. } = point.address else {
            return None;
        };
        let length = if area.is_bits() { 1 } else { point.kind.registers() };
        let start = u32::from(number);
        let end = start + u32::from(length);
        let is_readable = end <= PLACES && (1..=MAX_REGISTERS).contains(&length);
        is_readable.then_some(Self { function: read_function(area), start, end })
    }

    fn is_bit(self) -> bool {
        self.function <= 2
    }

    fn order(self) -> (u8, u32, std::cmp::Reverse<u32>) {
        (self.function, self.start, std::cmp::Reverse(self.end))
    }

    fn holds(self, other: Self) -> bool {
        self.function == other.function && self.start <= other.start && other.end <= self.end
    }

    fn span(self) -> Option<Span> {
        let count = self.end.checked_sub(self.start)?;
        let (start, count) = (u16::try_from(self.start).ok()?, u16::try_from(count).ok()?);
        Some(Span { area: self.function, start, count })
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        let start = u32::from(span.start);
        Self { function: span.area, start, end: start + u32::from(span.count) }
    }
}

/// A place with the points that lie there, or inside it.
#[derive(Clone, Debug)]
struct Spot {
    place: Place,
    points: Vec<usize>,
}

impl Spot {
    fn request(self, device: &Arc<Device>) -> Option<Request> {
        Some(Request { device: Arc::clone(device), points: self.points, span: self.place.span()? })
    }
}

/// What is due, by the way it is asked.
#[derive(Default)]
struct Sorted {
    /// May share requests. In order; starts and ends both ascend within an area.
    shared: Vec<Spot>,
    /// Each has a request of its own.
    alone: Vec<Spot>,
    /// Not asked: the device is known to refuse them with this code.
    refused: Vec<(Spot, u8)>,
}

/// Plans the reads of a link, and keeps what its devices refuse.
#[derive(Debug)]
pub(super) struct Planner {
    cost: Cost,
    learners: HashMap<DeviceId, Learner>,
}

impl Planner {
    /// A planner that knows nothing of any device yet.
    pub(super) fn new(cost: Cost) -> Self {
        Self { cost, learners: HashMap::new() }
    }

    /// Splits the points `due` (indices into `device.points`) into the requests of the least bus time.
    ///
    /// No request is longer than the device's limits, covers what the device refuses, or splits a value; a value longer
    /// than `max_registers` gets a request of its own. A point that no Modbus request can reach (another address
    /// grammar, or over the end of the area) is left out.
    pub(super) fn plan(&self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        let Protocol::Modbus { reads, .. } = &device.protocol else {
            return Vec::new();
        };
        let Sorted { shared, alone, .. } = self.sort(device, reads, due);
        let mut requests: Vec<Spot> = alone;
        let mut rest = shared.as_slice();
        while let Some(first) = rest.first() {
            let function = first.place.function;
            let (area, behind) = rest.split_at(rest.partition_point(|spot| spot.place.function == function));
            rest = behind;
            requests.extend(self.share(device, reads, area));
        }
        requests.sort_by_key(|spot| spot.place.order());
        requests.into_iter().filter_map(|spot| spot.request(device)).collect()
    }

    /// The points of `due` that `plan` leaves out because the device is known to refuse them.
    pub(super) fn refused(&self, device: &Arc<Device>, due: &[usize]) -> Vec<Sample> {
        let Protocol::Modbus { reads, .. } = &device.protocol else {
            return Vec::new();
        };
        let refused = self.sort(device, reads, due).refused.into_iter();
        let sample = |(spot, code): (Spot, u8)| {
            spot.points.into_iter().map(move |point| Sample { point, raw: Err(Reason::Exception(code)) })
        };
        refused.flat_map(sample).collect()
    }

    /// The spots of one area as requests.
    fn share(&self, device: &Device, reads: &Reads, spots: &[Spot]) -> Vec<Spot> {
        let Some(function) = spots.first().map(|spot| spot.place.function) else {
            return Vec::new();
        };
        let is_bit = function <= 2;
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / PLACES_I64 / 4);
        let holes = self.learners.get(&device.id).map(|learner| learner.holes(function)).unwrap_or_default();
        let rules = Rules {
            limit: limit(reads, is_bit),
            gap: reads.max_gap.map_or(PLACES, u32::from),
            request: nanos(self.cost.request(device)),
            each: nanos(self.cost.place(is_bit)),
            holes: &holes,
        };
        let places: Vec<_> = spots.iter().map(|spot| (spot.place.start, spot.place.end)).collect();
        let join = |range| {
            let spots: &[Spot] = spots.get::<std::ops::Range<usize>>(range)?;
            let (first, last) = (spots.first()?.place, spots.last()?.place);
            let points = spots.iter().flat_map(|spot| spot.points.iter().copied()).collect();
            Some(Spot { place: Place { function, start: first.start, end: last.end }, points })
        };
        cover(&places, &rules).into_iter().filter_map(join).collect()
    }

    fn sort(&self, device: &Device, reads: &Reads, due: &[usize]) -> Sorted {
        let learner = self.learners.get(&device.id);
        let mut sorted = Sorted::default();
        let mut spots: Vec<Spot> = Vec::with_capacity(due.len());
        for &index in due {
            let Some(point) = device.points.get(index) else { continue };
            let Some(place) = Place::of(point) else { continue };
            let spot = Spot { place, points: vec![index] };
            match learner.and_then(|learner| learner.verdict(place)) {
                Some(holes::Verdict::Refused(code)) => sorted.refused.push((spot, code)),
                _ if point.no_merge => sorted.alone.push(spot),
                _ => spots.push(spot),
            }
        }
        spots.sort_by_key(|spot| spot.place.order());
        let mut lonely: Vec<Spot> = Vec::new();
        for spot in spots {
            let is_too_long = spot.place.end - spot.place.start > limit(reads, spot.place.is_bit());
            let is_doubtful = learner.is_some_and(|learner| learner.verdict(spot.place).is_some());
            let is_lonely = is_too_long || is_doubtful;
            let to = if is_lonely { &mut lonely } else { &mut sorted.shared };
            // What lies inside another place comes with it; with a lonely one only what is the same.
            match to.last_mut() {
                Some(last) if last.place == spot.place || (!is_lonely && last.place.holds(spot.place)) => {
                    last.points.extend(spot.points);
                }
                _ => to.push(spot),
            }
        }
        sorted.alone.append(&mut lonely);
        // A poll that asks nothing would not notice that the device has gone, nor that it has become better.
        if sorted.shared.is_empty() && sorted.alone.is_empty() && !sorted.refused.is_empty() {
            let (spot, _) = sorted.refused.swap_remove(0);
            sorted.alone.push(spot);
        }
        sorted
    }

    /// The device answered this read.
    pub(super) fn answered(&mut self, device: &Device, span: Span) {
        self.learner(device).answered(span.into());
    }

    /// The device refused this read with exception 2 or 3: what to ask in its place, if that may find out more.
    pub(super) fn split(&mut self, request: &Request, code: u8) -> Vec<Request> {
        let mut spots: Vec<Spot> = Vec::new();
        for &index in &request.points {
            let Some(place) = request.device.points.get(index).and_then(Place::of) else { continue };
            match spots.iter_mut().find(|spot| spot.place == place) {
                Some(spot) => spot.points.push(index),
                None => spots.push(Spot { place, points: vec![index] }),
            }
        }
        let parts = self.learner(&request.device).refused(request.span.into(), spots, code);
        parts.into_iter().filter_map(|spot| spot.request(&request.device)).collect()
    }

    /// A poll of the device is over: what it has shown.
    pub(super) fn learnt(&mut self, device: &Device) -> Option<Learnt> {
        self.learner(device).settle(device)
    }

    /// Takes up what an earlier run kept, if it was about the same points.
    pub(super) fn recall(&mut self, device: &Device, kept: &[u8]) {
        if let Some(learner) = Learner::recall(device, kept) {
            self.learners.insert(device.id.clone(), learner);
        }
    }

    fn learner(&mut self, device: &Device) -> &mut Learner {
        self.learners.entry(device.id.clone()).or_default()
    }
}

/// [`PLACES`], for the arithmetic of costs.
const PLACES_I64: i64 = 1 << 16;

/// Most places of an area in one read.
fn limit(reads: &Reads, is_bit: bool) -> u32 {
    let (most, limit) =
        if is_bit { (MAX_BITS, reads.max_bits) } else { (MAX_REGISTERS, reads.max_registers) };
    limit.clamp(1, most).into()
}
