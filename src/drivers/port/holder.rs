//! Who has a port open.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Longest command line shown, in characters.
const SHOWN: usize = 80;

/// The program that has the port open, such as `fieldgate run --config x.toml (process 4711)`.
///
/// Everybody may read who locks what; only root, or the same user, may read what a process has open. `None`:
/// nobody was found, which does not mean that there is nobody.
pub(super) fn of(path: &Path) -> Option<String> {
    let port = fs::metadata(path).ok()?;
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = lock_owner(&locks, port.ino()).or_else(|| opener(port.rdev()))?;
    Some(format!("{} (process {process})", command(process)))
}

/// A line of `/proc/locks` is such as `1: FLOCK  ADVISORY  WRITE 4711 00:18:5 0 EOF`. Numbers of devices are left
/// alone: overlays give other ones there than `stat` does. A node in `/dev` shares its number with few files.
fn lock_owner(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (kind, process, file) = (words.get(1)?, words.get(4)?, words.get(5)?);
        let same = *kind == "FLOCK" && file.rsplit(':').next()?.parse() == Ok(inode);
        let process = same.then(|| process.parse::<u32>().ok())??;
        // Another file of that number may be locked by somebody else.
        let has_terminal = |path: &str| path.starts_with("/dev/");
        let files = fs::read_dir(format!("/proc/{process}/fd"));
        let confirmed = match files {
            Ok(files) => files
                .flatten()
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|target| target.to_str().is_some_and(has_terminal)),
            Err(_) => true,
        };
        confirmed.then_some(process)
    })
}

/// Looks at what the processes have open.
fn opener(device: u64) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|process| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        let mut terminals =
            files.filter(|file| fs::read_link(file.path()).is_ok_and(|target| target.starts_with("/dev")));
        terminals.any(|file| fs::metadata(file.path()).is_ok_and(|file| file.rdev() == device))
    })
}

fn command(process: u32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let line: String = line.trim().chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if line.is_empty() { "a program without a name".to_owned() } else { line }
}
