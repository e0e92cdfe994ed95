//! `fieldgate check`: every fault of the configuration, or what to expect of it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Exit;
use super::estimate::{Group, Load, estimate};
use crate::config::{Config, ConfigError, Effective, Fault, LinkConfig, load_with};

/// Loads the configuration as `run` would and tells what is wrong with it, all at once, on stderr; or what each
/// link has to carry and what a person should know, on stdout. With `json`, both are one object on stdout.
/// With `print`, the effective values follow, secrets masked.
#[must_use]
pub fn check(files: &[PathBuf], print: bool, json: bool) -> Exit {
    let environment = std::env::vars_os().collect();
    let mut out = io::stdout().lock();
    // Where stdout is closed there is nobody to tell, but it was not done either.
    match load_with(files, &environment) {
        Ok((config, effective)) => {
            let loads = loads(&config);
            let told = if json {
                let report = report(&config, &loads, print.then_some(&effective));
                writeln!(out, "{report:#}")
            } else {
                let effective = if print { format!("\n{}", effective.to_toml()) } else { String::new() };
                tell(&config, &loads, &mut out).and_then(|()| write!(out, "{effective}"))
            };
            told.map_or(Exit::Failed, |()| Exit::Done)
        }
        Err(error) if json => writeln!(out, "{:#}", faults(&error)).map_or(Exit::Failed, |()| Exit::Config),
        Err(error) => {
            complain(&error);
            Exit::Config
        }
    }
}

/// Prints every fault on stderr.
pub fn complain(error: &ConfigError) {
    // Where stderr is closed there is nobody to tell; the exit code still says it.
    drop(writeln!(io::stderr(), "{error}"));
}

fn loads(config: &Config) -> Vec<(&str, Load)> {
    let load = |link: &LinkConfig| {
        let devices: Vec<_> = config.devices.iter().filter(|device| device.link == link.id).collect();
        estimate(link, &devices)
    };
    config.links.iter().map(|link| (link.id.as_str(), load(link))).collect()
}

/// The warnings of the configuration and those that follow from the loads.
fn warnings(config: &Config, loads: &[(&str, Load)]) -> Vec<String> {
    let faults = loads.iter().flat_map(|(id, load)| unmet(id, load));
    config.warnings.iter().cloned().chain(faults).collect()
}

/// What a link cannot do.
fn unmet(id: &str, load: &Load) -> Vec<String> {
    let impossible = |group: &Group| {
        Some(format!(
            "links.{id}: group at {} is impossible {}: it needs {}",
            show(group.interval),
            load.limit,
            show(group.needs?)
        ))
    };
    let mut unmet: Vec<String> = load.groups.iter().filter_map(impossible).collect();
    if load.percent > 100.0 {
        unmet.push(format!(
            "links.{id} is overloaded: its polls need {:.0} % of its time, so they will come late; raise \
             poll_interval or baud_rate, or read fewer points",
            load.percent
        ));
    }
    unmet
}

/// A time for people: two digits are enough, and never less than it is.
fn show(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 1000.0 {
        return format!("{} ms", (millis * 10.0).ceil() / 10.0);
    }
    format!("{} s", (millis / 100.0).ceil() / 10.0)
}

fn tell(config: &Config, loads: &[(&str, Load)], out: &mut dyn Write) -> io::Result<()> {
    let points: usize = config.devices.iter().map(|device| device.points.len()).sum();
    let brokers: Vec<_> = config.mqtt.servers.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "the configuration is good: gateway {}, broker {}, links: {}, devices: {}, points: {points}",
        config.gateway.id,
        brokers.join(", "),
        config.links.len(),
        config.devices.len(),
    )?;
    for (id, load) in loads {
        let Some(shortest) = load.shortest else {
            writeln!(out, "link {id}: no device on it")?;
            continue;
        };
        writeln!(
            out,
            "link {id}: requests a round: {}, time: {:.1} ms ({}), shortest interval: {:.0} ms, \
             load: {:.1} %",
            load.requests,
            load.round.as_secs_f64() * 1000.0,
            load.basis,
            shortest.as_secs_f64() * 1000.0,
            load.percent,
        )?;
        for group in load.groups.iter().filter(|_| load.groups.len() > 1) {
            writeln!(
                out,
                "link {id}: points at {}: requests a round: {}, time: {:.1} ms",
                show(group.interval),
                group.requests,
                group.time.as_secs_f64() * 1000.0,
            )?;
        }
    }
    for warning in warnings(config, loads) {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn report(config: &Config, loads: &[(&str, Load)], effective: Option<&Effective>) -> Json {
    let group = |group: &Group| {
        json!({
            "interval_ms": group.interval.as_secs_f64() * 1000.0,
            "requests": group.requests,
            "time_ms": group.time.as_secs_f64() * 1000.0,
            "possible": group.needs.is_none(),
            "needs_ms": group.needs.unwrap_or(group.time).as_secs_f64() * 1000.0,
        })
    };
    let link = |(id, load): &(&str, Load)| {
        json!({
            "link": id,
            "requests": load.requests,
            "round_ms": load.round.as_secs_f64() * 1000.0,
            "shortest_interval_ms": load.shortest.map(|time| time.as_secs_f64() * 1000.0),
            "load_percent": load.percent,
            "groups": load.groups.iter().map(group).collect::<Json>(),
            "basis": load.basis,
        })
    };
    let mut report = json!({
        "ok": true,
        "gateway": config.gateway.id,
        "links": loads.iter().map(link).collect::<Json>(),
        "devices": config.devices.len(),
        "warnings": warnings(config, loads),
    });
    if let (Some(effective), Some(report)) = (effective, report.as_object_mut()) {
        report.insert("effective".to_owned(), effective.to_json());
    }
    report
}

fn faults(error: &ConfigError) -> Json {
    let fault = |fault: &Fault| {
        json!({
            "what": fault.what,
            "in": fault.source.display().to_string(),
            "line": fault.line,
            "help": fault.help,
        })
    };
    json!({ "ok": false, "faults": error.faults.iter().map(fault).collect::<Json>() })
}
