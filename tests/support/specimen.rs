//! Records and commands for tests, the same in every process.

use fieldgate::buffer::journal::{Begin, CommandKey};
use fieldgate::clock::{Moment, Timestamp};
use fieldgate::record::{Name, Numbered, Record, RecordKind, Topic, event};

/// A run whose records are stored by the first version, which knew one clock only.
pub const OLD_RUN: u64 = 3_999_999_999;

/// The record of this name, the same in every process: small or large, and of any kind.
pub fn record(name: Name, version: u32) -> Numbered {
    let mut rng = fastrand::Rng::with_seed(name.run.rotate_left(32) ^ name.seq);
    let length = match rng.u8(..20) {
        0 => 8_000,
        1..=3 => 1_500,
        4..=8 => 600,
        _ => 120,
    };
    let text: String = (0..rng.usize(1..=length)).map(|_| rng.alphanumeric()).collect();
    let millis = i64::try_from(name.seq).unwrap();
    let made = Moment { wall: Timestamp::from_millis(millis), uptime: 2 * millis, synced: millis % 3 > 0 };
    let made = if name.run == OLD_RUN { Moment { uptime: 0, synced: true, ..made } } else { made };
    let made = event("grown", made, |body| body.with("version", &version).with("text", &text));
    let record = match name.seq % 16 {
        0 => made,
        1 => Record {
            kind: RecordKind::Reply,
            topic: Topic::Reply(None),
            correlation: Some([7, 0].into()),
            ..made
        },
        _ => Record { kind: RecordKind::Readings, topic: Topic::parse("readings/boiler").unwrap(), ..made },
    };
    Numbered { name, record }
}

/// Only events are replaced by a longer text under the same name.
pub fn is_event(name: Name) -> bool {
    name.seq.is_multiple_of(16)
}

/// A command as it is entered, or (`enter` false) asked for.
pub fn begin(command: u64, enter: bool) -> Begin {
    Begin {
        key: key(command),
        digest: [u8::try_from(command % 251).unwrap(); 32],
        action: "write".to_owned(),
        reply: Topic::Reply(None),
        correlation: None,
        enter,
    }
}

/// What names a command.
pub fn key(command: u64) -> CommandKey {
    CommandKey { device: None, id: format!("c-{command}") }
}

/// How a command ended.
pub fn outcome(command: u64) -> String {
    format!(r#""id":"c-{command}","status":"succeeded""#)
}
