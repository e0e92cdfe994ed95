//! `/metrics`: every number there is.

use std::sync::atomic::Ordering;

use super::exposition::{Exposition, Kind};
use super::process::{self, to_float};
use super::{Site, health};
use crate::buffer::Stats;
use crate::counters::{LinkCounters, PollResult};
use crate::status::{State, States};

use Kind::{Counter, Gauge, Histogram};

/// What `MqttConfig::insecure` can say.
const INSECURE: [&str; 3] = ["plain", "unverified", "any-host"];

/// A number of a link: its name, its kind, what it is, and where it comes from.
type Number = (&'static str, Kind, &'static str, fn(&LinkCounters) -> f64);

pub(super) async fn write(site: &Site) -> Result<String, String> {
    let (numbers, states) = health::ask(site).await?;
    let mut out = Exposition::default();
    gateway(&mut out, site);
    links(&mut out, site);
    devices(&mut out, site, &states);
    buffer(&mut out, &numbers);
    uplink(&mut out, site, &states);
    commands(&mut out, site);
    web(&mut out, site);
    process::write(&mut out);
    Ok(out.finish())
}

fn gateway(out: &mut Exposition, site: &Site) {
    let shown = site.shown.borrow();
    let labels = [("gateway", shown.gateway.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    out.family("fieldgate_build_info", Gauge, "Always 1; the labels tell.").sample(&labels, 1);
    out.one("fieldgate_run", Gauge, "Number of this run.", site.setup.run);
    let synced = u8::from(site.setup.clock.now().synced);
    out.one("fieldgate_clock_synced", Gauge, "1 while the clock is set.", synced);
}

fn links(out: &mut Exposition, site: &Site) {
    let links = site.setup.counters.links();
    let families: [Number; 8] = [
        ("fieldgate_link_up", Gauge, "1 while the link is open.", |link| f64::from(u8::from(link.is_open()))),
        (
            "fieldgate_link_busy_ratio",
            Gauge,
            "Part of the last half to whole minute that the link was at work, 0 to 1.",
            |link| link.busy.ratio(),
        ),
        (
            "fieldgate_link_busy_seconds_total",
            Counter,
            "Time that the link was at work, in seconds.",
            |link| link.busy.total().as_secs_f64(),
        ),
        ("fieldgate_link_opened_total", Counter, "How often the link was opened.", |link| {
            to_float(link.opened.get())
        }),
        (
            "fieldgate_link_overruns_total",
            Counter,
            "Polls left out because the link was at work when they came due.",
            |link| to_float(link.overruns.get()),
        ),
        (
            "fieldgate_link_commands_refused_total",
            Counter,
            "Commands refused because too many waited for the link.",
            |link| to_float(link.refused.get()),
        ),
        (
            "fieldgate_link_panics_total",
            Counter,
            "How often the driver was started anew after a panic.",
            |link| to_float(link.panics.get()),
        ),
        (
            "fieldgate_link_reports_dropped_total",
            Counter,
            "Device states that found no room; the next one replaces them.",
            |link| to_float(link.unreported.get()),
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = out.family(name, kind, help);
        for (id, link) in &links {
            family.sample(&[("link", id.as_str())], value(link));
        }
    }
}

fn devices(out: &mut Exposition, site: &Site, states: &States) {
    let help = "2 online, 1 degraded (some points bad), 0 offline; nothing before the first poll.";
    let mut family = out.family("fieldgate_device_state", Gauge, help);
    for known in &states.devices {
        let state = match known.state {
            State::Online => 2,
            State::Degraded => 1,
            State::Offline => 0,
        };
        family.sample(&[("device", known.device.as_str())], state);
    }
    let devices = site.setup.counters.devices();
    let help =
        "Polls by how they ended; degraded: some points bad; offline: the link is down, nobody was asked.";
    let mut family = out.family("fieldgate_polls_total", Counter, help);
    for (id, device) in &devices {
        for result in PollResult::ALL {
            let labels = [("device", id.as_str()), ("result", result.name())];
            family.sample(&labels, device.polls(result));
        }
    }
    let help = "Time from a poll's first request to its record, in seconds.";
    let mut family = out.family("fieldgate_poll_duration_seconds", Histogram, help);
    for (id, device) in &devices {
        let label = ("device", id.as_str());
        for (bound, count) in device.durations.cumulative() {
            family.part("_bucket", &[label, ("le", &bound.to_string())], count);
        }
        family.part("_bucket", &[label, ("le", "+Inf")], device.durations.total());
        family.part("_sum", &[label], device.durations.sum().as_secs_f64());
        family.part("_count", &[label], device.durations.total());
    }
}

fn buffer(out: &mut Exposition, stats: &Stats) {
    let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let flag = |flag: bool| u64::from(u8::from(flag));
    let records = stats.stored.saturating_add(whole(stats.waiting));
    for (name, kind, help, value) in [
        ("fieldgate_buffer_records", Gauge, "Records in the buffer, in memory and in the file.", records),
        ("fieldgate_buffer_waiting_records", Gauge, "Those of them in memory alone.", whole(stats.waiting)),
        (
            "fieldgate_buffer_in_flight_records",
            Gauge,
            "Records sent and not acknowledged.",
            whole(stats.in_flight),
        ),
        (
            "fieldgate_buffer_set_aside_records",
            Gauge,
            "Records kept apart, which the broker will not take.",
            stats.aside,
        ),
        ("fieldgate_buffer_bytes", Gauge, "Bytes of the buffer file in use.", stats.bytes),
        (
            "fieldgate_buffer_disk_bytes",
            Gauge,
            "Bytes of the buffer file and its log on the disk.",
            stats.on_disk,
        ),
        ("fieldgate_buffer_commits_total", Counter, "Commits to the buffer file.", stats.commits),
        (
            "fieldgate_buffer_elided_total",
            Counter,
            "Records that the broker had before they were written: never on the disk.",
            stats.elided,
        ),
        ("fieldgate_buffer_disk_full", Gauge, "1 while the disk has no room.", flag(stats.is_disk_full)),
        ("fieldgate_buffer_failing", Gauge, "1 while commits fail.", flag(stats.fault.is_some())),
    ] {
        out.one(name, kind, help, value);
    }
    if let Some(written) = stats.written {
        out.one(
            "fieldgate_buffer_written_bytes_total",
            Counter,
            "Bytes written to the buffer file.",
            written,
        );
    }
    if let Some(synced) = stats.synced {
        let help = "When the last commit was on the disk, in Unix seconds.";
        out.one(
            "fieldgate_buffer_last_sync_timestamp_seconds",
            Gauge,
            help,
            process::millis(synced.millis()),
        );
    }
    let help = "Time that the disk has been at its present work, in seconds.";
    out.one("fieldgate_buffer_busy_seconds", Gauge, help, stats.busy_for.as_secs_f64());
    let mut family = out.family("fieldgate_records_dropped_total", Counter, "Records dropped at a bound.");
    for (reason, count) in &stats.dropped {
        family.sample(&[("reason", reason)], count);
    }
}

fn uplink(out: &mut Exposition, site: &Site, states: &States) {
    let uplink = &site.setup.counters.uplink;
    let connected = u8::from(states.uplink.is_ok());
    out.one("fieldgate_mqtt_connected", Gauge, "1 while there is a connection to the broker.", connected);
    let connections = uplink.connections.get();
    for (name, help, value) in [
        (
            "fieldgate_mqtt_published_total",
            "Records sent; one sent again counts again.",
            uplink.published.get(),
        ),
        ("fieldgate_mqtt_acknowledged_total", "Records that the broker has.", uplink.acknowledged.get()),
        (
            "fieldgate_mqtt_reconnects_total",
            "Connections to the broker after the first.",
            connections.saturating_sub(1),
        ),
        (
            "fieldgate_mqtt_connect_failures_total",
            "Attempts that brought no connection.",
            uplink.failures.get(),
        ),
        ("fieldgate_mqtt_denied_total", "Records denied for want of rights.", uplink.denied.get()),
        (
            "fieldgate_mqtt_set_aside_total",
            "Records set aside because the broker will never take them.",
            uplink.set_aside.get(),
        ),
        (
            "fieldgate_mqtt_too_large_total",
            "Statuses and descriptions that are larger than the broker takes.",
            uplink.too_large.get(),
        ),
        (
            "fieldgate_mqtt_takeovers_total",
            "How often another client with our id took the session over.",
            uplink.takeovers.get(),
        ),
        (
            "fieldgate_mqtt_refused_messages_total",
            "Messages from the broker that came too fast and were lost.",
            uplink.refused.load(Ordering::Relaxed),
        ),
    ] {
        out.one(name, Counter, help, value);
    }
    let help =
        "1 for what is not checked: plain (no TLS), unverified (no certificate), any-host (no host name).";
    let mut family = out.family("fieldgate_mqtt_insecure", Gauge, help);
    let insecure = site.shown.borrow().insecure;
    for choice in INSECURE {
        family.sample(&[("choice", choice)], u8::from(insecure == Some(choice)));
    }
    if let Some(end) = uplink.certificate_end.get() {
        let help = "When our own client certificate ends, in Unix seconds.";
        out.one("fieldgate_mqtt_certificate_expiry_seconds", Gauge, help, end);
    }
}

fn commands(out: &mut Exposition, site: &Site) {
    let commands = &site.setup.counters.commands;
    let mut family =
        out.family("fieldgate_commands_total", Counter, "Commands by the status of their reply.");
    for (status, count) in commands.by_status() {
        family.sample(&[("status", status)], count);
    }
    let help = "Commands without success, by the code of their reply.";
    let mut family = out.family("fieldgate_command_errors_total", Counter, help);
    for (code, count) in commands.by_code() {
        family.sample(&[("code", &code)], count);
    }
    let help = "Commands that came again and got the stored reply.";
    out.one("fieldgate_commands_repeated_total", Counter, help, commands.repeated.get());
}

fn web(out: &mut Exposition, site: &Site) {
    let mut family = out.family("fieldgate_web_answers_total", Counter, "Requests answered here, by code.");
    for (code, count) in &*site.answers.borrow() {
        family.sample(&[("code", &code.to_string())], count);
    }
    let help = "How often a connection had to wait until another ended.";
    out.one("fieldgate_web_full_total", Counter, help, site.full.get());
}
