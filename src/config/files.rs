//! Which files make the configuration, in which order.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::fault::{ConfigError, Fault};
use super::file::{Place, Source};

/// The templates beside the files first, so that everything else lies above them.
pub(super) fn read_files(files: &[impl AsRef<Path>]) -> Result<Vec<Source>, ConfigError> {
    let mut faults = Vec::new();
    let library: Vec<PathBuf> = beside(files, "templates", &mut faults);
    let templates = library.len();
    let own = files.iter().map(|file| file.as_ref().to_owned());
    let mut paths: Vec<PathBuf> = library.into_iter().chain(own).collect();
    paths.extend(beside(files, "conf.d", &mut faults));
    let mut sources = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        match Source::read(path) {
            Ok(mut source) => {
                source.is_library = index < templates;
                if source.is_library {
                    only_templates(&source, &mut faults);
                }
                sources.push(source);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(sources) } else { Err(ConfigError::new(faults)) }
}

/// The `*.toml` of the folder of that name beside each file, each once.
fn beside(files: &[impl AsRef<Path>], name: &str, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for file in files {
        let folder = file.as_ref().parent().unwrap_or(Path::new("")).join(name);
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let mut paths = Vec::new();
    for folder in folders {
        match list(&folder) {
            Ok(beside) => paths.extend(beside),
            Err(error) => faults.push(Fault {
                source: folder,
                line: None,
                what: format!("the folder cannot be read: {error}"),
                help: Some("make it a folder that the user of fieldgate can read, or remove it".to_owned()),
            }),
        }
    }
    paths
}

/// A file of templates that said something else would be a second, hidden place for it.
fn only_templates(source: &Source, faults: &mut Vec<Fault>) {
    for key in source.tree.keys().filter(|key| *key != "templates") {
        let line = match source.places.get(std::slice::from_ref(key)) {
            Some(Place::File { line, .. }) => Some(*line),
            _ => None,
        };
        faults.push(Fault {
            source: source.name.clone(),
            line,
            what: format!("{key} has no place in a file of templates"),
            help: Some("write [templates.ID] there, and everything else in conf.d".to_owned()),
        });
    }
}

/// The `*.toml` of a folder, by name. No folder, no files; hidden files are an editor's, not ours.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension() == Some(OsStr::new("toml")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
