//! A broker that is away again and again, and more devices than paho takes messages at once by itself: the
//! gateway is back each time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::fmt::Write as _;

use support::{Broker, Gateway, LIMIT, Records, Subscriber, head};

/// Retained messages are two for each: paho's own bound is a hundred in all.
const DEVICES: usize = 150;
/// Times the broker goes. A failed connect in each dozen used to hang every call of the MQTT library.
const ROUNDS: usize = 3;
/// Polls that pass while it is away: enough for a dozen failed connects.
const POLLS_AWAY: u64 = 6;

#[test]
fn a_gateway_of_many_devices_comes_back_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let mut config = head(folder.path(), &broker) + "[links.sim]\ndriver = \"simulator\"\n";
    for device in 0..DEVICES {
        write!(
            config,
            "[devices.d{device}]\nlink = \"sim\"\npoll_interval = \"250ms\"\n\
             [devices.d{device}.points]\ncount = {{ address = \"counter\", type = \"u32\" }}\n"
        )
        .unwrap();
    }
    let fast = [("FIELDGATE_MQTT__RECONNECT__MIN", "100ms"), ("FIELDGATE_MQTT__RECONNECT__MAX", "100ms")];
    let mut gateway = Gateway::run_with(folder.path(), &config, &fast);
    let mut polls = 0;
    for _ in 0..=ROUNDS {
        let watcher = Subscriber::start(&broker, "fieldgate/g/#");
        watcher.wait("the status of every device", LIMIT, |messages| {
            let online =
                messages.iter().filter(|m| m.topic.ends_with("/status") && m.payload.contains("online"));
            (online.count() > DEVICES).then_some(())
        });
        let count = |device: &str| {
            let topic = format!("fieldgate/g/{device}/readings");
            watcher.wait("a poll after the broker's return", LIMIT, |messages| {
                let counts = messages.iter().filter(|m| m.topic == topic);
                let newest = counts.filter_map(|m| m.json()["values"]["count"].as_u64()).max();
                newest.filter(|count| *count >= polls)
            })
        };
        polls = count("d0").max(count("d149")) + POLLS_AWAY;
        let runs = Records::of(&watcher.messages()).runs();
        assert_eq!(runs.len(), 1, "the gateway died: {runs:?}");
        drop(watcher);
        broker.kill();
        gateway.process().wait("the outage", LIMIT, |_| {
            std::thread::park_timeout(std::time::Duration::from_millis(1500));
            Some(())
        });
        broker.start_again();
    }
    assert!(gateway.stop().success());
}
