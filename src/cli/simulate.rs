//! `fieldgate simulate`: every device of the configuration as a working fake.
//!
//! A link is served where the configuration has it when that touches nothing of anybody's: a loopback address
//! with a free port, or a path at which nothing lies. Everything else goes to a free port or a temporary
//! folder, and the settings that lead a gateway there are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use self::gateway::Gateway;
use self::line::Line;
use self::terminal::{Scratch, Terminal};
use self::text::Talker;
use self::unit::Unit;
use super::Exit;
use crate::config::{self, Config, Framing, LinkConfig, Medium, PortName, SerialLine, Transport};
use crate::point::{Device, Protocol};

mod bus;
mod content;
mod fill;
mod frame;
mod gateway;
mod line;
mod terminal;
mod text;
mod unit;
mod wave;

/// How long the gateway may take to stop; it promises ten seconds.
const STOP: Duration = Duration::from_secs(15);

/// Why nothing could be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The program cannot have a terminal, a port or a signal.
    #[error("{what}")]
    System {
        /// What was wanted.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// No frame was found that the regex of a device matches.
    #[error("devices.{0}.decode.regex: no text was found that it matches; an easier regex can be simulated")]
    Regex(String),
    /// No frame can hold all points of a device.
    #[error("devices.{0}: no frame was found that holds all its points")]
    Frame(String),
}

impl SimulateError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }
}

