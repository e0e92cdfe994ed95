//! TLS connects to the broker that is meant and to no other; what is wrong is told in plain words, tried again slowly,
//! and nothing of MQTT leaves before all is well.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::certificates::{Authority, Kind, Paper};
use support::recorder::Recorder;
use support::{
    Broker, Gateway, LIMIT, Process, Subscriber, canary, free_port, free_ports, head_at, program,
    uplink_status,
};
use tempfile::TempDir;

const SMALL: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"500ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";
/// What somebody has to mend is tried again no sooner; the measuring loses a little.
const REFUSED_WAIT: Duration = Duration::from_millis(29_800);
/// Longer than that wait, on a busy machine.
const SLOW_LIMIT: Duration = Duration::from_secs(120);

/// A gateway of this id at this address, with these lines under `[mqtt.tls]`.
fn config(folder: &Path, id: &str, url: &str, tls: &str) -> String {
    let head = head_at(folder, url).replace("id = \"g\"", &format!("id = \"{id}\""));
    format!("{head}[mqtt.tls]\n{tls}{SMALL}")
}

fn ca(authority: &Authority) -> String {
    format!("ca = \"{}\"\n", authority.file().display())
}

/// What stands behind the recorder.
enum Behind<'a> {
    /// A listener of the real broker.
    Mosquitto(u16),
    /// `openssl s_server` with these arguments, which takes what no decent broker does.
    OpenSsl(&'a [&'a str]),
}

/// A broker that must not be connected to, and the words that say why.
struct Case<'a> {
    id: &'a str,
    behind: Behind<'a>,
    host: &'a str,
    tls: String,
    why: &'a str,
}

struct Running {
    id: String,
    why: String,
    recorder: Recorder,
    gateway: Gateway,
    _folder: TempDir,
    _server: Option<Process>,
}

impl Case<'_> {
    fn start(&self, paper: &Paper) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let (port, server) = match &self.behind {
            Behind::Mosquitto(port) => (*port, None),
            Behind::OpenSsl(arguments) => {
                let port = free_port();
                let mut command = Command::new(program("openssl"));
                command.args(["s_server", "-accept", &port.to_string()]).args(*arguments);
                if !arguments.contains(&"-nocert") {
                    command.arg("-cert").arg(&paper.cert).arg("-key").arg(&paper.key);
                }
                let process = Process::start("openssl s_server", &mut command);
                process.wait_line("ACCEPT", LIMIT);
                (port, Some(process))
            }
        };
        let recorder = Recorder::before(port);
        let url = format!("mqtts://{}:{}", self.host, recorder.port);
        let gateway = Gateway::run(folder.path(), &config(folder.path(), self.id, &url, &self.tls));
        let (id, why) = (self.id.to_owned(), self.why.to_owned());
        Running { id, why, recorder, gateway, _folder: folder, _server: server }
    }
}

/// The records of TLS (RFC 8446, 5.1) that a client sent; fails where the bytes are none.
fn tls_records(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kinds = Vec::new();
    while let [kind, 3, _, high, low, after @ ..] = rest {
        assert!((20..=23).contains(kind), "no record of TLS: {rest:x?}");
        kinds.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(length..).unwrap_or_default();
    }
    assert!(rest.len() < 5, "these bytes are not TLS: {rest:x?}");
    kinds
}

