//! The gateway can be watched: its metrics parse and move as its work does, its status tells the same, and its
//! health is that of the core.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use fieldgate::clock::Timestamp;
use serde_json::json;
use support::certificates::{Authority, Kind};
use support::disk::{Control, preload};
use support::simulated::simulated;
use support::watch::{WEB, Watch};
use support::{
    Broker, Gateway, LIMIT, ModbusPeer, Subscriber, boiler_device, boiler_units, free_port, head, head_at,
    program, publish,
};

/// The name of every family that the manual of the program promises, and its kind.
const PROMISED: [(&str, &str); 17] = [
    ("fieldgate_polls", "counter"),
    ("fieldgate_poll_duration_seconds", "histogram"),
    ("fieldgate_link_busy_ratio", "gauge"),
    ("fieldgate_link_overruns", "counter"),
    ("fieldgate_device_state", "gauge"),
    ("fieldgate_buffer_records", "gauge"),
    ("fieldgate_buffer_bytes", "gauge"),
    ("fieldgate_buffer_written_bytes", "counter"),
    ("fieldgate_records_dropped", "counter"),
    ("fieldgate_mqtt_connected", "gauge"),
    ("fieldgate_mqtt_published", "counter"),
    ("fieldgate_mqtt_acknowledged", "counter"),
    ("fieldgate_mqtt_reconnects", "counter"),
    ("fieldgate_commands", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_start_time_seconds", "gauge"),
];

fn watched(head: &str) -> String {
    head.replace("[web]\nlisten = \"off\"\n", WEB)
}

#[test]
fn metrics_move_as_the_gateway_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let boiler = ModbusPeer::tcp(&boiler_units());
    let watcher = Subscriber::start(&broker, "fieldgate/g/+/reply");
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let config = watched(&head(folder.path(), &broker)) + &boiler_device(&boiler.address, "200ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    let watch = Watch::of(gateway.process());

    let good = "device=boiler,result=good";
    let first = watch.wait("a good poll that the broker has", |metrics| {
        let polls = metrics.get("fieldgate_polls_total", good).filter(|polls| *polls >= 2.0)?;
        metrics.get("fieldgate_mqtt_acknowledged_total", "").filter(|sent| *sent >= 2.0)?;
        metrics.get("fieldgate_device_state", "device=chimney")?;
        Some(polls)
    });
    let metrics = watch.metrics();
    for (family, kind) in PROMISED {
        assert_eq!(metrics.kind(family), kind, "{family}");
    }
    assert_eq!(metrics.of("fieldgate_device_state", "device=boiler"), 2.0);
    // Its one register is refused: an answer, and no good point.
    assert_eq!(metrics.of("fieldgate_device_state", "device=chimney"), 1.0);
    assert!(metrics.of("fieldgate_polls_total", "device=chimney,result=degraded") >= 1.0);
    assert_eq!(metrics.of("fieldgate_polls_total", "device=chimney,result=good"), 0.0);
    let polls = metrics.of("fieldgate_polls_total", good);
    assert_eq!(metrics.of("fieldgate_poll_duration_seconds_count", "device=boiler"), polls);
    assert_eq!(metrics.of("fieldgate_poll_duration_seconds_bucket", "device=boiler,le=+Inf"), polls);
    let busy = metrics.of("fieldgate_link_busy_ratio", "link=plc");
    assert!(busy > 0.0 && busy < 1.0, "{busy}");
    assert_eq!(metrics.of("fieldgate_mqtt_connected", ""), 1.0);
    assert_eq!(metrics.of("fieldgate_mqtt_reconnects_total", ""), 0.0);
    assert_eq!(metrics.of("fieldgate_mqtt_insecure", "choice=plain"), 1.0);
    assert_eq!(metrics.of("fieldgate_mqtt_insecure", "choice=unverified"), 0.0);
    assert_eq!(metrics.get("fieldgate_mqtt_certificate_expiry_seconds", ""), None);
    assert!(metrics.of("process_resident_memory_bytes", "") > 1e6);
    assert!(metrics.of("process_open_fds", "") > 5.0);
    let start = metrics.of("process_start_time_seconds", "");
    assert!((start - started).abs() < 30.0, "{start} for {started}");
    watch.wait("more polls", |metrics| {
        Some(()).filter(|()| metrics.of("fieldgate_polls_total", good) > first)
    });

    for (id, payload) in [
        (
            "a",
            r#"{"id":"a","action":"write","values":{"setpoint":30.0},"expires_at":"2099-01-01T00:00:00Z"}"#,
        ),
        (
            "b",
            r#"{"id":"b","action":"write","values":{"setpoint":99.0},"expires_at":"2099-01-01T00:00:00Z"}"#,
        ),
        (
            "c",
            r#"{"id":"c","action":"write","values":{"setpoint":30.0},"expires_at":"2001-01-01T00:00:00Z"}"#,
        ),
    ] {
        publish(&broker, "fieldgate/g/boiler/command", payload, &[]);
        watcher.wait_json("fieldgate/g/boiler/reply", "a reply", |json| json["id"] == id);
    }
    let metrics = watch.metrics();
    for (status, count) in [("succeeded", 1.0), ("rejected", 1.0), ("expired", 1.0), ("failed", 0.0)] {
        assert_eq!(metrics.of("fieldgate_commands_total", &format!("status={status}")), count, "{status}");
    }
    assert_eq!(metrics.of("fieldgate_command_errors_total", "code=out-of-range"), 1.0);

    broker.stop();
    watch.wait("no connection", |metrics| {
        Some(()).filter(|()| metrics.of("fieldgate_mqtt_connected", "") == 0.0)
    });
    assert_eq!(watch.get("/healthz")["code"], 200, "a broker that is away is no reason to restart");
    watch.wait("records that wait, on the disk", |metrics| {
        metrics.get("fieldgate_buffer_written_bytes_total", "").filter(|bytes| *bytes > 0.0)?;
        metrics.get("fieldgate_buffer_last_sync_timestamp_seconds", "")?;
        Some(()).filter(|()| metrics.of("fieldgate_buffer_records", "") >= 3.0)
    });
    broker.start_again();
    watch.wait("a connection again, and nothing left", |metrics| {
        let is_back = metrics.of("fieldgate_mqtt_connected", "") == 1.0;
        Some(()).filter(|()| is_back && metrics.of("fieldgate_mqtt_reconnects_total", "") == 1.0)
    });

    let answer = watch.get("/api/status");
    let status: serde_json::Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(answer["headers"]["content-type"], "application/json");
    assert_eq!(status["gateway"]["id"], "g");
    assert_eq!(status["gateway"]["trouble"], json!(null));
    assert_eq!(status["links"]["plc"]["state"], "online");
    assert_eq!(status["links"]["plc"]["devices"], json!(["boiler", "chimney"]));
    assert_eq!(status["devices"]["boiler"]["state"], "online");
    assert_eq!(status["devices"]["chimney"]["state"], "degraded");
    assert_eq!(status["devices"]["chimney"]["reason"], "gone: exception-2");
    assert_eq!(status["uplink"]["connected"], true);
    assert_eq!(status["uplink"]["insecure"], "plain");
    assert!(status["buffer"]["commits"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["commands"]["rejected"], 1);
}

#[test]
fn a_link_that_cannot_keep_up_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // Two devices, neither of which answers: each poll takes the whole of its time.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "{}[links.plc]\ndriver = \"modbus-tcp\"\naddress = \"{}\"\ntimeout = \"1s\"\n\
         [devices.a]\nlink = \"plc\"\naddress = 1\npoll_interval = \"100ms\"\n\
         points.x = {{ address = \"input:0\", type = \"u16\" }}\n",
        watched(&head_at(folder.path(), &format!("mqtt://127.0.0.1:{}", free_port()))),
        silent.local_addr().unwrap()
    );
    let mut gateway = Gateway::run(folder.path(), &config);
    let watch = Watch::of(gateway.process());
    let metrics = watch.wait("a second poll", |metrics| {
        let polls = metrics.get("fieldgate_polls_total", "device=a,result=timeout");
        polls.filter(|polls| *polls >= 2.0)?;
        Some((
            metrics.of("fieldgate_link_overruns_total", "link=plc"),
            metrics.of("fieldgate_link_busy_ratio", "link=plc"),
            metrics.of("fieldgate_poll_duration_seconds_sum", "device=a"),
            metrics.of("fieldgate_device_state", "device=a"),
            metrics.of("fieldgate_mqtt_connect_failures_total", ""),
        ))
    });
    let (overruns, busy, time, state, failures) = metrics;
    assert!(overruns >= 5.0 && busy > 0.1 && time > 0.2 && failures >= 1.0, "{metrics:?}");
    assert_eq!(state, 0.0);
}

