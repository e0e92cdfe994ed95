//! Readings go out and commands come in over TCP, TLS and `WebSocket`s, in every version of MQTT, with brokers of two
//! makes, through a proxy, over IPv6, and by the first of several brokers that answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use support::certificates::{Authority, Kind};
use support::node::{Aedes, Proxy, WebSockets};
use support::recorder::Recorder;
use support::{
    Broker, Gateway, LIMIT, Subscriber, free_port, free_ports, head_at, publish_at, uplink_status,
};
use tempfile::TempDir;

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"500ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n\
    level = { address = \"memory\", type = \"u16\", writable = true }\n";
/// A refusal is tried again no sooner; the measuring loses a little.
const REFUSED_WAIT: Duration = Duration::from_millis(29_800);

/// A gateway of this id at this address; `more` follows under `[mqtt]` and may hold more tables.
fn run(folder: &Path, id: &str, url: &str, more: &str) -> Gateway {
    let head = head_at(folder, url).replace("id = \"g\"", &format!("id = \"{id}\""));
    Gateway::run(folder, &format!("{head}{more}\n{DEVICE}"))
}

fn secret(folder: &Path, name: &str, text: &[u8]) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = \"{}\" }}", file.display())
}

/// Readings arrive, and a command goes there and its reply comes back.
fn carries(port: u16, watcher: &Subscriber, id: &str) {
    let topic = |end: &str| format!("fieldgate/{id}/small/{end}");
    watcher.wait_json(&topic("readings"), "three readings", |json| json["seq"].as_u64() >= Some(3));
    let command = r#"{"id":"w-1","action":"write","values":{"level":7}}"#;
    publish_at(port, &topic("command"), command, &["-V", "mqttv311"]);
    let reply = watcher.wait_json(&topic("reply"), "the reply", |json| json["id"] == "w-1");
    assert_eq!(reply["status"], "succeeded", "{id}: {reply}");
    assert_eq!(reply["values"]["level"], 7, "{id}: {reply}");
    watcher.wait_json(&topic("readings"), "what was written", |json| json["values"]["level"] == 7);
}

/// `urls` by transport, each with every version: all at once.
fn all_carry(port: u16, watcher: &Subscriber, urls: &[(&str, String)], versions: &[&str], ca: &Path) {
    let mut all = Vec::new();
    for (name, url) in urls {
        for (index, version) in versions.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let id = format!("{name}-{}", version.replace('.', "-"));
            let mut more = format!("version = \"{version}\"\nqos = {}\n", 2 - index % 2);
            if url.starts_with("mqtts") || url.starts_with("wss") {
                writeln!(more, "[mqtt.tls]\nca = \"{}\"", ca.display()).unwrap();
            }
            all.push((run(folder.path(), &id, url, &more), id, folder));
        }
    }
    for (gateway, id, _folder) in &mut all {
        carries(port, watcher, id);
        assert!(gateway.stop().success(), "{id}");
        let stopped = |json: &serde_json::Value| json["state"] == "offline" && json["reason"] == "stopped";
        watcher.wait_json(&format!("fieldgate/{id}/status"), "offline", stopped);
    }
}

#[test]
fn mosquitto_is_reached_by_every_transport_in_every_version() {
    let own = Authority::new("own");
    let good = own.issue("good", Kind::Good);
    let secure = free_port();
    let broker = Broker::with(&own.listener(secure, &good));
    let ws = WebSockets::before(broker.port, None, json!({}));
    // Packets and frames need not begin together.
    let wss =
        WebSockets::before(broker.port, Some(&good), json!({"path": "/deep/path?tenant=7", "crumbs": 3}));
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let urls = [
        ("mqtt", broker.url()),
        ("mqtts", format!("mqtts://localhost:{secure}")),
        ("ws", format!("ws://127.0.0.1:{}", ws.port)),
        ("wss", format!("wss://localhost:{}/deep/path?tenant=7", wss.port)),
    ];
    all_carry(broker.port, &watcher, &urls, &["3.1", "3.1.1", "5"], own.file());
    for peer in [&ws, &wss] {
        let asked = peer.asked();
        assert_eq!(asked.len(), 3, "one connection each: {asked:?}");
        for request in asked {
            assert_eq!(request["headers"]["sec-websocket-protocol"], "mqtt", "{request}");
        }
        peer.process().wait_line("pong", LIMIT);
    }
}

