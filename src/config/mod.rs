//! The configuration, checked: what `load` makes of the files and the rest of the program runs on.
//!
//! Nothing here is raw text any more: durations are durations, ids are ids, every link named by a device
//! exists. `file` has the shapes as they are written, `load` merges and reads them, `check` turns them into these.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::point::{Device, LinkId, Tags};

mod check;
mod decode;
mod devices;
mod driverless;
mod effective;
mod fault;
mod file;
mod files;
mod frame;
mod later;
mod line;
mod links;
mod load;
mod modbus;
mod mqtt;
mod numbers;
mod plugin;
mod points;
mod reporting;
mod secret;
mod table;
mod templates;
mod text;
mod unit;
mod value;
mod web;

pub use effective::Effective;
pub use fault::{ConfigError, Fault};
pub use frame::{Checksum, ChecksumKind, Frame, LONGEST_FRAME, Shape};
pub use line::{Parity, PortName, Rs485, SerialLine, UsbId};
pub use load::{load, load_buffer, load_field, load_web, load_with};
pub use mqtt::{
    AuthConfig, Identity, Layout, MqttConfig, ProxyConfig, Scheme, Server, TlsConfig, Verify, Version,
    WillConfig,
};
pub use plugin::{OwnershipError, PluginConfig};
pub use secret::{Environment, Secret, Source};
pub use table::nearest;
pub use unit::{UnitError, parse_duration};
pub use web::WebConfig;

/// Where the configuration is read from when no `--config` is given.
pub const DEFAULT_FILE: &str = "/etc/fieldgate/fieldgate.toml";

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this gateway is.
    pub gateway: GatewayConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The store-and-forward buffer.
    pub buffer: BufferConfig,
    /// The broker.
    pub mqtt: MqttConfig,
    /// Commands from the broker.
    pub commands: CommandsConfig,
    /// Where the gateway can be watched.
    pub web: WebConfig,
    /// The enabled links, by id.
    pub links: Vec<LinkConfig>,
    /// The enabled devices of enabled links, by id.
    pub devices: Vec<Device>,
    /// Choices that work but that a person should know of (insecure, or without effect).
    pub warnings: Vec<String>,
}

/// The part of the configuration that says what lies in the field.
#[derive(Clone, Debug)]
pub struct Field {
    /// The enabled links, by id.
    pub links: Vec<LinkConfig>,
    /// The enabled devices of enabled links, by id.
    pub devices: Vec<Device>,
    /// `commands.timeout`
    pub timeout: Duration,
    /// `gateway.clock`
    pub clock: Clock,
}

/// `[gateway]`
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayConfig {
    /// Its id, part of every topic.
    pub id: String,
    /// A name for people.
    pub label: Option<String>,
    /// Whom to ask whether the clock is set.
    pub clock: Clock,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A level or a tracing filter.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Coloured text on a terminal, plain text elsewhere.
    #[default]
    Auto,
    /// Plain text.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[buffer]`
#[derive(Clone, Debug, PartialEq)]
pub struct BufferConfig {
    /// The buffer file.
    pub path: PathBuf,
    /// A commit begins when the oldest unacknowledged record is this old.
    pub commit_every: Duration,
    /// Largest size of the file and all that lies beside it, in bytes.
    pub max_size: u64,
    /// Readings older than this are dropped.
    pub max_age: Duration,
    /// What gives way at a bound.
    pub when_full: WhenFull,
    /// While a backlog drains, at least this part of the messages is live data; 0 to 1.
    pub live_share: f64,
    /// Most messages of the backlog in a second; 0 is as fast as the broker takes them.
    pub backlog_rate: u32,
}

/// `buffer.when_full`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest readings.
    #[default]
    DropOldest,
    /// What comes now.
    DropNewest,
}

/// `[commands]`
#[derive(Clone, Debug, PartialEq)]
pub struct CommandsConfig {
    /// Commands are taken at all.
    pub enabled: bool,
    /// Longest time from a command's arrival to its outcome.
    pub timeout: Duration,
    /// The gateway itself may be told what to do: `reload`.
    pub admin: bool,
}

/// `[links.ID]`
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Its id.
    pub id: LinkId,
    /// A name for people.
    pub label: Option<String>,
    /// Free marks.
    pub tags: Tags,
    /// What it is made of and which protocol runs on it.
    pub transport: Transport,
    /// How long opening the link may take.
    pub timeout: Duration,
    /// Rest between two requests, where a device does not say otherwise.
    pub pause: Duration,
    /// A fresh connection or port is left alone so long.
    pub pause_after_connect: Duration,
    /// The part of the link's time that a device without answers may take, 0.01 to 0.5.
    pub dead_share: f64,
}

/// `links.ID.driver` with the keys that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// `modbus-tcp`, `modbus-rtu`, `modbus-rtu-tcp`, `modbus-ascii`
    Modbus {
        /// How requests and answers become bytes.
        framing: Framing,
        /// What carries them.
        medium: Medium,
        /// Host and port that take over when nobody answers at the first; only with [`Medium::Tcp`].
        backup: Option<(String, u16)>,
        /// So long nothing is sent after a broadcast.
        turnaround: Duration,
    },
    /// `serial`
    Serial {
        /// The serial line.
        line: SerialLine,
        /// How bytes become frames.
        frame: Frame,
        /// How bytes of texts become characters.
        encoding: Encoding,
    },
    /// `simulator`
    Simulator,
    /// `plugin:NAME`
    Plugin(PluginConfig),
}

/// `encoding`: how bytes of texts become characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8
    #[default]
    Utf8,
    /// ISO/IEC 8859-1: each byte is the character of that number.
    Latin1,
}

/// How a Modbus request becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With a transaction id (MODBUS Messaging on TCP/IP V1.0b, 3.1).
    Tcp,
    /// Binary with a CRC (Modbus over Serial Line V1.02, 2.5.1).
    Rtu,
    /// Hexadecimal with an LRC (Modbus over Serial Line V1.02, 2.5.2).
    Ascii,
}

/// What carries Modbus frames.
#[derive(Clone, Debug, PartialEq)]
pub enum Medium {
    /// A TCP connection.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A serial line.
    Line(SerialLine),
}
