//! `fieldgate buffer` looks into the file and changes it by hand, also while a gateway runs on it; whatever it
//! takes away is told, and whatever it gives back arrives once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;
use support::simulated::simulated;
use support::tools::{Line, export, line, run, stat, tool, total, wait_records, wait_stat};
use support::{Broker, Gateway, LIMIT, Message, Subscriber, head};

/// The files of the buffer, to the letter. The index in shared memory says nothing.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let paths =
        paths.filter(|path| path.is_file() && path.to_str().is_some_and(|path| !path.ends_with("-shm")));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The numbers of `run` that gap events with this reason name.
fn told(messages: &[Message], run: u64, reason: &str) -> BTreeSet<u64> {
    let events = messages.iter().filter(|message| message.topic == "fieldgate/g/event").map(Message::json);
    let gaps = events.filter(|event| event["event"] == "gap" && event["reason"] == reason);
    gaps.filter(|gap| gap["lost"]["run"] == run)
        .flat_map(|gap| gap["lost"]["from"].as_u64().unwrap()..=gap["lost"]["to"].as_u64().unwrap())
        .collect()
}

/// A broker that is away, its durable watcher, and a configuration with devices that make 500 records a second.
fn outage(folder: &Path) -> (Broker, Subscriber, String) {
    let mut broker = Broker::persistent();
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    let config = head(folder, &broker) + &simulated(5, 2, "10ms");
    broker.stop();
    (broker, watcher, config)
}

#[test]
fn a_buffer_that_was_left_behind_is_shown_as_it_will_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut broker, watcher, config) = outage(folder);
    let mut gateway = Gateway::run(folder, &config);
    let beside = wait_records(folder, 600);
    assert_eq!(beside["gateway_running"], true, "{beside:#}");
    assert_eq!(beside["ended_in_order"], Value::Null, "{beside:#}");
    run(folder, &["check"], 0);
    gateway.kill();

    let before = files(folder);
    assert!(!before[&folder.join("buffer.db-wal")].is_empty(), "the kill left no log");
    let stat = stat(folder);
    assert_eq!(stat["gateway_running"], false);
    assert_eq!(stat["ended_in_order"], false);
    assert_eq!(stat["schema"], 3);
    assert_eq!(stat["records"]["readings"], stat["records"]["total"]);
    let (check, _) = run(folder, &["check"], 0);
    assert!(check.contains(&format!("whole, {} records", total(&stat))), "{check}");
    let lines = export(folder, &[]);
    assert_eq!(lines.len() as u64, total(&stat));
    let run_of = lines[0].0.0;
    let numbers: Vec<u64> = lines.iter().map(|line| line.0.1).collect();
    assert_eq!(stat["runs"][0]["run"], run_of);
    assert_eq!(stat["runs"][0]["first"], numbers[0]);
    assert_eq!(stat["runs"][0]["last"], numbers[numbers.len() - 1]);
    assert!(numbers.is_sorted_by(|a, b| a < b), "the order is wrong");
    let (text, _) = run(folder, &["stat"], 0);
    assert!(text.contains("ended without a word"), "{text}");
    let table = csv(&run(folder, &["export", "--format", "csv"], 0).0);
    assert_eq!(table[0], ["run", "seq", "kind", "ts", "topic", "payload"]);
    for (row, (name, topic, payload)) in table[1..].iter().zip(&lines) {
        let [run, seq] = [name.0, name.1].map(|number| number.to_string());
        let ts = serde_json::from_str::<Value>(payload).unwrap()["ts"].as_str().unwrap().to_owned();
        assert_eq!(*row, [run, seq, "readings".to_owned(), ts, topic.clone(), payload.clone()]);
    }
    assert_eq!(table.len(), lines.len() + 1);
    let middle = serde_json::from_str::<Value>(&lines[300].2).unwrap()["ts"].as_str().unwrap().to_owned();
    let since = export(folder, &["--since", &middle]);
    assert!(since.len() < lines.len() && since.contains(&lines[300]) && !since.contains(&lines[0]));
    assert_eq!(export(folder, &["--run", &run_of.to_string()]).len(), lines.len());
    assert_eq!(export(folder, &["--run", &(run_of - 1).to_string()]), []);
    assert_eq!(export(folder, &["--run", &(run_of + 1).to_string()]), []);
    assert!(before == files(folder), "looking has changed something");

    broker.start_again();
    let _gateway = Gateway::run(folder, &config);
    let wanted: BTreeSet<&Line> = lines.iter().collect();
    watcher.wait("all that was exported, to the letter", LIMIT, |messages| {
        let all: Vec<Line> = messages
            .iter()
            .filter_map(|message| Some((message.name()?, message.topic.clone(), message.first_payload())))
            .collect();
        wanted.iter().all(|line| all.contains(line)).then_some(())
    });
}

