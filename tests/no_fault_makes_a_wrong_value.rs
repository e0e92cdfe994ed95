//! Through late, damaged, doubled, merged, foreign and noisy answers, on real ptys and sockets, a value is right or it is
//! bad: behind the proxy that makes them stands pymodbus. The same in memory, with a million values on each transport, is a
//! unit test of the Modbus driver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use fieldgate::drivers::Driver;
use support::fault::real::{self, TRANSPORTS};
use support::fault::{EVERYTHING, Fault, Shared, Times, seed, trial, unit};
use support::{Broker, Gateway, LIMIT, ModbusPeer, Subscriber, head, rounds};
use tokio::time::Instant;

/// How long an answer is waited for: a busy machine is in time as a rule.
const PATIENCE: Duration = Duration::from_millis(250);

/// Requests of a hundred that bring what they should, at least, on a busy machine. The test in memory asks for more.
const SHARE: usize = 50;

fn faults(transport: &str) -> Shared {
    // An answer that comes twice leaves in one write. A pause of a millisecond can take ten on a busy machine, and the
    // copy would come to the next request: nothing tells it from an answer then. In memory the pause is exact.
    let times = Times { patience: PATIENCE, byte: Duration::from_micros(100), silence: Duration::ZERO };
    let at = TRANSPORTS.iter().position(|it| *it == transport).unwrap();
    Shared::new(EVERYTHING, times, seed() + u64::try_from(at).unwrap())
}

async fn survives(transport: &str) {
    let faults = faults(transport);
    let peer = ModbusPeer::on(transport, &trial::described());
    let device = real::Device::Other(peer.address.clone());
    let mut driver = real::driver(transport, &real::start(transport, device, faults.clone()));
    driver.open(Instant::now() + LIMIT).await.unwrap();
    let values = rounds(20_000, 200_000);
    let verdict = trial::run(&mut driver, &faults, PATIENCE, values, seed() ^ 1).await;
    println!("{transport}: {verdict}\n  {faults}");
    assert!(verdict.wrong.is_empty(), "{verdict}");
    assert!(verdict.good >= values && verdict.share() >= SHARE, "{verdict}\n{faults}");
    // One of eight on average.
    let disturbed: usize = EVERYTHING.iter().map(|(fault, _)| faults.done(*fault)).sum();
    assert!(disturbed >= verdict.asked / 20, "{faults}");
    trial::recovery(&mut driver, &faults, PATIENCE).await;
}

#[tokio::test]
async fn by_tcp_none_is_wrong() {
    survives("tcp").await;
}

#[tokio::test]
async fn by_rtu_none_is_wrong() {
    survives("rtu").await;
}

#[tokio::test]
async fn by_rtu_on_tcp_none_is_wrong() {
    survives("rtu-tcp").await;
}

#[tokio::test]
async fn by_ascii_none_is_wrong() {
    survives("ascii").await;
}

#[tokio::test]
async fn by_ascii_on_tcp_none_is_wrong() {
    survives("ascii-tcp").await;
}

/// Two units of a link, 125 registers each.
fn devices(transport: &str, place: &str) -> String {
    let driver = format!("modbus-{}", if transport == "ascii-tcp" { "ascii" } else { transport });
    let at = match place.strip_prefix('/') {
        Some(_) => format!("path = \"{place}\"\nbaud_rate = 115200"),
        None => format!("address = \"127.0.0.1:{place}\""),
    };
    let mut config = format!("[links.{transport}]\ndriver = \"{driver}\"\n{at}\ntimeout = \"250ms\"\n");
    for (unit, table) in [(1, "holding"), (2, "input")] {
        write!(config, "[devices.{transport}-{unit}]\nlink = \"{transport}\"\naddress = {unit}\n").unwrap();
        config += "poll_interval = \"50ms\"\n";
        for place in 0..125 {
            writeln!(config, "points.p{place} = {{ address = \"{table}:{place}\", type = \"u16\" }}")
                .unwrap();
        }
    }
    config
}

#[test]
fn what_is_published_is_what_the_registers_say() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/+/readings");
    let lines: Vec<Shared> = TRANSPORTS.iter().map(|transport| faults(transport)).collect();
    let units = unit::described(2, &[0], 125);
    let peers = TRANSPORTS.map(|transport| ModbusPeer::on(transport, &units));
    let mut config = head(folder.path(), &broker);
    for ((transport, faults), peer) in TRANSPORTS.iter().zip(&lines).zip(&peers) {
        let device = real::Device::Other(peer.address.clone());
        config += &devices(transport, &real::start(transport, device, faults.clone()));
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    let wanted = rounds(100_000, 1_000_000);
    let (mut seen, mut good) = (0, [0; TRANSPORTS.len()]);
    watcher.wait("readings of every transport", LIMIT * 10, |messages| {
        for message in &messages[seen..] {
            let device = message.topic.split('/').nth(2).unwrap();
            let (transport, unit) = device.rsplit_once('-').unwrap();
            let unit: u8 = unit.parse().unwrap();
            let json = message.json();
            let values = json["values"].as_object().unwrap();
            for (point, value) in values {
                let place: u16 = point[1..].parse().unwrap();
                let right = unit::word(unit, if unit == 1 { 3 } else { 4 }, place);
                assert_eq!(value, right, "{point} of {device} in {json}");
            }
            let transport = TRANSPORTS.iter().position(|it| *it == transport).unwrap();
            good[transport] += values.len();
        }
        seen = messages.len();
        let total: usize = good.iter().sum();
        (total >= wanted && good.iter().all(|good| *good >= wanted / 20)).then_some(())
    });
    println!("{seen} records, right values by {TRANSPORTS:?}: {good:?}");
    for (transport, faults) in TRANSPORTS.iter().zip(&lines) {
        println!("{transport}: {faults}");
        assert!(faults.done(Fault::Late) > 0, "{transport}");
    }
    assert!(gateway.stop().success());
}
