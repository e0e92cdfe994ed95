//! What the subscriber keeps of each message, and what is read from it afterwards.

use std::io::Write;

use crate::Result;

/// One record as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// When it came, microseconds since 1970.
    pub(crate) arrival: u64,
    /// The device's clock in it, microseconds since 1970; 0 in a record without readings.
    pub(crate) device_clock: u64,
    /// Its `ts`, milliseconds since 1970.
    pub(crate) ts: u64,
    /// Its run.
    pub(crate) run: u64,
    /// Its number in the run.
    pub(crate) seq: u64,
    /// Number of its device.
    pub(crate) device: u32,
    /// How many values it carries.
    pub(crate) readings: u32,
    /// The registers after the clock belong to one answer.
    pub(crate) consistent: bool,
}

/// Everything that arrived.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// In order of arrival.
    pub(crate) list: Vec<Row>,
    /// Records that came more than once.
    pub(crate) repeats: u64,
    /// Numbers that did not come.
    pub(crate) missing: u64,
    /// Messages whose values do not belong together.
    pub(crate) wrong: u64,
    /// Records that are no readings: events, among them those that name losses.
    pub(crate) others: u64,
}

const WIDTH: usize = 7 * 8;

impl Rows {
    /// Writes a line of JSON, then the rows, each as seven little-endian numbers.
    pub(crate) fn save(&self, out: &mut impl Write) -> Result<()> {
        let head = serde_json::json!({
            "repeats": self.repeats, "missing": self.missing, "wrong": self.wrong, "others": self.others,
        });
        let mut bytes = head.to_string().into_bytes();
        bytes.push(b'\n');
        for row in &self.list {
            let last = u64::from(row.readings) << 1 | u64::from(row.consistent);
            let device = u64::from(row.device);
            for number in [row.arrival, row.device_clock, row.ts, row.run, row.seq, device, last] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        Ok(out.write_all(&bytes)?)
    }

    /// Reads what [`Rows::save`] wrote.
    pub(crate) fn load(head: &str, rows: &[u8]) -> Result<Self> {
        let head: serde_json::Value = serde_json::from_str(head)?;
        let number = |key: &str| head.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let list = rows.chunks_exact(WIDTH).map(|row| {
            let (numbers, _) = row.as_chunks::<8>();
            let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
            let mut next = || numbers.next().ok_or("a short row");
            let (arrival, device_clock, ts, run, seq) = (next()?, next()?, next()?, next()?, next()?);
            let (device, last) = (u32::try_from(next()?)?, next()?);
            let readings = u32::try_from(last >> 1)?;
            let consistent = last & 1 == 1;
            Ok(Row { arrival, device_clock, ts, run, seq, device, readings, consistent })
        });
        Ok(Self {
            list: list.collect::<Result<_>>()?,
            repeats: number("repeats"),
            missing: number("missing"),
            wrong: number("wrong"),
            others: number("others"),
        })
    }

    /// The rows with readings that arrived in `[from, to)`.
    pub(crate) fn arrived(&self, from: u64, to: u64) -> impl Iterator<Item = &Row> {
        self.list.iter().filter(move |row| row.readings > 0 && (from..to).contains(&row.arrival))
    }
}

/// The value below which the share `part` of `sorted` lies (nearest rank).
pub(crate) fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    // Ranks are small whole numbers: nothing is lost or negative here.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

/// Reads a record; `None` for a message without `run` and `seq`.
pub(crate) fn message(payload: &[u8], arrival: u64) -> Option<Row> {
    let text = std::str::from_utf8(payload).ok()?;
    let text = text.strip_prefix("{\"run\":")?;
    let (run, text) = text.split_once(',')?;
    let (seq, text) = text.strip_prefix("\"seq\":")?.split_once(',')?;
    let mut row = Row {
        arrival,
        device_clock: 0,
        ts: 0,
        run: run.parse().ok()?,
        seq: seq.parse().ok()?,
        device: 0,
        readings: 0,
        consistent: true,
    };
    let Some((head, values)) = text.split_once("\"values\":{") else {
        return Some(row);
    };
    let (values, _) = values.split_once('}')?;
    // Devices are called `d0`, `d1`, ...: the number is enough to tell them apart.
    let (_, device) = head.split_once("\"device\":\"d")?;
    row.device = device.split_once('"')?.0.parse().ok()?;
    let (_, ts) = head.split_once("\"ts\":\"")?;
    row.ts = milliseconds(ts.split_once('"')?.0)?;
    let mut base = None;
    for member in values.split(',').filter(|member| !member.is_empty()) {
        row.readings += 1;
        let Some((index, value)) = register(member) else {
            row.consistent = false;
            continue;
        };
        if index < 4 {
            row.device_clock |= u64::from(value) << (48 - 16 * index);
        } else {
            let counter = value.wrapping_sub(index);
            row.consistent &= *base.get_or_insert(counter) == counter;
        }
    }
    Some(row)
}

/// Reads `"r012":345`.
fn register(member: &str) -> Option<(u16, u16)> {
    let (index, value) = member.strip_prefix("\"r")?.split_once("\":")?;
    Some((index.parse().ok()?, value.parse().ok()?))
}

fn milliseconds(ts: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(ts).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}
