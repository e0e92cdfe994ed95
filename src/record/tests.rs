use super::*;

#[test]
fn topics_survive_their_stored_form() {
    let device = DeviceId::new("boiler").unwrap();
    let point = PointId::new("flow_temp").unwrap();
    for topic in [
        Topic::Readings(device.clone()),
        Topic::Reading(device.clone(), point),
        Topic::Reply(None),
        Topic::Reply(Some(device)),
        Topic::Event,
        Topic::Response("cloud/answers/to/me".to_owned()),
    ] {
        assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
    }
    for text in ["", "readings", "readings/A", "reply/a/b", "event/x", "other"] {
        assert_eq!(Topic::parse(text), None, "{text}");
    }
}

#[test]
fn a_time_taken_before_the_clock_was_set_is_made_right_once() {
    let made = Moment { synced: false, wall: Timestamp::from_millis(1_000), uptime: 500 };
    let detail = "\"ts\":\"1970-01-01T00:00:01.000Z\",\"clock\":\"unsynced\"";
    let mut record = event("panic", made, |body| body.with("text", detail));
    assert!(record.set_time(10_000));
    let expected = r#""event":"panic","ts":"1970-01-01T00:00:10.500Z","text":"\"ts\":\"1970-01-01T00:00:01.000Z\",\"clock\":\"unsynced\"""#;
    assert_eq!(String::from_utf8_lossy(&record.body), expected);
    assert_eq!(record.made, Moment { wall: Timestamp::from_millis(10_500), synced: true, uptime: 500 });
    assert!(!record.set_time(20_000));
}

#[test]
fn a_payload_differs_from_its_repeat_in_backlog_alone() {
    let made = Moment { synced: false, ..Moment::synced(0) };
    let record = event("gap", made, |body| body.with("reason", "max_size"));
    let numbered = Numbered { name: Name { run: 7, seq: 2 }, record };
    let first = String::from_utf8(numbered.payload(false)).unwrap();
    assert_eq!(
        first,
        r#"{"run":7,"seq":2,"event":"gap","ts":"1970-01-01T00:00:00.000Z","clock":"unsynced","reason":"max_size"}"#
    );
    let again = String::from_utf8(numbered.payload(true)).unwrap();
    assert_eq!(again, first.replace('}', r#","backlog":true}"#));
}
