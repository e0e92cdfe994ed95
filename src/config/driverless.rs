//! Devices of which nobody knows the driver: templates that no device has, devices whose link is missing or faulty.
//!
//! What they say is judged all the same, by what it looks like.

use super::decode::text;
use super::devices::TEXT_KEYS;
use super::file::{Dict, Value};
use super::table::Table;
use super::{Framing, modbus};
use crate::address::{Area, parse_modbus};
use crate::point::{Protocol, Reads};

/// What the keys and the addresses look like; takes those that belong to it. A plugin where nothing tells: it takes every
/// address.
pub(super) fn guess(table: &mut Table) -> Protocol {
    let has_any = |keys: &[&'static str]| {
        // Each is asked for, so that each is known.
        keys.iter().map(|key| table.has(key)).filter(|has| *has).count() > 0
    };
    let (is_text, is_modbus) = (has_any(&TEXT_KEYS), has_any(&modbus::DEVICE_KEYS));
    let unknown = Protocol::Plugin { address: None };
    if is_text {
        modbus::refuse_keys(table);
        table.text_or_number("address");
        return text(table).unwrap_or(unknown);
    }
    if is_modbus || has_modbus_points(&table.rest()) {
        // Of all Modbus links, those over TCP take the most units.
        return modbus::unit(table, Framing::Tcp).unwrap_or_else(stand_in);
    }
    table.text_or_number("address");
    unknown
}

/// A Modbus unit of whatever number, where the right one is not known.
pub(super) fn stand_in() -> Protocol {
    Protocol::Modbus { unit: 1, reads: Reads::default(), broadcast: false, read_write: false }
}

fn has_modbus_points(device: &Dict) -> bool {
    let points = device.get("points").and_then(Value::as_dict);
    let points: Vec<&Dict> = points.into_iter().flat_map(Dict::values).filter_map(Value::as_dict).collect();
    let text = |point: &&Dict| point.get("address").and_then(text_of);
    // Digits alone may be an address of a plugin's too; so may what stands at the device.
    let is_unit = device.get("address").is_none_or(|address| address.to_i128().is_some());
    let is_number = |text: String| parse_modbus(&text).is_ok();
    points
        .iter()
        .any(|point| point.contains_key("no_merge") || text(point).is_some_and(|text| has_area(&text)))
        || is_unit && !points.is_empty() && points.iter().all(|point| text(point).is_some_and(is_number))
}

fn text_of(address: &Value) -> Option<String> {
    address.to_i128().map(|number| number.to_string()).or_else(|| address.as_str().map(str::to_owned))
}

/// It is a Modbus address by its area, or was meant to be one.
fn has_area(address: &str) -> bool {
    let areas = [Area::Coil, Area::Discrete, Area::Input, Area::Holding];
    address.split_once(':').is_some_and(|(area, _)| areas.iter().any(|known| known.name() == area))
}
