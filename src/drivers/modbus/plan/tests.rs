//! Plans within their limits and never dearer than need be, and a device whose holes are found.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::config::{Framing, SerialLine};
use crate::drivers::Kept;
use crate::drivers::modbus::tests::{device, point};
use crate::point::Kind;

/// 9600 baud, 8N1: a request without data takes as long as (13 + 7 characters + 5 ms) about 12 registers.
fn bus() -> Planner {
    let line = SerialLine::at("bus");
    Planner::new(Cost::line(&line, Framing::Rtu))
}

fn all(device: &Device) -> Vec<usize> {
    (0..device.points.len()).collect()
}

fn with_reads(max_registers: u16, points: Vec<Point>, change: impl FnOnce(&mut Reads)) -> Arc<Device> {
    let mut device = Arc::unwrap_or_clone(device(max_registers, points));
    if let Protocol::Modbus { reads, .. } = &mut device.protocol {
        change(reads);
    }
    Arc::new(device)
}

fn spans(requests: &[Request]) -> Vec<(u8, u16, u16, Vec<usize>)> {
    let span = |r: &Request| (r.span.area, r.span.start, r.span.count, r.points.clone());
    requests.iter().map(span).collect()
}

fn places(requests: &[Request]) -> Vec<(u16, u16)> {
    requests.iter().map(|request| (request.span.start, request.span.count)).collect()
}

#[test]
fn points_share_a_request_where_that_is_quicker() {
    let registers = |numbers: &[u16]| numbers.iter().map(|n| point(Area::Holding, *n, Kind::U16)).collect();
    let on_bus = |numbers: &[u16], change: fn(&mut Reads)| {
        let device = with_reads(125, registers(numbers), change);
        places(&bus().plan(&device, &all(&device)))
    };
    let plain: fn(&mut Reads) = |_| {};
    // The gap of twelve registers takes 25.0 ms, another request 25.8 ms; one of thirteen would take 27.1 ms.
    assert_eq!(on_bus(&[0, 13], plain), [(0, 14)]);
    assert_eq!(on_bus(&[0, 14], plain), [(0, 1), (14, 1)]);
    assert_eq!(on_bus(&[0, 14], |reads| reads.answer_time = Duration::from_millis(20)), [(0, 15)]);
    assert_eq!(on_bus(&[0, 2, 5], |reads| reads.max_gap = Some(1)), [(0, 3), (5, 1)]);
    assert_eq!(on_bus(&[0, 1, 5], |reads| reads.max_gap = Some(0)), [(0, 2), (5, 1)]);
    // Over TCP a request is dearer than all it can carry.
    let device = with_reads(125, registers(&[0, 124, 300, 500]), |_| {});
    assert_eq!(
        places(&Planner::new(Cost::tcp()).plan(&device, &all(&device))),
        [(0, 125), (300, 1), (500, 1)]
    );
}

#[test]
fn what_must_be_alone_is_alone() {
    let mut points = vec![
        point(Area::Holding, 12, Kind::U16),
        point(Area::Holding, 10, Kind::F32),
        point(Area::Input, 13, Kind::U16),
        point(Area::Holding, 14, Kind::U16),
        point(Area::Coil, 13, Kind::Bool),
        point(Area::Holding, 11, Kind::U16),
    ];
    let plan = |points: Vec<Point>| {
        let device = device(125, points);
        spans(&bus().plan(&device, &all(&device)))
    };
    assert_eq!(
        plan(points.clone()),
        [(1, 13, 1, vec![4]), (3, 10, 5, vec![1, 5, 0, 3]), (4, 13, 1, vec![2])]
    );
    points[5].no_merge = true;
    points[0].no_merge = true;
    assert_eq!(plan(points)[1..4], [(3, 10, 5, vec![1, 3]), (3, 11, 1, vec![5]), (3, 12, 1, vec![0])]);
}

#[test]
fn a_value_is_never_split() {
    let points = (0..10).map(|n| point(Area::Input, n * 4, Kind::F64)).collect();
    let device = device(10, points);
    let counts: Vec<u16> = bus().plan(&device, &all(&device)).iter().map(|r| r.span.count).collect();
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
        spans(&bus().plan(&device, &all(&device))),
        [(3, 0, 10, vec![0]), (3, 10, 1, vec![1]), (3, 65535, 1, vec![2])]
    );
}

