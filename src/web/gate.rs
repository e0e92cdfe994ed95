//! Who may ask: nobody through a name that is not ours, nobody without the token where there is one.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri};
use openssl::memcmp;
use sha2::{Digest as _, Sha256};

use crate::config::Source;

/// Judges requests.
pub(super) struct Gate {
    /// Names by which this machine is called, in lower case.
    names: Vec<String>,
    token: Option<Source>,
}

/// Why a request is not answered.
pub(super) type Refusal = (StatusCode, String);

impl Gate {
    pub(super) fn new(listen: &str, token: Option<Source>) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let short = own.split('.').next().unwrap_or_default().to_owned();
        let names =
            ["localhost".to_owned(), listen.to_ascii_lowercase(), format!("{short}.local"), short, own];
        Self { names: names.into_iter().filter(|name| !name.is_empty()).collect(), token }
    }

    /// `Err`: the answer instead.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        // A page of a stranger whose name was made to lead here still says the stranger's name.
        let stranger = |what: &str| {
            let text = format!("the {what} is not a name of this machine; use its address or its host name");
            (StatusCode::FORBIDDEN, text)
        };
        let host = single(headers, &HOST).ok_or_else(|| stranger("Host"))?;
        if !self.knows(host) || request.uri().authority().is_some_and(|it| !self.is_own(it)) {
            return Err(stranger("Host"));
        }
        if headers.contains_key(ORIGIN) && !self.is_own_origin(single(headers, &ORIGIN)) {
            return Err(stranger("Origin"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "nothing can be changed here; GET and HEAD alone are answered";
            return Err((StatusCode::METHOD_NOT_ALLOWED, text.to_owned()));
        }
        self.judge_token(headers)
    }

    /// An address is taken as it is: it cannot be made to lead elsewhere.
    fn knows(&self, host: &str) -> bool {
        host.parse::<Authority>().is_ok_and(|host| self.is_own(&host))
    }

    fn is_own(&self, authority: &Authority) -> bool {
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        !authority.as_str().contains('@') && (bare.parse::<IpAddr>().is_ok() || self.names.contains(&host))
    }

    fn is_own_origin(&self, origin: Option<&str>) -> bool {
        let uri = origin.and_then(|origin| origin.parse::<Uri>().ok());
        uri.is_some_and(|uri| uri.authority().is_some_and(|authority| self.is_own(authority)))
    }

    fn judge_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(source) = &self.token else { return Ok(()) };
        // Read again each time, so that a renewed token counts at once.
        let token = source.read().map_err(|error| {
            tracing::error!(error, "nobody can watch");
            (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be read; see the log".to_owned())
        })?;
        let shown = single(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // The time tells nothing, not even the length.
        let digest = |bytes: &[u8]| Sha256::digest(bytes);
        let is_right = shown
            .is_some_and(|(_, shown)| memcmp::eq(&digest(shown.trim().as_bytes()), &digest(token.expose())));
        if is_right {
            return Ok(());
        }
        let text = "send the token of web.token as: Authorization: Bearer TOKEN";
        Err((StatusCode::UNAUTHORIZED, text.to_owned()))
    }
}

/// The value of a header that stands there once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let alone: Option<&HeaderValue> = if values.next().is_none() { Some(first) } else { None };
    alone?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(gate: &Gate, method: &str, headers: &[(&str, &str)]) -> u16 {
        judge_at(gate, method, "/metrics", headers)
    }

    fn judge_at(gate: &Gate, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.judge(&request.body(()).unwrap()).map_or_else(|(code, _)| code.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let gate = Gate::new("plant.example", None);
        for host in
            ["127.0.0.1:8480", "localhost", "LOCALHOST.:9", "[::1]:8480", "192.168.1.5", "plant.example:80"]
        {
            assert_eq!(judge(&gate, "GET", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8480",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a@b",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
        ] {
            assert_eq!(judge(&gate, "GET", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(judge(&gate, "GET", &[]), 403);
        assert_eq!(judge(&gate, "GET", &[("host", "localhost"), ("host", "evil.example")]), 403);
        assert_eq!(judge_at(&gate, "GET", "http://evil.example/metrics", &[("host", "localhost")]), 403);
        for (origin, code) in [("http://localhost:8480", 200), ("https://evil.example", 403), ("null", 403)] {
            assert_eq!(judge(&gate, "GET", &[("host", "localhost"), ("origin", origin)]), code, "{origin}");
        }
    }

    #[test]
    fn nothing_but_reading_is_answered() {
        let gate = Gate::new("127.0.0.1", None);
        for (method, code) in [
            ("GET", 200),
            ("HEAD", 200),
            ("POST", 405),
            ("PUT", 405),
            ("DELETE", 405),
            ("OPTIONS", 405),
            ("TRACE", 405),
        ] {
            assert_eq!(judge(&gate, method, &[("host", "localhost")]), code, "{method}");
        }
    }
}
