//! A serial text device is read over a terminal, whatever the line does, and an old answer is not believed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lints' own exception stops at the test functions, not at what they share"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fieldgate::address::Address;
use fieldgate::config::{Encoding, Frame, LinkConfig, SerialLine, Transport};
use fieldgate::decode::decode;
use fieldgate::drivers::{Driver, DriverError, create};
use fieldgate::point::{
    DecimalMark, Decode, Device, DeviceId, Kind, LinkId, Pattern, Point, PointId, Protocol, Raw, Value,
};
use tokio::time::Instant;

/// Far more than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it sends.
const WEIGHT: &str = r"^(?<status>\w\w),(?<weight>[-+ 0-9.]+)kg$";

/// `scale.py`, ended with its terminal when dropped.
struct Scale {
    child: Child,
    lines: Receiver<String>,
    path: PathBuf,
}

impl Scale {
    fn start(arguments: &[&str]) -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(python(home))
            .arg(home.join("tests/peers/scale.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts; install it, or name it in FIELDGATE_TEST_PYTHON");
        let output = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let first = lines.recv_timeout(PATIENCE).expect("the scale names its terminal");
        let path = first.strip_prefix("path ").unwrap().into();
        Self { child, lines, path }
    }

    /// Waits until answer `count` has left.
    fn wait_sent(&self, count: u32) {
        let wanted = format!("sent {count}");
        while self.lines.recv_timeout(PATIENCE).expect("the scale goes on") != wanted {}
    }

    fn driver(&self) -> Box<dyn Driver> {
        self.driver_at(115_200)
    }

    fn driver_at(&self, baud_rate: u32) -> Box<dyn Driver> {
        create(
            &LinkConfig {
                id: LinkId::new("scale").unwrap(),
                label: None,
                tags: None,
                transport: Transport::Serial {
                    line: SerialLine { baud_rate, ..SerialLine::at(&self.path) },
                    frame: Frame::until("\r\n"),
                    encoding: Encoding::Utf8,
                },
                timeout: PATIENCE,
                pause: Duration::ZERO,
                pause_after_connect: Duration::ZERO,
                dead_share: 0.1,
            },
            &[],
        )
    }