/// The fields of a table (RFC 4180) whose records hold no line breaks.
fn csv(text: &str) -> Vec<Vec<String>> {
    let row = |line: &str| {
        let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if is_quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    field.push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
                other => field.push(other),
            }
        }
        fields.push(field);
        fields
    };
    text.lines().map(row).collect()
}

#[test]
fn a_purge_is_told_by_gap_events() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut broker, watcher, config) = outage(folder);
    let mut gateway = Gateway::run(folder, &config);
    let stored = total(&wait_records(folder, 2_000));

    // First it only says what it would do.
    let (would, _) = run(folder, &["purge"], 2);
    let count: u64 = would.split(' ').next().unwrap().parse().unwrap();
    assert!(count >= stored && would.contains("--yes"), "{would}");
    let (none, _) = run(folder, &["purge", "--older-than", "1h", "--yes"], 0);
    assert!(none.starts_with("0 "), "{none}");
    let mut known = export(folder, &[]);
    assert!(known.len() as u64 >= count, "it was done without --yes");
    let (done, _) = run(folder, &["purge", "--yes"], 0);
    let purged: u64 = done.split(' ').next().unwrap().parse().unwrap();
    assert!(purged >= count && done.contains("the running gateway tells it"), "{done}");
    // It sees what was done, and makes an event of it.
    wait_stat(folder, "the event", |stat| {
        stat["records"]["events"] == 1 && stat["lost_untold"].as_array().unwrap().is_empty()
    });
    assert!(gateway.stop().success());

    // Now nobody is there to see it, and nothing of it is in any memory.
    known.extend(export(folder, &[]));
    let left = stat(folder);
    let readings = left["records"]["readings"].as_u64().unwrap();
    let (done, _) = run(folder, &["purge", "--yes"], 0);
    assert!(done.starts_with(&format!("{readings} ")) && done.contains("the next start"), "{done}");
    let after = stat(folder);
    assert_eq!(after["records"]["readings"], 0, "{after:#}");
    assert_eq!(after["records"]["events"], left["records"]["events"], "{after:#}");
    assert_ne!(after["lost_untold"].as_array().unwrap().len(), 0, "{after:#}");
    let size = after["bytes"]["file"].as_u64().unwrap();
    assert!(size < 128 << 10, "the room was not given back: {size} bytes for no reading");

    broker.start_again();
    let _gateway = Gateway::run(folder, &config.replace("10ms", "500ms"));
    let first = known[0].0.0;
    watcher.wait("gap events over all that was purged", LIMIT, |messages| {
        let told = told(messages, first, "purged");
        let came: BTreeSet<_> = messages.iter().filter_map(Message::name).collect();
        known.iter().all(|line| came.contains(&line.0) || told.contains(&line.0.1)).then_some(())
    });
    let came: BTreeSet<_> = watcher.messages().iter().filter_map(Message::name).collect();
    let missing = known.iter().filter(|line| !came.contains(&line.0)).count();
    assert!(missing + 10 > known.len(), "{missing} of {} are missing: they were not deleted", known.len());
}

