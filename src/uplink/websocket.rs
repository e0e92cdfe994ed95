//! MQTT in the frames of a WebSocket (RFC 6455; MQTT 5.0, 6).

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::client::ClientError;
use super::dial::{Boxed, place};
use super::wire::broken;
use crate::config::{MqttConfig, Server};

/// Bytes on their way into or out of frames.
const BUFFER: usize = 64 << 10;

/// Opens a WebSocket on the stream and gives the bytes inside its frames.
pub(super) async fn open(stream: Boxed, config: &MqttConfig, server: &Server) -> Result<Boxed, ClientError> {
    let name = place(&server.host, server.port);
    let failed = |error: &dyn std::fmt::Display| {
        ClientError::Unreachable(format!("{name}: the WebSocket does not open: {error}"))
    };
    let scheme = if config.scheme.is_tls() { "wss" } else { "ws" };
    let uri = format!("{scheme}://{name}{}", server.path);
    let mut request = uri.into_client_request().map_err(|error| failed(&error))?;
    let headers = request.headers_mut();
    for (key, value) in &config.ws_headers {
        let key = HeaderName::try_from(key.as_str()).map_err(|error| failed(&error))?;
        let secret = value.read().map_err(ClientError::Refused)?;
        let mut value = HeaderValue::from_bytes(secret.expose()).map_err(|error| failed(&error))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    let most = usize::try_from(config.max_packet_size).unwrap_or(usize::MAX).saturating_add(BUFFER);
    let limits = WebSocketConfig::default().max_message_size(Some(most)).max_frame_size(Some(most));
    let opened = client_async_with_config(request, stream, Some(limits)).await;
    let (socket, _) = opened.map_err(|error| match &error {
        Error::Http(answer) if matches!(answer.status().as_u16(), 401 | 403) => {
            ClientError::Refused(format!("{name}: the WebSocket is refused: HTTP {}", answer.status()))
        }
        Error::Http(answer) => failed(&format!("HTTP {}; see the path in mqtt.url", answer.status())),
        // With TLS 1.3 a refused certificate shows here.
        Error::Io(error) => match broken(error) {
            ClientError::Refused(what) => ClientError::Refused(format!("{name}: {what}")),
            _ => failed(error),
        },
        other => failed(other),
    })?;
    let (near, far) = duplex(BUFFER);
    actix::spawn(carry(socket, far));
    Ok(Box::new(near))
}

/// Carries both ways until one side ends. MQTT packets and frames need not begin together.
async fn carry(mut socket: WebSocketStream<Boxed>, mut near: DuplexStream) {
    let mut buffer = vec![0; BUFFER / 4];
    let ended = loop {
        tokio::select! {
            read = near.read(&mut buffer) => {
                let bytes = match read {
                    Ok(length) if length > 0 => buffer.get(..length).unwrap_or_default().to_vec(),
                    _ => break socket.close(None).await,
                };
                if let Err(error) = socket.send(Message::binary(bytes)).await {
                    break Err(error);
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if near.write_all(&bytes).await.is_err() {
                        break Ok(());
                    }
                }
                // Pings are answered by the library; text is none of MQTT's.
                Some(Ok(Message::Text(_))) => break Err(Error::AttackAttempt),
                Some(Ok(Message::Close(_))) | None => break Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the WebSocket ended");
    }
}
