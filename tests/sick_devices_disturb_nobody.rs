//! Modbus TCP devices that refuse, hang, hurry, lie or break off: each is told for what it is, costs little, and a healthy
//! neighbour keeps its interval.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

#[allow(dead_code, reason = "each test uses its part")]
#[path = "peers/fake.rs"]
mod fake;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fake::{Fake, answer, refusal, right};
use serde_json::json;
use support::watch::{WEB, Watch};
use support::{Broker, Gateway, LIMIT, Message, Subscriber, free_port, head, publish, rounds};

/// A link of its own with one unit, whose holding register 5 is polled.
fn device(name: &str, driver: &str, port: u16, interval: &str, timeout: &str) -> String {
    format!(
        "[links.{name}]\ndriver = \"{driver}\"\naddress = \"127.0.0.1:{port}\"\ntimeout = \"{timeout}\"\n\
         [devices.{name}]\nlink = \"{name}\"\naddress = 1\npoll_interval = \"{interval}\"\n\
         points.x = {{ address = \"holding:5\", type = \"u16\", writable = true }}\n"
    )
}

fn healthy() -> (Fake, String) {
    let fake = Fake::start(|_, request| (right(request), false));
    let config = device("healthy", "modbus-tcp", fake.port, "100ms", "5s");
    (fake, config)
}

/// The readings of a device.
fn readings(messages: &[Message], device: &str) -> Vec<Message> {
    let topic = format!("fieldgate/g/{device}/readings");
    messages.iter().filter(|message| message.topic == topic).cloned().collect()
}

/// Milliseconds since 1970 of a reading.
fn time(message: &Message) -> i64 {
    let text = message.json()["ts"].as_str().unwrap().to_owned();
    fieldgate::clock::Timestamp::parse(&text).unwrap().millis()
}

/// Waits for so many more polls of the healthy device: each brought the right value, at its interval of 100 ms.
fn keeps_its_interval(watcher: &Subscriber, polls: usize) {
    let since = watcher.messages().len();
    let readings = watcher.wait("readings of the healthy device", LIMIT * 2, |messages| {
        Some(readings(&messages[since..], "healthy")).filter(|readings| readings.len() > polls)
    });
    for message in &readings {
        assert_eq!(message.json()["values"], json!({"x": 5}), "{}", message.json());
    }
    let took = time(&readings[polls]) - time(&readings[0]);
    let due = 100 * i64::try_from(polls).unwrap();
    println!("{polls} polls of the healthy device took {took} ms, {due} ms were due");
    // A twentieth is the aim; a busy machine gets as much again.
    assert!(took < due * 11 / 10, "{polls} polls took {took} ms, {due} ms were due");
}

#[test]
fn who_refuses_or_never_answers_is_told_at_once_and_asked_seldom() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let mute = Fake::start(|_, _| (Vec::new(), false));
    let (_fake, config) = healthy();
    let config = head(folder.path(), &broker)
        + &config
        + &device("refusing", "modbus-tcp", free_port(), "100ms", "300ms")
        + &device("mute", "modbus-tcp", mute.port, "100ms", "300ms");
    let _gateway = Gateway::run(folder.path(), &config);
    let first = watcher.wait("a first reading of each", LIMIT, |messages| {
        let first = |device: &str| readings(messages, device).first().cloned();
        Some([first("healthy")?, first("refusing")?, first("mute")?])
    });
    assert_eq!(first[1].json()["bad"], json!({"x": "offline"}));
    assert_eq!(first[2].json()["bad"], json!({"x": "timeout"}));
    // The healthy one needs no time: a poll and a time-out later all is known, and a busy machine has two seconds.
    for late in &first[1..] {
        assert!(time(late) - time(&first[0]) < 400 + 2000, "{}", late.json());
    }
    let (since, asked) = (watcher.messages().len(), mute.requests());
    keeps_its_interval(&watcher, 100);
    let tries = readings(&watcher.messages()[since..], "refusing").len();
    let asked = mute.requests() - asked;
    println!("in ten seconds: {tries} connects refused, {asked} requests in vain");
    assert!(tries <= 15 && asked <= 10, "{tries} {asked}");
    assert!(asked >= 1 && mute.connections() >= mute.requests(), "each time-out makes a new connection");
}

