//! The section `[mqtt]`.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::file::{self, Dict, Value};
use super::links::parse_host;
use super::secret::{self, Secret, WAYS};
use super::table::Table;
use super::{MqttConfig, Version};

/// Port of MQTT over plain TCP, as IANA has it.
const PORT: u16 = 1883;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Longest time that fits into MQTT's four bytes of seconds (MQTT 5, 3.1.2.11.2 and 3.3.2.3.3).
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Longest prefix and client id, in bytes: with device and point behind it a topic stays far below 65535.
const LONGEST_TEXT: usize = 1024;

pub(super) fn read(mut table: Table, gateway: &str) -> Option<MqttConfig> {
    let server = url(&mut table);
    let versions = [("3.1", Version::V31), ("3.1.1", Version::V311), ("5", Version::V5)];
    let version = table.choice("version", &versions);
    if version.is_none() {
        table.note("version", "5".into());
    }
    let version = version.unwrap_or_default();
    let client_id = client_id(&mut table, gateway);
    if version == Version::V31 && client_id.len() > 23 {
        let text =
            "the client id is longer than the 23 characters that MQTT 3.1 allows; brokers may refuse it";
        table.reader.warn(text);
    }
    let username = table.text("username");
    let password = password(&mut table);
    if password.is_some() && username.is_none() && version != Version::V5 {
        let help = "set mqtt.username, or use version \"5\", which allows a password alone";
        table.fault("password", "{key} needs a username before MQTT 5", help);
    }

    let keep_alive = table.duration("keep_alive", SECOND..=SECOND * u32::from(u16::MAX), SECOND * 30);
    if keep_alive.subsec_nanos() != 0 {
        table.fault("keep_alive", "{key} must be whole seconds", "write a duration such as \"30s\"");
    }
    let clean_start = table.flag("clean_start", false);
    for key in ["session_expiry", "message_expiry"] {
        if version != Version::V5 && table.has(key) {
            table.reader.warn(format!("{} has no effect before MQTT 5", table.name(key)));
        }
    }
    let session_expiry = table.duration("session_expiry", Duration::ZERO..=LONGEST, DAY * 7);
    let connect_timeout = table.duration("connect_timeout", SECOND / 10..=SECOND * 600, SECOND * 10);
    let (reconnect_min, reconnect_max) = reconnect(&mut table);
    let qos = table.whole("qos", 0..=2_u8).unwrap_or(1);
    table.note("qos", qos.into());
    if qos == 0 {
        table
            .reader
            .warn("mqtt.qos = 0: the broker acknowledges nothing, so readings may be lost on the way");
    }
    let max_inflight = table.whole("max_inflight", 1..=1000_u16).unwrap_or(64);
    table.note("max_inflight", max_inflight.into());
    let message_expiry = table.duration("message_expiry", SECOND..=LONGEST, DAY * 30);
    let prefix = prefix(&mut table, gateway);
    if table.choice("layout", &[("device", ())]).is_none() {
        table.note("layout", "device".into());
    }

    let Some((host, port)) = server else {
        table.finish();
        return None;
    };
    if !is_loopback(&host) {
        table.reader.warn(format!(
            "mqtt.url is plain MQTT to {host}: everybody on the way can read and change the messages, and read the password"
        ));
    }
    table.finish();
    Some(MqttConfig {
        host,
        port,
        version,
        client_id,
        username,
        password,
        keep_alive,
        clean_start,
        session_expiry,
        connect_timeout,
        reconnect_min,
        reconnect_max,
        qos,
        max_inflight,
        message_expiry: (version == Version::V5).then_some(message_expiry),
        prefix,
    })
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The broker's host and port. The text is never shown: people write passwords into it.
fn url(table: &mut Table) -> Option<(String, u16)> {
    const HELP: &str = "write \"mqtt://host\" or \"mqtt://host:port\"";
    if !table.has("url") {
        if !table.has("urls") {
            table.fault("url", "{key} is missing", HELP);
        }
        return None;
    }
    let text = table.any_text("url")?;
    if text.contains('@') {
        let help = format!("set mqtt.username; as for the password, {WAYS}");
        table.fault("url", "{key} must not hold a user name or password", help);
        return None;
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        table.fault("url", "{key} has no scheme", HELP);
        return None;
    };
    let scheme = scheme.to_ascii_lowercase();
    if ["mqtts", "ws", "wss"].contains(&scheme.as_str()) {
        let what = format!("{{key}} has the scheme {scheme}, which is not in this version yet");
        table.fault("url", &what, "use mqtt:// to a broker or bridge on a network you trust");
        return None;
    }
    if scheme != "mqtt" {
        table.fault("url", "{key} has a scheme that is not known", HELP);
        return None;
    }
    let server = parse_host(rest.strip_suffix('/').unwrap_or(rest), Some(PORT));
    let Some((host, port)) = server else {
        table.fault("url", "{key} does not name a host, with or without a port", HELP);
        return None;
    };
    table.note("url", text.as_str().into());
    Some((host, port))
}

/// In a client id; filled in when the gateway starts.
const RANDOM: &str = "{random}";

fn client_id(table: &mut Table, gateway: &str) -> String {
    let given = table.text("client_id");
    let text = given.as_deref().unwrap_or("fieldgate-{gateway}");
    let id = fill(table, "client_id", text, gateway);
    if id.is_empty() || id.len() > LONGEST_TEXT || id.chars().any(char::is_control) {
        let help = "write 1 to 1024 characters, none of them a control character";
        table.fault("client_id", "{key} is not a client id", help);
    }
    id
}

/// The first part of every topic, `{gateway}` filled in.
pub(super) fn prefix(table: &mut Table, gateway: &str) -> String {
    let given = table.text("prefix");
    let prefix = fill(table, "prefix", given.as_deref().unwrap_or("fieldgate/{gateway}"), gateway);
    let wrong = if prefix.is_empty() {
        Some("is empty")
    } else if prefix.contains(['+', '#']) {
        Some("holds a wildcard, + or #")
    } else if prefix.starts_with('$') {
        Some("begins with $, which belongs to the broker")
    } else if prefix.ends_with('/') {
        Some("ends in /, which would make an empty level")
    } else if prefix.chars().any(char::is_control) {
        Some("holds a control character")
    } else if prefix.len() > LONGEST_TEXT {
        Some("is longer than 1024 bytes")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let help = "write topic levels such as \"fieldgate/{gateway}\"";
        table.fault("prefix", &format!("{{key}} {wrong}"), help);
    }
    prefix
}

/// Puts the gateway's id into a text; other braces are mistakes.
fn fill(table: &Table, key: &str, text: &str, gateway: &str) -> String {
    let filled = text.replace("{gateway}", gateway);
    let known = if key == "client_id" { filled.replace(RANDOM, "") } else { filled.clone() };
    if known.contains(['{', '}']) {
        let help = "{gateway} is known everywhere, {random} in client_id alone";
        table.fault(key, "{key} holds a placeholder that is not known", help);
    }
    table.note(key, filled.as_str().into());
    filled
}

fn reconnect(table: &mut Table) -> (Duration, Duration) {
    let (least, most) = (SECOND, SECOND * 60);
    let mut inner = table.table("reconnect").unwrap_or_else(|| table.empty("reconnect"));
    let range = SECOND / 10..=SECOND * 3600;
    let min = inner.duration("min", range.clone(), least);
    let max = inner.duration("max", range, most.max(min));
    if min > max {
        inner.fault("min", "{key} is greater than mqtt.reconnect.max", "make min the smaller of the two");
    }
    inner.finish();
    (min, max)
}

/// The password. Whatever is wrong with it, its value is not shown.
fn password(table: &mut Table) -> Option<Secret> {
    let key = "password";
    let (value, environment) = table.take_unmerged(key)?;
    let parsed = value.as_str().filter(|_| environment).and_then(file::parse_value);
    let Value::Dict(_, ways) = parsed.unwrap_or(value) else {
        table.fault(key, "{key} must not be written literally", WAYS);
        return None;
    };
    let secret = match one_way(&ways) {
        Some(("file", path)) => secret::from_file(Path::new(path)),
        Some(("credential", name)) => secret::from_credential(name, table.reader.environment),
        Some(("env", name)) => secret::from_env(name, table.reader.environment),
        _ => {
            table.fault(key, "{key} must name exactly one place", WAYS);
            return None;
        }
    };
    table.note(key, "***".into());
    match secret {
        Ok(secret) => Some(secret),
        Err(fault) => {
            table.fault(key, &format!("{{key}} {}", fault.what), fault.help);
            None
        }
    }
}

fn one_way(ways: &Dict) -> Option<(&str, &str)> {
    let mut ways = ways.iter();
    match (ways.next(), ways.next()) {
        (Some((way, value)), None) => Some((way, value.as_str()?)),
        _ => None,
    }
}