    /// Pulls the adapter out.
    fn unplug(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Scale {
    fn drop(&mut self) {
        self.unplug();
    }
}

fn python(home: &Path) -> PathBuf {
    let own = home.join(".venv/bin/python");
    match std::env::var_os("FIELDGATE_TEST_PYTHON") {
        Some(named) => named.into(),
        None if own.exists() => own,
        None => "python3".into(),
    }
}

fn device(request: Option<&str>) -> Arc<Device> {
    let point = |id: &str, kind| Point::new(PointId::new(id).unwrap(), Address::Name(id.to_owned()), kind);
    Arc::new(Device {
        id: DeviceId::new("scale").unwrap(),
        link: LinkId::new("scale").unwrap(),
        label: None,
        tags: None,
        protocol: Protocol::Text {
            request: request.map(|text| text.as_bytes().into()),
            decode: Decode::Regex(Pattern(regex::Regex::new(WEIGHT).unwrap())),
            mark: DecimalMark::Point,
        },
        poll_interval: Duration::from_secs(1),
        align: false,
        patience: PATIENCE,
        pause: Duration::ZERO,
        points: vec![point("status", Kind::String { length: 2 }), point("weight", Kind::F64)],
    })
}

async fn poll(driver: &mut dyn Driver, device: &Arc<Device>, patience: Duration) -> Result<f64, DriverError> {
    let request = driver.plan(device, &[0, 1]).remove(0);
    let samples = driver.exchange(&request, Instant::now() + patience).await?;
    let values: Vec<Value> = samples
        .iter()
        .map(|sample| decode(&device.points[sample.point], sample.raw.as_ref().unwrap()).unwrap())
        .collect();
    assert_eq!(values[0], Value::Text("ST".into()));
    match values[1] {
        Value::F64(weight) => Ok(weight),
        ref other => panic!("{other:?}"),
    }
}

async fn opened(scale: &Scale) -> Box<dyn Driver> {
    let mut driver = scale.driver();
    driver.open(Instant::now() + PATIENCE).await.unwrap();
    driver
}

#[tokio::test]
async fn each_request_gets_its_own_answer() {
    for options in [&[][..], &["--split"], &["--garbage"], &["--garbage", "--split"], &["--echo"]] {
        let scale = Scale::start(&[&["answer"], options].concat());
        let mut driver = opened(&scale).await;
        for count in 1..=5 {
            let weight = poll(&mut *driver, &device(Some("W\r\n")), PATIENCE).await;
            assert_eq!(weight, Ok(f64::from(count) + 0.5), "{options:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_came_late_is_dropped() {
    let scale = Scale::start(&["answer", "--late", "1", "1"]);
    let mut driver = opened(&scale).await;
    let device = device(Some("W\r\n"));
    let none = poll(&mut *driver, &device, Duration::from_millis(200)).await;
    assert_eq!(none, Err(DriverError::Timeout));
    scale.wait_sent(1);
    assert_eq!(poll(&mut *driver, &device, PATIENCE).await, Ok(2.5));
    assert_eq!(poll(&mut *driver, &device, PATIENCE).await, Ok(3.5));
}

#[tokio::test]
async fn a_request_that_was_given_up_does_not_answer_the_next() {
    let scale = Scale::start(&["answer", "--late", "1", "2"]);
    let mut driver = opened(&scale).await;
    let device = device(Some("W\r\n"));
    let given_up = tokio::time::timeout(Duration::from_secs(1), poll(&mut *driver, &device, PATIENCE));
    assert!(given_up.await.is_err());
    scale.wait_sent(1);
    assert_eq!(poll(&mut *driver, &device, PATIENCE).await, Ok(2.5));
}

#[tokio::test]
async fn silence_is_a_timeout_and_noise_is_malformed() {
    let device = device(Some("W\r\n"));
    let scale = Scale::start(&["answer", "--silent", "2"]);
    let mut driver = opened(&scale).await;
    for _ in 0..2 {
        let none = poll(&mut *driver, &device, Duration::from_millis(300)).await;
        assert_eq!(none, Err(DriverError::Timeout));
    }
    assert_eq!(poll(&mut *driver, &device, PATIENCE).await, Ok(3.5));

    let noisy = Scale::start(&["stream", "--no-end", "--interval", "0.001"]);
    let mut driver = opened(&noisy).await;
    let start = Instant::now();
    let none = poll(&mut *driver, &device, Duration::from_secs(1)).await;
    assert!(matches!(none, Err(DriverError::Malformed(_))), "{none:?}");
    assert!(start.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_listener_gets_whole_and_present_frames() {
    for options in [&[][..], &["--split"], &["--garbage"]] {
        let scale = Scale::start(&[&["stream"], options].concat());
        // What piled up before the port was opened is as old as it is.
        scale.wait_sent(20);
        let mut driver = opened(&scale).await;
        let first = poll(&mut *driver, &device(None), PATIENCE).await.unwrap();
        assert!(first > 20.0, "{first} is an old frame {options:?}");
        scale.wait_sent(60);
        let second = poll(&mut *driver, &device(None), PATIENCE).await.unwrap();
        assert!(second > 60.0, "{second} is an old frame {options:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_gone_is_lost_at_once() {
    let mut scale = Scale::start(&["answer"]);
    let mut driver = opened(&scale).await;
    let device = device(Some("W\r\n"));
    assert_eq!(poll(&mut *driver, &device, PATIENCE).await, Ok(1.5));
    scale.unplug();
    let start = Instant::now();
    for _ in 0..2 {
        let gone = poll(&mut *driver, &device, PATIENCE).await;
        assert!(matches!(gone, Err(DriverError::Lost(_))), "{gone:?}");
    }
    assert!(start.elapsed() < PATIENCE / 2);
    let again = driver.open(Instant::now() + PATIENCE).await;
    let path = scale.path.display().to_string();
    assert!(matches!(&again, Err(DriverError::Lost(why)) if why.contains(&path)), "{again:?}");
}

#[tokio::test]
async fn a_port_has_one_owner_and_no_write() {
    let scale = Scale::start(&["answer"]);
    let mut driver = opened(&scale).await;
    let second = scale.driver().open(Instant::now() + PATIENCE).await;
    assert!(
        matches!(&second, Err(DriverError::Lost(why)) if why.contains("another program has it open")),
        "{second:?}"
    );
    let written = driver.write(&device(None), 1, &Raw::Number(1.0), Instant::now() + PATIENCE).await;
    assert!(matches!(written, Err(DriverError::Malformed(_))));
}

#[tokio::test]
async fn a_long_frame_on_a_slow_line_takes_the_time_of_the_line_and_not_that_of_the_device() {
    // 93 bytes at 1200 baud: 775 ms.
    let scale = Scale::start(&["answer", "--paced", "1200", "--width", "93"]);
    let mut driver = scale.driver_at(1200);
    driver.open(Instant::now() + PATIENCE).await.unwrap();
    let quick = Device { patience: Duration::from_millis(500), ..Device::clone(&device(Some("W\r\n"))) };
    let quick = Arc::new(quick);
    let mut results = Vec::new();
    // A machine that stands still for longer than the device has makes one fail, but not all.
    for turn in 1..=10 {
        let limit = quick.patience + driver.overhead(&quick);
        results.push(poll(&mut *driver, &quick, limit).await);
        if results.last().is_some_and(Result::is_ok) {
            assert_eq!(results.pop().unwrap(), Ok(f64::from(turn) + 0.5));
            break;
        }
    }
    assert!(results.len() < 10, "{results:?}");
}

#[tokio::test]
async fn who_is_silent_has_no_more_than_its_own_time() {
    let scale = Scale::start(&["answer", "--silent", "100"]);
    let mut driver = scale.driver_at(1200);
    driver.open(Instant::now() + PATIENCE).await.unwrap();
    let quick = Device { patience: Duration::from_millis(300), ..Device::clone(&device(Some("W\r\n"))) };
    let quick = Arc::new(quick);
    let begun = Instant::now();
    let limit = quick.patience + driver.overhead(&quick);
    assert_eq!(poll(&mut *driver, &quick, limit).await, Err(DriverError::Timeout));
    // The longest frame would take 34 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
