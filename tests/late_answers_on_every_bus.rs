//! An RTU or ASCII answer does not say what was asked. One that is late must never become another point's value, on
//! a serial line as behind a serial server, which may hand it to the next connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;

use std::sync::Arc;

use fieldgate::address::Area;
use fieldgate::drivers::modbus::Modbus;
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Raw};
use peers::{Peer, device, driver, soon, within};
use tokio::time::Instant;

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

async fn open(transport: &str) -> (Peer, Modbus) {
    let (framing, over) = match transport {
        "rtu" => ("rtu", "pty"),
        "ascii" => ("ascii", "pty"),
        "rtu-tcp" => ("rtu", "tcp"),
        _ => ("ascii", "tcp"),
    };
    let peer = Peer::start("rtu_fake.py", &[framing, over]);
    let mut driver = driver(transport, &peer.place);
    driver.open(soon()).await.unwrap();
    (peer, driver)
}

/// Polls single registers of many addresses for which a unit answers late at random.
async fn poll_late_unit(transport: &str, polls: u16) {
    let (mut peer, mut driver) = open(transport).await;
    peer.tell("mode 1 late 0.2 0.02 0.25");
    let (mut good, mut wrong) = (0, 0);
    for n in 0..polls {
        let number = 100 + n * 7 % 1000;
        let device = match n % 8 {
            6 => device(1, &[(Area::Input, number, Kind::U16)]),
            7 => device(1, &[(Area::Holding, number, Kind::U32)]),
            _ => one(1, number),
        };
        let expected = match n % 8 {
            6 => words(&[number ^ 0xFFFF]),
            7 => words(&[number, number + 1]),
            _ => words(&[number]),
        };
        match poll(&mut driver, &device, within(60)).await {
            Ok(raws) if raws == [expected] => good += 1,
            Ok(_) => wrong += 1,
            Err(DriverError::Timeout) => {}
            Err(other) => panic!("{transport}: {other}"),
        }
    }
    let stats = peer.tell("stats");
    let late: u32 = stats.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(late > 20 && good > 50, "the peer was too kind or too slow: {late} late, {good} good");
    assert_eq!(wrong, 0, "{transport}: with {late} late answers and {good} good values");
    assert!(driver.counters().unwrap().skipped > 0, "{transport}: no late answer was skipped");
    // In time again, a few polls clear what is left.
    peer.tell("mode 1 ok");
    for attempt in 0.. {
        assert!(attempt < 30, "{transport}: good values do not come back");
        if poll(&mut driver, &one(1, 4711), within(2000)).await == Ok(vec![words(&[4711])]) {
            break;
        }
    }
}

#[tokio::test]
async fn late_rtu_reply_never_becomes_another_points_value() {
    poll_late_unit("rtu", 400).await;
}

#[tokio::test]
async fn late_rtu_reply_by_a_serial_server_never_becomes_another_points_value() {
    poll_late_unit("rtu-tcp", 400).await;
}

#[tokio::test]
async fn late_ascii_reply_never_becomes_another_points_value() {
    poll_late_unit("ascii", 400).await;
}

#[tokio::test]
async fn late_ascii_reply_by_a_serial_server_never_becomes_another_points_value() {
    poll_late_unit("ascii-tcp", 400).await;
}

#[tokio::test]
async fn wrong_and_damaged_answers_are_malformed_and_noise_and_single_bytes_do_no_harm() {
    for transport in ["rtu-tcp", "ascii", "ascii-tcp"] {
        let (mut peer, mut driver) = open(transport).await;
        for (unit, mode) in [(1, "short"), (2, "long"), (3, "crc"), (4, "cut"), (5, "babble 0.5")] {
            peer.tell(&format!("mode {unit} {mode}"));
            let result = poll(&mut driver, &one(unit, 10), within(400)).await;
            assert!(matches!(result, Err(DriverError::Malformed(_))), "{transport} {mode}: {result:?}");
        }
        for (unit, mode) in [(11, "garbage"), (12, "drip"), (13, "ok")] {
            peer.tell(&format!("mode {unit} {mode}"));
            for n in 0..5 {
                // The unit that babbles holds the line for a while.
                let raws = poll(&mut driver, &one(unit, 300 + n), soon()).await;
                assert_eq!(raws, Ok(vec![words(&[300 + n])]), "{transport} {mode}");
            }
        }
        peer.tell("mode 14 refuse 2");
        let refused = poll(&mut driver, &one(14, 1), soon()).await;
        assert_eq!(refused, Err(DriverError::Refused(2)), "{transport}");
        peer.tell("mode 15 echo");
        let result = driver.write(&one(15, 10), 0, &words(&[5]), soon()).await;
        assert!(matches!(result, Err(DriverError::Unconfirmed(_))), "{transport}: {result:?}");
    }
}
