//! What a cloud needs to know of a device.

use std::collections::BTreeMap;

use super::FORMAT;
use crate::point::Device;
use crate::record::{self, Body};

/// The retained `info` of a device: its points as a cloud needs to know them.
pub(super) fn info(device: &Device) -> Vec<u8> {
    let mut body = Body::new().with("format", &FORMAT);
    if let Some(label) = &device.label {
        body = body.with("label", label);
    }
    if let Some(tags) = &device.tags {
        body = body.with("tags", tags);
    }
    body.with("link", device.link.as_str())
        .with_json("points", |out| {
            record::object(
                out,
                device.points.iter().map(|point| (point.id.as_str(), point)),
                |out, point| {
                    let mut body = Body::new();
                    if let Some(label) = &point.label {
                        body = body.with("label", label);
                    }
                    if let Some(tags) = &point.tags {
                        body = body.with("tags", tags);
                    }
                    body = body.with("type", point.kind.name());
                    if let Some(unit) = &point.unit {
                        body = body.with("unit", unit);
                    }
                    body = body.with("writable", &point.writable);
                    for (key, limit) in [("min", point.min), ("max", point.max)] {
                        if let Some(limit) = limit {
                            body = body
                                .with_json(key, |out| out.extend_from_slice(limit.to_string().as_bytes()));
                        }
                    }
                    if !point.values.is_empty() {
                        let values: BTreeMap<String, &String> =
                            point.values.iter().map(|(raw, name)| (raw.to_string(), name)).collect();
                        body = body.with("values", &values);
                    }
                    out.extend_from_slice(&body.object());
                },
            );
        })
        .object()
}