#[test]
fn every_exception_is_told_by_its_number_and_none_is_hammered() {
    const CODES: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 42];
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let asked: Arc<Mutex<BTreeMap<u8, usize>>> = Arc::default();
    let count = Arc::clone(&asked);
    // Each unit refuses by its own number.
    let fake = Fake::start(move |_, request| {
        *count.lock().unwrap().entry(request[6]).or_default() += 1;
        (refusal(request, request[6]), false)
    });
    let mut config = head(folder.path(), &broker);
    write!(
        config,
        "[links.l]\ndriver = \"modbus-tcp\"\naddress = \"127.0.0.1:{}\"\ntimeout = \"400ms\"\n",
        fake.port
    )
    .unwrap();
    for code in CODES {
        write!(
            config,
            "[devices.d{code}]\nlink = \"l\"\naddress = {code}\npoll_interval = \"1s\"\n\
             points.x = {{ address = \"holding:5\", type = \"u16\" }}\n"
        )
        .unwrap();
    }
    let _gateway = Gateway::run(folder.path(), &config);
    watcher.wait("readings of all", LIMIT, |messages| {
        CODES.iter().all(|code| readings(messages, &format!("d{code}")).len() >= 3).then_some(())
    });
    // What was asked before what was published.
    let asked = asked.lock().unwrap().clone();
    let messages = watcher.messages();
    for code in CODES {
        let readings = readings(&messages, &format!("d{code}"));
        for reading in &readings {
            assert_eq!(
                reading.json()["bad"],
                json!({"x": format!("exception-{code}")}),
                "{}",
                reading.json()
            );
        }
        // Who is busy is asked again within its poll; 25, 50, 100 ms and so on.
        let most = if code == 5 || code == 6 { 6 } else { 1 };
        assert!(asked[&code] <= (readings.len() + 1) * most, "{code}: {asked:?}");
        assert!(most == 1 || asked[&code] > readings.len(), "{code} was not asked again: {asked:?}");
    }
}

#[test]
fn a_write_confirmed_for_another_value_has_failed_and_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let functions = Arc::clone(&log);
    let fake = Fake::start(move |_, request| {
        functions.lock().unwrap().push(request[7]);
        let mut reply =
            if request[7] == 3 { answer(request, &7_u16.to_be_bytes()) } else { request.to_vec() };
        if request[7] != 3 {
            reply[11] ^= 1;
        }
        (reply, false)
    });
    let config = head(folder.path(), &broker) + &device("liar", "modbus-tcp", fake.port, "1h", "5s");
    let _gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/liar/readings", "a reading", |json| json["values"]["x"] == 7);
    publish(&broker, "fieldgate/g/liar/command", r#"{"id":"w","action":"write","values":{"x":8}}"#, &[]);
    let reply = watcher.wait_json("fieldgate/g/liar/reply", "a reply", |json| json["id"] == "w");
    assert_eq!(reply["status"], "failed", "{reply}");
    assert_eq!(reply["error"]["code"], "verify-failed", "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains("it has Words([7]) now"), "{reply}");
    assert_eq!(*log.lock().unwrap(), [3, 6, 3], "one poll, one write, one look");
}

#[test]
fn a_slow_device_is_asked_once_at_a_time_and_its_delay_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let (is_busy, overlaps) = (AtomicBool::new(false), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&overlaps);
    // Nine tenths of what it is given.
    let fake = Fake::start(move |_, request| {
        if is_busy.swap(true, SeqCst) {
            count.fetch_add(1, SeqCst);
        }
        #[allow(clippy::disallowed_methods, reason = "the fake's own thread; a device that is slow")]
        thread::sleep(Duration::from_millis(1_800));
        is_busy.store(false, SeqCst);
        (right(request), false)
    });
    let config = head(folder.path(), &broker).replace("[web]\nlisten = \"off\"\n", WEB)
        + &device("slow", "modbus-tcp", fake.port, "500ms", "2s")
        + "[devices.second]\nlink = \"slow\"\naddress = 2\npoll_interval = \"500ms\"\n\
           points.x = { address = \"holding:5\", type = \"u16\" }\n";
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait("polls of both", LIMIT, |messages| {
        let good = |device: &str| {
            readings(messages, device).iter().filter(|reading| reading.json()["values"]["x"] == 5).count()
        };
        (good("slow") >= 2 && good("second") >= 2).then_some(())
    });
    // One that was too late for its machine's sake makes a new connection, and the old one is still at work.
    assert!(overlaps.load(SeqCst) == 0 || fake.connections() > 1, "two requests at a time");
    let watch = Watch::of(gateway.process());
    let missed = watch.metrics().of("fieldgate_link_overruns_total", "link=slow");
    assert!(missed >= 8.0, "{missed} turns were missed");
}

/// A device whose every second answer is right; the others break off in the middle with a reset, or never come, by turns.
struct Breaking {
    port: u16,
    cycles: Arc<AtomicU32>,
    /// How long the gateway waited on connections that went dead.
    waited: Arc<Mutex<Vec<Duration>>>,
}

impl Breaking {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cycles, waited) = (Arc::new(AtomicU32::new(0)), Arc::default());
        let this = Self { port, cycles: Arc::clone(&cycles), waited: Arc::clone(&waited) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve_one_and_break(stream, cycles.fetch_add(1, SeqCst), &waited);
            }
        });
        this
    }
}

fn serve_one_and_break(mut stream: TcpStream, cycle: u32, waited: &Mutex<Vec<Duration>>) {
    let mut request = [0; 12];
    if stream.read_exact(&mut request).is_err() {
        return;
    }
    stream.write_all(&right(&request)).unwrap();
    let mut second = [0; 12];
    if cycle.is_multiple_of(2) {
        // What was sent and is not read makes the end a reset.
        if stream.read_exact(&mut second[..8]).is_ok() {
            stream.write_all(&right(&request)[..7]).ok();
        }
    } else if stream.read_exact(&mut second).is_ok() {
        let begun = Instant::now();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        assert!(matches!(stream.read(&mut second), Ok(0) | Err(_)), "asked again on a dead connection");
        waited.lock().unwrap().push(begun.elapsed());
    }
}

