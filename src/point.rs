//! The words for what is read: devices, points, samples, readings.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use smallvec::SmallVec;

use crate::address::Address;
pub use crate::kind::{Kind, Order};

/// Longest id, in characters.
pub const ID_LENGTH: usize = 64;

/// Says whether `text` may be an id: 1 to 64 of `a-z 0-9 _ -`.
///
/// An id stands in topics, file names and environment keys, so nothing in it may need quoting.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=ID_LENGTH).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and makes it an id.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                is_id(text).then(|| Self(text.into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// Names a link: one physical connection.
    LinkId
);
id!(
    /// Names a device: one addressed thing on a link.
    DeviceId
);
id!(
    /// Names a point: one value of a device.
    PointId
);

/// Free marks of a link, device or point, shown in `info` as they were written: a list or a table.
pub type Tags = Option<serde_json::Value>;

/// One addressed thing on a link, with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The link it is reached by.
    pub link: LinkId,
    /// A name for people.
    pub label: Option<String>,
    /// Free marks.
    pub tags: Tags,
    /// What the driver needs to know to talk to it.
    pub protocol: Protocol,
    /// Time from the start of one poll to the start of the next, of points without one of their own.
    pub poll_interval: Duration,
    /// Polls come at the multiples of their interval since midnight, UTC.
    pub align: bool,
    /// How long one request may take before it counts as a time-out.
    pub patience: Duration,
    /// Rest of the link before each request to it.
    pub pause: Duration,
    /// Its points, in the order of the configuration.
    pub points: Vec<Point>,
}

impl Device {
    /// It can be written and never answers.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        matches!(self.protocol, Protocol::Modbus { broadcast: true, .. })
    }
}

/// How one device is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// A Modbus unit.
    Modbus {
        /// Unit id, 1 to 247 (and 0 or 248 to 255 on TCP, where the unit may be the server itself).
        unit: u8,
        /// How it may be read.
        reads: Reads,
        /// Stands for every unit of its bus (unit 0): it obeys and never answers.
        broadcast: bool,
        /// It knows function 23: writes and reads back in one request.
        read_write: bool,
    },
    /// A device on a serial line that sends frames.
    Text {
        /// Sent before each frame is awaited; `None`: the device talks by itself.
        request: Option<Box<[u8]>>,
        /// How a frame becomes values.
        decode: Decode,
        /// What stands between whole and part of the numbers in it; with [`Decode::Regex`] and [`Decode::Csv`].
        mark: DecimalMark,
    },
    /// Values made here.
    Simulator,
    /// A device that a plugin speaks to.
    Plugin {
        /// What the plugin finds it by, in the plugin's own grammar.
        address: Option<String>,
    },
}

/// What a Modbus unit can take, and how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Most registers in one read, 1 to 125 (Modbus Application Protocol V1.1b3, 6.3).
    pub max_registers: u16,
    /// Most coils or discrete inputs in one read, 1 to 2000 (Modbus Application Protocol V1.1b3, 6.1).
    pub max_bits: u16,
    /// Most places read across between two points; `None`: as far as that is quicker than another request.
    pub max_gap: Option<u16>,
    /// Time from the end of a request to the beginning of its answer; over TCP with the way there and back.
    pub answer_time: Duration,
}

impl Default for Reads {
    fn default() -> Self {
        Self { max_registers: 125, max_bits: 2000, max_gap: None, answer_time: Duration::from_millis(5) }
    }
}

/// How a frame of a serial device becomes values.
#[derive(Clone, Debug, PartialEq)]
pub enum Decode {
    /// Named groups become the points of the same address.
    Regex(Pattern),
    /// A JSON text; addresses are ways into it.
    Json,
    /// Columns with this ASCII character between them; addresses are their numbers.
    Csv(u8),
    /// Binary numbers; addresses are places of bytes.
    Bytes,
}

/// `decimal`: what stands between the whole and the part of a number in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DecimalMark {
    /// `21.5`
    #[default]
    Point,
    /// `21,5`
    Comma,
}

/// A regular expression that is the same as another of the same text.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl std::ops::Deref for Pattern {
    type Target = regex::Regex;

    fn deref(&self) -> &regex::Regex {
        &self.0
    }
}

