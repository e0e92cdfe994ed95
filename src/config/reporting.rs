//! What a point says about which of its readings are published.

use std::ops::RangeInclusive;
use std::time::Duration;

use rust_decimal::Decimal;

use super::table::Table;
use super::unit::show_duration;
use crate::point::{Kind, Point, Reporting};

/// How often a value that stays the same may be published again.
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(7 * 24);

/// Reads `report`, `deadband` and `heartbeat`. Whoever gives one of the latter means changes, unless he says otherwise.
pub(super) fn reporting(table: &mut Table, kind: Option<Kind>) -> Reporting {
    if let Some(kind @ (Kind::Bool | Kind::String { .. })) = kind {
        let what = format!("{{key}} goes with numbers only, not with {}", kind.name());
        table.refuse("deadband", &what, "remove it; report = \"change\" publishes every change");
    }
    let given: Vec<_> = ["deadband", "heartbeat"].into_iter().filter(|key| table.has(key)).collect();
    let deadband = table.decimal("deadband").unwrap_or(Decimal::ZERO);
    if deadband.is_sign_negative() && !deadband.is_zero() {
        table.fault("deadband", "{key} must not be negative", "write a distance such as 0.5");
    }
    let heartbeat =
        table.has("heartbeat").then(|| table.duration("heartbeat", HEARTBEATS, *HEARTBEATS.end()));
    let is_change = if table.has("report") {
        let is_change = table.choice("report", &[("always", false), ("change", true)]);
        if is_change == Some(false) {
            for key in &given {
                let name = table.name(key);
                table.reader.warn(format!("{name} has no effect with report = \"always\""));
            }
        }
        is_change.unwrap_or(false)
    } else {
        table.note("report", if given.is_empty() { "always" } else { "change" }.into());
        !given.is_empty()
    };
    if is_change { Reporting::Change { deadband, heartbeat } } else { Reporting::Always }
}

/// Warns of points that are to be published more often than they are polled.
pub(super) fn check_heartbeats(table: &Table, poll_interval: Duration, points: &[Point]) {
    for point in points {
        let interval = point.poll_interval.unwrap_or(poll_interval);
        if let Reporting::Change { heartbeat: Some(heartbeat), .. } = point.reporting
            && heartbeat < interval
        {
            table.reader.warn(format!(
                "{}.{}.heartbeat = {} cannot be kept: the point is polled every {}",
                table.name("points"),
                point.id,
                show_duration(heartbeat),
                show_duration(interval)
            ));
        }
    }
}
