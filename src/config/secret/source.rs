//! Where a secret comes from: a file, a systemd credential, the environment.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Environment, Form, LARGEST, Secret, SecretFault, WAYS, checked, fault};

/// Where a secret comes from. It was readable when the configuration was loaded, and is read again whenever it
/// is needed, so that a renewed file counts at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The key that named it.
    key: String,
    place: Place,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Credential(PathBuf),
    /// The environment of a process does not change, so its value is kept.
    Value(Secret),
}

impl Source {
    /// Reads the secret. The error names the key, the place and what to do, and shows nothing of the secret.
    pub fn read(&self) -> Result<Secret, String> {
        self.look().map_err(|fault| format!("{} {}; {}", self.key, fault.what, fault.help))
    }

    pub(in crate::config) fn look(&self) -> Result<Secret, SecretFault> {
        match &self.place {
            Place::File(path) => read_file(path, self.form),
            Place::Credential(path) => read_credential(path, self.form),
            Place::Value(secret) => Ok(secret.clone()),
        }
    }

    /// What is no secret, but stands where one may.
    pub(in crate::config) fn literal(key: String, text: String) -> Self {
        Self { key, place: Place::Value(Secret::new(text)), form: Form::Text }
    }

    /// The way by which a secret is given, and the place.
    pub(in crate::config) fn find(
        key: String,
        form: Form,
        (way, place): (&str, &str),
        environment: &Environment,
    ) -> Result<Option<Self>, SecretFault> {
        let place = match way {
            "file" => file(place)?,
            "credential" => credential(place, environment)?,
            "env" => variable(place, form, environment)?,
            _ => return Ok(None),
        };
        Ok(Some(Self { key, place, form }))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn file(path: &str) -> Result<Place, SecretFault> {
    // What stands there may be the secret itself, put into the wrong place; a path from the root is none.
    if !Path::new(path).is_absolute() {
        return Err(fault("does not name a file from the root", "write { file = \"/path\" }"));
    }
    Ok(Place::File(PathBuf::from(path)))
}

const CREDENTIAL: &str = "add LoadCredential=NAME:/path/of/the/file to the unit, with the same name";

/// What systemd put into `$CREDENTIALS_DIRECTORY`.
fn credential(name: &str, environment: &Environment) -> Result<Place, SecretFault> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        let help = "use the name that stands before the colon in LoadCredential=";
        return Err(fault("does not name a credential", help));
    }
    let Some(folder) = environment.get(OsStr::new("CREDENTIALS_DIRECTORY")) else {
        let what = "wants a credential of systemd, but CREDENTIALS_DIRECTORY is not set";
        return Err(fault(what, CREDENTIAL));
    };
    Ok(Place::Credential(PathBuf::from(folder).join(name)))
}

fn variable(name: &str, form: Form, environment: &Environment) -> Result<Place, SecretFault> {
    let Some(value) = environment.get(OsStr::new(name)) else {
        // The name may be the secret itself, put into the wrong place.
        return Err(fault("names a variable that is not set in the environment", WAYS));
    };
    Ok(Place::Value(checked(&Secret(value.as_bytes().to_vec()), form, "the variable")?))
}

/// Reads a file that only its owner, and at most its group, can read.
fn read_file(path: &Path, form: Form) -> Result<Secret, SecretFault> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let help = format!("create {shown} with the secret in it, and let fieldgate's user read it");
        fault(format!("cannot be read from {shown}: {error}"), help)
    };
    let file = open_private(path).map_err(|error| match error {
        PrivateError::Io(error) => unreadable(error),
        PrivateError::NoFile => fault(format!("cannot be read from {shown}: it is no file"), WAYS),
        PrivateError::Open => fault(format!("lies in {shown}, which {OPEN}"), format!("chmod 0640 {shown}")),
    })?;
    read(file, form, &shown.to_string(), unreadable)
}

fn read_credential(path: &Path, form: Form) -> Result<Secret, SecretFault> {
    // The name is not shown: it may be the secret itself, put into the wrong place.
    let unreadable =
        |error: io::Error| fault(format!("names a credential that cannot be read: {error}"), CREDENTIAL);
    read(File::open(path).map_err(unreadable)?, form, "the credential", unreadable)
}

/// What is wrong with a file that is not private.
pub(in crate::config) const OPEN: &str = "others can read, or others or its group can write";

/// Why a private file is not opened.
pub(in crate::config) enum PrivateError {
    Io(io::Error),
    NoFile,
    Open,
}

/// Opens a file that only its owner, and at most its group, can read.
pub(in crate::config) fn open_private(path: &Path) -> Result<File, PrivateError> {
    // A pipe would hold up the open for ever.
    if !fs::metadata(path).map_err(PrivateError::Io)?.is_file() {
        return Err(PrivateError::NoFile);
    }
    let file = File::open(path).map_err(PrivateError::Io)?;
    // Asked of the open file, so that it cannot be exchanged between the look and the read.
    let mode = file.metadata().map_err(PrivateError::Io)?.permissions().mode();
    if mode & 0o026 == 0 { Ok(file) } else { Err(PrivateError::Open) }
}

fn read(
    file: File,
    form: Form,
    place: &str,
    unreadable: impl Fn(io::Error) -> SecretFault,
) -> Result<Secret, SecretFault> {
    // Large enough from the start: a vector that grows leaves copies behind that nobody wipes.
    let mut whole = Secret(Vec::with_capacity(LARGEST + 2));
    let most = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut whole.0).map_err(unreadable)?;
    if whole.0.len() > LARGEST {
        return Err(fault(format!("lies in {place}, which is larger than {LARGEST} bytes"), WAYS));
    }
    checked(&whole, form, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_secret_nor_its_place_is_printed() {
        let secret = Secret::new("hunter2".to_owned());
        let literal = Source::literal("k".to_owned(), "hunter2".to_owned());
        let file = Source { key: "k".to_owned(), place: file("/hunter2").unwrap(), form: Form::Text };
        assert_eq!(format!("{secret:?}{literal:?}{file:?}"), "*********");
        assert_eq!(literal.read().unwrap().text(), Some("hunter2"));
        assert!(file.read().unwrap_err().starts_with("k cannot be read from /hunter2: No such file"));
    }

    #[test]
    fn a_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        let place = file(path.to_str().unwrap()).unwrap();
        let source = Source { key: "mqtt.password".to_owned(), place, form: Form::Bytes };
        for content in ["first", "second"] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(source.read().unwrap().text(), Some(content));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let told = source.read().unwrap_err();
        let shown = path.display();
        assert_eq!(told, format!("mqtt.password lies in {shown}, which {OPEN}; chmod 0640 {shown}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, vec![b'x'; LARGEST]).unwrap();
        assert_eq!(source.read().unwrap().expose().len(), LARGEST);
        fs::write(&path, vec![b'x'; LARGEST + 1]).unwrap();
        assert!(source.read().is_err());
    }
}
