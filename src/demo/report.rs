//! The end of a demonstration: what was served, what hindsight would have served, and whether every score was right.

use std::fmt::Write as _;

use serde::Serialize;

use super::replay::{Problems, Replayed};
use super::score::{Hindsight, Summary, gap_closed, log_loss, summarise};
use super::stream::Stream;
use super::table::Table;

/// A served score may differ from ours by this much: the two may run with other batch sizes.
const TOLERANCE: f64 = 1e-4;

/// A stretch of rows answered by one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// The version.
    pub version: String,
    /// First row.
    pub from: usize,
    /// Row after the last.
    pub to: usize,
}

/// The figures.
#[derive(Debug)]
pub struct Report {
    /// What the clients got.
    pub served: Summary,
    /// The first champion for ever.
    pub fixed: Summary,
    /// The best single change, and the model changed to; `None` when staying was best.
    pub one_change: (Summary, Option<String>),
    /// The best model of every window.
    pub oracle: Summary,
    /// Length of a window.
    pub window: usize,
    /// Who answered when.
    pub bands: Vec<Band>,
    /// Scores that are not the named version's.
    pub wrong: Problems,
    /// Loss of every row: served, first champion, oracle.
    pub losses: [Vec<f64>; 3],
    /// Median and 99th percentile of the requests, milliseconds.
    pub latency_ms: (f64, f64),
}

impl Report {
    /// Scores what was served against the table.
    #[must_use]
    pub fn new(stream: &Stream, table: &Table, replayed: &Replayed, connections: usize) -> Self {
        let manifest = &stream.manifest;
        let start = manifest.serve_from;
        let hindsight = Hindsight {
            table,
            labels: stream.labels(),
            available: manifest.models.iter().map(|m| m.available_from).collect(),
            first: stream.model_number(&manifest.first_champion).unwrap_or(0),
            rows: start..start + replayed.answers.len(),
            clip: manifest.log_loss_clip,
        };
        let answered = || {
            let rows = replayed.answers.iter().zip(start..);
            rows.filter_map(|(answer, row)| Some((row, answer.as_ref()?)))
        };
        let label = |row: usize| stream.labels().get(row).copied().unwrap_or(false);
        let served = summarise(answered().map(|(row, a)| (a.score, label(row))), manifest.log_loss_clip);
        let mut wrong = Problems::default();
        for (row, answer) in answered() {
            let expected = stream.model_number(&answer.version).map(|model| table.get(model, row));
            let right = expected.is_some_and(|p| (p - answer.score).abs() <= TOLERANCE);
            if !right {
                let expected = expected.map_or("no such model".into(), |p| p.to_string());
                wrong.add(format!(
                    "row {row}: {} answered {}, not {expected}",
                    answer.version, answer.score
                ));
            }
        }
        let (fixed, oracle) = (hindsight.fixed(), hindsight.oracle(manifest.window_rows));
        let (one, best) = hindsight.one_change();
        let best = manifest.models.get(best).filter(|_| best != hindsight.first);
        let losses = answered().map(|(row, a)| log_loss(a.score, label(row), manifest.log_loss_clip));
        Self {
            served,
            fixed: hindsight.summary(&fixed),
            one_change: (hindsight.summary(&one), best.map(|m| m.name.clone())),
            oracle: hindsight.summary(&oracle),
            window: manifest.window_rows,
            bands: bands(answered().map(|(row, a)| (row, a.version.as_str())), connections),
            wrong,
            losses: [losses.collect(), hindsight.losses(&fixed), hindsight.losses(&oracle)],
            latency_ms: latency(answered().map(|(_, a)| a.seconds).collect()),
        }
    }

    /// Share of the log-loss gap between the first champion and the oracle that was closed.
    #[must_use]
    pub fn gap_closed(&self) -> Option<f64> {
        gap_closed(self.served.log_loss, self.fixed.log_loss, self.oracle.log_loss)
    }

