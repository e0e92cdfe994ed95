//! Lives of the connection: lost, panicked, stopped, and what outlives them.

use super::*;

#[actix::test]
async fn a_panicking_driver_is_started_anew_and_told() {
    let bench = bench(&["panic"], Vec::new());
    sleep(Duration::from_secs(5)).await;
    let events: Vec<String> = bench
        .records
        .borrow()
        .iter()
        .filter(|(kind, _)| *kind == RecordKind::Event)
        .map(|(_, b)| b.clone())
        .collect();
    assert_eq!(events.len(), 1);
    assert!(
        events[0].contains(r#""event":"panic""#) && events[0].contains("as it was told"),
        "{}",
        events[0]
    );
    assert!(bench.asked("panic").len() > 4, "polled on");
}

#[actix::test]
async fn a_lost_link_is_opened_again_with_growing_waits_or_for_a_command() {
    let lost = || Err(DriverError::Lost("no such port".to_owned()));
    let bench = bench(&["alive"], (0..8).map(|_| lost()).collect());
    sleep(Duration::from_secs(12)).await;
    let opened = |bench: &Bench| bench.log.borrow().iter().filter(|(_, seen)| *seen == Seen::Opened).count();
    let before = opened(&bench);
    assert!((4..=6).contains(&before), "at once, at once again, then after 1, 2, 4, 8 s: {before}");
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"offline","b":"offline"}"#));
    let result = bench.execute("alive", write(), Duration::from_secs(1)).await;
    assert!(
        matches!(result.error, Some(TaskError::Failed { error: DriverError::Lost(_), .. })),
        "{result:?}"
    );
    assert_eq!(opened(&bench), before + 1, "tried for the command");
}

#[actix::test]
async fn a_stopped_link_asks_no_more() {
    let bench = bench(&["alive"], Vec::new());
    sleep(Duration::from_secs(2)).await;
    bench.link.send(Stop).await.unwrap();
    let before = bench.asked("alive").len();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.asked("alive").len(), before);
}

#[actix::test]
async fn what_was_learnt_is_told_once_kept_and_given_to_the_next_driver() {
    let bench = bench(&["holey", "panic"], Vec::new());
    sleep(Duration::from_secs(20)).await;
    let events = bench.records.borrow();
    let told: Vec<&String> =
        events.iter().map(|(_, body)| body).filter(|body| body.contains("link-holes")).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(r#""link":"line","device":"holey","holes":["holding:7"]"#), "{}", told[0]);
    let kept = bench.kept.borrow();
    assert_eq!(kept.iter().collect::<Vec<_>>(), [(&"holes/holey".to_owned(), &b"seven".to_vec())]);
    // The driver that panicked was the first; the second was told what the first had learnt.
    let log = bench.log.borrow();
    let recalled: Vec<_> = log.iter().filter(|(_, seen)| matches!(seen, Seen::Recalled(_))).collect();
    assert_eq!(recalled.len(), 1);
    assert_eq!(recalled[0].1, Seen::Recalled("seven".to_owned()));
}
