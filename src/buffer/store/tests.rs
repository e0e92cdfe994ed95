//! The file by itself: its size, its damage, its times.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, Moment, Timestamp, uptime};
use crate::point::DeviceId;
use crate::record::{Record, RecordKind, Topic, event};

const MIB: u64 = 1 << 20;

fn numbered(run: u64, seq: u64, length: usize) -> Numbered {
    let text: String = std::iter::repeat_n('a', length).collect();
    let made = event("x", Moment::synced(5), |body| body.with("n", &seq).with("text", &text));
    let topic = Topic::Readings(DeviceId::new("boiler").unwrap());
    Numbered { name: Name { run, seq }, record: Record { kind: RecordKind::Readings, topic, ..made } }
}

fn fill(store: &mut Store, run: u64, seqs: std::ops::RangeInclusive<u64>) -> Vec<Numbered> {
    let rows: Vec<Numbered> = seqs.map(|seq| numbered(run, seq, 300)).collect();
    store.commit(&rows, &[]).unwrap();
    rows
}

fn names(rows: &[Numbered]) -> Vec<Name> {
    rows.iter().map(|numbered| numbered.name).collect()
}

/// Every byte that the buffer has on the disk.
fn size(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn at(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("buffer.db")
}

#[test]
fn all_files_together_stay_below_max_size() {
    for max_size in [MIB, 4 * MIB] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(at(&folder), max_size);
        let run = store.open().unwrap().run;
        let (mut seq, mut most) = (0, 0);
        // Twice what fits, evicted as the actor does it.
        while seq * 2_000 < 2 * max_size {
            let rows: Vec<Numbered> = (1..=50).map(|n| numbered(run, seq + n, 2_000)).collect();
            seq += 50;
            let mut delete = Vec::new();
            let usage = store.usage().unwrap();
            if usage.bytes + 60 * 4_096 > usage.limit {
                delete = store.oldest(100).unwrap();
            }
            store.commit(&rows, &delete).unwrap();
            most = most.max(size(folder.path()));
            assert!(most <= max_size, "{most} of {max_size}");
        }
        assert!(most > max_size / 2, "{most} of {max_size}: it uses its room");
        // The space comes back.
        while let names @ [_, ..] = &store.oldest(500).unwrap()[..] {
            store.commit(&[], names).unwrap();
        }
        while !store.tidy().unwrap() {}
        let reserve = fs::metadata(at(&folder).with_added_extension("reserve")).map_or(0, |file| file.len());
        let left = size(folder.path()) - reserve;
        assert!(left < 400 << 10, "{left} bytes are left of {most}");
    }
}

#[test]
fn gap_events_outlive_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    let of = |seq, kind, name: &str| {
        let record = Record { kind, ..event(name, Moment::synced(5), |body| body.with("lost", "1")) };
        Numbered { name: Name { run, seq }, record }
    };
    let rows = [
        of(1, RecordKind::Event, "gap"),
        of(2, RecordKind::Reply, "x"),
        of(3, RecordKind::Event, "panic"),
        of(4, RecordKind::Readings, "x"),
    ];
    store.commit(&rows, &[]).unwrap();
    let mut gone = Vec::new();
    while let names @ [_, ..] = &store.oldest(9).unwrap()[..] {
        gone.extend(names.iter().map(|name| name.seq));
        store.commit(&[], names).unwrap();
    }
    assert_eq!(gone, [4, 3, 2]);
}

#[test]
fn a_row_whose_digit_changed_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=3);
    let other = rusqlite::Connection::open(at(&folder)).unwrap();
    other.execute("UPDATE records SET body = replace(body, '\"n\":2', '\"n\":7') WHERE seq = 2", []).unwrap();
    let loaded = store.load(None, 10).unwrap();
    assert_eq!(names(&loaded.records), [rows[0].name, rows[2].name]);
    assert_eq!((loaded.damaged, loaded.last), (vec![rows[1].name], Some(rows[2].name)));
    let reason = "damaged".to_owned();
    let aside = vec![Aside { name: rows[1].name, numbered: None, reason }];
    let usage = store.write(&Batch { aside, ..Batch::default() }).unwrap();
    assert_eq!((usage.records, usage.aside), (2, 1), "kept apart as it is");
}