#[test]
fn every_wrong_broker_is_refused_in_its_own_words_and_tried_again_slowly() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let good = own.issue("good", Kind::Good);
    let kinds = [Kind::Expired, Kind::NotYet, Kind::OtherHost, Kind::ShortKey, Kind::Sha1, Kind::NoAddress];
    let mut papers: Vec<Paper> = kinds.map(|kind| own.issue(&format!("{kind:?}"), kind)).into();
    papers.extend([own.self_signed("self"), other.issue("foreign", Kind::Good), good.clone()]);
    let ports = free_ports(papers.len() + 1);
    let mut lines = String::new();
    for (port, paper) in ports.iter().zip(&papers) {
        lines += &own.listener(*port, paper);
    }
    let picky = ports[papers.len()];
    writeln!(lines, "{}require_certificate true", own.listener(picky, &good)).unwrap();
    let broker = Broker::with(&lines);
    let watcher = Subscriber::start(&broker, "#");

    let alien = other.issue("alien", Kind::Good);
    let late = own.issue("late", Kind::Expired);
    let show = |paper: &Paper| {
        format!("{}cert = \"{}\"\nkey = \"{}\"\n", ca(&own), paper.cert.display(), paper.key.display())
    };
    let mosquitto = |id, index: usize, why| Case {
        id,
        behind: Behind::Mosquitto(ports[index]),
        host: "localhost",
        tls: ca(&own),
        why,
    };
    let picky = |id, tls, why| Case { id, behind: Behind::Mosquitto(picky), host: "127.0.0.1", tls, why };
    let openssl = |id, arguments, tls, why| Case {
        id,
        behind: Behind::OpenSsl(arguments),
        host: "127.0.0.1",
        tls,
        why,
    };
    let cases = [
        mosquitto("expired", 0, "has expired"),
        mosquitto("not-yet", 1, "not yet valid"),
        mosquitto("other-host", 2, "for another host"),
        mosquitto("short-key", 3, "too weak"),
        mosquitto("sha1", 4, "too weak"),
        // The name is right, but it is an address that is asked for.
        Case { host: "127.0.0.1", ..mosquitto("no-address", 5, "for another host") },
        mosquitto("self-signed", 6, "self-signed"),
        mosquitto("wrong-ca", 7, "authority that is not believed"),
        // The system's store does not know our authority.
        Case { tls: String::new(), ..mosquitto("system", 8, "authority that is not believed") },
        picky("none-shown", ca(&own), "certificate required"),
        picky("alien-shown", show(&alien), "unknown ca"),
        picky("late-shown", show(&late), "certificate expired"),
        openssl("old-tls", &["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], ca(&own), "TLS 1.2"),
        openssl(
            "no-certificate",
            &["-tls1_2", "-nocert", "-cipher", "aNULL@SECLEVEL=0"],
            ca(&own),
            "handshake failure",
        ),
        openssl("no-cipher", &["-tls1_2", "-cipher", "eNULL@SECLEVEL=0"], ca(&own), "handshake failure"),
        openssl("none-shown-1-2", &["-tls1_2", "-Verify", "1"], ca(&own), "mqtt.tls.cert"),
        openssl("only-1-2", &["-tls1_2"], format!("{}min_version = \"1.3\"\n", ca(&own)), "TLS 1.3"),
    ];
    let mut all: Vec<Running> = cases.iter().map(|case| case.start(&good)).collect();

    for running in &mut all {
        let process = running.gateway.process();
        let line = process.wait_line("no broker", LIMIT);
        assert!(line.contains(&running.why), "{}: {} is not told by: {line}", running.id, running.why);
        assert!(line.contains("refused"), "{}: {line}", running.id);
    }
    for running in &mut all {
        let id = &running.id;
        running.gateway.process().wait(&format!("{id}: the second try"), SLOW_LIMIT, |lines| {
            (lines.iter().filter(|line| line.contains("no broker")).count() > 1).then_some(())
        });
        let connections = running.recorder.wait(2, LIMIT);
        let waited = connections[1].at - connections[0].at;
        assert!(waited >= REFUSED_WAIT, "{id}: tried again after {waited:?}");
        for connection in &connections {
            let kinds = tls_records(&connection.bytes);
            assert_eq!(kinds.first().copied().unwrap_or(22), 22, "{id}: {kinds:?}");
        }
        let log = running.gateway.process().lines();
        assert!(!log.iter().any(|line| line.contains("connected to the broker")), "{id}: connected");
    }
    let ids: BTreeSet<_> = watcher.messages().into_iter().map(|message| message.topic).collect();
    assert_eq!(ids, BTreeSet::new(), "something was published");
}

#[test]
fn the_right_broker_is_connected_to_by_file_folder_and_system_store() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let good = own.issue("good", Kind::Good);
    let lone = own.self_signed("lone");
    let ports = free_ports(2);
    let broker = Broker::with(&(own.listener(ports[0], &good) + &own.listener(ports[1], &lone)));
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("authorities");
    fs::create_dir(&authorities).unwrap();
    fs::write(authorities.join("README"), "no certificate\n").unwrap();
    fs::copy(other.file(), authorities.join("another.pem")).unwrap();
    fs::copy(own.file(), authorities.join("own.crt")).unwrap();
    let by_folder = format!("ca = \"{}\"\n", authorities.display());
    let lone_ca = format!("ca = \"{}\"\n", lone.cert.display());
    let file = own.file().display().to_string();
    // OpenSSL takes the system's store from here (openssl-env(7)).
    let system = ("SSL_CERT_FILE", file.as_str());
    let cases = [
        ("by-file", "127.0.0.1", ports[0], ca(&own)),
        ("by-name", "localhost", ports[0], ca(&own)),
        ("by-folder", "127.0.0.1", ports[0], by_folder),
        ("by-system", "localhost", ports[0], String::new()),
        ("by-itself", "127.0.0.1", ports[1], lone_ca),
        ("by-1-3", "127.0.0.1", ports[0], format!("{}min_version = \"1.3\"\n", ca(&own))),
    ];
    let mut all = Vec::new();
    for (id, host, port, tls) in cases {
        let home = tempfile::tempdir().unwrap();
        let recorder = Recorder::before(port);
        let url = format!("mqtts://{host}:{}", recorder.port);
        let config = config(home.path(), id, &url, &tls);
        let environment = if id == "by-system" { vec![system] } else { Vec::new() };
        all.push((id, Gateway::run_with(home.path(), &config, &environment), recorder, home));
    }
    for (id, gateway, recorder, _home) in &mut all {
        watcher.wait_json(&format!("fieldgate/{id}/small/readings"), "a reading", |json| json["seq"] == 1);
        let online =
            watcher.wait_json(&format!("fieldgate/{id}/status"), "online", |json| json["state"] == "online");
        assert!(online["insecure"].is_null(), "{online}");
        let uplink = uplink_status(&broker, &watcher, id);
        assert!(uplink["tls"].as_str().unwrap().starts_with("TLSv1.3 "), "{uplink}");
        assert!(uplink["insecure"].is_null(), "{uplink}");
        assert!(gateway.stop().success());
        let connections = recorder.connections();
        assert_eq!(connections.len(), 1, "{id}");
        let kinds = tls_records(&connections[0].bytes);
        assert!(kinds.len() > 4 && kinds[0] == 22 && kinds.contains(&23), "{id}: {kinds:?}");
    }
}

