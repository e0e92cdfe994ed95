//! A broker that goes and comes back has every record afterwards, each unchanged, and everything that is retained.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::Signal;
use support::{Broker, Gateway, LIMIT, Records, Scale, Subscriber, head, publish, scale_device};

#[test]
fn a_broker_that_restarts_gets_every_record_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let scale = Scale::start();
    let watcher = Subscriber::durable(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker) + &scale_device(&scale.path, "20ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    for _ in 0..3 {
        scale.wait_sent(50);
        broker.stop();
        scale.wait_sent(150);
        broker.start_again();
        let goal = scale.wait_sent(50);
        watcher.wait(&format!("weighing {goal}"), LIMIT, |messages| {
            Records::of(messages).weighings().contains(&goal).then_some(())
        });
    }
    assert!(gateway.stop().success());
    let sent = scale.sent();
    // The last answer may have come after the last poll was given up.
    watcher.wait("every weighing", LIMIT, |messages| {
        let weighings = Records::of(messages).weighings();
        (1..sent).all(|weighing| weighings.contains(&weighing)).then_some(())
    });
    let records = Records::of(&watcher.messages());
    let runs = records.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(records.holes(runs[0]), Vec::<u64>::new());
    let marked = watcher.messages();
    assert!(
        marked.iter().any(|message| message.payload.contains(r#""backlog":true"#)),
        "nothing was marked as backlog"
    );
}

#[test]
fn what_a_dying_broker_took_but_did_not_acknowledge_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scale = Scale::start();
    let before = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker) + &scale_device(&scale.path, "20ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    before.wait_json("fieldgate/g/scale/readings", "a reading", |_| true);
    // From here on the broker takes bytes and says nothing.
    broker.freeze();
    scale.wait_sent(100);
    // The gateway stands still until somebody is there to see what it sends.
    gateway.process().signal(Signal::STOP);
    broker.kill();
    broker.start_again();
    let after = Subscriber::start(&broker, "fieldgate/g/#");
    gateway.process().signal(Signal::CONT);
    let goal = scale.wait_sent(50);
    after.wait("every weighing", LIMIT, |messages| {
        let all = [before.messages(), messages.to_vec()].concat();
        let weighings = Records::of(&all).weighings();
        (1..=goal).all(|weighing| weighings.contains(&weighing)).then_some(())
    });
    let all = Records::of(&[before.messages(), after.messages()].concat());
    assert_eq!(all.holes(all.runs()[0]), Vec::<u64>::new());
}

#[test]
fn a_broker_that_forgot_everything_gets_what_is_retained_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scale = Scale::start();
    let config = head(folder.path(), &broker) + &scale_device(&scale.path, "100ms");
    let _gateway = Gateway::run(folder.path(), &config);
    let before = Subscriber::start(&broker, "fieldgate/g/#");
    before.wait_json("fieldgate/g/scale/status", "online", |json| json["state"] == "online");
    broker.kill();
    broker.start_again();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    watcher.wait_json("fieldgate/g/scale/readings", "a reading", |_| true);
    // Asked for by a newcomer, to whom only what the broker kept is sent at once.
    let newcomer = Subscriber::start(&broker, "fieldgate/g/+/+");
    for topic in ["fieldgate/g/scale/status", "fieldgate/g/scale/info"] {
        newcomer
            .wait_for(&format!("{topic}, retained"), |message| message.retained && message.topic == topic);
    }
    let newcomer = Subscriber::start(&broker, "fieldgate/g/status");
    let status = newcomer.wait_for("the gateway's status", |message| message.retained);
    assert_eq!(status.json()["state"], "online");
    publish(&broker, "fieldgate/g/scale/command", r#"{"id":"c-1","action":"read"}"#, &[]);
    let reply = watcher.wait_json("fieldgate/g/scale/reply", "the reply", |json| json["id"] == "c-1");
    assert_eq!(reply["status"], "succeeded", "{reply}");
}
