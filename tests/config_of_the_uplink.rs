//! Every key of `[mqtt]`: what it becomes, what it defaults to, and what `check` warns of.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use fieldgate::config::{
    Config, ConfigError, Effective, Environment, Identity, Layout, MqttConfig, Scheme, Verify, load_with,
};
use fieldgate::point::{DeviceId, LinkId, PointId};

const DEVICES: &str = "
[links.sim]
driver = 'simulator'
[devices.a]
link = 'sim'
points.p = { address = 'sine', type = 'f64' }
[devices.b]
link = 'sim'
points.p = { address = 'sine', type = 'f64' }
";

fn load(mqtt: &str, variables: &[(&str, &str)]) -> Result<(Config, Effective), ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.toml");
    fs::write(&file, format!("[gateway]\nid = 'g'\n[mqtt]\n{mqtt}\n{DEVICES}")).unwrap();
    let environment: Environment =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    load_with(&[file], &environment)
}

fn good(mqtt: &str) -> (MqttConfig, Vec<String>) {
    let (config, _) =
        load(mqtt, &[("PW", "from the environment")]).unwrap_or_else(|error| panic!("{mqtt}\n{error}"));
    (config.mqtt, config.warnings)
}

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_not_said_has_its_default() {
    let (mqtt, warnings) = good("url = 'mqtts://broker'");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((mqtt.scheme, mqtt.servers[0].to_string()), (Scheme::Mqtts, "broker:8883".to_owned()));
    let tls = mqtt.tls.as_ref().unwrap();
    assert_eq!((tls.verify, tls.only_1_3), (Verify::Full, false));
    assert!(tls.ca.is_none() && tls.identity.is_none() && tls.alpn.is_empty() && tls.ciphers.is_none());
    assert_eq!(mqtt.insecure(), None);
    assert!(mqtt.proxy.is_none() && mqtt.ws_headers.is_empty() && mqtt.auth.is_none() && mqtt.will.is_none());
    assert!(mqtt.connect_user_properties.is_empty() && mqtt.user_properties.is_empty());
    assert_eq!((mqtt.receive_maximum, mqtt.max_packet_size), (100, 256 << 10));
    assert_eq!((mqtt.content_type, mqtt.payload_format), (None, None));
    assert_eq!((mqtt.layout, mqtt.topic.as_str()), (Layout::Device, "fieldgate/g/{device}/readings"));
    assert_eq!((mqtt.retain_readings, mqtt.shared_subscription), (false, None));
    assert_eq!(good("url = 'mqtt://broker'").0.insecure(), Some("plain"));
}

