//! Who watches changes nothing, gets in by no foreign name and past no token, and cannot wear the gateway out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::simulated::simulated;
use support::watch::Watch;
use support::{Gateway, LIMIT, free_port, head_at};

/// So many connections are served at a time.
const CONNECTIONS: usize = 32;

fn start(folder: &Path, web: &str) -> (Gateway, Watch) {
    let head = head_at(folder, &format!("mqtt://127.0.0.1:{}", free_port()));
    let config = head.replace("listen = \"off\"\n", web) + &simulated(1, 1, "100ms");
    let mut gateway = Gateway::run(folder, &config);
    let watch = Watch::of(gateway.process());
    (gateway, watch)
}

fn open(folder: &Path) -> (Gateway, Watch) {
    start(folder, "listen = \"127.0.0.1:0\"\n")
}

fn code(watch: &Watch, path: &str, wish: &Value) -> u64 {
    watch.ask(path, wish)["code"].as_u64().unwrap()
}

#[test]
fn strangers_and_writers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, watch) = open(folder.path());
    for host in ["evil.example", "evil.example:8480", "localhost.evil.example"] {
        for path in ["/metrics", "/healthz", "/api/status", "/"] {
            assert_eq!(code(&watch, path, &json!({"headers": {"Host": host}})), 403, "{host}{path}");
        }
    }
    for host in ["localhost", "127.0.0.1", "[::1]:80"] {
        assert_eq!(code(&watch, "/healthz", &json!({"headers": {"Host": host}})), 200, "{host}");
    }
    assert_eq!(code(&watch, "/healthz", &json!({"headers": {"Origin": "https://evil.example"}})), 403);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = watch.ask("/api/status", &json!({ "method": method }));
        assert_eq!((&answer["code"], &answer["headers"]["allow"]), (&json!(405), &json!("GET, HEAD")));
    }
    let head = watch.ask("/metrics", &json!({"method": "HEAD"}));
    assert_eq!((&head["code"], &head["body"]), (&json!(200), &json!("")));
    for path in ["/metrics", "/healthz", "/api/status", "/", "/nothing"] {
        let answer = watch.get(path);
        let headers = &answer["headers"];
        assert_eq!(answer["code"], if path.len() > 1 && path != "/nothing" { 200 } else { 404 }, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        assert!(!headers.as_object().unwrap().keys().any(|name| name.starts_with("access-control")));
    }
    assert!(watch.get("/").get("body").unwrap().as_str().unwrap().contains("/api/status"));
}

#[test]
fn beyond_loopback_nobody_sees_anything_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = "canary-4f0c1b9a2e7d";
    let file = folder.path().join("token");
    let write = |token: &str| {
        fs::write(&file, format!("{token}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    write(token);
    let web = format!("listen = \"0.0.0.0:0\"\ntoken = {{ file = \"{}\" }}\n", file.display());
    let (mut gateway, watch) = start(folder.path(), &web);
    let with = |shown: &str| json!({"headers": {"Authorization": shown}});
    for path in ["/metrics", "/healthz", "/api/status", "/"] {
        let refused = watch.get(path);
        assert_eq!(
            (&refused["code"], &refused["headers"]["www-authenticate"]),
            (&json!(401), &json!("Bearer"))
        );
        assert_eq!(code(&watch, &format!("{path}?token={token}"), &json!({})), 401, "{path}");
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            token.to_owned(),
            format!("Basic {token}"),
            format!("Bearer {token}x"),
            format!("Bearer {}", &token[1..]),
        ] {
            assert_eq!(code(&watch, path, &with(&wrong)), 401, "{path} {wrong}");
        }
    }
    let right = with(&format!("Bearer {token}"));
    assert_eq!(code(&watch, "/healthz", &right), 200);
    let shown = format!("{}{}", watch.ask("/metrics", &right), watch.ask("/api/status", &right));
    assert!(shown.contains("fieldgate_build_info") && !shown.contains(token));
    // A renewed token counts at once.
    write("another-canary-4f0c1b9a2e7d");
    assert_eq!(code(&watch, "/healthz", &right), 401);
    assert_eq!(code(&watch, "/healthz", &with("Bearer another-canary-4f0c1b9a2e7d")), 200);
    gateway.process().wait_line("code=401", LIMIT);
    assert!(
        !gateway.process().lines().iter().any(|line| line.contains("4f0c1b9a2e7d")),
        "the log shows the token"
    );
}

#[test]
fn slow_and_many_connections_end_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let (mut gateway, watch) = open(folder.path());
    let begun = Instant::now();
    // All slots, and as many again: some say nothing, some say their request letter by letter.
    let mut slow: Vec<TcpStream> =
        (0..2 * CONNECTIONS).map(|_| TcpStream::connect(watch.address()).unwrap()).collect();
    for stream in slow.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").unwrap();
    }
    // Somebody who behaves waits for a slot, and gets it.
    assert_eq!(watch.get("/healthz")["code"], 200);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < LIMIT, "{waited:?}");
    assert!(watch.metrics().of("fieldgate_web_full_total", "") >= 1.0);
    // The letters go on, the connections do not.
    for stream in &mut slow {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        let is_over = end.as_ref().is_ok()
            || end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(is_over, "{end:?}");
    }
    gateway.process().wait_line("polling", LIMIT);
    let polls = watch.metrics().of("fieldgate_polls_total", "device=device-0,result=good");
    assert!(polls >= 20.0, "only {polls} polls in {:?}", begun.elapsed());
}

