//! `[web]`: where the gateway can be watched.

use std::net::IpAddr;

use super::links::parse_address;
use super::secret::{Form, Source};
use super::table::Table;

/// Where it listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:8480";
/// Fewest bytes of a token: 128 bits.
const TOKEN: usize = 16;

/// `[web]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// Host and port, port 0 for any that is free; `None`: nothing listens.
    pub listen: Option<(String, u16)>,
    /// Who asks must show this token; read again for each request.
    pub token: Option<Source>,
}

pub(super) fn read(mut table: Table) -> WebConfig {
    let text = table.text("listen").unwrap_or_else(|| LISTEN.to_owned());
    table.note("listen", text.as_str().into());
    let listen = if text == "off" { None } else { parse_address(&text, None) };
    if listen.is_none() && text != "off" {
        let help = "write \"off\" or host:port, such as \"127.0.0.1:8480\"";
        table.fault("listen", "{key} is not an address", help);
    }
    let is_given = table.has("token");
    let token = table.secret("token", Form::Text);
    let length = token.as_ref().and_then(|token| Some(token.look().ok()?.expose().len()));
    if length.is_some_and(|length| length < TOKEN) {
        let what = format!("{{key}} has fewer than {TOKEN} bytes");
        table.fault("token", &what, "make one, for example with: openssl rand -hex 16");
    }
    if listen.as_ref().is_some_and(|(host, _)| !is_loopback(host)) {
        if is_given {
            table.reader.warn(format!(
                "{} = \"{text}\": the token and all that is shown cross the network in plain text",
                table.name("listen")
            ));
        } else {
            let help = "add web.token = { file = \"/path\" }, or listen on 127.0.0.1";
            table.fault("listen", "{key} is open to other machines without a token", help);
        }
    }
    table.finish();
    WebConfig { listen, token }
}

/// Nobody but this machine can connect.
fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback())
}
