//! Requests: what a plugin has to know, and the line that says it.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::point::{Device, Point, Protocol, Value};

/// One request.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    #[serde(flatten)]
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Request<'a> {
    Open { api: u8, timeout_ms: u64, options: &'a Map<String, Json>, devices: Vec<Asked<'a>> },
    Read(Asked<'a>),
    Write(Wanted<'a>),
}

/// A device with some of its points.
#[derive(Serialize)]
struct Asked<'a> {
    device: &'a str,
    address: Option<&'a str>,
    points: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    device: &'a str,
    address: Option<&'a str>,
    point: Place<'a>,
    value: &'a RawValue,
}

/// A point as a plugin has to know it.
#[derive(Serialize)]
struct Place<'a> {
    id: &'a str,
    address: String,
    r#type: &'a str,
    writable: bool,
}

impl<'a> Place<'a> {
    fn new(point: &'a Point) -> Self {
        Self {
            id: point.id.as_str(),
            address: point.address.to_string(),
            r#type: point.kind.name(),
            writable: point.writable,
        }
    }
}

impl<'a> Asked<'a> {
    fn new(device: &'a Device, points: impl Iterator<Item = &'a Point>) -> Self {
        Self {
            device: device.id.as_str(),
            address: address(device),
            points: points.map(Place::new).collect(),
        }
    }
}

fn address(device: &Device) -> Option<&str> {
    match &device.protocol {
        Protocol::Plugin { address } => address.as_deref(),
        _ => None,
    }
}

fn line(id: u64, request: Request) -> Vec<u8> {
    // Names, texts and numbers: none of it can fail, and an empty line would be answered by nobody.
    let mut line = serde_json::to_vec(&Line { id, request }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The first request: how the plugin is set, and what will be asked of it.
pub(in super::super) fn open<'a>(
    id: u64,
    timeout_ms: u64,
    options: &'a Map<String, Json>,
    devices: impl Iterator<Item = &'a Device>,
) -> Vec<u8> {
    let devices = devices.map(|device| Asked::new(device, device.points.iter())).collect();
    line(id, Request::Open { api: 1, timeout_ms, options, devices })
}

/// Asks for points of a device.
pub(in super::super) fn read<'a>(
    id: u64,
    device: &'a Device,
    points: impl Iterator<Item = &'a Point>,
) -> Vec<u8> {
    line(id, Request::Read(Asked::new(device, points)))
}

/// Writes a raw value, exact; it must be finite, as everything is that `encode` has let through.
pub(in super::super) fn write(id: u64, device: &Device, point: &Point, value: &Value) -> Option<Vec<u8>> {
    let value = RawValue::from_string(value.to_string()).ok()?;
    let (device, address) = (device.id.as_str(), address(device));
    Some(line(id, Request::Write(Wanted { device, address, point: Place::new(point), value: &value })))
}
