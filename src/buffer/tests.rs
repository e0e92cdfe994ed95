//! Queue and store together: what is appended is acknowledged, waits, or is named by a gap event.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::journal::{Begin, Begun, CommandKey};
use super::queue::{Pending, Queue, Rules, TAIL_RECORDS};
use super::store::{Batch, Store, StoreError};
use super::{Ack, Append, Buffer, Close, GetStats, Take};
use crate::clock::{Clock, Moment};
use crate::config::{BufferConfig, WhenFull};
use crate::point::DeviceId;
use crate::record::{Body, Name, Numbered, Record, RecordKind, Topic};

fn readings(text: &str) -> Record {
    Record {
        kind: RecordKind::Readings,
        topic: Topic::Readings(DeviceId::new("boiler").unwrap()),
        body: Body::new().with("text", text).finish(),
        correlation: None,
        made: Moment::synced(5),
    }
}

/// Oldest first, as far as the file is concerned: the tests of shares have rules of their own.
const OLDEST: Rules = Rules { when_full: WhenFull::DropOldest, live_share: 0.0 };

fn store(folder: &tempfile::TempDir) -> Store {
    Store::new(folder.path().join("buffer.db"), 1 << 20)
}

fn names(records: &[Numbered]) -> Vec<Name> {
    records.iter().map(|numbered| numbered.name).collect()
}

fn load(queue: &mut Queue, store: &mut Store, after: Option<Name>, limit: usize) {
    let loaded = store.load(after, limit).unwrap();
    let more = loaded.records.len() >= limit;
    queue.loaded(loaded.records, loaded.last, more);
}

fn begin(id: &str, digest: u8, enter: bool) -> Begin {
    Begin {
        key: CommandKey { device: DeviceId::new("boiler"), id: id.to_owned() },
        digest: [digest; 32],
        action: "write".to_owned(),
        reply: Topic::Reply(DeviceId::new("boiler")),
        correlation: Some([1, 2].into()),
        enter,
    }
}

#[test]
fn rows_come_back_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    let mut reply = readings("b");
    reply.kind = RecordKind::Reply;
    reply.topic = Topic::Response("to/me".to_owned());
    reply.correlation = Some([0, 255].into());
    let rows: Vec<Numbered> = [(1, readings("a")), (2, reply)]
        .map(|(seq, record)| Numbered { name: Name { run, seq }, record })
        .into();
    assert_eq!(store.commit(&rows, &[]).unwrap().records, 2);
    assert_eq!(store.load(None, 10).unwrap().records, rows);
    assert_eq!(store.load(Some(rows[0].name), 10).unwrap().records, rows[1..]);
    assert_eq!(store.commit(&[], &[rows[0].name]).unwrap().records, 1);
    assert_eq!(store.load(None, 10).unwrap().records, rows[1..]);
    store.close();
    let again = store.open().unwrap();
    assert_eq!((again.usage.records, names(&again.replies)), (1, vec![rows[1].name]));
}

#[test]
fn a_run_never_comes_again_even_when_the_file_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(&folder).open().unwrap().run;
    let second = store(&folder).open().unwrap().run;
    assert!(second > first);
    for file in ["buffer.db", "buffer.db-wal", "buffer.db-shm"] {
        drop(std::fs::remove_file(folder.path().join(file)));
    }
    assert!(store(&folder).open().unwrap().run > second, "the copy beside the file counts");
}

#[test]
fn a_second_gateway_on_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = store(&folder);
    first.open().unwrap();
    assert!(matches!(store(&folder).open(), Err(StoreError::Locked(_))));
}