    /// Changes of champion that clients could see.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.bands.len().saturating_sub(1)
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self, replayed: &Replayed, rollbacks: usize) -> String {
        let mut out = String::new();
        let one = match &self.one_change.1 {
            Some(to) => format!("first champion, then {to} (best single change, in hindsight)"),
            None => "best single change (in hindsight): none".into(),
        };
        let windows = format!("best model of every {} rows (in hindsight)", self.window);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<66}{:>9}{:>9}{:>10}", "", "log-loss", "Brier", "accuracy");
        for (name, summary) in [
            ("first champion for ever", self.fixed),
            (one.as_str(), self.one_change.0),
            (windows.as_str(), self.oracle),
            ("served by dethrone", self.served),
        ] {
            let Summary {
                log_loss,
                brier,
                accuracy,
            } = summary;
            let _ = writeln!(out, "{name:<66}{log_loss:>9.4}{brier:>9.4}{accuracy:>10.4}");
        }
        let gap = self.gap_closed();
        let gap = gap.map_or("there was no gap to close".into(), |g| {
            format!("gap closed {:.1} %", g * 100.0)
        });
        let changes = self.changes();
        let _ = writeln!(
            out,
            "\n{gap}; changes of champion: {changes}, of them rollbacks: {rollbacks}"
        );
        let rows = replayed.answers.len();
        let (errors, feedback) = (replayed.errors.count, replayed.feedback.count);
        let (p50, p99) = self.latency_ms;
        let _ = writeln!(
            out,
            "{rows} requests in {:.1} s; {errors} failed, {feedback} labels not accepted, {} wrong scores, {} files refused",
            replayed.seconds, self.wrong.count, replayed.rejected
        );
        let _ = writeln!(out, "client latency: p50 {p50:.2} ms, p99 {p99:.2} ms");
        out
    }

    /// The line for programs.
    #[must_use]
    pub fn line<'a>(
        &self,
        replayed: &Replayed,
        rollbacks: usize,
        models: &'a str,
        state: &'a str,
        error: Option<String>,
    ) -> Line<'a> {
        Line {
            gap_closed: self.gap_closed(),
            changes: self.changes(),
            rollbacks,
            requests: replayed.answers.len(),
            errors: replayed.errors.count + replayed.feedback.count + replayed.files.count + self.wrong.count,
            rejected: replayed.rejected,
            log_loss: self.served.log_loss,
            brier: self.served.brier,
            accuracy: self.served.accuracy,
            p50_ms: self.latency_ms.0,
            p99_ms: self.latency_ms.1,
            seconds: replayed.seconds,
            models,
            state,
            error,
        }
    }
}

/// `demo --json`.
#[derive(Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the meaning; the report's own fields tell more"
)]
pub struct Line<'a> {
    /// `null` where there was no gap: over these rows no model of hindsight beats the first champion.
    pub gap_closed: Option<f64>,
    pub changes: usize,
    pub rollbacks: usize,
    pub requests: usize,
    pub errors: usize,
    pub rejected: usize,
    pub log_loss: f64,
    pub brier: f64,
    pub accuracy: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub seconds: f64,
    pub models: &'a str,
    pub state: &'a str,
    /// Why the demonstration failed.
    pub error: Option<String>,
}

/// `demo --json` where the replay did not come to its end.
#[must_use]
pub fn failed_line(error: &str) -> serde_json::Value {
    serde_json::json!({
        "gap_closed": null, "changes": null, "rollbacks": null, "requests": null, "errors": null, "log_loss": null,
        "error": error,
    })
}

/// Stretches of one version. Around a swap the answers of rows that were in flight together may alternate: a stretch
/// no longer than `in_flight` belongs to its neighbour.
fn bands<'a>(answers: impl Iterator<Item = (usize, &'a str)>, in_flight: usize) -> Vec<Band> {
    let mut raw: Vec<Band> = Vec::new();
    for (row, version) in answers {
        match raw.last_mut() {
            Some(band) if band.version == version => band.to = row + 1,
            _ => raw.push(Band {
                version: version.to_owned(),
                from: row,
                to: row + 1,
            }),
        }
    }
    let last = raw.len().saturating_sub(1);
    let mut bands: Vec<Band> = Vec::new();
    for (i, band) in raw.into_iter().enumerate() {
        let short = band.to - band.from <= in_flight && i != last;
        match bands.last_mut() {
            Some(before) if short || before.version == band.version => before.to = band.to,
            _ => bands.push(band),
        }
    }
    bands
}

fn latency(mut seconds: Vec<f64>) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| seconds.get((seconds.len() * share / 100).min(seconds.len().saturating_sub(1)));
    let ms = |share| at(share).map_or(f64::NAN, |s| s * 1e3);
    (ms(50), ms(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_cross_a_swap_are_one_change() {
        let versions = ["a", "a", "a", "b", "a", "b", "a", "b", "b", "b", "b"];
        let bands = bands(versions.into_iter().enumerate(), 2);
        let names: Vec<&str> = bands.iter().map(|b| b.version.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((bands[0].from, bands[1].to), (0, 11));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let (p50, p99) = latency((1..=100).rev().map(f64::from).collect());
        assert_eq!((p50, p99), (51_000.0, 100_000.0));
    }
}
