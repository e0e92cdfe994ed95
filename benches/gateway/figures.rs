//! Figures, their targets, and the table of them.

use std::io::Write;

use crate::Result;
use crate::gateway::Kind;
use crate::rows::percentile;

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// At least this part of the bare one's.
    Part(f64),
    /// Zero in every run: the table shows the worst, not the median.
    Zero,
    /// None of its own: it explains another one.
    Open,
}

/// One measured number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    /// Digits after the point.
    pub(crate) digits: usize,
    /// The number; `None` where it does not exist.
    pub(crate) value: Option<f64>,
    /// What fieldgate's has to be.
    pub(crate) target: Target,
}

impl Figure {
    /// A figure without target.
    pub(crate) fn open(name: &'static str, digits: usize, value: impl Into<Option<f64>>) -> Self {
        Self { name, digits, value: value.into(), target: Target::Open }
    }

    /// A figure with one.
    pub(crate) fn aimed(
        name: &'static str,
        digits: usize,
        value: impl Into<Option<f64>>,
        target: Target,
    ) -> Self {
        Self { name, digits, value: value.into(), target }
    }
}

/// The runs of one scenario for both kinds.
#[derive(Default)]
pub(crate) struct Runs {
    /// Each run's figures.
    pub(crate) of: [Vec<Vec<Figure>>; 2],
}

impl Runs {
    /// Writes the table of medians; gives how many targets were missed.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<u32> {
        let mut missed = 0;
        writeln!(
            out,
            "  {:<38} {:>11} {:>11} {:>7}  {:>12}  met",
            "",
            Kind::Fieldgate,
            Kind::Bare,
            "ratio",
            "target"
        )?;
        let [ours, bare] = &self.of;
        let measured = !ours.is_empty();
        for (index, figure) in ours.iter().chain(bare).next().into_iter().flatten().enumerate() {
            let of = |runs: &[Vec<Figure>]| {
                let values = runs.iter().filter_map(|run| run.get(index)?.value);
                match figure.target {
                    Target::Zero => values.max_by(f64::total_cmp),
                    _ => median(values),
                }
            };
            let (ours, bare) = (of(ours), of(bare));
            let ratio = ours.zip(bare).filter(|(_, bare)| *bare != 0.0).map(|(ours, bare)| ours / bare);
            let (target, met) = match figure.target {
                Target::Most(limit) => (format!("<= {limit}"), ours.map(|value| value <= limit)),
                Target::Least(limit) => (format!(">= {limit}"), ours.map(|value| value >= limit)),
                Target::Part(part) => (format!(">= {part} bare"), ratio.map(|ratio| ratio >= part)),
                Target::Zero => ("0 (worst)".to_owned(), ours.map(|value| value == 0.0)),
                Target::Open => (String::new(), None),
            };
            // A figure with a target that could not be taken is a target missed, not an empty field.
            let aimed = measured && !matches!(figure.target, Target::Open);
            let met = met.or(aimed.then_some(false));
            missed += u32::from(met == Some(false));
            let met = met.map_or("", |met| if met { "yes" } else { "NO" });
            writeln!(
                out,
                "  {:<38} {:>11} {:>11} {:>7}  {target:>12}  {met}",
                figure.name,
                text(ours, figure.digits),
                text(bare, figure.digits),
                text(ratio, 2),
            )?;
        }
        Ok(missed)
    }
}

fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}
