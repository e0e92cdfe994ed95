//! Every type and order there is, and when two texts mean the same value.

/// Every order of the bytes of a value.
pub(crate) const ORDERS: [&str; 4] = ["ABCD", "CDAB", "BADC", "DCBA"];

/// Every type that lies in registers, with a length for a string, as `tests/peers/packing.py` names them.
pub(crate) const TYPES: [&str; 16] = [
    "i8", "u8", "i16", "u16", "i24", "u24", "i32", "u32", "i64", "u64", "f32", "f64", "bcd16", "bcd32",
    "string5", "string16",
];

/// Parts of registers, named the same.
pub(crate) const PARTS: [&str; 4] = ["bool:3", "bool:12", "u16:4-7", "u32:8-19"];

/// Two texts of one value: floats are compared as the numbers they are.
pub(crate) fn agree(kind: &str, ours: &str, theirs: &str) -> bool {
    match kind {
        "f32" => ours.parse::<f32>().unwrap().to_bits() == theirs.parse::<f32>().unwrap().to_bits(),
        "f64" => ours.parse::<f64>().unwrap().to_bits() == theirs.parse::<f64>().unwrap().to_bits(),
        _ => ours.trim_matches('"') == theirs,
    }
}

/// A value as JSON has it.
pub(crate) fn json(kind: &str, value: &str) -> String {
    if kind.starts_with("string") { format!("\"{value}\"") } else { value.to_owned() }
}

/// `type = …` and what belongs to it, for a point of that type.
pub(crate) fn keys(kind: &str) -> String {
    if let Some(length) = kind.strip_prefix("string") {
        return format!("type = \"string\", length = {length}");
    }
    match kind.split_once(':') {
        Some(("bool", bit)) => format!("type = \"bool\", bit = {bit}"),
        Some((whole, bits)) => format!("type = \"{whole}\", bits = \"{bits}\""),
        None => format!("type = \"{kind}\""),
    }
}
