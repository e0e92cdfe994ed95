//! Every topic string, built and parsed.

use crate::point::DeviceId;
use crate::record::Topic;
use crate::status::Aspect;

/// Topics below the configured prefix.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
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
    /// Below this prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Where a record goes.
    #[must_use]
    pub fn of(&self, topic: &Topic) -> String {
        let prefix = &self.prefix;
        match topic {
            Topic::Readings(device) => format!("{prefix}/{device}/readings"),
            Topic::Reading(device, point) => format!("{prefix}/{device}/readings/{point}"),
            Topic::Reply(None) => format!("{prefix}/reply"),
            Topic::Reply(Some(device)) => format!("{prefix}/{device}/reply"),
            Topic::Event => format!("{prefix}/event"),
            Topic::Response(topic) => topic.clone(),
        }
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

    /// What the gateway subscribes to.
    #[must_use]
    pub(super) fn filters(&self) -> [String; 3] {
        [format!("{}/command", self.prefix), format!("{}/+/command", self.prefix), self.marker()]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_everything_else() {
        let topics = Topics::new("fieldgate/plant-7");
        let boiler = DeviceId::new("boiler").unwrap();
        assert_eq!(topics.parse("fieldgate/plant-7/boiler/command"), Some(Inbound::Command(Some(boiler))));
        assert_eq!(topics.parse("fieldgate/plant-7/command"), Some(Inbound::Command(None)));
        assert_eq!(topics.parse("fieldgate/plant-7/marker"), Some(Inbound::Marker));
        for topic in [
            "fieldgate/plant-70/command",
            "fieldgate/plant-7/BOILER/command",
            "fieldgate/plant-7/a/b/command",
            "x",
            "",
        ] {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn dangerous_response_topics_are_not_used() {
        for topic in ["", "a/#", "a/+/b", "$SYS/x", "fieldgate/p/boiler/command", "command", &"a".repeat(257)]
        {
            assert!(!is_response_topic(topic), "{topic}");
        }
        assert!(is_response_topic("cloud/answers"));
    }
}