#[test]
fn what_is_not_verified_connects_only_with_insecure_and_is_loud() {
    let own = Authority::new("own");
    let papers =
        [own.issue("elsewhere", Kind::OtherHost), own.self_signed("self"), own.issue("late", Kind::Expired)];
    let ports = free_ports(papers.len());
    let lines: String = ports.iter().zip(&papers).map(|(port, paper)| own.listener(*port, paper)).collect();
    let mut broker = Broker::with(&lines);
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let none = "verify = \"none\"\ninsecure = true\n";
    let any_host = format!("{}verify = \"ca\"\ninsecure = true\n", ca(&own));
    let cases = [
        ("any-host", ports[0], any_host.as_str(), "any-host"),
        ("any-self", ports[1], none, "unverified"),
        ("any-date", ports[2], none, "unverified"),
    ];
    let mut all = Vec::new();
    for (id, port, tls, word) in cases {
        let home = tempfile::tempdir().unwrap();
        let recorder = Recorder::before(port);
        let config = config(home.path(), id, &format!("mqtts://127.0.0.1:{}", recorder.port), tls);
        all.push((id, word, Gateway::run(home.path(), &config), recorder, home));
    }
    for (id, word, gateway, _, _) in &mut all {
        let online =
            watcher.wait_json(&format!("fieldgate/{id}/status"), "online", |json| json["state"] == "online");
        assert_eq!(online["insecure"], *word, "{online}");
        assert_eq!(uplink_status(&broker, &watcher, id)["insecure"], *word);
        gateway.process().wait_line("anybody may pose as it", LIMIT);
    }
    // Loud at each connect, not only at the first.
    broker.kill();
    broker.start_again();
    for (id, _, gateway, recorder, _) in &mut all {
        recorder.wait(2, LIMIT);
        gateway.process().wait(&format!("{id}: the second warning"), LIMIT, |lines| {
            let warnings = lines.iter().filter(|line| line.contains("anybody may pose as it"));
            (warnings.filter(|line| line.contains("WARN")).count() > 1).then_some(())
        });
        for connection in recorder.connections() {
            tls_records(&connection.bytes);
        }
    }
    // `ca` lets the name go and nothing else.
    let home = tempfile::tempdir().unwrap();
    let url = format!("mqtts://127.0.0.1:{}", ports[1]);
    let mut strict = Gateway::run(home.path(), &config(home.path(), "strict", &url, &any_host));
    strict.process().wait_line("self-signed", LIMIT);
}

