//! Frames to samples.

use std::borrow::Cow;

use super::json;
use crate::address::Address;
use crate::config::Encoding;
use crate::decode::from_layout;
use crate::drivers::Request;
use crate::point::{DecimalMark, Decode, Kind, Point, Raw, Reason, Sample, latin1};

/// How the frames of a device are read.
#[derive(Clone, Copy)]
pub(super) struct Text<'d> {
    pub(super) decode: &'d Decode,
    pub(super) mark: DecimalMark,
    pub(super) encoding: Encoding,
}

impl Text<'_> {
    /// One sample for each point; `None`: the frame is none of this device's.
    ///
    /// Columns and bytes must be there for every point of the device, not only for those that are due: a frame that
    /// lost a part is no frame.
    pub(super) fn samples(self, request: &Request, frame: &[u8]) -> Option<Vec<Sample>> {
        let points = &request.device.points;
        match self.decode {
            Decode::Regex(regex) => {
                let text = self.characters(frame)?;
                let captures = regex.captures(&text)?;
                Some(each(request, |point| {
                    let Address::Name(name) = &point.address else {
                        return Err(Reason::Malformed);
                    };
                    // A group in an optional part of the regex may have taken no part in the match.
                    let group = captures.name(name).ok_or(Reason::Malformed)?;
                    self.raw(point.kind, group.as_str())
                }))
            }
            Decode::Json => {
                let text = self.characters(frame)?;
                let json = json::parse(text.as_bytes())?;
                let mut found = 0;
                let samples = each(request, |point| {
                    let Address::Path(path) = &point.address else {
                        return Err(Reason::Malformed);
                    };
                    let raw = json::find(json, path, point.kind);
                    found += usize::from(raw.is_some());
                    raw.unwrap_or(Err(Reason::Malformed))
                });
                // A device may send texts of other kinds between those that matter.
                (found > 0).then_some(samples)
            }
            Decode::Csv(separator) => {
                let columns: Vec<&[u8]> = frame.split(|byte| byte == separator).collect();
                let last = points.iter().map(|point| match point.address {
                    Address::Column(column) => usize::from(column),
                    _ => 0,
                });
                columns.get(last.max()?)?;
                Some(each(request, |point| {
                    let Address::Column(column) = point.address else {
                        return Err(Reason::Malformed);
                    };
                    let text = columns.get(usize::from(column)).and_then(|text| self.characters(text));
                    self.raw(point.kind, &text.ok_or(Reason::Malformed)?)
                }))
            }
            Decode::Bytes => {
                let end = |point: &Point| place(point).map_or(0, |(start, length)| start + length);
                frame.get(..points.iter().map(end).max()?)?;
                Some(each(request, |point| {
                    let (start, length) = place(point).ok_or(Reason::Malformed)?;
                    let bytes = frame.get(start..start + length).ok_or(Reason::Malformed)?;
                    if matches!(point.kind, Kind::String { .. }) && self.encoding == Encoding::Latin1 {
                        let mut bytes = bytes.to_vec();
                        if point.order.swaps_bytes() {
                            bytes.chunks_mut(2).for_each(<[u8]>::reverse);
                        }
                        return Ok(Raw::Latin1(bytes));
                    }
                    from_layout(point.kind, point.order, bytes).map(Raw::Words).ok_or(Reason::Malformed)
                }))
            }
        }
    }

    /// The characters of bytes; `None`: they are none.
    fn characters(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self.encoding {
            Encoding::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Encoding::Latin1 => Some(latin1(bytes).into()),
        }
    }

    /// What stands in a text for a point.
    fn raw(self, kind: Kind, text: &str) -> Result<Raw, Reason> {
        match (kind, self.encoding, self.mark) {
            (Kind::String { .. }, Encoding::Latin1, _) => {
                let bytes = text.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>();
                bytes.map(Raw::Latin1).map_err(|_| Reason::Malformed)
            }
            (Kind::String { .. } | Kind::Bool, ..) | (_, _, DecimalMark::Point) => {
                Ok(Raw::Text(text.to_owned()))
            }
            // A point may part thousands, or the device prints otherwise than it was said.
            (_, _, DecimalMark::Comma) if text.contains('.') => Err(Reason::Malformed),
            (_, _, DecimalMark::Comma) => Ok(Raw::Text(text.replace(',', "."))),
        }
    }
}

/// First byte and length.
fn place(point: &Point) -> Option<(usize, usize)> {
    match point.address {
        Address::Byte { offset, .. } => Some((offset.into(), point.kind.bytes().into())),
        _ => None,
    }
}

fn each(request: &Request, mut raw: impl FnMut(&Point) -> Result<Raw, Reason>) -> Vec<Sample> {
    let sample = |index: &usize| {
        let point = request.device.points.get(*index);
        Sample { point: *index, raw: point.map_or(Err(Reason::Malformed), &mut raw) }
    };
    request.points.iter().map(sample).collect()
}