#[test]
fn every_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, mode) in [("ca.pem", 0o644), ("cert.pem", 0o644), ("key.pem", 0o640)] {
        write(Path::new(&path(name)), b"x", mode);
    }
    let (mqtt, warnings) = good(&format!(
        "urls = ['wss://one.example/a?token=t', 'wss://[::1]:9443']
        proxy = 'http://127.0.0.1:3128/'
        proxy_username = 'proxy user'
        proxy_password = {{ env = 'PW' }}
        ws_headers = {{ Authorization = {{ env = 'PW' }}, Origin = 'https://example.org' }}
        client_id = 'c-{{gateway}}-{{random}}'
        username = 'u'
        password = {{ env = 'PW' }}
        auth = {{ method = 'SAS', data = {{ env = 'PW' }} }}
        connect_user_properties = {{ host = 'h', api-version = '' }}
        user_properties = {{ site = 'Höhe 7' }}
        receive_maximum = 65535
        max_packet_size = '1MiB'
        content_type = 'application/json'
        payload_format = 'utf8'
        prefix = 'x/{{gateway}}'
        layout = 'point'
        topic = '{{gateway}}/{{link}}/{{device}}'
        retain_readings = true
        shared_subscription = 'group 1'
        [mqtt.tls]
        ca = '{}'
        cert = '{}'
        key = '{}'
        key_password = {{ env = 'PW' }}
        alpn = ['x-amzn-mqtt-ca', 'mqtt']
        ciphers = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'
        min_version = '1.3'
        [mqtt.will]
        topic = '{{prefix}}/status'
        payload = '{{\"state\":\"offline\"}}'
        qos = 2
        retain = true
        delay = '30s'
        expiry = '1h'",
        path("ca.pem"),
        path("cert.pem"),
        path("key.pem"),
    ));
    assert_eq!(warnings, Vec::<String>::new());
    let servers: Vec<_> = mqtt.servers.iter().map(|server| format!("{server} {}", server.path)).collect();
    assert_eq!(servers, ["one.example:443 /a?token=t", "[::1]:9443 /mqtt"]);
    let proxy = mqtt.proxy.as_ref().unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port), ("127.0.0.1", 3128));
    assert_eq!(proxy.username.as_deref(), Some("proxy user"));
    let headers = mqtt.ws_headers.iter().map(|(name, value)| (name.as_str(), value.read().unwrap()));
    let headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {}", value.text().unwrap())).collect();
    assert_eq!(headers, ["Authorization: from the environment", "Origin: https://example.org"]);
    assert_eq!(mqtt.client_id, "c-g-{random}");
    let auth = mqtt.auth.as_ref().unwrap();
    assert_eq!(auth.method, "SAS");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(mqtt.connect_user_properties, [pair("api-version", ""), pair("host", "h")]);
    assert_eq!(mqtt.user_properties, [pair("site", "Höhe 7")]);
    assert_eq!((mqtt.receive_maximum, mqtt.max_packet_size), (65535, 1 << 20));
    assert_eq!((mqtt.content_type.as_deref(), mqtt.payload_format), (Some("application/json"), Some(true)));
    assert_eq!((mqtt.layout, mqtt.topic.as_str()), (Layout::Point, "g/{link}/{device}/{point}"));
    assert!(mqtt.retain_readings);
    assert_eq!(mqtt.shared_subscription.as_deref(), Some("group 1"));
    let tls = mqtt.tls.as_ref().unwrap();
    assert_eq!((tls.ca.clone(), tls.only_1_3), (Some(path("ca.pem").into()), true));
    assert_eq!(tls.alpn, ["x-amzn-mqtt-ca", "mqtt"]);
    assert_eq!(tls.ciphers.as_deref(), Some("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"));
    assert!(
        matches!(&tls.identity, Some(Identity::Pem { cert, password: Some(_), .. }) if cert.ends_with("cert.pem"))
    );
    let will = mqtt.will.as_ref().unwrap();
    assert_eq!((will.topic.as_str(), will.payload.as_str()), ("x/g/status", "{\"state\":\"offline\"}"));
    assert_eq!((will.qos, will.retain), (2, true));
    let seconds = Duration::from_secs;
    assert_eq!((will.delay, will.expiry), (Some(seconds(30)), Some(seconds(3600))));
    let (link, device) = (LinkId::new("sim").unwrap(), DeviceId::new("a").unwrap());
    assert_eq!(mqtt.readings_topic(&link, &device, PointId::new("p").as_ref()), "g/sim/a/p");
    let shown = format!("{mqtt:?}");
    assert!(!shown.contains("from the environment") && !shown.contains("token"), "{shown}");
}