/// Serves until SIGINT or SIGTERM; with `run` also starts a gateway on the same files, and ends with it.
pub fn simulate(files: &[PathBuf], run: bool) -> Exit {
    let config = match config::load(files) {
        Ok(config) => config,
        Err(error) => {
            super::complain(&error);
            return Exit::Config;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime
        .map_err(SimulateError::system("no event loop"))
        .and_then(|runtime| runtime.block_on(serve(&config, files, run)));
    ended.unwrap_or_else(|error| {
        super::complain(&error);
        Exit::Failed
    })
}

async fn serve(config: &Config, files: &[PathBuf], run: bool) -> Result<Exit, SimulateError> {
    // Before anything is served: whoever reads the output may send one at once.
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut served = Served {
        config,
        scratch: Scratch::default(),
        tasks: JoinSet::new(),
        settings: BTreeMap::new(),
        report: String::new(),
    };
    let exit = async {
        for link in &config.links {
            served.serve(link).await?;
        }
        let told = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        work(&served, files, run, told).await
    };
    let exit = exit.await;
    // Each takes its link in the file system away, then the folders are empty.
    let Served { scratch, mut tasks, .. } = served;
    tasks.shutdown().await;
    drop(scratch);
    exit
}

/// Tells what is served, until somebody ends it or the gateway ends.
async fn work(
    served: &Served<'_>,
    files: &[PathBuf],
    run: bool,
    told: impl Future<Output = ()>,
) -> Result<Exit, SimulateError> {
    let Served { settings, report, .. } = served;
    let mut report = report.clone();
    if !settings.is_empty() {
        report.push_str("Not everything is served where the configuration has it. Run the gateway with:\n");
    }
    for (name, value) in settings {
        // A shell takes no `-` in the name of a variable; env(1) does.
        let quoted = if name.contains('-') { ("env '", "'") } else { ("", "") };
        report.extend([quoted.0, name, "=", value, quoted.1, "\n"]);
    }
    let output = |error| SimulateError::system("the output cannot be written")(error);
    let mut stdout = io::stdout();
    stdout.write_all(report.as_bytes()).and_then(|()| stdout.flush()).map_err(output)?;

    if run {
        let mut gateway =
            Gateway::start(files, settings).map_err(SimulateError::system("no gateway could be started"))?;
        tokio::select! {
            exit = gateway.ended() => Ok(exit),
            () = told => {
                gateway.stop(STOP).await;
                Ok(Exit::Done)
            }
        }
    } else {
        told.await;
        Ok(Exit::Done)
    }
}

fn listen(kind: SignalKind) -> Result<Signal, SimulateError> {
    signal(kind).map_err(SimulateError::system("signals cannot be received"))
}

/// What has been set up so far.
struct Served<'c> {
    config: &'c Config,
    scratch: Scratch,
    tasks: JoinSet<()>,
    /// What a gateway has to be told, by the variable's name.
    settings: BTreeMap<String, String>,
    report: String,
}

impl Served<'_> {
    async fn serve(&mut self, link: &LinkConfig) -> Result<(), SimulateError> {
        let devices: Vec<&Device> =
            self.config.devices.iter().filter(|device| device.link == link.id).collect();
        let mut spare = None;
        let place = match &link.transport {
            Transport::Modbus { framing, medium: Medium::Tcp { host, port }, backup, .. } => {
                // Both lead to the same units.
                let answering = Line::new(units(&devices), *framing != Framing::Tcp);
                let place = self.modbus_server(link, "ADDRESS", *framing, (host, *port), &answering).await?;
                if let Some((host, port)) = backup {
                    spare =
                        Some(self.modbus_server(link, "BACKUP", *framing, (host, *port), &answering).await?);
                }
                place
            }
            Transport::Modbus { framing, medium: Medium::Line(serial), .. } => {
                let answering = Line::new(units(&devices), true);
                let terminal = self.terminal(link, serial)?;
                let place = terminal.path().display().to_string();
                self.tasks.spawn(terminal.serve_bus(answering, *framing));
                place
            }
            Transport::Serial { line, frame, encoding } => {
                let talkers =
                    devices.iter().filter_map(|device| Talker::new(device, frame, *encoding).transpose());
                let talkers = talkers.collect::<Result<Vec<_>, _>>()?;
                let terminal = self.terminal(link, line)?;
                let place = terminal.path().display().to_string();
                self.tasks.spawn(terminal.serve_text(talkers, frame.clone()));
                place
            }
            Transport::Simulator => "inside the gateway".to_owned(),
            Transport::Plugin(plugin) => {
                let left_out: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
                let row = format!(
                    "link {}: left out, because the plugin {} is a program of its own: {}\n",
                    link.id,
                    plugin.name,
                    if left_out.is_empty() { "no device".to_owned() } else { left_out.join(", ") },
                );
                self.report.push_str(&row);
                return Ok(());
            }
        };
        for device in devices {
            let unit = match device.protocol {
                Protocol::Modbus { unit, .. } => format!(" (unit {unit})"),
                Protocol::Text { .. } | Protocol::Simulator | Protocol::Plugin { .. } => String::new(),
            };
            let points = device.points.len();
            let plural = if points == 1 { "" } else { "s" };
            let row =
                format!("link {}, {place}: device {}{unit}, {points} point{plural}\n", link.id, device.id);
            self.report.push_str(&row);
        }
        if let Some(spare) = spare {
            // Writing into a String cannot fail.
            let _infallible = writeln!(self.report, "link {}, backup {spare}: the same devices", link.id);
        }
        Ok(())
    }

    /// Serves a line at the host and port that a key of the link has, or elsewhere; gives the address.
    async fn modbus_server(
        &mut self,
        link: &LinkConfig,
        key: &str,
        framing: Framing,
        (host, port): (&str, u16),
        answering: &Line,
    ) -> Result<String, SimulateError> {
        let loopback = match host.parse::<IpAddr>() {
            Ok(ip) => Some(ip).filter(IpAddr::is_loopback),
            Err(_) => (host == "localhost").then_some(Ipv4Addr::LOCALHOST.into()),
        };
        let mut configured = None;
        if let Some(ip) = loopback {
            configured = TcpListener::bind((ip, port)).await.ok();
        }
        let elsewhere = configured.is_none();
        let listener = match configured {
            Some(listener) => listener,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .map_err(SimulateError::system("no port could be had"))?,
        };
        let address: SocketAddr =
            listener.local_addr().map_err(SimulateError::system("a port has no number"))?;
        if elsewhere {
            self.set(link, key, &address.to_string());
        }
        let answering = answering.clone();
        if framing == Framing::Tcp {
            self.tasks.spawn(line::serve_tcp(listener, answering));
        } else {
            self.tasks.spawn(bus::serve_tcp(listener, answering, framing));
        }
        Ok(address.to_string())
    }

    fn terminal(&mut self, link: &LinkConfig, wanted: &SerialLine) -> Result<Terminal, SimulateError> {
        let path = match &wanted.port {
            PortName::Path(path) => Some(path.as_path()),
            // A USB adapter has no path of its own: the gateway is told another one.
            PortName::Usb(_) => None,
        };
        let terminal = Terminal::open(path, link.id.as_str(), &mut self.scratch);
        let terminal = terminal
            .map_err(SimulateError::system(format!("no terminal could be had for the link {}", link.id)))?;
        if Some(terminal.path()) != path {
            self.set(link, "PATH", &terminal.path().display().to_string());
        }
        Ok(terminal)
    }

    fn set(&mut self, link: &LinkConfig, key: &str, value: &str) {
        let id = link.id.as_str();
        let name = format!("FIELDGATE_LINKS__{}__{key}", id.to_ascii_uppercase());
        self.settings.insert(name, value.to_owned());
    }
}

/// The Modbus units of a line.
fn units(devices: &[&Device]) -> BTreeMap<u8, Unit> {
    let unit = |device: &&Device| match device.protocol {
        // Unit 0 of a bus is the others.
        Protocol::Modbus { unit, broadcast: false, .. } => Some((unit, Unit::new(&device.points))),
        Protocol::Modbus { .. } | Protocol::Text { .. } | Protocol::Simulator | Protocol::Plugin { .. } => {
            None
        }
    };
    devices.iter().filter_map(unit).collect()
}
