//! The part of the client id that is made once and kept beside the buffer.

use std::io;
use std::path::Path;

use crate::buffer;
use crate::config::Config;

/// Fills in `{random}`.
pub(super) fn fill_in(config: &mut Config) -> io::Result<()> {
    if config.mqtt.client_id.contains("{random}") {
        let random = random_text(&config.buffer.path.with_added_extension("client"))?;
        config.mqtt.client_id = config.mqtt.client_id.replace("{random}", &random);
    }
    Ok(())
}

/// Ten characters, made once and kept in this file.
fn random_text(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 10 => Ok(text.trim().to_owned()),
        Ok(_) => make_random_text(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_random_text(path),
        Err(error) => Err(error),
    }
}

fn make_random_text(path: &Path) -> io::Result<String> {
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(10).collect();
    buffer::store::write_synced(path, &text)?;
    Ok(text)
}
