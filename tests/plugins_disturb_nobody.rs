//! A plugin that hangs, floods, dies, forks or lies is its own link's trouble: no other link is late, the gateway's
//! memory and processor stay bounded, nothing false is published, and nothing of it is left behind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::plugins::{hostile, plugin_device};
use support::{Broker, Gateway, LIMIT, Message, Subscriber, head, publish};

/// Every way to break the protocol that ends in no good reading, and a part of what is said of it.
const HOPELESS: [(&str, &str); 12] = [
    ("hangs", "gave no answer to 3 requests in a row"),
    ("deaf", "gave no answer to 3 requests in a row"),
    ("dies", "it ended (exit status: 3)"),
    ("dies-at-start", "it ended (exit status: 1); it said last: there is no device"),
    ("crashes", "it ended (signal: 11"),
    ("closes", "it has closed its stdout"),
    ("endless-line", "it writes a line of more than 1 MiB"),
    ("old-answers", "it writes more than 1000 lines for one answer"),
    ("big-answers", "it writes more than 4 MiB for one answer"),
    ("early", "which it was never sent"),
    ("eats", "MemoryError"),
    ("forks", "it ended (exit status: 0)"),
];

/// Ways to be a nuisance and to answer all the same.
const NUISANCES: [&str; 4] = ["stderr", "stderr-line", "spins", "twice"];

/// A simulated link that nothing may disturb.
const NEIGHBOUR: &str = "[links.sim]\ndriver = \"simulator\"\n[devices.neighbour]\nlink = \"sim\"\n\
    poll_interval = \"50ms\"\npoints.count = { address = \"counter\", type = \"u32\" }\n";

/// Polls of the neighbour that are timed.
const POLLS: usize = 200;

fn time(json: &Value) -> i64 {
    fieldgate::clock::Timestamp::parse(json["ts"].as_str().unwrap()).unwrap().millis()
}

fn readings(messages: &[Message], device: &str) -> Vec<Value> {
    let topic = format!("fieldgate/g/{device}/readings");
    messages.iter().filter(|message| message.topic == topic).map(Message::json).collect()
}

/// Every value of the point `v` that was published.
fn values(messages: &[Message], device: &str) -> Vec<Value> {
    let values = readings(messages, device).into_iter().map(|mut json| json["values"]["v"].take());
    values.filter(|value| !value.is_null()).collect()
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

#[test]
fn every_kind_of_misbehaviour_at_once_beside_a_healthy_link() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mut config = head(folder.path(), &broker) + NEIGHBOUR;
    for mode in HOPELESS.map(|(mode, _)| mode).into_iter().chain(NUISANCES) {
        config += &plugin_device(&hostile(folder.path(), mode), "timeout = \"3s\"");
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    let pid = gateway.process().pid();
    // Each is found out for what it does.
    for (mode, said) in HOPELESS {
        gateway.process().wait(&format!("`{said}` of {mode}"), LIMIT, |lines| {
            let of_mode = |line: &&String| {
                line.contains(&format!("the plugin {mode} was given up")) && line.contains(said)
            };
            // A plugin's own words stand in lines of their own.
            lines.iter().find(of_mode).map(drop)
        });
        let topic = format!("fieldgate/g/{mode}/status");
        watcher.wait_json(&topic, "offline", |json| json["state"] == "offline");
    }
    for mode in NUISANCES {
        watcher.wait(&format!("20 readings of {mode}"), LIMIT, |messages| {
            (values(messages, mode).len() >= 20).then_some(())
        });
    }
    // From here on, with all of it going on, the neighbour is on time and the gateway at ease.
    let (start, used) = (Instant::now(), processor_time(pid));
    let before = readings(&watcher.messages(), "neighbour").len();
    let polls = watcher.wait("the neighbour's polls", LIMIT, |messages| {
        let polls = readings(messages, "neighbour").split_off(before);
        (polls.len() > POLLS).then_some(polls)
    });
    let share = (processor_time(pid) - used) / start.elapsed().as_secs_f64();
    let took = time(&polls[POLLS]) - time(&polls[0]);
    let gap = polls.windows(2).map(|pair| time(&pair[1]) - time(&pair[0])).max().unwrap();
    let memory = gateway.process().memory();
    println!(
        "{POLLS} polls took {took} ms, longest gap {gap} ms; {memory} bytes, {:.0} % of a core",
        share * 100.0
    );
    let due = 50 * i64::try_from(POLLS).unwrap();
    assert!(took < due * 2, "{POLLS} polls took {took} ms, {due} ms were due");
    assert!(gap < 2000, "the neighbour waited {gap} ms");
    assert!(polls.iter().all(|json| json.get("bad").is_none()));
    assert!(memory < 128 << 20, "{memory} bytes");
    assert!(share < 0.8, "{:.0} % of a core", share * 100.0);
    // Nothing that was no answer has become a value.
    let messages = watcher.messages();
    for mode in HOPELESS.map(|(mode, _)| mode).into_iter().chain(NUISANCES) {
        // `early` answers two requests with one line; the first of them may be a fair one.
        let wrong = values(&messages, mode).into_iter().find(|value| *value != 7);
        assert_eq!(wrong, None, "{mode}");
    }
    // The log is not the flood's.
    let noise = gateway.process().lines().iter().filter(|line| line.contains("plugin: noise")).count();
    let seconds = 1 + usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!(noise > 0 && noise < 50 * (seconds + 120), "{noise} lines");
    assert!(gateway.process().lines().iter().any(|line| line.contains("more lines than are logged")));
    assert!(gateway.process().lines().iter().all(|line| line.len() < 2000), "a line is too long");
    assert!(gateway.stop().success());
}

#[test]
fn no_lie_and_no_late_answer_becomes_a_value() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let late = hostile(folder.path(), "late");
    // Two devices of one plugin: the late answer for one comes when the other has asked.
    let config = head(folder.path(), &broker)
        + &plugin_device(&hostile(folder.path(), "lies"), "timeout = \"2s\"")
        + plugin_device(&late, "timeout = \"500ms\"").split("[devices.").next().unwrap()
        + &[1, 2]
            .map(|number| {
                format!(
                    "[devices.late-{number}]\nlink = \"late\"\npoll_interval = \"100ms\"\n\
                     points.v = {{ address = \"{number}\", type = \"u16\" }}\n"
                )
            })
            .concat();
    let mut gateway = Gateway::run(folder.path(), &config);
    let count = |messages: &[Message], device: &str, reason: &str| {
        readings(messages, device).iter().filter(|json| json["bad"]["v"] == reason).count()
    };
    let messages = watcher.wait("lies and late answers", Duration::from_secs(120), |messages| {
        let lies = count(messages, "lies", "malformed") + count(messages, "lies", "invalid");
        let late = count(messages, "late-1", "timeout") + count(messages, "late-2", "timeout");
        let good = values(messages, "late-1").len().min(values(messages, "late-2").len());
        (lies >= 40 && late >= 6 && good >= 10).then(|| messages.to_vec())
    });
    assert!(values(&messages, "lies").iter().all(|value| *value == 7));
    assert!(values(&messages, "late-1").iter().all(|value| *value == 1));
    assert!(values(&messages, "late-2").iter().all(|value| *value == 2));
    assert!(count(&messages, "lies", "exception-6") > 0);
    let lines = gateway.process().lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("an answer came too late") || line.contains("nobody waits for"))
    );
    // A lie is an error of its poll; nobody is started anew for it.
    assert!(!lines.iter().any(|line| line.contains("the plugin lies was given up")));
}

