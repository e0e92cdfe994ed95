//! Whose turn it is, and what time it was.

use super::*;
use crate::clock::{Moment, Timestamp};
use crate::point::DeviceId;
use crate::record::{Body, Topic, event};

const HALF: Rules = Rules { when_full: WhenFull::DropOldest, live_share: 0.5 };

fn readings(made: Moment) -> Record {
    let topic = Topic::Readings(DeviceId::new("boiler").unwrap());
    Record { kind: RecordKind::Readings, topic, ..event("x", made, |body| body) }
}

/// A queue whose file holds `old` records of the last run, loaded.
fn with_backlog(old: u64, rules: Rules) -> Queue {
    let mut queue = Queue::new(2, old, Vec::new(), rules);
    queue.rewind();
    let name = |seq| Name { run: 1, seq };
    let rows: Vec<Numbered> =
        (1..=old).map(|seq| Numbered { name: name(seq), record: readings(Moment::synced(0)) }).collect();
    queue.loaded(rows, Some(name(old)), false);
    queue
}

fn runs(taken: &Taken) -> Vec<u64> {
    taken.records.iter().map(|numbered| numbered.name.run).collect()
}

fn add(queue: &mut Queue, count: usize) {
    for _ in 0..count {
        queue.append(readings(Moment::synced(0)));
    }
}

#[test]
fn live_data_has_its_share_while_a_backlog_drains() {
    for (share, live) in [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 40)] {
        let mut queue = with_backlog(100, Rules { live_share: share, ..HALF });
        add(&mut queue, 100);
        // One at a time, as when the window is full and each acknowledgement brings one credit.
        let taken: Vec<u64> = (0..40).flat_map(|_| runs(&queue.take(1, false, usize::MAX))).collect();
        assert_eq!(taken.iter().filter(|run| **run == 2).count(), live, "share {share}: {taken:?}");
    }
}

#[test]
fn what_one_side_does_not_use_the_other_gets() {
    let mut queue = with_backlog(10, HALF);
    add(&mut queue, 2);
    assert_eq!(queue.take(20, false, usize::MAX).records.len(), 12);
    let mut queue = with_backlog(2, HALF);
    add(&mut queue, 10);
    assert_eq!(queue.take(20, false, usize::MAX).records.len(), 12);
}

#[test]
fn the_backlog_gets_no_more_than_its_allowance() {
    let mut queue = with_backlog(10, HALF);
    add(&mut queue, 5);
    let taken = queue.take(20, false, 3);
    assert_eq!((taken.backlog, taken.records.len()), (3, 8));
    assert_eq!(queue.take(20, false, 0).records.len(), 0);
    assert_eq!(queue.take(20, false, 1).backlog, 1);
    // What was handed out by a lost connection is backlog of the next.
    queue.rewind();
    assert_eq!(queue.take(20, false, 2).backlog, 2);
}

#[test]
fn committed_records_stay_at_hand_for_the_live_side() {
    let mut queue = with_backlog(10, HALF);
    add(&mut queue, 6);
    queue.batch();
    queue.committed(true);
    let taken = queue.take(8, false, usize::MAX);
    assert_eq!(runs(&taken).iter().filter(|run| **run == 2).count(), 4, "as many as stay at hand");
    let live: Vec<u64> =
        taken.records.iter().filter(|n| n.name.run == 2).map(|numbered| numbered.name.seq).collect();
    assert_eq!(live, [3, 4, 5, 6], "the newest, in order");
}

fn unsynced(wall: i64, uptime: i64) -> Moment {
    Moment { wall: Timestamp::from_millis(wall), uptime, synced: false }
}

#[test]
fn what_nobody_has_seen_gets_its_true_time_and_the_rest_is_told() {
    let mut queue = Queue::new(2, 0, Vec::new(), HALF);
    queue.append(readings(unsynced(1_000, 1_000)));
    let seen = queue.take(1, false, usize::MAX).records;
    queue.append(readings(unsynced(1_500, 1_500)));
    // A step of the clock that nobody vouched for.
    queue.append(readings(unsynced(92_000, 2_000)));
    let name = queue.number();
    let reply = Record { kind: RecordKind::Reply, ..readings(unsynced(92_100, 2_100)) };
    queue.release(Numbered { name, record: reply });
    assert!(queue.has_unsynced());
    let now = Moment { wall: Timestamp::from_millis(1_003_000), uptime: 3_000, synced: true };
    let (event, base, stay) = queue.clock_set(now);
    assert_eq!((base, stay), (1_000_000, [seen[0].name].into()), "what is out stays as it is");
    let body = format!("{{{}}}", String::from_utf8(event.body.to_vec()).unwrap());
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["event"], "clock-set");
    assert_eq!(body["offset_ms"], 910_000);
    let expected = serde_json::json!([
        { "run": 2, "from": 1, "to": 2, "offset_ms": 1_000_000 },
        { "run": 2, "from": 3, "to": 4, "offset_ms": 910_000 },
    ]);
    assert_eq!(body["unsynced"], expected);
    assert!(!queue.has_unsynced());
    queue.batch();
    queue.committed(true);
    let taken = queue.take(9, false, usize::MAX).records;
    let walls: Vec<i64> = taken.iter().map(|numbered| numbered.record.made.wall.millis()).collect();
    assert_eq!(walls, [1_002_100, 1_001_500, 1_002_000], "the reply first");
    assert!(taken.iter().all(|numbered| numbered.record.made.synced));
    queue.rewind();
    queue.retimed();
    queue.loaded(Vec::new(), None, false);
    assert_eq!(queue.take(9, false, usize::MAX).records[1], seen[0], "what was seen stays as it was");
}

