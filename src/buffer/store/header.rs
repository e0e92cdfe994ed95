//! The first bytes of a database file. Everything else can be sound, and without them nothing can be read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of it (sqlite.org/fileformat2.html, 1.3).
const LENGTH: usize = 100;
/// Where it says how many pages there are: with nothing there, the length of the file counts.
const PAGES: std::ops::Range<usize> = 28..32;

type Header = [u8; LENGTH];

/// A file that was lent the header of another one of the same making. It gets its own back when this is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    path: PathBuf,
    own: Header,
}

impl Lent {
    /// Puts the header of `model` before what `path` holds.
    pub(super) fn new(path: &Path, model: &Path) -> io::Result<Self> {
        let own = read(path)?;
        let mut lent = read(model)?;
        lent.get_mut(PAGES).unwrap_or_default().fill(0);
        let file = File::options().write(true).open(path)?;
        let lent_to = Self { path: path.to_owned(), own };
        file.write_all_at(&lent, 0)?;
        Ok(lent_to)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let file = File::options().write(true).open(&self.path);
        if let Err(error) = file.and_then(|file| file.write_all_at(&self.own, 0)) {
            tracing::warn!(path = %self.path.display(), %error, "it keeps the first bytes it was lent");
        }
    }
}

fn read(path: &Path) -> io::Result<Header> {
    let mut header = [0; LENGTH];
    File::open(path)?.read_exact(&mut header)?;
    Ok(header)
}
