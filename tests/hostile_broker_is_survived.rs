//! A broker that sends nonsense costs the connection at most: the process lives, its memory stays, nothing is lost,
//! and the next connection works.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::packet::{Packet, framed, publish, with_length};
use support::scripted::{Script, Scripted};
use support::{Gateway, LIMIT, head_at, rounds};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"100ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";
/// What a restart may take.
const BACK: Duration = Duration::from_secs(5);
/// What the process may grow by over all attacks.
const GROWTH: u64 = 12 << 20;

/// How a connection ended for which the broker is to blame: it is back at once.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let command = "fieldgate/g/small/command";
    // PUBLISH of QoS 1 with these properties, which are as long as they say.
    let with = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        framed(0x32, &[&with_length(command.as_bytes())[..], &[0, 9, length], properties, b"{}"].concat())
    };
    vec![
        ("a topic with a NUL", framed(0x30, &[&with_length(b"fieldgate/g\0/command")[..], &[0]].concat())),
        (
            "a topic that is not UTF-8",
            framed(0x30, &[&with_length(b"fieldgate/\xff\xfe/command")[..], &[0]].concat()),
        ),
        ("a topic longer than the packet", framed(0x30, &[0xff, 0xff, b'a'])),
        ("a PUBLISH without anything", framed(0x30, &[])),
        ("a PUBLISH of QoS 3", framed(0x36, &[&with_length(command.as_bytes())[..], &[0, 1, 0]].concat())),
        ("200 MB announced", vec![0x30, 0x80, 0x84, 0xaf, 0x5f, 0, 1, b'a', 0]),
        ("a length without an end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a SUBACK without codes", framed(0x90, &[0, 1, 0])),
        ("a SUBACK for nobody without codes", framed(0x90, &[0x77, 1])),
        ("an UNSUBACK that is empty", framed(0xb0, &[])),
        ("a packet of type 0", vec![0, 0]),
        ("a user property that is not UTF-8", with(b"\x26\x00\x01\xff\x00\x01v")),
        ("properties longer than the packet", framed(0x30, &[&with_length(b"a")[..], &[0x7f]].concat())),
        ("a property cut short", with(b"\x09\xff\xff")),
        ("a property of no kind", with(b"\x7e\x00")),
        ("a response topic with a NUL", with(b"\x08\x00\x03a\x00b")),
        ("a CONNACK in between", framed(0x20, &[0, 0x80, 0])),
        ("a CONNECT from the broker", framed(0x10, b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00")),
        ("a SUBSCRIBE from the broker", framed(0x82, &[0, 1, 0, 0, 1, b'#', 1])),
        ("a PINGREQ from the broker", framed(0xc0, &[])),
        ("a PUBACK that is empty", framed(0x40, &[])),
        ("a PUBREC for nobody", framed(0x50, &[0x70, 1])),
        ("a PUBREL for nobody", framed(0x62, &[0x70, 1])),
        ("a PUBREL that is empty", framed(0x62, &[])),
        ("a PUBCOMP with properties longer than it", framed(0x70, &[0, 1, 0, 0x7f])),
        ("a DISCONNECT with properties longer than it", framed(0xe0, &[0x82, 0x7f, 0x1f])),
        ("a DISCONNECT whose reason is not UTF-8", framed(0xe0, b"\x82\x05\x1f\x00\x02\xff\xfe")),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("the same byte", vec![0x3f; 100_000]),
    ]
}

struct Scene {
    broker: Scripted,
    gateway: Gateway,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Scripted::start(Script::default());
        let config = format!("{}{DEVICE}", head_at(folder.path(), &broker.url()));
        // Attack after attack is no outage to be patient about.
        let config = config.replace("max = \"1s\"", "max = \"200ms\"");
        let gateway = Gateway::run(folder.path(), &config);
        Self { broker, gateway, _folder: folder }
    }

    /// Waits for a reading on the newest connection, and returns which one that is.
    fn works(&self, what: &str, limit: Duration) -> usize {
        let seen = self.broker.packets().len();
        self.broker.wait(&format!("a reading after {what}"), limit, |packets| {
            let newest = packets.last()?.connection;
            let readings = packets[seen..].iter().filter(|packet| packet.connection == newest);
            let mut readings = readings.filter_map(Packet::published);
            readings.any(|(topic, _)| topic.ends_with("/readings")).then_some(newest)
        })
    }

    /// Every reading of the run comes; what the last attacks held up comes as backlog.
    fn lost_nothing(&self) {
        self.broker.wait("every reading of the run", LIMIT, |packets| {
            let published = packets.iter().filter_map(Packet::published);
            let seqs: BTreeSet<u64> = published
                .filter_map(|(_, payload)| {
                    serde_json::from_str::<serde_json::Value>(&payload).ok()?["seq"].as_u64()
                })
                .collect();
            let last = *seqs.last()?;
            (u64::try_from(seqs.len()).unwrap() == last && seqs.first() == Some(&1)).then_some(())
        });
    }
}