#[test]
fn what_is_set_aside_has_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 64 * MIB);
    let run = store.open().unwrap().run;
    let aside = |seqs: std::ops::Range<u64>, length: usize| -> Vec<Aside> {
        let one = |seq| numbered(run, seq, length);
        seqs.map(|seq| Aside { name: one(seq).name, numbered: Some(one(seq)), reason: "x".to_owned() })
            .collect()
    };
    let usage = store.write(&Batch { aside: aside(0..1_050, 10), ..Batch::default() }).unwrap();
    assert_eq!((usage.aside, usage.records), (1_000, 0));
    let usage = store.write(&Batch { aside: aside(2_000..2_005, 1 << 20), ..Batch::default() }).unwrap();
    assert_eq!(usage.aside, 3, "a sixteenth of max_size");
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=2_000);
    store.close();
    let mut bytes = fs::read(at(&folder)).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 3 * 4096].fill(0x5a);
    fs::write(at(&folder), &bytes).unwrap();
    let opened = store.open().unwrap();
    let replaced = if let Some(replaced) = opened.replaced {
        replaced
    } else {
        // The damage lies where opening does not look: a thorough look finds it.
        assert!(!faults(&at(&folder)).is_empty());
        store.replace().unwrap()
    };
    assert_eq!(fs::read(replaced.moved_to.unwrap()).unwrap().len(), bytes.len(), "moved whole");
    let loaded = store.load(None, 10_000).unwrap();
    let there: HashSet<Name> = names(&loaded.records).into_iter().collect();
    assert!(there.len() > 1_500 && there.len() < 2_000, "{}", there.len());
    assert!(loaded.records.iter().all(|row| rows.contains(row)), "every row is as it was");
    let is_told = |name: &Name| {
        let covers = |lost: &Lost| lost.run == name.run && (lost.first..=lost.last).contains(&name.seq);
        replaced.lost.iter().any(covers)
    };
    assert!(names(&rows).iter().all(|name| there.contains(name) || is_told(name)), "{:?}", replaced.lost);
    fill(&mut store, run, 3_000..=3_001);
    assert!(faults(&at(&folder)).is_empty());
}

#[test]
fn a_file_that_is_deleted_while_open_is_carried_over_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=50);
    fs::remove_file(at(&folder)).unwrap();
    assert!(matches!(store.commit(&[numbered(run, 51, 1)], &[]), Err(StoreError::Damaged(_))));
    let replaced = store.replace().unwrap();
    assert_eq!((replaced.salvaged, replaced.moved_to), (50, None));
    assert_eq!(store.load(None, 100).unwrap().records, rows);
    drop(store);
    assert_eq!(Store::new(at(&folder), 16 * MIB).open().unwrap().usage.records, 50, "and it is on the disk");
}

#[test]
fn a_file_that_is_deleted_within_a_commit_is_carried_over_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=50);
    for path in [at(&folder), store.log_path()] {
        fs::remove_file(path).unwrap();
    }
    // What a commit does once it is on the disk.
    store.tend();
    assert!(matches!(store.load(None, 100), Ok(loaded) if loaded.records == rows));
    assert!(matches!(store.commit(&[numbered(run, 51, 1)], &[]), Err(StoreError::Damaged(_))));
    assert_eq!(store.replace().unwrap().salvaged, 50);
    assert_eq!(store.load(None, 100).unwrap().records, rows);
}

#[test]
fn a_file_that_is_gone_when_it_is_opened_again_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    fill(&mut store, run, 1..=50);
    // As after an I/O error.
    store.connection = None;
    for path in [at(&folder), store.log_path()] {
        fs::remove_file(path).unwrap();
    }
    assert!(matches!(store.load(None, 100), Err(StoreError::Damaged(_))));
    let replaced = store.replace().unwrap();
    let is_told =
        |seq| replaced.lost.iter().any(|lost| lost.run == run && (lost.first..=lost.last).contains(&seq));
    assert!((1..=50).all(is_told), "{:?}", replaced.lost);
    fill(&mut store, run, 51..=60);
}