#[test]
fn a_disk_that_gives_no_answer_is_not_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let library = preload("disk", folder.path());
    let control = folder.path().join("faults");
    let faults = Control::new(&control, "");
    let config = watched(&head_at(folder.path(), &format!("mqtt://127.0.0.1:{}", free_port())))
        + &simulated(1, 1, "100ms");
    let file = folder.path().join("buffer.db");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("DISK_MATCH", file.to_str().unwrap()),
        ("DISK_FAULT", control.to_str().unwrap()),
    ];
    let mut gateway = Gateway::run_with(folder.path(), &config, &environment);
    let watch = Watch::of(gateway.process());
    let healthy = watch.get("/healthz");
    assert_eq!((&healthy["code"], &healthy["body"]), (&json!(200), &json!("ok\n")));
    faults.set("fsync delay 25000");
    let reason = watch.wait_at("/healthz", "503", |answer| {
        (answer["code"] == 503).then(|| answer["body"].as_str().unwrap().to_owned())
    });
    assert!(reason.starts_with("the disk gives no answer since 1"), "{reason}");
    let polls = || watch.metrics().of("fieldgate_polls_total", "device=device-0,result=good");
    let before = polls();
    faults.set("");
    watch.wait_at("/healthz", "200", |answer| Some(()).filter(|()| answer["code"] == 200));
    assert!(polls() > before);
}

