//! What the end-to-end tests share: a real broker, the real binary, real MQTT clients, and devices that are
//! programs of others. Nothing here sleeps, has a fixed port, or outlives its test.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unreachable_pub, reason = "each test is a crate of its own")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on panics"
)]

mod broker;
pub mod canary;
pub mod certificates;
pub mod collector;
pub mod count;
pub mod counted;
pub mod cut;
pub mod disk;
pub mod fault;
pub mod frames;
mod gateway;
pub mod ledger;
pub mod load;
mod mqtt;
pub mod node;
pub mod packet;
mod peers;
pub mod plugins;
mod process;
pub mod recorder;
pub mod relay;
pub mod scripted;
pub mod simulated;
pub mod small_disk;
pub mod specimen;
pub mod stocked;
pub mod tools;
pub mod watch;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[allow(unused_imports, reason = "each test uses its part")]
pub use self::{
    broker::Broker,
    gateway::{
        Gateway, boiler_device, boiler_units, fieldgate, gateway_command, head, head_at, scale_device,
    },
    mqtt::{Message, Records, Subscriber, publish, publish_at, uplink_status},
    peers::{ModbusPeer, Scale},
    process::Process,
};

/// How long a test waits for what must happen. Far more than it takes, so that a busy machine fails nothing.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often a test tries: so many times in `make test`, and so many with SOAK set, as `make soak` does.
pub fn rounds(quick: usize, full: usize) -> usize {
    if std::env::var_os("SOAK").is_some() { full } else { quick }
}

/// A port nobody listens on.
///
/// It lies below the range from which the kernel serves outgoing connections, so that it is still free when a
/// broker comes back to it.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// As many of them, each another.
pub fn free_ports(count: usize) -> Vec<u16> {
    let random =
        |attempt: u32| 15_000 + u16::try_from(RandomState::new().hash_one(attempt) % 15_000).unwrap();
    // Each stays taken until all are found.
    let taken: Vec<TcpListener> = (0..200)
        .map(random)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(count)
        .collect();
    assert_eq!(taken.len(), count, "too few free ports between 15000 and 30000");
    taken.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A program that the tests need, also where it lies off a normal user's path.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make test`, or `tests/setup.sh test` once"))
}

/// The Python of the folder that `tests/setup.sh` makes.
pub fn python() -> PathBuf {
    let python = project().join(".venv/bin/python");
    assert!(
        python.exists(),
        "the Python peers are not installed: run `make test`, or `tests/setup.sh test` once"
    );
    python
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
