//! Every type in every order, read and written by the gateway on every transport, against two libraries that share no
//! code with it or with each other: pymodbus and libmodbus (which has no ASCII). What the registers have to hold is
//! packed by Python's `struct`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod peers;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use peers::Peer;
use peers::matrix::{ORDERS, PARTS, TYPES, agree, json, keys};
use serde_json::value::RawValue;
use support::{Broker, Gateway, Subscriber, head, publish};

/// What stands around every value, to see that it stays.
const AROUND: u16 = 0xA5A5;

/// Registers for each value: the longest text, and one after it that nothing may touch.
const SLOT: u16 = 9;

/// The places of coils and of discrete inputs.
const BITS: std::ops::Range<u16> = 3..14;

/// A value of a type in an order.
struct Slot {
    kind: &'static str,
    order: &'static str,
    place: u16,
}

impl Slot {
    fn all() -> Vec<Self> {
        let kinds = TYPES.iter().chain(&PARTS).flat_map(|kind| ORDERS.map(|order| (*kind, order)));
        (0..)
            .step_by(SLOT.into())
            .zip(kinds)
            .map(|(place, (kind, order))| Self { kind, order, place })
            .collect()
    }

    fn point(&self, area: &str) -> String {
        format!("{area}-{}-{}", self.kind.replace(':', "-"), self.order.to_lowercase())
    }
}

/// A peer, and what its registers have to hold.
struct Bench {
    peer: Peer,
    slots: Vec<Slot>,
    registers: BTreeMap<&'static str, Vec<u16>>,
}

impl Bench {
    fn start(script: &str, transport: &str) -> Self {
        let peer = Peer::start(script, &[transport]);
        let slots = Slot::all();
        let registers = vec![AROUND; slots.len() * usize::from(SLOT)];
        let registers = [("", registers.clone()), ("input:", registers)].into();
        Self { peer, slots, registers }
    }

    /// Another value for each slot of an area, and the registers that go with it.
    fn roll(&mut self, area: &'static str) -> Vec<String> {
        let registers = self.registers.get_mut(area).unwrap();
        let mut values = Vec::new();
        for Slot { kind, order, place } in &self.slots {
            let value = self.peer.tell(&format!("roll {kind}"));
            let packed = self.peer.tell(&format!("pack {kind} {order} {value}"));
            let (words, own) = packed.split_once(';').unwrap();
            let numbers = |text: &str| -> Vec<u16> { text.split(' ').map(|n| n.parse().unwrap()).collect() };
            for ((register, word), own) in
                registers[usize::from(*place)..].iter_mut().zip(numbers(words)).zip(numbers(own))
            {
                *register = (*register & !own) | (word & own);
            }
            values.push(value);
        }
        values
    }

    fn put(&mut self, place: &str, words: &[u16]) {
        let words: Vec<String> = words.iter().map(u16::to_string).collect();
        assert_eq!(self.peer.tell(&format!("set 1 {place} {}", words.join(" "))), "ok");
    }

    fn words(&mut self, place: &str, count: usize) -> Vec<u16> {
        let text = self.peer.tell(&format!("words 1 {place} {count}"));
        text.split(' ').map(|word| word.parse().unwrap()).collect()
    }

    /// The peer holds what `struct` packs, and nothing beside it has changed.
    fn assert_registers(&mut self, what: &str) {
        let count = self.registers[""].len();
        let found = self.words("0", count);
        for (slot, (found, wanted)) in
            self.slots.iter().zip(found.chunks(SLOT.into()).zip(self.registers[""].chunks(SLOT.into())))
        {
            assert_eq!(found, wanted, "{what} {} {}: {found:04x?}, not {wanted:04x?}", slot.kind, slot.order);
        }
    }
}

fn config(transport: &str, place: &str, read_write: bool, slots: &[Slot]) -> String {
    let driver = if transport == "ascii-tcp" { "ascii" } else { transport };
    let place = match place.parse::<u16>() {
        Ok(port) => format!("address = \"127.0.0.1:{port}\""),
        Err(_) => format!("path = \"{place}\"\nbaud_rate = 115200"),
    };
    let mut config = format!(
        r#"
[commands]
timeout = "60s"
[links.line]
driver = "modbus-{driver}"
{place}
timeout = "20s"
[devices.all]
link = "line"
address = 1
poll_interval = "500ms"
read_write = {read_write}
[devices.all.points]
"#
    );
    for slot in slots {
        let Slot { kind, order, place } = slot;
        for (area, more) in [("holding", ", writable = true"), ("input", "")] {
            let (point, keys) = (slot.point(area), keys(kind));
            writeln!(
                config,
                "{point} = {{ address = \"{area}:{place}\", {keys}, order = \"{order}\"{more} }}"
            )
            .unwrap();
        }
    }
    for bit in BITS {
        writeln!(config, "coil-{bit} = {{ address = \"coil:{bit}\", type = \"bool\", writable = true }}")
            .unwrap();
        writeln!(config, "discrete-{bit} = {{ address = \"discrete:{bit}\", type = \"bool\" }}").unwrap();
    }
    config
}

/// The values of a message, to the letter: no JSON library may round them.
fn values(payload: &str) -> Option<BTreeMap<String, String>> {
    let message: BTreeMap<String, &RawValue> = serde_json::from_str(payload).unwrap();
    assert!(!message.contains_key("bad"), "{payload}");
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(message.get("values")?.get()).unwrap();
    Some(values.into_iter().map(|(point, text)| (point, text.get().to_owned())).collect())
}

