//! What stands between a process and the C library: `disk.c` records and fails what it does to its files,
//! `clock.c` sets its wall clock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{program, project};

/// Builds `tests/support/NAME.c` into `folder`, to be preloaded.
pub fn preload(name: &str, folder: &Path) -> PathBuf {
    let library = folder.join(name).with_extension("so");
    let built = Command::new(program("cc"))
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(project().join("tests/support").join(name).with_extension("c"))
        .args(["-ldl", "-pthread"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{name}.c: {}", String::from_utf8_lossy(&built.stderr));
    library
}

/// A file that a preloaded library reads again at each call.
pub struct Control(File);

impl Control {
    /// With this text.
    pub fn new(path: &Path, text: &str) -> Self {
        let control = Self(File::create(path).unwrap());
        control.set(text);
        control
    }

    /// From now on it says this, in one write.
    pub fn set(&self, text: &str) {
        let block = format!("{text:<255}\n");
        assert_eq!(block.len(), 256, "too long: {text}");
        self.0.write_all_at(block.as_bytes(), 0).unwrap();
    }
}

/// One thing that a process did to a file of its folder. Files go by their names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create(String),
    Write {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        length: usize,
    },
    Sync(String),
    /// What was written since the last sync may be gone from the disk, and no later sync brings it back.
    FailedSync(String),
    /// The folder itself: names are on the disk.
    SyncNames,
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
}

/// Lets a command run under the recorder.
pub fn record(command: &mut Command, library: &Path, folder: &Path, log: &Path) {
    command.env("LD_PRELOAD", library).env("DISK_MATCH", folder).env("DISK_LOG", log);
}

/// Lets a command run under faults.
pub fn disturb(command: &mut Command, library: &Path, folder: &Path, control: &Path) {
    command.env("LD_PRELOAD", library).env("DISK_MATCH", folder).env("DISK_FAULT", control);
}

/// Reads what was recorded of `folder`, oldest first.
pub fn changes(log: &Path, folder: &Path) -> Vec<Change> {
    let bytes = fs::read(log).unwrap();
    let mut rest = &bytes[..];
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_at(16);
        let path_length = usize::from(u16::from_ne_bytes([head[2], head[3]]));
        let length = u32::from_ne_bytes(head[4..8].try_into().unwrap()) as usize;
        let at = usize::try_from(u64::from_ne_bytes(head[8..].try_into().unwrap())).unwrap();
        let (path, after) = after.split_at(path_length);
        let (follows, after) = after.split_at(length);
        rest = after;
        let path = Path::new(std::str::from_utf8(path).unwrap());
        // A file that has lost its name outlives nothing.
        if path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") {
            continue;
        }
        let file = path.strip_prefix(folder).unwrap().display().to_string();
        changes.push(match head[0] {
            b'c' => Change::Create(file),
            b'w' => Change::Write { file, at, bytes: follows.to_vec() },
            b't' => Change::Truncate { file, length: at },
            b's' if file.is_empty() => Change::SyncNames,
            b's' => Change::Sync(file),
            b'f' => Change::FailedSync(file),
            b'r' => {
                let to = Path::new(std::str::from_utf8(follows).unwrap());
                Change::Rename { from: file, to: to.strip_prefix(folder).unwrap().display().to_string() }
            }
            b'u' => Change::Remove(file),
            other => panic!("an entry of the kind {other}"),
        });
    }
    changes
}

/// A folder in memory if there is one: what is tried out there needs no disk.
pub fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// This test's own executable, to run the one test `name` of it as a child.
pub fn own_test(
    name: &str,
    settings: impl IntoIterator<Item = (&'static str, impl AsRef<OsStr>)>,
) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]).envs(settings);
    command
}

/// Appends a line to a file that the recorder sees, in one write.
pub fn mark(file: &mut File, line: &str) {
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
