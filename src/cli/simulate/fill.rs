//! Moving values in the form that a group of a regex asks for.

use std::time::Duration;

use regex::Regex;
use regex_syntax::hir::Hir;

use super::wave::{self, Wave, raw_of};
use crate::point::{DecimalMark, Kind, Point, Value};

/// Longest number, with blanks or zeros before it.
const WIDEST: usize = 12;

/// Ages at which a form has to fit before it is chosen.
const PROBES: [u64; 4] = [0, 10, 20, 30];

/// What stands in a named group.
#[derive(Debug)]
pub(super) struct Fill {
    wave: Wave,
    form: Form,
    mark: DecimalMark,
}

/// How a value is printed.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The texts for off and on.
    Switch(&'static str, &'static str),
    /// Sign, then so many characters with these before the number, then decimals.
    Number { sign: &'static str, pad: char, width: usize, decimals: u32 },
}

impl Fill {
    /// `None`: what the regex asks for will do.
    pub(super) fn new(point: &Point, index: usize, group: &Hir, mark: DecimalMark) -> Option<Self> {
        if matches!(point.kind, Kind::String { .. }) {
            return None;
        }
        // The text holds the raw number.
        let wave = Wave::raw(point, &raw_of(point), index);
        let whole = Regex::new(&format!("^(?:{group})$")).ok()?;
        let mut fill = Self { wave, form: Form::Switch("0", "1"), mark };
        forms(point.kind).into_iter().find(|form| {
            fill.form = *form;
            let fits =
                |age: &u64| fill.text(Duration::from_secs(*age)).is_some_and(|text| whole.is_match(&text));
            PROBES.iter().all(fits)
        })?;
        Some(fill)
    }

    /// Its text at this age.
    pub(super) fn text(&self, age: Duration) -> Option<String> {
        let value = self.wave.at(age)?;
        match (self.form, value) {
            (Form::Switch(off, on), Value::Bool(is_on)) => Some(if is_on { on } else { off }.to_owned()),
            (Form::Number { sign, pad, width, decimals }, value) => {
                let number = wave::number(&value, decimals)?;
                let sign = if number < 0.0 { "-" } else { sign };
                let places = usize::try_from(decimals).ok()?;
                let number = number.abs();
                let text = match pad {
                    '0' => format!("{sign}{number:0width$.places$}"),
                    _ => format!("{sign}{number:width$.places$}"),
                };
                Some(if self.mark == DecimalMark::Comma { text.replace('.', ",") } else { text })
            }
            _ => None,
        }
    }
}

/// The ways to print a type, the most usual first.
fn forms(kind: Kind) -> Vec<Form> {
    if kind == Kind::Bool {
        let pairs = [("0", "1"), ("off", "on"), ("false", "true"), ("OFF", "ON"), ("FALSE", "TRUE")];
        return pairs.map(|(off, on)| Form::Switch(off, on)).to_vec();
    }
    let decimals: &[u32] = if matches!(kind, Kind::F32 | Kind::F64) { &[1, 2, 3, 0] } else { &[0] };
    let mut forms = Vec::new();
    for sign in ["", "+", " "] {
        for decimals in decimals.iter().copied() {
            for pad in [' ', '0'] {
                forms.extend((0..=WIDEST).map(|width| Form::Number { sign, pad, width, decimals }));
            }
        }
    }
    forms
}
