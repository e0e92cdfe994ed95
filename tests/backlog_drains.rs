//! A great backlog goes to a broker that is back: whole, in order, with memory as flat as before, and what is new
//! does not wait for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use fieldgate::buffer::store::Store;
use fieldgate::clock::Clock;
use fieldgate::point::DeviceId;
use fieldgate::record::{Body, Name, Numbered, Record, RecordKind, Topic, object};
use support::collector::{Collector, Kind, Received};
use support::count::{Rule, judge};
use support::counted::{Counted, Origin, Served, monotonic};
use support::relay::{Pass, Relay};
use support::{Broker, Gateway, LIMIT, head, rounds};

/// Points of a unit.
const POINTS: usize = 4;
/// The unit whose answers are in the backlog; the device has others.
const OLD: u64 = 9;
/// Records written to the file in one go.
const BATCH: u64 = 1_000;
/// Messages that may be out at a time, by default.
const WINDOW: usize = 64;
/// Memory that a backlog may cost, however long it is.
const SLACK: u64 = 6 << 20;
/// A live answer that takes longer than this to arrive has waited for something.
const LATE: Duration = Duration::from_secs(1);
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The answer `n` of the unit that is no more.
fn old(n: u64) -> Record {
    let device = format!("unit-{OLD}");
    let points = (0..u64::try_from(POINTS).unwrap())
        .map(|point| (format!("p{point}"), Origin { unit: OLD, point, n }));
    let points: Vec<_> = points.collect();
    let made = Clock::Trusted.now();
    let body = Body::new().with("device", &device).with_time(made).with_json("values", |out| {
        object(out, points.iter().map(|(id, origin)| (id.as_str(), origin.value())), |out, value| {
            out.extend_from_slice(value.to_string().as_bytes());
        });
    });
    Record {
        kind: RecordKind::Readings,
        topic: Topic::Readings(DeviceId::new(&device).unwrap()),
        body: body.finish(),
        correlation: None,
        made,
    }
}

/// Leaves a buffer with so many records behind, by the real store, and gives the book of the device they are from.
fn leave_backlog(folder: &Path, records: u64) -> Vec<Served> {
    let mut store = Store::new(folder.join("buffer.db"), 4 << 30);
    let run = store.open().unwrap().run;
    for first in (1..=records).step_by(usize::try_from(BATCH).unwrap()) {
        let batch = first..=records.min(first + BATCH - 1);
        let numbered = batch.map(|seq| Numbered { name: Name { run, seq }, record: old(seq) });
        store.commit(&numbered.collect::<Vec<_>>(), &[]).unwrap();
    }
    store.close();
    // One more than there are: its question proves that the last one was taken.
    (1..=records + 1).map(|n| Served { unit: OLD, n, connection: 0, asked: n, answered: n }).collect()
}

/// A configuration with these lines for the buffer.
fn config(folder: &Path, broker: &Broker, buffer: &str) -> String {
    head(folder, broker)
        .replace("[mqtt]", &format!("max_size = \"4GiB\"\n{buffer}\n[mqtt]"))
        .replace("level = \"debug\"", "level = \"info\"")
}

/// The unit whose answer it is.
fn unit(message: &Received) -> Option<u64> {
    match message.record()?.kind {
        Kind::Weighed { unit, .. } => Some(unit),
        _ => None,
    }
}

/// How long the answers that the device gave in this time took to arrive, shortest first.
fn delays(device: &Counted, received: &[Received], time: Range<u64>) -> Vec<Duration> {
    let served = device.served();
    let answered: HashMap<(u64, u64), u64> =
        served.iter().map(|answer| ((answer.unit, answer.n), answer.answered)).collect();
    let arrived = received.iter().filter_map(|message| match message.record()?.kind {
        Kind::Weighed { unit, n } => Some((*answered.get(&(unit, n))?, message.at)),
        _ => None,
    });
    let mut delays: Vec<Duration> = arrived
        .filter(|(answered, _)| time.contains(answered))
        .map(|(answered, at)| Duration::from_nanos(at.saturating_sub(answered)))
        .collect();
    delays.sort();
    delays
}

/// Waits until so many records of the backlog have arrived, and notes the gateway's memory meanwhile.
fn drained(part: u64, gateway: &mut Gateway, collector: &Collector, memory: &mut Vec<u64>) {
    let limit = LIMIT * u32::try_from(rounds(5, 30)).unwrap();
    let part = usize::try_from(part).unwrap();
    let done = collector.wait(limit, |received| {
        memory.push(gateway.process().memory());
        (received.iter().filter(|message| unit(message) == Some(OLD)).count() >= part).then_some(())
    });
    assert!(done.is_some(), "{part} records did not arrive within {limit:?}");
}

