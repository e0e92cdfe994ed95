//! Modbus RTU against a pymodbus server and against a line whose units misbehave, both over ptys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;

use std::sync::Arc;
use std::time::Duration;

use fieldgate::address::Area;
use fieldgate::drivers::modbus::Modbus;
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Raw};
use peers::{Peer, device, line, soon, within};
use tokio::time::Instant;

async fn open(peer: &Peer) -> Modbus {
    let mut driver = Modbus::rtu(line(&peer.place));
    driver.open(soon()).await.unwrap();
    driver
}

/// Reads every point of the device, in requests as planned.
async fn poll(driver: &mut Modbus, device: &Arc<Device>, deadline: Instant) -> Result<Vec<Raw>, DriverError> {
    let due: Vec<usize> = (0..device.points.len()).collect();
    let mut raws = vec![None; due.len()];
    for request in driver.plan(device, &due) {
        for sample in driver.exchange(&request, deadline).await? {
            raws[sample.point] = Some(sample.raw.unwrap());
        }
    }
    Ok(raws.into_iter().map(Option::unwrap).collect())
}

fn words(words: &[u16]) -> Raw {
    Raw::Words(words.iter().copied().collect())
}

fn one(unit: u8, number: u16) -> Arc<Device> {
    device(unit, &[(Area::Holding, number, Kind::U16)])
}

#[tokio::test]
async fn every_area_is_read_and_written() {
    let peer = Peer::start("modbus_server.py", &["rtu"]);
    let mut driver = open(&peer).await;
    let device = device(
        1,
        &[
            (Area::Holding, 700, Kind::U16),
            (Area::Holding, 701, Kind::F32),
            (Area::Input, 9, Kind::U64),
            (Area::Coil, 9, Kind::Bool),
            (Area::Coil, 10, Kind::Bool),
            (Area::Discrete, 15, Kind::Bool),
            (Area::Holding, 60_000, Kind::U16),
        ],
    );
    let mut plan = driver.plan(&device, &[0, 1, 2, 3, 4, 5, 6]);
    let refused = plan.iter().position(|r| r.points == [6]).unwrap();
    let refused = plan.remove(refused);
    let mut raws = Vec::new();
    for request in &plan {
        for sample in driver.exchange(request, soon()).await.unwrap() {
            raws.push((sample.point, sample.raw.unwrap()));
        }
    }
    raws.sort_unstable_by_key(|(point, _)| *point);
    let raws: Vec<Raw> = raws.into_iter().map(|(_, raw)| raw).collect();
    let inputs = [9_u16, 10, 11, 12].map(|n| n ^ 0xFFFF);
    let expected =
        [words(&[700]), words(&[701, 702]), words(&inputs), Raw::Bit(true), Raw::Bit(false), Raw::Bit(true)];
    assert_eq!(raws, expected);
    assert_eq!(driver.exchange(&refused, soon()).await, Err(DriverError::Refused(2)));
    for (point, raw) in [(0, words(&[0xBEEF])), (1, words(&[0x4145, 0x70A4])), (4, Raw::Bit(true))] {
        assert_eq!(driver.write(&device, point, &raw, soon()).await, Ok(raw.clone()), "{raw:?}");
    }
    let refused = driver.write(&device, 6, &words(&[1]), soon()).await;
    assert_eq!(refused, Err(DriverError::Refused(2)));
}

#[tokio::test]
async fn a_cancelled_exchange_leaves_nothing_to_be_believed() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    let mut driver = open(&peer).await;
    peer.tell("mode 1 late 1 0.05 0.05");
    for n in 0..20 {
        let first = one(1, 100 + n);
        let cut = tokio::time::timeout(Duration::from_millis(20), poll(&mut driver, &first, soon())).await;
        assert!(cut.is_err(), "the answer came too early: {cut:?}");
        let raws = poll(&mut driver, &one(1, 200 + n), soon()).await.unwrap();
        assert_eq!(raws, [words(&[200 + n])]);
    }
}

/// Coils from 0x300 on: their request has the very form of their answer.
#[tokio::test]
async fn a_request_that_comes_back_is_no_answer() {
    const FIRST: u16 = 0x300;
    let mut peer = Peer::start("rtu_fake.py", &[]);
    peer.tell("mode 1 hears");
    let mut driver = open(&peer).await;
    for count in [17, 20, 24] {
        let coils: Vec<_> = (FIRST..FIRST + count).map(|number| (Area::Coil, number, Kind::Bool)).collect();
        let raws = poll(&mut driver, &device(1, &coils), soon()).await.unwrap();
        let expected: Vec<Raw> = (FIRST..FIRST + count).map(|number| Raw::Bit(number % 3 == 0)).collect();
        assert_eq!(raws, expected, "{count} coils");
    }
    assert!(driver.counters().unwrap().skipped > 0, "nothing came back");
}

#[tokio::test]
async fn answers_of_the_wrong_size_or_echo_are_malformed() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    for (unit, mode) in [(1, "short"), (2, "long"), (3, "crc"), (4, "cut"), (5, "babble 0.5")] {
        peer.tell(&format!("mode {unit} {mode}"));
        let mut driver = open(&peer).await;
        for _ in 0..2 {
            let result = poll(&mut driver, &one(unit, 10), within(400)).await;
            assert!(matches!(result, Err(DriverError::Malformed(_))), "{mode}: {result:?}");
        }
        let counters = driver.counters().unwrap();
        assert!(counters.garbage + counters.stale + counters.skipped > 0, "{mode} was not counted");
    }
    peer.tell("mode 6 echo");
    let mut driver = open(&peer).await;
    for kind in [Kind::U16, Kind::U32] {
        let device = device(6, &[(Area::Holding, 10, kind)]);
        let raw = words(&[5, 6][..usize::from(kind.registers())]);
        let before = Instant::now();
        let result = driver.write(&device, 0, &raw, soon()).await;
        assert!(matches!(result, Err(DriverError::Unconfirmed(_))), "{result:?}");
        assert!(before.elapsed() < Duration::from_secs(10), "the verdict waited for the deadline");
    }
}

