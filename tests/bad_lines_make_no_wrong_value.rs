//! Lines that flip bits, cut frames up and are flooded: what comes through is right or it is bad, and all is well at once
//! when the line is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use fieldgate::drivers::Driver;
use fieldgate::drivers::modbus::Modbus;
use support::fault::real::{self, TRANSPORTS};
use support::fault::wire::Wire;
use support::fault::{Fault, Shared, Shares, Times, seed, trial, unit};
use support::{Broker, Gateway, LIMIT, Message, Subscriber, head};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

async fn open(transport: &str, shares: Shares) -> (Modbus, Shared) {
    // Both copies of a doubled answer leave in one write: a pause between them would be as long as the machine likes, and
    // a copy that comes after the next request is no fault of the driver's.
    let times = Times { patience: PATIENCE, byte: Duration::from_millis(5), silence: Duration::ZERO };
    let faults = Shared::new(shares, times, seed());
    let mut driver = real::driver(transport, &real::start(transport, real::Device::Own, faults.clone()));
    driver.open(tokio::time::Instant::now() + LIMIT).await.unwrap();
    (driver, faults)
}

/// Every register of a trial is right.
async fn survives(transport: &str, shares: Shares, values: usize) -> (Modbus, Shared) {
    let (mut driver, faults) = open(transport, shares).await;
    let verdict = trial::run(&mut driver, &faults, PATIENCE, values, seed() ^ 1).await;
    println!("{transport}: {verdict}\n  {faults}");
    assert!(verdict.wrong.is_empty() && verdict.good >= values, "{transport}: {verdict}\n{faults}");
    (driver, faults)
}

#[tokio::test]
async fn a_flipped_bit_costs_one_poll_and_no_value_is_wrong() {
    // A bit of a thousand bytes: every fourth of the long answers.
    const SOME: Shares = &[(Fault::Corrupt, 225)];
    const ALL: Shares = &[(Fault::Corrupt, 1000)];
    for transport in ["rtu", "ascii"] {
        let (mut driver, faults) = survives(transport, SOME, 3_000).await;
        trial::recovery(&mut driver, &faults, PATIENCE).await;
        for round in 0..8 {
            faults.set(ALL);
            let damaged = trial::once(&mut driver, PATIENCE).await;
            assert!(damaged.is_err(), "{transport}: damage was believed");
            let lost = trial::recovery(&mut driver, &faults, PATIENCE).await;
            assert!(lost <= 1, "{transport}, round {round}: {lost} more polls were lost");
        }
    }
}

#[tokio::test]
async fn frames_in_single_bytes_and_without_silence_are_right_or_late() {
    const CUT_UP: Shares = &[(Fault::Split, 70), (Fault::Twice, 100), (Fault::Merge, 50)];
    let all = TRANSPORTS.map(|transport| survives(transport, CUT_UP, 1_200));
    let [tcp, rtu, rtu_tcp, ascii, ascii_tcp] = all;
    let done = tokio::join!(tcp, rtu, rtu_tcp, ascii, ascii_tcp);
    for (_, faults) in [done.0, done.1, done.2, done.3, done.4] {
        assert!(faults.done(Fault::Split) > 0 && faults.done(Fault::Twice) > 0, "{faults}");
    }
}

/// A line at 9600 baud whose unit 1 answers right, and on which there is more at times.
struct Line {
    path: String,
    is_flooded: Arc<AtomicBool>,
}

impl Line {
    fn start(wire: Wire) -> Self {
        let is_flooded = Arc::new(AtomicBool::new(false));
        let (told, path) = channel();
        let flag = Arc::clone(&is_flooded);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut stream, path, _held) = real::pty();
                told.send(path).unwrap();
                serve(&mut stream, wire, &flag).await;
            });
        });
        Self { path: path.recv().unwrap(), is_flooded }
    }
}

async fn serve(stream: &mut tokio_serial::SerialStream, wire: Wire, is_flooded: &AtomicBool) {
    let mut dice = fastrand::Rng::with_seed(seed());
    let (mut kept, mut chunk) = (Vec::new(), [0; 512]);
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut last = Instant::now();
    loop {
        tokio::select! {
            read = stream.read(&mut chunk) => {
                kept.extend_from_slice(&chunk[..read.unwrap()]);
                while let Some(request) = wire.cut_request(&mut kept) {
                    stream.write_all(&wire.pack(&unit::answer(&request))).await.unwrap();
                }
            }
            _ = ticks.tick() => {
                // 960 bytes a second; a line keeps nothing for who does not listen.
                let owed = (last.elapsed().as_micros() * 960 / 1_000_000).min(64);
                last = Instant::now();
                let noise: Vec<u8> = (0..owed.max(1)).map(|_| dice.u8(..)).collect();
                if is_flooded.load(Relaxed) {
                    stream.try_write(&noise).ok();
                }
            }
        }
    }
}

/// The good readings among these, each of which is right.
fn good(messages: &[Message]) -> usize {
    let readings = messages.iter().filter(|message| message.topic.ends_with("/readings"));
    let values =
        readings.map(|message| message.json()["values"]["x"].clone()).filter(|value| !value.is_null());
    values.inspect(|value| assert_eq!(*value, unit::word(1, 4, 5))).count()
}

#[test]
fn a_flooded_line_is_told_and_comes_back() {
    for (wire, driver) in [(Wire::Rtu, "modbus-rtu"), (Wire::Ascii, "modbus-ascii")] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "fieldgate/g/#");
        let line = Line::start(wire);
        let config = head(folder.path(), &broker)
            + &format!(
                "[links.line]\ndriver = \"{driver}\"\npath = \"{}\"\nbaud_rate = 9600\ntimeout = \"500ms\"\n\
                 [devices.unit]\nlink = \"line\"\naddress = 1\npoll_interval = \"200ms\"\n\
                 points.x = {{ address = \"input:5\", type = \"u16\" }}\n",
                line.path
            );
        let mut gateway = Gateway::run(folder.path(), &config);
        watcher.wait("readings", LIMIT, |messages| (good(messages) > 3).then_some(()));
        line.is_flooded.store(true, Relaxed);
        let since = watcher.messages().len();
        let told = watcher.wait("a bad line", LIMIT, |messages| {
            let states =
                messages[since..].iter().filter(|message| message.topic == "fieldgate/g/unit/status");
            states.map(Message::json).find(|status| status["state"] != "online")
        });
        let (begun, before) = (Instant::now(), gateway.process().used());
        while begun.elapsed() < Duration::from_secs(6) {
            thread::park_timeout(Duration::from_millis(100));
        }
        let share =
            gateway.process().used().saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("{driver}: {told}, {:.1} % of a processor", share * 100.0);
        assert!(share < 0.2, "{share} of a processor");
        line.is_flooded.store(false, Relaxed);
        let (quiet, since) = (Instant::now(), watcher.messages().len());
        watcher.wait("readings again", LIMIT, |messages| (good(&messages[since..]) > 0).then_some(()));
        let took = quiet.elapsed();
        println!("back after {took:?}");
        assert!(took < Duration::from_secs(3), "{driver}: back after {took:?}");
        good(&watcher.messages());
        assert!(gateway.stop().success());
    }
}
