//! `fieldgate read`: one poll, straight from the device.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::time::Instant;

use super::Exit;
use super::columns::columns;
use super::direct::{self, Trouble};
use crate::clock::Moment;
use crate::config::LinkConfig;
use crate::decode::{self, decode};
use crate::drivers::{Driver, DriverError, Request};
use crate::point::{Device, Point, Protocol, Raw, Reason, Value, latin1};
use crate::record::{self, Body};

/// Arguments of `fieldgate read`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Id of the device.
    device: String,
    /// Ids of points; without, all of them.
    #[arg(value_name = "POINT")]
    points: Vec<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// What came for one point.
#[derive(Debug)]
struct Found {
    point: usize,
    raw: Option<Raw>,
    value: Result<Value, Reason>,
}

/// Polls the device once, with no broker and no buffer, and prints each point: value, unit, quality, and what the device
/// sent. A point without a value makes it a failure.
#[must_use]
pub fn read(files: &[PathBuf], arguments: &Arguments) -> Exit {
    let field = match direct::load(files) {
        Ok(field) => field,
        Err(exit) => return exit,
    };
    let asked = || {
        let (link, device) = direct::device(&field, &arguments.device)?;
        if device.is_broadcast() {
            let what =
                format!("{} stands for every unit of its link: it is written and never read", device.id);
            return Err(Trouble::usage(what).help("read one of the units"));
        }
        let mut due = Vec::new();
        for id in &arguments.points {
            let index = direct::point(&device, id)?;
            if !due.contains(&index) {
                due.push(index);
            }
        }
        if arguments.points.is_empty() {
            due = (0..device.points.len()).collect();
        }
        Ok((link, device, due))
    };
    let (link, device, due) = match asked() {
        Ok(asked) => asked,
        Err(trouble) => return trouble.tell(),
    };
    let polled = direct::run(async {
        let mut driver = direct::open(files, link, &device).await?;
        Ok(poll(&mut *driver, &device, &due).await)
    });
    let (found, lost, said) = match polled {
        Ok(Polled { found, lost, said }) => {
            (found, lost.map(|error| direct::lost(files, link, &error)), said)
        }
        Err(trouble) => {
            let offline = |&point: &usize| Found { point, raw: None, value: Err(Reason::Offline) };
            (due.iter().map(offline).collect(), Some(trouble), None)
        }
    };
    let mut out = io::stdout().lock();
    let told = if arguments.json {
        writeln!(out, "{}", to_json(&device, &found, field.clock.now()))
    } else if lost.is_none() {
        out.write_all(to_text(&device, &found).as_bytes())
    } else {
        Ok(())
    };
    let exit = match lost.or_else(|| complaint(link, &device, &found, said.as_deref())) {
        Some(trouble) => trouble.tell(),
        None => Exit::Done,
    };
    direct::written(told, exit)
}

/// What a poll came to.
struct Polled {
    found: Vec<Found>,
    /// How the link was lost on the way.
    lost: Option<DriverError>,
    /// What is wrong with the first answer that is none.
    said: Option<String>,
}

/// Asks for the points `due`, in their order.
async fn poll(driver: &mut dyn Driver, device: &Arc<Device>, due: &[usize]) -> Polled {
    let mut found: Vec<Found> = Vec::new();
    let mut requests: Vec<Request> = driver.plan(device, due);
    requests.reverse();
    let (mut lost, mut said, mut silent) = (None, None, false);
    while let Some(request) = requests.pop() {
        let fail = |reason: Reason| move |&point: &usize| Found { point, raw: None, value: Err(reason) };
        if lost.is_some() || silent {
            let reason = if silent { Reason::Timeout } else { Reason::Offline };
            found.extend(request.points.iter().map(fail(reason)));
            continue;
        }
        let limit = device.patience + driver.overhead(device);
        let answer = driver.exchange(&request, Instant::now() + limit).await;
        if let Err(DriverError::Refused(code)) = answer {
            // As a poll of the gateway does.
            let parts = driver.split(&request, code);
            if !parts.is_empty() {
                requests.extend(parts.into_iter().rev());
                continue;
            }
        }
        match answer {
            Ok(samples) => found.extend(samples.into_iter().filter_map(|sample| {
                let point = device.points.get(sample.point)?;
                let value = sample.raw.as_ref().map_err(|reason| *reason).and_then(|raw| decode(point, raw));
                let wrong = || decode::complaint(point, sample.raw.as_ref().ok()?, &value);
                said = said.take().or_else(wrong);
                Some(Found { point: sample.point, raw: sample.raw.ok(), value })
            })),
            Err(error) => {
                found.extend(request.points.iter().map(fail(error.reason())));
                silent = error.is_silence();
                match error {
                    DriverError::Lost(_) => lost = Some(error),
                    DriverError::Malformed(_) | DriverError::Unconfirmed(_) | DriverError::Noise => {
                        said.get_or_insert_with(|| error.to_string());
                    }
                    DriverError::Timeout | DriverError::Refused(_) => {}
                }
            }
        }
    }
    for point in due {
        // The driver knows already that the device refuses it.
        if !found.iter().any(|found| found.point == *point) {
            found.push(Found { point: *point, raw: None, value: Err(Reason::Exception(2)) });
        }
    }
    found.sort_by_key(|found| due.iter().position(|point| *point == found.point));
    Polled { found, lost, said }
}

