//! A name server that never answers holds up the uplink and nothing else: polling keeps its interval, readings are
//! stored, and the gateway still stops in order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Broker, Gateway, LIMIT, Records, Scale, Subscriber, head, program, project, scale_device};

/// Polls that are timed, and how often.
const POLLS: u32 = 100;
const INTERVAL: Duration = Duration::from_millis(100);

#[test]
fn polling_goes_on_while_the_name_server_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let shim = folder.path().join("deaf_resolver.so");
    let built = Command::new(program("cc"))
        .args(["-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(project().join("tests/support/deaf_resolver.c"))
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success(), "the shim was not built");
    let broker = Broker::start();
    let scale = Scale::start();
    let config = head(folder.path(), &broker) + &scale_device(&scale.path, "100ms");
    let deaf = config.replace(&broker.url(), "mqtt://broker.invalid:1883");
    let preload = shim.display().to_string();
    let mut gateway = Gateway::run_with(folder.path(), &deaf, &[("LD_PRELOAD", &preload)]);
    gateway.process().wait_line("the resolver is asked and stays silent", LIMIT);
    let first = scale.wait_sent(1);
    let begin = Instant::now();
    scale.wait_sent(POLLS.into());
    let took = begin.elapsed();
    // Less than twice the time: one blocked look-up alone would hold it up for its whole limit of ten seconds.
    assert!(took < INTERVAL * POLLS * 2, "{POLLS} polls took {took:?}");
    let stopped = Instant::now();
    let exit = gateway.stop();
    assert_eq!(exit.code(), Some(0));
    // An orderly stop has 8 s; systemd kills after 15 s.
    assert!(stopped.elapsed() < Duration::from_secs(15), "the stop took {:?}", stopped.elapsed());

    // With a name that is found, everything read meanwhile comes out of the buffer.
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let last = scale.sent();
    let _gateway = Gateway::run(folder.path(), &config);
    watcher.wait("every weighing", LIMIT, |messages| {
        let weighings = Records::of(messages).weighings();
        (first..last).all(|weighing| weighings.contains(&weighing)).then_some(())
    });
}
