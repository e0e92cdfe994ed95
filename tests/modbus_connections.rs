//! What a Modbus TCP link does about a server that is away, slow to wake, or busy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldgate::address::{Address, Area};
use fieldgate::config::{Framing, Medium};
use fieldgate::drivers::modbus::{Modbus, Settings};
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Raw};
use peers::fake::{Fake, answer, refusal, right};
use peers::{device, soon, within};
use tokio::time::Instant;

/// Not the loopback address that every other test listens at, so that nobody takes the port meanwhile.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn settings(port: u16) -> Settings {
    Settings {
        framing: Framing::Tcp,
        medium: Medium::Tcp { host: "127.0.0.1".to_owned(), port },
        backup: None,
        pause_after_connect: Duration::ZERO,
        turnaround: Duration::ZERO,
    }
}

fn with_backup(first: SocketAddr, backup: u16) -> Modbus {
    Modbus::new(Settings {
        medium: Medium::Tcp { host: first.ip().to_string(), port: first.port() },
        backup: Some(("127.0.0.1".to_owned(), backup)),
        ..settings(0)
    })
}

fn one(number: u16) -> Arc<Device> {
    device(1, &[(Area::Holding, number, Kind::U16)])
}

async fn read(driver: &mut Modbus, number: u16, deadline: Instant) -> Result<Raw, DriverError> {
    let request = driver.plan(&one(number), &[0]).remove(0);
    let samples = driver.exchange(&request, deadline).await?;
    Ok(samples[0].raw.clone().unwrap())
}

fn words(words: &[u16]) -> Raw {
    Raw::Words(words.iter().copied().collect())
}

/// A server whose registers hold this number, whatever their address.
fn says(number: u16) -> impl Fn(u32, &[u8]) -> (Vec<u8>, bool) {
    move |_, request| (answer(request, &number.to_be_bytes()), false)
}

#[tokio::test]
async fn the_backup_takes_over_and_the_next_connect_begins_with_the_first() {
    let free = TcpListener::bind((FIRST, 0)).unwrap();
    let first = free.local_addr().unwrap();
    drop(free);
    let backup = Fake::start(says(2));
    let mut driver = with_backup(first, backup.port);
    driver.open(soon()).await.unwrap();
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[2])), "the first is away");
    assert_eq!(driver.backup(), Some(format!("127.0.0.1:{}", backup.port)));
    let there = Fake::start_at(first, says(1));
    // It stays where it is while that works.
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[2])));
    driver.open(soon()).await.unwrap();
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[1])), "the first is back");
    assert_eq!(driver.backup(), None);
    assert_eq!((there.connections(), backup.connections()), (1, 1));
}

#[tokio::test]
async fn a_connection_lost_in_use_finds_the_backup_without_an_error() {
    let listener = TcpListener::bind((FIRST, 0)).unwrap();
    let first = listener.local_addr().unwrap();
    let backup = Fake::start(says(2));
    let mut driver = with_backup(first, backup.port);
    driver.open(soon()).await.unwrap();
    // The first takes the connection, and then it is gone with its host.
    drop(listener.accept().unwrap());
    drop(listener);
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[2])));
}

#[tokio::test]
async fn a_first_that_does_not_even_refuse_leaves_time_for_the_backup() {
    // A queue of one, full: the system does not answer who comes next.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((FIRST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&first, Duration::from_millis(200)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue is never full");
    }
    let backup = Fake::start(says(2));
    let mut driver = with_backup(first, backup.port);
    driver.open(within(2000)).await.unwrap();
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[2])));
    let nobody = TcpListener::bind((FIRST, 0)).unwrap().local_addr().unwrap();
    let mut driver = with_backup(nobody, nobody.port());
    let Err(DriverError::Lost(why)) = driver.open(soon()).await else { panic!("connected to nobody") };
    assert!(why.contains(&nobody.to_string()) && why.contains("127.0.0.1:"), "both are named: {why}");
}

#[tokio::test]
async fn a_fresh_connection_is_left_alone_for_a_while() {
    let pause = Duration::from_millis(300);
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrived);
    let fake = Fake::start(move |number, request| {
        log.lock().unwrap().push(Instant::now());
        // The second is not answered: the connection is made again.
        if number == 1 { (Vec::new(), false) } else { (right(request), false) }
    });
    let mut driver = Modbus::new(Settings { pause_after_connect: pause, ..settings(fake.port) });
    let opened = Instant::now();
    driver.open(soon()).await.unwrap();
    assert_eq!(read(&mut driver, 1, soon()).await, Ok(words(&[1])));
    assert_eq!(read(&mut driver, 2, within(50)).await, Err(DriverError::Timeout));
    let again = Instant::now();
    // Less patience than pause: nothing is sent, and the connection is kept until its time has come.
    let mut polls = 0;
    while read(&mut driver, 3, within(250)).await != Ok(words(&[3])) {
        polls += 1;
        assert!(polls < 100, "the pause begins anew with each poll");
    }
    assert!(polls > 0, "the pause was not kept");
    let arrived = arrived.lock().unwrap();
    assert!(arrived[0] - opened >= pause, "{:?}", arrived[0] - opened);
    assert!(arrived[2] - again >= pause, "{:?}", arrived[2] - again);
}