#[test]
fn a_log_that_is_deleted_while_open_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let mut rows = fill(&mut store, run, 1..=50);
    fs::remove_file(store.log_path()).unwrap();
    rows.extend(fill(&mut store, run, 51..=60));
    rows.extend(fill(&mut store, run, 61..=70));
    // As after a kill: nothing is closed.
    std::mem::forget(store);
    let copy = tempfile::tempdir().unwrap();
    for file in ["buffer.db", "buffer.db-wal"] {
        fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let mut store = Store::new(at(&copy), 16 * MIB);
    store.open().unwrap();
    assert_eq!(store.load(None, 100).unwrap().records, rows);
}

#[test]
fn a_run_that_was_cut_off_is_told_and_one_that_ended_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let first = store.open().unwrap();
    assert!(first.lost.is_empty() && !first.is_unclean);
    let rows = vec![numbered(first.run, 7, 1)];
    store.write(&Batch { insert: rows, floor: Some(7), ..Batch::default() }).unwrap();
    store.close();
    let second = store.open().unwrap();
    let [lost] = &second.lost[..] else { panic!("{:?}", second.lost) };
    assert_eq!((lost.run, lost.first, lost.reason.as_str()), (first.run, 8, "unclean-stop"));
    assert!(second.is_unclean && lost.last >= 8);
    store.write(&Batch { told: Some(lost.id), ..Batch::default() }).unwrap();
    store.end(0);
    let third = store.open().unwrap();
    assert!(third.lost.is_empty() && !third.is_unclean, "{third:?}");
}

#[test]
fn the_ceiling_is_always_above_the_numbers_that_were_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    store.open().unwrap();
    for floor in [1, 7_000, 8_000, 12_000, 50_000] {
        let usage = store.write(&Batch { floor: Some(floor), ..Batch::default() }).unwrap();
        assert!(usage.ceiling > floor + usage.ceiling / 8, "{floor}: {}", usage.ceiling);
    }
    store.close();
    let lost = store.open().unwrap().lost;
    assert_eq!((lost[0].first, lost[0].last), (50_001, 100_000));
}

#[test]
fn the_ceiling_rises_with_the_numbers_and_the_floor_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    store.open().unwrap();
    store.write(&Batch { floor: Some(5), given: Some(6), ..Batch::default() }).unwrap();
    assert_eq!(store.write(&Batch { given: Some(9_000), ..Batch::default() }).unwrap().ceiling, 18_000);
    store.close();
    let lost = store.open().unwrap().lost;
    assert_eq!((lost[0].first, lost[0].last), (6, 18_000));
}

#[test]
fn a_file_that_was_lost_is_told_by_the_copy_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    store.close();
    fs::remove_file(at(&folder)).unwrap();
    let opened = store.open().unwrap();
    assert!(opened.run > run);
    assert_eq!((opened.lost[0].run, opened.lost[0].first), (run, 1));
    assert!(opened.lost[0].last >= 10_000, "{:?}", opened.lost);
}

