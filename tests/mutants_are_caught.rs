//! A gateway that loses or changes a record now and then is found out by the counting, and the same gateway
//! without that is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use support::collector::{Collector, Kind, Received};
use support::count::{Rule, Verdict, judge};
use support::counted::Counted;
use support::{Broker, Gateway, LIMIT, head};

/// Points of a unit.
const POINTS: usize = 4;
/// Answers that each gateway gives away: the rarest fault is in one record of five hundred.
const ANSWERS: usize = 1_200;

/// The fault that makes records vanish.
const DROP: &[(&str, &str)] = &[("FIELDGATE_MUTANT", "drop")];

/// Counts what a gateway with this fault makes of a life with a short outage in it.
fn count(mutant: &[(&str, &str)]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::persistent();
    let device = Counted::start(POINTS);
    let collector = Collector::start(&broker, POINTS);
    let config = head(folder.path(), &broker) + &device.devices(2, "10ms");
    let mut gateway = Gateway::run_with(folder.path(), &config, mutant);
    gateway.process().wait_line("can be broken on purpose", LIMIT);
    device.wait_served(ANSWERS / 2);
    broker.stop();
    device.wait_served(ANSWERS / 4);
    broker.start_again();
    device.wait_served(ANSWERS / 4);
    device.mute();
    // Every value has a lower number than the first poll without one: what is below it is all there is to come.
    let settled = collector.wait(LIMIT, |received| {
        let records = || received.iter().filter_map(Received::record);
        let first_bad =
            records().filter(|record| matches!(record.kind, Kind::Bad)).map(|record| record.seq).min()?;
        let below: BTreeSet<u64> =
            records().map(|record| record.seq).filter(|seq| *seq < first_bad).collect();
        let vanish = if mutant == DROP { (first_bad - 1) / 500 } else { 0 };
        (u64::try_from(below.len()).unwrap() + vanish == first_bad - 1).then_some(())
    });
    assert!(
        settled.is_some(),
        "not everything arrived:\n{}",
        judge(&device.served(), &collector.received(), &Rule::default())
    );
    assert!(gateway.stop().success());
    let verdict = judge(&device.served(), &collector.received(), &Rule::default());
    verdict.report(&format!("{mutant:?}"));
    verdict
}

#[test]
fn the_gateway_as_it_is_loses_and_changes_nothing() {
    let verdict = count(&[]);
    assert!(verdict.is_clean(), "{verdict}");
    assert!(verdict.received >= ANSWERS && verdict.backlog > 0, "{verdict}");
}

#[test]
fn a_gateway_that_drops_records_is_caught() {
    let verdict = count(DROP);
    assert!(verdict.lost.count >= 2 && verdict.holes.count >= 2, "{verdict}");
    assert_eq!(verdict.changed.count + verdict.foreign.count, 0, "{verdict}");
}

#[test]
fn a_gateway_that_changes_a_digit_is_caught() {
    let verdict = count(&[("FIELDGATE_MUTANT", "change")]);
    assert!(verdict.foreign.count >= 3, "{verdict}");
    assert_eq!(verdict.holes.count, 0, "{verdict}");
}
