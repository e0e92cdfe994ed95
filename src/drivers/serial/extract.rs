//! Frames to samples.

use super::json;
use crate::address::Address;
use crate::decode::from_layout;
use crate::drivers::Request;
use crate::point::{Decode, Point, Raw, Reason, Sample};

/// One sample for each point; `None`: the frame is none of this device's.
///
/// Columns and bytes must be there for every point of the device, not only for those that are due: a frame that
/// lost a part is no frame.
pub(super) fn samples(request: &Request, decode: &Decode, frame: &[u8]) -> Option<Vec<Sample>> {
    let points = &request.device.points;
    match decode {
        Decode::Regex(regex) => {
            let captures = regex.captures(std::str::from_utf8(frame).ok()?)?;
            Some(each(request, |point| {
                let Address::Name(name) = &point.address else {
                    return Err(Reason::Malformed);
                };
                // A group in an optional part of the regex may have taken no part in the match.
                let group = captures.name(name).ok_or(Reason::Malformed)?;
                Ok(Raw::Text(group.as_str().to_owned()))
            }))
        }
        Decode::Json => {
            let json = json::parse(frame)?;
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
                let text = columns.get(usize::from(column)).and_then(|text| std::str::from_utf8(text).ok());
                Ok(Raw::Text(text.ok_or(Reason::Malformed)?.to_owned()))
            }))
        }
        Decode::Bytes => {
            let end = |point: &Point| place(point).map_or(0, |(start, length)| start + length);
            frame.get(..points.iter().map(end).max()?)?;
            Some(each(request, |point| {
                let (start, length) = place(point).ok_or(Reason::Malformed)?;
                let bytes = frame.get(start..start + length).ok_or(Reason::Malformed)?;
                from_layout(point.kind, point.order, bytes).map(Raw::Words).ok_or(Reason::Malformed)
            }))
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
