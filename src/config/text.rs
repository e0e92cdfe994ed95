//! Values made of texts: lists and tables of them, paths, and secrets.

use std::fs::{self, File};
use std::path::PathBuf;

use super::file::{self, Dict, Value};
use super::secret::{Form, OPEN, PrivateError, Source, WAYS, open_private};
use super::table::Table;

/// A file that the program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For everybody.
    Public,
    /// For its owner, and at most its group.
    Private,
    /// For everybody; a folder will do.
    Folder,
}

impl Table<'_> {
    /// Text of at most so many bytes, at least one, without control characters.
    pub(super) fn line(&mut self, key: &'static str, longest: usize) -> Option<String> {
        let text = self.text(key)?;
        if let Some(wrong) = wrong_line(&text, longest) {
            self.fault(key, &format!("{{key}} {wrong}"), "write a short text without control characters");
            return None;
        }
        Some(text)
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for value in self.array(key)? {
            match value {
                Value::String(_, text) => texts.push(text),
                other => {
                    self.wrong_type(key, "a list of texts", &other, "write it as [\"first\", \"second\"]");
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// Bytes, 1 to `longest`: a text stands for its own, `{ hex = "02 ff" }` for what no text can hold.
    pub(super) fn bytes(&mut self, key: &'static str, longest: usize, help: &str) -> Option<Vec<u8>> {
        let (value, environment) = self.take(key)?;
        let table =
            value.as_str().filter(|text| environment && text.starts_with('{')).and_then(file::parse_value);
        let bytes = match table.unwrap_or(value) {
            Value::String(_, text) => {
                self.note(key, text.as_str().into());
                text.into_bytes()
            }
            Value::Dict(_, dict) => {
                let bytes = match dict.iter().next() {
                    Some((form, Value::String(_, digits))) if form == "hex" && dict.len() == 1 => {
                        from_hex(digits)
                    }
                    _ => None,
                };
                let Some(bytes) = bytes else {
                    let help = "write { hex = \"02 57 03\" }, two digits for each byte, or a text in quotes";
                    self.fault(key, "{key} holds no hexadecimal bytes", help);
                    return None;
                };
                self.note(key, serde_json::json!({ "hex": to_hex(&bytes) }));
                bytes
            }
            other => {
                self.wrong_type(key, "text or { hex = \"…\" }", &other, "put it in quotes");
                return None;
            }
        };
        if !(1..=longest).contains(&bytes.len()) {
            self.fault(key, &format!("{{key}} must be 1 to {longest} bytes long"), help);
            return None;
        }
        Some(bytes)
    }

    /// Pairs of a name and a text, by name; each part of at most so many bytes.
    pub(super) fn pairs(&mut self, key: &'static str, most: usize, longest: usize) -> Vec<(String, String)> {
        let Some(mut inner) = self.table(key) else {
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in inner.drain() {
            let Value::String(_, text) = value else {
                inner.wrong_type(&name, "text", &value, "put it in quotes");
                continue;
            };
            let wrong_name = wrong_line(&name, longest).map(|wrong| format!("has a name that {wrong}"));
            let wrong_text = wrong_line(&text, longest).map(str::to_owned).filter(|_| !text.is_empty());
            if let Some(wrong) = wrong_name.or(wrong_text) {
                let help = "write short texts without control characters";
                inner.fault(&name, &format!("{{key}} {wrong}"), help);
                continue;
            }
            inner.note(&name, text.as_str().into());
            pairs.push((name, text));
        }
        if pairs.len() > most {
            self.fault(key, &format!("{{key}} has more than {most} entries"), "remove some");
        }
        pairs
    }

    /// The path of a file that is there now and may be read.
    pub(super) fn path(&mut self, key: &'static str, kind: Kind) -> Option<PathBuf> {
        let text = self.any_text(key)?;
        let path = PathBuf::from(&text);
        // What stands there may be the key itself, put into the wrong place; a path from the root is none.
        if !path.is_absolute() || text.chars().any(char::is_control) {
            let help = "write the path of a file, such as \"/etc/fieldgate/ca.pem\"";
            self.fault(key, "{key} does not name a file from the root", help);
            return None;
        }
        self.note(key, text.as_str().into());
        let opened = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && kind == Kind::Folder => {
                fs::read_dir(&path).map(drop).map_err(PrivateError::Io)
            }
            Ok(metadata) if !metadata.is_file() => Err(PrivateError::NoFile),
            Ok(_) if kind == Kind::Private => open_private(&path).map(drop),
            Ok(_) => File::open(&path).map(drop).map_err(PrivateError::Io),
            Err(error) => Err(PrivateError::Io(error)),
        };
        let (what, help) = match opened {
            Ok(()) => return Some(path),
            Err(PrivateError::Open) => (format!("names {text}, which {OPEN}"), format!("chmod 0640 {text}")),
            Err(PrivateError::NoFile) => {
                (format!("names {text}, which is no file"), "write the path of a file".to_owned())
            }
            Err(PrivateError::Io(error)) => {
                let help = "create it, or correct the path, and let fieldgate's user read it".to_owned();
                (format!("names {text}, which cannot be read: {error}"), help)
            }
        };
        self.fault(key, &format!("{{key}} {what}"), help);
        None
    }

    /// Takes a key by what the source that counts says of it alone: a secret is replaced, not merged.
    fn take_unmerged(&mut self, key: &'static str) -> Option<(Value, bool)> {
        let (merged, environment) = self.take(key)?;
        Some((self.unmerged(key, merged), environment))
    }

    /// What the source that counts says of a key alone, given what all sources make of it.
    pub(super) fn unmerged(&self, key: &str, merged: Value) -> Value {
        let path = self.written(key);
        let own = self.reader.find(&path).and_then(|(source, _)| {
            let mut tree = &self.reader.sources.get(source)?.tree;
            let (last, around) = path.split_last()?;
            for key in around {
                tree = tree.get(key)?.as_dict()?;
            }
            tree.get(last).cloned()
        });
        // A variable may hold the whole table around the key. Then no file counts, though it has the key.
        own.filter(|own| is_part(own, &merged)).unwrap_or(merged)
    }

    /// A secret. Whatever is wrong with it, its value is not shown.
    pub(super) fn secret(&mut self, key: &'static str, form: Form) -> Option<Source> {
        let (value, environment) = self.take_unmerged(key)?;
        let parsed = value.as_str().filter(|_| environment).and_then(file::parse_value);
        let Value::Dict(_, ways) = parsed.unwrap_or(value) else {
            self.fault(key, "{key} must not be written literally", WAYS);
            return None;
        };
        self.secret_by(key, &ways, form)
    }

    /// A secret that is given by these ways, of which there must be one.
    pub(super) fn secret_by(&self, key: &str, ways: &Dict, form: Form) -> Option<Source> {
        let found = match one(ways) {
            Some(way) => Source::find(self.name(key), form, way, self.reader.environment),
            None => Ok(None),
        };
        self.note(key, "***".into());
        // Read now, so that what is wrong with it shows at once.
        match found.and_then(|source| source.map(|source| source.look().map(|_| source)).transpose()) {
            Ok(Some(source)) => Some(source),
            Ok(None) => {
                self.fault(key, "{key} must name exactly one place", WAYS);
                None
            }
            Err(fault) => {
                self.fault(key, &format!("{{key}} {}", fault.what), fault.help);
                None
            }
        }
    }
}

fn is_part(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Dict(_, part), Value::Dict(_, whole)) => {
            part.iter().all(|(key, value)| whole.get(key) == Some(value))
        }
        (part, whole) => part == whole,
    }
}

fn one(ways: &Dict) -> Option<(&str, &str)> {
    let mut ways = ways.iter();
    match (ways.next(), ways.next()) {
        (Some((way, value)), None) => Some((way, value.as_str()?)),
        _ => None,
    }
}

/// Bytes as digits, with or without blanks between them.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| {
        let digit = |b: u8| char::from(b).to_digit(16);
        u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
    };
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What is wrong with a text that goes into one field of a packet.
pub(super) fn wrong_line(text: &str, longest: usize) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.chars().any(char::is_control) {
        Some("holds a control character")
    } else if text.len() > longest {
        Some("is too long")
    } else {
        None
    }
}