#[test]
fn readings_grow_too_old_by_the_clocks_that_can_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    let day = 86_400_000;
    let now = Clock::Trusted.now();
    let row = |run: u64, seq: u64, made: Moment, kind: RecordKind| {
        let mut row = numbered(run, seq, 1);
        (row.record.made, row.record.kind) = (made, kind);
        row
    };
    let ago = |days: i64| Moment {
        wall: Timestamp::from_millis(now.wall.millis() - days * day),
        uptime: now.uptime,
        synced: true,
    };
    let rows = [
        // Another start of the machine: its uptimes say nothing, wall time does where it was set.
        row(1, 1, ago(3), RecordKind::Readings),
        row(1, 2, Moment { synced: false, ..ago(3) }, RecordKind::Readings),
        row(1, 3, ago(1), RecordKind::Readings),
        row(1, 4, ago(3), RecordKind::Event),
        row(1, 5, ago(3), RecordKind::Reply),
        // This one: the wall clock may have jumped, uptime has not.
        row(run, 1, ago(3), RecordKind::Readings),
        row(run, 2, Moment { uptime: now.uptime - 3 * day, ..now }, RecordKind::Readings),
    ];
    store.commit(&rows, &[]).unwrap();
    let mut expired = |now: Moment| {
        let age = Duration::from_secs(2 * 86_400);
        names_of(store.expired(Limit { age, now, most: 100 }).unwrap())
    };
    assert_eq!(expired(now), [(1, 1), (run, 2)]);
    assert_eq!(expired(Moment { synced: false, ..now }), [(run, 2)], "an unset clock proves no age");
    let later = Moment { synced: false, uptime: uptime() + 3 * day, ..now };
    assert_eq!(expired(later), [(1, 1), (1, 2), (1, 3), (run, 1), (run, 2)], "three days in one start are");
}

fn names_of(names: Vec<Name>) -> Vec<(u64, u64)> {
    names.into_iter().map(|name| (name.run, name.seq)).collect()
}

#[test]
fn times_before_the_clock_was_set_are_made_right_unless_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let rows: Vec<Numbered> = (1..=1_200)
        .map(|seq| {
            let uptime = i64::try_from(seq).unwrap();
            let made = Moment { wall: Timestamp::from_millis(100 + uptime), uptime, synced: seq % 3 == 0 };
            Numbered { name: Name { run, seq }, record: event("x", made, |body| body) }
        })
        .collect();
    store.commit(&rows, &[]).unwrap();
    let seen: HashSet<Name> = [rows[0].name, rows[600].name].into();
    let mut work = Retime { base: 5_000_000, after: 0, upto: 1_100, seen: seen.clone() };
    while let Some(after) = store.retime(&work).unwrap() {
        work.after = after;
    }
    let loaded = store.load(None, 2_000).unwrap();
    assert!(loaded.damaged.is_empty());
    for (was, is) in rows.iter().zip(&loaded.records) {
        if was.record.made.synced || seen.contains(&was.name) || was.name.seq > work.upto {
            assert_eq!(was, is);
        } else {
            let wall = Timestamp::from_millis(5_000_000 + was.record.made.uptime);
            assert_eq!(is.record.made, Moment { wall, synced: true, ..was.record.made });
            assert_eq!(is.record, event("x", is.record.made, |body| body));
        }
    }
}

#[test]
fn what_another_program_changed_is_seen_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    fill(&mut store, run, 1..=3);
    assert!(store.look_again().unwrap().is_none(), "its own commits are no news");
    let other = rusqlite::Connection::open(at(&folder)).unwrap();
    other
        .execute_batch(&format!(
            "BEGIN; DELETE FROM records WHERE seq = 2; \
             INSERT INTO lost (run, first, last, reason) VALUES ({run}, 2, 2, 'purged'); COMMIT"
        ))
        .unwrap();
    let changed = store.look_again().unwrap().unwrap();
    assert_eq!((changed.usage.records, changed.lost.len()), (2, 1));
    assert!(store.look_again().unwrap().is_none());
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date_with_all_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(at(&folder)).unwrap();
    old.execute_batch(include_str!("../schema/1.sql")).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1; INSERT INTO meta VALUES ('run', 70);
         INSERT INTO records VALUES (70, 1, 2, 'readings/boiler', CAST('\"ts\":1' AS BLOB), NULL, 9);
         INSERT INTO records VALUES (70, 2, 2, 'readings/boiler', CAST('\"ts\":1,\"clock\":\"unsynced\"' AS BLOB),
             NULL, 9)",
    )
    .unwrap();
    drop(old);
    let mut store = Store::new(at(&folder), MIB);
    let opened = store.open().unwrap();
    assert!(opened.run > 70 && opened.replaced.is_none());
    let loaded = store.load(None, 10).unwrap();
    assert_eq!(names(&loaded.records), [Name { run: 70, seq: 1 }, Name { run: 70, seq: 2 }]);
    assert_eq!(&*loaded.records[0].record.body, b"\"ts\":1");
    assert_eq!(loaded.records.iter().map(|row| row.record.made.synced).collect::<Vec<_>>(), [true, false]);
    store.commit(&[], &names(&loaded.records)).unwrap();
    // Room is given back from now on, which version 1 could not.
    let rows = fill(&mut store, opened.run, 1..=1_000);
    store.commit(&[], &names(&rows)).unwrap();
    let most = fs::metadata(at(&folder)).unwrap().len();
    while !store.tidy().unwrap() {}
    assert!(fs::metadata(at(&folder)).unwrap().len() < most / 2, "of {most}");
}