#[test]
fn insecure_and_vain_choices_are_warned_of() {
    for (mqtt, wanted) in [
        ("url = 'mqtt://far'", "mqtt.url is plain MQTT to far"),
        ("urls = ['ws://far', 'ws://127.0.0.1', 'ws://x']", "mqtt.urls is a plain WebSocket to far, x"),
        (
            "url = 'mqtts://far'\ntls = { verify = 'none', insecure = true }",
            "mqtt.tls.verify = \"none\": everybody",
        ),
        ("url = 'wss://far'\ntls = { verify = 'ca', insecure = true }", "mqtt.tls.verify = \"ca\": whoever"),
        ("url = 'wss://far'\ntls.insecure = true", "mqtt.tls.insecure has no effect"),
        (
            "url = 'wss://far'\ntls = { ciphers = 'ECDHE+AESGCM:!aNULL', min_version = '1.3' }",
            "mqtt.tls.ciphers has no effect",
        ),
        (
            "url = 'mqtt://[::1]'\nversion = '3.1'\nclient_id = 'fieldgate-012-{random}'",
            "the client id is longer than the 23 characters",
        ),
        (
            "url = 'wss://far'\nproxy = 'http://p'\nproxy_username = 'u'\nproxy_password = { env = 'PW' }",
            "mqtt.proxy_password goes to p in plain text",
        ),
        ("url = 'mqtt://[::1]'\nclient_id = ''", "mqtt.client_id is empty"),
        (
            "url = 'mqtt://[::1]'\nversion = '3.1.1'\nuser_properties.a = 'b'",
            "mqtt.user_properties has no effect",
        ),
        ("url = 'mqtt://[::1]'\nversion = '3.1.1'\nauth.method = 'b'", "mqtt.auth has no effect"),
        ("url = 'mqtt://[::1]'\nversion = '3.1'\nreceive_maximum = 5", "mqtt.receive_maximum has no effect"),
        (
            "url = 'mqtt://[::1]'\nversion = '3.1'\nshared_subscription = 'a'",
            "mqtt.shared_subscription is part",
        ),
        (
            "url = 'mqtt://[::1]'\nversion = '3.1.1'\n[mqtt.will]\ntopic = '{prefix}/status'\npayload = 'x'\n\
             retain = true\ndelay = '1s'",
            "mqtt.will.delay has no effect",
        ),
        (
            "url = 'mqtt://[::1]'\n[mqtt.will]\ntopic = '{prefix}/status'\npayload = 'x'",
            "mqtt.will replaces the last will: after a crash or a cut fieldgate/g/status goes on saying online",
        ),
        (
            "url = 'mqtt://[::1]'\n[mqtt.will]\ntopic = 'gone'\npayload = ''\nretain = true",
            "mqtt.will replaces the last will",
        ),
        ("url = 'mqtt://[::1]'\ntopic = '{prefix}/{link}'", "mqtt.topic is without {device}"),
    ] {
        let (_, warnings) = good(mqtt);
        assert_eq!(warnings.len(), 1, "{mqtt}: {warnings:?}");
        assert!(warnings[0].starts_with(wanted), "{mqtt}: {warnings:?}");
    }
    for quiet in [
        "url = 'ws://localhost'",
        "url = 'mqtts://far'\ntls = { ciphers = 'ECDHE+AESGCM:!aNULL' }",
        "url = 'mqtt://[::1]'\nversion = '3.1'\nclient_id = 'fieldgate-01-{random}'",
    ] {
        assert_eq!(good(quiet).1, Vec::<String>::new(), "{quiet}");
    }
    for (word, verify, shown) in [("ca", Verify::Ca, "any-host"), ("none", Verify::None, "unverified")] {
        let (mqtt, _) = good(&format!("url = 'wss://b'\ntls = {{ verify = '{word}', insecure = true }}"));
        assert_eq!((mqtt.tls.as_ref().map(|tls| tls.verify), mqtt.insecure()), (Some(verify), Some(shown)));
    }
}

