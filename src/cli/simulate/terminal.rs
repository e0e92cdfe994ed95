//! Pseudo terminals with a path of our choice.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::termios::ioctl_tiocnxcl;
use tokio_serial::{SerialPort as _, SerialStream};

use super::bus;
use super::line::Line;
use super::text::{self, Talker};
use crate::config::{Frame, Framing};

/// How often the lock that a gateway left behind is taken off.
const UNLOCK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait before a terminal that failed is replaced.
const RENEW_AFTER: Duration = Duration::from_millis(100);

/// Folders made when they were needed, gone with this: one of our own in the system's temporary one, and those that were
/// missing on the way to a path.
#[derive(Default)]
pub(super) struct Scratch {
    own: Option<PathBuf>,
    /// Each behind the one around it.
    made: Vec<PathBuf>,
}

impl Scratch {
    fn folder(&mut self) -> io::Result<&Path> {
        if self.own.is_none() {
            self.own = Some(make_folder()?);
        }
        self.own.as_deref().ok_or_else(|| io::Error::other("no temporary folder"))
    }

    /// Makes a folder and those around it, where they are not there yet.
    fn make(&mut self, folder: &Path) -> io::Result<()> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder)?;
            self.made.push(folder.to_owned());
        }
        Ok(())
    }
}

/// Never takes a folder that is there: it may be somebody's trap.
fn make_folder() -> io::Result<PathBuf> {
    let mut number = std::process::id();
    loop {
        let folder = std::env::temp_dir().join(format!("fieldgate-simulate-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for folder in self.made.iter().rev().chain(&self.own) {
            // What others have put there stays, and so does the folder.
            fs::remove_dir(folder).ok();
        }
    }
}

/// A pseudo terminal: we hold one end, whoever opens `path` has the other.
pub(super) struct Terminal {
    path: PathBuf,
    /// `/dev/pts/N`
    target: PathBuf,
    stream: Option<SerialStream>,
    /// The other end, held so that gateways may come and go.
    held: OwnedFd,
}

impl Terminal {
    /// Links a new terminal at `path` when nothing lies there, otherwise at `scratch/name`.
    pub(super) fn open(path: Option<&Path>, name: &str, scratch: &mut Scratch) -> io::Result<Self> {
        let (stream, target, held) = pair()?;
        let path = match path {
            Some(path) if is_free(path, scratch) && symlink(&target, path).is_ok() => path.to_owned(),
            _ => {
                let path = scratch.folder()?.join(name);
                symlink(&target, &path)?;
                path
            }
        };
        Ok(Self { path, target, stream: Some(stream), held })
    }

    /// Where a gateway opens it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers as the units of a line, for ever.
    pub(super) async fn serve_bus(mut self, line: Line, framing: Framing) {
        loop {
            if let Some(stream) = self.stream.take() {
                tokio::select! {
                    _ended = bus::serve(stream, &line, framing) => {}
                    () = self.unlock() => {}
                }
            }
            self.renew().await;
        }
    }

    /// Talks as text devices, for ever.
    pub(super) async fn serve_text(mut self, mut talkers: Vec<Talker>, frame: Frame) {
        loop {
            if let Some(stream) = self.stream.take() {
                tokio::select! {
                    _ended = text::talk(stream, &mut talkers, &frame) => {}
                    () = self.unlock() => {}
                }
            }
            self.renew().await;
        }
    }

    /// A gateway locks its port (`TIOCEXCL`), and the kernel forgets that only when the last one closes it.
    /// We never do, so the next gateway would be locked out unless it is root. Its `flock` still keeps a second
    /// one away.
    async fn unlock(&self) {
        loop {
            tokio::time::sleep(UNLOCK_EVERY).await;
            // Should it fail, only the next gateway's message is wrong.
            ioctl_tiocnxcl(&self.held).ok();
        }
    }

    async fn renew(&mut self) {
        tokio::time::sleep(RENEW_AFTER).await;
        self.unlink();
        if let Ok((stream, target, held)) = pair()
            && symlink(&target, &self.path).is_ok()
        {
            (self.stream, self.target, self.held) = (Some(stream), target, held);
        }
    }

    /// Takes our link away, not one that was put in its place.
    fn unlink(&self) {
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.unlink();
    }
}

fn pair() -> io::Result<(SerialStream, PathBuf, OwnedFd)> {
    let (stream, other) = SerialStream::pair()?;
    let target = PathBuf::from(other.name().ok_or_else(|| io::Error::other("a terminal without a name"))?);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Not `other` itself: nothing but this file may touch its locks.
    let held = rustix::fs::open(&target, flags, Mode::empty())?;
    Ok((stream, target, held))
}

/// Nothing lies at the path, and its folder is there now; what an earlier simulation left behind is removed.
fn is_free(path: &Path, scratch: &mut Scratch) -> bool {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().is_some_and(|folder| scratch.make(folder).is_ok())
        }
        Ok(found) if found.is_symlink() => {
            let left_behind = fs::read_link(path).is_ok_and(|target| {
                let gone =
                    fs::symlink_metadata(&target).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                target.starts_with("/dev/pts") && gone
            });
            left_behind && fs::remove_file(path).is_ok()
        }
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_that_exists_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        fs::write(inside("file"), "mine").unwrap();
        fs::write(inside("other"), "mine").unwrap();
        symlink(inside("other"), inside("link")).unwrap();
        symlink("/nonexistent/there", inside("dangling")).unwrap();
        symlink("/dev/pts/ptmx", inside("live")).unwrap();
        let mut scratch = Scratch::default();
        for name in ["file", "link", "dangling", "live"] {
            let before = fs::read_link(inside(name)).ok();
            let terminal = Terminal::open(Some(&inside(name)), name, &mut scratch).unwrap();
            assert_ne!(terminal.path(), inside(name));
            assert!(terminal.path().exists());
            drop(terminal);
            assert_eq!(fs::read_link(inside(name)).ok(), before);
        }
        assert_eq!(fs::read_to_string(inside("file")).unwrap(), "mine");
        let left = scratch.own.clone().unwrap();
        drop(scratch);
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn free_paths_and_what_a_simulation_left_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let (new, left) = (folder.path().join("a/b/new"), folder.path().join("left"));
        symlink("/dev/pts/4000000", &left).unwrap();
        let mut scratch = Scratch::default();
        for path in [new, left] {
            let terminal = Terminal::open(Some(&path), "x", &mut scratch).unwrap();
            assert_eq!(terminal.path(), path);
            assert!(path.exists());
            // A second link with the same path gets another.
            let second = Terminal::open(Some(&path), "x", &mut scratch).unwrap();
            assert_ne!(second.path(), path);
            drop(terminal);
            assert!(fs::symlink_metadata(&path).is_err(), "the link outlived its terminal");
        }
        drop(scratch);
        assert!(!folder.path().join("a").exists() && folder.path().exists());
    }
}
