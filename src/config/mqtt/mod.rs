//! The section `[mqtt]`.

use std::time::Duration;

use super::table::Table;

mod headers;
mod proxy;
mod session;
mod settings;
mod tls;
pub(super) mod topic;
mod url;
mod will;

pub use settings::{
    AuthConfig, Identity, Layout, MqttConfig, ProxyConfig, Scheme, Server, TlsConfig, Verify, Version,
    WillConfig,
};
pub(super) use topic::check_devices;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Longest time that fits into MQTT's four bytes of seconds (MQTT 5, 3.1.2.11.2 and 3.3.2.3.3).
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Longest text that fits behind MQTT's two bytes of length (MQTT 5, 1.5.4).
const LONGEST_TEXT: usize = u16::MAX as usize;

/// Keys that only MQTT 5 has a place for.
const ONLY_V5: [&str; 8] = [
    "auth",
    "connect_user_properties",
    "user_properties",
    "session_expiry",
    "receive_maximum",
    "message_expiry",
    "content_type",
    "payload_format",
];

/// Most user properties of a packet, and their longest name or value in bytes: every publish carries them.
const PROPERTIES: (usize, usize) = (32, 1024);

pub(super) fn read(mut table: Table, gateway: &str) -> Option<MqttConfig> {
    let way = url::read(&mut table);
    let scheme = way.as_ref().map(|(scheme, _)| *scheme);
    let proxy = proxy::read(&mut table);
    let ws_headers = headers::read(&mut table, scheme);
    let version = session::version(&mut table);
    for key in ONLY_V5 {
        if version != Version::V5 && table.has(key) {
            table.reader.warn(format!("{} has no effect before MQTT 5", table.name(key)));
        }
    }
    let clean_start = table.flag("clean_start", false);
    let client_id = session::client_id(&mut table, gateway, version, clean_start);
    let (username, password) = session::credentials(&mut table, version);
    let auth = session::auth(&mut table);
    let (most, longest) = PROPERTIES;
    let connect_user_properties = table.pairs("connect_user_properties", most, longest);
    let user_properties = table.pairs("user_properties", most, longest);
    let keep_alive = session::keep_alive(&mut table);
    let session_expiry = table.duration("session_expiry", Duration::ZERO..=LONGEST, DAY * 7);
    let connect_timeout = table.duration("connect_timeout", SECOND / 10..=SECOND * 600, SECOND * 10);
    let (reconnect_min, reconnect_max) = session::reconnect(&mut table);
    let qos = qos(&mut table);
    let max_inflight = table.whole("max_inflight", 1..=1000_u16).unwrap_or(64);
    table.note("max_inflight", max_inflight.into());
    let receive_maximum = table.whole("receive_maximum", 1..=u16::MAX).unwrap_or(100);
    table.note("receive_maximum", receive_maximum.into());
    let max_packet_size = table.size("max_packet_size", &((1 << 10)..=(256 << 20)), 256 << 10);
    let message_expiry = table.duration("message_expiry", SECOND..=LONGEST, DAY * 30);
    let content_type = table.line("content_type", 256);
    let payload_format = table.choice("payload_format", &[("utf8", true), ("bytes", false)]);
    let prefix = topic::prefix(&mut table, gateway);
    // What is wrong with it is told once, not of every topic that begins with it.
    let begin = prefix.as_deref().unwrap_or("fieldgate");
    let readings = topic::readings(&mut table, begin, gateway);
    let retain_readings = table.flag("retain_readings", false);
    let shared_subscription = topic::share(&mut table, version);
    let tls = tls::read(&mut table, scheme);
    let will = will::read(&mut table, begin, gateway, version);
    table.finish();
    let (scheme, servers) = way?;
    let (layout, topic) = readings?;
    Some(MqttConfig {
        servers,
        scheme,
        tls,
        proxy,
        ws_headers,
        version,
        client_id,
        username,
        password,
        auth,
        connect_user_properties,
        user_properties,
        keep_alive,
        clean_start,
        session_expiry,
        connect_timeout,
        reconnect_min,
        reconnect_max,
        qos,
        max_inflight,
        receive_maximum,
        max_packet_size: u32::try_from(max_packet_size).unwrap_or(u32::MAX),
        message_expiry: (version == Version::V5).then_some(message_expiry),
        content_type,
        payload_format,
        prefix: prefix?,
        layout,
        topic,
        retain_readings,
        shared_subscription,
        will,
    })
}

fn qos(table: &mut Table) -> u8 {
    let qos = table.whole("qos", 0..=2_u8).unwrap_or(1);
    table.note("qos", qos.into());
    if qos == 0 {
        table
            .reader
            .warn("mqtt.qos = 0: the broker acknowledges nothing, so readings may be lost on the way");
    }
    qos
}
