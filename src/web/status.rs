//! `/api/status`: what the `status` command tells, and more.

use serde_json::{Map, Value, json};

use super::{Site, health};
use crate::clock::Timestamp;
use crate::counters::PollResult;
use crate::status::FORMAT;

pub(super) async fn write(site: &Site) -> Result<String, String> {
    let (numbers, states) = health::ask(site).await?;
    let (setup, shown, now) = (&site.setup, site.shown.borrow(), site.setup.clock.now());
    let trouble = if site.is_stopping.get() {
        Some("the gateway is stopping".to_owned())
    } else {
        health::verdict(&numbers).err()
    };
    let mut links = Map::new();
    for (id, link) in setup.counters.links() {
        let on = shown.devices.iter().filter(|device| device.link == id);
        let devices: Vec<&str> = on.map(|device| device.id.as_str()).collect();
        let named = shown.links.get(&id).cloned().unwrap_or_default();
        links.insert(
            id.to_string(),
            json!({
                "label": named.label,
                "tags": named.tags,
                "state": if link.is_open() { "online" } else { "offline" },
                "reason": link.fault(),
                "backup": link.backup(),
                "devices": devices,
                "busy": (link.busy.ratio() * 1000.0).round() / 1000.0,
                "overruns": link.overruns.get(),
                "opened": link.opened.get(),
            }),
        );
    }
    let mut devices = Map::new();
    let counted = setup.counters.devices();
    for device in &shown.devices {
        let known = states.devices.iter().find(|known| known.device == device.id);
        let polls = counted.iter().find(|(id, _)| *id == device.id).map(|(_, device)| {
            let count = |result: PollResult| (result.name().to_owned(), device.polls(result).into());
            PollResult::ALL.into_iter().map(count).collect::<Map<String, Value>>()
        });
        devices.insert(
            device.id.to_string(),
            json!({
                "link": device.link.as_str(),
                "label": device.label,
                "tags": device.tags,
                "is_polled": !device.is_broadcast(),
                "state": known.map(|known| known.state.name()),
                "since": known.map(|known| known.since.to_string()),
                "reason": known.and_then(|known| known.reason.as_deref()),
                "last_good": known.and_then(|known| known.last_good).map(|time| time.to_string()),
                "polls": polls,
            }),
        );
    }
    let uplink = &setup.counters.uplink;
    let end = uplink.certificate_end.get();
    let mut broker = json!({
        "connected": states.uplink.is_ok(),
        "reason": states.uplink.as_ref().err(),
        "insecure": shown.insecure,
        "certificate_expires": end.map(|end| Timestamp::from_millis(end.saturating_mul(1000)).to_string()),
        "published": uplink.published.get(),
        "acknowledged": uplink.acknowledged.get(),
    });
    if let (Some(all), Ok(Value::Object(agreed))) = (broker.as_object_mut(), states.uplink) {
        all.extend(agreed);
    }
    let commands: Map<String, Value> = setup
        .counters
        .commands
        .by_status()
        .into_iter()
        .map(|(status, n)| (status.to_owned(), n.into()))
        .collect();
    let all = json!({
        "format": FORMAT,
        "gateway": {
            "id": shown.gateway,
            "label": shown.label,
            "version": env!("CARGO_PKG_VERSION"),
            "run": setup.run,
            "started": setup.started.to_string(),
            "ts": now.wall.to_string(),
            "clock": if now.synced { "synced" } else { "unsynced" },
            "trouble": trouble,
        },
        "links": links,
        "devices": devices,
        "uplink": broker,
        "buffer": numbers.to_json(),
        "commands": commands,
    });
    Ok(format!("{all}\n"))
}
