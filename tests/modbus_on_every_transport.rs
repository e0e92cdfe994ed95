//! Modbus over TCP, RTU and ASCII, on a serial line and over TCP, against pymodbus: every type and order in both
//! directions, single bits, broadcasts.

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

use fieldgate::address::{Address, Area};
use fieldgate::decode::{decode, encode};
use fieldgate::drivers::modbus::{Modbus, Settings};
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Order, Point, Protocol, Raw, Reads, Value};
use peers::matrix::{self, TYPES, agree};
use peers::{Peer, device, driver, settings, soon, within};
use tokio::time::Instant;

const TRANSPORTS: [&str; 5] = ["tcp", "rtu", "rtu-tcp", "ascii", "ascii-tcp"];

const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

/// What stands around a value, to see that it stays.
const AROUND: u16 = 0xA5A5;

struct Bench {
    peer: Peer,
    driver: Modbus,
}

impl Bench {
    async fn start(transport: &str, lacks: &[&str]) -> Self {
        let peer = Peer::start("modbus_bus.py", &[&[transport], lacks].concat());
        let mut driver = driver(transport, &peer.place);
        driver.open(soon()).await.unwrap();
        Self { peer, driver }
    }

    async fn read(&mut self, device: &Arc<Device>) -> Value {
        let request = self.driver.plan(device, &[0]).remove(0);
        let samples = self.driver.exchange(&request, soon()).await.unwrap();
        decode(&device.points[0], samples[0].raw.as_ref().unwrap()).unwrap()
    }

    async fn write(&mut self, device: &Arc<Device>, value: &Value) -> Result<Raw, DriverError> {
        let raw = encode(&device.points[0], value).unwrap();
        self.driver.write(device, 0, &raw, soon()).await
    }

    fn words(&mut self, unit: u8, start: u16, count: u16) -> Vec<u16> {
        let text = self.peer.tell(&format!("words {unit} {start} {count}"));
        text.split(' ').map(|word| word.parse().unwrap()).collect()
    }

    fn set(&mut self, unit: u8, start: u16, words: &[u16]) {
        let words: Vec<String> = words.iter().map(u16::to_string).collect();
        assert_eq!(self.peer.tell(&format!("set {unit} {start} {}", words.join(" "))), "ok");
    }

    fn seen(&mut self) -> Vec<String> {
        self.peer.tell("seen").split_whitespace().map(str::to_owned).collect()
    }
}

fn changed(device: &Device, change: impl FnOnce(&mut Device)) -> Arc<Device> {
    let mut device = device.clone();
    change(&mut device);
    Arc::new(device)
}

/// A device with one holding register point.
fn one(unit: u8, number: u16, kind: Kind, change: impl FnOnce(&mut Point)) -> Arc<Device> {
    changed(&device(unit, &[(Area::Holding, number, kind)]), |device| change(&mut device.points[0]))
}

fn kinds() -> impl Iterator<Item = (&'static str, Kind)> {
    TYPES.into_iter().map(|name| {
        let kind = match name.strip_prefix("string") {
            Some(length) => Kind::String { length: length.parse().unwrap() },
            None => Kind::parse(name, 0).unwrap(),
        };
        (name, kind)
    })
}

/// The value that the peer shows as this text.
fn value(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::String { .. } => Value::Text(text.to_owned()),
        Kind::F32 | Kind::F64 => Value::F64(text.parse().unwrap()),
        _ => Value::Int(text.parse().unwrap()),
    }
}

