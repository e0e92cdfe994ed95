//! `fieldgate buffer` tells a whole file from a damaged, a newer and a foreign one, leaves each as it was, and needs
//! no more memory for a large one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;

use fieldgate::buffer::store::Store;
use fieldgate::buffer::store::visit::is_held;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;
use support::ledger::MAX_SIZE;
use support::stocked::stocked;
use support::{canary, fieldgate, rounds};

/// Every task; none of them says `--yes` in vain.
const TASKS: [&str; 6] = ["stat", "stat --json", "check", "export", "purge --yes", "retry --all"];

/// Runs a task on a file and expects this exit code; gives what it said on both streams.
fn run(file: &Path, task: &str, code: i32) -> String {
    let mut command = fieldgate();
    command.args(["buffer", "--file"]).arg(file).args(task.split(' '));
    let Output { status, stdout, stderr } = canary::output(&mut command);
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{task}: {said}");
    said
}

/// Every task fails with this text and leaves the folder as it is.
fn refuse(file: &Path, text: &str, tasks: &[&str]) {
    let before = files(file.parent().unwrap());
    for task in tasks {
        let said = run(file, task, 1);
        assert!(said.contains(text), "{task}: {said}");
    }
    assert!(before == files(file.parent().unwrap()), "something was changed");
}

/// Names and contents of a folder; the index in shared memory says nothing.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let kept = named.filter(|(name, _)| !name.ends_with("-shm"));
    let mut files: Vec<_> = kept.map(|(name, path)| (name, fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_whole_file_is_whole_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (file, records) = stocked(folder.path(), 1_000, 3);
    let before = files(folder.path());
    assert!(run(&file, "check", 0).contains("whole, 1003 records"));
    let stat: Value = serde_json::from_str(&run(&file, "stat --json", 0)).unwrap();
    let events = records.iter().filter(|numbered| numbered.name.seq % 16 == 0).count();
    let replies = records.iter().filter(|numbered| numbered.name.seq % 16 == 1).count();
    assert_eq!(stat["records"]["total"], 1_000, "{stat:#}");
    assert_eq!([&stat["records"]["events"], &stat["records"]["replies"]], [events, replies], "{stat:#}");
    assert_eq!([&stat["aside"]["total"], &stat["ended_in_order"]], [&Value::from(3), &Value::from(true)]);
    assert_eq!(stat["bytes"]["file"], fs::metadata(&file).unwrap().len());
    let exported = run(&file, "export", 0);
    for (line, numbered) in exported.lines().zip(&records) {
        let payload = String::from_utf8(numbered.payload(false)).unwrap();
        assert!(line.ends_with(&format!("\"payload\":{payload}}}")), "{line}");
    }
    assert_eq!(exported.lines().count(), records.len());
    run(&file, "purge", 2);
    assert!(before == files(folder.path()), "looking has changed something");
}

#[test]
fn a_changed_digit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (file, records) = stocked(folder.path(), 100, 0);
    let mut bytes = fs::read(&file).unwrap();
    let body = &records[50].record.body;
    let text = &body[body.len() - 40..];
    let at = bytes.windows(text.len()).position(|part| part == text).unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let name = format!("{}:{}", records[50].name.run, records[50].name.seq);
    assert!(run(&file, "check", 1).contains(&format!("the row {name} does not bear its checksum")));
    let said = run(&file, "export", 1);
    assert!(said.contains(&format!("{name} is damaged and left out")), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with('{')).count(), 99);
}

#[test]
fn a_damaged_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = stocked(folder.path(), 1_000, 0);
    let whole = fs::read(&file).unwrap();
    let pages = whole.len() / 4096;
    // Whatever page it is, the first apart: it belongs to a table, an index, or a body.
    for page in (1..pages).step_by(pages / rounds(8, 100).min(pages)) {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(&file, bytes).unwrap();
        run(&file, "check", 1);
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    run(&file, "check", 1);
    fs::write(&file, &whole).unwrap();
    run(&file, "check", 0);
    let mut bytes = whole;
    bytes[..64].fill(b'x');
    fs::write(&file, bytes).unwrap();
    refuse(&file, "moves it aside whole", &["stat", "export", "purge --yes", "retry --all"]);
    assert!(run(&file, "stat --json", 1).contains("\"fault\""));
    assert!(run(&file, "check", 1).contains("what to do"));
}

#[test]
fn what_is_no_buffer_of_this_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = stocked(folder.path(), 100, 2);
    // The version is in the log alone, as a gateway that was killed leaves it.
    let newer = Connection::open(&file).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(folder.path()) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    drop(newer);
    let file = copy.path().join("buffer.db");
    assert!(fs::metadata(copy.path().join("buffer.db-wal")).unwrap().len() > 0);
    refuse(&file, "newer version (schema 99, this program knows 3)", &TASKS);

    let foreign = tempfile::tempdir().unwrap();
    let file = foreign.path().join("other.db");
    Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE records (a); PRAGMA user_version = 2")
        .unwrap();
    refuse(&file, "is not a buffer", &TASKS);
    fs::write(&file, "").unwrap();
    refuse(&file, "is not a buffer", &TASKS);
    fs::remove_file(&file).unwrap();
    refuse(&file, "does not exist", &TASKS);
}

