//! Every kind of frame, checksum and decode against devices that share no code with the gateway: each value is
//! that of its frame, and a damaged frame gives none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::config::{Config, load_with};
use fieldgate::decode::decode;
use fieldgate::drivers::{Driver, DriverError, create};
use fieldgate::point::{Device, Value as PointValue};
use serde_json::{Map, Value, json};
use support::frames::Frames;
use support::{Broker, Gateway, LIMIT, Subscriber, head, rounds};
use tokio::time::Instant;

/// The request of every device: bytes that are no text.
const REQUEST: &str = "02 52 ff 03";

/// Frames, with the marks in hexadecimal, and what may stand in them.
fn shapes() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"end": "0d0a"}), &["text", "json", "csv"]),
        (json!({"start": "02", "end": "03"}), &["text", "json", "csv"]),
        (json!({"start": "fefe", "end": "fdfdfd"}), &["bytes"]),
        (json!({"length": 80}), &["text", "json", "csv", "bytes"]),
        (json!({"start": "aa55", "length": 60}), &["bytes"]),
        (json!({"start": "3e", "length": 60}), &["csv", "text"]),
        (json!({"length_at": 2, "length_size": 1}), &["bytes", "text"]),
        (
            json!({"start": "f0", "length_at": 1, "length_size": 2, "length_order": "little", "length_adds": -3}),
            &["bytes"],
        ),
        (json!({"silence": "60ms"}), &["text", "json", "csv", "bytes"]),
    ]
}

const CHECKSUMS: [&str; 7] =
    ["crc16-modbus", "crc16-ccitt", "crc16-xmodem", "crc16-kermit", "sum8", "xor8", "lrc"];

fn with(frame: &Value, more: &Value) -> Value {
    let mut all = frame.as_object().unwrap().clone();
    all.extend(more.as_object().unwrap().clone());
    all.into()
}

/// A table of TOML.
fn toml(table: &Map<String, Value>) -> String {
    let mut text = "{ ".to_owned();
    for (index, (key, value)) in table.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let is_bytes = matches!(key.as_str(), "start" | "end" | "checksum_mark");
        if is_bytes {
            write!(text, "{comma}{key} = {{ hex = {value} }}").unwrap();
        } else {
            write!(text, "{comma}{key} = {value}").unwrap();
        }
    }
    text + " }"
}

/// The link `line` and its device `device`, which has the count and the echo of a frame.
fn device_lines(path: &str, frame: &Value, content: &str, asked: bool, keys: &str) -> String {
    // In front of text in a frame with a count stands what the count lies in.
    let header =
        frame.get("length_at").is_some() || (frame.get("start").is_some() && frame.get("length").is_some());
    let regex = format!("^{}C=(?<count>\\d+) E=(?<echo>\\d+)\\. *$", if header { "(?s:.{8})" } else { "" });
    let (decode, count, echo) = match content {
        "text" => (format!("{{ regex = '{regex}' }}"), "\"count\"", "\"echo\""),
        "json" => ("{ json = true }".to_owned(), "\"v.count\"", "\"v.list[1]\""),
        "csv" => ("{ csv = \",\" }".to_owned(), "1", "\"2\""),
        _ => ("{ bytes = true }".to_owned(), "8", "12"),
    };
    let order = if content == "bytes" { ", order = \"DCBA\"" } else { "" };
    let odd =
        if content == "bytes" { "points.odd = { address = 20, type = \"bool\", bit = 6 }\n" } else { "" };
    let request = if asked { format!("request = {{ hex = \"{REQUEST}\" }}\n") } else { String::new() };
    format!(
        "[links.line]\ndriver = \"serial\"\npath = \"{path}\"\nbaud_rate = 115200\nframe = {}\n{keys}\n\
         [devices.device]\nlink = \"line\"\n{request}decode = {decode}\npoll_interval = \"100ms\"\n\
         points.count = {{ address = {count}, type = \"u32\" }}\n\
         points.echo = {{ address = {echo}, type = \"u64\"{order} }}\n{odd}",
        toml(frame.as_object().unwrap()),
    )
}

