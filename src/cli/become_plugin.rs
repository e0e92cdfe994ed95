//! `fieldgate become-plugin`, which the gateway runs for itself: a process that makes itself harmless and then
//! becomes the program of a plugin.
//!
//! Between fork and exec nothing of this can be done without unsafe code; in a program of its own it can.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, nice, set_parent_process_death_signal, setrlimit,
};

use super::Exit;

/// Memory for data of a plugin's process. The unit has as much for everything; this is so that one that wants ever
/// more meets a wall of its own.
const DATA: u64 = 256 << 20;

/// How much a plugin stands back behind the gateway where both want the processor.
const NICE: i32 = 10;

/// Whom the kernel ends first where memory runs out, -1000 to 1000.
const FIRST_TO_GO: &[u8] = b"1000";

/// Arguments: the process id of the gateway, the program, its arguments. Returns only when it fails.
pub fn become_plugin(arguments: &[OsString]) -> Exit {
    let Err(error) = exec(arguments);
    super::complain(&error);
    Exit::Failed
}

fn exec(arguments: &[OsString]) -> Result<Infallible, io::Error> {
    let [gateway, program, arguments @ ..] = arguments else {
        return Err(io::Error::other("the gateway calls this, not a person"));
    };
    // A plugin that listens to nothing would outlive a gateway that was killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(Pid::as_raw_pid).map(|pid| pid.to_string()).as_deref() != gateway.to_str() {
        return Err(io::Error::other("the gateway has ended"));
    }
    close_inherited()?;
    // The rest is for the good of the neighbours; a sandbox may forbid it, and has bounds of its own.
    setrlimit(Resource::Data, Rlimit { current: Some(DATA), maximum: Some(DATA) }).ok();
    nice(NICE).ok();
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(FIRST_TO_GO))
        .ok();
    let error = Command::new(program).args(arguments).exec();
    Err(io::Error::other(format!("{} cannot be run: {error}", program.display())))
}

/// Closes everything but the three streams. The MQTT library's sockets are not closed by an exec of themselves: who
/// has one could publish, and would hold the connection open after the gateway's end.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // The folder that was just read is closed already.
        nix::unistd::close(number).ok();
    }
    Ok(())
}
