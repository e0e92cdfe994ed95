//! Modbus TCP against a pymodbus server and against one that misbehaves byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fieldgate::address::Area;
use fieldgate::drivers::modbus::Modbus;
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Raw};
use peers::{Peer, device, soon, within};
use tokio::time::Instant;

const LOOPBACK: &str = "127.0.0.1";

/// What the fake does with a connection's request: the answer to send, and whether to close after it.
type Script = dyn Fn(u32, &[u8]) -> (Vec<u8>, bool) + Send + Sync;

/// Makes a wrong answer to a request.
type Damage = fn(&[u8]) -> Vec<u8>;

/// A server on a free port that counts requests and connections and answers by a script.
struct Fake {
    port: u16,
    requests: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    closed: Arc<AtomicU32>,
}

impl Fake {
    fn start(script: impl Fn(u32, &[u8]) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Arc<Script> = Arc::new(script);
        let requests = Arc::new(AtomicU32::new(0));
        let connections = Arc::new(AtomicU32::new(0));
        let closed = Arc::new(AtomicU32::new(0));
        let counts = (Arc::clone(&requests), Arc::clone(&connections), Arc::clone(&closed));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counts.1.fetch_add(1, Ordering::SeqCst);
                let (script, requests, closed) =
                    (Arc::clone(&script), Arc::clone(&counts.0), Arc::clone(&counts.2));
                std::thread::spawn(move || {
                    serve(stream, &*script, &requests);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, requests, connections, closed }
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, script: &Script, requests: &AtomicU32) {
    loop {
        // Reads and single writes are twelve bytes long.
        let mut request = [0; 12];
        if stream.read_exact(&mut request).is_err() {
            return;
        }
        let number = requests.fetch_add(1, Ordering::SeqCst);
        let (answer, close) = script(number, &request);
        if stream.write_all(&answer).is_err() || close {
            return;
        }
    }
}

/// The right answer to a read of holding registers, whose values are their addresses.
fn right(request: &[u8]) -> Vec<u8> {
    let start = u16::from_be_bytes([request[8], request[9]]);
    let count = u16::from_be_bytes([request[10], request[11]]);
    let data: Vec<u8> = (start..start + count).flat_map(u16::to_be_bytes).collect();
    answer(request, &data)
}

/// An answer with these data bytes.
fn answer(request: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    let mut answer = request[..4].to_vec();
    answer.extend_from_slice(&(u16::from(length) + 3).to_be_bytes());
    answer.extend_from_slice(&[request[6], request[7], length]);
    answer.extend_from_slice(data);
    answer
}

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
