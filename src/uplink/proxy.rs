//! Through an HTTP proxy (RFC 9110, 9.3.6 CONNECT).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::ClientError;
use super::dial::{Boxed, place};
use crate::config::{ProxyConfig, Server};

/// Longest answer of a proxy.
const ANSWER: usize = 8 << 10;

/// Asks the proxy for a tunnel to the broker.
pub(super) async fn tunnel(
    mut stream: Boxed,
    proxy: &ProxyConfig,
    server: &Server,
) -> Result<Boxed, ClientError> {
    let via = place(&proxy.host, proxy.port);
    let lost = |error: std::io::Error| ClientError::Unreachable(format!("the proxy {via}: {error}"));
    let target = place(&server.host, server.port);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(username) = &proxy.username {
        let secret = proxy
            .password
            .as_ref()
            .map(|password| password.read().map_err(ClientError::Refused))
            .transpose()?;
        let secret = secret.as_ref().map_or(&[][..], |secret| secret.expose());
        let mut credentials = [username.as_bytes(), b":", secret].concat();
        let mut line = BASE64_STANDARD.encode(&credentials);
        // At once as long as it gets: what grows leaves its beginnings in freed memory.
        request.reserve_exact(line.len() + 64);
        request.extend_from_slice(b"Proxy-Authorization: Basic ");
        request.extend_from_slice(line.as_bytes());
        request.extend_from_slice(b"\r\n");
        zeroize::Zeroize::zeroize(&mut credentials);
        zeroize::Zeroize::zeroize(&mut line);
    }
    request.extend_from_slice(b"\r\n");
    let sent = stream.write_all(&request).await;
    zeroize::Zeroize::zeroize(&mut request);
    sent.map_err(lost)?;
    stream.flush().await.map_err(lost)?;

    let mut answer = Vec::new();
    // Byte by byte: what follows the empty line belongs to the broker.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER {
            return Err(ClientError::Unreachable(format!("the proxy {via} answers without an end")));
        }
        answer.push(stream.read_u8().await.map_err(lost)?);
    }
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    // The rest of the line is free text, which may say our credentials back.
    let mut words = line.splitn(3, ' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err(ClientError::Unreachable(format!("the proxy {via} does not speak HTTP")));
    }
    match code.parse::<u16>() {
        Ok(200..=299) => Ok(stream),
        Ok(407) => Err(ClientError::Refused(format!(
            "the proxy {via} wants other credentials (407); see mqtt.proxy_username and mqtt.proxy_password"
        ))),
        Ok(403) => Err(ClientError::Refused(format!("the proxy {via} does not allow {target} (403)"))),
        Ok(code) => {
            Err(ClientError::Unreachable(format!("the proxy {via} does not reach {target} ({code})")))
        }
        Err(_) => Err(ClientError::Unreachable(format!("the proxy {via} does not speak HTTP"))),
    }
}
