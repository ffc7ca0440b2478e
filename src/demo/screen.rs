//! What is shown while the stream runs: bars on a terminal, plain lines elsewhere.
//!
//! Always holds: everything live goes to standard error, so that standard output is the result alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::status::{Evidence, ModelStatus};

/// Cells of a challenger's bar.
const BAR_CELLS: usize = 24;
/// Time between two plain lines of progress.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Something worth a line that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file became a challenger.
    Admitted(String),
    /// A file was refused, or a version sent away.
    Refused(String),
    /// A challenger won.
    Promoted(String),
    /// The new champion disappointed.
    RolledBack(String),
}

impl Event {
    /// Kind and sentence.
    #[must_use]
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Admitted(text) => ("admitted", text),
            Self::Refused(text) => ("refused", text),
            Self::Promoted(text) => ("promoted", text),
            Self::RolledBack(text) => ("rolled back", text),
        }
    }
}

/// The screen.
#[derive(Debug)]
pub struct Screen {
    area: Option<MultiProgress>,
    progress: ProgressBar,
    champion: ProgressBar,
    challengers: BTreeMap<String, ProgressBar>,
    /// The stream's row that the gateway counts as its first.
    first: usize,
    started: Instant,
    last_plain: Instant,
}

impl Screen {
    /// A screen for these rows of the stream.
    #[must_use]
    pub fn new(stream: &Range<usize>) -> Self {
        let rows = stream.len();
        let area = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let area = (!area.is_hidden()).then_some(area);
        let mut screen = Self {
            progress: ProgressBar::hidden(),
            champion: ProgressBar::hidden(),
            challengers: BTreeMap::new(),
            first: stream.start,
            started: Instant::now(),
            last_plain: Instant::now(),
            area,
        };
        if let Some(area) = &screen.area {
            let progress = ProgressBar::new(rows as u64)
                .with_style(style("{bar:40.cyan/blue} {human_pos} of {human_len} rows, {eta} left"));
            screen.progress = area.add(progress);
            screen.champion = area.add(ProgressBar::new(1).with_style(style("champion {msg:.green}")));
        } else {
            screen.progress = ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::hidden());
        }
        screen
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.area {
            // A terminal that is gone is no reason to stop.
            Some(area) => drop(area.println(text)),
            None => eprintln!("{text}"),
        }
    }

    /// An event's line. `next` is the stream's row that leaves next; shown is the gateway's number of the last one,
    /// since the sentences speak of the gateway's rows.
    pub fn event(&self, next: usize, event: &Event) {
        let (kind, text) = event.words();
        let row = next.saturating_sub(self.first);
        self.say(&format!("row {row:>6}  {kind:<11}  {text}"));
    }

    /// Rows answered so far.
    pub fn answered(&mut self, rows: usize) {
        self.progress.set_position(rows as u64);
    }

    /// Who is champion and how the challengers stand.
    pub fn standings(&mut self, next: usize, status: &ModelStatus) {
        let row = next.saturating_sub(self.first);
        let champion = status.champion.as_ref().map_or("none", |c| c.version.as_str());
        let Some(area) = &self.area else {
            if self.last_plain.elapsed() >= PLAIN_EVERY {
                self.last_plain = Instant::now();
                let answered = self.progress.position();
                let seconds = self.started.elapsed().as_secs();
                eprintln!("row {row:>6}  champion {champion}; {answered} rows answered in {seconds} s");
            }
            return;
        };
        self.champion.set_message(champion.to_owned());
        let width = status
            .versions
            .iter()
            .map(|v| v.version.chars().count())
            .max()
            .unwrap_or(0);
        for version in &status.versions {
            let shadow = matches!(version.role.as_str(), "challenger" | "previous");
            let Some(evidence) = version.evidence.as_ref().filter(|_| shadow) else {
                if let Some(line) = self.challengers.remove(&version.version) {
                    line.finish_and_clear();
                    area.remove(&line);
                }
                continue;
            };
            let line = self
                .challengers
                .entry(version.version.clone())
                .or_insert_with(|| area.add(ProgressBar::new(1).with_style(style("  {msg}"))));
            line.set_message(format!("{:<width$}  {}", version.version, standing(evidence)));
        }
    }

    /// Takes the moving lines away.
    pub fn close(&mut self) {
        self.progress.finish_and_clear();
        self.champion.finish_and_clear();
        for line in self.challengers.values() {
            line.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A challenger's wealth against its bar, both as logarithms.
fn standing(evidence: &Evidence) -> String {
    let bar = wealth_bar(evidence.log_wealth, evidence.log_bar);
    format!(
        "{bar}  {:>7.2} of {:.2}  {:>6} labels  {}",
        evidence.log_wealth, evidence.log_bar, evidence.labels, evidence.verdict
    )
}

/// Full at the bar; empty at or below a wealth of 1, which is where everybody starts.
fn wealth_bar(log_wealth: f64, log_bar: f64) -> String {
    let share = if log_bar > 0.0 {
        (log_wealth / log_bar).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let full = (0..BAR_CELLS)
        .filter(|&cell| share * BAR_CELLS as f64 >= cell as f64 + 1.0)
        .count();
    format!("{}{}", "█".repeat(full), "░".repeat(BAR_CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_bar_and_empty_for_a_loser() {
        let full = |wealth| wealth_bar(wealth, 5.3).chars().filter(|&c| c == '█').count();
        assert_eq!(
            (full(-3.0), full(0.0), full(2.65), full(5.3), full(99.0)),
            (0, 0, 12, 24, 24)
        );
        assert!(!wealth_bar(f64::NAN, 5.3).contains('█'));
    }
}