/// The process ids of the children that forking plugins told of.
fn sleepers(gateway: &mut Gateway, least: usize) -> Vec<String> {
    gateway.process().wait("sleepers", LIMIT, |lines| {
        let ids = lines.iter().filter_map(|line| line.split("plugin: sleeper ").nth(1));
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        (ids.len() >= least).then_some(ids)
    })
}

fn is_running(pid: &str) -> bool {
    // One that has ended and waits for its parent to ask is nobody's burden.
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_gone(pids: &[String]) {
    let end = Instant::now() + LIMIT;
    while let Some(left) = pids.iter().find(|pid| is_running(pid)) {
        assert!(Instant::now() < end, "{left} still runs");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_of_a_plugin_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    // Forks and dies: what it has started goes with it, while the gateway goes on.
    let config = head(folder.path(), &broker) + &plugin_device(&hostile(folder.path(), "forks"), "");
    let mut gateway = Gateway::run(folder.path(), &config);
    let first: Vec<String> = sleepers(&mut gateway, 6).into_iter().take(3).collect();
    wait_gone(&first);
    drop(gateway);

    // Heeds neither the end of its stdin nor SIGTERM.
    let watcher = Subscriber::start(&broker, "fieldgate/g/stubborn/readings");
    let stubborn = plugin_device(&hostile(folder.path(), "stubborn"), "");
    let config = head(folder.path(), &broker) + &stubborn;
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_for("a reading", |message| message.payload.contains("\"v\":7"));
    let plugin = children(gateway.process().pid());
    assert_eq!(plugin.len(), 1, "{plugin:?}");
    let start = Instant::now();
    assert!(gateway.stop().success());
    assert!(start.elapsed() < Duration::from_secs(20));
    wait_gone(&plugin);

    // A gateway that is killed takes its plugin along.
    let mut gateway = Gateway::run(folder.path(), &config);
    let plugin = loop_until(|| Some(children(gateway.process().pid())).filter(|pids| pids.len() == 1));
    gateway.kill();
    wait_gone(&plugin);
    for pid in sleepers(&mut gateway, 0) {
        // They ignore all but this, and outside of a service nobody else collects them.
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// The process ids of its children.
fn children(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

fn loop_until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "time is up");
        std::thread::yield_now();
    }
}

#[test]
fn a_write_without_an_answer_is_not_done_later() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker)
        + &plugin_device(&hostile(folder.path(), "slow-write"), "timeout = \"2s\"")
        // Well before the plugin is done with it, after 8 s.
        + "[commands]\ntimeout = \"5s\"\n";
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_for("a reading", |message| message.payload.contains("\"v\":7"));
    let command = r#"{"id":"w-1","action":"write","values":{"v":9},"expires_at":"2099-01-01T00:00:00Z"}"#;
    publish(&broker, "fieldgate/g/slow-write/command", command, &[]);
    let reply = watcher.wait_json("fieldgate/g/slow-write/reply", "the reply", |json| json["id"] == "w-1");
    assert_eq!(reply["error"]["code"], "timeout", "{reply}");
    // It goes on with a new one, which knows nothing of the write.
    let known = watcher.messages().len();
    watcher.wait("readings after it", LIMIT, |messages| {
        (values(&messages[known..], "slow-write").len() >= 10).then_some(())
    });
    assert!(values(&watcher.messages(), "slow-write").iter().all(|value| *value == 7));
    assert!(gateway.process().lines().iter().all(|line| !line.contains("plugin: written")));
}