/// What is told of these points and is something else.
fn wrong(told: &BTreeMap<String, String>, wanted: &BTreeMap<String, (&str, String)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (point, (kind, value)) in wanted {
        match told.get(point) {
            Some(ours) if agree(kind, ours, value) => {}
            other => wrong.push(format!("{point}: {other:?}, not {value}")),
        }
    }
    wrong
}

/// By these functions, and the reads.
fn every_type_and_order(script: &str, transport: &str, functions: &[&str]) {
    let what = format!("{script} {transport}");
    let read_write = functions.contains(&"23");
    let mut bench = Bench::start(script, transport);
    let read = [bench.roll(""), bench.roll("input:")];
    for (area, registers) in bench.registers.clone() {
        bench.put(&format!("{area}0"), &registers);
    }
    let mut wanted = BTreeMap::new();
    for (area, values) in ["holding", "input"].into_iter().zip(&read) {
        let slots = bench.slots.iter().zip(values);
        wanted.extend(slots.map(|(slot, value)| (slot.point(area), (slot.kind, value.clone()))));
    }
    for (area, step) in [("coil", 3), ("discrete", 5)] {
        let bits: Vec<u16> = BITS.map(|bit| u16::from(bit % step == 0)).collect();
        bench.put(&format!("{area}:{}", BITS.start), &bits);
        wanted.extend(BITS.map(|bit| (format!("{area}-{bit}"), ("bool", (bit % step == 0).to_string()))));
    }
    assert_eq!(wanted.len(), 2 * 20 * 4 + 2 * 11, "every type in every order");

    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/all/+");
    let config =
        head(folder.path(), &broker) + &config(transport, &bench.peer.place, read_write, &bench.slots);
    let mut gateway = Gateway::run(folder.path(), &config);
    let first = watcher.wait_for("the first readings", |message| message.topic.ends_with("/readings"));
    let told = values(&first.payload).unwrap();
    assert_eq!((wrong(&told, &wanted), told.len()), (Vec::new(), wanted.len()), "{what}: read");

    // All of them anew, by one command.
    let written = bench.roll("");
    let mut sent = Vec::new();
    let mut kept = BTreeMap::new();
    for (slot, value) in bench.slots.iter().zip(&written) {
        sent.push(format!("\"{}\":{}", slot.point("holding"), json(slot.kind, value)));
        kept.insert(slot.point("holding"), (slot.kind, value.clone()));
    }
    for bit in BITS {
        sent.push(format!("\"coil-{bit}\":{}", bit % 3 != 0));
        kept.insert(format!("coil-{bit}"), ("bool", (bit % 3 != 0).to_string()));
    }
    let command = format!(r#"{{"id":"w","action":"write","values":{{{}}}}}"#, sent.join(","));
    publish(&broker, "fieldgate/g/all/command", &command, &[]);
    let reply = watcher.wait_for("the reply", |message| message.topic.ends_with("/reply"));
    assert_eq!(reply.json()["status"], "succeeded", "{what}: {}", reply.payload);
    let told = values(&reply.payload).unwrap();
    assert_eq!((wrong(&told, &kept), told.len()), (Vec::new(), kept.len()), "{what}: told of a write");
    bench.assert_registers(&what);
    let coils: Vec<u16> = BITS.map(|bit| u16::from(bit % 3 != 0)).collect();
    assert_eq!(bench.words(&format!("coil:{}", BITS.start), coils.len()), coils, "{what}");

    wanted.extend(kept);
    watcher.wait_for("what was written", |message| {
        message.topic.ends_with("/readings")
            && values(&message.payload).is_some_and(|told| wrong(&told, &wanted).is_empty())
    });
    assert!(gateway.stop().success());
    let seen = bench.peer.tell("seen");
    let seen: BTreeSet<&str> = seen.split_whitespace().map(|seen| seen.strip_prefix("1:").unwrap()).collect();
    let expected: BTreeSet<&str> = ["1", "2", "3", "4"].iter().chain(functions).copied().collect();
    assert_eq!(seen, expected, "{what}");
}

const USUAL: [&str; 4] = ["5", "6", "16", "22"];

#[test]
fn pymodbus_over_tcp() {
    every_type_and_order("modbus_bus.py", "tcp", &USUAL);
}

#[test]
fn pymodbus_over_rtu() {
    every_type_and_order("modbus_bus.py", "rtu", &USUAL);
}

#[test]
fn pymodbus_over_rtu_on_tcp() {
    every_type_and_order("modbus_bus.py", "rtu-tcp", &USUAL);
}

#[test]
fn pymodbus_over_ascii() {
    every_type_and_order("modbus_bus.py", "ascii", &USUAL);
}

#[test]
fn pymodbus_over_ascii_on_tcp() {
    every_type_and_order("modbus_bus.py", "ascii-tcp", &USUAL);
}

#[test]
fn libmodbus_over_tcp() {
    every_type_and_order("libmodbus_device.py", "tcp", &USUAL);
}

#[test]
fn libmodbus_over_rtu() {
    every_type_and_order("libmodbus_device.py", "rtu", &USUAL);
}

#[test]
fn libmodbus_over_rtu_on_tcp() {
    every_type_and_order("libmodbus_device.py", "rtu-tcp", &USUAL);
}

#[test]
fn libmodbus_by_function_23() {
    every_type_and_order("libmodbus_device.py", "tcp", &["5", "22", "23"]);
}
