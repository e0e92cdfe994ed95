//! Points that are due become requests: neighbours share one, a value is never split.

use std::sync::Arc;

use crate::address::{Address, Area};
use crate::drivers::{Request, Span};
use crate::point::{Device, Protocol};

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

/// One point's place. Ordered as the requests go out: area by area, upwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    function: u8,
    start: u32,
    end: u32,
    point: usize,
}

/// Splits the points `due` (indices into `device.points`) into requests.
///
/// Points of one area share a request when they touch or overlap and together stay within the device's
/// `max_registers` (or 2000 bits). A value longer than `max_registers` gets a request of its own. A point
/// that no Modbus request can reach (another address grammar, or over the end of the area) is left out.
pub(super) fn plan(device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
    let max_registers = match device.protocol {
        Protocol::Modbus { max_registers, .. } => max_registers.clamp(1, MAX_REGISTERS),
        _ => return Vec::new(),
    };
    let mut places: Vec<Place> = due.iter().filter_map(|&point| place(device, point)).collect();
    places.sort_unstable();
    let mut requests: Vec<Request> = Vec::new();
    let mut open: Option<(Place, Vec<usize>)> = None;
    for place in places {
        let limit = u32::from(if place.function <= 2 { MAX_BITS } else { max_registers });
        match &mut open {
            Some((span, points))
                if span.function == place.function
                    && place.start <= span.end
                    && place.end.max(span.end) - span.start <= limit =>
            {
                span.end = span.end.max(place.end);
                points.push(place.point);
            }
            _ => {
                requests.extend(open.take().and_then(|open| request(device, open)));
                open = Some((place, vec![place.point]));
            }
        }
    }
    requests.extend(open.and_then(|open| request(device, open)));
    requests
}

fn place(device: &Device, point: usize) -> Option<Place> {
    let it = device.points.get(point)?;
    let Address::Register { area, number, .. } = it.address else {
        return None;
    };
    let length = if area.is_bits() { 1 } else { it.kind.registers() };
    let start = u32::from(number);
    let end = start + u32::from(length);
    (end <= PLACES && (1..=MAX_REGISTERS).contains(&length)).then_some(Place {
        function: read_function(area),
        start,
        end,
        point,
    })
}

fn request(device: &Arc<Device>, (place, points): (Place, Vec<usize>)) -> Option<Request> {
    Some(Request {
        device: Arc::clone(device),
        points,
        span: Span {
            area: place.function,
            start: u16::try_from(place.start).ok()?,
            count: u16::try_from(place.end - place.start).ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::modbus::tests::{device, point};
    use crate::point::Kind;
    use proptest::prelude::*;

    fn spans(requests: &[Request]) -> Vec<(u8, u16, u16, Vec<usize>)> {
        let span = |r: &Request| (r.span.area, r.span.start, r.span.count, r.points.clone());
        requests.iter().map(span).collect()
    }

    #[test]
    fn neighbours_share_a_request_and_holes_part_them() {
        let device = device(
            125,
            vec![
                point(Area::Holding, 12, Kind::U16),
                point(Area::Holding, 10, Kind::F32),
                point(Area::Input, 13, Kind::U16),
                point(Area::Holding, 14, Kind::U16),
                point(Area::Coil, 13, Kind::Bool),
                point(Area::Holding, 11, Kind::U16),
            ],
        );
        assert_eq!(
            spans(&plan(&device, &[0, 1, 2, 3, 4, 5])),
            [(1, 13, 1, vec![4]), (3, 10, 3, vec![1, 5, 0]), (3, 14, 1, vec![3]), (4, 13, 1, vec![2]),]
        );
        assert_eq!(spans(&plan(&device, &[3, 0])), [(3, 12, 1, vec![0]), (3, 14, 1, vec![3])]);
    }

    #[test]
    fn a_value_is_never_split() {
        let points = (0..10).map(|n| point(Area::Input, n * 4, Kind::F64)).collect();
        let device = device(10, points);
        let due: Vec<usize> = (0..10).collect();
        let counts: Vec<u16> = plan(&device, &due).iter().map(|r| r.span.count).collect();
        assert_eq!(counts, [8, 8, 8, 8, 8]);
    }

    #[test]
    fn a_value_over_the_limit_goes_alone_and_one_over_the_end_not_at_all() {
        let device = device(
            4,
            vec![
                point(Area::Holding, 0, Kind::String { length: 20 }),
                point(Area::Holding, 10, Kind::U16),
                point(Area::Holding, 65535, Kind::U16),
                point(Area::Holding, 65535, Kind::U32),
            ],
        );
        assert_eq!(
            spans(&plan(&device, &[0, 1, 2, 3])),
            [(3, 0, 10, vec![0]), (3, 10, 1, vec![1]), (3, 65535, 1, vec![2])]
        );
    }

    #[test]
    fn bits_have_their_own_limit() {
        let points = (0..2001).map(|n| point(Area::Coil, n, Kind::Bool)).collect();
        let device = device(1, points);
        let due: Vec<usize> = (0..2001).collect();
        let counts: Vec<u16> = plan(&device, &due).iter().map(|r| r.span.count).collect();
        assert_eq!(counts, [2000, 1]);
    }

    fn any_point() -> impl Strategy<Value = crate::point::Point> {
        let area = prop::sample::select(vec![Area::Coil, Area::Discrete, Area::Input, Area::Holding]);
        let kind = prop::sample::select(vec![Kind::U16, Kind::F32, Kind::U64, Kind::String { length: 31 }]);
        (area, prop_oneof![0_u16..200, 65500_u16..=65535], kind).prop_map(|(a, n, k)| point(a, n, k))
    }

    proptest! {
        #[test]
        fn every_point_lies_whole_in_one_request_within_the_limits(
            points in prop::collection::vec(any_point(), 0..60),
            max in 1_u16..=125,
        ) {
            let device = device(max, points);
            let due: Vec<usize> = (0..device.points.len()).collect();
            let requests = plan(&device, &due);
            let mut seen = Vec::new();
            for request in &requests {
                let span = request.span;
                let limit = if span.area <= 2 { MAX_BITS } else { max };
                prop_assert!(span.count <= limit || request.points.len() == 1);
                prop_assert!(span.count <= MAX_REGISTERS || span.area <= 2);
                for &p in &request.points {
                    let place = place(&device, p).unwrap();
                    prop_assert_eq!(place.function, span.area);
                    prop_assert!(place.start >= u32::from(span.start));
                    prop_assert!(place.end <= u32::from(span.start) + u32::from(span.count));
                }
                seen.extend(request.points.iter().copied());
            }
            seen.sort_unstable();
            let reachable: Vec<usize> = due.into_iter().filter(|&p| place(&device, p).is_some()).collect();
            prop_assert_eq!(seen, reachable);
        }
    }
}