#[tokio::test]
async fn a_busy_device_is_asked_again_and_one_that_refuses_is_not() {
    for code in [5, 6] {
        let fake = Fake::start(move |number, request| {
            (if number < 3 { refusal(request, code) } else { right(request) }, false)
        });
        let mut driver = Modbus::new(settings(fake.port));
        assert_eq!(read(&mut driver, 7, soon()).await, Ok(words(&[7])), "exception {code}");
        assert_eq!((fake.requests(), fake.connections()), (4, 1), "exception {code}");
    }
    for code in [1, 2, 3, 4, 7, 8, 10, 11, 200] {
        let fake = Fake::start(move |_, request| (refusal(request, code), false));
        let mut driver = Modbus::new(settings(fake.port));
        for asked in 1..=3 {
            assert_eq!(read(&mut driver, 7, soon()).await, Err(DriverError::Refused(code)));
            assert_eq!(fake.requests(), asked, "exception {code} is hammered");
        }
        assert_eq!(fake.connections(), 1, "exception {code} is an answer");
    }
    let fake = Fake::start(|_, request| (refusal(request, 6), false));
    let mut driver = Modbus::new(settings(fake.port));
    let begun = Instant::now();
    assert_eq!(read(&mut driver, 7, within(1000)).await, Err(DriverError::Refused(6)));
    assert!(begun.elapsed() < Duration::from_secs(10), "the deadline was not kept");
    // 25, 50, 100 ms and so on.
    assert!((2..=6).contains(&fake.requests()), "{} requests", fake.requests());
}

/// A server with one register, written by function 6 or 16 and read by 3, that first says `code` to a write.
fn one_register(code: u8, keeps: bool, slow_reads: u16) -> (Fake, Arc<AtomicU16>) {
    let (register, writes, reads) =
        (Arc::new(AtomicU16::new(1)), Arc::new(AtomicU16::new(0)), AtomicU16::new(0));
    let count = Arc::clone(&writes);
    let fake = Fake::start(move |_, request| {
        let reply = match request[7] {
            6 => {
                let first = writes.fetch_add(1, Ordering::SeqCst) == 0;
                if keeps || !first {
                    register.store(u16::from_be_bytes([request[10], request[11]]), Ordering::SeqCst);
                }
                if first { refusal(request, code) } else { request.to_vec() }
            }
            _ if reads.fetch_add(1, Ordering::SeqCst) < slow_reads => answer(request, &1_u16.to_be_bytes()),
            _ => answer(request, &register.load(Ordering::SeqCst).to_be_bytes()),
        };
        (reply, false)
    });
    (fake, count)
}

#[tokio::test]
async fn a_write_that_was_acknowledged_is_not_sent_again_and_a_busy_device_gets_it_again() {
    let patient = || {
        let mut device = Device::clone(&one(5));
        device.patience = Duration::from_secs(5);
        Arc::new(device)
    };
    let (fake, writes) = one_register(5, true, 3);
    let mut driver = Modbus::new(settings(fake.port));
    assert_eq!(driver.write(&patient(), 0, &words(&[77]), soon()).await, Ok(words(&[77])));
    assert_eq!(writes.load(Ordering::SeqCst), 1, "an acknowledged write was sent again");
    let (fake, writes) = one_register(6, false, 0);
    let mut driver = Modbus::new(settings(fake.port));
    assert_eq!(driver.write(&patient(), 0, &words(&[77]), soon()).await, Ok(words(&[77])));
    assert_eq!(writes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_device_that_is_silent_about_function_22_is_written_without_it_from_the_third_time_on() {
    let (register, masks) = (Arc::new(AtomicU16::new(0xFF00)), Arc::new(AtomicU16::new(0)));
    let (kept, asked) = (Arc::clone(&register), Arc::clone(&masks));
    let fake = Fake::start(move |_, request| {
        let reply = match request[7] {
            22 => {
                asked.fetch_add(1, Ordering::SeqCst);
                Vec::new()
            }
            6 => {
                kept.store(u16::from_be_bytes([request[10], request[11]]), Ordering::SeqCst);
                request.to_vec()
            }
            _ => answer(request, &kept.load(Ordering::SeqCst).to_be_bytes()),
        };
        (reply, false)
    });
    let mut driver = Modbus::new(settings(fake.port));
    let mut device = Device::clone(&one(5));
    device.points[0].kind = Kind::Bool;
    device.points[0].address = Address::Register { area: Area::Holding, number: 5, bit: Some(1) };
    device.patience = Duration::from_millis(100);
    let device = Arc::new(device);
    for _ in 0..2 {
        assert_eq!(driver.write(&device, 0, &words(&[2]), soon()).await, Err(DriverError::Timeout));
        assert_eq!(register.load(Ordering::SeqCst), 0xFF00);
    }
    let patient = Arc::new(Device { patience: Duration::from_secs(20), ..Device::clone(&device) });
    assert_eq!(driver.write(&patient, 0, &words(&[2]), soon()).await, Ok(words(&[0xFF02])));
    assert_eq!(masks.load(Ordering::SeqCst), 2);
}
