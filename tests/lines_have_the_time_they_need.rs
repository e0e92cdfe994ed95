//! What the line and the configured rests take is not counted in the time that a device has to answer: with every
//! other key at its default a slow line is read whole, and a fresh connection may rest for longer than `timeout`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod peers;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use fieldgate::address::Area;
use fieldgate::config::{Framing, Medium, SerialLine};
use fieldgate::drivers::modbus::{Modbus, Settings};
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind};
use peers::fake::{Fake, answer};
use peers::{Peer, device, soon, within};
use serde_json::{Value, json};
use support::{Broker, Gateway, LIMIT, ModbusPeer, Subscriber, fieldgate, head, publish};
use tokio::time::Instant;

/// A busy machine may stop this process or the peer for longer than the default `timeout`; what never works at all
/// does not work with the tenth try either.
const TRIES: usize = 10;

/// 125 registers, each of which holds its own address.
fn line(driver: &str, path: &str, baud: u32) -> String {
    let mut text = format!(
        "[links.line]\ndriver = \"{driver}\"\npath = \"{path}\"\nbaud_rate = {baud}\n\
         [devices.meter]\nlink = \"line\"\naddress = 1\n"
    );
    for n in 0..125 {
        writeln!(text, "points.r{n} = {{ address = \"holding:{n}\", type = \"u16\" }}").unwrap();
    }
    text
}

