//! The real binary as a child.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::canary::{self, Planted};
use super::{Broker, LIMIT, Process};

/// A running `fieldgate run`. When it ends, nothing that can be seen of it may hold one of its secrets.
pub struct Gateway {
    process: Process,
    config: PathBuf,
    environment: Vec<(String, String)>,
    planted: Planted,
}

impl Gateway {
    /// Writes the configuration into `folder` and runs a gateway with it.
    pub fn run(folder: &Path, config: &str) -> Self {
        Self::run_with(folder, config, &[])
    }

    /// The same with more in its environment.
    pub fn run_with(folder: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        let planted = canary::plant(folder, config);
        let mut all = planted.environment.clone();
        all.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Self::spawn(write(folder, config), all, planted)
    }

    /// One that knows what is written there and no secret beside it.
    pub fn run_as_written(folder: &Path, config: &str) -> Self {
        Self::spawn(write(folder, config), Vec::new(), Planted::default())
    }

    fn spawn(config: PathBuf, environment: Vec<(String, String)>, planted: Planted) -> Self {
        let process = Process::start("fieldgate run", &mut command(&config, &environment, "run"));
        // Fails here and now when it refuses the configuration.
        process.wait_line("polling", LIMIT);
        Self { process, config, environment, planted }
    }

    /// Another task of the program with the same configuration and secrets.
    pub fn command(&self, task: &str) -> Command {
        command(&self.config, &self.environment, task)
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order, within the ten seconds that a stop may take.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait_exit(LIMIT)
    }

    /// Runs another one with the same configuration, on the same buffer.
    pub fn run_again(mut self) -> Self {
        self.kill();
        Self::spawn(self.config.clone(), self.environment.clone(), self.planted.clone())
    }

    /// Its process, for its log and its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What others on the machine see of it: its arguments, and of its environment what it was not given as a secret.
    fn assert_clean_process(&self) {
        let read = |file: &str| fs::read(format!("/proc/{}/{file}", self.process.pid())).unwrap_or_default();
        canary::assert_clean("its command line", &read("cmdline"));
        for variable in read("environ").split(|byte| *byte == 0) {
            if !self.planted.environment.iter().any(|(name, _)| variable.starts_with(name.as_bytes())) {
                canary::assert_clean("its environment", variable);
            }
        }
    }

    /// Its configuration, its buffer and all that lies beside them.
    fn assert_clean_files(&self) {
        self.planted.guard_sources();
        let folder = self.config.parent().unwrap();
        canary::assert_clean_folder(folder, &self.planted.sources);
        let text = fs::read_to_string(&self.config).unwrap_or_default();
        let path = text.split("path = \"").skip(1).find_map(|rest| rest.split_once("/buffer.db\""));
        if let Some(buffer) = path.map(|(path, _)| Path::new(path)).filter(|path| *path != folder) {
            canary::assert_clean_folder(buffer, &self.planted.sources);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.assert_clean_process();
            self.process.kill();
            self.assert_clean_files();
        }
    }
}

fn write(folder: &Path, config: &str) -> PathBuf {
    let file = folder.join("fieldgate.toml");
    fs::write(&file, config).unwrap();
    file
}

/// The binary with secrets of its own, to run with the configuration that is written to `folder` here.
pub fn gateway_command(folder: &Path, config: &str) -> Command {
    command(&write(folder, config), &canary::plant(folder, config).environment, "run")
}

fn command(config: &Path, environment: &[(String, String)], task: &str) -> Command {
    let mut command = fieldgate();
    command.arg(task).arg("--config").arg(config);
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    command
}

/// The binary, without any setting that happens to lie in the environment of the tests.
pub fn fieldgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("FIELDGATE_") {
            command.env_remove(key);
        }
    }
    command
}

/// The part of a configuration that every test has: gateway `g`, its buffer in `folder`, this broker, and
/// reconnects that do not make the tests wait. Nothing listens. The tables of `[mqtt]` come last, so that lines can follow.
pub fn head(folder: &Path, broker: &Broker) -> String {
    head_at(folder, &broker.url())
}

/// The same for a broker at this address.
pub fn head_at(folder: &Path, url: &str) -> String {
    format!(
        r#"
[web]
listen = "off"
[gateway]
id = "g"
clock = "trusted"
[log]
level = "debug"
[buffer]
path = "{}/buffer.db"
[mqtt]
url = "{}"
reconnect = {{ min = "200ms", max = "1s" }}
"#,
        folder.display(),
        url
    )
}

/// The scale as a device `scale`, polled so often, with its own link.
pub fn scale_device(path: &str, interval: &str) -> String {
    format!(
        r#"
[links.scale]
driver = "serial"
path = "{path}"
frame = {{ end = "\r\n" }}
[devices.scale]
link = "scale"
poll_interval = "{interval}"
request = "W\r\n"
decode = {{ regex = '^(?<status>\w\w),(?<weight>[-+ 0-9.]+)kg$' }}
points.weight = {{ address = "weight", type = "f64", unit = "kg" }}
"#
    )
}

/// A boiler of pymodbus, its registers by their addresses.
pub fn boiler_units() -> Value {
    json!({
        "1": {"holding": {"40": [475], "41": [7], "50": [1, 2]}, "coil": {"4": [false]}, "counter": 0},
        "2": {}
    })
}

/// The boiler as a device `boiler`, polled so often, with its own link; and a `chimney` without registers.
pub fn boiler_device(address: &str, interval: &str) -> String {
    format!(
        r#"
[links.plc]
driver = "modbus-tcp"
address = "{address}"
timeout = "5s"
[devices.boiler]
link = "plc"
address = 1
poll_interval = "{interval}"
[devices.boiler.points]
count = {{ address = "input:0", type = "u16" }}
setpoint = {{ address = "holding:40", type = "i16", scale = 0.1, unit = "°C", writable = true, min = 20.0, max = 75.0 }}
fixed = {{ address = "holding:41", type = "u16" }}
total = {{ address = "holding:50", type = "u32", writable = true }}
pump = {{ address = "coil:4", type = "bool", writable = true }}
[devices.chimney]
link = "plc"
address = 2
poll_interval = "{interval}"
points.gone = {{ address = "holding:900", type = "u16", writable = true }}
"#
    )
}
