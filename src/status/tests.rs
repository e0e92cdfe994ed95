use super::*;

fn report(state: State, reason: Option<&str>, millis: i64) -> Report {
    Report {
        device: DeviceId::new("boiler").unwrap(),
        state,
        reason: reason.map(str::to_owned),
        detail: None,
        ts: Timestamp::from_millis(millis),
    }
}

#[test]
fn a_state_is_told_when_it_changes_and_only_then() {
    let mut status = Status::new(9);
    assert!(status.take(report(State::Online, None, 1000)));
    assert!(!status.take(report(State::Online, None, 2000)));
    let since = status.changes(0).version;
    assert!(status.take(report(State::Degraded, Some("power: timeout"), 3000)));
    assert!(!status.take(report(State::Degraded, Some("power: timeout"), 4000)));
    let changes = status.changes(since);
    assert_eq!(changes.retained.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&changes.retained[0].payload),
        r#"{"format":1,"state":"degraded","since":"1970-01-01T00:00:03.000Z","reason":"power: timeout","last_good":"1970-01-01T00:00:02.000Z","run":9}"#
    );
    assert!(status.changes(changes.version).retained.is_empty());
}
