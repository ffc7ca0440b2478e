//! What is printed as it comes, and written down in the end: a table, the figures, a plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Fallible;
use super::duel::Side;
use super::numbers::Interval;
use super::plot::{self, Curve};

/// Everything measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    figures: Vec<String>,
    plots: Vec<(String, Vec<Curve>)>,
}

/// What a figure's target and its interval say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The median is as good as the target.
    Reached,
    /// It is not, but the better end of its interval is.
    Open,
    /// Even the better end is not.
    Missed,
}

impl From<bool> for Verdict {
    fn from(is_reached: bool) -> Self {
        if is_reached { Self::Reached } else { Self::Missed }
    }
}

pub(crate) fn at_least(measured: Interval, target: f64) -> Verdict {
    match measured {
        Interval { median, .. } if median >= target => Verdict::Reached,
        Interval { high, .. } if high >= target => Verdict::Open,
        _ => Verdict::Missed,
    }
}

pub(crate) fn at_most(measured: Interval, target: f64) -> Verdict {
    match measured {
        Interval { median, .. } if median <= target => Verdict::Reached,
        Interval { low, .. } if low <= target => Verdict::Open,
        _ => Verdict::Missed,
    }
}

const HEAD: &str = "| case | server | requests/s | p50 µs | p99 µs | CPU µs/request | × requests/s | × p50 | × p99 | × CPU |\n\
                    |---|---|---|---|---|---|---|---|---|---|";

impl Report {
    /// Takes up one case: the ratios are to the last side.
    pub(crate) fn case(&mut self, name: &str, what: &str, sides: &[(&'static str, Side)]) {
        if self.rows.is_empty() {
            println!("{HEAD}");
        }
        let Some((_, base)) = sides.last() else { return };
        for (at, (server, side)) in sides.iter().enumerate() {
            let mut row = format!(
                "| {name}: {what} | {server} | {:.0} | {:.0} | {:.0} | {:.1} |",
                side.median(|s| s.per_second),
                side.median(|s| s.p50),
                side.median(|s| s.p99),
                side.median(|s| s.cpu)
            );
            if at + 1 == sides.len() {
                row += " 1 | 1 | 1 | 1 |";
            } else {
                let ratios = [
                    side.ratio(base, |s| s.per_second),
                    side.ratio(base, |s| s.p50),
                    side.ratio(base, |s| s.p99),
                    side.ratio(base, |s| s.cpu),
                ];
                for ratio in ratios {
                    let _ = write!(row, " {ratio} |");
                }
            }
            println!("{row}");
            self.rows.push(row);
        }
        for (server, side) in sides.iter().filter(|(_, side)| side.refused > 0) {
            let share = 100.0 * side.refused as f64 / (side.refused + side.answered) as f64;
            self.note(&format!(
                "{name}: {server} refused {share:.1} % of the requests with 429"
            ));
        }
        let curves = sides.iter().map(|(server, side)| Curve::of(server, &side.latencies));
        self.plots.push((format!("{name}: {what}"), curves.collect()));
    }

    /// Takes up one figure, and says whether it is reached.
    pub(crate) fn figure(&mut self, what: &str, measured: &str, target: &str, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Reached => "reached",
            Verdict::Open => "within the interval",
            Verdict::Missed => "missed",
        };
        self.note(&format!("{what}: {measured} (target {target}: {verdict})"));
    }

    /// Takes up what has no target.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  {text}");
        self.figures.push(format!("- {text}"));
    }

    /// Writes `gateway.md` and `latency.svg`.
    pub(crate) fn write(&self, dir: &Path) -> Fallible<()> {
        if self.rows.is_empty() && self.figures.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        let mut text = String::from("# The gateway against the floor\n\n");
        text += "Medians over alternating turns; ratios are within a turn, with the 95 % bootstrap interval of their median.\n\n";
        if !self.rows.is_empty() {
            let _ = write!(text, "{HEAD}\n{}\n\n", self.rows.join("\n"));
        }
        let _ = writeln!(text, "{}", self.figures.join("\n"));
        fs::write(dir.join("gateway.md"), text)?;
        fs::write(dir.join("latency.svg"), plot::svg(&self.plots))?;
        println!("written: {}", dir.join("{gateway.md,latency.svg}").display());
        Ok(())
    }
}
