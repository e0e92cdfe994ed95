//! Secrets: read from a file, a systemd credential or the environment; never printed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroize as _;

/// The variables of the environment.
pub type Environment = BTreeMap<OsString, OsString>;

/// Largest secret, in bytes: a password or a token, never a key file by mistake.
const LARGEST: u64 = 64 * 1024;

/// The ways to give a secret, for a person who wrote it down literally.
pub(super) const WAYS: &str =
    "give it as { file = \"/path\" }, { credential = \"name\" } or { env = \"NAME\" }";

/// A secret text. Prints as `***`, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret is not to be had: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretFault {
    pub(super) what: String,
    pub(super) help: String,
}

fn fault(what: impl Into<String>, help: impl Into<String>) -> SecretFault {
    SecretFault { what: what.into(), help: help.into() }
}

/// Reads a file that only its owner, and at most its group, can read.
pub(super) fn from_file(path: &Path) -> Result<Secret, SecretFault> {
    // What stands there may be the secret itself, put into the wrong place; a path from the root is none.
    if !path.is_absolute() {
        return Err(fault("does not name a file from the root", "write { file = \"/path\" }"));
    }
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let help = format!("create {shown} with the secret in it, and let fieldgate's user read it");
        fault(format!("cannot be read from {shown}: {error}"), help)
    };
    // A pipe would hold up the open for ever.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(fault(format!("cannot be read from {shown}: it is no file"), WAYS));
    }
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it cannot be exchanged between the look and the read.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.permissions().mode() & 0o026 != 0 {
        let what = format!("lies in {shown}, which others can read, or others or its group can write");
        return Err(fault(what, format!("chmod 0640 {shown}")));
    }
    read(file, &shown.to_string()).map_err(|error| match error {
        ReadError::Io(error) => unreadable(error),
        ReadError::Fault(fault) => fault,
    })
}

/// Reads what systemd put into `$CREDENTIALS_DIRECTORY`.
pub(super) fn from_credential(name: &str, environment: &Environment) -> Result<Secret, SecretFault> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        let help = "use the name that stands before the colon in LoadCredential=";
        return Err(fault("does not name a credential", help));
    }
    // The name is not shown either: it may be the secret itself, put into the wrong place.
    let help = "add LoadCredential=NAME:/path/of/the/file to the unit, with the same name";
    let Some(folder) = environment.get(OsStr::new("CREDENTIALS_DIRECTORY")) else {
        let what = "wants a credential of systemd, but CREDENTIALS_DIRECTORY is not set";
        return Err(fault(what, help));
    };
    let path = PathBuf::from(folder).join(name);
    let unreadable =
        |error: io::Error| fault(format!("names a credential that cannot be read: {error}"), help);
    let file = File::open(&path).map_err(unreadable)?;
    read(file, "the credential").map_err(|error| match error {
        ReadError::Io(error) => unreadable(error),
        ReadError::Fault(fault) => fault,
    })
}

/// Reads a variable of the environment.
pub(super) fn from_env(name: &str, environment: &Environment) -> Result<Secret, SecretFault> {
    let Some(text) = environment.get(OsStr::new(name)) else {
        // The name may be the secret itself, put into the wrong place.
        return Err(fault("names a variable that is not set in the environment", WAYS));
    };
    let Some(text) = text.to_str() else {
        return Err(fault("names a variable that is not UTF-8", "set it to UTF-8 text"));
    };
    checked(text.to_owned(), "the variable")
}

enum ReadError {
    Io(io::Error),
    Fault(SecretFault),
}

fn read(file: File, place: &str) -> Result<Secret, ReadError> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        bytes.zeroize();
        let what = format!("lies in {place}, which is larger than 64 KiB");
        return Err(ReadError::Fault(fault(what, WAYS)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        ReadError::Fault(fault(format!("lies in {place}, which is not UTF-8"), "write it as text"))
    })?;
    checked(text, place).map_err(ReadError::Fault)
}

fn checked(mut text: String, place: &str) -> Result<Secret, SecretFault> {
    let length = text.trim_end_matches(['\r', '\n']).len();
    if text.get(length..).is_some_and(|end| !end.is_empty()) {
        let kept = text.get(..length).unwrap_or_default().to_owned();
        text.zeroize();
        text = kept;
    }
    if text.is_empty() {
        return Err(fault(format!("is empty in {place}"), "write the secret there"));
    }
    if text.contains('\0') {
        text.zeroize();
        return Err(fault(format!("holds a NUL in {place}"), "write it without"));
    }
    Ok(Secret::new(text))
}
