//! `fieldgate status` asks the running gateway over `web.listen` and prints what it says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{
    Broker, Gateway, LIMIT, ModbusPeer, Subscriber, boiler_device, boiler_units, fieldgate, free_port, head,
};

const TOKEN: &str = "canary-7c1e55d09b42";

/// Exit code, stdout, stderr.
fn status(file: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = fieldgate();
    command.arg("status").arg("--config").arg(file).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let told = (status.code().unwrap(), text(stdout), text(stderr));
    assert!(!told.1.contains(TOKEN) && !told.2.contains(TOKEN), "{told:?}");
    told
}

#[test]
fn links_devices_buffer_and_uplink_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, boiler) = (Broker::start(), ModbusPeer::tcp(&boiler_units()));
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let secret = folder.path().join("token");
    fs::write(&secret, TOKEN).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let port = free_port();
    let web = format!("listen = \"0.0.0.0:{port}\"\ntoken = {{ file = \"{}\" }}", secret.display());
    let config = head(folder.path(), &broker).replace("listen = \"off\"", &web)
        + &boiler_device(&boiler.address, "200ms")
            .replace("[links.plc]", "[links.plc]\nlabel = \"Hall\"\ntags = { floor = 2, \"a b\" = [true] }")
        + "[links.bus]\ndriver = \"modbus-rtu-tcp\"\naddress = \"127.0.0.1:1\"\n\
           [devices.all]\nlink = \"bus\"\naddress = 0\n\
           points.reset = { address = \"holding:9\", type = \"u16\", writable = true }\n";
    let mut gateway = Gateway::run(folder.path(), &config);
    for device in ["boiler", "chimney"] {
        let topic = format!("fieldgate/g/{device}/readings");
        watcher.wait_json(&topic, "a reading", |_| true);
    }
    let file = folder.path().join("fieldgate.toml");
    let (code, shown, complaint) = status(&file, &[]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{shown}");
    for part in [
        "gateway g: version ",
        "  plc (Hall)           online ",
        "  boiler               online",
        "  chimney              degraded  gone: exception-2; since ",
        // It stands for every unit of its bus, so nobody answers for it.
        "  all                  never polled: all units\n",
        &format!("uplink: connected to 127.0.0.1:{} as fieldgate-g since ", broker.port),
        "insecure: plain",
        "buffer: ",
    ] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    let (code, shown, _) = status(&file, &["--json"]);
    let all: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &all["gateway"]["id"], &all["format"]), (0, &json!("g"), &json!(1)));
    let plc = &all["links"]["plc"];
    assert_eq!((&plc["label"], &plc["tags"]), (&json!("Hall"), &json!({"floor": 2, "a b": [true]})));

    // Who asks needs nothing of the configuration but `[web]`: not the secrets of the gateway.
    let other = folder.path().join("other.toml");
    let mqtt = "[mqtt]\nurl = \"mqtt://broker\"\nusername = \"u\"\npassword = { file = \"/nonexistent\" }\n";
    fs::write(&other, format!("[web]\n{web}\n{mqtt}")).unwrap();
    assert_eq!(status(&other, &[]).0, 0);

    let wrong = folder.path().join("wrong.toml");
    fs::write(&wrong, format!("[web]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
    let (code, _, complaint) = status(&wrong, &[]);
    assert!(code == 1 && complaint.contains("401") && complaint.contains("web.token"), "{complaint}");

    broker.stop();
    gateway.process().wait_line("no broker; readings wait", LIMIT);
    let (code, shown, _) = status(&file, &[]);
    assert!(code == 0 && shown.contains("uplink: no broker; readings wait in the buffer: "), "{shown}");
    let (_, shown, _) = status(&file, &["--json"]);
    let all: Value = serde_json::from_str(&shown).unwrap();
    assert!(all["uplink"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{all}");

    assert!(gateway.stop().success());
    let (code, shown, complaint) = status(&file, &[]);
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(complaint.contains(&format!("no gateway answers at 127.0.0.1:{port}")), "{complaint}");
}

#[test]
fn where_nothing_listens_it_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    for (web, code, part) in [
        ("listen = \"off\"", 1, "web.listen is \"off\""),
        ("listen = \"127.0.0.1:0\"", 1, "port 0"),
        ("listen = \"nowhere\"", 78, "web.listen is not an address"),
        ("listen = \"0.0.0.0:1\"", 78, "without a token"),
    ] {
        fs::write(&file, format!("[web]\n{web}\n")).unwrap();
        let (exit, _, complaint) = status(&file, &[]);
        assert!(exit == code && complaint.contains(part), "{exit}: {complaint}");
    }
    // Something else may have the port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = listener.accept().unwrap().0;
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().is_empty()).unwrap().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
    });
    fs::write(&file, format!("[web]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
    let (exit, _, complaint) = status(&file, &[]);
    assert!(exit == 1 && complaint.contains("nothing in HTTP"), "{exit}: {complaint}");
    other.join().unwrap();
}
