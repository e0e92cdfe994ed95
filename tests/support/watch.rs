//! What `web.listen` of a gateway says to an HTTP client that shares no code with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peers::peer;
use super::{LIMIT, Process, canary};

/// What a configuration of the tests says instead of nothing: any port that is free.
pub const WEB: &str = "[web]\nlisten = \"127.0.0.1:0\"\n";

/// A gateway's address.
pub struct Watch(String);

impl Watch {
    /// Waits until the gateway says where it listens.
    pub fn of(gateway: &Process) -> Self {
        let line = gateway.wait_line("web: http://", LIMIT);
        Self(line[line.find("http://").unwrap()..].trim().to_owned())
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.0.trim_start_matches("http://")
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.0.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// The answer to GET.
    pub fn get(&self, path: &str) -> Value {
        self.ask(path, &json!({}))
    }

    /// The answer to what is wished; `tests/peers/watch.py` says what can be.
    pub fn ask(&self, path: &str, wish: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port());
        let output = peer("watch.py").arg(url).arg(wish.to_string()).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        canary::assert_clean("the answer of the status page", &output.stdout);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The metrics.
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer["code"], 200, "{answer}");
        Metrics(answer)
    }

    /// Asks again and again until `found` makes something of the metrics.
    pub fn wait<T>(&self, what: &str, mut found: impl FnMut(&Metrics) -> Option<T>) -> T {
        self.wait_at("/metrics", what, |answer| found(&Metrics(answer.clone())))
    }

    /// The same with any path.
    pub fn wait_at<T>(&self, path: &str, what: &str, mut found: impl FnMut(&Value) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = self.get(path);
            if let Some(found) = found(&answer) {
                return found;
            }
            assert!(Instant::now() < end, "waited for {what} at {path}; the last answer: {answer}");
            // Asking is not free.
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// What Prometheus' own parser read.
pub struct Metrics(Value);

impl Metrics {
    /// A sample, by its name and its labels, which are written as in a query: `device=boiler,result=good`.
    pub fn get(&self, name: &str, labels: &str) -> Option<f64> {
        let wanted: Value = labels.split(',').filter_map(|label| label.split_once('=')).collect();
        let samples = self.0["samples"].as_array().unwrap();
        samples.iter().find(|sample| sample[0] == name && sample[1] == wanted)?[2].as_f64()
    }

    /// The same where it must be.
    pub fn of(&self, name: &str, labels: &str) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name}{{{labels}}} in {}", self.0["body"]))
    }

    /// The kind of a family.
    pub fn kind(&self, family: &str) -> &str {
        self.0["kinds"][family].as_str().unwrap_or_else(|| panic!("no {family} in {}", self.0["body"]))
    }
}