#[test]
fn a_broker_without_tls_hears_no_mqtt() {
    let own = Authority::new("own");
    let broker = Broker::start();
    let recorder = Recorder::before(broker.port);
    let home = tempfile::tempdir().unwrap();
    let url = format!("mqtts://127.0.0.1:{}", recorder.port);
    let mut gateway = Gateway::run(home.path(), &config(home.path(), "g", &url, &ca(&own)));
    gateway.process().wait_line("no broker", LIMIT);
    for connection in recorder.wait(3, LIMIT) {
        assert!(tls_records(&connection.bytes).iter().all(|kind| *kind == 22), "{connection:?}");
    }
    let log = broker.process().lines();
    assert!(!log.iter().any(|line| line.contains("fieldgate-g")), "{log:?}");
}

#[test]
fn a_client_certificate_is_shown_whatever_it_lies_in() {
    let own = Authority::new("own");
    let good = own.issue("good", Kind::Good);
    let plant = own.issue("plant-7", Kind::Ending(10));
    let (locked, packed) = (own.lock_key(&plant, "sesame"), own.pkcs12(&plant, "sesame"));
    let port = free_port();
    let home = tempfile::tempdir().unwrap();
    let rights = home.path().join("rights");
    // Who has no certificate of this name only listens and asks.
    fs::write(
        &rights,
        "topic read #\ntopic write fieldgate/+/command\nuser plant-7\ntopic readwrite fieldgate/#\n",
    )
    .unwrap();
    let listener = own.listener(port, &good);
    let broker = Broker::with(&format!(
        "acl_file {}\n{listener}require_certificate true\nuse_identity_as_username true\n",
        rights.display()
    ));
    let watcher = Subscriber::start(&broker, "fieldgate/#");
    let password = home.path().join("key.password");
    fs::write(&password, "sesame\n").unwrap();
    private(&password);
    let password = format!("key_password = {{ file = \"{}\" }}\n", password.display());
    let cert = format!("cert = \"{}\"\n", plant.cert.display());
    let cases = [
        ("pem", format!("{cert}key = \"{}\"\n", plant.key.display())),
        ("locked", format!("{cert}key = \"{}\"\n{password}", locked.display())),
        ("packed", format!("pkcs12 = \"{}\"\n{password}", packed.display())),
    ];
    for (id, identity) in cases {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("mqtts://localhost:{port}");
        let config = config(folder.path(), id, &url, &(ca(&own) + &identity));
        let mut gateway = Gateway::run(folder.path(), &config);
        watcher.wait_json(&format!("fieldgate/{id}/small/readings"), "a reading", |json| json["seq"] == 1);
        let line = gateway.process().wait_line("certificate ends soon", LIMIT);
        assert!(line.contains("WARN"), "{line}");
        let uplink = uplink_status(&broker, &watcher, id);
        assert!(uplink["certificate_end"].as_str().is_some_and(|end| end.contains("GMT")), "{uplink}");
        assert!(gateway.stop().success());
    }
    // What does not open the key is told, without the word that was tried.
    let wrong = home.path().join("wrong.password");
    fs::write(&wrong, "simsalabim").unwrap();
    canary::guard(b"simsalabim");
    private(&wrong);
    let wrong = format!("key_password = {{ file = \"{}\" }}\n", wrong.display());
    for (id, identity, why) in [
        ("locked", format!("{cert}key = \"{}\"\n{wrong}", locked.display()), "mqtt.tls.key_password"),
        ("packed", format!("pkcs12 = \"{}\"\n{wrong}", packed.display()), "mqtt.tls.key_password"),
        ("without", format!("{cert}key = \"{}\"\n", locked.display()), "mqtt.tls.key_password"),
        ("foreign", format!("{cert}key = \"{}\"\n", good.key.display()), "does not belong"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fieldgate.toml");
        let url = format!("mqtts://localhost:{port}");
        fs::write(&file, config(folder.path(), id, &url, &(ca(&own) + &identity))).unwrap();
        // It may be found at the start or at the connect; either way the person is told.
        let mut command = support::fieldgate();
        let process = Process::start("fieldgate run", command.arg("run").arg("--config").arg(&file));
        assert!(process.wait_or_end(LIMIT, |lines| lines.iter().any(|line| line.contains(why))), "{id}");
    }
}

#[test]
fn a_certificate_renewed_on_disk_counts_at_the_next_connect() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let good = own.issue("good", Kind::Good);
    let port = free_port();
    let mut broker = Broker::with(&format!(
        "{}require_certificate true\nuse_identity_as_username true\n",
        own.listener(port, &good)
    ));
    let home = tempfile::tempdir().unwrap();
    let [cert, key, authority] = ["own.pem", "own.key", "ca.pem"].map(|name| home.path().join(name));
    let give = |paper: &Paper| {
        fs::copy(&paper.cert, &cert).unwrap();
        fs::copy(&paper.key, &key).unwrap();
    };
    give(&own.issue("first", Kind::Good));
    fs::copy(own.file(), &authority).unwrap();
    let tls = format!(
        "ca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        authority.display(),
        cert.display(),
        key.display()
    );
    let url = format!("mqtts://localhost:{port}");
    let mut gateway = Gateway::run(home.path(), &config(home.path(), "g", &url, &tls));
    broker.process().wait_line("u'first'", LIMIT);
    give(&own.issue("second", Kind::Good));
    broker.kill();
    broker.start_again();
    broker.process().wait_line("u'second'", LIMIT);
    // The authority too: from now on another is believed.
    fs::copy(other.file(), &authority).unwrap();
    broker.kill();
    broker.start_again();
    gateway.process().wait_line("authority that is not believed", LIMIT);
}

#[test]
fn alpn_is_offered() {
    let own = Authority::new("own");
    let good = own.issue("good", Kind::Good);
    let port = free_port();
    let mut command = Command::new(program("openssl"));
    command.args(["s_server", "-accept", &port.to_string(), "-alpn", "x-amzn-mqtt-ca"]);
    let server =
        Process::start("openssl s_server", command.arg("-cert").arg(&good.cert).arg("-key").arg(&good.key));
    server.wait_line("ACCEPT", LIMIT);
    let home = tempfile::tempdir().unwrap();
    let tls = format!("{}alpn = [\"mqtt\", \"x-amzn-mqtt-ca\"]\n", ca(&own));
    let url = format!("mqtts://localhost:{port}");
    // Without secrets: `openssl s_server` prints what it hears, and that would be the password.
    let _gateway = Gateway::run_as_written(home.path(), &config(home.path(), "g", &url, &tls));
    server.wait_line("ALPN protocols advertised by the client: mqtt, x-amzn-mqtt-ca", LIMIT);
    server.wait_line("ALPN protocols selected: x-amzn-mqtt-ca", LIMIT);
}

fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