#[test]
fn bits_have_their_own_limit() {
    let points: Vec<Point> = (0..2001).map(|n| point(Area::Coil, n, Kind::Bool)).collect();
    let counts = |device: &Arc<Device>| {
        let requests = bus().plan(device, &all(device));
        requests.iter().map(|request| request.span.count).collect::<Vec<_>>()
    };
    let mut found = counts(&device(1, points.clone()));
    found.sort_unstable();
    assert_eq!(found.iter().sum::<u16>(), 2001);
    assert_eq!(found.len(), 2);
    assert_eq!(counts(&with_reads(1, points, |reads| reads.max_bits = 667)), [667, 667, 667]);
}

fn any_point() -> impl Strategy<Value = Point> {
    let area = prop::sample::select(vec![Area::Coil, Area::Discrete, Area::Input, Area::Holding]);
    let kind = prop::sample::select(vec![Kind::U16, Kind::F32, Kind::U64, Kind::String { length: 31 }]);
    let number = prop_oneof![0_u16..200, 65500_u16..=65535];
    (area, number, kind, prop::bool::weighted(0.1))
        .prop_map(|(area, number, kind, no_merge)| Point { no_merge, ..point(area, number, kind) })
}

proptest! {
    #[test]
    fn every_point_lies_whole_in_one_request_within_the_limits_and_nothing_is_dearer_than_one_each(
        points in prop::collection::vec(any_point(), 0..60),
        max_registers in 1_u16..=125,
        max_bits in 1_u16..=2000,
        max_gap in prop_oneof![Just(None), (0_u16..20).prop_map(Some)],
        is_bus in any::<bool>(),
    ) {
        let device = with_reads(max_registers, points, |reads| {
            reads.max_bits = max_bits;
            reads.max_gap = max_gap;
        });
        let planner = if is_bus { bus() } else { Planner::new(Cost::tcp()) };
        let due = all(&device);
        let requests = planner.plan(&device, &due);
        let mut seen = Vec::new();
        for request in &requests {
            let span = request.span;
            let limit = if span.area <= 2 { max_bits } else { max_registers };
            let places: BTreeSet<_> =
                request.points.iter().map(|p| Place::of(&device.points[*p]).unwrap().order()).collect();
            prop_assert!(span.count <= limit || places.len() == 1);
            let most = if span.area <= 2 { MAX_BITS } else { MAX_REGISTERS };
            prop_assert!(span.count <= most);
            let mut end = u32::from(span.start);
            for &p in &request.points {
                let place = Place::of(&device.points[p]).unwrap();
                prop_assert!(Place::from(span).holds(place));
                prop_assert!(!device.points[p].no_merge || request.points.len() == 1);
                if let Some(gap) = max_gap {
                    prop_assert!(place.start.saturating_sub(end) <= gap.into());
                }
                end = end.max(place.end);
            }
            seen.extend(request.points.iter().copied());
        }
        seen.sort_unstable();
        let reachable: Vec<usize> = due.iter().copied().filter(|&p| Place::of(&device.points[p]).is_some()).collect();
        prop_assert_eq!(&seen, &reachable);
        let time = |requests: &[Request]| requests.iter().map(|r| planner.cost.time(r)).sum::<Duration>();
        let one_each: Vec<Request> = due.iter().flat_map(|&point| planner.plan(&device, &[point])).collect();
        // Eight bits share a byte, which a plan reckons as eighths.
        let rounding = planner.cost.place(true) * 8 * u32::try_from(requests.len()).unwrap();
        prop_assert!(time(&requests) <= time(&one_each) + rounding);
    }
}

/// A device that refuses every read with a bad register in it, or over one of its seams, or that is too long.
#[derive(Clone, Debug, Default)]
struct Fussy {
    bad: BTreeSet<u16>,
    seams: Vec<u16>,
    most: u16,
}

impl Fussy {
    fn refuses(&self, span: Span) -> bool {
        let (start, end) = (span.start, span.start + span.count);
        span.count > self.most
            || self.bad.range(start..end).next().is_some()
            || self.seams.iter().any(|seam| start < *seam && *seam < end)
    }
}

