//! What a power cut leaves of a folder, by the rules that disks keep and no more.
//!
//! * What was written before the last good sync of its file is there.
//! * Of what came later there is nothing, or the beginning of it, or any of its sectors of 512 bytes.
//! * A file is found under the names that the last sync of the folder saw, or under names that came later, as far
//!   as those came in order.
//! * A sync that failed promises nothing, not even together with a later one that did not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fastrand::Rng;

use super::disk::Change;

const SECTOR: usize = 512;

/// A disk that remembers what is safe on it and what is not yet.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// The files by name: as the process sees them, and as a power cut surely leaves them.
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    /// What happened to names since the folder was synced.
    moves: Vec<Move>,
}

#[derive(Default)]
struct File {
    safe: Vec<u8>,
    unsafe_yet: Vec<Piece>,
}

enum Piece {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

enum Move {
    Appears(String, usize),
    Vanishes(String),
}

impl Disk {
    /// What `folder` holds now is safe.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            disk.names.insert(name, disk.files.len());
            disk.files.push(File { safe: fs::read(path).unwrap(), unsafe_yet: Vec::new() });
        }
        disk.safe_names.clone_from(&disk.names);
        disk
    }

    /// The process did this. `rng` decides what a failed sync has lost.
    pub fn apply(&mut self, change: &Change, rng: &mut Rng) {
        match change {
            Change::Create(name) => {
                self.appear(name, self.files.len());
                self.files.push(File::default());
            }
            Change::Write { file, at, bytes } => {
                self.file(file).unsafe_yet.push(Piece::Write { at: *at, bytes: bytes.clone() });
            }
            Change::Truncate { file, length } => self.file(file).unsafe_yet.push(Piece::Truncate(*length)),
            Change::Sync(file) => self.file(file).sync(),
            Change::FailedSync(file) if file.is_empty() => {}
            Change::FailedSync(file) => self.file(file).fail_to_sync(rng),
            Change::SyncNames => {
                self.safe_names.clone_from(&self.names);
                self.moves.clear();
            }
            Change::Rename { from, to } => {
                let file = self.names[from];
                self.appear(to, file);
                self.vanish(from);
            }
            Change::Remove(name) => self.vanish(name),
        }
    }

    /// The power goes now: writes what is left into `folder`.
    pub fn cut(&self, rng: &mut Rng, folder: &Path) {
        let mut names = self.safe_names.clone();
        for step in &self.moves[..rng.usize(..=self.moves.len())] {
            match step {
                Move::Appears(name, file) => names.insert(name.clone(), *file),
                Move::Vanishes(name) => names.remove(name),
            };
        }
        for (name, file) in names {
            fs::write(folder.join(name), self.files[file].cut(rng)).unwrap();
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        let index = *self.names.get(name).unwrap_or_else(|| panic!("{name} was never made"));
        &mut self.files[index]
    }

    fn appear(&mut self, name: &str, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.moves.push(Move::Appears(name.to_owned(), file));
    }

    fn vanish(&mut self, name: &str) {
        self.names.remove(name);
        self.moves.push(Move::Vanishes(name.to_owned()));
    }
}

impl File {
    fn sync(&mut self) {
        for piece in self.unsafe_yet.drain(..) {
            piece.apply(&mut self.safe);
        }
    }

    /// The kernel drops what it could not write: all of it, or any sectors.
    fn fail_to_sync(&mut self, rng: &mut Rng) {
        let is_all_lost = rng.bool();
        for piece in self.unsafe_yet.drain(..) {
            match piece {
                Piece::Truncate(_) => piece.apply(&mut self.safe),
                Piece::Write { .. } if is_all_lost => {}
                Piece::Write { .. } => piece.apply_some(&mut self.safe, rng),
            }
        }
    }

    fn cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        match rng.u8(..4) {
            0 => {}
            1 => {
                let whole = rng.usize(..=self.unsafe_yet.len());
                for piece in &self.unsafe_yet[..whole] {
                    piece.apply(&mut bytes);
                }
                if let Some(last) = self.unsafe_yet.get(whole) {
                    last.apply_beginning(&mut bytes, rng);
                }
            }
            _ => {
                for piece in &self.unsafe_yet {
                    piece.apply_some(&mut bytes, rng);
                }
            }
        }
        bytes
    }
}

impl Piece {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(to, *at, bytes),
            Self::Truncate(length) => to.resize(*length, 0),
        }
    }

    /// Its first sectors.
    fn apply_beginning(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        let sectors: Vec<_> = self.sectors().collect();
        for (at, bytes) in &sectors[..rng.usize(..=sectors.len())] {
            put(to, *at, bytes);
        }
    }

    /// A random half of its sectors.
    fn apply_some(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        if matches!(self, Self::Truncate(_)) && rng.bool() {
            self.apply(to);
        }
        for (at, bytes) in self.sectors() {
            if rng.bool() {
                put(to, at, bytes);
            }
        }
    }

    fn sectors(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let (mut at, mut rest) = match self {
            Self::Write { at, bytes } => (*at, &bytes[..]),
            Self::Truncate(_) => (0, &[][..]),
        };
        std::iter::from_fn(move || {
            let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            let found = (at, sector);
            at += sector.len();
            rest = after;
            (!sector.is_empty()).then_some(found)
        })
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[at..end].copy_from_slice(bytes);
}
