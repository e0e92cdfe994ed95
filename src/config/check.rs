//! The sections of the configuration, and what must hold between them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::file::Dict;
use super::table::{Reader, Table};
use super::{
    BufferConfig, CommandsConfig, Config, Field, GatewayConfig, LinkConfig, LogConfig, LogFormat, WebConfig,
    WhenFull, devices, links, mqtt, web,
};
use crate::clock::Clock;
use crate::point::{ID_LENGTH, is_id};

/// Every section.
pub(super) const SECTIONS: [&str; 9] =
    ["gateway", "log", "buffer", "mqtt", "commands", "web", "links", "templates", "devices"];

/// Where the buffer lies unless said otherwise: the unit's state directory.
const BUFFER: &str = "/var/lib/fieldgate/buffer.db";

/// Reads everything; the faults are noted, and with any of them the result means nothing.
pub(super) fn read<'r>(reader: &'r Reader<'r>, mut root: Table<'r>) -> Option<Config> {
    let mut section =
        |key| root.table(key).unwrap_or_else(|| Table::new(reader, vec![key.to_owned()], None, Dict::new()));
    let gateway = gateway(section("gateway"));
    let log = log(section("log"));
    let buffer = buffer(section("buffer"));
    let mqtt = mqtt::read(section("mqtt"), &gateway.id);
    let commands = commands(section("commands"));
    let web = web::read(section("web"));
    let links = links::read(root.tables("links"));
    let templates = root.tables("templates");
    let devices = devices::read(root.tables("devices"), templates, &links);
    root.finish();

    if let Some(mqtt) = &mqtt {
        mqtt::check_devices(reader, mqtt, &devices);
    }
    if devices.is_empty() {
        reader.warn("there is no enabled device: nothing will be read");
    }
    Some(Config {
        gateway,
        log,
        buffer,
        mqtt: mqtt?,
        commands,
        web,
        links: enabled(links),
        devices,
        warnings: Vec::new(),
    })
}

/// The buffer's section and the first part of every topic, whatever is wrong elsewhere.
pub(super) fn read_buffer<'r>(reader: &'r Reader<'r>, mut root: Table<'r>) -> (BufferConfig, String) {
    let mut section =
        |key| root.table(key).unwrap_or_else(|| Table::new(reader, vec![key.to_owned()], None, Dict::new()));
    let gateway = gateway(section("gateway"));
    let buffer = buffer(section("buffer"));
    let prefix = mqtt::topic::prefix(&mut section("mqtt"), &gateway.id);
    // Without one there is a fault, and with a fault the result means nothing.
    (buffer, prefix.unwrap_or_default())
}

/// The links, the devices, and how long a command may take, whatever is wrong elsewhere.
pub(super) fn read_field<'r>(reader: &'r Reader<'r>, mut root: Table<'r>) -> Field {
    let section = root.table("commands");
    let section =
        section.unwrap_or_else(|| Table::new(reader, vec!["commands".to_owned()], None, Dict::new()));
    let timeout = commands(section).timeout;
    let links = links::read(root.tables("links"));
    let templates = root.tables("templates");
    let devices = devices::read(root.tables("devices"), templates, &links);
    let clock = root.table("gateway").map(|mut table| clock(&mut table)).unwrap_or_default();
    Field { links: enabled(links), devices, timeout, clock }
}

fn enabled(links: BTreeMap<String, links::Link>) -> Vec<LinkConfig> {
    links.into_values().filter(|link| link.enabled).filter_map(|link| link.config).collect()
}

/// The section of who watches, whatever is wrong elsewhere.
pub(super) fn read_web<'r>(reader: &'r Reader<'r>, mut root: Table<'r>) -> WebConfig {
    let section = root.table("web");
    web::read(section.unwrap_or_else(|| Table::new(reader, vec!["web".to_owned()], None, Dict::new())))
}

fn gateway(mut table: Table) -> GatewayConfig {
    let id = match table.text("id") {
        Some(id) => {
            if !is_id(&id) {
                table.fault("id", "{key} is not an id", "write 1 to 64 of a-z, 0-9, _ and -");
            }
            id
        }
        None => default_id(),
    };
    table.note("id", id.as_str().into());
    let label = table.text("label");
    let clock = clock(&mut table);
    table.note("clock", if clock == Clock::Trusted { "trusted" } else { "kernel" }.into());
    table.finish();
    GatewayConfig { id, label, clock }
}

fn clock(table: &mut Table) -> Clock {
    let clock = table.choice("clock", &[("kernel", Clock::Kernel), ("trusted", Clock::Trusted)]);
    clock.unwrap_or_default()
}

