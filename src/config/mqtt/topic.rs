//! The topics: `prefix`, `layout`, `topic`, `shared_subscription`.

use super::{Layout, MqttConfig, Version};
use crate::config::file::Dict;
use crate::config::table::{Reader, Table};
use crate::config::text::wrong_line;
use crate::point::{Device, DeviceId, LinkId, PointId};

/// Longest prefix or topic as it is written, in bytes: with the ids in it, it stays far below 65535.
const LONGEST: usize = 1024;

/// Filled in for each record.
const OF_A_RECORD: [&str; 3] = ["{link}", "{device}", "{point}"];

/// The topic of readings behind the prefix.
const READINGS: &str = "{device}/readings";

impl MqttConfig {
    /// The topic of what was read from a device; with layout `point` that of one point.
    #[must_use]
    pub fn readings_topic(&self, link: &LinkId, device: &DeviceId, point: Option<&PointId>) -> String {
        // No id holds a brace, so what is filled in is not filled in again.
        let topic = self.topic.replace("{link}", link.as_str()).replace("{device}", device.as_str());
        point.map_or_else(|| topic.clone(), |point| topic.replace("{point}", point.as_str()))
    }

    /// The topic of one point as it is written: `topic`, with `{point}` behind it where it has none.
    #[must_use]
    pub fn point_topic(&self) -> String {
        with_point(&self.topic)
    }
}

fn with_point(topic: &str) -> String {
    if topic.contains("{point}") {
        topic.to_owned()
    } else {
        format!("{}/{{point}}", topic.strip_suffix('/').unwrap_or(topic))
    }
}

/// Puts values into a text; braces that are none of those known are mistakes.
pub(super) fn fill(
    table: &Table,
    key: &str,
    text: &str,
    values: &[(&str, &str)],
    kept: &[&str],
) -> Option<String> {
    let put = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
    let filled = values.iter().fold(text.to_owned(), put);
    let rest = kept.iter().fold(filled.clone(), |text, name| text.replace(name, ""));
    if rest.contains(['{', '}']) {
        let known: Vec<_> = values.iter().map(|(name, _)| *name).chain(kept.iter().copied()).collect();
        let help = format!("known here: {}", known.join(", "));
        table.fault(key, "{key} holds a placeholder that is not known", help);
        return None;
    }
    table.note(key, filled.as_str().into());
    Some(filled)
}

/// What is wrong with a topic to publish on. Brokers take readings on topics of their own, such as
/// `$aws/rules/NAME`, and give a `/` at the end a meaning.
pub(super) fn wrong_topic(topic: &str) -> Option<&'static str> {
    let first = topic.split('/').next().unwrap_or_default();
    if topic.contains(['+', '#']) {
        Some("holds a wildcard, + or #")
    } else if ["$SYS", "$share"].contains(&first) {
        Some("begins with $SYS or $share, which nobody can publish on")
    } else if topic.len() > LONGEST {
        Some("is longer than 1024 bytes")
    } else {
        wrong_line(topic, LONGEST)
    }
}

/// What is wrong with the first part of every topic, of those to subscribe to as well.
fn wrong_prefix(prefix: &str) -> Option<&'static str> {
    if prefix.starts_with('$') {
        Some("begins with $, which belongs to the broker")
    } else if prefix.ends_with('/') {
        Some("ends in /, which would make an empty level")
    } else {
        wrong_topic(prefix)
    }
}

pub(in crate::config) fn prefix(table: &mut Table, gateway: &str) -> Option<String> {
    let given = table.text("prefix");
    let text = given.as_deref().unwrap_or("fieldgate/{gateway}");
    let prefix = fill(table, "prefix", text, &[("{gateway}", gateway)], &[])?;
    if let Some(wrong) = wrong_prefix(&prefix) {
        let help = "write topic levels such as \"fieldgate/{gateway}\"";
        table.fault("prefix", &format!("{{key}} {wrong}"), help);
        return None;
    }
    Some(prefix)
}

/// Layout and topic of readings.
pub(super) fn readings(table: &mut Table, prefix: &str, gateway: &str) -> Option<(Layout, String)> {
    let layout = table.choice("layout", &[("device", Layout::Device), ("point", Layout::Point)]);
    if layout.is_none() {
        table.note("layout", "device".into());
    }
    let layout = layout.unwrap_or_default();
    let standard = format!("{{prefix}}/{READINGS}");
    let given = table.text("topic");
    let mut text = given.unwrap_or(standard);
    if layout == Layout::Point {
        text = with_point(&text);
    }
    let values = [("{prefix}", prefix), ("{gateway}", gateway)];
    let topic = fill(table, "topic", &text, &values, &OF_A_RECORD)?;
    let help = "write topic levels such as \"{prefix}/{device}/readings\"";
    if let Some(wrong) = wrong_topic(&topic) {
        table.fault("topic", &format!("{{key}} {wrong}"), help);
    } else if layout == Layout::Device && topic.contains("{point}") {
        table.fault(
            "topic",
            "{key} holds {point}, but a message holds all points of a poll",
            "write layout = \"point\"",
        );
    }
    Some((layout, topic))
}

