//! The way to a value inside a JSON text: `weight`, `a.b[0]`, `["a.b"].c`.

use std::fmt;

/// Most steps; `strict` reads no deeper.
const MOST_STEPS: usize = 32;

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into the member of that name.
    Key(String),
    /// Into that item of a list, from 0.
    Index(u32),
}

/// The way to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads `a.b[0]`: keys with dots between them, numbers of items in brackets, and keys that hold `.`, `[`,
    /// `]` or `"` as `["…"]`, where `\` takes the next character as it is. `None`: that is no path, or it has
    /// more than 32 steps.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
                bracket(inner)?
            } else {
                // A dot stands between two steps, never first.
                let key = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
                let end = key.find(['.', '[', ']', '"']).unwrap_or(key.len());
                let (key, after) = key.split_at(end);
                (Step::Key((!key.is_empty()).then(|| key.to_owned())?), after)
            };
            steps.push(step);
            rest = after;
        }
        (1..=MOST_STEPS).contains(&steps.len()).then_some(Self(steps))
    }

    /// Its steps, one at least.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// The step in a bracket and what comes after it.
fn bracket(inner: &str) -> Option<(Step, &str)> {
    let Some(quoted) = inner.strip_prefix('"') else {
        let (digits, after) = inner.split_once(']')?;
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return Some((Step::Index(is_number.then(|| digits.parse().ok())??), after));
    };
    let mut key = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (_, '\\') => key.push(characters.next()?.1),
            (at, '"') => return Some((Step::Key(key), quoted.get(at..)?.strip_prefix("\"]")?)),
            (_, other) => key.push(other),
        }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(number) => write!(f, "[{number}]")?,
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '"', '\\']) => {
                    write!(f, "[\"{}\"]", key.replace('\\', "\\\\").replace('"', "\\\""))?;
                }
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Step {
        Step::Key(text.to_owned())
    }

    #[test]
    fn paths_name_keys_and_items() {
        for (text, expected) in [
            ("weight", vec![key("weight")]),
            ("a.b[0]", vec![key("a"), key("b"), Step::Index(0)]),
            ("[1][22].x", vec![Step::Index(1), Step::Index(22), key("x")]),
            ("[\"a.b\"].c", vec![key("a.b"), key("c")]),
            ("a[\"q\\\"\\\\]\"]", vec![key("a"), key("q\"\\]")]),
            ("Größe in %", vec![key("Größe in %")]),
            ("[\"\"]", vec![key("")]),
        ] {
            assert_eq!(JsonPath::parse(text).map(|path| path.0), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_paths() {
        for text in [
            "",
            ".",
            ".a",
            "a.",
            "a..b",
            "a[",
            "a[]",
            "a[-1]",
            "a[+1]",
            "a[1",
            "a]",
            "a\"b",
            "a[\"b]",
            "a[\"b\"",
            "[0]a",
            "a[99999999999]",
        ] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
        assert!(JsonPath::parse(&vec!["a"; 32].join(".")).is_some());
        assert!(JsonPath::parse(&vec!["a"; 33].join(".")).is_none());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(steps in proptest::collection::vec(
            prop_oneof![any::<u32>().prop_map(Step::Index), ".{0,6}".prop_map(Step::Key)], 1..8,
        )) {
            let path = JsonPath(steps);
            prop_assert_eq!(JsonPath::parse(&path.to_string()), Some(path));
        }
    }
}