fn load(folder: &Path, lines: &str) -> Config {
    let file = folder.join("lines.toml");
    std::fs::write(&file, lines).unwrap();
    let url = [("FIELDGATE_MQTT__URL".into(), "mqtt://127.0.0.1".into())].into();
    load_with(&[&file], &url).unwrap_or_else(|error| panic!("{lines}\n{error}")).0
}

/// An open driver and its device.
async fn driver(config: &Config) -> (Box<dyn Driver>, Arc<Device>) {
    let mut driver = create(&config.links[0], &[]);
    driver.open(Instant::now() + LIMIT).await.unwrap();
    (driver, Arc::new(config.devices[0].clone()))
}

/// The count of a frame, after its other values have been found to be those of the same frame.
async fn poll(
    driver: &mut dyn Driver,
    device: &Arc<Device>,
    patience: Duration,
) -> Result<i128, DriverError> {
    let due: Vec<usize> = (0..device.points.len()).collect();
    let request = driver.plan(device, &due).remove(0);
    let samples = driver.exchange(&request, Instant::now() + patience).await?;
    let value = |index: usize| {
        let raw = samples[index].raw.as_ref().unwrap();
        decode(&device.points[index], raw).unwrap()
    };
    let PointValue::Int(count) = value(0) else { panic!("{:?}", value(0)) };
    assert_eq!(value(1), PointValue::Int(count * 1_000_003 + 7), "the echo of {count}");
    if device.points.len() > 2 {
        assert_eq!(value(2), PointValue::Bool(count % 2 == 1), "the lowest bit of {count}");
    }
    Ok(count)
}

/// Every shape with every content and every checksum, one of the two in turn.
fn combinations() -> Vec<(Value, &'static str)> {
    let mut all = Vec::new();
    for (frame, contents) in shapes() {
        for content in contents {
            all.push((frame.clone(), *content));
        }
        for (index, checksum) in CHECKSUMS.iter().enumerate() {
            all.push((with(&frame, &json!({"checksum": checksum})), contents[index % contents.len()]));
        }
        let text = json!({"checksum": "crc16-ccitt", "checksum_hex": true, "checksum_from": 1, "checksum_mark": "2a"});
        all.push((with(&frame, &text), contents[0]));
        if frame.get("end").is_some() {
            let behind = json!({"checksum": "lrc", "checksum_from": 1, "checksum_after_end": true});
            all.push((with(&frame, &behind), contents[0]));
        }
    }
    all
}

#[tokio::test]
async fn every_request_gets_the_values_of_its_frame() {
    let (peer, folder) = (Frames::start(), tempfile::tempdir().unwrap());
    let combinations = combinations();
    assert!(combinations.len() > 80, "{}", combinations.len());
    for (index, (frame, content)) in combinations.iter().enumerate() {
        let mut spec = json!({"frame": frame, "content": content, "request": REQUEST});
        if index % 2 == 0 && frame.get("silence").is_none() {
            spec["split"] = true.into();
        }
        let path = peer.open(&spec);
        let config = load(folder.path(), &device_lines(&path, frame, content, true, "timeout = \"30s\""));
        let (mut driver, device) = driver(&config).await;
        for count in 1..=3 {
            assert_eq!(poll(&mut *driver, &device, LIMIT).await, Ok(count), "{frame} {content}");
        }
    }
}