#[test]
fn the_end_of_our_certificate_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("own");
    let paper = authority.issue("gateway", Kind::Ending(20));
    // A broker that says nothing: the certificate is known before it is shown.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtts://{}", silent.local_addr().unwrap());
    let tls = format!(
        "[mqtt.tls]\ncert = \"{}\"\nkey = \"{}\"\nverify = \"ca\"\ninsecure = true\n",
        paper.cert.display(),
        paper.key.display()
    );
    let config = watched(&head_at(folder.path(), &url)) + &tls + &simulated(1, 1, "1s");
    let mut gateway = Gateway::run(folder.path(), &config);
    let watch = Watch::of(gateway.process());
    let name = "fieldgate_mqtt_certificate_expiry_seconds";
    let end = watch.wait("the end of the certificate", |metrics| metrics.get(name, ""));
    let arguments = ["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"];
    let output = Command::new(program("openssl")).args(arguments).arg(&paper.cert).output().unwrap();
    let date = String::from_utf8(output.stdout).unwrap().trim().replace("notAfter=", "").replace(' ', "T");
    let millis = Timestamp::parse(&date).unwrap().millis();
    assert_eq!(end, f64::from(i32::try_from(millis / 1000).unwrap()), "{date}");
    let metrics = watch.metrics();
    assert_eq!(metrics.of("fieldgate_mqtt_insecure", "choice=any-host"), 1.0);
    assert_eq!(metrics.of("fieldgate_mqtt_insecure", "choice=plain"), 0.0);
}

#[test]
fn a_port_that_is_taken_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let config = head(folder.path(), &broker).replace("\"off\"", &format!("\"{address}\""))
        + &simulated(1, 1, "100ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    let line = gateway.process().wait_line("another program has this port", LIMIT);
    assert!(line.contains("WARN") && line.contains(&address.to_string()), "{line}");
    watcher.wait_json("fieldgate/g/device-0/readings", "a reading", |_| true);
    drop(other);
    let watch = Watch::of(gateway.process());
    assert_eq!(watch.address(), address.to_string());
    assert_eq!(watch.get("/healthz")["code"], 200);
}

#[test]
fn nothing_listens_where_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker) + &simulated(1, 1, "100ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    watcher.wait_json("fieldgate/g/device-0/readings", "a reading", |_| true);
    assert_eq!(listening(gateway.process().pid()), Vec::<String>::new());
    drop(gateway);
    let folder = tempfile::tempdir().unwrap();
    let config = watched(&head(folder.path(), &broker)) + &simulated(1, 1, "100ms");
    let mut gateway = Gateway::run(folder.path(), &config);
    let watch = Watch::of(gateway.process());
    // The test itself can see.
    let port = format!("0100007F:{:04X}", watch.port());
    assert!(listening(gateway.process().pid()).contains(&port));
}

/// Where a process listens, as the kernel writes it.
fn listening(pid: u32) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links =
        files.filter_map(|file| Some(fs::read_link(file.path()).ok()?.to_string_lossy().into_owned()));
    let sockets: Vec<String> = links.filter(|link| link.starts_with("socket:")).collect();
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = rows.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let own = fields.filter(|field| field[3] == "0A" && sockets.contains(&format!("socket:[{}]", field[9])));
    own.map(|field| field[1].to_owned()).collect()
}
