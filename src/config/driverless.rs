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
    points
        .into_iter()
        .flat_map(Dict::values)
        .filter_map(Value::as_dict)
        .any(|point| point.contains_key("no_merge") || point.get("address").is_some_and(is_modbus))
}

/// It is a Modbus address, or was meant to be one.
fn is_modbus(address: &Value) -> bool {
    let number = address.to_i128().map(|number| number.to_string());
    let Some(text) = number.as_deref().or(address.as_str()) else {
        return false;
    };
    let areas = [Area::Coil, Area::Discrete, Area::Input, Area::Holding];
    let area = text.split_once(':').map(|(area, _)| area);
    parse_modbus(text).is_ok() || areas.iter().any(|known| Some(known.name()) == area)
}
