//! A broker that refuses the gateway for good is asked again after half a minute at the earliest, and the log says
//! which key may mend it. Two clients with one id are told of each other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use support::packet::framed;
use support::recorder::Recorder;
use support::scripted::{Script, Scripted};
use support::{Gateway, LIMIT, head_at};
use tempfile::TempDir;

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"500ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";
/// The measuring loses a little.
const REFUSED_WAIT: Duration = Duration::from_millis(29_800);
/// Longer than that wait, on a busy machine.
const SLOW_LIMIT: Duration = Duration::from_secs(120);

/// Codes of CONNACK, by version, and the key that the log names.
const CODES: [(&str, u8, &str); 14] = [
    ("5", 0x84, "mqtt.version"),
    ("5", 0x85, "mqtt.client_id"),
    ("5", 0x86, "mqtt.password"),
    ("5", 0x87, "mqtt.password"),
    ("5", 0x8a, "the broker says"),
    ("5", 0x8c, "mqtt.auth"),
    ("5", 0x9a, "mqtt.will"),
    ("5", 0x9b, "mqtt.will"),
    ("5", 0x9c, "mqtt.url"),
    ("5", 0x9d, "mqtt.url"),
    ("3.1.1", 1, "mqtt.version"),
    ("3.1.1", 2, "mqtt.client_id"),
    ("3.1.1", 4, "mqtt.password"),
    ("3.1", 5, "mqtt.password"),
];

struct Running {
    what: String,
    broker: Scripted,
    recorder: Recorder,
    gateway: Gateway,
    _folder: TempDir,
}

fn start(what: String, script: Script, more: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(script);
    let recorder = Recorder::before(broker.port);
    let url = format!("mqtt://127.0.0.1:{}", recorder.port);
    let gateway = Gateway::run(folder.path(), &format!("{}{more}{DEVICE}", head_at(folder.path(), &url)));
    Running { what, broker, recorder, gateway, _folder: folder }
}

/// The time between two connects, the first counted from 0.
fn between(running: &Running, first: usize) -> Duration {
    let connections = running.recorder.wait(first + 2, SLOW_LIMIT);
    connections[first + 1].at - connections[first].at
}

/// All that wait do it at the same time.
#[test]
fn what_somebody_has_to_mend_is_asked_again_slowly() {
    let (refused, thrown_out, contested) = (refused(), thrown_out(), contested());
    for running in refused.iter().chain(&thrown_out) {
        // Of one that was thrown out this is counted from its connect, a little earlier.
        let waited = between(running, 0);
        assert!(waited >= REFUSED_WAIT, "{}: asked again after {waited:?}", running.what);
    }
    // The first time may be chance: it is back soon. Then it leaves the other alone for a while.
    assert!(between(&contested, 0) < REFUSED_WAIT);
    assert!(between(&contested, 1) >= REFUSED_WAIT, "{:?}", between(&contested, 1));
}

/// Refused at once, each in its own words.
fn refused() -> Vec<Running> {
    let mut all: Vec<_> = CODES
        .iter()
        .map(|(version, code, _)| {
            let script = Script { connack: *code, ..Script::default() };
            start(format!("{version}: {code:#x}"), script, &format!("version = \"{version}\"\n"))
        })
        .collect();
    for (running, (_, _, key)) in all.iter_mut().zip(&CODES) {
        let line = running.gateway.process().wait_line("no broker", LIMIT);
        assert!(line.contains("refused") && line.contains(key), "{}: {line}", running.what);
    }
    all
}

/// Connected, then not authorized any more, ended by somebody, sent to another server, moved.
fn thrown_out() -> Vec<Running> {
    let codes = [0x87, 0x98, 0x9c, 0x9d];
    let mut all: Vec<_> =
        codes.iter().map(|code| start(format!("{code:#x}"), Script::default(), "")).collect();
    for (running, code) in all.iter_mut().zip(codes) {
        running.broker.wait_json("/readings", "a reading", |_| true);
        running.broker.send(&framed(0xe0, &[code, 0]));
        let line = running.gateway.process().wait_line("no broker", LIMIT);
        assert!(line.contains("refused"), "{}: {line}", running.what);
    }
    all
}

/// Thrown out twice by another with the same id.
fn contested() -> Running {
    let mut running = start("taken over".to_owned(), Script::default(), "");
    for connection in 1..=2 {
        running.broker.wait("a reading", LIMIT, |packets| {
            let mut topics = packets.iter().filter(|packet| packet.connection == connection);
            let is_reading = |(topic, _): (String, String)| topic.ends_with("/readings");
            topics.any(|packet| packet.published().is_some_and(is_reading)).then_some(())
        });
        running.broker.send(&framed(0xe0, &[0x8e, 0]));
        if connection == 1 {
            let line = running.gateway.process().wait_line("no broker", LIMIT);
            assert!(line.contains("fieldgate-g") && line.contains("mqtt.client_id"), "{line}");
        }
    }
    let line = running.gateway.process().wait_line("two clients with one id", LIMIT);
    assert!(line.contains("ERROR") && line.contains("gateway.id"), "{line}");
    running
}
