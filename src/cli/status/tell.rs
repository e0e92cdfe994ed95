//! The status for people.

use std::io::{self, Write};

use serde_json::Value as Json;

pub(super) fn tell(out: &mut impl Write, status: &Json) -> io::Result<()> {
    let gateway = &status["gateway"];
    let name = label(gateway);
    let [id, version, run, started] = ["id", "version", "run", "started"].map(|key| text(&gateway[key]));
    writeln!(out, "gateway {id}{name}: version {version}, run {run}, since {started}")?;
    if gateway["clock"] == "unsynced" {
        writeln!(out, "  the clock is not set")?;
    }
    if let Some(trouble) = gateway["trouble"].as_str() {
        writeln!(out, "  trouble: {}", plain(trouble))?;
    }
    writeln!(out, "links:")?;
    for (id, link) in members(&status["links"]) {
        let percent = link["busy"].as_f64().unwrap_or(0.0) * 100.0;
        let overruns = link["overruns"].as_u64().unwrap_or(0);
        let late = if overruns > 0 { format!(", {overruns} polls left out") } else { String::new() };
        let backup = link["backup"].as_str();
        let detour = backup.map_or_else(String::new, |address| format!(", by the backup {}", plain(address)));
        let state = text(&link["state"]);
        let id = format!("{id}{}", label(link));
        writeln!(out, "  {id:<20} {state:<9} {percent:.1} % busy{late}{detour}{}", why(link))?;
    }
    writeln!(out, "devices:")?;
    for (id, device) in members(&status["devices"]) {
        let none = if device["is_polled"] == false { "never polled: all units" } else { "not yet polled" };
        let state = device["state"].as_str().unwrap_or(none);
        let mut more = why(device);
        if state != "online"
            && let Some(since) = device["since"].as_str()
        {
            let good = device["last_good"].as_str().unwrap_or("never");
            more = format!("{more}; since {}, last good {}", plain(since), plain(good));
        }
        let id = format!("{id}{}", label(device));
        writeln!(out, "  {id:<20} {state:<9}{}", more.trim_start_matches(';'))?;
    }
    buffer(out, &status["buffer"])?;
    uplink(out, &status["uplink"])
}

fn buffer(out: &mut impl Write, buffer: &Json) -> io::Result<()> {
    let number = |key: &str| buffer[key].as_u64().unwrap_or(0);
    let records = number("stored") + number("waiting");
    writeln!(
        out,
        "buffer: {records} records, {} of them in memory; {} in flight, {} set aside; {} bytes on the disk",
        number("waiting"),
        number("in_flight"),
        number("set_aside"),
        number("on_disk_bytes")
    )?;
    writeln!(
        out,
        "  written {} bytes in {} commits, spared {} records; last sync {}",
        number("written_bytes"),
        number("commits"),
        number("elided"),
        buffer["last_sync"].as_str().map_or_else(|| "never".to_owned(), plain)
    )?;
    for (reason, count) in members(&buffer["dropped"]) {
        writeln!(out, "  dropped: {count} ({reason})")?;
    }
    if let Some(fault) = buffer["fault"].as_str() {
        writeln!(out, "  commits fail: {}", plain(fault))?;
    }
    Ok(())
}

fn uplink(out: &mut impl Write, uplink: &Json) -> io::Result<()> {
    if uplink["connected"] == true {
        let [broker, client, since] = ["broker", "client_id", "since"].map(|key| text(&uplink[key]));
        writeln!(out, "uplink: connected to {broker} as {client} since {since}")?;
    } else {
        writeln!(out, "uplink: no broker; readings wait in the buffer: {}", text(&uplink["reason"]))?;
    }
    let [published, acknowledged] = ["published", "acknowledged"].map(|key| text(&uplink[key]));
    writeln!(out, "  {published} records sent, {acknowledged} acknowledged")?;
    for (key, what) in [
        ("insecure", "insecure"),
        ("tls", "TLS"),
        ("certificate_expires", "our certificate ends"),
        ("commands_refused", "no commands"),
    ] {
        if let Some(value) = uplink[key].as_str() {
            writeln!(out, "  {what}: {}", plain(value))?;
        }
    }
    Ok(())
}

/// What people call it, behind its id.
fn label(of: &Json) -> String {
    of["label"].as_str().map_or_else(String::new, |label| format!(" ({})", plain(label)))
}

fn why(of: &Json) -> String {
    of["reason"].as_str().map_or_else(String::new, |reason| format!("; {}", plain(reason)))
}

fn members(object: &Json) -> impl Iterator<Item = (String, &Json)> {
    object.as_object().into_iter().flatten().map(|(key, value)| (plain(key), value))
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), plain)
}

/// Without what could steer a terminal: devices and brokers have their say in it.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