/// All names are there or told.
fn nothing_is_missing(rows: &[Numbered], there: &[Numbered], lost: &[Lost]) {
    let there: HashSet<Name> = names(there).into_iter().collect();
    let is_told = |name: Name| {
        lost.iter().any(|lost| lost.run == name.run && (lost.first..=lost.last).contains(&name.seq))
    };
    let missing: Vec<_> =
        names(rows).into_iter().filter(|name| !there.contains(name) && !is_told(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {lost:?}");
}

/// A file with records of two runs, closed.
fn two_runs(folder: &tempfile::TempDir) -> Vec<Numbered> {
    let mut store = Store::new(at(folder), 16 * MIB);
    let mut rows = Vec::new();
    for _ in 0..2 {
        let run = store.open().unwrap().run;
        rows.extend(fill(&mut store, run, 1..=1_000));
        store.end(1_000);
    }
    rows
}

#[test]
fn what_has_no_room_in_the_new_file_is_told_and_the_gateway_starts() {
    let folder = tempfile::tempdir().unwrap();
    let rows = two_runs(&folder);
    let other = rusqlite::Connection::open(at(&folder)).unwrap();
    other.execute_batch("UPDATE meta SET value = 'x'").unwrap();
    drop(other);
    // max_size was made smaller since.
    let mut store = Store::new(at(&folder), 64 << 10);
    let opened = store.open().unwrap();
    let there = store.load(None, 10_000).unwrap().records;
    assert!(there.len() > 500 && there.len() < rows.len(), "{}", there.len());
    nothing_is_missing(&rows, &there, &opened.lost);
    let copies = fs::read_dir(folder.path()).unwrap();
    let is_copy =
        |name: &str| name.contains("corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm");
    let copies = copies.filter(|entry| is_copy(&entry.as_ref().unwrap().file_name().to_string_lossy()));
    assert_eq!(copies.count(), 1, "moved aside once");
}

#[test]
fn a_replacement_that_is_cut_off_has_told_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    let rows = two_runs(&folder);
    let mut store = Store::new(at(&folder), 16 * MIB);
    let mut replacing = store.set_aside_whole().unwrap();
    store.begin_anew(&mut replacing).unwrap();
    drop(store);
    let opened = Store::new(at(&folder), 16 * MIB).open().unwrap();
    nothing_is_missing(&rows, &[], &opened.lost);
}

#[test]
fn a_replacement_goes_on_with_the_same_file_after_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let rows = two_runs(&folder);
    let mut store = Store::new(at(&folder), 16 * MIB);
    let replacing = store.set_aside_whole().unwrap();
    store.replacing = Some(replacing);
    // A folder in its place cannot be opened as a file.
    fs::create_dir(at(&folder)).unwrap();
    assert!(store.replace().is_err());
    fs::remove_dir(at(&folder)).unwrap();
    let replaced = store.replace().unwrap();
    assert_eq!((replaced.salvaged, replaced.lost), (2_000, Vec::new()));
    assert_eq!(store.load(None, 10_000).unwrap().records, rows);
}

