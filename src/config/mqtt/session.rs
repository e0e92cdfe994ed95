//! Who we are at the broker, and how long a connection lasts.

use std::time::Duration;

use super::topic::fill;
use super::{AuthConfig, LONGEST_TEXT, SECOND, Version};
use crate::config::secret::{Form, Source};
use crate::config::table::Table;

/// Longest client id, in bytes.
const LONGEST_ID: usize = 1024;

/// In a client id; filled in when the gateway starts.
const RANDOM: &str = "{random}";

pub(super) fn version(table: &mut Table) -> Version {
    let versions = [("3.1", Version::V31), ("3.1.1", Version::V311), ("5", Version::V5)];
    let version = table.choice("version", &versions);
    if version.is_none() {
        table.note("version", "5".into());
    }
    version.unwrap_or_default()
}

pub(super) fn client_id(table: &mut Table, gateway: &str, version: Version, clean_start: bool) -> String {
    let given = table.text("client_id");
    let text = given.as_deref().unwrap_or("fieldgate-{gateway}");
    let Some(id) = fill(table, "client_id", text, &[("{gateway}", gateway)], &[RANDOM]) else {
        return String::new();
    };
    if id.is_empty() {
        if version == Version::V5 || (version == Version::V311 && clean_start) {
            table.reader.warn(
                "mqtt.client_id is empty: the broker gives one at each start, and what it kept for the last is lost",
            );
        } else {
            let help = "write one, or use version \"5\", or \"3.1.1\" with clean_start = true";
            table.fault("client_id", "{key} must not be empty here", help);
        }
    } else if id.len() > LONGEST_ID || id.chars().any(char::is_control) {
        let help = "write 1 to 1024 characters, none of them a control character";
        table.fault("client_id", "{key} is not a client id", help);
    }
    // As long as what it is filled with.
    if version == Version::V31 && id.replace(RANDOM, "0123456789").len() > 23 {
        let text =
            "the client id is longer than the 23 characters that MQTT 3.1 allows; brokers may refuse it";
        table.reader.warn(text);
    }
    id
}

/// User name and password.
pub(super) fn credentials(table: &mut Table, version: Version) -> (Option<String>, Option<Source>) {
    let username = table.text("username");
    if username.as_ref().is_some_and(|name| name.len() > LONGEST_TEXT) {
        table.fault("username", "{key} is longer than 65535 bytes", "write the name that the broker knows");
    }
    let password = table.secret("password", Form::Bytes);
    if password.is_some() && username.is_none() && version != Version::V5 {
        let help = "set mqtt.username, or use version \"5\", which allows a password alone";
        table.fault("password", "{key} needs a username before MQTT 5", help);
    }
    (username, password)
}

pub(super) fn auth(table: &mut Table) -> Option<AuthConfig> {
    let mut inner = table.table("auth")?;
    if !inner.has("method") {
        inner.fault("method", "{key} is missing", "write the name of the method, such as \"SAS\"");
    }
    let method = inner.line("method", LONGEST_TEXT);
    let data = inner.secret("data", Form::Bytes);
    inner.finish();
    Some(AuthConfig { method: method?, data })
}

pub(super) fn keep_alive(table: &mut Table) -> Duration {
    let keep_alive = table.duration("keep_alive", SECOND..=SECOND * u32::from(u16::MAX), SECOND * 30);
    if keep_alive.subsec_nanos() != 0 {
        table.fault("keep_alive", "{key} must be whole seconds", "write a duration such as \"30s\"");
    }
    keep_alive
}

/// Shortest and longest wait.
pub(super) fn reconnect(table: &mut Table) -> (Duration, Duration) {
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