#[test]
fn a_newer_file_stays_untouched() {
    let folder = tempfile::tempdir().unwrap();
    store(&folder).open().unwrap();
    let path = folder.path().join("buffer.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(store(&folder).open(), Err(StoreError::Newer { found: 99, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("buffer.db"), b"no database at all, but long enough to be read as one")
        .unwrap();
    let opened = store(&folder).open().unwrap();
    let aside = opened.replaced.unwrap().moved_to.unwrap();
    assert!(std::fs::read(aside).unwrap().starts_with(b"no database"));
}

#[test]
fn an_id_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    assert_eq!(store.begin(&begin("c-1", 7, false)).unwrap(), Begun::Fresh);
    assert_eq!(store.begin(&begin("c-1", 7, true)).unwrap(), Begun::Fresh, "asking enters nothing");
    assert_eq!(store.begin(&begin("c-1", 7, true)).unwrap(), Begun::Running);
    assert_eq!(store.begin(&begin("c-1", 8, true)).unwrap(), Begun::Reused);
    let open = store.unfinished().unwrap();
    assert_eq!((open.len(), open[0].key.clone()), (1, begin("c-1", 7, true).key));
    let reply = Numbered { name: Name { run, seq: 1 }, record: readings("done") };
    store.finish(&open[0].key, Some(&reply.record.body), &reply, &Batch::default()).unwrap();
    assert_eq!(store.begin(&begin("c-1", 7, true)).unwrap(), Begun::Seen(reply.record.body.clone()));
    assert!(store.unfinished().unwrap().is_empty());
    assert_eq!(store.begin(&begin("c-2", 7, true)).unwrap(), Begun::Fresh);
    let reply = Numbered { name: Name { run, seq: 2 }, record: readings("never asked") };
    store.finish(&begin("c-2", 7, true).key, None, &reply, &Batch::default()).unwrap();
    assert_eq!(store.begin(&begin("c-2", 9, true)).unwrap(), Begun::Fresh, "taken out of the journal again");
}

#[test]
fn what_is_acknowledged_in_the_window_is_never_written() {
    let mut queue = Queue::new(1, 0, Vec::new(), OLDEST);
    queue.append(readings("a"));
    let taken = queue.take(10, false, usize::MAX).records;
    queue.ack(&names(&taken));
    assert_eq!(queue.batch(), Pending::default());
    assert_eq!(queue.elided(), 1);
    assert_eq!(queue.commit_due(Duration::ZERO, Duration::ZERO), None);
}

#[test]
fn with_a_window_of_zero_nothing_leaves_before_it_is_stored() {
    let mut queue = Queue::new(1, 0, Vec::new(), OLDEST);
    queue.append(readings("a"));
    assert!(queue.take(10, true, usize::MAX).records.is_empty());
    let rows = queue.batch().insert;
    queue.committed(true);
    assert_eq!(queue.take(10, true, usize::MAX).records, rows);
}

