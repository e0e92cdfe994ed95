//! A serial port: how it is set, who has it, and what happens when it is pulled out and plugged in again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant as Moment;

use fieldgate::config::{Frame, Parity, PortName, SerialLine, UsbId};
use fieldgate::drivers::port::Ports;
use fieldgate::drivers::serial::Serial;
use fieldgate::drivers::{Driver as _, DriverError};
use serde_json::{Value, json};
use support::disk::preload;
use support::frames::Frames;
use support::{Broker, Gateway, LIMIT, Scale, Subscriber, head, scale_device};
use tokio::time::Instant;

/// Bits of `c_cflag` (Linux, asm-generic/termbits.h).
const SIZE: u32 = 0o60;
const STOPS: u32 = 0o100;
const PARITY: u32 = 0o400;
const ODD: u32 = 0o1000;
const STICKY: u32 = 0o10_000_000_000;

fn link(from: &Path, path: &str) {
    fs::remove_file(from).ok();
    symlink(path, from).unwrap();
}

fn status(watcher: &Subscriber, since: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    watcher.wait(what, LIMIT, |messages| {
        let mut states =
            messages[since..].iter().filter(|message| message.topic == "fieldgate/g/scale/status");
        states.find_map(|message| Some(message.json()).filter(&wanted))
    })
}

/// Seconds of processor time.
fn used(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11..13].iter().map(|ticks| ticks.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

#[test]
fn an_adapter_is_found_again_and_its_absence_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let by_id = folder.path().join("usb-scale");
    let scale = Scale::start();
    link(&by_id, &scale.path);
    let config = head(folder.path(), &broker) + &scale_device(by_id.to_str().unwrap(), "100ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    status(&watcher, 0, "online", |json| json["state"] == "online");

    let since = watcher.messages().len();
    // The name goes first, as udev does it: the next terminal of another test may get the number.
    fs::remove_file(&by_id).unwrap();
    drop(scale);
    let gone = status(&watcher, since, "an adapter missing", |json| {
        json["reason"].as_str().is_some_and(|reason| reason.starts_with("adapter missing"))
    });
    assert_eq!(gone["state"], "offline", "{gone}");
    assert!(gone["reason"].as_str().unwrap().contains(by_id.to_str().unwrap()), "{gone}");

    // It goes on looking, and hardly costs anything.
    let process = gateway.process().pid();
    let (begin, before) = (Moment::now(), used(process));
    let tries = |messages: &[support::Message]| {
        messages[since..].iter().filter(|message| message.json()["bad"]["weight"] == "offline").count()
    };
    watcher.wait("more tries", LIMIT, |messages| (tries(messages) >= 4).then_some(()));
    let share = (used(process) - before) / begin.elapsed().as_secs_f64();
    println!("a dead port costs {:.2} % of a processor over {:?}", share * 100.0, begin.elapsed());
    // A hundredth is the aim; a loaded machine counts in large steps.
    assert!(share < 0.03, "{share} of a processor over {:?}", begin.elapsed());

    // Another terminal under the same name, as udev does.
    let since = watcher.messages().len();
    let again = Scale::start();
    link(&by_id, &again.path);
    status(&watcher, since, "online again", |json| json["state"] == "online");
    again.wait_sent(3);
    drop(gateway);
}

#[test]
fn a_silent_device_is_no_missing_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let peer = Frames::start();
    let path = peer.open(&json!({"frame": {"end": "0a"}, "content": "text"}));
    let _gateway =
        Gateway::run(folder.path(), &(head(folder.path(), &broker) + &scale_device(&path, "100ms")));
    let silent = status(&watcher, 0, "offline", |json| json["state"] == "offline");
    assert_eq!(silent["reason"], "device silent: timeout", "{silent}");
}

/// Makes the kernel's view of an adapter whose terminal has this name, and its node.
fn plug(folder: &Path, name: &str, terminal: &str) {
    let usb = folder.join("sys/devices/usb1/1-1");
    let device = usb.join(format!("1-1:1.0/{name}"));
    fs::create_dir_all(&device).unwrap();
    fs::create_dir_all(folder.join(format!("sys/class/tty/{name}"))).unwrap();
    fs::create_dir_all(folder.join("dev")).unwrap();
    for (file, text) in [("idVendor", "0403\n"), ("idProduct", "6001\n"), ("serial", "A1B2\n")] {
        fs::write(usb.join(file), text).unwrap();
    }
    symlink(&device, folder.join(format!("sys/class/tty/{name}/device"))).unwrap();
    symlink(terminal, folder.join("dev").join(name)).unwrap();
}

