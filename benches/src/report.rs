//! Results as a table, on the terminal and in the README.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::error::Result;

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";
const HEADINGS: [&str; 6] = ["work", "ours", "reference", "result", "bar", ""];

/// What a result is counted in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// Ours divided by the reference.
    Times,
    /// The same, where the reference is the most that can be.
    Share,
    /// Ours less the reference, or ours alone.
    Milliseconds,
    /// Ours less the reference.
    Megabytes,
    /// A cosine.
    Cosine,
    /// A mean share of results that two searches have in common.
    Overlap,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Times => format!("{value:.2} ×"),
            Self::Share => format!("{:.0} %", 100.0 * value),
            Self::Cosine => format!("{value:.7}"),
            Self::Overlap => format!("{value:.3}"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Megabytes => format!("{value:.2} MB"),
        }
    }
}

/// What a result is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// It may not be more.
    AtMost(f64),
    /// It may not be less.
    AtLeast(f64),
    /// Nothing; the result is for information.
    None,
}

/// Two sides and how they compare.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Ours, with its unit.
    pub(crate) ours: String,
    /// What it is compared to, with its unit.
    pub(crate) reference: String,
    /// The comparison.
    pub(crate) result: f64,
    /// What that is counted in.
    pub(crate) unit: Unit,
    /// The bar.
    pub(crate) bar: Bar,
}

impl Figures {
    /// Two rates a second, and ours divided by the reference.
    pub(crate) fn rates(ours: f64, reference: f64, bar: Bar) -> Self {
        let unit = Unit::Times;
        Self { ours: rate(ours), reference: rate(reference), result: ours / reference, unit, bar }
    }

    /// Two times in milliseconds, and how much longer ours is.
    pub(crate) fn times(ours: f64, reference: f64, bar: Bar) -> Self {
        let shown = |time| format!("{time:.2} ms");
        let unit = Unit::Milliseconds;
        Self { ours: shown(ours), reference: shown(reference), result: ours - reference, unit, bar }
    }

    /// Two sizes in megabytes, and how much larger ours is.
    pub(crate) fn sizes(ours: f64, reference: f64, bar: Bar) -> Self {
        let shown = |size| format!("{size:.2} MB");
        let unit = Unit::Megabytes;
        Self { ours: shown(ours), reference: shown(reference), result: ours - reference, unit, bar }
    }

    /// The same with another unit for the result.
    pub(crate) fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.0}/s")
}

/// One line of the table and what there is to say about it.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    figures: Option<Figures>,
    notes: String,
}

impl Row {
    /// A result; `notes` says what stands behind the medians.
    pub(crate) fn new(what: impl Into<String>, figures: Figures, notes: impl Into<String>) -> Self {
        Self { what: what.into(), figures: Some(figures), notes: notes.into() }
    }

    /// What could not be had, and why.
    pub(crate) fn not_measured(what: impl Into<String>, reason: String) -> Self {
        Self { what: what.into(), figures: None, notes: reason }
    }

    /// Whether the bar is met; `None` where there is none, or nothing to hold against it.
    fn met(&self) -> Option<bool> {
        let figures = self.figures.as_ref()?;
        match figures.bar {
            Bar::AtMost(limit) => Some(figures.result <= limit),
            Bar::AtLeast(limit) => Some(figures.result >= limit),
            Bar::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let Some(figures) = &self.figures else {
            let empty = String::new;
            return [self.what.clone(), empty(), empty(), empty(), empty(), "not measured".into()];
        };
        let bar = match figures.bar {
            Bar::AtMost(limit) => format!("≤ {}", figures.unit.show(limit)),
            Bar::AtLeast(limit) => format!("≥ {}", figures.unit.show(limit)),
            Bar::None => String::new(),
        };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        [
            self.what.clone(),
            figures.ours.clone(),
            figures.reference.clone(),
            figures.unit.show(figures.result),
            bar,
            verdict.to_owned(),
        ]
    }
}

/// All results of a run.
pub(crate) struct Report {
    surroundings: String,
    /// The results.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// A report without results yet; `surroundings` says what they are measured on.
    pub(crate) fn new(surroundings: String) -> Self {
        Self { surroundings, rows: Vec::new() }
    }

    /// The table with its surroundings above and the notes below.
    pub(crate) fn to_markdown(&self) -> String {
        let mut lines = vec![HEADINGS.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let cells = lines.iter().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0).max(3)
        });
        let mut text = format!("{}\n\n", self.surroundings);
        for (number, cells) in lines.iter().enumerate() {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} |"));
            let _ = writeln!(text, "|{}", padded.collect::<String>());
            if number == 0 {
                let rules = widths.map(|width| format!(" {} |", "-".repeat(width)));
                let _ = writeln!(text, "|{}", rules.concat());
            }
        }
        let _ = writeln!(text);
        for row in &self.rows {
            let _ = writeln!(text, "- {}: {}", row.what, row.notes);
        }
        let bars = self.rows.iter().filter_map(Row::met);
        let (met, all) = bars.fold((0, 0), |(met, all), is_met| (met + usize::from(is_met), all + 1));
        let _ = writeln!(text, "\n{met} of {all} bars met.");
        text
    }

    /// Replaces what stands between the markers of the file.
    pub(crate) fn write_into(&self, file: &Path) -> Result<()> {
        let named = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
        let old = fs::read_to_string(file).map_err(|error| named(&error))?;
        let new = replace(&old, &self.to_markdown()).ok_or_else(|| named(&"no markers for the results"))?;
        fs::write(file, new).map_err(|error| named(&error))?;
        Ok(())
    }
}

fn replace(old: &str, results: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{results}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_replace_what_stands_between_the_markers() {
        let old = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n");
        let new = replace(&old, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nThe end.\n"));
        assert_eq!(replace(&new, "new\n").unwrap(), new);
        assert!(replace("no markers", "new\n").is_none());
    }

    #[test]
    fn a_bar_is_met_up_to_its_limit() {
        let row = |result, bar| {
            let figures =
                Figures { ours: String::new(), reference: String::new(), result, unit: Unit::Times, bar };
            Row::new("work", figures, "").met()
        };
        assert_eq!(row(1.15, Bar::AtMost(1.15)), Some(true));
        assert_eq!(row(1.16, Bar::AtMost(1.15)), Some(false));
        assert_eq!(row(0.89, Bar::AtLeast(0.9)), Some(false));
        assert_eq!(row(f64::NAN, Bar::AtMost(1.0)), Some(false));
        assert_eq!(row(1.0, Bar::None), None);
        assert_eq!(Row::not_measured("work", String::new()).met(), None);
    }
}