/// One poll as the link does it. Gives what was asked, how often that was refused, and the points with a value.
fn poll(
    planner: &mut Planner,
    device: &Arc<Device>,
    fussy: &Fussy,
) -> (usize, usize, BTreeSet<usize>, Option<Kept>) {
    let mut queue = planner.plan(device, &all(device));
    queue.reverse();
    let (mut asked, mut refused, mut good) = (0, 0, BTreeSet::new());
    while let Some(request) = queue.pop() {
        asked += 1;
        if fussy.refuses(request.span) {
            refused += 1;
            let mut parts = planner.split(&request, 2);
            parts.reverse();
            queue.extend(parts);
        } else {
            planner.answered(device, request.span);
            good.extend(request.points);
        }
    }
    (asked, refused, good, planner.learnt(device).and_then(|learnt| learnt.kept))
}

fn readable(device: &Device, fussy: &Fussy) -> BTreeSet<usize> {
    let is_readable =
        |point: &usize| !fussy.refuses(Place::of(&device.points[*point]).unwrap().span().unwrap());
    all(device).into_iter().filter(is_readable).collect()
}

/// So many polls a second apart, in which nothing more is told.
async fn polls(planner: &mut Planner, device: &Arc<Device>, fussy: &Fussy, count: usize) -> Vec<Kept> {
    let mut told = Vec::new();
    for _ in 0..count {
        tokio::time::advance(Duration::from_secs(1)).await;
        told.extend(poll(planner, device, fussy).3);
    }
    told
}

fn fifty() -> Arc<Device> {
    let numbers = (0..20).chain(30..50).chain([60, 61, 62]);
    device(125, numbers.map(|n| point(Area::Holding, n, Kind::U16)).collect())
}