#[tokio::test]
async fn garbage_around_an_answer_and_single_bytes_do_not_harm() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    peer.tell("mode 1 garbage");
    peer.tell("mode 2 drip");
    let mut driver = open(&peer).await;
    for n in 0..10 {
        for unit in [1, 2] {
            let raws = poll(&mut driver, &one(unit, 300 + n), soon()).await.unwrap();
            assert_eq!(raws, [words(&[300 + n])], "unit {unit}");
        }
    }
    assert!(driver.counters().unwrap().garbage > 0);
}

#[tokio::test]
async fn a_silent_unit_does_not_stop_its_line() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    peer.tell("mode 1 silent");
    let mut driver = open(&peer).await;
    for n in 0..15 {
        let before = Instant::now();
        let result = poll(&mut driver, &one(1, n), within(50)).await;
        assert_eq!(result, Err(DriverError::Timeout));
        assert!(before.elapsed() < Duration::from_secs(5), "the deadline was not kept");
        assert_eq!(poll(&mut driver, &one(2, n), soon()).await, Ok(vec![words(&[n])]));
    }
    // Back again, it is believed after at most a few polls.
    peer.tell("mode 1 ok");
    for attempt in 0.. {
        assert!(attempt < 5, "the unit does not come back");
        if poll(&mut driver, &one(1, 33), within(2000)).await == Ok(vec![words(&[33])]) {
            break;
        }
    }
}

#[tokio::test]
async fn an_exception_is_told_and_a_unit_that_only_refuses_is_not_lost() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    let mut driver = open(&peer).await;
    peer.tell("mode 1 silent");
    for n in 0..5 {
        let result = poll(&mut driver, &one(1, n), within(50)).await;
        assert_eq!(result, Err(DriverError::Timeout));
    }
    peer.tell("mode 1 refuse 2");
    for attempt in 0.. {
        assert!(attempt < 12, "the refusals are never believed");
        if poll(&mut driver, &one(1, 5), within(300)).await == Err(DriverError::Refused(2)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_write_goes_out_once() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    peer.tell("mode 1 silent");
    let mut driver = open(&peer).await;
    let device = one(1, 40);
    let raw = words(&[55]);
    let result = driver.write(&device, 0, &raw, within(100)).await;
    assert_eq!(result, Err(DriverError::Timeout));
    let requests = peer.tell("stats");
    assert!(requests.starts_with("1 "), "{requests}");
    peer.tell("mode 1 ok");
    assert_eq!(driver.write(&device, 0, &raw, soon()).await, Ok(raw));
}

#[tokio::test]
async fn the_line_is_silent_between_two_requests() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    let mut driver = open(&peer).await;
    for n in 0..50 {
        poll(&mut driver, &one(1, n), soon()).await.unwrap();
    }
    let stats = peer.tell("stats");
    let gap: f64 = stats.split(' ').nth(2).unwrap().parse().unwrap();
    // 3.5 characters of 10 bits at 19200 baud.
    assert!(gap >= 0.00182, "{gap} s");
}

#[tokio::test]
async fn a_vanished_port_is_a_lost_link_at_once() {
    let mut peer = Peer::start("rtu_fake.py", &[]);
    peer.tell("mode 1 silent");
    let mut driver = open(&peer).await;
    assert_eq!(poll(&mut driver, &one(2, 1), soon()).await, Ok(vec![words(&[1])]));
    let device = one(1, 1);
    let before = Instant::now();
    let busy = cpu_time();
    let (result, ()) = tokio::join!(poll(&mut driver, &device, soon()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.stop();
    });
    assert!(matches!(result, Err(DriverError::Lost(_))), "{result:?}");
    assert!(before.elapsed() < Duration::from_secs(10), "only the deadline ended it");
    for _ in 0..100 {
        let result = poll(&mut driver, &device, within(5)).await;
        assert!(matches!(result, Err(DriverError::Lost(_))), "{result:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        cpu_time().saturating_sub(busy) < Duration::from_millis(500),
        "a dead line kept the processor busy"
    );
    let Err(DriverError::Lost(why)) = driver.open(soon()).await else { panic!("a missing port was opened") };
    assert!(why.contains(&peer.place), "{why}");
}

#[tokio::test]
async fn a_port_in_use_says_so() {
    let peer = Peer::start("rtu_fake.py", &[]);
    let mut first = open(&peer).await;
    let Err(DriverError::Lost(why)) = Modbus::rtu(line(&peer.place)).open(soon()).await else {
        panic!("the port was opened twice")
    };
    assert!(why.contains(&peer.place) && why.contains("another program"), "{why}");
    // Opening again closes first, so it does not stand in its own way.
    first.open(soon()).await.unwrap();
    assert_eq!(poll(&mut first, &one(1, 8), soon()).await, Ok(vec![words(&[8])]));
}

/// Processor time of this thread so far, from proc(5): user and system time, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|field| Duration::from_millis(10 * field.parse::<u64>().unwrap())).sum()
}