#[test]
fn a_full_tail_drops_the_oldest_and_one_event_grows() {
    let mut queue = Queue::new(1, 0, Vec::new(), OLDEST);
    for _ in 0..TAIL_RECORDS + 10 {
        queue.append(readings("a"));
        queue.tell_gaps(|gap| gap.event(Moment::synced(0)));
    }
    let all = queue.take(TAIL_RECORDS + 20, false, usize::MAX).records;
    let events: Vec<&Numbered> = all.iter().filter(|n| n.record.kind == RecordKind::Event).collect();
    assert_eq!(events.len(), 1);
    let text = String::from_utf8(events[0].payload(false)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seen: BTreeSet<u64> = all.iter().map(|numbered| numbered.name.seq).collect();
    let (from, to) = (json["lost"]["from"].as_u64().unwrap(), json["lost"]["to"].as_u64().unwrap());
    let last = *seen.last().unwrap();
    assert!((1..=last).all(|seq| seen.contains(&seq) || (from..=to).contains(&seq)));
    assert!(seen.len() >= TAIL_RECORDS, "no more than needed is dropped");
    // Once it is out it no longer grows: the next loss gets an event of its own.
    for _ in 0..=TAIL_RECORDS {
        queue.append(readings("a"));
        queue.tell_gaps(|gap| gap.event(Moment::synced(0)));
    }
    assert!(
        queue
            .take(2 * TAIL_RECORDS, false, usize::MAX)
            .records
            .iter()
            .any(|n| n.record.kind == RecordKind::Event)
    );
}

#[test]
fn drop_newest_keeps_the_old() {
    let mut queue = Queue::new(1, 0, Vec::new(), Rules { when_full: WhenFull::DropNewest, ..OLDEST });
    for _ in 0..TAIL_RECORDS + 5 {
        queue.append(readings("a"));
    }
    let all = queue.take(usize::MAX, false, usize::MAX).records;
    assert_eq!((all[0].name.seq, all.len()), (1, TAIL_RECORDS));
    assert_eq!(queue.gaps.dropped()["memory"], 5);
}

#[test]
fn replies_go_first() {
    let mut queue = Queue::new(1, 0, Vec::new(), OLDEST);
    queue.append(readings("a"));
    let mut reply = readings("r");
    reply.kind = RecordKind::Reply;
    let name = queue.number();
    queue.release(Numbered { name, record: reply });
    assert_eq!(queue.take(1, false, usize::MAX).records[0].name, name);
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Append,
    Take(usize),
    Ack(usize),
    Rewind,
    Commit(bool),
    Load,
    Evict(usize),
    /// Everything that waits is taken and acknowledged.
    Drain,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        3 => (1..5usize).prop_map(Step::Take),
        3 => (1..5usize).prop_map(Step::Ack),
        1 => Just(Step::Rewind),
        2 => any::<bool>().prop_map(Step::Commit),
        2 => Just(Step::Load),
        1 => (1..4usize).prop_map(Step::Evict),
        1 => Just(Step::Drain),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, a stored record is acknowledged, still there, or named by a gap event, and comes
    /// back the same to the letter; and in the order of their numbers within a run of takes.
    #[test]
    fn nothing_stored_is_lost(steps in prop::collection::vec(step(), 1..120), share in 0..=2u8) {
        let rules = Rules { live_share: f64::from(share) / 2.0, ..OLDEST };
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let opened = store.open().unwrap();
        let mut queue = Queue::new(opened.run, 0, Vec::new(), rules);
        let mut durable: BTreeSet<Name> = BTreeSet::new();
        let mut acked: BTreeSet<Name> = BTreeSet::new();
        let mut out: Vec<Name> = Vec::new();
        let mut lost: Vec<(u64, u64, u64)> = Vec::new();
        let mut bodies: HashMap<Name, Record> = HashMap::new();
        let mut text = 0;
        for step in steps.into_iter().chain([Step::Drain, Step::Crash]) {
            match step {
                Step::Append => {
                    text += 1;
                    let record = readings(&text.to_string());
                    let name = queue.append(record.clone());
                    bodies.insert(name, record);
                }
                Step::Take(limit) => {
                    let taken = queue.take(limit, false, usize::MAX).records;
                    for numbered in &taken {
                        if let Some(record) = bodies.get(&numbered.name) {
                            prop_assert_eq!(record, &numbered.record);
                        }
                        prop_assert!(!out.contains(&numbered.name), "handed out twice");
                        prop_assert!(!acked.contains(&numbered.name), "handed out after its acknowledgement");
                    }
                    out.extend(names(&taken));
                }
                Step::Ack(count) => {
                    let done: Vec<Name> = out.drain(..count.min(out.len())).collect();
                    queue.ack(&done);
                    acked.extend(done);
                }
                Step::Rewind => {
                    queue.rewind();
                    out.clear();
                }
                Step::Commit(works) => {
                    let Pending { insert, delete, .. } = queue.batch();
                    if works {
                        store.commit(&insert, &delete).unwrap();
                        durable.extend(names(&insert));
                    }
                    queue.committed(works);
                }
                Step::Load => {
                    if let Some(after) = queue.wants_load(0, 1) {
                        load(&mut queue, &mut store, after, 3);
                    }
                }
                Step::Evict(count) => {
                    let oldest = store.oldest(count).unwrap();
                    let dropped = queue.evict(oldest, "max_size");
                    lost.extend(dropped.iter().map(|name| (name.run, name.seq, name.seq)));
                    queue.tell_gaps(|gap| gap.event(Moment::synced(0)));
                }
                Step::Drain => {
                    queue.rewind();
                    out.clear();
                    // An event that grew leaves once the file has it.
                    let Pending { insert, delete, .. } = queue.batch();
                    store.commit(&insert, &delete).unwrap();
                    durable.extend(names(&insert));
                    queue.committed(true);
                    let known: BTreeSet<Name> = bodies.keys().filter(|name| name.run == queue.run()).copied().collect();
                    loop {
                        let taken = queue.take(4, false, usize::MAX).records;
                        if taken.is_empty() {
                            match queue.wants_load(0, 1) {
                                Some(after) => load(&mut queue, &mut store, after, 3),
                                None => break,
                            }
                        }
                        queue.ack(&names(&taken));
                        acked.extend(names(&taken));
                    }
                    let is_lost = |name: &Name| lost.contains(&(name.run, name.seq, name.seq));
                    let missing: Vec<_> = known.iter().filter(|name| !acked.contains(name) && !is_lost(name)).collect();
                    prop_assert!(missing.is_empty(), "{:?} never had their turn", missing);
                }
                Step::Crash => {
                    store.close();
                    let opened = store.open().unwrap();
                    // An acknowledged record may come again after a crash: at least once.
                    acked.clear();
                    out.clear();
                    let present: BTreeSet<Name> = names(&store.load(None, 10_000).unwrap().records).into_iter().collect();
                    durable.retain(|name| present.contains(name));
                    queue = Queue::new(opened.run, opened.usage.records, opened.replies, rules);
                    let mut seen = BTreeSet::new();
                    loop {
                        let taken = queue.take(4, false, usize::MAX).records;
                        if taken.is_empty() {
                            match queue.wants_load(0, 1) {
                                Some(after) => load(&mut queue, &mut store, after, 3),
                                None => break,
                            }
                        }
                        seen.extend(names(&taken));
                    }
                    prop_assert_eq!(&seen, &present, "every stored record is taken again");
                    queue.rewind();
                }
            }
            // What was committed and neither acknowledged nor evicted is in the file.
            let present: BTreeSet<Name> = names(&store.load(None, 10_000).unwrap().records).into_iter().collect();
            for name in &durable {
                let named = lost.iter().any(|(run, from, to)| *run == name.run && (*from..=*to).contains(&name.seq));
                prop_assert!(present.contains(name) || acked.contains(name) || named, "{:?} is lost", name);
            }
        }
    }
}

#[test]
fn an_event_that_grows_during_its_commit_has_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    let mut queue = Queue::new(run, 0, Vec::new(), OLDEST);
    let fill = |queue: &mut Queue| {
        for _ in 0..=TAIL_RECORDS {
            queue.append(readings("a"));
            queue.tell_gaps(|gap| gap.event(Moment::synced(0)));
        }
    };
    fill(&mut queue);
    let Pending { insert, delete, .. } = queue.batch();
    fill(&mut queue);
    store.commit(&insert, &delete).unwrap();
    queue.committed(true);
    let is_event = |numbered: &Numbered| numbered.record.kind == RecordKind::Event;
    let early = queue.take(usize::MAX, false, usize::MAX).records;
    assert!(!early.iter().any(is_event), "the file has the shorter text: a kill would let that one out too");
    queue.undo(&names(&early));
    let Pending { insert, delete, .. } = queue.batch();
    assert!(insert.iter().any(is_event));
    store.commit(&insert, &delete).unwrap();
    queue.committed(true);
    let mut seen: HashMap<Name, Vec<u8>> = HashMap::new();
    loop {
        let taken = queue.take(64, false, usize::MAX).records;
        if taken.is_empty() {
            let Some(after) = queue.wants_load(0, 1) else { break };
            load(&mut queue, &mut store, after, 256);
        }
        for numbered in &taken {
            assert_eq!(seen.insert(numbered.name, numbered.payload(false)), None, "sent twice");
        }
        queue.ack(&names(&taken));
    }
}