/// What a device sent, for people.
fn shown(raw: &Raw) -> String {
    match raw {
        Raw::Bit(on) => u8::from(*on).to_string(),
        Raw::Words(words) => words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" "),
        Raw::Text(text) => format!("{text:?}"),
        Raw::Latin1(bytes) => format!("{:?}", latin1(bytes)),
        Raw::Number(number) => number.to_string(),
    }
}

fn to_text(device: &Device, found: &[Found]) -> String {
    let mut rows = vec![["point", "value", "unit", "quality", "raw"].map(str::to_owned)];
    for Found { point, raw, value } in found {
        let Some(point) = device.points.get(*point) else {
            continue;
        };
        let (value, quality) = match value {
            Ok(value) => (plain(value), "good".to_owned()),
            Err(reason) => ("-".to_owned(), format!("bad: {reason}")),
        };
        let unit = point.unit.clone().unwrap_or_default();
        rows.push([point.id.to_string(), value, unit, quality, raw.as_ref().map(shown).unwrap_or_default()]);
    }
    columns(&rows)
}

/// A value for people; text without quotes, and without what would move the cursor.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect(),
        value => value.to_string(),
    }
}

fn to_json(device: &Device, found: &[Found], now: Moment) -> String {
    let members = found.iter().filter_map(|found| Some((device.points.get(found.point)?, found)));
    let body = Body::new().with("device", device.id.as_str()).with_time(now);
    let body = body.with_json("points", |out| {
        let members = members.map(|(point, found)| (point.id.as_str(), (point, found)));
        record::object(out, members, |out, (point, found)| out.extend(point_json(point, found)));
    });
    String::from_utf8_lossy(&body.object()).into_owned()
}

fn point_json(point: &Point, found: &Found) -> Vec<u8> {
    let mut body = Body::new();
    if let Ok(value) = &found.value {
        body = body.with_json("value", |out| value.write_json(out));
    }
    if let Some(unit) = &point.unit {
        body = body.with("unit", unit);
    }
    body = match &found.value {
        Ok(_) => body.with("quality", "good"),
        Err(reason) => body.with("quality", "bad").with("reason", &reason.to_string()),
    };
    let body = match &found.raw {
        Some(Raw::Bit(on)) => body.with("raw", &[u8::from(*on)]),
        Some(Raw::Words(words)) => body.with("raw", words.as_slice()),
        Some(Raw::Text(text)) => body.with("raw", text),
        Some(Raw::Latin1(bytes)) => body.with("raw", &latin1(bytes)),
        Some(Raw::Number(number)) => body.with("raw", number),
        None => body,
    };
    body.object()
}

/// What to say where a point has no value.
fn complaint(link: &LinkConfig, device: &Device, found: &[Found], said: Option<&str>) -> Option<Trouble> {
    let bad = found
        .iter()
        .filter_map(|found| Some((device.points.get(found.point)?, *found.value.as_ref().err()?)));
    let bad: Vec<_> = bad.collect();
    let (point, reason) = bad.first()?;
    let what = if bad.iter().all(|(_, reason)| *reason == Reason::Timeout) && bad.len() == found.len() {
        format!("{} does not answer", device.id)
    } else {
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        format!("no value for {} of {} points, such as {}: {reason}{said}", bad.len(), found.len(), point.id)
    };
    let help = match reason {
        Reason::Timeout => {
            "look at power and wiring, the unit address, and the speed and parity of a line; `fieldgate scan` finds units"
        }
        Reason::Exception(1) => {
            "the device does not know the function: try another of holding, input, coil, discrete"
        }
        Reason::Exception(2 | 3) => {
            "the device has nothing at this address, or not of this length: look at its manual, which may count from 1"
        }
        Reason::Malformed if matches!(device.protocol, Protocol::Text { .. }) => {
            "compare what came with `frame` and `decode`; garbage is the speed, the parity or the wiring"
        }
        Reason::Malformed => "look at the wiring, the parity, and whether two devices have the same address",
        _ => "look at the manual of the device, and at the type and address of the point",
    };
    Some(Trouble::failed(what).at(direct::place_of(link, device)).help(help))
}