#[test]
fn a_broker_of_another_make_is_reached_by_every_transport() {
    let own = Authority::new("own");
    let broker = Aedes::start(&own.issue("good", Kind::Good));
    let [tcp, tls, ws, wss] = broker.ports;
    let watcher = Subscriber::at(tcp, "fieldgate/#", &["-V", "mqttv311", "-q", "1"]);
    let urls = [
        ("mqtt", format!("mqtt://127.0.0.1:{tcp}")),
        ("mqtts", format!("mqtts://127.0.0.1:{tls}")),
        ("ws", format!("ws://127.0.0.1:{ws}/any")),
        ("wss", format!("wss://localhost:{wss}")),
    ];
    all_carry(tcp, &watcher, &urls, &["3.1", "3.1.1"], own.file());
}

#[test]
fn a_websocket_that_does_not_open_says_why() {
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let peer = WebSockets::before(broker.port, None, json!({}));
    let deaf = WebSockets::before(broker.port, None, json!({"protocol": false}));
    let picky = WebSockets::before(broker.port, None, json!({"header": ["x-token", "sesame"]}));
    let recorder = Recorder::before(picky.port);
    let plain = broker.port;
    let cases = [
        ("path", format!("ws://127.0.0.1:{}/other", peer.port), "404"),
        ("protocol", format!("ws://127.0.0.1:{}", deaf.port), "ubprotocol"),
        ("token", format!("ws://127.0.0.1:{}", recorder.port), "401"),
        ("no-http", format!("ws://127.0.0.1:{plain}"), "WebSocket does not open"),
    ];
    let mut all = Vec::new();
    for (id, url, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        all.push((run(folder.path(), id, &url, ""), why, folder));
    }
    for (gateway, why, _folder) in &mut all {
        let line = gateway.process().wait_line("no broker", LIMIT);
        assert!(line.contains(*why), "{why}: {line}");
    }
    // With the header it opens, and what else is sent is as it was asked for.
    let folder = tempfile::tempdir().unwrap();
    let headers = "ws_headers = { X-Token = \"sesame\", Origin = \"https://plant.example\" }";
    let _gateway = run(folder.path(), "good", &format!("ws://127.0.0.1:{}", picky.port), headers);
    carries(broker.port, &watcher, "good");
    let asked = picky.asked();
    let request = asked.iter().find(|request| request["headers"]["x-token"] == "sesame").unwrap();
    assert_eq!(request["headers"]["origin"], "https://plant.example", "{request}");
    assert_eq!(request["url"], "/mqtt", "{request}");
    // Somebody has to mend the token: it is not tried in a hurry.
    let tries = recorder.wait(2, LIMIT);
    assert!(tries[1].at - tries[0].at >= REFUSED_WAIT, "{:?}", tries[1].at - tries[0].at);
}

#[test]
fn a_proxy_carries_every_transport() {
    let own = Authority::new("own");
    let good = own.issue("good", Kind::Good);
    let secure = free_port();
    let broker = Broker::with(&own.listener(secure, &good));
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let wss = WebSockets::before(broker.port, Some(&good), json!({}));
    let (open, guarded) = (Proxy::start(&[]), Proxy::start(&["--user", "site:open sesame"]));
    let home = tempfile::tempdir().unwrap();
    let password = secret(home.path(), "proxy.password", b"open sesame\n");
    let tls = format!("[mqtt.tls]\nca = \"{}\"\n", own.file().display());
    let by = |proxy: &Proxy| format!("proxy = \"http://127.0.0.1:{}\"\n", proxy.port);
    let named = format!("{}proxy_username = \"site\"\nproxy_password = {password}\n", by(&guarded));
    let cases = [
        ("plain", broker.url(), by(&open)),
        ("tls", format!("mqtts://localhost:{secure}"), by(&open) + &tls),
        ("named", broker.url(), named.clone()),
        ("named-wss", format!("wss://localhost:{}", wss.port), named + &tls),
    ];
    for (id, url, more) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = run(folder.path(), id, &url, &more);
        carries(broker.port, &watcher, id);
        assert!(gateway.stop().success());
    }
    // The proxy looks the name up, not the gateway.
    open.process().wait_line(&format!("asked CONNECT localhost:{secure} HTTP/1.1"), LIMIT);
    let lines = guarded.process().lines();
    assert!(
        !lines.iter().any(|line| line == "answered 407"),
        "credentials go with the first request: {lines:?}"
    );
}