#[test]
fn a_commit_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    let rows = [Numbered { name: Name { run, seq: 1 }, record: readings("a") }];
    store.commit(&rows, &[]).unwrap();
    // As after an error of the sync, when nobody knows whether it was durable.
    store.commit(&rows, &[]).unwrap();
    assert_eq!(store.load(None, 10).unwrap().records, rows);
}

#[test]
fn a_damaged_page_moves_the_file_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.db");
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    let rows: Vec<Numbered> = (1..200)
        .map(|seq| Numbered { name: Name { run, seq }, record: readings(&"a".repeat(500)) })
        .collect();
    store.commit(&rows, &[]).unwrap();
    store.close();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let opened = self::store(&folder).open().unwrap();
    assert!(opened.replaced.is_some() && opened.run > run, "{opened:?}");
}

#[test]
fn a_reply_overtakes_an_outage() {
    let mut queue = Queue::new(1, 1000, Vec::new(), OLDEST);
    let mut reply = readings("r");
    reply.kind = RecordKind::Reply;
    let name = queue.append(reply);
    assert_eq!(
        names(&queue.take(1, false, usize::MAX).records),
        [name],
        "the file's records were not even loaded"
    );
}

fn config(folder: &tempfile::TempDir, when_full: WhenFull) -> BufferConfig {
    BufferConfig {
        path: folder.path().join("buffer.db"),
        commit_every: Duration::from_millis(100),
        max_size: 64 << 10,
        max_age: Duration::from_secs(1 << 30),
        when_full,
        live_share: 0.0,
        backlog_rate: 0,
    }
}