#[test]
fn a_great_backlog_drains_in_the_memory_of_a_small_one() {
    let count = u64::try_from(rounds(60_000, 1_000_000)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::persistent();
    let relay = Relay::start(&broker);
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    let live = Collector::of(&broker, POINTS, "fieldgate/g/unit-1/readings");
    let config = relay.before(&broker, &config(folder.path(), &broker, "")) + &device.devices(1, "20ms");
    // What no backlog takes is what this gateway takes.
    let mut gateway = Gateway::run(folder.path(), &config);
    device.wait_served(100);
    let base = gateway.process().memory();
    assert!(gateway.stop().success());
    let backlog = leave_backlog(folder.path(), count);
    let mut gateway = Gateway::run(folder.path(), &config);
    let began = Instant::now();
    let (mut memory, first) = (Vec::new(), monotonic());
    drained(count / 4, &mut gateway, &collector, &mut memory);

    // What waits for its acknowledgement is all that goes out.
    relay.pass(Pass::Withheld);
    let (withheld, first) = (Instant::now(), first..monotonic());
    let before = collector.received().len();
    let patience = Duration::from_secs(u64::try_from(rounds(15, 600)).unwrap());
    collector.wait(patience, |_| {
        memory.push(gateway.process().memory());
        None::<()>
    });
    let more = collector.received().len() - before;
    assert!(more <= 4 * WINDOW, "{more} messages went out while none was acknowledged");
    relay.pass(Pass::Freely);
    let withheld = withheld.elapsed();
    // What is new has a queue of its own to work off first.
    device.wait_served(50);

    let second = monotonic();
    drained(count, &mut gateway, &collector, &mut memory);
    let second = second..monotonic();
    let took = began.elapsed().saturating_sub(withheld);
    device.wait_served(50);
    device.mute();
    let served = [backlog, device.served()].concat();
    collector.wait(LIMIT, |received| judge(&served, received, &Rule::default()).is_clean().then_some(()));
    assert!(gateway.stop().success());
    let verdict = judge(&served, &collector.received(), &Rule::default());
    let (highest, lowest) = (memory.iter().max().unwrap(), memory.iter().min().unwrap());
    let live = live.received();
    let delays = [delays(&device, &live, first), delays(&device, &live, second)].concat();
    let late = delays.iter().filter(|delay| **delay > LATE).count();
    verdict.report(&format!(
        "{count} records in {took:?} without {withheld:?} of silence; memory {base} without it, {lowest} to \
         {highest} with it; {late} of {} live answers late",
        delays.len()
    ));
    assert!(verdict.is_clean(), "{verdict}");
    assert!(*highest < base + SLACK, "memory grew from {base} to {highest}");
    assert!(delays.len() > 50 && late < delays.len() / 20, "live data waits for the backlog: {delays:?}");
}

#[test]
fn live_data_has_its_share_of_a_slow_broker() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::persistent();
    let relay = Relay::start(&broker);
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    leave_backlog(folder.path(), 5_000);
    let config = config(folder.path(), &broker, "live_share = 0.75");
    let config = relay.before(&broker, &config) + &device.devices(2, "10ms");
    // A hundred messages in a second, and twice as many new records.
    relay.pass(Pass::Each(Duration::from_millis(10)));
    let _gateway = Gateway::run(folder.path(), &config);
    let units = collector.wait(LIMIT, |received| {
        let units: Vec<u64> = received.iter().filter_map(unit).collect();
        (units.len() >= 1_000).then_some(units)
    });
    // At first there was nothing new.
    let units = &units.expect("a thousand messages")[200..];
    let live = units.iter().filter(|unit| **unit != OLD).count();
    let share = 100 * live / units.len();
    assert!((73..=80).contains(&share), "{share} % of the messages were live, three quarters should be");
}

#[test]
fn a_backlog_keeps_to_its_rate() {
    let (records, rate) = (1_000_usize, 200_usize);
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::persistent();
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    let backlog = leave_backlog(folder.path(), u64::try_from(records).unwrap());
    let config = config(folder.path(), &broker, &format!("backlog_rate = {rate}"));
    let mut gateway = Gateway::run(folder.path(), &(config + &device.devices(1, "20ms")));
    let from = monotonic();
    drained(u64::try_from(records).unwrap(), &mut gateway, &collector, &mut Vec::new());
    let time = from..monotonic();
    let received = collector.received();
    let at: Vec<u64> =
        received.iter().filter(|message| unit(message) == Some(OLD)).map(|message| message.at).collect();
    let took = Duration::from_nanos(at[at.len() - 1] - at[0]);
    let most = at.iter().map(|from| at.iter().filter(|at| (*from..from + SECOND).contains(at)).count()).max();
    // A second's worth at once, and what a busy machine delivers late.
    assert!(most.unwrap() <= 2 * rate + rate / 2, "{most:?} in one second");
    assert!(took > Duration::from_secs(3), "{records} records took {took:?} at {rate} a second");
    let delays = delays(&device, &received, time);
    let late = delays.iter().filter(|delay| **delay > LATE).count();
    assert!(delays.len() > 100 && late < delays.len() / 20, "live data waits for the backlog: {delays:?}");
    device.mute();
    let served = [backlog, device.served()].concat();
    collector.wait(LIMIT, |received| judge(&served, received, &Rule::default()).is_clean().then_some(()));
    let verdict = judge(&served, &collector.received(), &Rule::default());
    assert!(verdict.is_clean(), "{verdict}");
    verdict.report(&format!("{records} records at {rate} a second took {took:?}"));
}