#[tokio::test(start_paused = true)]
async fn holes_are_found_told_once_and_not_asked_again() {
    let device = fifty();
    let fussy = Fussy { bad: [25, 35, 55, 61].into(), most: 125, seams: vec![10] };
    let mut planner = Planner::new(Cost::tcp());
    let (asked, refused, good, _) = poll(&mut planner, &device, &fussy);
    assert_eq!(good, readable(&device, &fussy), "in the first poll already");
    assert!(asked <= 33, "{asked} requests, {refused} refused");
    let told = polls(&mut planner, &device, &fussy, 10).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let expected =
        ["holding:9-10", "holding:20-29", "holding:35", "holding:50-59", "holding:61"].map(str::to_owned);
    assert_eq!(told[0].holes, expected);
    let (asked, refused, good, _) = poll(&mut planner, &device, &fussy);
    assert_eq!((asked, refused), (6, 0));
    assert_eq!(good, readable(&device, &fussy));
    let known: Vec<usize> =
        planner.refused(&device, &all(&device)).iter().map(|sample| sample.point).collect();
    assert_eq!(known.len() + good.len(), device.points.len());

    // A restart asks nothing that is refused, and tells nothing again.
    let mut planner = Planner::new(Cost::tcp());
    planner.recall(&device, &told[0].value);
    assert_eq!(poll(&mut planner, &device, &fussy).1, 0);
    assert_eq!(polls(&mut planner, &device, &fussy, 10).await, []);
    // Other points: what was kept is not about them.
    let mut points = device.points.clone();
    points.truncate(30);
    let other = super::super::tests::device(125, points);
    let mut planner = Planner::new(Cost::tcp());
    planner.recall(&other, &told[0].value);
    assert!(poll(&mut planner, &other, &fussy).1 > 0);
    assert_eq!(polls(&mut planner, &other, &fussy, 10).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_everything_for_a_while_is_not_split_for_ever() {
    let device = fifty();
    let mut planner = Planner::new(Cost::tcp());
    let booting = Fussy { most: 0, ..Fussy::default() };
    let well = Fussy { most: 125, ..Fussy::default() };
    let before = poll(&mut planner, &device, &well).0;
    assert_eq!(polls(&mut planner, &device, &booting, 100).await, []);
    assert_eq!(poll(&mut planner, &device, &booting).0, before, "it is not halved again and again");
    assert_eq!(polls(&mut planner, &device, &well, 20).await, []);
    assert_eq!(poll(&mut planner, &device, &well), (before, 0, readable(&device, &well), None));
}

#[tokio::test(start_paused = true)]
async fn a_point_is_refused_three_times_before_it_is_not_asked_and_asked_again_after_a_day() {
    let device = fifty();
    let mut planner = Planner::new(Cost::tcp());
    let sick = Fussy { bad: [35].into(), most: 125, ..Fussy::default() };
    let well = Fussy { most: 125, ..Fussy::default() };
    let before = poll(&mut planner, &device, &well).0;
    polls(&mut planner, &device, &sick, 2).await;
    // Well again in time: as if nothing had been.
    assert_eq!(polls(&mut planner, &device, &well, 10).await, []);
    assert_eq!(poll(&mut planner, &device, &well).0, before);
    assert_eq!(polls(&mut planner, &device, &sick, 10).await.len(), 1);
    assert_eq!(poll(&mut planner, &device, &sick).1, 0);
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert_eq!(polls(&mut planner, &device, &sick, 10).await, [], "the same holes are no news");
    assert_eq!(poll(&mut planner, &device, &sick).1, 0);
    tokio::time::advance(Duration::from_secs(86_400)).await;
    let told = polls(&mut planner, &device, &well, 10).await;
    assert_eq!(told, [Kept { holes: Vec::new(), value: Vec::new() }], "it can be read again");
    assert_eq!(poll(&mut planner, &device, &well), (before, 0, readable(&device, &well), None));
}

#[test]
fn a_poll_of_nothing_but_holes_still_asks() {
    let device = device(125, vec![point(Area::Holding, 1, Kind::U16), point(Area::Holding, 9, Kind::U16)]);
    let mut planner = Planner::new(Cost::tcp());
    let kept = serde_json::json!({
        "points": kept_points(&device),
        "holes": [[3, 1, 2, 2], [3, 9, 10, 3]],
    });
    planner.recall(&device, kept.to_string().as_bytes());
    assert_eq!(places(&planner.plan(&device, &[0, 1])), [(1, 1)]);
    let refused = planner.refused(&device, &[0, 1]);
    assert_eq!(refused, [Sample { point: 1, raw: Err(Reason::Exception(3)) }]);
    let turned = kept.to_string().replace("[3,9,10,3]", "[3,10,9,3]");
    for damaged in ["", "{}", "[1", &turned] {
        planner.recall(&device, damaged.as_bytes());
    }
    assert_eq!(places(&planner.plan(&device, &[0, 1])), [(1, 1)]);
}

/// What tells the device's points from others, as it is kept.
fn kept_points(device: &Device) -> String {
    holes::fingerprint(device)
}

proptest! {
    #[test]
    fn every_readable_point_is_read_and_in_the_end_nothing_is_refused(
        numbers in prop::collection::btree_set(0_u16..150, 1..60),
        bad in prop::collection::btree_set(0_u16..160, 0..12),
        seams in prop::collection::vec(1_u16..150, 0..3),
        most in prop_oneof![Just(125_u16), 8_u16..60],
        is_bus in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let kind = |n: u16| if n.is_multiple_of(7) { Kind::U32 } else { Kind::U16 };
            let points = numbers.iter().map(|n| point(Area::Input, *n, kind(*n))).collect();
            let device = device(125, points);
            let fussy = Fussy { bad, seams, most };
            let readable = readable(&device, &fussy);
            prop_assume!(!readable.is_empty());
            let mut planner = if is_bus { bus() } else { Planner::new(Cost::tcp()) };
            for _ in 0..10 {
                tokio::time::advance(Duration::from_secs(1)).await;
                let (_, _, good, _) = poll(&mut planner, &device, &fussy);
                prop_assert_eq!(&good, &readable);
            }
            let (_, refused, good, _) = poll(&mut planner, &device, &fussy);
            prop_assert_eq!(refused, 0);
            prop_assert_eq!(&good, &readable);
            let known = planner.refused(&device, &all(&device)).len();
            prop_assert_eq!(known + good.len(), device.points.len());
            Ok(())
        })?;
    }
}
