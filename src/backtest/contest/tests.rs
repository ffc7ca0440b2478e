//! What a row can change and what it cannot.

use proptest::prelude::*;

use super::*;
use crate::score::{Score, Shed};
use crate::span::Span;

const CHAMPION: VersionNo = VersionNo(1);
const CHALLENGER: VersionNo = VersionNo(2);

/// Scores of the challenger, `None` where it was shed.
struct Said<'a>(&'a [(bool, Option<f64>)]);

impl Outcomes for Said<'_> {
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome {
        match (version, self.0.get(row)) {
            (CHALLENGER, Some((_, None))) => Outcome::Shed(Shed::QueueFull),
            (CHALLENGER, Some((_, Some(score)))) => Outcome::Scored(Score::Binary(*score)),
            _ => Outcome::Scored(Score::Binary(0.5)),
        }
    }
}

/// The judge after these rows; the label of row k is left out where `silent` says so.
fn judged(rows: &[(bool, Option<f64>)], silent: impl Fn(usize) -> bool) -> String {
    let policy = Policy {
        min_labels: 5,
        min_class_labels: 1,
        dwell: Span::Rows(3),
        cooldown: Span::Rows(3),
        alpha: 0.5,
        ..Policy::default()
    };
    let closing = Closing {
        maturity: Span::Rows(0),
        horizon: Span::Rows(u64::MAX),
        absent: None,
        slice: None,
        dropped: Vec::new(),
        hashed: None,
        payees: Vec::new(),
    };
    let mut contest = Contest::new(policy, closing, CHAMPION, 4);
    contest.arrive(CHALLENGER);
    for (index, (up, _)) in rows.iter().enumerate() {
        let clock = Clock {
            row: index as u64 + 1,
            time_ms: 0,
        };
        let truth = (!silent(index)).then_some(Truth::Class(u32::from(*up)));
        let asked = Asked::new(index, clock, truth);
        contest.record(asked, &Said(rows));
    }
    serde_json::to_string(contest.judge()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shed_row_changes_no_evidence(
        mut rows in prop::collection::vec((any::<bool>(), prop::option::weighted(0.7, 0.0..1.0_f64)), 2..120),
    ) {
        // The last ones are scored in both, so that both clocks end at the same row.
        rows.extend([(true, Some(0.6)), (false, Some(0.4))]);
        let shed = |row: usize| rows[row].1.is_none();
        prop_assert_eq!(judged(&rows, |_| false), judged(&rows, shed));
    }
}
