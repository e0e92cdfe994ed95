//! Headers of the WebSocket's opening request: `ws_headers`.

use super::Scheme;
use crate::config::file::{self, Value};
use crate::config::secret::{Form, Source, WAYS};
use crate::config::table::Table;

/// Most headers, and their longest name or value in bytes: what web servers take.
const MOST: usize = 32;
const LONGEST: usize = 8 << 10;

/// What the opening request has of its own (RFC 6455, 4.1; RFC 9110, 7).
const OWN: [&str; 6] =
    ["host", "connection", "upgrade", "content-length", "transfer-encoding", "proxy-authorization"];

/// Headers that hold nothing but a secret.
const SECRET: [&str; 2] = ["authorization", "cookie"];

/// Name and value of each. A value may be a secret, so none is shown.
pub(super) fn read(table: &mut Table, scheme: Option<Scheme>) -> Vec<(String, Source)> {
    if scheme.is_some_and(|scheme| !scheme.is_websocket()) && table.has("ws_headers") {
        table.fault("ws_headers", "{key} goes with ws and wss only", "remove it, or change mqtt.url");
    }
    let Some(mut inner) = table.table("ws_headers") else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, value) in inner.drain() {
        if let Some(what) = wrong_name(&name) {
            inner.fault(&name, &format!("{{key}} {what}"), "write the name of a header, such as Origin");
            continue;
        }
        let value = inner.unmerged(&name, value);
        let parsed = value.as_str().filter(|_| inner.is_variable(&name)).and_then(file::parse_value);
        let source = match (parsed, value) {
            (Some(Value::Dict(_, ways)), _) | (_, Value::Dict(_, ways)) => {
                inner.secret_by(&name, &ways, Form::Text)
            }
            (_, Value::String(_, text)) if !SECRET.contains(&name.to_ascii_lowercase().as_str()) => {
                inner.note(&name, "***".into());
                Some(Source::literal(inner.name(&name), text))
            }
            (_, Value::String(..)) => {
                inner.fault(&name, "{key} must not be written literally", WAYS);
                None
            }
            (_, other) => {
                inner.wrong_type(&name, "text or a secret", &other, "put it in quotes");
                None
            }
        };
        let Some(source) = source else { continue };
        // RFC 9110, 5.5: what every server takes.
        let visible = |b: &u8| b.is_ascii_graphic() || *b == b' ';
        let fits = source.read().is_ok_and(|value| {
            let value = value.expose();
            value.len() <= LONGEST && value.iter().all(visible) && value.trim_ascii() == value
        });
        if !fits {
            let help = "write at most 8192 visible ASCII characters, no blank at either end";
            inner.fault(&name, "{key} does not fit into a header", help);
        }
        headers.push((name, source));
    }
    if headers.len() > MOST {
        table.fault("ws_headers", &format!("{{key}} has more than {MOST} entries"), "remove some");
    }
    headers
}

fn wrong_name(name: &str) -> Option<&'static str> {
    // RFC 9110, 5.6.2.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(token) {
        return Some("is no name of a header");
    }
    let name = name.to_ascii_lowercase();
    let own = OWN.contains(&name.as_str()) || name.starts_with("sec-websocket-");
    own.then_some("is a header that fieldgate sets by itself")
}
