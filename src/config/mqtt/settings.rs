//! What the uplink is told: the broker, how to reach it, who we are there, and what is published how.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::secret::Source;

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq)]
pub struct MqttConfig {
    /// The brokers, in the order of trying; all by one scheme.
    pub servers: Vec<Server>,
    /// How they are reached.
    pub scheme: Scheme,
    /// With `mqtts` and `wss`.
    pub tls: Option<TlsConfig>,
    /// An HTTP proxy that the connection goes through (RFC 9110, 9.3.6 CONNECT).
    pub proxy: Option<ProxyConfig>,
    /// More headers of the WebSocket's opening request. Their values may be secrets, read again at each connect.
    pub ws_headers: Vec<(String, Source)>,
    /// Protocol version.
    pub version: Version,
    /// Client identifier; `{gateway}` is filled in, `{random}` is when the gateway starts: it is kept beside the buffer.
    /// Empty: the broker gives one.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password, text or bytes; read again at each connect.
    pub password: Option<Source>,
    /// MQTT 5: authentication method and data of CONNECT.
    pub auth: Option<AuthConfig>,
    /// MQTT 5: user properties of CONNECT.
    pub connect_user_properties: Vec<(String, String)>,
    /// MQTT 5: user properties of every publish.
    pub user_properties: Vec<(String, String)>,
    /// Longest silence before a PINGREQ, whole seconds, at least 1 s.
    pub keep_alive: Duration,
    /// Start every connection without the session of the last.
    pub clean_start: bool,
    /// MQTT 5: how long the broker keeps the session after a disconnect.
    pub session_expiry: Duration,
    /// Longest wait for name look-up, TCP connect and CONNACK together.
    pub connect_timeout: Duration,
    /// Shortest wait between two connects.
    pub reconnect_min: Duration,
    /// Longest wait between two connects.
    pub reconnect_max: Duration,
    /// Quality of service of readings, replies and events: 0, 1 or 2.
    pub qos: u8,
    /// Most publishes without acknowledgement, 1 to 1000.
    pub max_inflight: u16,
    /// MQTT 5: most publishes that the broker may send without acknowledgement.
    pub receive_maximum: u16,
    /// Largest packet that is taken from the broker, in bytes; with MQTT 5 it is told so.
    pub max_packet_size: u32,
    /// MQTT 5: readings older than this are dropped by the broker instead of delivered.
    pub message_expiry: Option<Duration>,
    /// MQTT 5: content type of what is published.
    pub content_type: Option<String>,
    /// MQTT 5: payload format indicator of what is published: the payload is UTF-8.
    pub payload_format: Option<bool>,
    /// First part of every topic, `{gateway}` filled in.
    pub prefix: String,
    /// One message a poll, or one a reading.
    pub layout: Layout,
    /// Topic of readings, `{prefix}` and `{gateway}` filled in, `{link}`, `{device}` and `{point}` not.
    pub topic: String,
    /// Readings are retained.
    pub retain_readings: bool,
    /// Group by which commands are shared among gateways.
    pub shared_subscription: Option<String>,
    /// Replaces the built-in last will.
    pub will: Option<WillConfig>,
}

impl MqttConfig {
    /// What is not checked on the way to the broker, in a word for its status; nothing when all is.
    #[must_use]
    pub fn insecure(&self) -> Option<&'static str> {
        match self.tls.as_ref().map(|tls| tls.verify) {
            None => Some("plain"),
            Some(Verify::None) => Some("unverified"),
            Some(Verify::Ca) => Some("any-host"),
            Some(Verify::Full) => None,
        }
    }
}

/// A broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query of a WebSocket. The query may be a token, so it is not printed.
    pub path: String,
}

/// How a broker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Mqtt,
    /// TLS.
    Mqtts,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    /// The connection is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// MQTT is carried in WebSocket frames.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// `[mqtt.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// File or folder of the authorities believed; without it the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate.
    pub identity: Option<Identity>,
    /// Protocols offered (RFC 7301).
    pub alpn: Vec<String>,
    /// Ciphers in OpenSSL's notation.
    pub ciphers: Option<String>,
    /// TLS 1.3 at least; otherwise 1.2.
    pub only_1_3: bool,
    /// What is checked of the broker's certificate.
    pub verify: Verify,
}

/// Our own certificate, read again at each connect.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// Certificate chain and key in PEM.
    Pem {
        /// The chain, our own certificate first.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The key's password.
        password: Option<Source>,
    },
    /// Both in one PKCS#12 file.
    Pkcs12 {
        /// The file.
        path: PathBuf,
        /// Its password.
        password: Option<Source>,
    },
}

/// `mqtt.tls.verify`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// Authority, dates and host name.
    #[default]
    Full,
    /// Not the host name.
    Ca,
    /// Nothing.
    None,
}

/// `mqtt.proxy`
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Source>,
}

/// `mqtt.auth`
#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// The method's name.
    pub method: String,
    /// Its data, read again at each connect.
    pub data: Option<Source>,
}

/// `mqtt.will`
#[derive(Clone, Debug, PartialEq)]
pub struct WillConfig {
    /// Its topic, placeholders filled in.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// Its quality of service.
    pub qos: u8,
    /// It is retained.
    pub retain: bool,
    /// MQTT 5: it is published so long after the connection was lost.
    pub delay: Option<Duration>,
    /// MQTT 5: it is dropped when it is older than this.
    pub expiry: Option<Duration>,
}

/// `mqtt.layout`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// One message a poll.
    #[default]
    Device,
    /// One message a reading.
    Point,
}

/// `mqtt.version`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    #[default]
    V5,
}
