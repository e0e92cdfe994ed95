//! From a request to its answer.

use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};

use super::{Site, health, metrics, status};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The version of Prometheus' text format that is spoken.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer; the body of one to HEAD is left out on the way.
pub(super) async fn answer<B>(site: &Site, request: &Request<B>) -> Response<String> {
    let (code, kind, body) = match site.gate.judge(request) {
        Err((code, text)) => (code, TEXT, text + "\n"),
        Ok(()) => match request.uri().path() {
            "/metrics" => given(METRICS, metrics::write(site).await),
            "/healthz" => match health::judge(site).await {
                Ok(()) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
            },
            "/api/status" => given(JSON, status::write(site).await),
            _ => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /api/status\n".to_owned()),
        },
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match code {
        StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"))),
        StatusCode::UNAUTHORIZED => {
            drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        _ => {}
    }
    answer
}

fn given(kind: &'static str, body: Result<String, String>) -> (StatusCode, &'static str, String) {
    match body {
        Ok(body) => (StatusCode::OK, kind, body),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
    }
}
