//! The brokers: `url` or `urls`.

use std::fmt;
use std::net::IpAddr;

use super::{Scheme, Server};
use crate::config::links::parse_host;
use crate::config::secret::WAYS;
use crate::config::table::Table;

/// Most brokers: each may take `connect_timeout` before the round is over.
const MOST: usize = 16;

/// Longest path and query, in bytes.
const LONGEST_PATH: usize = 2048;

/// The path of MQTT on a WebSocket, by custom of the brokers.
const PATH: &str = "/mqtt";

const HELP: &str = "write \"mqtt://host\" or \"mqtts://host:8883\"; ws:// and wss:// take a path too";

impl Scheme {
    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "mqtt" => Some(Self::Mqtt),
            "mqtts" => Some(Self::Mqtts),
            "ws" => Some(Self::Ws),
            "wss" => Some(Self::Wss),
            _ => None,
        }
    }

    /// The ports as IANA has them.
    fn port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl fmt::Display for Server {
    /// Host and port as a person writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The one scheme and the brokers. Their texts are never shown: people write passwords into them.
pub(super) fn read(table: &mut Table) -> Option<(Scheme, Vec<Server>)> {
    let (url, urls) = (table.has("url"), table.has("urls"));
    let (source_of_url, source_of_urls) = (table.position("url").0, table.position("urls").0);
    if !url && !urls {
        table.fault("url", "{key} is missing", HELP);
    } else if url && urls && source_of_url == source_of_urls {
        let help = "put all brokers into mqtt.urls, or the only one into mqtt.url";
        table.fault("urls", "{key} and mqtt.url exclude one another", help);
        table.forget(&["url", "urls"]);
    }
    // They are one setting with two names: what comes later wins.
    let key = if urls && (!url || source_of_urls > source_of_url) { "urls" } else { "url" };
    let texts = match key {
        "urls" => table.texts("urls"),
        _ => table.any_text("url").map(|text| vec![text]),
    };
    table.forget(&["url", "urls"]);
    let texts = texts?;
    if !(1..=MOST).contains(&texts.len()) {
        table.fault(key, &format!("{{key}} must name 1 to {MOST} brokers"), HELP);
        return None;
    }
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match parse(text) {
            Ok(server) => found.push(server),
            Err(Wrong(what, help)) => {
                let subject = if key == "urls" { format!(", number {},", index + 1) } else { String::new() };
                table.fault(key, &format!("{{key}}{subject} {what}"), help);
            }
        }
    }
    let scheme = found.first()?.0;
    if found.iter().any(|(other, _)| *other != scheme) {
        table.fault(key, "{key} has more than one scheme", "write the same scheme for every broker");
        return None;
    }
    let shown: Vec<_> = texts.iter().map(|text| show(text)).collect();
    table.note(key, if key == "urls" { shown.into() } else { shown.into_iter().collect::<String>().into() });
    let servers: Vec<Server> = found.into_iter().map(|(_, server)| server).collect();
    warn(table, key, scheme, &servers);
    (servers.len() == texts.len()).then_some((scheme, servers))
}

/// The query of a WebSocket's address may be a token.
fn show(text: &str) -> String {
    text.split_once('?').map_or_else(|| text.to_owned(), |(before, _)| format!("{before}?***"))
}

fn warn(table: &Table, key: &str, scheme: Scheme, servers: &[Server]) {
    let far = servers.iter().filter(|server| !is_loopback(&server.host));
    let far: Vec<_> = far.map(|server| server.host.as_str()).collect();
    if !scheme.is_tls() && !far.is_empty() {
        let what = if scheme.is_websocket() { "a plain WebSocket" } else { "plain MQTT" };
        let (key, hosts) = (table.name(key), far.join(", "));
        table.reader.warn(format!(
            "{key} is {what} to {hosts}: everybody on the way can read and change the messages, and read the password"
        ));
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What is wrong with an address, and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Wrong(&'static str, String);

fn parse(text: &str) -> Result<(Scheme, Server), Wrong> {
    let wrong = |what| Err(Wrong(what, HELP.to_owned()));
    if text.contains('@') {
        let help = format!("set mqtt.username; as for the password, {WAYS}");
        return Err(Wrong("must not hold a user name or password", help));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("has no scheme");
    };
    let Some(scheme) = Scheme::parse(scheme) else {
        return wrong("has a scheme that is not known");
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((host, port)) = parse_host(authority, Some(scheme.port())) else {
        return wrong("does not name a host, with or without a port");
    };
    let path = match path {
        _ if !scheme.is_websocket() => {
            if !["", "/"].contains(&path) {
                return wrong("has a path, which goes with ws and wss only");
            }
            String::new()
        }
        "" => PATH.to_owned(),
        query if query.starts_with('?') => format!("{PATH}{query}"),
        path => path.to_owned(),
    };
    let allowed = |b: u8| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b);
    if !path.bytes().all(allowed) || path.len() > LONGEST_PATH {
        let help = "write other characters of a path as % and two digits, such as %20";
        return Err(Wrong("has a path that no request can hold", help.to_owned()));
    }
    Ok((scheme, Server { host, port, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_scheme_host_port_and_path() {
        for (text, scheme, shown, path) in [
            ("mqtt://broker", Scheme::Mqtt, "broker:1883", ""),
            ("MQTTS://broker/", Scheme::Mqtts, "broker:8883", ""),
            ("ws://10.0.0.1", Scheme::Ws, "10.0.0.1:80", "/mqtt"),
            ("wss://[2001:db8::1]", Scheme::Wss, "[2001:db8::1]:443", "/mqtt"),
            ("wss://[::1]:9001/", Scheme::Wss, "[::1]:9001", "/"),
            ("wss://b:1/a%20b/c?x=1&y=/?", Scheme::Wss, "b:1", "/a%20b/c?x=1&y=/?"),
            ("ws://b?token=1", Scheme::Ws, "b:80", "/mqtt?token=1"),
        ] {
            let (found, server) = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            assert_eq!((found, server.to_string().as_str(), server.path.as_str()), (scheme, shown, path));
        }
    }

    #[test]
    fn a_query_is_not_shown() {
        assert_eq!(show("wss://b/mqtt?token=hunter2?x"), "wss://b/mqtt?***");
        assert_eq!(show("mqtt://b"), "mqtt://b");
    }

    #[test]
    fn what_no_request_can_hold_is_refused() {
        for (text, what) in [
            ("mqtt://b/x", "has a path, which goes with ws and wss only"),
            ("mqtts://b?x", "has a path, which goes with ws and wss only"),
            ("ws://b/a b", "has a path that no request can hold"),
            ("ws://b/a\r\nX: y", "has a path that no request can hold"),
            ("ws://b/#x", "has a path that no request can hold"),
            ("ws://u:p@b/", "must not hold a user name or password"),
            ("ws://", "does not name a host, with or without a port"),
            ("ws:///x", "does not name a host, with or without a port"),
            ("https://b", "has a scheme that is not known"),
            ("//b", "has no scheme"),
        ] {
            assert_eq!(parse(text).map_err(|wrong| wrong.0), Err(what), "{text}");
        }
        assert!(parse(&format!("ws://b/{}", "x".repeat(LONGEST_PATH))).is_err());
    }
}
