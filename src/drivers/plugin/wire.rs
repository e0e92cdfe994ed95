//! The JSON lines: requests made, answers read strictly. Pure.
//!
//! Numbers are never parsed into floats on their way: their text goes on to `decode`, digit by digit.

mod answer;
mod request;
#[cfg(test)]
mod tests;

pub(super) use answer::{Answer, parse};
pub(super) use request::{open, read, write};

/// Longest text of the plugin's that is passed on, in characters.
const SHOWN: usize = 200;

/// The beginning of a text of the plugin's, on one line.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.trim().chars().take(SHOWN).map(plain).collect();
    if text.trim().chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
