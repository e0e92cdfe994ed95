//! May a command run, and as what? Judged before the link, from what is known here. Pure.

use std::time::Duration;

use super::{Received, Target};
use crate::clock::Moment;
use crate::command::{self, Command, Outcome};
use crate::decode::{EncodeError, encode};
use crate::link::Task;
use crate::point::{Point, Raw, Value};

/// A command that may run.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) work: Work,
    /// What is left of its time, if it says so itself.
    pub(super) time_left: Option<Duration>,
}

/// Who does what.
#[derive(Debug)]
pub(super) enum Work {
    /// The link of the device.
    Link(Task),
    /// The gateway tells its state.
    Status,
    /// The gateway reads its configuration again.
    Reload,
}

fn rejected(code: &'static str, message: impl Into<String>) -> Outcome {
    Outcome::Rejected { code, message: message.into() }
}

/// Judges a command.
pub(super) fn judge(
    received: &Received,
    command: &Command,
    target: Option<&Target>,
    is_admin: bool,
    now: Moment,
) -> Result<Allowed, Outcome> {
    let Some(device) = &received.device else {
        let work = match command.action.as_str() {
            "status" => Work::Status,
            "reload" if is_admin => Work::Reload,
            "reload" => return Err(rejected("unknown-action", "reload needs commands.admin = true")),
            other => {
                let message = format!("the gateway knows status and reload, not {other}");
                return Err(rejected("unknown-action", message));
            }
        };
        return Ok(Allowed { work, time_left: time_left(command, now)? });
    };
    let Some(target) = target else {
        return Err(rejected("unknown-device", format!("there is no device {device}")));
    };
    let task = match command.action.as_str() {
        "read" | "poll" if target.device.is_broadcast() => {
            let message = format!("{device} stands for every unit of its link: it knows write only");
            return Err(rejected("unknown-action", message));
        }
        "write" => write(target, command)?,
        "read" => read(target, command)?,
        "poll" => Task::Poll,
        other => {
            return Err(rejected(
                "unknown-action",
                format!("a device knows write, read and poll, not {other}"),
            ));
        }
    };
    let time_left = time_left(command, now)?;
    if matches!(task, Task::Write(_)) && received.may_be_old && time_left.is_none() && !received.expires {
        return Err(rejected(
            "stale",
            "the write may have waited in the broker; give it `expires_at`, or send it again in a moment",
        ));
    }
    Ok(Allowed { work: Work::Link(task), time_left })
}

fn time_left(command: &Command, now: Moment) -> Result<Option<Duration>, Outcome> {
    let Some(expires_at) = command.expires_at else {
        return Ok(None);
    };
    if !now.synced {
        return Err(rejected(
            "clock",
            "the gateway's clock is not set yet, so `expires_at` cannot be judged",
        ));
    }
    match u64::try_from(expires_at.millis() - now.wall.millis()) {
        Ok(millis) if millis > 0 => Ok(Some(Duration::from_millis(millis))),
        _ => Err(Outcome::Expired(format!("its time was over at {expires_at}, it is {}", now.wall))),
    }
}

fn write(target: &Target, command: &Command) -> Result<Task, Outcome> {
    if command.values.is_empty() {
        return Err(rejected("bad-json", "a write needs `values`"));
    }
    let mut writes = Vec::with_capacity(command.values.len());
    for (name, json) in &command.values {
        let index = find(target, name)?;
        let Some(point) = target.device.points.get(index) else {
            continue;
        };
        let Some(value) = command::value(json) else {
            // Not writable comes first, whatever is to be written.
            let kind = point.kind.name();
            let wrong = rejected("wrong-type", format!("{name} takes a {kind}, not {json}"));
            return Err(if point.writable { wrong } else { not_writable(point) });
        };
        let raw = permit(point, &value)?;
        writes.push((index, raw));
    }
    Ok(Task::Write(writes))
}

/// The raw data that writes the value, if the point may have it.
pub fn permit(point: &Point, value: &Value) -> Result<Raw, Outcome> {
    if !point.writable {
        return Err(not_writable(point));
    }
    encode(point, value).map_err(|error| match error {
        EncodeError::WrongType(message) => rejected("wrong-type", message),
        EncodeError::OutOfRange(message) => rejected("out-of-range", message),
    })
}

fn not_writable(point: &Point) -> Outcome {
    rejected("not-writable", format!("{} is not writable", point.id))
}

fn read(target: &Target, command: &Command) -> Result<Task, Outcome> {
    let points = match &command.points {
        None => (0..target.device.points.len()).collect(),
        Some(names) => names.iter().map(|name| find(target, name)).collect::<Result<_, _>>()?,
    };
    Ok(Task::Read(points))
}

fn find(target: &Target, name: &str) -> Result<usize, Outcome> {
    let found = target.device.points.iter().position(|point| point.id.as_str() == name);
    found.ok_or_else(|| rejected("unknown-point", format!("{} has no point {name}", target.device.id)))
}
