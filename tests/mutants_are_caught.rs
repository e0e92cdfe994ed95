//! A gateway that loses or changes a record now and then is found out by the counting, one whose driver leaves out a
//! check by its values, and the same gateway without that is not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use fieldgate::drivers::Driver;
use support::collector::{Collector, Kind, Received};
use support::count::{Rule, Verdict, judge};
use support::counted::Counted;
use support::disk::own_test;
use support::fault::real::{self, TRANSPORTS};
use support::fault::{Fault, Shared, Shares, Times, seed, trial};
use support::{Broker, Gateway, LIMIT, head};
use tokio::time::Instant;

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

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(80);

/// Right values that are awaited at most.
const VALUES: usize = 6_000;

/// What each check of the driver is there for, without which wrong values come, and where.
const CHECKS: [(&str, Shares, &[&str]); 7] = [
    ("no-quarantine", &[(Fault::Late, 400)], &["rtu", "rtu-tcp", "ascii", "ascii-tcp"]),
    ("no-length", &[(Fault::WrongSize, 200)], &TRANSPORTS),
    ("no-unit", &[(Fault::WrongUnit, 200)], &TRANSPORTS),
    ("no-function", &[(Fault::WrongFunction, 200)], &TRANSPORTS),
    ("no-echo", &[(Fault::WrongEcho, 800)], &TRANSPORTS),
    ("no-crc", &[(Fault::Corrupt, 200)], &["rtu", "rtu-tcp", "ascii", "ascii-tcp"]),
    ("no-transaction", &[(Fault::Foreign, 200)], &["tcp"]),
];

/// A trial of the driver in a process that a fault of its own breaks.
#[tokio::test]
#[ignore = "the child of the others"]
async fn child() {
    let Ok(transport) = std::env::var("TRIAL_TRANSPORT") else { return };
    let check = std::env::var("TRIAL_CHECK").unwrap();
    let (_, shares, _) = CHECKS.iter().find(|(name, ..)| *name == check).unwrap();
    let times = Times { patience: PATIENCE, byte: Duration::ZERO, silence: Duration::ZERO };
    let faults = Shared::new(shares, times, seed());
    let mut driver = real::driver(&transport, &real::start(&transport, real::Device::Own, faults.clone()));
    driver.open(Instant::now() + LIMIT).await.unwrap();
    let verdict = trial::run(&mut driver, &faults, PATIENCE, VALUES, seed()).await;
    println!("{transport}: {verdict}\n{faults}\nwrong {}", verdict.wrong.len());
}

/// How many wrong values a driver without that check brings on this transport before it stops; with `mutant` empty, one
/// that has it.
fn wrong(mutant: &str, check: &str, transport: &str) -> usize {
    let settings = [("FIELDGATE_MUTANT", mutant), ("TRIAL_CHECK", check), ("TRIAL_TRANSPORT", transport)];
    let output = own_test("child", settings).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    print!("`{mutant}` {check}: {text}");
    let count = text.lines().find_map(|line| line.strip_prefix("wrong "));
    count.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))).parse().unwrap()
}

fn is_caught(check: &str) {
    let (_, _, transports) = CHECKS.iter().find(|(name, ..)| *name == check).unwrap();
    for transport in *transports {
        assert!(wrong(check, check, transport) > 0, "{transport}");
    }
}

#[test]
fn a_driver_with_all_checks_brings_no_wrong_value() {
    for (check, _, transports) in CHECKS {
        let transport = transports.last().unwrap();
        assert_eq!(wrong("", check, transport), 0, "{check} {transport}");
    }
}

#[test]
fn a_driver_without_quarantine_is_caught() {
    is_caught("no-quarantine");
}

#[test]
fn a_driver_that_believes_every_size_is_caught() {
    is_caught("no-length");
}

#[test]
fn a_driver_that_believes_every_unit_is_caught() {
    is_caught("no-unit");
}

#[test]
fn a_driver_that_believes_every_function_is_caught() {
    is_caught("no-function");
}

#[test]
fn a_driver_that_believes_every_confirmation_is_caught() {
    is_caught("no-echo");
}

#[test]
fn a_driver_that_looks_at_no_check_sum_is_caught() {
    is_caught("no-crc");
}

#[test]
fn a_driver_that_believes_every_transaction_is_caught() {
    is_caught("no-transaction");
}
