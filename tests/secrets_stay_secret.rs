//! No secret is seen anywhere: not in a log, however much is logged, not in an error, a message, a file, or a core.
//! Every other test looks for secrets too; here is shown that this search finds, and what they do not come upon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rusqlite::Connection;
use rustix::process::Signal;
use support::certificates::{Authority, Kind};
use support::scripted::{Script, Scripted};
use support::{
    Broker, Gateway, LIMIT, Process, Subscriber, canary, free_port, gateway_command, head, head_at, publish,
};

const DEVICE: &str = "[links.sim]\ndriver = \"simulator\"\n\
    [devices.small]\nlink = \"sim\"\npoll_interval = \"200ms\"\n\
    [devices.small.points]\ncount = { address = \"counter\", type = \"u32\" }\n";

/// Asks for all that there is to be told.
const LOUD: [(&str, &str); 3] =
    [("FIELDGATE_LOG__LEVEL", "trace"), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")];

fn file(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = \"{}\" }}", file.display())
}

/// What the search says of something that holds a secret.
fn caught(what: &str, act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err(what);
    let text = panic.downcast_ref::<String>().unwrap().clone();
    assert_eq!(canary::find(text.as_bytes()), None, "it tells the secret itself: {what}");
    text
}

#[test]
fn the_search_finds_a_secret_in_every_place_and_form() {
    let secret = canary::secret("planted");
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let mut forms = vec![secret.clone(), secret[8..].to_owned(), hex.to_uppercase(), hex];
    forms.extend([format!("{:?}", secret.as_bytes()), format!("{:?}", Some(&secret))]);
    // As a proxy gets it, at every place among the three bytes that belong together.
    forms.extend(["a", "ab", "abc"].map(|user| BASE64_STANDARD.encode(format!("{user}:{secret}"))));
    for (index, form) in forms.iter().enumerate() {
        for before in 0..20 {
            let text = format!("{}{form}, and more", "x".repeat(before));
            assert!(canary::find(text.as_bytes()).is_some(), "form {index} behind {before} bytes");
        }
        assert!(
            canary::find(&form.as_bytes()[..form.len() / 3]).is_none(),
            "form {index} is found in its head"
        );
    }
    canary::guard(b"open sesame, please");
    assert!(canary::find(b"he said: open sesame, please!").is_some());

    let said = caught("a log", || {
        let mut echo = Command::new("echo");
        let mut process = Process::start("echo", echo.arg(format!("password={secret}")));
        process.wait_exit(LIMIT);
    });
    assert!(said.contains("what echo said holds a secret as it is at byte"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let database = Connection::open(folder.path().join("buffer.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.execute_batch("CREATE TABLE records (body BLOB)").unwrap();
    canary::assert_clean_folder(folder.path(), &[]);
    database.execute("INSERT INTO records VALUES (?1)", [secret.as_bytes()]).unwrap();
    let said = caught("the buffer's log", || canary::assert_clean_folder(folder.path(), &[]));
    assert!(said.contains("buffer.db-wal holds"), "{said}");
    database.close().unwrap();
    let said = caught("the buffer", || canary::assert_clean_folder(folder.path(), &[]));
    assert!(said.contains("buffer.db holds"), "{said}");

    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "any/#");
    publish(&broker, "any/status", &format!("{{\"uplink\":\"{}\"}}", forms[7]), &[]);
    watcher.wait_for("the message", |message| message.topic == "any/status");
    let said = caught("a message", || drop(watcher));
    assert!(said.contains("mosquitto_sub any/# said holds a secret in base64"), "{said}");
}

#[test]
fn what_a_gateway_leaves_is_searched_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let gateway = Gateway::run(folder.path(), &(head(folder.path(), &broker) + DEVICE));
    fs::write(folder.path().join("left"), canary::secret("left")).unwrap();
    assert!(caught("a file", || drop(gateway)).contains("left holds"));
}

#[test]
fn neither_a_refusal_nor_the_librarys_own_trace_shows_a_secret() {
    let broker = Broker::with_user("plant", &canary::secret("right"));
    let cases = [("5", "PROTOCOL"), ("5", "MAXIMUM"), ("3.1.1", "PROTOCOL"), ("3.1.1", "MAXIMUM")];
    for (version, level) in cases {
        for (name, told) in [("right", "connected"), ("wrong", "no broker")] {
            let folder = tempfile::tempdir().unwrap();
            let trace = folder.path().join("trace");
            let password = file(folder.path(), "password", &canary::secret(name));
            let config = format!(
                "{}version = \"{version}\"\nusername = \"plant\"\npassword = {password}\n{DEVICE}",
                head(folder.path(), &broker)
            );
            let traced = [
                ("MQTT_C_CLIENT_TRACE", trace.to_str().unwrap()),
                ("MQTT_C_CLIENT_TRACE_LEVEL", level),
                ("MQTT_C_CLIENT_TRACE_MAX_LINES", "100000"),
            ];
            let mut gateway = Gateway::run_with(folder.path(), &config, &[&traced[..], &LOUD].concat());
            gateway.process().wait_line(told, LIMIT);
            assert!(gateway.stop().success());
            assert!(fs::read_to_string(&trace).unwrap().contains("Product name"), "there is no trace");
        }
    }
}

#[test]
fn the_data_of_an_authentication_is_in_no_trace() {
    for level in ["PROTOCOL", "MAXIMUM"] {
        let folder = tempfile::tempdir().unwrap();
        // Secrets come with it.
        let broker = Scripted::start(Script::default());
        let trace = folder.path().join("trace");
        let traced = [("MQTT_C_CLIENT_TRACE", trace.to_str().unwrap()), ("MQTT_C_CLIENT_TRACE_LEVEL", level)];
        let config = head_at(folder.path(), &broker.url()) + DEVICE;
        let mut gateway = Gateway::run_with(folder.path(), &config, &[&traced[..], &LOUD].concat());
        let connect = broker.wait("CONNECT", LIMIT, |packets| packets.first()?.connect());
        assert!(canary::find(&connect.password.unwrap()).is_some());
        assert!(canary::find(format!("{:?}", connect.properties).as_bytes()).is_some());
        broker.wait_json("/readings", "a reading", |_| true);
        assert!(gateway.stop().success());
        assert!(fs::read_to_string(&trace).unwrap().contains("Product name"), "there is no trace");
    }
}

/// A proxy that puts the credentials it was given into its answer.
fn telltale(code: u32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let told = request.iter().find(|line| line.starts_with("Proxy-Authorization")).unwrap();
            let answer = format!("HTTP/1.1 {code} {told}\r\nX: {told}\r\n\r\n{told}");
            // The client may have gone.
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    port
}

#[test]
fn a_proxy_that_tells_the_credentials_back_is_not_repeated() {
    for code in [407, 403, 502, 99_999] {
        let folder = tempfile::tempdir().unwrap();
        let password = file(folder.path(), "password", &canary::secret("proxy"));
        let config = format!(
            "{}proxy = \"http://127.0.0.1:{}\"\nproxy_username = \"site\"\nproxy_password = {password}\n{DEVICE}",
            head_at(folder.path(), "mqtt://127.0.0.1:1"),
            telltale(code)
        );
        let mut gateway = Gateway::run_with(folder.path(), &config, &LOUD);
        let line = gateway.process().wait_line("no broker", LIMIT);
        let wanted = if code == 99_999 { "does not speak HTTP".to_owned() } else { format!("({code})") };
        assert!(line.contains(&wanted), "{line}");
        assert!(gateway.stop().success());
    }
}

#[test]
fn a_password_that_does_not_open_a_key_is_not_told() {
    let own = Authority::new("own");
    let plant = own.issue("plant", Kind::Good);
    let (locked, packed) = (own.lock_key(&plant, "another word"), own.pkcs12(&plant, "another word"));
    let cert = format!("cert = \"{}\"\nkey = \"{}\"\n", plant.cert.display(), locked.display());
    // It is opened at the connect, so somebody has to take it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for identity in [cert, format!("pkcs12 = \"{}\"\n", packed.display())] {
        let folder = tempfile::tempdir().unwrap();
        let password = file(folder.path(), "password", &canary::secret("key"));
        let config = format!(
            "{}[mqtt.tls]\nca = \"{}\"\n{identity}key_password = {password}\n{DEVICE}",
            head_at(folder.path(), &format!("mqtts://localhost:{port}")),
            own.file().display()
        );
        let process = Process::start("fieldgate run", gateway_command(folder.path(), &config).envs(LOUD));
        let told = |lines: &[String]| lines.iter().any(|line| line.contains("mqtt.tls.key_password"));
        assert!(process.wait_or_end(LIMIT, told), "{:?}", process.lines());
    }
}

#[test]
fn a_crash_leaves_no_core() {
    let folder = tempfile::tempdir().unwrap();
    let config = head_at(folder.path(), &format!("mqtt://127.0.0.1:{}", free_port())) + DEVICE;
    let gateway = gateway_command(folder.path(), &config);
    // As much as this machine allows.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c \"$(ulimit -H -c)\" && exec \"$@\"", "sh"]);
    shell.arg(gateway.get_program()).args(gateway.get_args()).current_dir(folder.path());
    shell.envs(gateway.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut process = Process::start("fieldgate run", &mut shell);
    process.wait_line("polling", LIMIT);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert!(words.iter().take(2).all(|limit| ["0", "1"].contains(limit)), "{core}");
    process.signal(Signal::ABORT);
    let status = process.wait_exit(LIMIT);
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status}");
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let cores =
        names.filter(|name| name.as_encoded_bytes().starts_with(OsStr::new("core").as_encoded_bytes()));
    assert_eq!(cores.count(), 0);
}
