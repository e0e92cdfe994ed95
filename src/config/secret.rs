//! Secrets: read from a file, a systemd credential or the environment; never printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use zeroize::Zeroize as _;

mod source;

pub use source::Source;
pub(super) use source::{OPEN, PrivateError, open_private};

/// The variables of the environment.
pub type Environment = BTreeMap<OsString, OsString>;

/// Largest secret, in bytes: what MQTT can carry, and never a disk image by mistake.
const LARGEST: usize = u16::MAX as usize;

/// The ways to give a secret, for a person who wrote it down literally.
pub(super) const WAYS: &str =
    "give it as { file = \"/path\" }, { credential = \"name\" } or { env = \"NAME\" }";

/// A secret, text or bytes. Prints as `***`, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into_bytes())
    }

    /// Wraps bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret itself, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
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

/// What a secret may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// UTF-8 without NUL. Line breaks at its end do not count.
    Text,
    /// Text as above, or whatever is none, to the byte.
    Bytes,
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

/// The secret without the line breaks that an editor put behind it, if it is one.
fn checked(whole: &Secret, form: Form, place: &str) -> Result<Secret, SecretFault> {
    let bytes = whole.expose();
    let text = whole.text().filter(|text| !text.contains('\0'));
    let kept = match (text, form) {
        (Some(text), _) if text.starts_with('\u{feff}') => {
            let help = "save it as UTF-8 without a byte order mark";
            return Err(fault(format!("begins with a byte order mark in {place}"), help));
        }
        (Some(text), _) => text.trim_end_matches(['\r', '\n']).as_bytes(),
        (None, _) if is_utf16(bytes) => {
            return Err(fault(format!("is UTF-16 in {place}"), "save it as UTF-8"));
        }
        (None, Form::Bytes) => bytes,
        (None, Form::Text) if bytes.contains(&0) => {
            return Err(fault(format!("holds a NUL in {place}"), "write it without"));
        }
        (None, Form::Text) => {
            return Err(fault(format!("is not UTF-8 in {place}"), "write it as text"));
        }
    };
    if kept.is_empty() {
        return Err(fault(format!("is empty in {place}"), "write the secret there"));
    }
    Ok(Secret(kept.to_vec()))
}

/// A short text as some editors save it. A random key never looks like this.
fn is_utf16(bytes: &[u8]) -> bool {
    let zero = match bytes {
        [0xff, 0xfe, _, 0, ..] => 1,
        [0xfe, 0xff, 0, _, ..] => 0,
        _ => return false,
    };
    bytes.chunks(2).skip(1).all(|pair| pair.get(zero) == Some(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8], form: Form) -> Result<Vec<u8>, String> {
        checked(&Secret::from_bytes(bytes.to_vec()), form, "x")
            .map(|secret| secret.expose().to_vec())
            .map_err(|fault| fault.what)
    }

    #[test]
    fn text_loses_its_line_end_and_bytes_keep_every_byte() {
        for form in [Form::Text, Form::Bytes] {
            assert_eq!(of(b"pw\r\n\n", form).as_deref(), Ok(&b"pw"[..]));
            assert_eq!(of(b" p w ", form).as_deref(), Ok(&b" p w "[..]));
            for (bytes, what) in [
                (&b""[..], "is empty in x"),
                (b"\n", "is empty in x"),
                (b"\xef\xbb\xbfpw", "begins with a byte order mark in x"),
                (b"\xff\xfep\0w\0", "is UTF-16 in x"),
                (b"\xfe\xff\0p\0w", "is UTF-16 in x"),
            ] {
                assert_eq!(of(bytes, form), Err(what.to_owned()));
            }
        }
        for bytes in [&b"\xffkey\n"[..], b"\0user\0pw\n", b"\xff\xfekey", b"\xff\xfe"] {
            assert_eq!(of(bytes, Form::Bytes).as_deref(), Ok(bytes));
            assert!(of(bytes, Form::Text).is_err());
        }
    }
}
