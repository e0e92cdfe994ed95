//! The counting itself: each fault it is there for is found in a story that has it, and in no other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use support::collector::{Received, State};
use support::count::{Rule, Verdict, judge};
use support::counted::{Origin, Served};

/// Nanoseconds from one answer to the next.
const STEP: u64 = 10_000_000;

/// A device that gave so many answers, one each 10 ms, on one connection.
fn served(answers: u64) -> Vec<Served> {
    let answer = |n| Served { unit: 1, n, connection: 1, asked: n * STEP, answered: n * STEP + 1 };
    (1..=answers).map(answer).collect()
}

/// What a subscriber hears, line by line.
struct Story(State);

impl Story {
    fn new() -> Self {
        Self(State::default()).hear("status", r#"{"state":"online"}"#)
    }

    /// The record `seq` with the answer `n`.
    fn answer(self, seq: u64, n: u64, more: &str) -> Self {
        let value = |point| Origin { unit: 1, point, n }.value();
        let (first, second) = (value(0), value(1));
        let text = format!(
            r#"{{"run":7,"seq":{seq},"device":"unit-1","values":{{"p0":{first},"p1":{second}}}{more}}}"#
        );
        self.hear("unit-1/readings", &text)
    }

    /// Answers as they come when nothing goes wrong.
    fn answers(self, all: impl IntoIterator<Item = u64>) -> Self {
        all.into_iter().fold(self, |story, n| story.answer(n, n, ""))
    }

    /// The record `seq`, which calls these of run 7 lost.
    fn gap(self, seq: u64, from: u64, to: u64, reason: &str) -> Self {
        let lost = format!(r#""lost":{{"run":7,"from":{from},"to":{to}}}"#);
        self.hear("event", &format!(r#"{{"run":8,"seq":{seq},"event":"gap",{lost},"reason":"{reason}"}}"#))
    }

    fn hear(mut self, topic: &str, payload: &str) -> Self {
        self.0.take(&format!("> 0 fieldgate/g/{topic} {payload}"), 2);
        self
    }

    fn received(&self) -> &[Received] {
        self.0.received()
    }

    /// The faults that are found when the device gave `answers`: lost, holes, changed, foreign, disordered.
    fn faults(&self, answers: u64, rule: &Rule) -> [usize; 5] {
        let Verdict { lost, holes, changed, foreign, disordered, .. } =
            judge(&served(answers), self.received(), rule);
        [lost, holes, changed, foreign, disordered].map(|faults| faults.count)
    }
}

/// The gateway was killed right after the 20th answer, and may lose what was younger than 50 ms.
fn killed() -> Rule {
    let window = Duration::from_millis(50);
    Rule { kills: vec![20 * STEP + 2..=20 * STEP + 3], window, excuses: vec!["max_size"] }
}

#[test]
fn a_clean_story_is_clean() {
    let story = Story::new().answers(1..=20).answer(3, 3, r#","backlog":true"#);
    let verdict = judge(&served(20), story.received(), &Rule::default());
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.served, verdict.received, verdict.repeats), (20, 20, 1));
}

#[test]
fn a_value_that_is_missing_is_lost() {
    // Of the last answer nobody knows whether the gateway took it; of the one before, everybody.
    assert_eq!(Story::new().answers(1..=19).faults(20, &Rule::default()), [0; 5]);
    assert_eq!(Story::new().answers(1..=18).faults(20, &Rule::default()), [1, 0, 0, 0, 0]);
    let renumbered = Story::new().answers(1..=4).answer(5, 6, "").answer(6, 7, "");
    assert_eq!(renumbered.faults(8, &Rule::default()), [1, 0, 0, 0, 0]);
}

#[test]
fn a_kill_excuses_what_was_younger_than_the_window() {
    let story = Story::new().answers(1..=15);
    assert_eq!(story.faults(20, &Rule::default())[0], 4);
    assert_eq!(story.faults(20, &killed()), [0; 5]);
    let verdict = judge(&served(20), story.received(), &killed());
    assert_eq!(verdict.ages.len(), 1, "{verdict}");
    assert!(verdict.ages[0] > Duration::from_millis(30) && verdict.ages[0] < Duration::from_millis(50));
    assert_eq!(Story::new().answers(1..=12).faults(20, &killed())[0], 2);
}

#[test]
fn a_hole_is_excused_by_an_event_alone() {
    let story = || Story::new().answers((1..=10).chain(13..=20));
    assert_eq!(story().faults(20, &Rule::default()), [2, 2, 0, 0, 0]);
    assert_eq!(story().gap(1, 11, 11, "max_size").faults(20, &killed()), [1, 1, 0, 0, 0]);
    assert_eq!(story().gap(1, 5, 12, "max_size").faults(20, &killed()), [0; 5]);
    // That something may be missing excuses no value that must be there.
    assert_eq!(story().gap(1, 5, 12, "unclean-stop").faults(20, &killed()), [2, 0, 0, 0, 0]);
    assert_eq!(story().gap(2, 1, 9, "max_size").faults(20, &killed()), [2, 3, 0, 0, 0]);
}

#[test]
fn another_content_is_a_change() {
    let story = Story::new().answers(1..=20).answer(5, 5, r#","bad":{}"#);
    assert_eq!(story.faults(20, &Rule::default()), [0, 0, 1, 0, 0]);
}

#[test]
fn a_value_that_was_never_given_is_foreign() {
    let other = || Story::new().answers(1..=20);
    assert_eq!(other().answer(21, 21, "").faults(20, &Rule::default()), [0, 0, 0, 1, 0]);
    assert_eq!(other().answer(21, 3, "").faults(20, &Rule::default()), [0, 0, 0, 1, 0], "twice");
    let value = |unit, point, n| Origin { unit, point, n }.value();
    for (what, first, second) in [
        ("another unit's", value(2, 0, 20), value(2, 1, 20)),
        ("swapped", value(1, 1, 20), value(1, 0, 20)),
        ("of two answers", value(1, 0, 19), value(1, 1, 20)),
    ] {
        let text =
            format!(r#"{{"run":7,"seq":20,"device":"unit-1","values":{{"p0":{first},"p1":{second}}}}}"#);
        let story = Story::new().answers(1..=19).hear("unit-1/readings", &text);
        assert_eq!(story.faults(20, &Rule::default()), [0, 0, 0, 1, 0], "{what}");
    }
    let half = format!(r#"{{"run":7,"seq":20,"device":"unit-1","values":{{"p0":{}}}}}"#, value(1, 0, 20));
    let story = Story::new().answers(1..=19).hear("unit-1/readings", &half);
    assert_eq!(story.faults(20, &Rule::default()), [0, 0, 0, 1, 0], "half of it");
}

#[test]
fn the_order_counts_within_a_kind_and_a_connection() {
    let backlog = r#","backlog":true"#;
    let mixed =
        |story: Story| story.answer(6, 6, "").answer(1, 1, backlog).answer(7, 7, "").answer(2, 2, backlog);
    let story = mixed(Story::new()).answer(3, 3, backlog).answer(4, 4, backlog).answer(5, 5, backlog);
    assert_eq!(story.faults(7, &Rule::default()), [0; 5]);
    let story = mixed(Story::new()).answer(4, 4, backlog).answer(3, 3, backlog).answer(5, 5, "");
    assert_eq!(story.faults(7, &Rule::default()), [0, 0, 0, 0, 2]);
    let again = mixed(Story::new()).hear("status", r#"{"state":"online"}"#);
    assert_eq!(again.answers(3..=5).faults(7, &Rule::default()), [0; 5]);
}