fn tool(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = fieldgate();
    command.args(arguments).arg("--config").arg(folder.join("fieldgate.toml"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Runs a tool until it ends with 0.
fn until_done(folder: &Path, arguments: &[&str]) -> String {
    let mut last = None;
    for _ in 0..TRIES {
        let (code, shown, told) = tool(folder, arguments);
        if code == Some(0) {
            return shown;
        }
        last = Some((code, shown, told));
    }
    panic!("{arguments:?}: {last:?}");
}

/// The peer of that framing, which takes the time of that line for each request and answer.
fn paced(framing: &str, baud: u32) -> Peer {
    let mut peer = Peer::start("rtu_fake.py", &[framing, "pty"]);
    peer.tell(&format!("mode 1 paced {baud}"));
    peer
}

#[test]
fn a_slow_line_is_read_whole_with_the_default_timeout() {
    // The answers alone take 531, 1063 and 538 ms, and `timeout` is 500.
    for (driver, framing, baud) in
        [("modbus-rtu", "rtu", 4800), ("modbus-rtu", "rtu", 2400), ("modbus-ascii", "ascii", 9600)]
    {
        let peer = paced(framing, baud);
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n{}", line(driver, &peer.place, baud));
        fs::write(folder.path().join("fieldgate.toml"), text).unwrap();
        let report: Value = serde_json::from_str(&until_done(folder.path(), &["check", "--json"])).unwrap();
        assert_eq!((&report["links"][0]["requests"], &report["warnings"]), (&json!(1), &json!([])));
        let all: Value =
            serde_json::from_str(&until_done(folder.path(), &["read", "meter", "--json"])).unwrap();
        for n in 0..125 {
            assert_eq!(all["points"][format!("r{n}")]["value"], n, "{driver} at {baud}");
        }
        let scanned = until_done(
            folder.path(),
            &["scan", "line", "--units", "1", "--registers", "holding:0-124", "--json"],
        );
        let scanned: Value = serde_json::from_str(&scanned).unwrap();
        let unit = &scanned["units"][0];
        assert_eq!(unit["registers"].as_array().unwrap().len(), 125, "{driver} at {baud}: {unit}");
        assert_eq!(unit["unfinished"], json!([]));
    }
}

#[test]
fn a_gateway_on_a_slow_line_has_every_point() {
    let (peer, broker, folder) = (paced("rtu", 2400), Broker::start(), tempfile::tempdir().unwrap());
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker) + &line("modbus-rtu", &peer.place, 2400);
    let _gateway = Gateway::run(folder.path(), &config);
    let readings =
        watcher.wait_json("fieldgate/g/meter/readings", "all points", |json| json["bad"].is_null());
    assert_eq!((&readings["values"]["r0"], &readings["values"]["r124"]), (&json!(0), &json!(124)));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_by_the_deadline_is_late_and_not_damaged() {
    let mut peer = paced("rtu", 2400);
    let mut driver = Modbus::new(Settings {
        framing: Framing::Rtu,
        medium: Medium::Line(SerialLine { baud_rate: 2400, ..SerialLine::at(&peer.place) }),
        backup: None,
        pause_after_connect: Duration::ZERO,
        turnaround: Duration::ZERO,
    });
    driver.open(soon()).await.unwrap();
    let points: Vec<_> = (0..100).map(|n| (Area::Holding, n, Kind::U16)).collect();
    let wide = device(1, &points);
    let due: Vec<usize> = (0..100).collect();
    let request = driver.plan(&wide, &due).remove(0);
    // It takes 870 ms.
    assert_eq!(driver.exchange(&request, within(400)).await.map(drop), Err(DriverError::Timeout));
    let mut good = driver.exchange(&request, soon()).await;
    for _ in 0..TRIES {
        if good.is_ok() {
            break;
        }
        good = driver.exchange(&request, soon()).await;
    }
    assert_eq!(good.unwrap().len(), 100);
    peer.tell("mode 1 cut");
    let cut = driver.exchange(&request, within(1500)).await;
    assert!(matches!(cut, Err(DriverError::Malformed(_))), "{cut:?}");
}

/// A server of one register that closes the connection after each answer.
fn closing() -> Fake {
    let register = AtomicU16::new(7);
    Fake::start(move |_, request| {
        if request[7] == 6 {
            register.store(u16::from_be_bytes([request[10], request[11]]), Ordering::SeqCst);
            return (request.to_vec(), true);
        }
        (answer(request, &register.load(Ordering::SeqCst).to_be_bytes()), true)
    })
}

#[tokio::test]
async fn a_rest_after_each_connect_may_be_longer_than_the_timeout() {
    let fake = closing();
    let pause = Duration::from_millis(1300);
    let mut driver = Modbus::new(Settings {
        framing: Framing::Tcp,
        medium: Medium::Tcp { host: "127.0.0.1".to_owned(), port: fake.port },
        backup: None,
        pause_after_connect: pause,
        turnaround: Duration::ZERO,
    });
    driver.open(soon()).await.unwrap();
    let one = device(1, &[(Area::Holding, 0, Kind::U16)]);
    let short = Arc::new(Device { patience: Duration::from_secs(1), ..Device::clone(&one) });
    let request = driver.plan(&short, &[0]).remove(0);
    let begun = Instant::now();
    for turn in 0..3 {
        let limit = Instant::now() + short.patience + driver.overhead(&short);
        let answered = driver.exchange(&request, limit).await;
        assert!(answered.is_ok(), "turn {turn}: {answered:?}");
    }
    assert!(begun.elapsed() >= pause * 3, "the rest was not kept: {:?}", begun.elapsed());
}

#[test]
fn a_gateway_reads_and_writes_over_connections_that_end_after_each_answer() {
    let (fake, broker, folder) = (closing(), Broker::start(), tempfile::tempdir().unwrap());
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker)
        + &format!(
            "[links.plc]\ndriver = \"modbus-tcp\"\naddress = \"127.0.0.1:{}\"\ntimeout = \"1s\"\n\
             pause_after_connect = \"1300ms\"\n\
             [devices.plc]\nlink = \"plc\"\naddress = 1\npoll_interval = \"2s\"\n\
             points.level = {{ address = \"holding:0\", type = \"u16\", writable = true }}\n",
            fake.port
        );
    let _gateway = Gateway::run(folder.path(), &config);
    let three = watcher.wait("three readings", LIMIT, |messages| {
        let readings: Vec<Value> = messages
            .iter()
            .filter(|message| message.topic == "fieldgate/g/plc/readings")
            .map(support::Message::json)
            .collect();
        (readings.len() >= 3).then_some(readings)
    });
    assert!(three.iter().all(|reading| reading["bad"].is_null()), "{three:?}");
    let command = json!({"id": "c-1", "action": "write", "values": {"level": 55}});
    publish(&broker, "fieldgate/g/plc/command", &command.to_string(), &[]);
    let reply = watcher.wait_json("fieldgate/g/plc/reply", "reply", |json| json["id"] == "c-1");
    assert_eq!((&reply["status"], &reply["values"]), (&json!("succeeded"), &json!({"level": 55})), "{reply}");
}

#[test]
fn the_tools_wait_out_the_rest_of_a_fresh_link() {
    let units = json!({"1": {"holding": {"5": [7]}}});
    for transport in ["tcp", "rtu", "rtu-tcp"] {
        let peer = ModbusPeer::on(transport, &units);
        let (driver, key) = match transport {
            "rtu" => ("modbus-rtu", "path"),
            "tcp" => ("modbus-tcp", "address"),
            _ => ("modbus-rtu-tcp", "address"),
        };
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n\
             [links.field]\ndriver = \"{driver}\"\n{key} = \"{}\"\npause_after_connect = \"2500ms\"\n\
             [devices.d]\nlink = \"field\"\naddress = 1\n\
             points.p = {{ address = \"holding:5\", type = \"u16\", writable = true }}\n",
            peer.address
        );
        fs::write(folder.path().join("fieldgate.toml"), text).unwrap();
        assert!(until_done(folder.path(), &["read", "d"]).contains("good"));
        assert!(until_done(folder.path(), &["write", "d", "p", "55"]).starts_with("p = 55"), "{transport}");
    }
}
