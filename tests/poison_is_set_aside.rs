//! What the broker refuses for good is set aside with its reason, counted and told, and the queue flows on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::scripted::{Packet, Script, Scripted};
use support::{Gateway, LIMIT, head_at};

/// Payload format invalid, and not authorized (MQTT 5.0, 3.4.2.1).
const INVALID: u8 = 0x99;
const DENIED: u8 = 0x87;

fn config(folder: &std::path::Path, broker: &Scripted) -> String {
    head_at(folder, &broker.url())
        + "[links.sim]\ndriver = \"simulator\"\n\
           [devices.good]\nlink = \"sim\"\npoll_interval = \"100ms\"\npoints.n = { address = \"counter\", type = \"u32\" }\n\
           [devices.bad]\nlink = \"sim\"\npoll_interval = \"1s\"\npoints.n = { address = \"counter\", type = \"u32\" }\n"
}

fn readings(packets: &[Packet], device: &str) -> Vec<Value> {
    let end = format!("/{device}/readings");
    let published = packets.iter().filter_map(Packet::published).filter(|(topic, _)| topic.ends_with(&end));
    published.map(|(_, payload)| serde_json::from_str(&payload).unwrap()).collect()
}

#[test]
fn a_record_refused_by_its_form_is_set_aside_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script { puback: vec![("/bad/", INVALID)], ..Script::default() });
    let mut gateway = Gateway::run(folder.path(), &config(folder.path(), &broker));
    let event = broker.wait_json("/event", "the event", |json| json["event"] == "set-aside");
    let refused = &readings(&broker.packets(), "bad")[0];
    assert_eq!(
        (&event["lost"]["run"], &event["lost"]["from"]),
        (&refused["run"], &refused["seq"]),
        "{event}"
    );
    assert!(event["reason"].as_str().unwrap().to_lowercase().contains("payload format"), "{event}");
    // The queue flows on, each refused record was sent once.
    broker.wait("polls of the good device", LIMIT, |packets| {
        (readings(packets, "good").len() > 40).then_some(())
    });
    let bad = readings(&broker.packets(), "bad");
    let mut names: Vec<u64> = bad.iter().map(|json| json["seq"].as_u64().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), bad.len(), "each is sent once");
    assert!(names.len() >= 3);
    assert!(gateway.stop().success());
    // They are in the file, whole, with their reason.
    let kept = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    let mut rows = kept.prepare("SELECT seq, reason FROM aside ORDER BY seq").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
    let rows: Vec<(i64, String)> = rows.map(Result::unwrap).collect();
    assert!(rows.len() >= 3 && rows[0].0.cast_unsigned() == names[0], "{rows:?}");
}

#[test]
fn acknowledgements_of_what_was_never_sent_delete_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A PUBACK of a foreign packet before each that is due, and each due one twice.
    let foreign = vec![0x40, 2, 0x7f, 0x7f];
    let broker = Scripted::start(Script { before_puback: foreign, ..Script::default() });
    let mut gateway = Gateway::run(folder.path(), &config(folder.path(), &broker));
    broker.wait("polls", LIMIT, |packets| (readings(packets, "good").len() > 30).then_some(()));
    broker.set(|script| script.withholds = true);
    broker.wait("polls that are not acknowledged", LIMIT, |packets| {
        (readings(packets, "good").len() > 60).then_some(())
    });
    broker.send(&[0x40, 2, 0x7f, 0x7e].repeat(100));
    let last = readings(&broker.packets(), "good").last().unwrap()["seq"].as_u64().unwrap();
    gateway.kill();
    broker.set(|script| script.withholds = false);
    let _gateway = gateway.run_again();
    // Everything that was not acknowledged and is older than a commit comes again.
    broker.wait("the same records again", LIMIT, |packets| {
        let all = readings(packets, "good");
        let count =
            |seq: u64| all.iter().filter(|json| json["seq"] == seq && json["run"] == all[0]["run"]).count();
        (count(last - 20) == 2).then_some(())
    });
}

/// Rights may come back, so this takes a while.
#[test]
fn a_record_denied_again_and_again_is_set_aside_when_others_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Script { puback: vec![("/bad/", DENIED)], ..Script::default() });
    let _gateway = Gateway::run(folder.path(), &config(folder.path(), &broker));
    let limit = Duration::from_secs(150);
    let event = broker.wait("the event", limit, |packets| {
        let published = packets.iter().filter_map(Packet::published);
        let json = published.filter_map(|(_, payload)| serde_json::from_str::<Value>(&payload).ok());
        json.into_iter().find(|json| json["event"] == "set-aside")
    });
    let bad = readings(&broker.packets(), "bad");
    let tries = bad.iter().filter(|json| json["seq"] == event["lost"]["from"]).count();
    assert_eq!(tries, 3, "{event}");
    broker.wait("polls of the good device", LIMIT, |packets| {
        let good = readings(packets, "good");
        good.iter().any(|json| json["seq"].as_u64() > event["seq"].as_u64()).then_some(())
    });
}