/// One named value of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its id.
    pub id: PointId,
    /// A name for people.
    pub label: Option<String>,
    /// Free marks.
    pub tags: Tags,
    /// Where it lies in the device.
    pub address: Address,
    /// How its raw data is read.
    pub kind: Kind,
    /// How its bytes are ordered.
    pub order: Order,
    /// value = raw x scale + offset.
    pub scale: Decimal,
    /// value = raw x scale + offset.
    pub offset: Decimal,
    /// Unit of the value, as published in `info`.
    pub unit: Option<String>,
    /// The bits of the raw number that count, inclusive, from 0.
    pub bits: Option<(u8, u8)>,
    /// Raw numbers that mean "no value".
    pub invalid: Vec<i128>,
    /// Names for raw numbers.
    pub values: BTreeMap<i128, String>,
    /// Its own time from one poll to the next.
    pub poll_interval: Option<Duration>,
    /// Which of its readings are published.
    pub reporting: Reporting,
    /// It shares a request with no other point.
    pub no_merge: bool,
    /// Commands may write it.
    pub writable: bool,
    /// Least value a command may write.
    pub min: Option<Decimal>,
    /// Greatest value a command may write.
    pub max: Option<Decimal>,
}

impl Point {
    /// A point as its least configuration gives it: unscaled, in Modbus order, not writable.
    #[must_use]
    pub fn new(id: PointId, address: Address, kind: Kind) -> Self {
        Self {
            id,
            label: None,
            tags: None,
            address,
            kind,
            order: Order::Abcd,
            scale: Decimal::ONE,
            offset: Decimal::ZERO,
            unit: None,
            bits: None,
            invalid: Vec::new(),
            values: BTreeMap::new(),
            poll_interval: None,
            reporting: Reporting::Always,
            no_merge: false,
            writable: false,
            min: None,
            max: None,
        }
    }
}

/// Which readings of a point are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// Every one.
    Always,
    /// The first, and what differs from the one published last.
    Change {
        /// How far a number may move unpublished, in the value's unit; at least 0.
        deadband: Decimal,
        /// It is published again at the latest after so long.
        heartbeat: Option<Duration>,
    },
}

/// A driver's raw answer for one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Index of the point in its device.
    pub point: usize,
    /// What came.
    pub raw: Result<Raw, Reason>,
}

/// Data as the device gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A coil or discrete input.
    Bit(bool),
    /// Registers, in the order on the wire.
    Words(SmallVec<[u16; 4]>),
    /// Text cut from a frame.
    Text(String),
    /// Text in Latin-1 cut from a frame, a byte for each character.
    Latin1(Vec<u8>),
    /// A number made by the simulator.
    Number(f64),
}

/// A decoded point: a value, or the reason why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Index of the point in its device.
    pub point: usize,
    /// What it says.
    pub value: Result<Value, Reason>,
}

/// Why a point has no value; the words stand in `bad` of a readings message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No answer in time.
    Timeout,
    /// The link is down.
    Offline,
    /// An answer that was damaged, foreign, or of the wrong size.
    Malformed,
    /// The device says that it has no value (a sentinel), or it cannot be expressed.
    Invalid,
    /// NaN or infinity.
    NotANumber,
    /// The device refused with this exception code (Modbus Application Protocol V1.1b3, 7).
    Exception(u8),
}

/// The characters of bytes in ISO 8859-1: each byte is the number of its character.
#[must_use]
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Offline => f.write_str("offline"),
            Self::Malformed => f.write_str("malformed"),
            Self::Invalid => f.write_str("invalid"),
            Self::NotANumber => f.write_str("not-a-number"),
            Self::Exception(code) => write!(f, "exception-{code}"),
        }
    }
}

/// A value, exact: what a device says or a command wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// On or off.
    Bool(bool),
    /// A whole number without scale; holds all of `i64` and `u64`.
    Int(i128),
    /// A scaled number, exact in decimal.
    Decimal(Decimal),
    /// An unscaled `f32`; printed as the shortest decimal that reads back as the same `f32`.
    F32(f32),
    /// An unscaled `f64`.
    F64(f64),
    /// Text.
    Text(String),
}

impl Value {
    /// Appends the value as JSON. Floats must be finite: `decode` makes no others.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        // Writing into a Vec cannot fail.
        let _infallible = match self {
            Self::Bool(v) => write!(out, "{v}"),
            Self::Int(v) => write!(out, "{v}"),
            Self::Decimal(v) => write!(out, "{v}"),
            Self::F32(v) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
            Self::F64(v) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
            Self::Text(v) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
        };
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write_json(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}
