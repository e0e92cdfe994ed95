//! Commands between the requests of the polls.

use super::*;

#[actix::test]
async fn a_command_waits_for_one_request_not_for_a_poll() {
    let bench = bench(&["alive"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    let result = bench.execute("alive", write(), Duration::from_secs(5)).await;
    assert_eq!(result.error, None);
    let order: Vec<Seen> = bench.log.borrow().iter().map(|(_, seen)| seen.clone()).collect();
    let asked = Seen::Asked("alive".to_owned());
    assert!(
        order.starts_with(&[Seen::Opened, asked.clone(), Seen::Written("alive".to_owned())]),
        "{order:?}"
    );
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.asked("alive").len(), 2, "the poll goes on afterwards");
}

#[actix::test]
async fn a_late_command_never_runs() {
    let bench = bench(&["dead", "alive"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    // The line is busy with the silent device for 200 ms.
    let result = bench.execute("alive", write(), Duration::from_millis(50)).await;
    assert_eq!(result.error, Some(TaskError::Late));
    sleep(Duration::from_secs(3)).await;
    assert!(!bench.log.borrow().iter().any(|(_, seen)| matches!(seen, Seen::Written(_))));
}

#[actix::test]
async fn more_commands_than_fit_are_told_busy() {
    let bench = bench(&["dead"], Vec::new());
    sleep(Duration::from_millis(1)).await;
    let all = (0..20).map(|_| bench.execute("dead", write(), Duration::from_secs(5)));
    let results = futures_util::future::join_all(all).await;
    let busy = results.iter().filter(|result| matches!(result.error, Some(TaskError::Busy(_)))).count();
    assert_eq!(busy, 12, "eight wait, the rest is told at once");
    let written = bench.log.borrow().iter().filter(|(_, seen)| matches!(seen, Seen::Written(_))).count();
    assert_eq!(written, 8);
}

#[actix::test]
async fn what_the_device_keeps_is_told_not_what_was_written() {
    let bench = bench(&["stubborn"], Vec::new());
    let result = bench.execute("stubborn", write(), Duration::from_secs(5)).await;
    assert!(matches!(result.error, Some(TaskError::Unverified { .. })), "{result:?}");
    assert_eq!(result.values[0].1.to_string(), "0");
}

#[actix::test]
async fn a_flood_of_commands_leaves_the_polls_their_turns() {
    let bench = bench(&["alive"], Vec::new());
    let end = Instant::now() + Duration::from_secs(60);
    let sender = || async {
        let mut done = 0_u32;
        while Instant::now() < end {
            let result = bench.execute("alive", Task::Read(vec![0]), Duration::from_secs(5)).await;
            done += u32::from(result.error.is_none());
        }
        done
    };
    // As many as may wait: there is always another command.
    let done: u32 = futures_util::future::join_all((0..8).map(|_| sender())).await.into_iter().sum();
    assert!(done > 5_000, "{done} commands of 10 ms in a minute");
    let polls = bench.readings("alive").len();
    assert!((58..=61).contains(&polls), "{polls} polls in a minute");
}