#[test]
fn nonsense_costs_the_connection_and_nothing_else() {
    let mut scene = Scene::start();
    scene.works("the start", LIMIT);
    let pid = scene.gateway.process().pid();
    let mut before = 0;
    for (index, (what, bytes)) in attacks().into_iter().enumerate() {
        scene.broker.send(&bytes);
        let begin = Instant::now();
        scene.works(what, LIMIT);
        assert!(begin.elapsed() < BACK, "{what}: back after {:?}", begin.elapsed());
        assert!(scene.gateway.process().ends_within(Duration::ZERO).eq(&false), "{what}");
        if index == 3 {
            before = scene.gateway.process().memory();
        }
    }
    let grown = scene.gateway.process().memory().saturating_sub(before);
    assert!(grown < GROWTH, "{} KiB more", grown >> 10);
    // A harmless command after all of it still has its answer.
    // This broker keeps nothing, so one that falls between two connections is lost and is sent again; its id runs once.
    let replied = |scene: &Scene| {
        let published = scene.broker.published().into_iter().filter(|(topic, _)| topic.ends_with("/reply"));
        let mut json =
            published.map(|(_, payload)| serde_json::from_str::<serde_json::Value>(&payload).unwrap());
        json.find(|json| json["id"] == "r-1")
    };
    let begin = Instant::now();
    let reply = loop {
        let command = publish(5, "fieldgate/g/small/command", r#"{"id":"r-1","action":"read"}"#);
        scene.broker.send(&command);
        scene.works("readings while the command runs", LIMIT);
        if let Some(reply) = replied(&scene) {
            break reply;
        }
        assert!(begin.elapsed() < LIMIT, "no reply");
    };
    assert_eq!(reply["status"], "succeeded", "{reply}");
    assert_eq!(scene.gateway.process().pid(), pid);
    scene.lost_nothing();
    assert!(scene.gateway.stop().success());
}

#[test]
fn a_flood_leaves_the_memory_as_it_is() {
    let mut scene = Scene::start();
    scene.works("the start", LIMIT);
    // Each is worth nothing, none is forbidden.
    let floods = [
        ("PINGRESP", framed(0xd0, &[])),
        ("PUBACK for nobody", framed(0x40, &[0x7f, 0x7f])),
        ("SUBACK for nobody", framed(0x90, &[0x7f, 0x7f, 0, 0])),
        ("a message for nobody", publish(5, "fieldgate/g/x/y", "z")),
        ("a retained command", {
            let mut one = publish(5, "fieldgate/g/small/command", "{}");
            one[0] |= 1;
            one
        }),
    ];
    let mut before = 0;
    for round in 0..2 {
        for (what, packet) in &floods {
            for _ in 0..rounds(10, 100) {
                scene.broker.send(&packet.repeat(1000));
            }
            scene.works(what, LIMIT);
        }
        if round == 0 {
            before = scene.gateway.process().memory();
        }
    }
    let grown = scene.gateway.process().memory().saturating_sub(before);
    assert!(grown < GROWTH, "{} KiB more", grown >> 10);
    scene.lost_nothing();
}

#[test]
fn mutilated_packets_kill_nothing() {
    let mut scene = Scene::start();
    scene.works("the start", LIMIT);
    let seed =
        std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_301);
    let mut random = fastrand::Rng::with_seed(seed);
    let good: Vec<Vec<u8>> = attacks()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|bytes| bytes.len() < 1000)
        .chain([
            publish(5, "fieldgate/g/small/command", r#"{"id":"x","action":"read"}"#),
            framed(0x32, b"\x00\x01a\x00\x07\x11\x02\x00\x00\x00\x09\x26\x00\x01k\x00\x01v\x09\x00\x01c{}"),
            framed(0x90, &[0, 1, 0, 1, 1, 0x80]),
            framed(0xe0, b"\x8b\x0b\x1f\x00\x03bye\x1c\x00\x02ab"),
            framed(0x20, b"\x00\x00\x06\x21\x00\x0a\x13\x00\x1e"),
        ])
        .collect();
    let start = scene.broker.packets().last().unwrap().connection;
    for round in 0..rounds(60, 3000) {
        let mut bytes = random.choice(&good).unwrap().clone();
        for _ in 0..random.usize(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(..8),
                2 => bytes.insert(at, random.u8(..)),
                _ => drop(bytes.remove(at)),
            }
        }
        // An AUTH is told apart on purpose: it is refused, and refusals wait.
        if bytes.first().is_some_and(|head| head >> 4 == 15) {
            continue;
        }
        // What is sent half waits for its other half: each time on a connection of its own.
        scene.broker.send(&bytes);
        scene.broker.cut();
        scene.works(&format!("round {round}: {bytes:x?}"), LIMIT);
    }
    assert!(scene.broker.packets().last().unwrap().connection > start);
    assert!(!scene.gateway.process().ends_within(Duration::ZERO), "it died");
    scene.lost_nothing();
}

#[test]
fn auth_is_refused_and_a_million_of_them_cost_nothing() {
    let mut scene = Scene::start();
    scene.works("the start", LIMIT);
    let before = scene.gateway.process().memory();
    scene.broker.send(&[0xf0, 0].repeat(1_000_000));
    let line = scene.gateway.process().wait_line("AUTH", LIMIT);
    assert!(line.contains("mqtt.auth"), "{line}");
    let grown = scene.gateway.process().memory().saturating_sub(before);
    assert!(grown < GROWTH, "{} KiB more", grown >> 10);
    assert!(!scene.gateway.process().ends_within(Duration::ZERO), "it died");
    assert!(scene.gateway.stop().success());

    // In place of CONNACK, as a broker that wants the exchange does it.
    let folder = tempfile::tempdir().unwrap();
    let challenge = framed(
        0xf0,
        &[&[0x18, 14][..], &[0x15], &with_length(b"SCRAM"), &[0x16], &with_length(b"abc")].concat(),
    );
    let broker = Scripted::start(Script { instead_of_connack: Some(challenge), ..Script::default() });
    let mut gateway =
        Gateway::run(folder.path(), &format!("{}{DEVICE}", head_at(folder.path(), &broker.url())));
    let line = gateway.process().wait_line("AUTH", LIMIT);
    assert!(line.contains("refused") && line.contains("mqtt.auth"), "{line}");
}
