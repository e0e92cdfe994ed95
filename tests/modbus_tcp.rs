//! Modbus TCP against a pymodbus server and against one that misbehaves byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldgate::address::Area;
use fieldgate::drivers::modbus::Modbus;
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Raw};
use peers::fake::{Fake, answer, right};
use peers::{Peer, device, soon, within};
use tokio::time::Instant;

const LOOPBACK: &str = "127.0.0.1";

/// Makes a wrong answer to a request.
type Damage = fn(&[u8]) -> Vec<u8>;

async fn open(port: u16) -> Modbus {
    let mut driver = Modbus::tcp(LOOPBACK.to_owned(), port);
    driver.open(soon()).await.unwrap();
    driver
}

async fn read(driver: &mut Modbus, number: u16, deadline: Instant) -> Result<Raw, DriverError> {
    let device = one(number);
    let request = driver.plan(&device, &[0]).remove(0);
    let samples = driver.exchange(&request, deadline).await?;
    Ok(samples[0].raw.clone().unwrap())
}

fn one(number: u16) -> Arc<Device> {
    device(1, &[(Area::Holding, number, Kind::U16)])
}

fn words(words: &[u16]) -> Raw {
    Raw::Words(words.iter().copied().collect())
}

#[tokio::test]
async fn every_area_is_read_and_written() {
    let peer = Peer::start("modbus_server.py", &["tcp"]);
    let mut driver = open(peer.place.parse().unwrap()).await;
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
    let mut raws = vec![Err(DriverError::Timeout); 7];
    for request in driver.plan(&device, &[0, 1, 2, 3, 4, 5, 6]) {
        let result = driver.exchange(&request, soon()).await;
        for &point in &request.points {
            raws[point] = result.clone().map(|samples| {
                let sample = samples.into_iter().find(|s| s.point == point);
                sample.unwrap().raw.unwrap()
            });
        }
    }
    let expected = [
        Ok(words(&[700])),
        Ok(words(&[701, 702])),
        Ok(words(&[9_u16, 10, 11, 12].map(|n| n ^ 0xFFFF))),
        Ok(Raw::Bit(true)),
        Ok(Raw::Bit(false)),
        Ok(Raw::Bit(true)),
        Err(DriverError::Refused(2)),
    ];
    assert_eq!(raws, expected);
    for (point, raw) in [(0, words(&[0xBEEF])), (1, words(&[0x4145, 0x70A4])), (4, Raw::Bit(true))] {
        let read_back = driver.write(&device, point, &raw, soon()).await;
        assert_eq!(read_back, Ok(raw));
    }
    let refused = driver.write(&device, 6, &words(&[1]), soon()).await;
    assert_eq!(refused, Err(DriverError::Refused(2)));
}

#[tokio::test]
async fn a_late_answer_reconnects_and_is_never_believed() {
    let fake = Fake::start(|number, request| {
        if number % 2 == 0 {
            // The fake's own thread; a device that is slow.
            #[allow(clippy::disallowed_methods, reason = "no event loop here")]
            std::thread::sleep(Duration::from_millis(80));
        }
        (right(request), false)
    });
    let mut driver = open(fake.port).await;
    let (mut good, mut late) = (0, 0);
    for number in 100..160 {
        match read(&mut driver, number, within(40)).await {
            Ok(raw) => {
                assert_eq!(raw, words(&[number]));
                good += 1;
            }
            Err(DriverError::Timeout) => late += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(good > 5 && late > 5, "{good} good, {late} late");
    assert!(fake.connections() > 5, "the connection was kept");
}

#[tokio::test]
async fn foreign_and_damaged_answers_are_malformed_and_the_next_is_good() {
    let damaged: [Damage; 6] = [
        // Another transaction, another unit, another function, too short, too long, no Modbus at all.
        |request| [&[0xAA, 0xBB], &right(request)[2..]].concat(),
        |request| [&right(request)[..6], &[9], &right(request)[7..]].concat(),
        |request| [&right(request)[..7], &[4], &right(request)[8..]].concat(),
        |request| answer(request, &[]),
        |request| answer(request, &[0, 1, 0, 2]),
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    for (index, damage) in damaged.into_iter().enumerate() {
        let fake = Fake::start(move |number, request| {
            let answer = if number == 0 { damage(request) } else { right(request) };
            (answer, false)
        });
        let mut driver = open(fake.port).await;
        let result = read(&mut driver, 5, within(2000)).await;
        assert!(matches!(result, Err(DriverError::Malformed(_))), "{index}: {result:?}");
        assert_eq!(read(&mut driver, 6, soon()).await, Ok(words(&[6])), "{index}");
        assert_eq!(fake.connections(), 2, "{index}: the connection was kept");
    }
}

#[tokio::test]
async fn a_wrong_echo_confirms_nothing() {
    let fake = Fake::start(|_, request| {
        let mut echo = request.to_vec();
        echo[11] ^= 1;
        (echo, false)
    });
    let mut driver = open(fake.port).await;
    let result = driver.write(&one(3), 0, &words(&[55]), soon()).await;
    assert!(matches!(result, Err(DriverError::Unconfirmed(_))), "{result:?}");
    assert_eq!(fake.requests(), 2, "one write, and one look at what came of it");
}

#[tokio::test]
async fn a_closed_idle_connection_is_made_again_without_an_error() {
    let fake = Fake::start(|_, request| {
        let answer = if request[7] == 6 { request.to_vec() } else { right(request) };
        (answer, true)
    });
    let mut driver = open(fake.port).await;
    for number in 0..10 {
        assert_eq!(read(&mut driver, number, soon()).await, Ok(words(&[number])));
    }
    // A write too, as long as nothing of it was sent; and it is sent once.
    let requests = fake.requests();
    // The end of the last connection has to arrive first: the fake closes after its answer.
    let limit = soon();
    while fake.closed.load(Ordering::SeqCst) < fake.connections() {
        assert!(Instant::now() < limit, "the fake keeps its connections");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And the event loop has to see it.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let read_back = driver.write(&one(7), 0, &words(&[7]), soon()).await;
    assert_eq!(read_back, Ok(words(&[7])));
    assert_eq!(fake.requests(), requests + 2);
}

#[tokio::test]
async fn a_write_that_may_have_arrived_is_not_sent_again() {
    let fake = Fake::start(|number, request| match number {
        0 => (right(request), false),
        _ => (Vec::new(), true),
    });
    let mut driver = open(fake.port).await;
    read(&mut driver, 1, soon()).await.unwrap();
    let result = driver.write(&one(7), 0, &words(&[7]), soon()).await;
    assert!(matches!(result, Err(DriverError::Lost(_))), "{result:?}");
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn nobody_there_is_a_lost_link_by_the_deadline() {
    let port = {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut driver = Modbus::tcp(LOOPBACK.to_owned(), port);
    let Err(DriverError::Lost(why)) = driver.open(soon()).await else { panic!("connected to nobody") };
    assert!(why.contains(&format!("{LOOPBACK}:{port}")), "{why}");
    // Connected by the kernel, answered by nobody.
    let silent = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut driver = open(port).await;
    let before = Instant::now();
    assert_eq!(read(&mut driver, 1, within(100)).await, Err(DriverError::Timeout));
    assert!(before.elapsed() < Duration::from_secs(10));
}