/// Names that many machines share, because their distribution gave it.
const COMMON_NAMES: [&str; 12] = [
    "localhost",
    "raspberrypi",
    "debian",
    "ubuntu",
    "fedora",
    "archlinux",
    "alpine",
    "openwrt",
    "armbian",
    "dietpi",
    "orangepi",
    "linux",
];

/// The host name as an id, with the end of the machine id where the name tells machines not apart.
fn default_id() -> String {
    let system = rustix::system::uname();
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    make_id(&system.nodename().to_string_lossy(), machine.trim())
}

fn make_id(host: &str, machine: &str) -> String {
    let host = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let id: String = host.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let id: String = id.trim_matches('-').chars().take(ID_LENGTH).collect();
    if !id.is_empty() && !COMMON_NAMES.contains(&id.as_str()) {
        return id;
    }
    let name = if id.is_empty() { "gateway" } else { &id };
    let end = machine.len().checked_sub(6).and_then(|start| machine.get(start..)).filter(|end| is_id(end));
    end.map_or_else(|| name.to_owned(), |end| format!("{name}-{end}"))
}

fn log(mut table: Table) -> LogConfig {
    let level = table.text("level").unwrap_or_else(|| "info".to_owned());
    // A lone word that is no level would be taken as the name of a module.
    let word = level.bytes().all(|b| b.is_ascii_alphanumeric());
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = levels.iter().any(|known| known.eq_ignore_ascii_case(&level));
    if (word && !known) || EnvFilter::builder().parse(&level).is_err() {
        let help = "write error, warn, info, debug, trace or off, or a filter such as \"info,fieldgate::link=debug\"";
        table.fault("level", "{key} is neither a level nor a filter", help);
    }
    table.note("level", level.as_str().into());
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = table.choice("format", &formats);
    if format.is_none() {
        table.note("format", "auto".into());
    }
    table.finish();
    LogConfig { level, format: format.unwrap_or_default() }
}

fn buffer(mut table: Table) -> BufferConfig {
    let path = table.text("path").unwrap_or_else(|| BUFFER.to_owned());
    if path.is_empty() || path.ends_with('/') {
        table.fault("path", "{key} does not name a file", format!("write a path such as \"{BUFFER}\""));
    }
    table.note("path", path.as_str().into());
    let commit_every =
        table.duration("commit_every", Duration::ZERO..=Duration::from_secs(60), Duration::from_millis(250));
    let max_size = table.size("max_size", &((64 << 10)..=(1 << 40)), 256 << 20);
    let words = [("drop-oldest", WhenFull::DropOldest), ("drop-newest", WhenFull::DropNewest)];
    let when_full = table.choice("when_full", &words);
    if when_full.is_none() {
        table.note("when_full", "drop-oldest".into());
    }
    let range = Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400);
    let max_age = table.duration("max_age", range, Duration::from_secs(30 * 86_400));
    let live_share = table.share("live_share", &(0.0..=1.0), 0.5);
    let backlog_rate = table.whole("backlog_rate", 0..=1_000_000).unwrap_or(0);
    table.note("backlog_rate", backlog_rate.into());
    table.finish();
    BufferConfig {
        path: path.into(),
        commit_every,
        max_size,
        max_age,
        when_full: when_full.unwrap_or_default(),
        live_share,
        backlog_rate,
    }
}

fn commands(mut table: Table) -> CommandsConfig {
    let enabled = table.flag("enabled", true);
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let timeout = table.duration("timeout", range, Duration::from_secs(10));
    let admin = table.flag("admin", false);
    table.finish();
    CommandsConfig { enabled, timeout, admin }
}

#[cfg(test)]
mod tests {
    use super::make_id;

    #[test]
    fn the_default_id_tells_machines_apart() {
        let machine = "0123456789abcdef0123456789abcdef";
        for (host, expected) in [
            ("plant-7", "plant-7"),
            ("Plant_7.example.org", "plant_7"),
            ("Höhle", "h-hle"),
            ("raspberrypi", "raspberrypi-abcdef"),
            ("LOCALHOST.localdomain", "localhost-abcdef"),
            ("", "gateway-abcdef"),
            ("...", "gateway-abcdef"),
        ] {
            assert_eq!(make_id(host, machine), expected, "{host}");
        }
        assert_eq!(make_id("debian", ""), "debian");
        assert_eq!(make_id(&"x".repeat(90), machine), "x".repeat(64));
    }
}