#[test]
fn certificates_are_there_and_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let shown = file.display();
    write(&file, b"x", 0o600);
    let told = |tls: &str| {
        let loaded = load(&format!("url = 'mqtts://b'\ntls = {{ {tls} }}"), &[("PW", "hunter2")]);
        let faults = loaded.map_or_else(|error| error.faults, |_| Vec::new());
        faults.into_iter().map(|fault| fault.what).collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();
    assert_eq!(told(&format!("cert = '{shown}', key = '{shown}'")), none);
    assert_eq!(told(&format!("ca = '{}'", folder.path().display())), none, "a folder");
    assert_eq!(told(&format!("pkcs12 = '{shown}', key_password = {{ env = 'PW' }}")), none);
    let literal = told(&format!("pkcs12 = '{shown}', key_password = 'hunter2'"));
    assert_eq!(literal, ["mqtt.tls.key_password must not be written literally"]);
    let both = format!("pkcs12 = '{shown}', key = '{shown}'");
    assert_eq!(told(&both), ["mqtt.tls.pkcs12 excludes cert and key"]);
    for inline in ["hunter2", "-----BEGIN CERTIFICATE-----\\nhunter2"] {
        let inline = told(&format!("cert = \"{inline}\", key = '{shown}'"));
        assert_eq!(inline, ["mqtt.tls.cert does not name a file from the root"]);
    }
    assert_eq!(told(&format!("key = '{shown}'")), ["mqtt.tls.key needs its certificate"]);
    let folder_as_key = format!("cert = '{shown}', key = '{}'", folder.path().display());
    let no_file = format!("mqtt.tls.key names {}, which is no file", folder.path().display());
    assert_eq!(told(&folder_as_key), [no_file]);
    for mode in [0o644, 0o604, 0o620, 0o602] {
        write(&file, b"x", mode);
        let faults = told(&format!("cert = '{shown}', key = '{shown}'"));
        let wanted =
            format!("mqtt.tls.key names {shown}, which others can read, or others or its group can write");
        assert_eq!(faults, [wanted], "{mode:o}");
    }
}

#[test]
fn a_secret_is_read_again_and_may_be_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    write(&file, b"\0user\0first\n", 0o600);
    let way = format!("{{ file = '{}' }}", file.display());
    let (mqtt, _) =
        good(&format!("url = 'mqtts://b'\npassword = {way}\nauth = {{ method = 'PLAIN', data = {way} }}"));
    let (password, data) = (mqtt.password.unwrap(), mqtt.auth.unwrap().data.unwrap());
    assert_eq!(data.read().unwrap().expose(), b"\0user\0first\n");
    write(&file, b"second\r\n", 0o600);
    assert_eq!(data.read().unwrap().text(), Some("second"));
    assert_eq!(password.read().unwrap().text(), Some("second"));
    write(&file, b"third", 0o644);
    let told = data.read().unwrap_err();
    assert!(told.starts_with("mqtt.auth.data lies in ") && told.contains("; chmod 0640 "), "{told}");
    fs::remove_file(&file).unwrap();
    let told = password.read().unwrap_err();
    assert!(told.starts_with("mqtt.password cannot be read from ") && told.contains("; create "), "{told}");
}

#[test]
fn the_later_source_names_the_brokers_and_the_secrets() {
    let (config, effective) =
        load("urls = ['mqtt://a', 'mqtt://b']", &[("FIELDGATE_MQTT__URL", "mqtt://c")]).unwrap();
    assert_eq!(config.mqtt.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c:1883"]);
    assert_eq!(effective.to_json()["mqtt"].get("urls"), None);
    let variables = [
        ("FIELDGATE_MQTT__URLS", "['wss://d?token=hunter2', 'wss://e']"),
        ("FIELDGATE_MQTT__AUTH", "{ method = 'new', data = { env = 'NEW' } }"),
        ("FIELDGATE_MQTT__WS_HEADERS__AUTHORIZATION", "{ env = 'NEW' }"),
        ("OLD", "old"),
        ("NEW", "new"),
    ];
    let file = "url = 'mqtt://a'\nauth = { method = 'old', data = { env = 'OLD' } }\n\
                ws_headers.authorization = { env = 'OLD' }";
    let (config, effective) = load(file, &variables).unwrap();
    assert_eq!(config.mqtt.servers.len(), 2);
    let auth = config.mqtt.auth.unwrap();
    assert_eq!(auth.method, "new");
    assert_eq!(auth.data.unwrap().read().unwrap().text(), Some("new"));
    assert_eq!(config.mqtt.ws_headers[0].1.read().unwrap().text(), Some("new"));
    let shown = effective.to_json();
    assert_eq!(shown["mqtt"]["urls"][0], "wss://d?***");
    assert_eq!(
        (&shown["mqtt"]["auth"]["data"], &shown["mqtt"]["auth"]["method"]),
        (&"***".into(), &"new".into())
    );
    assert_eq!(shown["mqtt"]["ws_headers"]["authorization"], "***");
}