#[tokio::test]
async fn an_adapter_is_found_by_its_usb_id_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let peer = Frames::start();
    let spec = json!({"frame": {"end": "0a"}, "content": "text"});
    let ports = Ports { sysfs: folder.path().join("sys"), dev: folder.path().join("dev") };
    let port = PortName::Usb(UsbId::parse("0403:6001:A1B2").unwrap());
    let mut driver =
        Serial::among(ports, SerialLine { port, ..SerialLine::at("unused") }, Frame::until("\n"));
    let soon = || Instant::now() + LIMIT;
    let missing = driver.open(soon()).await;
    let told = |result: &Result<(), DriverError>, text: &str| matches!(result, Err(DriverError::Lost(why)) if why.starts_with("adapter missing") && why.contains(text));
    assert!(told(&missing, "usb 0403:6001:A1B2"), "{missing:?}");

    plug(folder.path(), "ttyUSB0", &peer.open(&spec));
    assert_eq!(driver.open(soon()).await, Ok(()));
    // Pulled out and plugged in again while the old name is still held.
    fs::remove_dir_all(folder.path().join("sys")).unwrap();
    let unplugged = driver.open(soon()).await;
    assert!(told(&unplugged, "no other USB adapter"), "{unplugged:?}");
    plug(folder.path(), "ttyUSB1", &peer.open(&spec));
    assert_eq!(driver.open(soon()).await, Ok(()));
}

#[tokio::test]
async fn who_has_a_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let scale = Scale::start();
    let config = head(folder.path(), &Broker::start()) + &scale_device(&scale.path, "100ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    scale.wait_sent(1);
    let mut second = Serial::new(SerialLine::at(&scale.path), Frame::until("\r\n"));
    let refused = second.open(Instant::now() + LIMIT).await.unwrap_err().to_string();
    let process = format!("(process {})", gateway.process().pid());
    assert!(
        refused.contains(&scale.path) && refused.contains("fieldgate run") && refused.contains(&process),
        "{refused}"
    );
    // It goes on undisturbed.
    scale.wait_sent(3);
}

#[tokio::test]
async fn every_setting_arrives_at_the_terminal() {
    let peer = Frames::start();
    let path = peer.open(&json!({"frame": {"end": "0a"}, "content": "text"}));
    for (baud_rate, parity, stop_bits, flags) in [
        (9600, Parity::None, 1, 0),
        (12_345, Parity::Odd, 2, ODD | STOPS),
        (50, Parity::Even, 1, 0),
        (31_250, Parity::Mark, 1, ODD | STICKY),
        (4_000_000, Parity::Space, 2, STICKY | STOPS),
        (38_400, Parity::Even, 1, 0),
        (76_800, Parity::None, 1, 0),
    ] {
        let line = SerialLine { baud_rate, parity, stop_bits, ..SerialLine::at(&path) };
        let mut driver = Serial::new(line, Frame::until("\n"));
        driver.open(Instant::now() + LIMIT).await.unwrap();
        let (found, speed) = peer.settings();
        // Without parity that bit means nothing. A pseudo terminal keeps neither the parity bit nor the data bits.
        let sticky = if parity == Parity::None { 0 } else { STICKY };
        assert_eq!((found & (ODD | sticky | STOPS), speed), (flags, baud_rate), "{parity:?} {stop_bits}");
    }
}

#[test]
fn the_kernel_is_told_of_rs485_parity_and_data_bits() {
    let folder = tempfile::tempdir().unwrap();
    let library = preload("line", folder.path());
    let log = folder.path().join("line.log");
    let broker = Broker::start();
    for (keys, told, flags) in [
        ("parity = \"even\"\ndata_bits = 7\nrs485 = {}", "rs485 3 0 0", PARITY | 0o40),
        (
            "parity = \"odd\"\nrs485 = { rts_on_send = false, delay_before = \"2ms\", delay_after = \"5ms\", rx_during_tx = true }",
            "rs485 21 2 5",
            PARITY | ODD | 0o60,
        ),
        ("data_bits = 5\nstop_bits = 2", "", STOPS),
    ] {
        fs::write(&log, "").unwrap();
        let scale = Scale::start();
        let device = scale_device(&scale.path, "100ms")
            .replace("driver = \"serial\"", &format!("driver = \"serial\"\n{keys}"));
        let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("LINE_LOG", log.to_str().unwrap())];
        let config = head(folder.path(), &broker) + &device;
        let _gateway = Gateway::run_with(folder.path(), &config, &environment);
        scale.wait_sent(1);
        let text = fs::read_to_string(&log).unwrap();
        let set: Vec<&str> = text.lines().filter(|line| line.starts_with("rs485")).collect();
        assert_eq!(set.join(""), told, "{keys}\n{text}");
        let line = text.lines().rev().find_map(|line| line.strip_prefix("line ")).unwrap();
        let (found, speed) = line.split_once(' ').unwrap();
        let found: u32 = found.parse().unwrap();
        assert_eq!((found & (SIZE | STOPS | PARITY | ODD), speed), (flags, "9600"), "{keys}\n{text}");
        fs::remove_file(folder.path().join("buffer.db")).ok();
    }
}

#[test]
fn a_port_without_rs485_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let scale = Scale::start();
    let device =
        scale_device(&scale.path, "100ms").replace("driver = \"serial\"", "driver = \"serial\"\nrs485 = {}");
    let _gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + &device));
    let refused = status(&watcher, 0, "offline", |json| json["state"] == "offline");
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains(&scale.path) && reason.contains("RS-485") && reason.contains("`rs485`"),
        "{reason}"
    );
    // No adapter is missing.
    assert!(!reason.contains("adapter missing"), "{reason}");
}
