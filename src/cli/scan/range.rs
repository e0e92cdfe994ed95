//! Ranges of units and of registers, as they are written.

use std::str::FromStr;

use crate::address::Area;

/// Units, in the order given, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Units(pub(super) Vec<u8>);

impl FromStr for Units {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write units from 0 to 255, such as 1-32 or 1,5,10-20";
        let mut units = Vec::new();
        for part in text.split(',') {
            let (first, last) = ends(part).ok_or(WRONG)?;
            for unit in first..=last {
                let unit = u8::try_from(unit).map_err(|_| WRONG)?;
                if !units.contains(&unit) {
                    units.push(unit);
                }
            }
        }
        Ok(Self(units))
    }
}

/// Neighbouring places of one area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) area: Area,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl FromStr for Places {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "write holding:, input:, coil: or discrete: and a range within 0 to 65535, such as holding:0-99";
        let (area, range) = text.split_once(':').ok_or(WRONG)?;
        let areas = [Area::Coil, Area::Discrete, Area::Input, Area::Holding];
        let area = areas.into_iter().find(|known| known.name() == area).ok_or(WRONG)?;
        let (first, last) = ends(range).ok_or(WRONG)?;
        Ok(Self { area, first, last })
    }
}

/// `5` or `5-9`.
fn ends(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!("1-3,2,250".parse(), Ok(Units(vec![1, 2, 3, 250])));
        let places = Places { area: Area::Holding, first: 0, last: 65535 };
        assert_eq!("holding:0-65535".parse(), Ok(places));
        assert_eq!("coil:7".parse(), Ok(Places { area: Area::Coil, first: 7, last: 7 }));
        for wrong in ["", "1-", "-1", "3-1", "256", "1,,2", "a", "+1"] {
            assert!(wrong.parse::<Units>().is_err(), "{wrong}");
        }
        for wrong in
            ["", "holding", "holding:", "holding:9-1", "holding:65536", "holdings:1", "holding:1-2-3"]
        {
            assert!(wrong.parse::<Places>().is_err(), "{wrong}");
        }
    }
}
