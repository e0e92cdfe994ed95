//! Text that a regex matches, with moving numbers in its named groups.

use std::collections::HashMap;
use std::time::Duration;

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::fill::Fill;
use crate::address::Address;
use crate::point::{DecimalMark, Point};

/// Characters to prefer where a class leaves the choice.
const LIKED: [char; 6] = ['A', 'a', '1', '0', ' ', '.'];

/// Most repeats of one part; `{1000}{1000}` must not fill the memory.
const MOST_REPEATS: u32 = 100;

/// Makes the frames of one device.
#[derive(Debug)]
pub(super) struct FrameMaker {
    regex: Regex,
    hir: Hir,
    fills: HashMap<String, Fill>,
}

impl FrameMaker {
    /// `None` when no text could be found that the regex matches.
    pub(super) fn new(regex: &Regex, points: &[Point], mark: DecimalMark) -> Option<Self> {
        let hir = regex_syntax::parse(regex.as_str()).ok()?;
        let mut groups = Vec::new();
        named(&hir, &mut groups);
        let mut fills = HashMap::new();
        for (index, point) in points.iter().enumerate() {
            let Address::Name(name) = &point.address else {
                continue;
            };
            let group = groups.iter().find(|(group, _)| group == name);
            if let Some((_, inner)) = group
                && let Some(fill) = Fill::new(point, index, inner, mark)
            {
                fills.insert(name.clone(), fill);
            }
        }
        let mut maker = Self { regex: regex.clone(), hir, fills };
        if maker.frame(Duration::ZERO).is_none() {
            // A group may be bound by what stands around it; the regex alone decides then.
            maker.fills.clear();
            maker.frame(Duration::ZERO)?;
        }
        Some(maker)
    }

    /// The frame at this age.
    pub(super) fn frame(&self, age: Duration) -> Option<String> {
        let mut frame = String::new();
        self.write(&self.hir, age, &mut frame)?;
        self.regex.is_match(&frame).then_some(frame)
    }

    fn write(&self, hir: &Hir, age: Duration, out: &mut String) -> Option<()> {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.push_str(std::str::from_utf8(&literal.0).ok()?),
            HirKind::Class(class) => out.push(character(class)?),
            HirKind::Repetition(repetition) => {
                let mut inner = Vec::new();
                named(&repetition.sub, &mut inner);
                // An optional part is left out, unless a point lies in it.
                let least = repetition.min.max(u32::from(!inner.is_empty()));
                for _ in 0..least.min(MOST_REPEATS) {
                    self.write(&repetition.sub, age, out)?;
                }
            }
            HirKind::Capture(capture) => {
                let fill = capture.name.as_ref().and_then(|name| self.fills.get(&**name));
                match fill.and_then(|fill| fill.text(age)) {
                    Some(text) => out.push_str(&text),
                    None => self.write(&capture.sub, age, out)?,
                }
            }
            HirKind::Concat(parts) => {
                for part in parts {
                    self.write(part, age, out)?;
                }
            }
            HirKind::Alternation(parts) => self.write(parts.first()?, age, out)?,
        }
        Some(())
    }
}

/// The named groups and what they hold.
fn named<'h>(hir: &'h Hir, out: &mut Vec<(&'h str, &'h Hir)>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            if let Some(name) = &capture.name {
                out.push((name, &capture.sub));
            }
            named(&capture.sub, out);
        }
        HirKind::Repetition(repetition) => named(&repetition.sub, out),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            for part in parts {
                named(part, out);
            }
        }
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => {}
    }
}

fn character(class: &Class) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => class.iter().map(|range| (range.start().into(), range.end().into())).collect(),
    };
    let within = |wanted: &char| ranges.iter().any(|(start, end)| (start..=end).contains(&wanted));
    let visible = || ('!'..='~').find(|wanted| within(wanted));
    LIKED.into_iter().find(within).or_else(visible).or(ranges.first().map(|(start, _)| *start))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::decode::decode;
    use crate::point::{Kind, PointId, Raw};

    fn point(name: &str, kind: Kind) -> Point {
        Point::new(PointId::new(name).unwrap(), Address::Name(name.to_owned()), kind)
    }

    #[test]
    fn frames_match_and_their_numbers_move() {
        let text = Kind::String { length: 250 };
        for (pattern, points) in [
            (r"^(?<a>\w\w),(?<b>[-+ 0-9.]+)kg$", [point("a", text), point("b", Kind::F64)]),
            (r"^(?<a>ST|US),(?<b>[+-]\d{6}\.\d) ?(kg|g)$", [point("a", text), point("b", Kind::F32)]),
            (r"(?<a>\d+)/(?<b>[+-]?\d{3,5})", [point("a", Kind::U8), point("b", Kind::I16)]),
            (r"^T=(?<a> *-?\d+\.\d\d)C(;H=(?<b>\d\d))?$", [point("a", Kind::F64), point("b", Kind::U16)]),
            (r"^\x02(?<a>[01]);(?<b>on|off)\x03$", [point("a", Kind::Bool), point("b", Kind::Bool)]),
            (r"^w:\s*(?<a>\S+)\s+(?<b>[0-9]{8})$", [point("a", Kind::I32), point("b", Kind::Bcd32)]),
        ] {
            let regex = Regex::new(pattern).unwrap();
            let maker = FrameMaker::new(&regex, &points, DecimalMark::Point).unwrap();
            let mut seen = Vec::new();
            for age in 0..60 {
                let frame = maker.frame(Duration::from_secs(age)).unwrap();
                let found = regex.captures(&frame).unwrap();
                for point in &points {
                    let group = found.name(point.id.as_str()).expect("every point has its group");
                    let value = decode(point, &Raw::Text(group.as_str().to_owned()));
                    assert!(value.is_ok(), "{pattern} gives {frame:?}, whose {} is {value:?}", point.id);
                }
                seen.push(frame);
            }
            seen.dedup();
            assert!(seen.len() > 5, "{pattern} does not move: {seen:?}");
        }
    }

    #[test]
    fn a_regex_that_matches_nothing_is_refused() {
        assert!(FrameMaker::new(&Regex::new(r"a\bb").unwrap(), &[], DecimalMark::Point).is_none());
        assert!(
            FrameMaker::new(&Regex::new(r"[^\x00-\x{10FFFF}]").unwrap(), &[], DecimalMark::Point).is_none()
        );
    }
}
