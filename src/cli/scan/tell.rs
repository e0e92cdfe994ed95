//! What a scan found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::Scan;
use super::ask::Unit;
use super::faces::{Face, faces, name_of};
use crate::address::Area;
use crate::cli::columns::columns;
use crate::cli::read::plain;
use crate::point::Device;
use crate::record::Body;

/// For people: of each unit what it is, a head to paste, and its registers.
pub(super) fn to_text(scan: &Scan<'_>, all: bool) -> String {
    let mut text = String::new();
    for unit in &scan.found {
        // Writing into a String cannot fail.
        let _infallible = writeln!(text, "unit {}{}", unit.number, about(unit));
        if scan.places.is_empty() {
            continue;
        }
        for line in summary(scan, unit) {
            let _infallible = writeln!(text, "  {line}");
        }
        let rows: Vec<[String; 6]> =
            unit.cells.iter().flat_map(|(place, word)| rows(unit, *place, *word, all)).collect();
        if rows.is_empty() {
            continue;
        }
        let head =
            ["address", "raw", "value", "type", "order", "line for the configuration"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        let _infallible = writeln!(text, "\n{}", paste_head(scan, unit));
        for line in columns(&rows).lines() {
            let _infallible = writeln!(text, "  {line}");
        }
    }
    text
}

/// What stands above the lines to paste: a device, or where they belong if there is one.
fn paste_head(scan: &Scan<'_>, unit: &Unit) -> String {
    let number = unit.number;
    match scan.device(number) {
        Some(Device { id, .. }) => {
            format!("  # unit {number} is devices.{id}: add to [devices.{id}.points]")
        }
        None => format!(
            "  [devices.{0}]\n  link = \"{1}\"\n  address = {number}\n  [devices.{0}.points]",
            scan.new_id(number),
            scan.link.id,
        ),
    }
}

fn about(unit: &Unit) -> String {
    let identity = unit.identity.as_ref().map(|identity| {
        let parts = [&identity.vendor, &identity.product, &identity.revision];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    });
    let identity = identity.filter(|identity| !identity.is_empty());
    let identity = identity.map(|identity| format!(": {identity}")).unwrap_or_default();
    let answer = unit.answer.as_ref().map(|answer| format!(" (answers with {answer})")).unwrap_or_default();
    format!("{identity}{answer}")
}

/// How many of each range are there, and where they are not.
fn summary(scan: &Scan<'_>, unit: &Unit) -> Vec<String> {
    let mut lines = Vec::new();
    for places in scan.places {
        let (area, name) = (places.area, places.area.name());
        let inside = (area, places.first)..=(area, places.last);
        let there = unit.cells.range(inside.clone()).count();
        let asked = u32::from(places.last - places.first) + 1;
        let holes = spans(unit.holes.range(inside).map(|((_, number), code)| (*number, *code)));
        let holes: Vec<_> = holes
            .iter()
            .map(|(first, last, code)| format!("{} exception-{code}", range(*first, *last)))
            .collect();
        let holes = if holes.is_empty() { String::new() } else { format!("; not: {}", holes.join(", ")) };
        lines.push(format!("{name}:{}: {there} of {asked} answer{holes}", range(places.first, places.last)));
    }
    lines.extend(unit.left.iter().cloned());
    lines
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Neighbours with the same exception, together.
fn spans(holes: impl Iterator<Item = (u16, u8)>) -> Vec<(u16, u16, u8)> {
    let mut spans: Vec<(u16, u16, u8)> = Vec::new();
    for (number, code) in holes {
        match spans.last_mut() {
            Some((_, last, same)) if *same == code && last.checked_add(1) == Some(number) => *last = number,
            _ => spans.push((number, number, code)),
        }
    }
    spans
}

fn rows(unit: &Unit, (area, number): (Area, u16), word: u16, all: bool) -> Vec<[String; 6]> {
    let place = format!("{}:{number}", area.name());
    let raw = if area.is_bits() { word.to_string() } else { format!("{word:04X}") };
    let row = |(index, face): (usize, Face)| {
        let (place, raw) =
            if index == 0 { (place.clone(), raw.clone()) } else { (String::new(), String::new()) };
        let order = if face.kinds.iter().any(|kind| kind.registers() > 1) || face.order.swaps_bytes() {
            name_of(face.order).to_owned()
        } else {
            String::new()
        };
        let kinds: Vec<_> = face.kinds.iter().map(|kind| kind.name()).collect();
        let mut kinds = kinds.join(" ");
        if let Some(bit) = face.bit {
            kinds = format!("bit {bit}");
        }
        [place, raw, plain(&face.value), kinds, order, face.line(area, number)]
    };
    let faces = faces(&unit.cells, (area, number), all);
    let set: Vec<String> = faces.iter().filter_map(|face| Some(face.bit?.to_string())).collect();
    let mut rows: Vec<_> = faces.into_iter().enumerate().map(row).collect();
    if !all && !set.is_empty() {
        // One row for them; the line of the first is easily made that of another.
        rows.truncate(rows.len() + 1 - set.len());
        if let Some([_, _, value, kinds, ..]) = rows.last_mut() {
            (*value, *kinds) = (set.join(" "), "bits set".to_owned());
        }
    }
    rows
}

/// For programs: the same, values exact.
pub(super) fn to_json(scan: &Scan<'_>, all: bool) -> String {
    let body = Body::new()
        .with("link", scan.link.id.as_str())
        .with("asked", &scan.units)
        .with("interrupted", &scan.is_interrupted)
        .with_json("units", |out| list(out, &scan.found, |out, unit| out.extend(unit_json(scan, unit, all))));
    format!("{}\n", String::from_utf8_lossy(&body.object()))
}

fn unit_json(scan: &Scan<'_>, unit: &Unit, all: bool) -> Vec<u8> {
    let mut body = Body::new().with("unit", &unit.number);
    if let Some(device) = scan.device(unit.number) {
        body = body.with("device", device.id.as_str());
    }
    if let Some(answer) = &unit.answer {
        body = body.with("answer", answer);
    }
    if let Some(identity) = &unit.identity {
        let (vendor, product, revision) = (&identity.vendor, &identity.product, &identity.revision);
        body = body.with("identity", &json!({ "vendor": vendor, "product": product, "revision": revision }));
    }
    if scan.places.is_empty() {
        return body.object();
    }
    let cells: Vec<_> = unit.cells.iter().collect();
    let mut by_code: BTreeMap<Area, Vec<(u16, u8)>> = BTreeMap::new();
    for ((area, number), code) in &unit.holes {
        by_code.entry(*area).or_default().push((*number, *code));
    }
    let holes = by_code.into_iter().flat_map(|(area, holes)| {
        let name = move |(first, last, code)| {
            json!({ "address": format!("{}:{}", area.name(), range(first, last)), "reason": format!("exception-{code}") })
        };
        spans(holes.into_iter()).into_iter().map(name)
    });
    let holes: Vec<_> = holes.collect();
    let body = body.with_json("registers", |out| {
        list(out, &cells, |out, (place, word)| out.extend(cell_json(unit, **place, **word, all)));
    });
    body.with("holes", &holes).with("unfinished", &unit.left).object()
}

fn cell_json(unit: &Unit, (area, number): (Area, u16), word: u16, all: bool) -> Vec<u8> {
    let faces = faces(&unit.cells, (area, number), all);
    let face = |out: &mut Vec<u8>, face: &Face| {
        let kinds: Vec<_> = face.kinds.iter().map(|kind| kind.name()).collect();
        let mut body = Body::new().with("types", &kinds).with("order", name_of(face.order));
        if let Some(bit) = face.bit {
            body = body.with("bit", &bit);
        }
        let body = body.with_json("value", |out| face.value.write_json(out));
        out.extend(body.with("config", &face.line(area, number)).object());
    };
    let body = Body::new().with("address", &format!("{}:{number}", area.name())).with("raw", &word);
    body.with_json("readings", |out| list(out, &faces, face)).object()
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}