#[test]
fn what_was_set_aside_arrives_once_when_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // mosquitto reads this folder when it starts.
    let limits = tempfile::tempdir().unwrap();
    let limit = limits.path().join("limit.conf");
    fs::write(&limit, "max_packet_size 600\n").unwrap();
    let mut broker = Broker::with(&format!(
        "persistence true\nautosave_interval 0\ninclude_dir {}\n",
        limits.path().display()
    ));
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    let large = simulated(1, 60, "100ms");
    let config = head(folder, &broker) + &large;
    let mut gateway = Gateway::run(folder, &config);
    wait_stat(folder, "three records set aside", |stat| stat["aside"]["total"].as_u64().unwrap() >= 3);
    assert!(gateway.stop().success());
    let before = stat(folder);
    let aside = before["aside"]["records"].as_array().unwrap();
    assert!(aside[0]["reason"].as_str().unwrap().contains("more than the broker takes"), "{before:#}");
    let (text, _) = run(folder, &["stat"], 0);
    assert!(text.contains("more than the broker takes"), "{text}");
    let lines = export(folder, &["--aside"]);
    assert_eq!(lines.len() as u64, before["aside"]["total"].as_u64().unwrap());
    let name = |line: &Line| format!("{}:{}", line.0.0, line.0.1);
    let one = name(&lines[0]);
    assert_eq!(one, format!("{}:{}", aside[0]["run"], aside[0]["seq"]));

    // One while no gateway runs, unknown ones with it.
    let (_, wrong) = run(folder, &["retry", &one, "1:1"], 1);
    assert!(wrong.contains("1:1 is not set aside"), "{wrong}");
    let (_, wrong) = run(folder, &["retry", &one], 1);
    assert!(wrong.contains("is not set aside"), "{wrong}");
    let moved = stat(folder);
    assert_eq!(moved["aside"]["total"], lines.len() - 1);
    assert_eq!(moved["records"]["readings"], before["records"]["readings"].as_u64().unwrap() + 1);

    // The others while one runs, and the broker takes them meanwhile.
    fs::remove_file(&limit).unwrap();
    broker.stop();
    broker.start_again();
    let _gateway = gateway.run_again();
    let arrived = |line: &Line| {
        watcher.wait(&name(line), LIMIT, |messages| {
            messages.iter().any(|message| message.name() == Some(line.0)).then_some(())
        });
    };
    arrived(&lines[0]);
    assert_eq!(stat(folder)["aside"]["total"], lines.len() - 1);
    assert!(!watcher.messages().iter().any(|message| message.name() == Some(lines[1].0)));
    let (said, _) = run(folder, &["retry", "--all"], 0);
    assert!(said.starts_with(&format!("{} records", lines.len() - 1)), "{said}");
    lines.iter().for_each(&arrived);
    wait_stat(folder, "nothing set aside", |stat| stat["aside"]["total"] == 0);
    // A later record is there: were they sent twice, the second would have come by now.
    let newest = watcher.messages().iter().filter_map(Message::name).max().unwrap();
    watcher.wait("later records", LIMIT, |messages| {
        messages.iter().filter_map(Message::name).any(|name| name.1 > newest.1 + 30).then_some(())
    });
    let messages = watcher.messages();
    for (name, topic, payload) in &lines {
        let came: Vec<&Message> = messages.iter().filter(|message| message.name() == Some(*name)).collect();
        assert_eq!(came.len(), 1, "{name:?}");
        assert_eq!((&came[0].topic, came[0].first_payload()), (topic, payload.clone()));
    }
}

/// Starts an export and reads its first line; the rest waits in a full pipe.
fn begin_export(folder: &Path) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = tool(folder, &["export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    (child, out, first)
}

#[test]
fn an_export_that_nobody_reads_does_not_hold_up_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut broker = Broker::start();
    broker.kill();
    // The log may have two of the sixteen MiB.
    let config =
        head(folder, &broker).replace("[mqtt]", "max_size = \"16MiB\"\n[mqtt]") + &simulated(5, 60, "10ms");
    let _gateway = Gateway::run(folder, &config);
    let from = total(&wait_records(folder, 1_000));
    let (mut child, mut out, first) = begin_export(folder);
    let mut longest = 0;
    wait_stat(folder, "4,000 records more", |stat| {
        longest = longest.max(stat["bytes"]["log"].as_u64().unwrap());
        total(stat) >= from + 4_000
    });
    assert!(longest < 5 << 19, "the log grew to {longest} bytes");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<Line> =
        [first.as_str()].into_iter().chain(rest.lines()).map(|text| line(text.trim())).collect();
    assert!(lines.is_sorted_by(|a, b| a.0 < b.0), "the order is wrong");
    assert!(lines.len() as u64 >= from + 4_000, "{} lines", lines.len());

    // Whoever has seen enough closes the pipe.
    let (mut child, out, _) = begin_export(folder);
    drop(out);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