#[test]
fn a_proxy_that_refuses_says_why_and_is_left_alone() {
    let broker = Broker::start();
    let guarded = Proxy::start(&["--user", "site:open sesame"]);
    let only = Proxy::start(&["--only", "443"]);
    let open = Proxy::start(&[]);
    let home = tempfile::tempdir().unwrap();
    let password = secret(home.path(), "proxy.password", b"simsalabim");
    let recorders = [&guarded, &guarded, &only].map(|proxy| Recorder::before(proxy.port));
    let by = |port: u16| format!("proxy = \"http://127.0.0.1:{port}\"\n");
    let wrong = format!("{}proxy_username = \"site\"\nproxy_password = {password}\n", by(recorders[1].port));
    let (dead, away) = (free_port(), free_port());
    let cases = [
        ("unnamed", broker.url(), by(recorders[0].port), "407"),
        ("wrong", broker.url(), wrong, "407"),
        ("forbidden", broker.url(), by(recorders[2].port), "403"),
        ("away", format!("mqtt://127.0.0.1:{away}"), by(open.port), "502"),
        ("dead", broker.url(), by(dead), "refused"),
    ];
    let mut all: Vec<(Gateway, &str, TempDir)> = Vec::new();
    for (id, url, more, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        all.push((run(folder.path(), id, &url, &more), why, folder));
    }
    for (gateway, why, _folder) in &mut all {
        let line = gateway.process().wait_line("no broker", LIMIT);
        assert!(line.contains(*why) && line.contains("proxy"), "{why}: {line}");
    }
    for recorder in &recorders {
        let tries = recorder.wait(2, LIMIT);
        assert!(tries[1].at - tries[0].at >= REFUSED_WAIT, "{:?}", tries[1].at - tries[0].at);
        let sent = String::from_utf8_lossy(&tries[0].bytes).into_owned();
        assert!(
            sent.starts_with("CONNECT ") && sent.ends_with("\r\n\r\n"),
            "more went out than the question: {sent:?}"
        );
    }
}

#[test]
fn ipv6_carries() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6: nothing is shown here");
        return;
    }
    let own = Authority::new("own");
    let good = own.issue("good", Kind::Good);
    let ports = free_ports(2);
    let secure = own.listener(ports[1], &good).replace("127.0.0.1", "::1");
    let broker = Broker::with(&format!("listener {} ::1\n{secure}", ports[0]));
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let tls = format!("[mqtt.tls]\nca = \"{}\"\n", own.file().display());
    let mut cases = vec![
        ("address", format!("mqtt://[::1]:{}", ports[0]), ""),
        ("address-tls", format!("mqtts://[::1]:{}", ports[1]), tls.as_str()),
    ];
    // Where the name has addresses of both kinds, only one of them answers.
    if ("localhost", 1).to_socket_addrs().is_ok_and(|mut all| all.any(|address| address.is_ipv6())) {
        cases.push(("name", format!("mqtt://localhost:{}", ports[0]), ""));
    }
    for (id, url, more) in cases {
        let folder = tempfile::tempdir().unwrap();
        let _gateway = run(folder.path(), id, &url, more);
        carries(broker.port, &watcher, id);
    }
}

#[test]
fn the_first_broker_that_answers_is_taken_and_each_reconnect_starts_at_the_first() {
    let (mut first, mut second) = (Broker::start(), Broker::start());
    first.kill();
    let folder = tempfile::tempdir().unwrap();
    let head = head_at(folder.path(), "mqtt://x").replace(
        "url = \"mqtt://x\"",
        &format!("urls = [\"{}\", \"mqtt://no-such-name.invalid\", \"{}\"]", first.url(), second.url()),
    );
    let watcher = Subscriber::start(&second, "fieldgate/#");
    let mut gateway = Gateway::run(folder.path(), &(head + DEVICE));
    carries(second.port, &watcher, "g");
    // One round over all of them, without a wait between.
    let log = gateway.process().lines();
    assert!(!log.iter().any(|line| line.contains("no broker")), "{log:?}");
    let port = |broker: &Broker| format!("127.0.0.1:{}", broker.port);
    assert_eq!(uplink_status(&second, &watcher, "g")["broker"], port(&second));

    first.start_again();
    let watcher = Subscriber::start(&first, "fieldgate/#");
    second.kill();
    second.start_again();
    carries(first.port, &watcher, "g");
    assert_eq!(uplink_status(&first, &watcher, "g")["broker"], port(&first));
    assert!(gateway.stop().success());
}
