//! Arguments in, exit code out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fieldgate::cli;
use fieldgate::config::DEFAULT_FILE;

/// Reads serial and Modbus devices, keeps every reading until an MQTT broker has it, takes commands back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file; may be given several times. `conf.d/*.toml` beside each is read too.
    #[arg(long, short, global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    Run,
    /// Load the configuration as `run` would; tell every fault, or each link's load and what to know.
    Check {
        /// Show the effective values too, secrets masked.
        #[arg(long)]
        print: bool,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Poll a device once, straight from it: value, unit, quality, raw registers.
    Read(cli::read::Arguments),
    /// Write a point once, by the rules of a command, and print the value read back.
    Write(cli::write::Arguments),
    /// Find the Modbus units that answer on a link, and the registers they have.
    Scan(cli::scan::Arguments),
    /// Look into the buffer file, also while a gateway runs on it.
    Buffer(cli::buffer::Arguments),
    /// Ask the running gateway over `web.listen`: links, devices, buffer, uplink.
    Status {
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Serve every device of the configuration as a working fake.
    Simulate {
        /// Start a gateway on them, and end with it.
        #[arg(long)]
        run: bool,
    },
    /// What the gateway starts a plugin by.
    #[command(hide = true)]
    BecomePlugin {
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    cli::forbid_core();
    let Arguments { config, command } = Arguments::parse();
    match command {
        Command::Run => cli::run::run(&config),
        Command::Check { print, json } => cli::check::check(&config, print, json),
        Command::Read(arguments) => cli::read::read(&config, &arguments),
        Command::Write(arguments) => cli::write::write(&config, &arguments),
        Command::Scan(arguments) => cli::scan::scan(&config, &arguments),
        Command::Buffer(arguments) => cli::buffer::buffer(&config, &arguments),
        Command::Status { json } => cli::status::status(&config, json),
        Command::BecomePlugin { arguments } => cli::become_plugin::become_plugin(&arguments),
        Command::Simulate { run } => cli::simulate::simulate(&config, run),
    }
    .into()
}
