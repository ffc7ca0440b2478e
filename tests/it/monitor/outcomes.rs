//! Labelled rows without a gateway: a champion that decays, one class only, a failing champion.

use dethrone::judge::loss::Metric;
use dethrone::monitor::outcomes::{LabelledRow, Outcomes, Terms};
use dethrone::score::{Outcome, Score, Truth, VersionNo};
use dethrone::simulate::random::Random;
use dethrone::span::{Clock, Span};

fn terms(metric: &Metric) -> Terms<'_> {
    Terms {
        metric,
        threshold: 0.5,
        window: Span::Rows(400),
        alpha: 0.01,
        decay: 0.02,
        by: &[],
    }
}

/// Rows whose scores are right with this chance; gives the row at which the decay alarm is raised.
fn run(seed: u64, rows: u64, quality: impl Fn(u64) -> f64) -> (Outcomes, Option<u64>) {
    let (mut random, metric) = (Random::new(seed, 1, 1), Metric::Brier);
    let (mut outcomes, mut raised) = (Outcomes::default(), None);
    for row in 1..=rows {
        let is_positive = random.uniform() < 0.5;
        let is_right = random.uniform() < quality(row);
        let score = if is_positive == is_right { 0.8 } else { 0.2 };
        let labelled = LabelledRow {
            clock: Clock { row, time_ms: 0 },
            version: VersionNo(1),
            inputs: None,
            outcome: &Outcome::Scored(Score::Binary(score)),
            truth: Truth::Class(u32::from(is_positive)),
            groups: Vec::new(),
        };
        if outcomes.row(&labelled, &terms(&metric), &[]) {
            raised = Some(row);
        }
    }
    (outcomes, raised)
}

#[test]
fn a_champion_that_decays_is_alarmed_and_forecast_and_one_that_does_not_is_left_alone() {
    let steady: Vec<u64> = (0..40).filter_map(|seed| run(seed, 3_000, |_| 0.8).1).collect();
    // One in a hundred is promised, given the level; the level has its own chance, which the tolerance pays for.
    assert!(steady.len() <= 3, "{steady:?}");
    let (outcomes, raised) = run(1, 4_000, |row| if row < 2_000 { 0.8 } else { 0.6 });
    assert!(raised.is_some_and(|row| (2_000..2_800).contains(&row)), "{raised:?}");
    let metric = Metric::Brier;
    let shown = outcomes.json(&terms(&metric));
    let cut = shown["adwin"]["rows"][0].as_u64().unwrap();
    assert!((2_000..2_500).contains(&cut), "{}", shown["adwin"]);
    assert_eq!(shown["decay"]["raised"]["row"].as_u64(), raised);
    let slowly = run(2, 4_000, |row| 0.85 - row as f64 / 40_000.0)
        .0
        .json(&terms(&metric));
    let forecast = &slowly["decay"]["forecast"];
    assert!(forecast["loss_per_1000_rows"].as_f64().unwrap() > 0.0, "{forecast}");
    // What was kept goes on as if nothing had happened.
    let text = serde_json::to_string(&outcomes).unwrap();
    let back: Outcomes = serde_json::from_str(&text).unwrap();
    assert_eq!(back.json(&terms(&metric)), shown);
}

#[test]
fn labels_of_one_class_and_a_champion_that_fails_make_numbers_or_nothing_and_never_nan() {
    let metric = Metric::Brier;
    let mut outcomes = Outcomes::default();
    assert_eq!(outcomes.json(&terms(&metric))["labels"], 0);
    for row in 1..=300 {
        let failed = Outcome::Failed;
        let scored = Outcome::Scored(Score::Binary(if row % 7 == 0 { f64::NAN } else { 0.3 }));
        let labelled = LabelledRow {
            clock: Clock { row, time_ms: 0 },
            version: VersionNo(1),
            inputs: Some("{\"x\":null}"),
            outcome: if row % 10 == 0 { &failed } else { &scored },
            truth: Truth::Class(0),
            groups: vec!["g"],
        };
        outcomes.row(&labelled, &terms(&metric), &[]);
    }
    let shown = outcomes.json(&terms(&metric));
    assert_eq!(shown["labels"], 300);
    assert!(shown["tenure"]["true_positive_rate"].is_null(), "{shown}");
    let text = shown.to_string();
    assert!(
        !text.contains("NaN") && shown["tenure"]["loss"]["value"].as_f64().unwrap() > 0.1,
        "{text}"
    );
}
