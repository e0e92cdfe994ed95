//! Peers in Node: a `WebSocket` server before a broker, and a broker of another make. And an HTTP proxy, in Python.

use std::process::Command;

use serde_json::{Value, json};

use super::certificates::Paper;
use super::peers::peer;
use super::{LIMIT, Process, program, project};

/// A server of `WebSocket`s before a broker; `tests/peers/websocket.mjs` says what can be wished.
pub struct WebSockets {
    /// Where it listens, on loopback.
    pub port: u16,
    process: Process,
}

impl WebSockets {
    /// Before the broker on this port, over TLS where there is a certificate.
    pub fn before(broker: u16, paper: Option<&Paper>, mut wish: Value) -> Self {
        wish["broker"] = broker.into();
        show(&mut wish, paper);
        let process = node("websocket.mjs", &wish);
        let port = ports(&process)[0];
        Self { port, process }
    }

    /// Its process, for what it tells.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The opening requests so far.
    pub fn asked(&self) -> Vec<Value> {
        let lines = self.process.lines();
        lines.iter().filter_map(|line| serde_json::from_str(line.strip_prefix("asked ")?).ok()).collect()
    }
}

/// A broker that is no mosquitto: aedes.
pub struct Aedes {
    /// Its ports of loopback: TCP, TLS, WebSocket, WebSocket over TLS.
    pub ports: [u16; 4],
    process: Process,
}

impl Aedes {
    /// One with this certificate.
    pub fn start(paper: &Paper) -> Self {
        let mut wish = json!({});
        show(&mut wish, Some(paper));
        let process = node("aedes.mjs", &wish);
        let ports = ports(&process).try_into().unwrap();
        Self { ports, process }
    }
}

/// An HTTP proxy; `tests/peers/proxy.py` says what it can be told.
pub struct Proxy {
    /// Where it listens, on loopback.
    pub port: u16,
    process: Process,
}

impl Proxy {
    /// Starts it with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let process = Process::start("proxy.py", peer("proxy.py").args(arguments));
        let port = ports(&process)[0];
        Self { port, process }
    }

    /// Its process, for what it tells.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn show(wish: &mut Value, paper: Option<&Paper>) {
    if let Some(paper) = paper {
        wish["cert"] = paper.cert.to_str().into();
        wish["key"] = paper.key.to_str().into();
    }
}

fn node(script: &str, wish: &Value) -> Process {
    let folder = project().join("tests/peers");
    assert!(
        folder.join("node_modules/package.json").exists(),
        "the Node peers are not installed: run `make test`, or `tests/setup.sh test` once"
    );
    let mut command = Command::new(program("node"));
    Process::start(script, command.arg(folder.join(script)).arg(wish.to_string()))
}

fn ports(process: &Process) -> Vec<u16> {
    let line = process.wait_line("listening ", LIMIT);
    line.split(' ').skip(1).map(|port| port.parse().unwrap()).collect()
}
