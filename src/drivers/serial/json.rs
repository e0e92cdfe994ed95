//! Values out of a JSON text, with every digit they have.

use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::address::{JsonPath, Step};
use crate::number;
use crate::point::{Kind, Raw, Reason};

/// The whole text, if it is JSON.
pub(super) fn parse(frame: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(frame).ok()
}

/// What stands at the end of the way; `None`: nothing does. A name that stands twice in an object on the way may
/// mean either, so it is malformed.
pub(super) fn find(json: &RawValue, path: &JsonPath, kind: Kind) -> Option<Result<Raw, Reason>> {
    let mut json = json;
    for step in path.steps() {
        let mut deserializer = serde_json::Deserializer::from_str(json.get());
        let found = match (step, json.get().as_bytes().first()) {
            (Step::Key(key), Some(b'{')) => deserializer.deserialize_map(Member(key)),
            (Step::Index(index), Some(b'[')) => deserializer.deserialize_seq(Item(*index)),
            _ => return None,
        };
        match found {
            Ok(found) => json = found?,
            Err(_) => return Some(Err(Reason::Malformed)),
        }
    }
    Some(raw(json.get(), kind))
}

fn raw(text: &str, kind: Kind) -> Result<Raw, Reason> {
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Raw::Text).map_err(|_| Reason::Malformed),
        Some(b'n') => Err(Reason::Invalid),
        Some(b'{' | b'[') | None => Err(Reason::Malformed),
        Some(_) => Ok(Raw::Text(match kind {
            Kind::F32 | Kind::F64 | Kind::String { .. } => text.to_owned(),
            _ => number::whole(text).unwrap_or_else(|| text.to_owned()),
        })),
    }
}

/// One member of an object.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(found)
    }
}

/// One item of a list.
struct Item(u32);

impl<'de> Visitor<'de> for Item {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut index = 0_u32;
        while let Some(item) = seq.next_element()? {
            if index == self.0 {
                found = Some(item);
            }
            index = index.saturating_add(1);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str, path: &str, kind: Kind) -> Option<Result<Raw, Reason>> {
        find(parse(json.as_bytes())?, &JsonPath::parse(path).unwrap(), kind)
    }

    #[test]
    fn values_are_found_with_every_digit() {
        let json = r#" {"a":{"b":[1, {"c":18446744073709551615}, -0.10]},"t":"x\u0041","on":true,"no":null,
            "w":12.0,"e":1.5e3,"half":1.5,"a.b":7,"dup":1,"dup":2,"big":1e9999,"z":-0.0} "#;
        for (path, kind, expected) in [
            ("a.b[0]", Kind::U8, "1"),
            ("a.b[1].c", Kind::U64, "18446744073709551615"),
            ("a.b[2]", Kind::F64, "-0.10"),
            ("t", Kind::String { length: 9 }, "xA"),
            ("on", Kind::Bool, "true"),
            ("w", Kind::I16, "12"),
            ("w", Kind::F64, "12.0"),
            ("e", Kind::U16, "1500"),
            ("half", Kind::U16, "1.5"),
            ("big", Kind::U64, "1e9999"),
            ("z", Kind::I8, "0"),
            ("[\"a.b\"]", Kind::U8, "7"),
        ] {
            assert_eq!(text(json, path, kind), Some(Ok(Raw::Text(expected.to_owned()))), "{path}");
        }
        for (path, expected) in [
            ("no", Some(Err(Reason::Invalid))),
            ("a", Some(Err(Reason::Malformed))),
            ("a.b", Some(Err(Reason::Malformed))),
            ("dup", Some(Err(Reason::Malformed))),
            ("gone", None),
            ("a.b[3]", None),
            ("a[0]", None),
            ("t.x", None),
        ] {
            assert_eq!(text(json, path, Kind::U8), expected, "{path}");
        }
        for other in ["", "{", "{\"a\":1}x", "{\"a\":01}", "{'a':1}", "nonsense"] {
            assert_eq!(text(other, "a", Kind::U8), None, "{other}");
        }
        assert_eq!(text(&"[".repeat(4000), "a", Kind::U8), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,60}", path in "[a-c.\\[\\]0-9\"]{1,12}") {
            if let (Some(json), Some(path)) = (parse(text.as_bytes()), JsonPath::parse(&path)) {
                let _found = find(json, &path, Kind::I16);
            }
        }
    }
}
