//! A million values on every transport, through every fault that answers can have, under paused time.

#[path = "../../../tests/support/fault/mod.rs"]
mod fault;

use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bus::{Access, Bus};
use super::cost::Cost;
use super::dial::Dial;
use super::pace::Pace;
use super::{Modbus, TURNAROUND, Way, plan, tcp, write};
use crate::config::SerialLine;
use crate::drivers::Driver;
use fault::proxy::{End, Proxy};
use fault::wire::Wire;
use fault::{EVERYTHING, Fault, Shared, Times, seed, trial, unit};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Right values that are read on each transport.
const VALUES: usize = 1_000_000;

/// Requests of a hundred that bring what they should, at least: ten suffer a fault that cannot end well, and a
/// late answer also takes the time of the next.
const SHARE: usize = 80;

fn line() -> SerialLine {
    SerialLine { baud_rate: 19_200, ..SerialLine::at("memory") }
}

fn modbus(way: Way) -> Modbus {
    let planner = plan::Planner::new(Cost::tcp());
    Modbus { way, turnaround: TURNAROUND, refusals: write::Refusals::default(), planner }
}

/// A device for each connection, whose answers die with it.
async fn serve_connections(mut others: UnboundedReceiver<DuplexStream>, faults: Shared) {
    let mut proxies = JoinSet::new();
    while let Some(gateway) = others.recv().await {
        let (sender, gateways) = unbounded_channel();
        sender.send(Box::new(gateway) as End).unwrap();
        proxies.spawn(Proxy::new(gateways, device(Wire::Tcp), Wire::Tcp, true, faults.clone()).run());
        while proxies.try_join_next().is_some() {}
    }
}

/// One line behind all connections.
async fn serve_line(
    mut others: UnboundedReceiver<DuplexStream>,
    wire: Wire,
    is_server: bool,
    faults: Shared,
) {
    let (sender, gateways) = unbounded_channel();
    tokio::spawn(Proxy::new(gateways, device(wire), wire, is_server, faults).run());
    while let Some(gateway) = others.recv().await {
        sender.send(Box::new(gateway)).unwrap();
    }
}

fn device(wire: Wire) -> End {
    let (ours, theirs) = duplex(4096);
    tokio::spawn(unit::serve(theirs, wire));
    Box::new(ours)
}

async fn survives(wire: Wire, is_server: bool) {
    let silence = if is_server { Duration::ZERO } else { line().character_time().mul_f64(3.5) };
    let times = Times { patience: PATIENCE, byte: Duration::from_millis(5), silence };
    let faults = Shared::new(EVERYTHING, times, seed());
    let (sender, others) = unbounded_channel();
    let pace = Pace::new(Duration::ZERO);
    let is_ascii = wire == Wire::Ascii;
    let way = match (wire, is_server) {
        (Wire::Tcp, _) => Way::Tcp(tcp::Tcp::new(Dial::in_memory(sender), pace)),
        (_, true) => Way::Bus(Bus::new(Access::Server(Dial::in_memory(sender)), is_ascii, pace)),
        (_, false) => Way::Bus(Bus::new(Access::Memory(line(), sender), is_ascii, pace)),
    };
    match wire {
        Wire::Tcp => tokio::spawn(serve_connections(others, faults.clone())),
        _ => tokio::spawn(serve_line(others, wire, is_server, faults.clone())),
    };
    let mut driver = modbus(way);
    driver.open(Instant::now() + PATIENCE).await.unwrap();
    let begun = Instant::now();
    let verdict = trial::run(&mut driver, &faults, PATIENCE, VALUES, seed() ^ 1).await;
    println!("{wire:?} {is_server}: {verdict}\n  {faults}, in {:?} of its time", begun.elapsed());
    assert!(verdict.wrong.is_empty(), "{verdict}");
    assert!(verdict.good >= VALUES && verdict.share() >= SHARE, "{verdict}\n{faults}");
    for (fault, _) in EVERYTHING {
        let is_possible = match fault {
            Fault::Foreign => wire == Wire::Tcp,
            Fault::Echo => wire != Wire::Tcp,
            Fault::Reset | Fault::HalfOpen => is_server,
            _ => true,
        };
        assert_eq!(faults.done(*fault) > 10, is_possible, "{fault:?}: {faults}");
    }
    let took = trial::recovery(&mut driver, &faults, PATIENCE).await;
    assert!(took <= 10, "{took} requests until all is well again");
}

#[tokio::test(start_paused = true)]
async fn a_million_values_by_tcp_and_none_is_wrong() {
    survives(Wire::Tcp, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_million_values_by_rtu_and_none_is_wrong() {
    survives(Wire::Rtu, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_million_values_by_rtu_on_tcp_and_none_is_wrong() {
    survives(Wire::Rtu, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_million_values_by_ascii_and_none_is_wrong() {
    survives(Wire::Ascii, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_million_values_by_ascii_on_tcp_and_none_is_wrong() {
    survives(Wire::Ascii, true).await;
}
