//! `request` and `decode` of a serial device: what is asked, and how a frame becomes values.

use std::collections::BTreeSet;

use regex::Regex;

use super::frame::{Frame, Shape};
use super::table::Table;
use crate::address::Address;
use crate::point::{DecimalMark, Decode, Pattern, Point, Protocol};

/// Longest request, in bytes.
const LONGEST_REQUEST: usize = 256;

const DECODE: &str = "write decode = { regex = '^(?<weight>[0-9.]+)kg$' }, a named group for each point's address; \
                      or { json = true }, { csv = \",\" } or { bytes = true }";

/// The ways to decode, of which there must be one.
const WAYS: [&str; 4] = ["regex", "json", "csv", "bytes"];

/// Reads both keys.
pub(super) fn text(table: &mut Table) -> Option<Protocol> {
    let help =
        "write what is sent, such as \"W\\r\\n\" or { hex = \"02 57 03\" }, or remove the key to listen only";
    let request = table.bytes("request", LONGEST_REQUEST, help);
    if !table.has("decode") {
        table.missing("decode", "{key} is missing", DECODE);
    }
    let mut inner = table.table("decode")?;
    let given: Vec<_> = WAYS.into_iter().filter(|way| inner.has(way)).collect();
    if given.is_empty() {
        inner.fault("regex", "{key} is missing", DECODE);
    }
    if let [first, second, ..] = given.as_slice() {
        inner.fault(second, &format!("{{key}} and {first} exclude one another"), "keep one of them");
    }
    let regex = regex(&mut inner);
    let csv = separator(&mut inner);
    for key in ["json", "bytes"] {
        if inner.has(key) && !inner.flag(key, true) {
            inner.fault(key, "{key} = false says nothing", DECODE);
        }
    }
    inner.forget(&["json", "bytes"]);
    inner.finish();
    let decode = match given.first() {
        Some(&"regex") => regex.map(|regex| Decode::Regex(Pattern(regex))),
        Some(&"csv") => csv.map(Decode::Csv),
        Some(&"json") => Some(Decode::Json),
        Some(_) => Some(Decode::Bytes),
        None => None,
    };
    let mark = mark(table, decode.as_ref());
    Some(Protocol::Text { request: request.map(Into::into), decode: decode?, mark })
}

/// `decimal`
fn mark(table: &mut Table, decode: Option<&Decode>) -> DecimalMark {
    let given = table.has("decimal");
    let mark = table.choice("decimal", &[(".", DecimalMark::Point), (",", DecimalMark::Comma)]);
    match decode {
        Some(Decode::Json | Decode::Bytes) => {
            if given {
                table.fault("decimal", "{key} goes with regex and csv only", "remove it");
            }
        }
        Some(Decode::Csv(b',')) if mark == Some(DecimalMark::Comma) => {
            let help = "write what else stands between the columns, such as decode = { csv = \";\" }";
            table.fault("decimal", "{key} is what stands between the columns", help);
        }
        Some(Decode::Csv(_) | Decode::Regex(_)) | None => {
            if mark.is_none() {
                table.note("decimal", ".".into());
            }
        }
    }
    mark.unwrap_or_default()
}

fn regex(inner: &mut Table) -> Option<Regex> {
    let pattern = inner.text("regex")?;
    match Regex::new(&pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The last line of the several says what is wrong; the others draw where.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            inner.fault("regex", &format!("{{key}} is not a regular expression: {reason}"), DECODE);
            None
        }
    }
}

fn separator(inner: &mut Table) -> Option<u8> {
    let text = inner.any_text("csv")?;
    inner.note("csv", text.as_str().into());
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => {
            let help = "write what stands between two columns, such as \",\" or \"\\t\"";
            inner.fault("csv", "{key} is no single ASCII character", help);
            None
        }
    }
}

/// The names of the groups of a regex.
pub(super) fn groups(regex: &Regex) -> BTreeSet<&str> {
    regex.capture_names().flatten().collect()
}

/// Every point of a byte layout must lie inside a frame, where its length is known.
pub(super) fn check_layout(table: &Table, frame: &Frame, points: &[Point]) {
    let Shape::Length { length, .. } = &frame.shape else {
        return;
    };
    let sum = frame.checksum.as_ref().map_or(0, |sum| sum.width() + sum.mark.len());
    let room = usize::from(*length).saturating_sub(sum);
    for point in points {
        if let Address::Byte { offset, .. } = point.address
            && usize::from(offset) + usize::from(point.kind.bytes()) > room
        {
            let what = format!(
                "{{key}}.{}.address reaches beyond the frame, which has bytes 0 to {}",
                point.id,
                room - 1
            );
            table.fault("points", &what, "correct the address, or the length of the frame");
        }
    }
}
