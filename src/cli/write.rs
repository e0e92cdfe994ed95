//! `fieldgate write`: one write, straight to the device, by the rules of a command.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use tokio::time::Instant;

use super::Exit;
use super::direct::{self, Trouble};
use super::read::plain;
use crate::clock::Moment;
use crate::command::{self, Outcome};
use crate::commands::{outcome, permit};
use crate::config::{Field, LinkConfig};
use crate::link;
use crate::point::{Device, Kind, Point, Value};

/// Arguments of `fieldgate write`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Id of the device.
    device: String,
    /// Id of the point, which must be writable.
    point: String,
    /// What to write: a number, true or false, a text, or a name that the point has for a number.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// One JSON object on stdout, like the reply to a command.
    #[arg(long)]
    json: bool,
}

/// Writes once, with no broker and no buffer, and prints the value read back.
#[must_use]
pub fn write(files: &[PathBuf], arguments: &Arguments) -> Exit {
    let field = match direct::load(files) {
        Ok(field) => field,
        Err(exit) => return exit,
    };
    let found = direct::device(&field, &arguments.device)
        .and_then(|(link, device)| Ok((link, direct::point(&device, &arguments.point)?, device)));
    let (link, index, device) = match found {
        Ok(found) => found,
        Err(trouble) => return trouble.tell(),
    };
    let Some(point) = device.points.get(index) else {
        return Exit::Usage;
    };
    let value = value_of(point, &arguments.value);
    let (outcome, trouble) = match permit(point, &value) {
        Err(rejected) => (rejected, None),
        Ok(raw) => {
            let written = direct::run(async {
                let mut driver = direct::open(files, link, &device).await?;
                let deadline = Instant::now() + field.timeout;
                Ok(link::write(&mut *driver, &device, &[(index, raw)], deadline).await)
            });
            match written {
                Ok(result) => (outcome(result, device.is_broadcast()), None),
                Err(trouble) => {
                    let message = trouble.to_string().lines().next().unwrap_or_default().to_owned();
                    let code = "offline".to_owned();
                    (Outcome::Failed { code, message, values: Vec::new() }, Some(trouble))
                }
            }
        }
    };
    tell(&field, link, &device, point, &outcome, trouble, arguments.json)
}

/// What the text stands for, as in a command; a text needs no quotes.
fn value_of(point: &Point, text: &str) -> Value {
    if matches!(point.kind, Kind::String { .. }) || point.values.values().any(|name| name == text) {
        return Value::Text(text.to_owned());
    }
    command::value(text).unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn tell(
    field: &Field,
    link: &LinkConfig,
    device: &Device,
    point: &Point,
    outcome: &Outcome,
    trouble: Option<Trouble>,
    json: bool,
) -> Exit {
    let mut out = io::stdout().lock();
    let now: Moment = field.clock.now();
    let told = if json {
        let body = outcome.body(None, Some(device.id.as_str()), Some("write"), now);
        out.write_all(&body.object()).and_then(|()| writeln!(out))
    } else {
        values(outcome).iter().try_for_each(|(id, value)| {
            let unit = point.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
            let note = if matches!(outcome, Outcome::Sent(_)) {
                " (sent to every unit; none confirms it)"
            } else {
                ""
            };
            writeln!(out, "{id} = {}{unit}{note}", plain(value))
        })
    };
    let trouble = trouble.or_else(|| complaint(field, link, device, point, outcome));
    let exit = trouble.map_or(Exit::Done, |trouble| trouble.tell());
    direct::written(told, exit)
}

fn values(outcome: &Outcome) -> &[(crate::point::PointId, Value)] {
    match outcome {
        Outcome::Succeeded(values) | Outcome::Sent(values) | Outcome::Failed { values, .. } => values,
        Outcome::Answered(_) | Outcome::Rejected { .. } | Outcome::Expired(_) => &[],
    }
}

fn complaint(
    field: &Field,
    link: &LinkConfig,
    device: &Device,
    point: &Point,
    outcome: &Outcome,
) -> Option<Trouble> {
    let (code, message) = match outcome {
        Outcome::Succeeded(_) | Outcome::Sent(_) | Outcome::Answered(_) => return None,
        Outcome::Failed { code, message, .. } => (code.as_str(), message),
        Outcome::Rejected { code, message } => (*code, message),
        Outcome::Expired(message) => ("expired", message),
    };
    let help = match code {
        "not-writable" => "write writable = true at the point, if it may be written".to_owned(),
        "wrong-type" => match point.kind {
            Kind::Bool => "write true or false".to_owned(),
            _ if !point.values.is_empty() => {
                let names: Vec<_> = point.values.values().map(|name| format!("`{name}`")).collect();
                format!("write a number or one of {}", names.join(", "))
            }
            _ => "write a number, such as 55 or 55.5".to_owned(),
        },
        "out-of-range" => "write a value within the limits and the type of the point".to_owned(),
        "timeout" => {
            "look at power and wiring, the unit address, and the speed and parity of a line".to_owned()
        }
        "malformed" => {
            "look at the wiring, the parity, and whether another speaks on the line at the same time"
                .to_owned()
        }
        "verify-failed" => {
            "the device did not keep the value: look at its manual, and whether it is locked".to_owned()
        }
        "expired" => format!("raise commands.timeout, which is {:?}", field.timeout),
        _ => "look at the manual of the device: it may need another mode or an unlock before it takes this"
            .to_owned(),
    };
    Some(Trouble::failed(format!("{message} ({code})")).at(direct::place_of(link, device)).help(help))
}
