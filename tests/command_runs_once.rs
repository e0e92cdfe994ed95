//! An id runs once: the device counts. A repeat gets the stored outcome in a new record, also after a restart.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Broker, Gateway, LIMIT, ModbusPeer, Subscriber, boiler_device, boiler_units, head, publish};

const COMMAND: &str = "fieldgate/g/boiler/command";
const REPLY: &str = "fieldgate/g/boiler/reply";
const WRITE: &str = r#"{"id":"once","action":"write","values":{"setpoint":60}}"#;

/// Waits until there are so many replies to an id, and returns them.
fn replies(watcher: &Subscriber, id: &str, count: usize) -> Vec<Value> {
    watcher.wait(&format!("{count} replies to {id}"), LIMIT, |messages| {
        let replies = messages.iter().filter(|message| message.topic == REPLY);
        let replies: Vec<Value> =
            replies.map(support::Message::json).filter(|json| json["id"] == id).collect();
        (replies.len() >= count).then_some(replies)
    })
}

/// Proves that nothing else was going to come: a later command has been answered.
fn settle(broker: &Broker, watcher: &Subscriber, id: &str) {
    publish(broker, COMMAND, &format!(r#"{{"id":"{id}","action":"read"}}"#), &[]);
    replies(watcher, id, 1);
}

#[test]
fn a_repeat_gets_the_stored_outcome_and_touches_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let boiler = ModbusPeer::tcp(&boiler_units());
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker) + &boiler_device(&boiler.address, "200ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/boiler/status", "online", |json| json["state"] == "online");

    publish(&broker, COMMAND, WRITE, &[]);
    let first = replies(&watcher, "once", 1).remove(0);
    assert_eq!(first["status"], "succeeded", "{first}");
    publish(&broker, COMMAND, WRITE, &[]);
    publish(&broker, COMMAND, WRITE, &[]);
    let repeated = replies(&watcher, "once", 3);
    settle(&broker, &watcher, "settle-1");
    assert_eq!(boiler.writes(), ["1 holding 40 [600]"]);

    // Another body under the same id is somebody's mistake.
    publish(&broker, COMMAND, &WRITE.replace("60", "70"), &[]);
    let reused = replies(&watcher, "once", 4).remove(3);
    assert_eq!(reused["status"], "rejected", "{reused}");
    assert_eq!(reused["error"]["code"], "id-reused", "{reused}");

    gateway = gateway.run_again();
    watcher.wait("online again", LIMIT, |messages| {
        let status = messages.iter().filter(|message| message.topic == "fieldgate/g/status");
        (status.filter(|message| message.payload.contains("online")).count() >= 2).then_some(())
    });
    // The broker has the session, so a write without a date may be called stale: ask until it is not.
    let mut asked = 4;
    let after = loop {
        publish(&broker, COMMAND, WRITE, &[]);
        asked += 1;
        let reply = replies(&watcher, "once", asked).remove(asked - 1);
        if reply["error"]["code"] != "stale" {
            break reply;
        }
    };
    settle(&broker, &watcher, "settle-2");
    assert_eq!(boiler.writes(), ["1 holding 40 [600]"]);
    let outcome = |reply: &Value| (reply["status"].clone(), reply["values"].clone(), reply["ts"].clone());
    let mut names = vec![(first["run"].as_u64(), first["seq"].as_u64())];
    for again in [&repeated[1], &repeated[2], &after] {
        assert_eq!(outcome(again), outcome(&first), "{again}");
        names.push((again["run"].as_u64(), again["seq"].as_u64()));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4, "each reply is a record of its own: {names:?}");
    assert!(gateway.stop().success());
}

#[test]
fn a_command_cut_off_in_the_middle_is_interrupted_and_not_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let boiler = ModbusPeer::tcp(&boiler_units());
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    // The reads are so rare that the write is the next thing that the device hears.
    let config = head(folder.path(), &broker) + &boiler_device(&boiler.address, "30s");
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/boiler/status", "online", |json| json["state"] == "online");

    // The device takes the request into its queue and says nothing: the command is open.
    boiler.signal(Signal::STOP);
    publish(&broker, COMMAND, WRITE, &[]);
    gateway.process().wait("the command's start on the disk", Duration::from_secs(20), |_| {
        is_begun(folder.path()).then_some(())
    });
    gateway.kill();
    boiler.signal(Signal::CONT);
    let mut gateway = gateway.run_again();
    let reply = replies(&watcher, "once", 1).remove(0);
    assert_eq!(reply["status"], "failed", "{reply}");
    assert_eq!(reply["error"]["code"], "interrupted", "{reply}");
    publish(&broker, COMMAND, WRITE, &[]);
    let again = replies(&watcher, "once", 2).remove(1);
    assert_eq!(again["error"]["code"], "interrupted", "{again}");
    settle(&broker, &watcher, "settle");
    // Once, by the first gateway, or not at all; never a second time.
    assert!(boiler.writes().len() <= 1, "{:?}", boiler.writes());
    assert!(gateway.stop().success());
}

/// The journal in the buffer's file has the command, read the way an operator would.
fn is_begun(folder: &std::path::Path) -> bool {
    let file = rusqlite::Connection::open_with_flags(
        folder.join("buffer.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    );
    let count = file.and_then(|file| {
        file.query_row("SELECT count(*) FROM commands WHERE id = 'once'", [], |row| row.get::<_, i64>(0))
    });
    count.is_ok_and(|count| count == 1)
}
