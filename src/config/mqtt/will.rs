//! The table `[mqtt.will]`.

use std::time::Duration;

use super::topic::{fill, is_heard, wrong_topic};
use super::{LONGEST, LONGEST_TEXT, SECOND, Version, WillConfig};
use crate::config::table::Table;

/// The will, if it is another than the built-in one.
pub(super) fn read(table: &mut Table, prefix: &str, gateway: &str, version: Version) -> Option<WillConfig> {
    let mut inner = table.table("will")?;
    let topic = topic(&mut inner, prefix, gateway);
    if !inner.has("payload") {
        inner.fault("payload", "{key} is missing", "write what the broker says for us, such as \"gone\"");
    }
    let payload = inner.any_text("payload");
    if let Some(payload) = &payload {
        inner.note("payload", payload.as_str().into());
        if payload.len() > LONGEST_TEXT {
            inner.fault("payload", "{key} is longer than 65535 bytes", "write a shorter one");
        }
    }
    let qos = inner.whole("qos", 0..=2_u8).unwrap_or(1);
    inner.note("qos", qos.into());
    let retain = inner.flag("retain", false);
    for key in ["delay", "expiry"] {
        if version != Version::V5 && inner.has(key) {
            inner.reader.warn(format!("{} has no effect before MQTT 5", inner.name(key)));
        }
    }
    let delay = time(&mut inner, "delay", Duration::ZERO);
    let expiry = time(&mut inner, "expiry", SECOND);
    inner.finish();
    let topic = topic?;
    if !retain || topic != format!("{prefix}/status") {
        table.reader.warn(format!(
            "mqtt.will replaces the last will: after a crash or a cut {prefix}/status goes on saying online"
        ));
    }
    Some(WillConfig { topic, payload: payload?, qos, retain, delay, expiry })
}

fn topic(table: &mut Table, prefix: &str, gateway: &str) -> Option<String> {
    const HELP: &str = "write topic levels such as \"{prefix}/status\"";
    if !table.has("topic") {
        table.fault("topic", "{key} is missing", HELP);
    }
    let text = table.text("topic")?;
    let topic = fill(table, "topic", &text, &[("{prefix}", prefix), ("{gateway}", gateway)], &[])?;
    if let Some(wrong) = wrong_topic(&topic) {
        table.fault("topic", &format!("{{key}} {wrong}"), HELP);
    } else if is_heard(prefix, &topic) {
        table.fault("topic", "{key} is a topic that the gateway itself listens to", HELP);
    }
    Some(topic)
}

fn time(table: &mut Table, key: &'static str, least: Duration) -> Option<Duration> {
    let given = table.has(key);
    if !given {
        table.forget(&[key]);
    }
    given.then(|| table.duration(key, least..=LONGEST, least))
}
