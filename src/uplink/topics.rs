//! Every topic string, built and parsed.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Links;
use super::client::{Limits, Marks, Subscription};
use crate::config::{Layout, MqttConfig, Version};
use crate::point::{DeviceId, LinkId};
use crate::record::Topic;
use crate::status::Aspect;

#[cfg(test)]
mod tests;

/// The largest subscription identifier (MQTT 5.0, 3.8.2.1.2).
const LARGEST_IDENTIFIER: u32 = 268_435_455;

/// Topics below the configured prefix.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
    /// Of readings; `{link}`, `{device}` and `{point}` are still to be filled in.
    readings: String,
    /// Of a reading.
    reading: String,
    links: Links,
    group: Option<String>,
    marks: Option<Arc<Marks>>,
}

/// What a message from the broker is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// A command: for a device, or for the gateway itself.
    Command(Option<DeviceId>),
    /// The gateway's own mark.
    Marker,
}

impl Topics {
    /// Below this prefix, everything else as it is by default.
    #[must_use]
    pub fn below(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            readings: format!("{prefix}/{{device}}/readings"),
            reading: format!("{prefix}/{{device}}/readings/{{point}}"),
            links: Links::default(),
            group: None,
            marks: None,
        }
    }

    /// As the configuration has them.
    #[must_use]
    pub(super) fn new(config: &MqttConfig, links: Links) -> Self {
        let readings = config.topic.clone();
        let reading = config.point_topic();
        let marks = Marks {
            user_properties: config.user_properties.clone(),
            content_type: config.content_type.clone(),
            payload_format: config.payload_format,
        };
        let has_marks = !marks.user_properties.is_empty()
            || marks.content_type.is_some()
            || marks.payload_format.is_some();
        Self {
            prefix: config.prefix.clone(),
            readings: if config.layout == Layout::Point { reading.clone() } else { readings },
            reading,
            links,
            group: config.shared_subscription.clone(),
            marks: (has_marks && config.version == Version::V5).then(|| Arc::new(marks)),
        }
    }

    /// Commands are shared among the gateways of a group.
    pub(super) fn is_shared(&self) -> bool {
        self.group.is_some()
    }

    /// What every publish bears.
    pub(super) fn marks(&self) -> Option<Arc<Marks>> {
        self.marks.clone()
    }

    /// Where a record goes.
    #[must_use]
    pub fn of(&self, topic: &Topic) -> String {
        let prefix = &self.prefix;
        match topic {
            // A device that is configured no more may still have records from before.
            Topic::Readings(device) => self.fill(&self.readings, device, "all"),
            Topic::Reading(device, point) => self.fill(&self.reading, device, point.as_str()),
            Topic::Reply(None) => format!("{prefix}/reply"),
            Topic::Reply(Some(device)) => format!("{prefix}/{device}/reply"),
            Topic::Event => format!("{prefix}/event"),
            Topic::Response(topic) => topic.clone(),
        }
    }

    fn fill(&self, template: &str, device: &DeviceId, point: &str) -> String {
        let links = self.links.borrow();
        let link = links.get(device).map_or("none", LinkId::as_str);
        template.replace("{link}", link).replace("{device}", device.as_str()).replace("{point}", point)
    }

    /// The retained state of the gateway, and the topic of its last will.
    #[must_use]
    pub(super) fn status(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// A retained message of a device.
    #[must_use]
    pub(super) fn retained(&self, device: &DeviceId, aspect: Aspect) -> String {
        let aspect = match aspect {
            Aspect::Info => "info",
            Aspect::Status => "status",
        };
        format!("{}/{device}/{aspect}", self.prefix)
    }

    /// The gateway's marks to itself.
    #[must_use]
    pub(super) fn marker(&self) -> String {
        format!("{}/marker", self.prefix)
    }

    /// What the gateway subscribes to, as far as the broker can.
    #[must_use]
    pub(super) fn subscriptions(&self, limits: &Limits) -> Vec<Subscription> {
        let prefix = &self.prefix;
        if self.is_shared() && limits.shared_unavailable {
            return Vec::new();
        }
        let command = |filter: String, all: &str| Subscription {
            identifier: self.identifier(all, limits),
            filter: self.shared(&filter),
            // A shared subscription must not ask for it (MQTT 5.0, 3.8.3.1).
            no_local: !self.is_shared(),
            retained: true,
        };
        let [own, all] = [format!("{prefix}/command"), format!("{prefix}/+/command")];
        let of_devices: Vec<String> = if limits.wildcards_unavailable {
            self.links.borrow().keys().map(|device| format!("{prefix}/{device}/command")).collect()
        } else {
            vec![all.clone()]
        };
        // The mark comes back to nobody but us.
        let marker = Subscription {
            identifier: self.identifier(&self.marker(), limits),
            filter: self.marker(),
            no_local: false,
            retained: false,
        };
        let of_devices = of_devices.into_iter().map(|filter| command(filter, &all));
        [command(own.clone(), &own)].into_iter().chain(of_devices).chain([marker]).collect()
    }

    /// Whether a message comes by a subscription of ours, as far as the broker tells. With a session there may be
    /// others: of another program under our client id, or of an earlier configuration.
    #[must_use]
    pub(super) fn is_wanted(&self, inbound: &Inbound, identifiers: &[u32], limits: &Limits) -> bool {
        let prefix = &self.prefix;
        let filter = match inbound {
            Inbound::Command(None) => format!("{prefix}/command"),
            Inbound::Command(Some(_)) => format!("{prefix}/+/command"),
            Inbound::Marker => self.marker(),
        };
        let own = self.identifier(&filter, limits);
        identifiers.is_empty() || own.is_none_or(|own| identifiers.contains(&own))
    }

    /// Names a filter (MQTT 5.0, 3.8.2.1.2), the same one in each run: what waited in the broker still bears it.
    fn identifier(&self, filter: &str, limits: &Limits) -> Option<u32> {
        if limits.identifiers_unavailable {
            return None;
        }
        let filter = if filter == self.marker() { filter.to_owned() } else { self.shared(filter) };
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(filter).into();
        Some((u32::from_be_bytes([a, b, c, d]) & LARGEST_IDENTIFIER).max(1))
    }

    fn shared(&self, filter: &str) -> String {
        self.group.as_ref().map_or_else(|| filter.to_owned(), |group| format!("$share/{group}/{filter}"))
    }

    /// What a message on `topic` is for; `None` when it is for nobody here.
    #[must_use]
    pub(super) fn parse(&self, topic: &str) -> Option<Inbound> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        match rest {
            "command" => Some(Inbound::Command(None)),
            "marker" => Some(Inbound::Marker),
            _ => {
                let device = rest.strip_suffix("/command")?;
                Some(Inbound::Command(Some(DeviceId::new(device)?)))
            }
        }
    }
}

/// A Response Topic that may be used (MQTT 5.0, 3.3.2.3.5): it names one topic, of a sane length, is none of the
/// broker's own, and cannot make the reply a command.
#[must_use]
pub(super) fn is_response_topic(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= 256
        && !topic.contains(['#', '+', '\0'])
        && !topic.starts_with('$')
        && topic != "command"
        && !topic.ends_with("/command")
}
