//! A disk of the test's own that is full soon: a tmpfs in a mount namespace of its own, so that nobody else sees it
//! and nothing is left of it, however the test ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{LIMIT, Process, program};

/// Bytes written in one go to fill it.
const BLOCK: usize = 64 << 10;

/// A small disk.
pub struct SmallDisk {
    /// Where it lies, for every process of this user.
    pub path: PathBuf,
    process: Process,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes.
    pub fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = format!(
            "mount -t tmpfs -o size={bytes},mode=700 tmpfs '{}' && echo mounted && exec cat",
            folder.path().display()
        );
        let mut command = Command::new(program("unshare"));
        // Root needs no user namespace, and may be forbidden one; everybody else needs one.
        command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
        let process = Process::start("unshare", command.args(["sh", "-c", &mount]));
        let mounted = process.wait_or_end(LIMIT, |lines| lines.iter().any(|line| line == "mounted"));
        assert!(
            mounted,
            "no small disk can be mounted here: {:?}\nrun the tests as root, or allow user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1)",
            process.lines()
        );
        // The other namespace as seen from this one.
        let path = PathBuf::from(format!("/proc/{}/root{}", process.pid(), folder.path().display()));
        Self { path, process, _folder: folder }
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.path).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills it to the last byte with one file, as somebody else's log would.
    pub fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        for size in [BLOCK, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Takes that file away.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        Path::new(&self.path).join("somebody-else")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.process.kill();
    }
}