#[test]
fn whoever_looks_needs_no_secret_of_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = stocked(folder.path(), 20, 0);
    let config = folder.path().join("fieldgate.toml");
    let run = |text: &str, code: i32| {
        fs::write(&config, text).unwrap();
        let mut command = fieldgate();
        let output = canary::output(command.args(["buffer", "export", "--config"]).arg(&config));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let buffer = format!("[buffer]\npath = \"{}\"\n", file.display());
    let hidden =
        "[gateway]\nid = \"g\"\n[mqtt]\nprefix = \"a/{gateway}\"\npassword = { credential = \"none\" }\n";
    let (lines, _) = run(&(buffer.clone() + hidden), 0);
    assert!(lines.contains("{\"topic\":\"a/g/boiler/readings\","), "{lines}");
    let (_, said) = run(&buffer.replace("path", "pahth"), 78);
    assert!(said.contains("did you mean `path`"), "{said}");
}

/// To see whether a gateway runs, its lock is taken for a moment.
#[test]
fn whoever_looks_does_not_keep_a_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = stocked(folder.path(), 1, 0);
    let mut looks = [0_u32; 2];
    thread::scope(|scope| {
        let starts = scope.spawn(|| {
            for _ in 0..300 {
                Store::new(file.clone(), MAX_SIZE).open().unwrap();
            }
        });
        while !starts.is_finished() {
            looks[usize::from(is_held(&file))] += 1;
        }
    });
    println!("{looks:?} looks that found none, and one");
    assert!(looks[0] > 100, "{looks:?} looks");
    let mut store = Store::new(file.clone(), MAX_SIZE);
    store.open().unwrap();
    assert!(is_held(&file));
    store.close();
    assert!(!is_held(&file));
}

#[test]
fn files_that_root_makes_belong_to_the_gateway() {
    for task in ["stat", "check", "export", "retry --all", "purge --yes"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = stocked(folder.path(), 100, 2);
        let [log, index] = ["-wal", "-shm"].map(|end| folder.path().join(format!("buffer.db{end}")));
        // A log is left behind, without its index, as after a power cut.
        let left = Connection::open(&file).unwrap();
        left.execute_batch("UPDATE meta SET value = value").unwrap();
        let bytes = fs::read(&log).unwrap();
        left.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        drop(left);
        fs::write(&log, bytes).unwrap();
        fs::remove_file(&index).unwrap();
        // Only root can be somebody else; for others the files are their own.
        if rustix::process::geteuid().is_root() {
            for path in [folder.path(), &file, &log] {
                chown(path, Some(65_534), Some(65_534)).unwrap();
            }
        }
        let owner = fs::metadata(&file).unwrap();
        run(&file, task, 0);
        for beside in [&log, &index].into_iter().filter(|beside| beside.exists()) {
            let found = fs::metadata(beside).unwrap();
            let [found, wanted] = [&found, &owner].map(|found| (found.uid(), found.gid(), found.mode()));
            assert_eq!(found, wanted, "{task}: {}", beside.display());
        }
        let is_reader = !task.contains(' ');
        assert_eq!(is_reader, index.exists(), "{task}");
        let opened = Store::new(file, MAX_SIZE).open().unwrap();
        assert!(opened.replaced.is_none(), "{opened:?}");
    }
}

#[test]
fn a_large_buffer_needs_no_more_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (file, records) = stocked(folder.path(), 1, 0);
    let all = rounds(150_000, 1_000_000);
    let connection = Connection::open(&file).unwrap();
    // Copies under other numbers; without a checksum nobody asks for it.
    connection
        .execute_batch(&format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {all})
             INSERT INTO records (run, seq, kind, topic, body, made)
             SELECT run, n, 2, topic, CAST('\"values\":{{\"a\":' || n || '}},\"text\":\"' || hex(zeroblob(50)) || '\"' AS BLOB), made
             FROM records, numbers WHERE seq = 1"
        ))
        .unwrap();
    drop(connection);
    assert_eq!(records.len(), 1);
    assert!(run(&file, "check", 0).contains(&format!("whole, {all} records")));
    let mut child =
        fieldgate().args(["buffer", "export", "--file"]).arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let peak = |when: &str| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let line = line.unwrap_or_else(|| panic!("it has ended {when}"));
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // More than a pipe holds is left at both times, so that the process is there to be asked.
    let early = all / 20;
    assert_eq!(lines.by_ref().take(early).map(Result::unwrap).count(), early);
    let before = peak("early");
    let late = all - early - 2_000;
    assert_eq!(lines.by_ref().take(late).map(Result::unwrap).count(), late);
    let after = peak("late");
    assert_eq!(lines.map(Result::unwrap).count(), 2_000);
    assert!(child.wait().unwrap().success());
    println!("{all} records: {before} kB of memory at {early}, {after} kB at the end");
    assert!(after < before + 2_048, "the export grew from {before} to {after} kB");
}