#[test]
fn nothing_is_loaded_while_times_are_made_right() {
    let mut queue = Queue::new(2, 5, Vec::new(), HALF);
    queue.append(readings(unsynced(1_000, 1_000)));
    assert_eq!(queue.wants_load(0, 1), Some(None));
    queue.clock_set(Moment::synced(9_000));
    assert_eq!(queue.wants_load(0, 1), None);
    queue.retimed();
    assert_eq!(queue.wants_load(0, 1), Some(None));
}

#[test]
fn a_record_set_aside_leaves_with_the_next_commit_and_does_not_come_back() {
    let mut queue = Queue::new(2, 0, Vec::new(), HALF);
    add(&mut queue, 2);
    let taken = queue.take(2, false, usize::MAX).records;
    assert!(queue.set_aside(taken[0].name, "too large"));
    assert!(!queue.set_aside(taken[0].name, "too large"), "once");
    let pending = queue.batch();
    assert_eq!(pending.aside[0].numbered.as_ref(), Some(&taken[0]));
    queue.committed(false);
    assert_eq!(queue.batch().aside, pending.aside, "a failed commit is repeated");
    queue.committed(true);
    queue.rewind();
    assert_eq!(queue.take(9, false, usize::MAX).records, taken[1..]);
    assert_eq!(queue.batch(), Pending::default());
}

#[test]
fn a_copy_whose_row_has_another_time_waits_for_the_file() {
    let mut queue = Queue::new(2, 0, Vec::new(), HALF);
    queue.append(readings(unsynced(1_000, 1_000)));
    let name = queue.number();
    let reply = Record { kind: RecordKind::Reply, ..readings(unsynced(1_200, 1_200)) };
    queue.batch();
    queue.committed(true);
    queue.release(Numbered { name, record: reply });
    queue.append(readings(unsynced(1_500, 1_500)));
    let now = Moment { wall: Timestamp::from_millis(1_003_000), uptime: 3_000, synced: true };
    let _told = queue.clock_set(now);
    // Both rows still have the old time: were one sent now and the gateway killed, the next run would send the other.
    let taken = queue.take(9, false, usize::MAX).records;
    assert_eq!(taken.iter().map(|taken| taken.name.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(queue.batch().insert.iter().map(|row| row.name.seq).collect::<Vec<_>>(), [2, 3]);
    queue.committed(true);
    assert_eq!(queue.take(9, false, usize::MAX).records[0].name, name);
    assert_eq!(queue.wants_load(0, 1), None);
    queue.retimed();
    assert_eq!(queue.wants_load(0, 1), Some(None));
}

#[test]
fn large_records_do_not_outgrow_memory_behind_small_ones() {
    let mut queue = Queue::new(2, 0, Vec::new(), HALF);
    add(&mut queue, TAIL_RECORDS);
    let text = "a".repeat(TAIL_BYTES / 1_000);
    for _ in 0..2_000 {
        let body = Body::new().with("text", &text).finish();
        queue.append(Record { body, ..readings(Moment::synced(0)) });
        assert!(queue.tail_bytes <= TAIL_BYTES, "{}", queue.tail_bytes);
    }
    let waiting = queue.waiting();
    let body = Body::new().with("text", &"a".repeat(TAIL_BYTES)).finish();
    queue.append(Record { body, ..readings(Moment::synced(0)) });
    assert_eq!(queue.waiting(), waiting, "it alone is lost");
}

#[test]
fn a_gap_whose_event_is_dropped_gets_another() {
    let mut queue = Queue::new(2, 0, Vec::new(), HALF);
    queue.gaps.lose(Name { run: 1, seq: 9 }, "max_age");
    let event = |gap: &crate::buffer::gap::Gap| gap.event(Moment::synced(0));
    queue.tell_gaps(event);
    queue.batch();
    queue.committed(true);
    queue.evict(vec![Name { run: 2, seq: 1 }], "max_size");
    queue.tell_gaps(event);
    let taken = queue.take(9, false, usize::MAX).records;
    let texts: Vec<_> = taken.iter().map(|taken| String::from_utf8_lossy(&taken.record.body)).collect();
    assert!(texts.iter().any(|text| text.contains(r#""lost":{"run":1,"from":9,"to":9}"#)), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains(r#""lost":{"run":2,"from":1,"to":1}"#)), "{texts:?}");
}