#[test]
fn large_and_broken_requests_are_answered_or_cut_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, watch) = open(folder.path());
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(watch.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // The other side may have had enough before all is said.
        stream.write_all(bytes).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let large = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(500));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000));
    let body = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\nabc";
    let two =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (what, bytes, code) in [
        ("a large header", large.as_bytes(), "431"),
        ("many headers", many.as_bytes(), "431"),
        ("a long path", long.as_bytes(), "4"),
        ("no name", b"GET /healthz HTTP/1.1\r\n\r\n", "4"),
        ("two names", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "403"),
        ("a name in the path", b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "403"),
        ("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        ("a body", body.as_bytes(), "200"),
        ("two in one", two.as_bytes(), "200"),
        ("the older HTTP", b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", "200"),
    ] {
        let answer = say(bytes);
        let said = answer.split(' ').nth(1).unwrap_or_default();
        assert!(said.starts_with(code), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer:?}");
    }
    assert_eq!(watch.get("/healthz")["code"], 200);
}

#[test]
fn a_reload_moves_where_it_listens_and_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (mut gateway, watch) = open(folder.path());
    let ports = [watch.port(), free_port()];
    let file = folder.path().join("fieldgate.toml");
    let config = fs::read_to_string(&file).unwrap();
    let second = simulated(2, 1, "100ms").split_once("[devices.device-1]").unwrap().1.to_owned();
    let config = format!("{config}[devices.device-1]{second}");
    fs::write(&file, &config).unwrap();
    gateway.process().signal(Signal::HUP);
    // The same address: the server goes on, and shows the new device.
    watch.wait_at("/api/status", "the second device", |answer| {
        answer["body"].as_str().unwrap().contains("device-1").then_some(())
    });
    watch.wait("its polls", |metrics| metrics.get("fieldgate_polls_total", "device=device-1,result=good"));
    let first = watch.metrics().of("fieldgate_polls_total", "device=device-0,result=good");
    assert!(first > 0.0);
    fs::write(&file, config.replace("127.0.0.1:0", &format!("127.0.0.1:{}", ports[1]))).unwrap();
    gateway.process().signal(Signal::HUP);
    gateway.process().wait_line(&format!("web: http://127.0.0.1:{}", ports[1]), LIMIT);
    let end = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", ports[0])).is_ok() {
        assert!(Instant::now() < end, "it still listens at the old port");
        std::thread::yield_now();
    }
    assert!(TcpStream::connect(("127.0.0.1", ports[1])).is_ok());
}
