//! Packets of MQTT as a test broker sees and makes them. What a client sends wrongly fails the test.

/// A packet that came.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The connection it came on, from 1.
    pub connection: usize,
    /// The protocol level of the connection: 3, 4 or 5.
    pub level: u8,
    /// The first byte: type and flags.
    pub head: u8,
    /// The rest, without its length.
    pub body: Vec<u8>,
}

/// The properties of a packet, by their numbers (MQTT 5.0, 2.2.2.2).
pub type Properties = Vec<(u8, Property)>;

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// Of one, two or four bytes, or of variable length.
    Number(u32),
    /// Text or binary.
    Bytes(Vec<u8>),
    /// A user property.
    Pair(String, String),
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The name of the protocol.
    pub protocol: String,
    /// Its level.
    pub level: u8,
    /// The flags.
    pub flags: u8,
    /// Seconds.
    pub keep_alive: u16,
    /// MQTT 5.
    pub properties: Properties,
    /// May be empty.
    pub client_id: String,
    /// Its properties, topic and payload.
    pub will: Option<(Properties, String, Vec<u8>)>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Vec<u8>>,
}

/// A PUBLISH.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Its topic.
    pub topic: String,
    /// Its quality.
    pub qos: u8,
    /// It is to be kept.
    pub retain: bool,
    /// Its number; 0 without.
    pub id: u16,
    /// MQTT 5.
    pub properties: Properties,
    /// What it says.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Its type, as the specification numbers them.
    pub fn kind(&self) -> u8 {
        self.head >> 4
    }

    /// Its length in bytes, all in all.
    pub fn size(&self) -> usize {
        framed(self.head, &self.body).len()
    }

    /// The CONNECT, if it is one.
    pub fn connect(&self) -> Option<Connect> {
        (self.kind() == 1).then_some(())?;
        let (protocol, rest) = text(&self.body);
        let [level, flags, high, low, rest @ ..] = rest else { panic!("{self:?}") };
        let (properties, rest) = if *level == 5 { properties(rest) } else { (Vec::new(), rest) };
        let (client_id, mut rest) = text(rest);
        let mut will = None;
        if flags & 4 != 0 {
            let (of_will, after) = if *level == 5 { self::properties(rest) } else { (Vec::new(), rest) };
            let (topic, after) = text(after);
            let (payload, after) = bytes(after);
            (will, rest) = (Some((of_will, topic, payload.to_vec())), after);
        }
        let mut username = None;
        if flags & 0x80 != 0 {
            let (name, after) = text(rest);
            (username, rest) = (Some(name), after);
        }
        let mut password = None;
        if flags & 0x40 != 0 {
            let (secret, after) = bytes(rest);
            (password, rest) = (Some(secret.to_vec()), after);
        }
        assert!(rest.is_empty(), "more than a CONNECT: {self:?}");
        let keep_alive = u16::from_be_bytes([*high, *low]);
        Some(Connect {
            protocol,
            level: *level,
            flags: *flags,
            keep_alive,
            properties,
            client_id,
            will,
            username,
            password,
        })
    }

    /// The PUBLISH, if it is one.
    pub fn publish(&self) -> Option<Publish> {
        (self.kind() == 3).then_some(())?;
        let (topic, mut rest) = text(&self.body);
        let mut id = 0;
        if let ([high, low, after @ ..], true) = (rest, self.head & 6 != 0) {
            (id, rest) = (u16::from_be_bytes([*high, *low]), after);
        }
        let (properties, payload) = if self.level == 5 { properties(rest) } else { (Vec::new(), rest) };
        let (qos, retain) = (self.head >> 1 & 3, self.head & 1 == 1);
        Some(Publish { topic, qos, retain, id, properties, payload: payload.to_vec() })
    }

    /// The topic and the payload of a PUBLISH.
    pub fn published(&self) -> Option<(String, String)> {
        let publish = self.publish()?;
        Some((publish.topic, String::from_utf8_lossy(&publish.payload).into_owned()))
    }

    /// The properties of a SUBSCRIBE and its filters with their options, if it is one.
    pub fn subscribe(&self) -> Option<(Properties, Vec<(String, u8)>)> {
        (self.kind() == 8).then_some(())?;
        let rest = &self.body[2..];
        let (properties, mut rest) = if self.level == 5 { properties(rest) } else { (Vec::new(), rest) };
        let mut filters = Vec::new();
        while !rest.is_empty() {
            let (filter, after) = text(rest);
            filters.push((filter, after[0]));
            rest = &after[1..];
        }
        Some((properties, filters))
    }
}

/// A PUBLISH to a client of this level.
pub fn publish(level: u8, topic: &str, payload: &str) -> Vec<u8> {
    let mut body = with_length(topic.as_bytes());
    if level == 5 {
        body.push(0);
    }
    body.extend(payload.as_bytes());
    framed(0x30, &body)
}

/// The number of a property with this value of two bytes.
pub fn property_u16(number: u8, value: u16) -> Vec<u8> {
    [&[number][..], &value.to_be_bytes()].concat()
}

/// The same with four bytes.
pub fn property_u32(number: u8, value: u32) -> Vec<u8> {
    [&[number][..], &value.to_be_bytes()].concat()
}

/// The same with a text.
pub fn property_text(number: u8, value: &str) -> Vec<u8> {
    [vec![number], with_length(value.as_bytes())].concat()
}

/// A packet of this first byte and this content.
pub fn framed(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Bytes with their length before them.
pub fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A number of one to four bytes (1.5.5), and how many it took.
pub fn number(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, index + 1);
        }
    }
    panic!("no number: {bytes:?}")
}

/// A text with its length before it, and what follows.
fn text(all: &[u8]) -> (String, &[u8]) {
    let (text, rest) = bytes(all);
    (String::from_utf8(text.to_vec()).unwrap(), rest)
}

fn bytes(all: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([all[0], all[1]]));
    all[2..].split_at(length)
}

fn properties(all: &[u8]) -> (Properties, &[u8]) {
    let (length, used) = number(all);
    let (mut rest, after) = all[used..].split_at(length);
    let mut found = Vec::new();
    while let [id, value @ ..] = rest {
        let take = |count: usize| {
            let number = value[..count].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            (Property::Number(number), &value[count..])
        };
        let (property, next) = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => take(1),
            0x13 | 0x21 | 0x22 | 0x23 => take(2),
            0x02 | 0x11 | 0x18 | 0x27 => take(4),
            0x0b => {
                let (number, used) = number(value);
                (Property::Number(u32::try_from(number).unwrap()), &value[used..])
            }
            0x26 => {
                let (key, value) = text(value);
                let (value, next) = text(value);
                (Property::Pair(key, value), next)
            }
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                let (value, next) = bytes(value);
                (Property::Bytes(value.to_vec()), next)
            }
            other => panic!("no property {other:#x}"),
        };
        found.push((*id, property));
        rest = next;
    }
    (found, after)
}