/// Waits for what must come, far longer than it takes.
async fn until(buffer: &actix::Addr<Buffer>, what: &str, found: impl Fn(&super::Stats) -> bool) {
    for _ in 0..2000 {
        if found(&buffer.send(GetStats).await.unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come in 20 s: {:?}", buffer.send(GetStats).await.unwrap());
}

#[actix::test]
async fn commits_go_on_while_loads_fail() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    store.commit(&[Numbered { name: Name { run, seq: 1 }, record: readings("a") }], &[]).unwrap();
    drop(store);
    let config = config(&folder, WhenFull::DropOldest);
    let other = rusqlite::Connection::open(&config.path).unwrap();
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    other.execute_batch("ALTER TABLE records RENAME COLUMN made TO born").unwrap();
    let take = actix::spawn(buffer.send(Take { limit: 1 }));
    buffer.send(Append(readings("b"))).await.unwrap();
    until(&buffer, "a commit", |stats| stats.commits > 0 && stats.waiting == 0).await;
    other.execute_batch("ALTER TABLE records RENAME COLUMN born TO made").unwrap();
    assert_eq!(take.await.unwrap().unwrap()[0].name, Name { run, seq: 1 });
}

#[actix::test]
async fn a_commit_does_not_wait_for_a_later_timer() {
    let folder = tempfile::tempdir().unwrap();
    let (buffer, _) = Buffer::start(config(&folder, WhenFull::DropOldest), Clock::Trusted).await.unwrap();
    // A deletion may wait for a second; it must not take the next commit with it. A busy machine may delay one
    // commit that long, not five in a row.
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        buffer.send(Append(readings("a"))).await.unwrap();
        until(&buffer, "a commit", |stats| stats.waiting == 0).await;
        let taken = buffer.send(Take { limit: 1 }).await.unwrap();
        buffer.send(Ack(names(&taken))).await.unwrap();
        let begun = std::time::Instant::now();
        buffer.send(Append(readings("b"))).await.unwrap();
        until(&buffer, "a commit", |stats| stats.waiting == 0).await;
        shortest = shortest.min(begun.elapsed());
        let taken = buffer.send(Take { limit: 1 }).await.unwrap();
        buffer.send(Ack(names(&taken))).await.unwrap();
    }
    assert!(shortest < Duration::from_millis(900), "{shortest:?}");
}

#[actix::test]
async fn memory_that_is_half_full_does_not_wait_for_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let config = BufferConfig {
        commit_every: Duration::from_secs(3600),
        max_size: 16 << 20,
        ..config(&folder, WhenFull::DropOldest)
    };
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    for _ in 0..TAIL_RECORDS - 1_000 {
        buffer.send(Append(readings("a"))).await.unwrap();
    }
    until(&buffer, "a commit", |stats| stats.stored > 2_000).await;
}

#[actix::test]
async fn numbers_alone_write_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        BufferConfig { commit_every: Duration::from_secs(3600), ..config(&folder, WhenFull::DropOldest) };
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    buffer.send(Append(readings("waits"))).await.unwrap();
    buffer.send(Take { limit: 1 }).await.unwrap();
    // Almost as many as the file has numbers for at first.
    for _ in 0..9_000 {
        buffer.send(Append(readings("a"))).await.unwrap();
        let taken = buffer.send(Take { limit: 1 }).await.unwrap();
        buffer.send(Ack(names(&taken))).await.unwrap();
    }
    until(&buffer, "a new ceiling", |stats| stats.commits > 1).await;
    let stats = buffer.send(GetStats).await.unwrap();
    assert_eq!((stats.stored, stats.waiting, stats.elided), (0, 1, 9_000), "{stats:?}");
}