#[test]
fn resets_and_dead_connections_are_noticed_in_time_and_leak_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let devices: Vec<Breaking> = (0..5).map(|_| Breaking::start()).collect();
    let mut config = head(folder.path(), &broker);
    for (number, breaking) in devices.iter().enumerate() {
        config += &device(&format!("d{number}"), "modbus-tcp", breaking.port, "20ms", "100ms");
    }
    let mut gateway = Gateway::run(folder.path(), &config);
    let pid = gateway.process().pid();
    let files = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let cycles = || devices.iter().map(|breaking| breaking.cycles.load(SeqCst)).sum::<u32>();
    let wait = |wanted: usize| {
        let limit = Instant::now() + LIMIT * u32::try_from(rounds(2, 20)).unwrap();
        while usize::try_from(cycles()).unwrap() < wanted {
            assert!(Instant::now() < limit, "only {} connections", cycles());
            thread::park_timeout(Duration::from_millis(20));
        }
    };
    wait(100);
    let (before, memory) = (files(), gateway.process().memory());
    wait(rounds(1_000, 10_000));
    let (after, grown) = (files(), gateway.process().memory().saturating_sub(memory));
    let mut waited: Vec<Duration> = devices.iter().flat_map(|it| it.waited.lock().unwrap().clone()).collect();
    waited.sort_unstable();
    let middle = waited[waited.len() / 2];
    println!("{} connections, {before} files, then {after}; {grown} bytes more; {middle:?} waited", cycles());
    // Each link may have one connection more or less in hand.
    assert!(after <= before + devices.len() + 2, "{before} files, then {after}");
    assert!(grown < 8 << 20, "{grown} bytes more");
    // What comes before the end of the time-out is the way there and back.
    assert!(
        middle < Duration::from_millis(200) && waited.last().unwrap() < &Duration::from_secs(10),
        "{waited:?}"
    );
    for message in watcher.messages().iter().filter(|message| message.topic.ends_with("/readings")) {
        let json = message.json();
        assert!(json["values"] == json!({"x": 5}) || json.get("bad").is_some(), "{json}");
    }
    assert!(gateway.stop().success());
}

/// A device that says this, again and again, to who connects; without words it hangs up at once. Counts the connections.
fn hostile(words: impl Fn() -> Vec<u8>) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (words, count) = (words(), Arc::new(AtomicU32::new(0)));
    let connections = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            connections.fetch_add(1, SeqCst);
            let words = words.clone();
            thread::spawn(move || while !words.is_empty() && stream.write_all(&words).is_ok() {});
        }
    });
    (port, count)
}

#[test]
fn hostile_devices_are_bounded_in_memory_processor_and_connections() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let (_fake, mut config) = healthy();
    let mut devices = Vec::new();
    let noise = || (0..65_536).map(|_| fastrand::u8(..)).collect::<Vec<u8>>();
    // Whole frames of the largest size that nobody asked for.
    let frames = || {
        let tcp = [&[0, 1, 0, 0, 0, 253, 1, 3, 250][..], &[7; 250]].concat();
        tcp.repeat(200)
    };
    let text = || [&b":"[..], &b"0103FA".repeat(80), b"\r\n"].concat().repeat(100);
    for (kind, driver) in [("tcp", "modbus-tcp"), ("rtu", "modbus-rtu-tcp"), ("ascii", "modbus-ascii")] {
        let whole = if kind == "ascii" { text() } else { frames() };
        let all =
            [("noise", hostile(noise)), ("frames", hostile(|| whole.clone())), ("ends", hostile(Vec::new))];
        for (how, (port, connections)) in all {
            let name = format!("{kind}-{how}");
            config += &device(&name, driver, port, "100ms", "300ms");
            devices.push((name, connections));
        }
    }
    let mut gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + &config));
    for (name, _) in &devices {
        watcher.wait_json(&format!("fieldgate/g/{name}/status"), name, |status| status["state"] == "offline");
    }
    let (begun, used, memory) = (Instant::now(), gateway.process().used(), gateway.process().memory());
    let before: Vec<u32> = devices.iter().map(|(_, connections)| connections.load(SeqCst)).collect();
    keeps_its_interval(&watcher, 100);
    let share = gateway.process().used().saturating_sub(used).as_secs_f64() / begun.elapsed().as_secs_f64();
    let grown = gateway.process().memory().saturating_sub(memory);
    println!("{:.1} % of a processor, {memory} bytes, {grown} more", share * 100.0);
    for ((name, connections), before) in devices.iter().zip(before) {
        let count = connections.load(SeqCst) - before;
        println!("{name}: {count} connections");
        assert!(count <= 20, "{name}: {count} connections in ten seconds");
        let readings = readings(&watcher.messages(), name);
        assert!(
            readings
                .iter()
                .all(|message| message.json().get("values").is_none_or(|values| values == &json!({}))),
            "{name}"
        );
    }
    assert!(share < 0.5, "{share} of a processor");
    assert!(grown < 16 << 20, "{grown} bytes more");
}
