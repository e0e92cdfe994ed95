use std::cell::RefCell;
use std::rc::Rc;

use super::*;

fn below(prefix: &str) -> Topics {
    let links =
        Rc::new(RefCell::new([(DeviceId::new("boiler").unwrap(), LinkId::new("plc").unwrap())].into()));
    Topics { links, ..Topics::below(prefix) }
}

fn filters(topics: &Topics, limits: &Limits) -> Vec<String> {
    topics.subscriptions(limits).into_iter().map(|subscription| subscription.filter).collect()
}

#[test]
fn subscriptions_are_what_the_broker_can() {
    let mut topics = below("p");
    let all = Limits::default();
    assert_eq!(filters(&topics, &all), ["p/command", "p/+/command", "p/marker"]);
    let few = Limits { wildcards_unavailable: true, ..Limits::default() };
    assert_eq!(filters(&topics, &few), ["p/command", "p/boiler/command", "p/marker"]);
    topics.group = Some("g".to_owned());
    assert_eq!(filters(&topics, &all), ["$share/g/p/command", "$share/g/p/+/command", "p/marker"]);
    assert!(topics.subscriptions(&all).iter().all(|subscription| !subscription.no_local));
    let none = Limits { shared_unavailable: true, ..Limits::default() };
    assert!(filters(&topics, &none).is_empty());
}

#[test]
fn a_message_by_another_subscription_is_known() {
    let mut topics = below("p");
    let all = Limits::default();
    let of = |topics: &Topics, limits: &Limits| -> Vec<_> {
        topics.subscriptions(limits).into_iter().map(|subscription| subscription.identifier).collect()
    };
    let identifiers = of(&topics, &all);
    let [Some(gateway), Some(device), Some(marker)] = identifiers[..] else { panic!("{identifiers:?}") };
    assert!(identifiers.iter().flatten().all(|id| (1..=LARGEST_IDENTIFIER).contains(id)));
    let boiler = Inbound::Command(DeviceId::new("boiler"));
    for (inbound, own) in [(&Inbound::Command(None), gateway), (&boiler, device), (&Inbound::Marker, marker)]
    {
        assert!(topics.is_wanted(inbound, &[], &all), "the broker tells nothing");
        assert!(topics.is_wanted(inbound, &[7, own], &all), "one copy for both");
        assert!(!topics.is_wanted(inbound, &[7], &all));
    }
    assert!(!topics.is_wanted(&boiler, &[gateway, marker], &all));
    // Device by device it is the same kind; and a broker without identifiers cannot mean anything by them.
    let few = Limits { wildcards_unavailable: true, ..Limits::default() };
    assert_eq!(of(&topics, &few), identifiers);
    let none = Limits { identifiers_unavailable: true, ..Limits::default() };
    assert_eq!(of(&topics, &none), [None; 3]);
    assert!(topics.is_wanted(&boiler, &[7], &none));
    // Another group is another subscription; what waited for an earlier one still bears its identifier.
    topics.group = Some("g".to_owned());
    assert!(!topics.is_wanted(&boiler, &[device], &all));
    assert_eq!(of(&topics, &all)[2], Some(marker));
}

#[test]
fn templates_are_filled_in() {
    let mut topics = below("p");
    topics.readings = "site/{link}/{device}".to_owned();
    topics.reading = "site/{link}/{device}/{point}".to_owned();
    let [boiler, gone] = ["boiler", "gone"].map(|id| DeviceId::new(id).unwrap());
    assert_eq!(topics.of(&Topic::Readings(boiler.clone())), "site/plc/boiler");
    assert_eq!(topics.of(&Topic::Readings(gone)), "site/none/gone");
    let point = crate::point::PointId::new("flow").unwrap();
    assert_eq!(topics.of(&Topic::Reading(boiler, point)), "site/plc/boiler/flow");
}

#[test]
fn commands_are_told_from_everything_else() {
    let topics = below("fieldgate/plant-7");
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
    for topic in ["", "a/#", "a/+/b", "$SYS/x", "fieldgate/p/boiler/command", "command", &"a".repeat(257)] {
        assert!(!is_response_topic(topic), "{topic}");
    }
    assert!(is_response_topic("cloud/answers"));
}
