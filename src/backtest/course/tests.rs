//! The shipped stream as a whole: what the default rules reach on it, whatever the delay of its labels.

use super::*;
use crate::demo::score::{Hindsight, gap_closed};
use crate::demo::stream::{Stream, tests::shipped};
use crate::demo::table::Table;
use crate::judge::loss::Metric;
use crate::score::{Outcome, Score, Truth};
use crate::span::{Clock, Span};

/// What the shipped models say, by number in the manifest.
struct Said<'a> {
    table: &'a Table,
    start: usize,
}

impl Outcomes for Said<'_> {
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome {
        Outcome::Scored(Score::Binary(self.table.get(version.0 as usize, self.start + row)))
    }
}

fn rows(stream: &Stream) -> Vec<Asked> {
    let start = stream.manifest.serve_from;
    let labels = stream.labels().iter().skip(start);
    let row = |(index, up): (usize, &bool)| {
        let clock = Clock {
            row: index as u64 + 1,
            time_ms: 0,
        };
        Asked::new(index, clock, Some(Truth::Class(u32::from(*up))))
    };
    labels.enumerate().map(row).collect()
}

/// The rules that the reference was measured with.
fn reference(maturity: u64) -> (Policy, Closing) {
    let policy = Policy {
        metric: Metric::Brier,
        alpha: 0.01,
        rollback_alpha: 0.01,
        min_labels: 200,
        dwell: Span::Rows(48),
        cooldown: Span::Rows(336),
        probation: Span::Rows(336),
        rollback_wait: Span::Rows(336),
        ..Policy::default()
    };
    let closing = Closing {
        maturity: Span::Rows(maturity),
        horizon: Span::Rows(u64::MAX),
        absent: None,
        slice: None,
        payees: Vec::new(),
        dropped: Vec::new(),
        hashed: None,
    };
    (policy, closing)
}

#[test]
fn the_mean_gap_closed_on_the_shipped_stream_over_sixteen_shifts_is_at_least_078() {
    let stream = shipped();
    let start = stream.manifest.serve_from;
    let table = Table::compute(&stream, start..stream.len()).unwrap();
    let models = &stream.manifest.models;
    let hindsight = Hindsight {
        table: &table,
        labels: stream.labels(),
        available: models.iter().map(|m| m.available_from).collect(),
        first: 0,
        rows: start..stream.len(),
        clip: stream.manifest.log_loss_clip,
    };
    let fixed = hindsight.summary(&hindsight.fixed()).log_loss;
    let oracle = hindsight
        .summary(&hindsight.oracle(stream.manifest.window_rows))
        .log_loss;
    let asked = rows(&stream);
    let one = |shift: u64| {
        let (policy, closing) = reference(48 + shift);
        let arrivals = (0_u32..).zip(models).skip(1).map(|(no, m)| Arrival {
            version: VersionNo(no),
            row: m.available_from - start,
        });
        let plan = Plan {
            policy,
            closing,
            champion: VersionNo(0),
            room: 16,
            arrivals: arrivals.collect(),
        };
        let said = Said { table: &table, start };
        let course = Course::run(&plan, &asked, &said, |_| ());
        let choice: Vec<usize> = course.champions().map(|v| v.0 as usize).collect();
        let gap = gap_closed(hindsight.summary(&choice).log_loss, fixed, oracle).unwrap();
        (gap, course.changes.len())
    };
    let gaps: Vec<(f64, usize)> = std::thread::scope(|scope| {
        let half = |first: u64| scope.spawn(move || (0..8).map(|k| (first + 2 * k) * 3).map(one).collect::<Vec<_>>());
        let halves = [half(0), half(1)];
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let mean = gaps.iter().map(|(gap, _)| gap).sum::<f64>() / gaps.len() as f64;
    println!("mean {mean:.4}: {gaps:.3?}");
    assert!(gaps.len() == 16 && mean >= 0.78, "mean {mean:.4}: {gaps:.3?}");
}