/// The group that shares the commands.
pub(super) fn share(table: &mut Table, version: Version) -> Option<String> {
    let group = table.text("shared_subscription").unwrap_or_default();
    table.note("shared_subscription", group.as_str().into());
    if group.is_empty() {
        return None;
    }
    if wrong_line(&group, LONGEST).is_some() || group.contains(['/', '+', '#']) {
        let help = "write the name of a group, without / + # and control characters";
        table.fault("shared_subscription", "{key} is no name of a group", help);
    }
    if version != Version::V5 {
        table.reader.warn(
            "mqtt.shared_subscription is part of MQTT 5; with an older version it depends on the broker",
        );
    }
    Some(group)
}

/// Looks at the topic that each device would publish on.
pub(in crate::config) fn check_devices(reader: &Reader, config: &MqttConfig, devices: &[Device]) {
    if config.topic.starts_with(&format!("{}/{READINGS}", config.prefix)) {
        return;
    }
    if !config.topic.contains("{device}") && devices.len() > 1 {
        reader.warn("mqtt.topic is without {device}: the readings of all devices share a topic");
    }
    let table = Table::new(reader, vec!["mqtt".to_owned()], None, Dict::new());
    for device in devices {
        let points: Vec<_> = match config.layout {
            Layout::Device => vec![None],
            Layout::Point => device.points.iter().map(|point| Some(&point.id)).collect(),
        };
        for point in points {
            let topic = config.readings_topic(&device.link, &device.id, point);
            if is_own(&config.prefix, &topic) {
                let what = format!(
                    "{{key}} would put readings of devices.{} on {topic}, which has its own use",
                    device.id
                );
                table.fault("topic", &what, "write topic levels such as \"{prefix}/{device}/readings\"");
                return;
            }
        }
    }
}

/// The gateway publishes or hears something else there.
fn is_own(prefix: &str, topic: &str) -> bool {
    match behind(prefix, topic).as_deref() {
        Some([last]) => ["status", "command", "marker", "event", "reply"].contains(last),
        Some([_, last]) => ["status", "command", "info", "reply"].contains(last),
        _ => false,
    }
}

/// The gateway would take a message there as a command or as its own mark.
pub(super) fn is_heard(prefix: &str, topic: &str) -> bool {
    match behind(prefix, topic).as_deref() {
        Some([last]) => ["command", "marker"].contains(last),
        Some([_, last]) => *last == "command",
        _ => false,
    }
}

fn behind<'t>(prefix: &str, topic: &'t str) -> Option<Vec<&'t str>> {
    Some(topic.strip_prefix(prefix)?.strip_prefix('/')?.split('/').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_a_use_of_its_own_is_known() {
        for topic in ["p/g/status", "p/g/command", "p/g/marker", "p/g/event", "p/g/d/status", "p/g/d/info"] {
            assert!(is_own("p/g", topic), "{topic}");
        }
        for topic in
            ["p/g", "p/g/d", "p/gg/status", "p/g/d/readings", "p/g/d/readings/status", "p/g/d/marker"]
        {
            assert!(!is_own("p/g", topic), "{topic}");
        }
        assert!(is_heard("p", "p/command") && is_heard("p", "p/x/command") && is_heard("p", "p/marker"));
        assert!(
            !is_heard("p", "p/status") && !is_heard("p", "p/x/marker") && !is_heard("p", "p/a/b/command")
        );
    }

    #[test]
    fn only_a_plain_topic_can_be_published_on() {
        for topic in
            ["", "a/+/b", "#", "$SYS", "$SYS/a", "$share/g/a", "a\nb", "a\0b", &"a".repeat(LONGEST + 1)]
        {
            assert!(wrong_topic(topic).is_some() && wrong_prefix(topic).is_some(), "{topic}");
        }
        for topic in ["a", "/a", "a//b", "a b/ö", "a$"] {
            assert_eq!((wrong_topic(topic), wrong_prefix(topic)), (None, None), "{topic}");
        }
        for topic in ["a/", "$aws/rules/n/a", "$SYSTEM/a"] {
            assert!(wrong_topic(topic).is_none() && wrong_prefix(topic).is_some(), "{topic}");
        }
    }

    #[test]
    fn the_point_is_a_level_of_its_own() {
        for (topic, expected) in
            [("a", "a/{point}"), ("a/", "a/{point}"), ("a//", "a//{point}"), ("{point}/a", "{point}/a")]
        {
            assert_eq!(with_point(topic), expected);
        }
    }
}