#[actix::test]
async fn a_full_file_drops_what_it_is_told_to() {
    for (when_full, oldest_stays) in [(WhenFull::DropOldest, false), (WhenFull::DropNewest, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (buffer, run) = Buffer::start(config(&folder, when_full), Clock::Trusted).await.unwrap();
        for _ in 0..40 {
            for _ in 0..10 {
                buffer.send(Append(readings(&"a".repeat(1000)))).await.unwrap();
            }
            until(&buffer, "a commit", |stats| stats.waiting == 0).await;
        }
        let stats = buffer.send(GetStats).await.unwrap();
        assert!(!stats.dropped.is_empty() && stats.bytes <= 320 << 10, "{stats:?}");
        let mut first = u64::MAX;
        while let Ok(taken) =
            tokio::time::timeout(Duration::from_millis(500), buffer.send(Take { limit: 64 })).await
        {
            let taken = taken.unwrap();
            let readings = taken.iter().filter(|numbered| numbered.record.kind == RecordKind::Readings);
            first = readings.map(|numbered| numbered.name.seq).min().unwrap_or(u64::MAX).min(first);
            buffer.send(Ack(names(&taken))).await.unwrap();
        }
        assert_eq!(first == 1, oldest_stays, "{when_full:?} of run {run} left {first}");
    }
}

/// Processor time of this thread so far: the actor runs on it.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[actix::test]
async fn an_idle_buffer_sleeps() {
    let folder = tempfile::tempdir().unwrap();
    let config = BufferConfig { backlog_rate: 100, ..config(&folder, WhenFull::DropOldest) };
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    let take = actix::spawn(buffer.send(Take { limit: 1 }));
    until(&buffer, "an idle store", |stats| stats.busy_for.is_zero()).await;
    let begun = worked();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = worked().saturating_sub(begun);
    assert!(spent < Duration::from_millis(30), "{spent:?} of two seconds");
    take.abort();
}

#[actix::test]
async fn what_could_not_be_stored_before_a_stop_is_told_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, WhenFull::DropOldest);
    let (buffer, run) = Buffer::start(config.clone(), Clock::Trusted).await.unwrap();
    // More than the whole file takes.
    let lost = buffer.send(Append(readings(&"a".repeat(1 << 20)))).await.unwrap();
    until(&buffer, "a failed commit", |stats| stats.fault.is_some()).await;
    buffer.send(Close).await.unwrap();
    let again = Store::new(config.path, 1 << 20).open().unwrap();
    let covers = |gap: &super::store::Lost| gap.run == run && (gap.first..=gap.last).contains(&lost.seq);
    assert!(again.lost.iter().any(covers), "{:?}", again.lost);
}

#[actix::test]
async fn a_stop_tries_once_more_what_failed_before() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, WhenFull::DropOldest);
    let (buffer, run) = Buffer::start(config.clone(), Clock::Trusted).await.unwrap();
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("ALTER TABLE records RENAME COLUMN made TO born").unwrap();
    let name = buffer.send(Append(readings("a"))).await.unwrap();
    until(&buffer, "a failed commit", |stats| stats.fault.is_some()).await;
    other.execute_batch("ALTER TABLE records RENAME COLUMN born TO made").unwrap();
    drop(other);
    buffer.send(Close).await.unwrap();
    let mut store = Store::new(config.path, 1 << 20);
    let again = store.open().unwrap();
    assert_eq!((names(&store.load(None, 9).unwrap().records), again.lost), (vec![name], Vec::new()));
    assert!(again.run > run);
}

#[actix::test]
async fn the_backlog_is_loaded_while_commits_never_cease() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let run = store.open().unwrap().run;
    let old = Name { run, seq: 1 };
    store.commit(&[Numbered { name: old, record: readings("a") }], &[]).unwrap();
    drop(store);
    let config = BufferConfig {
        commit_every: Duration::ZERO,
        max_size: 64 << 20,
        ..config(&folder, WhenFull::DropOldest)
    };
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    buffer.send(Append(readings("b"))).await.unwrap();
    let mut take = actix::spawn(buffer.send(Take { limit: 1 }));
    let begun = std::time::Instant::now();
    while !take.is_finished() && begun.elapsed() < Duration::from_secs(20) {
        // Whenever one commit is done, the next is due.
        buffer.send(Append(readings("b"))).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(take.is_finished(), "nothing was loaded");
    assert_eq!((&mut take).await.unwrap().unwrap()[0].name, old);
}

#[actix::test]
async fn room_is_made_behind_what_is_in_flight_and_for_larger_records() {
    let folder = tempfile::tempdir().unwrap();
    let config = BufferConfig { max_size: 1 << 20, ..config(&folder, WhenFull::DropOldest) };
    let (buffer, _) = Buffer::start(config, Clock::Trusted).await.unwrap();
    let is_stored = |stats: &super::Stats| stats.waiting == 0 && stats.busy_for.is_zero();
    let mut out = 0;
    for _ in 0..12 {
        for _ in 0..200 {
            buffer.send(Append(readings("a"))).await.unwrap();
        }
        until(&buffer, "a commit", is_stored).await;
        // Nothing of it is acknowledged.
        if out < 600 {
            out += buffer.send(Take { limit: 200 }).await.unwrap().len();
        }
    }
    for _ in 0..40 {
        for _ in 0..10 {
            buffer.send(Append(readings(&"a".repeat(8_000)))).await.unwrap();
        }
        until(&buffer, "a commit", is_stored).await;
    }
    let stats = buffer.send(GetStats).await.unwrap();
    assert!(stats.fault.is_none() && stats.dropped.keys().all(|reason| reason == "max_size"), "{stats:?}");
}
