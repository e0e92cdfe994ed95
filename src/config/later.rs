//! What the manual of the whole program names and this version does not have yet. Such a key is refused with
//! that reason, so that nobody believes it to be in force.

/// Section, depth of the table the key stands in (1: the section itself), keys.
const KEYS: [(&str, usize, &[&str]); 0] = [];

/// Says whether a later version has this key in a table of this depth.
pub(super) fn has_key(section: &str, depth: usize, key: &str) -> bool {
    // A template is a device without its link.
    let section = if section == "templates" { "devices" } else { section };
    let mut keys = KEYS.iter();
    keys.any(|(known, at, keys)| *known == section && *at == depth && keys.contains(&key))
}