async fn every_type_and_order(transport: &str) {
    let mut bench = Bench::start(transport, &[]).await;
    for (name, kind) in kinds() {
        for (order_name, order) in matrix::ORDERS.into_iter().zip(ORDERS) {
            let device = one(2, 100, kind, |point| point.order = order);
            let what = format!("{transport} {name} {order_name}");
            for _ in 0..2 {
                let theirs = bench.peer.tell(&format!("roll {name}"));
                assert_eq!(bench.peer.tell(&format!("put 2 100 {name} {order_name} {theirs}")), "ok");
                let ours = bench.read(&device).await.to_string();
                assert!(agree(name, &ours, &theirs), "{what}: read {ours}, the peer has {theirs}");

                let count = usize::from(kind.registers());
                bench.set(2, 99, &vec![AROUND; count + 2]);
                let theirs = bench.peer.tell(&format!("roll {name}"));
                let raw = bench.write(&device, &value(kind, &theirs)).await;
                let raw = raw.unwrap_or_else(|error| panic!("{what}: {error}"));
                let told = decode(&device.points[0], &raw).unwrap().to_string();
                assert!(agree(name, &told, &theirs), "{what}: wrote {theirs}, told {told}");
                let kept = bench.peer.tell(&format!("take 2 100 {name} {order_name}"));
                assert!(agree(name, &kept, &theirs), "{what}: wrote {theirs}, the peer has {kept}");
                let words = bench.words(2, 99, u16::try_from(count + 2).unwrap());
                assert_eq!((words[0], words[count + 1]), (AROUND, AROUND), "{what}: {words:x?}");
                if matches!(kind, Kind::I8 | Kind::U8) {
                    let high = if order.swaps_bytes() { words[1] & 0xFF } else { words[1] >> 8 };
                    assert_eq!(high, AROUND & 0xFF, "{what}: the other byte was touched: {words:x?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_type_and_order_both_ways_over_tcp() {
    every_type_and_order("tcp").await;
}

#[tokio::test]
async fn every_type_and_order_both_ways_over_rtu() {
    every_type_and_order("rtu").await;
}

#[tokio::test]
async fn every_type_and_order_both_ways_over_rtu_on_tcp() {
    every_type_and_order("rtu-tcp").await;
}

#[tokio::test]
async fn every_type_and_order_both_ways_over_ascii() {
    every_type_and_order("ascii").await;
}

#[tokio::test]
async fn every_type_and_order_both_ways_over_ascii_on_tcp() {
    every_type_and_order("ascii-tcp").await;
}

#[tokio::test]
async fn the_units_of_one_link_are_told_apart() {
    for transport in TRANSPORTS {
        let mut bench = Bench::start(transport, &[]).await;
        for unit in 1..=3 {
            bench.set(unit, 5, &[u16::from(unit) * 111]);
        }
        for unit in [3, 1, 2, 1, 3, 2] {
            let read = bench.read(&one(unit, 5, Kind::U16, |_| {})).await;
            assert_eq!(read, Value::Int(i128::from(unit) * 111), "{transport}");
        }
        let coil = device(2, &[(Area::Coil, 7, Kind::Bool)]);
        bench.write(&coil, &Value::Bool(true)).await.unwrap();
        assert_eq!(bench.read(&coil).await, Value::Bool(true), "{transport}");
        assert_eq!(bench.peer.tell("words 2 coil:6 3"), "0 1 0", "{transport}");
        assert_eq!(bench.peer.tell("words 1 coil:6 3"), "0 0 0", "{transport}");
    }
}

/// Bits and fields of one register and of two, with what they leave alone.
async fn write_parts(bench: &mut Bench, transport: &str) {
    let bit = |bit: u8| {
        move |point: &mut Point| {
            point.address = Address::Register { area: Area::Holding, number: 50, bit: Some(bit) }
        }
    };
    let field = |low: u8, high: u8, order: Order| {
        move |point: &mut Point| (point.bits, point.order) = (Some((low, high)), order)
    };
    let on = Value::Bool(true);
    for (device, value, before, after) in [
        (one(1, 50, Kind::Bool, bit(0)), on.clone(), [0xA5A4, 7], [0xA5A5, 7]),
        (one(1, 50, Kind::Bool, bit(15)), Value::Bool(false), [0xFFFF, 7], [0x7FFF, 7]),
        (one(1, 50, Kind::U16, field(4, 7, Order::Abcd)), Value::Int(6), [0xFFFF, 7], [0xFF6F, 7]),
        (one(1, 50, Kind::U16, field(4, 7, Order::Badc)), Value::Int(6), [0xFFFF, 7], [0x6FFF, 7]),
        (one(1, 50, Kind::U32, field(4, 7, Order::Abcd)), Value::Int(6), [0xFFFF, 0xFFFF], [0xFFFF, 0xFF6F]),
        (one(1, 50, Kind::U32, field(4, 7, Order::Cdab)), Value::Int(6), [0xFFFF, 0xFFFF], [0xFF6F, 0xFFFF]),
        (
            one(1, 50, Kind::U32, field(12, 19, Order::Abcd)),
            Value::Int(0x5A),
            [0xFFFF, 0xFFFF],
            [0xFFF5, 0xAFFF],
        ),
    ] {
        bench.set(1, 49, &[AROUND, before[0], before[1], AROUND]);
        let raw = bench.write(&device, &value).await.unwrap();
        let words = bench.words(1, 49, 4);
        assert_eq!(words, [AROUND, after[0], after[1], AROUND], "{transport} {device:?} {words:x?}");
        assert_eq!(decode(&device.points[0], &raw), Ok(value), "{transport}");
    }
}

#[tokio::test]
async fn a_bit_never_disturbs_its_neighbours_where_function_22_is_known() {
    for transport in TRANSPORTS {
        let mut bench = Bench::start(transport, &[]).await;
        write_parts(&mut bench, transport).await;
        let seen = bench.seen();
        let of = |function: &str| seen.iter().filter(|seen| *seen == function).count();
        assert_eq!((of("1:22"), of("1:6"), of("1:16")), (6, 0, 1), "{transport}: {seen:?}");
    }
}

#[tokio::test]
async fn a_bit_never_disturbs_its_neighbours_where_function_22_is_missing() {
    for transport in TRANSPORTS {
        let mut bench = Bench::start(transport, &["22"]).await;
        write_parts(&mut bench, transport).await;
        let seen = bench.seen();
        let of = |function: &str| seen.iter().filter(|seen| *seen == function).count();
        // It is asked once, and remembered: for the session.
        assert_eq!((of("1:22"), of("1:6"), of("1:16")), (1, 6, 1), "{transport}: {seen:?}");
        bench.driver.open(soon()).await.unwrap();
        write_parts(&mut bench, transport).await;
        assert_eq!(bench.seen().iter().filter(|seen| *seen == "1:22").count(), 1, "{transport}");
    }
}

#[tokio::test]
async fn devices_that_lack_the_single_writes_get_the_others() {
    for transport in ["tcp", "ascii"] {
        let mut bench = Bench::start(transport, &["5", "6"]).await;
        let register = one(1, 50, Kind::U16, |_| {});
        let coil = device(1, &[(Area::Coil, 7, Kind::Bool)]);
        for round in 0..2 {
            bench.write(&register, &Value::Int(300 + round)).await.unwrap();
            bench.write(&coil, &Value::Bool(round == 0)).await.unwrap();
            assert_eq!(bench.words(1, 50, 1), [u16::try_from(300 + round).unwrap()]);
        }
        let seen = bench.seen();
        let of = |function: &str| seen.iter().filter(|seen| *seen == function).count();
        assert_eq!((of("1:5"), of("1:15"), of("1:6"), of("1:16")), (1, 2, 1, 2), "{transport}: {seen:?}");
    }
}

#[tokio::test]
async fn function_23_writes_and_reads_back_at_once_where_it_is_configured() {
    for transport in TRANSPORTS {
        for (lacks, expected) in
            [(&[][..], vec!["1:23", "1:23"]), (&["23"], vec!["1:23", "1:16", "1:3", "1:16", "1:3"])]
        {
            let mut bench = Bench::start(transport, lacks).await;
            let device = changed(&one(1, 50, Kind::U32, |point| point.order = Order::Cdab), |device| {
                device.protocol =
                    Protocol::Modbus { unit: 1, reads: Reads::default(), broadcast: false, read_write: true };
            });
            for number in [0x0001_0002, 0x0003_0004] {
                let raw = bench.write(&device, &Value::Int(number)).await.unwrap();
                assert_eq!(decode(&device.points[0], &raw), Ok(Value::Int(number)), "{transport}");
            }
            assert_eq!(bench.words(1, 50, 2), [4, 3], "{transport}");
            assert_eq!(bench.seen(), expected, "{transport}");
        }
    }
}

fn everyone(points: &[(Area, u16, Kind)]) -> Arc<Device> {
    changed(&device(0, points), |device| {
        device.protocol =
            Protocol::Modbus { unit: 0, reads: Reads::default(), broadcast: true, read_write: false };
        // Nobody may wait for an answer.
        device.patience = Duration::from_secs(25);
    })
}

#[tokio::test]
async fn a_broadcast_reaches_every_unit_and_nothing_is_awaited() {
    for transport in ["rtu", "rtu-tcp", "ascii", "ascii-tcp"] {
        let mut bench = Bench::start(transport, &[]).await;
        let all = everyone(&[
            (Area::Holding, 50, Kind::U16),
            (Area::Holding, 52, Kind::U32),
            (Area::Coil, 3, Kind::Bool),
            (Area::Holding, 55, Kind::U8),
        ]);
        assert!(bench.driver.plan(&all, &[0, 1, 2, 3]).is_empty(), "nobody would answer");
        for unit in 1..=3 {
            bench.set(unit, 55, &[AROUND]);
        }
        let raws = [Value::Int(4711), Value::Int(0x0001_0002), Value::Bool(true), Value::Int(0x77)];
        for (index, value) in raws.iter().enumerate() {
            let raw = encode(&all.points[index], value).unwrap();
            let begun = Instant::now();
            assert_eq!(bench.driver.write(&all, index, &raw, soon()).await, Ok(raw), "{transport}");
            let took = begun.elapsed();
            assert!(took >= Duration::from_millis(100), "{transport}: no time to obey: {took:?}");
            assert!(took < Duration::from_secs(20), "{transport}: an answer was awaited: {took:?}");
        }
        // On the bus a request is answered after all that came before it.
        for unit in 1..=3 {
            let after = one(unit, 50, Kind::U16, |_| {});
            assert_eq!(bench.read(&after).await, Value::Int(4711), "{transport} unit {unit}");
            assert_eq!(bench.words(unit, 50, 6), [4711, 0, 1, 2, 0, 0xA577], "{transport} unit {unit}");
            assert_eq!(
                bench.peer.tell(&format!("words {unit} coil:2 3")),
                "0 1 0",
                "{transport} unit {unit}"
            );
        }
        let seen = bench.seen();
        assert_eq!(
            seen,
            ["0:6", "0:16", "0:5", "0:22", "1:3", "2:3", "3:3"],
            "{transport}: each went out once"
        );
    }
}

#[tokio::test]
async fn a_fresh_connection_or_port_is_left_alone_for_a_while() {
    let pause_after_connect = Duration::from_millis(300);
    for transport in TRANSPORTS {
        let peer = Peer::start("modbus_bus.py", &[transport]);
        let settings = settings(transport, &peer.place);
        let mut driver = Modbus::new(Settings { pause_after_connect, ..settings });
        let opened = Instant::now();
        driver.open(soon()).await.unwrap();
        let device = one(1, 5, Kind::U16, |_| {});
        let request = driver.plan(&device, &[0]).remove(0);
        // Less patience than pause: nothing is sent, and the connection is kept until its time has come.
        let mut polls = 0;
        while driver.exchange(&request, within(250)).await.is_err() {
            polls += 1;
            assert!(polls < 100, "{transport}: the pause begins anew with each poll");
        }
        assert!(opened.elapsed() >= pause_after_connect, "{transport}: {:?}", opened.elapsed());
    }
}

#[tokio::test]
async fn a_pause_stands_before_each_request() {
    let pause = Duration::from_millis(40);
    for transport in TRANSPORTS {
        let mut bench = Bench::start(transport, &[]).await;
        let slow = changed(&one(1, 50, Kind::U16, |_| {}), |device| device.pause = pause);
        let quick = one(2, 50, Kind::U16, |_| {});
        bench.read(&quick).await;
        bench.peer.tell("gaps");
        for _ in 0..5 {
            bench.read(&slow).await;
            // A write, and its reading back.
            bench.write(&slow, &Value::Int(1)).await.unwrap();
        }
        let gaps = bench.peer.tell("gaps");
        let gaps: Vec<f64> = gaps.split(' ').map(|gap| gap.parse().unwrap()).collect();
        assert_eq!(gaps.len(), 15, "{transport}");
        assert!(gaps.iter().all(|gap| *gap >= pause.as_secs_f64()), "{transport}: {gaps:?}");
        let begun = Instant::now();
        for _ in 0..5 {
            bench.read(&quick).await;
        }
        // Somebody else's pause costs nobody else.
        assert!(begun.elapsed() < Duration::from_secs(20), "{transport}");
    }
}
