//! The proxy: `proxy`, `proxy_username`, `proxy_password`.

use super::ProxyConfig;
use super::url::is_loopback;
use crate::config::links::parse_host;
use crate::config::secret::{Form, WAYS};
use crate::config::table::Table;
use crate::config::text::wrong_line;

/// Port of HTTP, as in every address of that scheme.
const PORT: u16 = 80;

const HELP: &str = "write \"http://host:port\"";

pub(super) fn read(table: &mut Table) -> Option<ProxyConfig> {
    let given = table.has("proxy");
    let place = table.any_text("proxy").and_then(|text| place(table, &text));
    let username = table.text("proxy_username");
    let password = table.secret("proxy_password", Form::Text);
    if !given {
        for key in ["proxy_username", "proxy_password"] {
            if table.was_given(key) {
                table.fault(key, "{key} goes with mqtt.proxy only", "set mqtt.proxy, or remove it");
            }
        }
        return None;
    }
    let wrong = match &username {
        Some(name) if name.contains(':') => Some("holds a colon, which ends a user name in HTTP"),
        Some(name) => wrong_line(name, 1024),
        None => None,
    };
    if let Some(wrong) = wrong {
        table.fault("proxy_username", &format!("{{key}} {wrong}"), "write the name that the proxy knows");
    }
    if table.was_given("proxy_password") && !table.was_given("proxy_username") {
        table.fault("proxy_password", "{key} needs a username", "set mqtt.proxy_username");
    }
    let (host, port) = place?;
    if password.is_some() && !is_loopback(&host) {
        table.reader.warn(format!(
            "mqtt.proxy_password goes to {host} in plain text: everybody on the way to the proxy can read it"
        ));
    }
    Some(ProxyConfig { host, port, username, password })
}

/// Host and port. The text is never shown: people write passwords into it.
fn place(table: &Table, text: &str) -> Option<(String, u16)> {
    if text.contains('@') {
        let help = format!("set mqtt.proxy_username; as for mqtt.proxy_password, {WAYS}");
        table.fault("proxy", "{key} must not hold a user name or password", help);
        return None;
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        table.fault("proxy", "{key} has no scheme", HELP);
        return None;
    };
    if !scheme.eq_ignore_ascii_case("http") {
        table.fault("proxy", "{key} has another scheme than http", HELP);
        return None;
    }
    let place = parse_host(rest.strip_suffix('/').unwrap_or(rest), Some(PORT));
    if place.is_none() {
        table.fault("proxy", "{key} does not name a host, with or without a port", HELP);
    }
    table.note("proxy", text.into());
    place
}