#[tokio::test]
async fn a_listener_gets_whole_and_present_frames() {
    let (peer, folder) = (Frames::start(), tempfile::tempdir().unwrap());
    for (index, (frame, contents)) in shapes().into_iter().enumerate() {
        let frame = if index % 2 == 0 { frame } else { with(&frame, &json!({"checksum": "crc16-modbus"})) };
        let content = contents[contents.len() - 1];
        // Without marks a silence has to tell where a frame begins.
        let path = peer.open(&json!({"frame": frame, "content": content, "stream": 0.15}));
        let config = load(folder.path(), &device_lines(&path, &frame, content, false, "timeout = \"30s\""));
        let (mut driver, device) = driver(&config).await;
        for _ in 0..3 {
            // What piled up since the last poll is old.
            let (last, _) = peer.sent();
            while peer.sent().0 < last + 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (before, _) = peer.sent();
            let count =
                poll(&mut *driver, &device, LIMIT).await.unwrap_or_else(|e| panic!("{frame} {content}: {e}"));
            assert!(
                count > before.into(),
                "{frame} {content}: {count} is older than the poll, which began at {before}"
            );
        }
    }
}

#[tokio::test]
async fn a_damaged_frame_gives_no_value() {
    let (peer, folder) = (Frames::start(), tempfile::tempdir().unwrap());
    let polls = rounds(16, 200);
    for (index, (frame, contents)) in shapes().into_iter().enumerate() {
        let frame = with(&frame, &json!({"checksum": CHECKSUMS[index % CHECKSUMS.len()]}));
        let content = contents[index % contents.len()];
        // What a line picks up before an answer must not spoil it either, where a mark or a pause tells them apart.
        let end = frame.get("end").map_or("", |end| end.as_str().unwrap());
        let noise = json!([format!("3e02aa55f0fe0d{end}"), 0.08]);
        let spec =
            json!({"frame": frame, "content": content, "request": REQUEST, "damage": 2, "noise": noise});
        let path = peer.open(&spec);
        let config = load(folder.path(), &device_lines(&path, &frame, content, true, "timeout = \"300ms\""));
        let (mut driver, device) = driver(&config).await;
        let (mut good, mut bad) = (0, 0);
        for _ in 0..polls {
            let before = peer.sent().0;
            match poll(&mut *driver, &device, Duration::from_millis(400)).await {
                Ok(count) => {
                    assert!(count % 2 == 1, "{frame} {content}: frame {count} was damaged");
                    assert!(count > before.into(), "{frame} {content}: {count} answered an earlier request");
                    good += 1;
                }
                Err(DriverError::Malformed(_) | DriverError::Timeout) => bad += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let (sent, damaged) = peer.sent();
        assert!(
            good * 4 >= polls && bad >= polls / 3,
            "{frame} {content}: {good} good, {bad} bad of {polls}, {sent} sent, {damaged} damaged"
        );
    }
}

#[test]
fn frames_of_bytes_reach_the_broker() {
    let (peer, folder) = (Frames::start(), tempfile::tempdir().unwrap());
    let frame = json!({"start": "aa", "length_at": 2, "length_size": 1, "checksum": "crc16-ccitt"});
    let path = peer.open(&json!({"frame": frame, "content": "bytes", "request": REQUEST, "damage": 3}));
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let lines = device_lines(&path, &frame, "bytes", true, "timeout = \"500ms\"");
    let _gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + &lines));
    let readings = watcher.wait("readings, good and bad", LIMIT, |messages| {
        let readings = messages.iter().filter(|message| message.topic == "fieldgate/g/device/readings");
        let readings: Vec<Value> = readings.map(support::Message::json).collect();
        let good = readings.iter().filter(|reading| reading["bad"].is_null()).count();
        (good >= 20 && readings.len() - good >= 8).then_some(readings)
    });
    for reading in readings {
        let values = &reading["values"];
        let Some(count) = values["count"].as_u64() else {
            assert!(matches!(reading["bad"]["count"].as_str(), Some("malformed" | "timeout")), "{reading}");
            continue;
        };
        assert_eq!(values["echo"].as_u64(), Some(count * 1_000_003 + 7), "{reading}");
        assert!(count % 3 != 0, "frame {count} was damaged: {reading}");
    }
}