#[test]
fn a_value_of_another_type_beside_the_records_stops_nothing() {
    for damage in [
        "UPDATE meta SET value = 'x'",
        "UPDATE runs SET uptime = 'x'",
        "UPDATE runs SET floor = 'x', ceiling = x'5a'",
        "INSERT INTO lost (run, first, last, reason) VALUES ('x', 1, 2, 'purged')",
        "INSERT INTO lost (run, first, last, reason) VALUES (1, 1, 2, x'ff5a')",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rows = two_runs(&folder);
        let other = rusqlite::Connection::open(at(&folder)).unwrap();
        other.execute_batch(damage).unwrap();
        drop(other);
        let mut store = Store::new(at(&folder), 16 * MIB);
        let opened = store.open().unwrap_or_else(|error| panic!("{damage}: {error}"));
        assert!(opened.run > rows[1_999].name.run);
        assert_eq!(store.load(None, 10_000).unwrap().records, rows, "{damage}");
        let limit = Limit { age: Duration::from_secs(1 << 40), now: Clock::Trusted.now(), most: 10 };
        assert_eq!(store.expired(limit).unwrap(), []);
        // What was found while it runs is mended once, and not found again.
        if store.look_again().is_err() {
            store.replace().unwrap();
        }
        store.look_again().unwrap();
    }
}

#[test]
fn a_damaged_time_neither_stops_retention_nor_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=4);
    let other = rusqlite::Connection::open(at(&folder)).unwrap();
    other
        .execute_batch(&format!(
            "UPDATE records SET uptime = {} WHERE seq = 1; UPDATE records SET uptime = 'x' WHERE seq = 2; \
             UPDATE records SET run = 1, made = {} WHERE seq = 3",
            i64::MIN,
            i64::MIN
        ))
        .unwrap();
    let limit = Limit { age: Duration::from_secs(1 << 40), now: Clock::Trusted.now(), most: 10 };
    let expired = store.expired(limit).unwrap();
    assert!(!expired.contains(&rows[1].name) && !expired.contains(&rows[3].name), "{expired:?}");
}

#[test]
fn a_file_that_cannot_be_read_now_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(faults(&folder.path().join("missing")), Vec::<String>::new());
    fs::write(at(&folder), "no database at all, but long enough to be read as one").unwrap();
    assert!(!faults(&at(&folder)).is_empty());
}

#[test]
fn what_changed_while_the_file_was_opened_anew_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), MIB);
    let run = store.open().unwrap().run;
    fill(&mut store, run, 1..=3);
    let other = rusqlite::Connection::open(at(&folder)).unwrap();
    // As after an error.
    store.connection = None;
    other.execute_batch("INSERT INTO lost (run, first, last, reason) VALUES (1, 2, 2, 'purged')").unwrap();
    assert_eq!(store.look_again().unwrap().unwrap().lost.len(), 1);
    assert!(store.look_again().unwrap().is_none());
}
#[test]
fn a_file_that_is_emptied_is_not_written_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(at(&folder), 16 * MIB);
    let run = store.open().unwrap().run;
    let rows = fill(&mut store, run, 1..=500);
    store.fold().unwrap();
    assert_eq!(store.commit(&[], &names(&rows)).unwrap().records, 0);
    let log = fs::metadata(store.log_path()).unwrap().len();
    assert!(log < 16 * 4_120, "{log} bytes for the deletion of {} pages", 500 * 400 / 4_096);
    assert!(store.load(None, 10).unwrap().records.is_empty());
}

#[test]
fn what_is_not_named_stays_whatever_its_place() {
    for left in [1, 250, 500] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(at(&folder), 16 * MIB);
        let run = store.open().unwrap().run;
        let mut rows = fill(&mut store, run, 1..=500);
        let stays = rows.remove(left - 1);
        // As many names as rows, and one of them is no row.
        let mut gone = names(&rows);
        gone.push(Name { run: run - 1, seq: 7 });
        assert_eq!(store.commit(&[], &gone).unwrap().records, 1);
        assert_eq!(store.load(None, 10).unwrap().records, [stays]);
    }
}
