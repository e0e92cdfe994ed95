//! What stands in the frames of a serial device: text that a regex matches, JSON, columns or bytes, with moving
//! values at the places of the points.

use std::time::Duration;

use serde_json::Value as Json;

use super::SimulateError;
use super::frame::FrameMaker;
use super::wave::{Wave, raw_of};
use crate::address::{Address, Step};
use crate::config::{Encoding, Frame, Shape};
use crate::decode::{encode, to_layout};
use crate::drivers::serial::wrap;
use crate::point::{DecimalMark, Decode, Device, Point, Raw, Value};

/// Makes the frames of one device.
#[derive(Debug)]
pub(super) struct Content {
    how: How,
    mark: DecimalMark,
    encoding: Encoding,
    points: Vec<(Point, Wave)>,
}

#[derive(Debug)]
enum How {
    Regex(Box<FrameMaker>),
    Json,
    Csv(u8),
    Bytes,
}

impl Content {
    pub(super) fn new(
        device: &Device,
        decode: &Decode,
        mark: DecimalMark,
        encoding: Encoding,
    ) -> Result<Self, SimulateError> {
        let how = match decode {
            Decode::Regex(regex) => {
                let maker = FrameMaker::new(regex, &device.points, mark);
                How::Regex(Box::new(maker.ok_or_else(|| SimulateError::Regex(device.id.to_string()))?))
            }
            Decode::Json => How::Json,
            Decode::Csv(separator) => How::Csv(*separator),
            Decode::Bytes => How::Bytes,
        };
        let points = device.points.iter().enumerate().map(|(index, point)| {
            // What stands in a frame is the raw number.
            let raw = raw_of(point);
            let wave = Wave::raw(point, &raw, index);
            (raw, wave)
        });
        Ok(Self { how, mark, encoding, points: points.collect() })
    }

    /// The frame at this age, with its marks and its checksum.
    pub(super) fn frame(&self, frame: &Frame, age: Duration) -> Option<Vec<u8>> {
        let values = || self.points.iter().filter_map(|(point, wave)| Some((point, wave.at(age)?)));
        let (mut content, fill) = match &self.how {
            How::Regex(maker) => (self.bytes(&maker.frame(age)?)?, b' '),
            How::Json => {
                let mut json = Json::Null;
                for (point, value) in values() {
                    let Address::Path(path) = &point.address else { continue };
                    let place = path.steps().iter().fold(&mut json, enter);
                    *place = match value {
                        Value::Bool(on) => on.into(),
                        Value::Text(text) => text.into(),
                        number => serde_json::from_str(&number.to_string()).ok()?,
                    };
                }
                (serde_json::to_vec(&json).ok()?, b' ')
            }
            How::Csv(separator) => {
                let mut columns = Vec::new();
                for (point, value) in values() {
                    let Address::Column(column) = point.address else { continue };
                    let column = usize::from(column);
                    columns.resize(columns.len().max(column + 1), String::new());
                    *columns.get_mut(column)? = match value {
                        Value::Bool(on) => u8::from(on).to_string(),
                        Value::Text(text) => text,
                        number if self.mark == DecimalMark::Comma => number.to_string().replace('.', ","),
                        number => number.to_string(),
                    };
                }
                (self.bytes(&columns.join(&char::from(*separator).to_string()))?, b' ')
            }
            How::Bytes => {
                let mut bytes = Vec::new();
                for (point, value) in values() {
                    lay(&mut bytes, point, &value)?;
                }
                (bytes, 0)
            }
        };
        let sum = frame.checksum.as_ref().map_or(0, |sum| sum.width() + sum.mark.len());
        match &frame.shape {
            Shape::Length { start, length } => {
                let room = usize::from(*length).checked_sub(sum).filter(|room| *room >= content.len())?;
                content.resize(room, fill);
                begin(&mut content, start);
            }
            Shape::Counted { start, at, size, .. } => {
                content.resize(content.len().max(usize::from(at + size)), fill);
                begin(&mut content, start);
            }
            Shape::Marks { .. } | Shape::Silence(_) => {}
        }
        Some(wrap(frame, &content))
    }

    /// A text as the device sends it; `None`: it has no such characters.
    fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Utf8 => Some(text.as_bytes().to_vec()),
            Encoding::Latin1 => text.chars().map(|c| u8::try_from(c).ok()).collect(),
        }
    }
}

fn begin(content: &mut [u8], start: &[u8]) {
    for (place, byte) in content.iter_mut().zip(start) {
        *place = *byte;
    }
}

/// The place inside, made where it is not there yet.
fn enter<'j>(json: &'j mut Json, step: &Step) -> &'j mut Json {
    match step {
        Step::Key(key) => {
            if !json.is_object() {
                *json = Json::Object(serde_json::Map::new());
            }
            &mut json[key.as_str()]
        }
        Step::Index(index) => {
            // No frame has room for more.
            let index = usize::try_from(*index).unwrap_or(0).min(4096);
            if !json.is_array() {
                *json = Json::Array(Vec::new());
            }
            if let Some(items) = json.as_array_mut() {
                items.resize(items.len().max(index + 1), Json::Null);
            }
            &mut json[index]
        }
    }
}

/// Puts a value where its point lies.
fn lay(bytes: &mut Vec<u8>, point: &Point, value: &Value) -> Option<()> {
    let Address::Byte { offset, bit } = point.address else {
        return Some(());
    };
    let start = usize::from(offset);
    let end = start + usize::from(point.kind.bytes());
    bytes.resize(bytes.len().max(end), 0);
    let place = bytes.get_mut(start..end)?;
    if let Value::Bool(on) = value {
        let mask = 1_u8.checked_shl(bit.unwrap_or(0).into())?;
        *place.first_mut()? |= if *on { mask } else { 0 };
        return Some(());
    }
    let Raw::Words(words) = encode(point, value).ok()? else {
        return None;
    };
    let wanted = to_layout(point.kind, point.order, &words)?;
    (wanted.len() == place.len()).then(|| place.copy_from_slice(&wanted))
}
