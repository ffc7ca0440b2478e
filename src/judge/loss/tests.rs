use super::*;
use crate::score::Task;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn brier_is_the_same_for_two_classes_in_either_shape() {
    let (pair, one) = (Score::Classes([0.7, 0.3].into()), Score::Binary(0.3));
    for class in [0, 1] {
        let truth = Truth::Class(class);
        assert!(close(
            Metric::Brier.loss(&pair, &truth),
            Metric::Brier.loss(&one, &truth)
        ));
    }
    assert!(close(
        Metric::Brier.loss(&Score::Classes([0.0, 1.0, 0.0].into()), &Truth::Class(0)),
        1.0
    ));
}

#[test]
fn every_loss_is_bounded_and_a_malformed_score_loses_the_bound() {
    let metrics = [
        Metric::Brier,
        Metric::LogLoss { clip: 0.05 },
        Metric::ZeroOne { threshold: 0.5 },
        Metric::SquaredError { bound: 4.0 },
        Metric::AbsoluteError { bound: 2.0 },
    ];
    let scores = [
        Score::Binary(f64::NAN),
        Score::Binary(-3.0),
        Score::Binary(9.0),
        Score::Classes([].into()),
        Score::Classes([0.2, f64::INFINITY].into()),
        Score::Value(1e300),
        Score::Value(0.5),
    ];
    for metric in metrics {
        for score in &scores {
            for truth in [Truth::Class(0), Truth::Class(1), Truth::Class(7), Truth::Value(0.0)] {
                let loss = metric.loss(score, &truth);
                assert!(
                    (0.0..=metric.bound()).contains(&loss),
                    "{metric:?} {score:?} {truth:?} {loss}"
                );
            }
        }
        assert!(close(
            metric.loss(&Score::Binary(f64::NAN), &Truth::Class(1)),
            metric.bound()
        ));
        assert!(close(
            metric.loss(&Score::Classes([1.0].into()), &Truth::Class(1)),
            metric.bound()
        ));
    }
}

#[test]
fn zero_one_uses_the_threshold_and_the_first_largest_class() {
    let metric = Metric::ZeroOne { threshold: 0.8 };
    assert!(close(metric.loss(&Score::Binary(0.79), &Truth::Class(0)), 0.0));
    assert!(close(metric.loss(&Score::Binary(0.8), &Truth::Class(0)), 1.0));
    let tie = Score::Classes([0.4, 0.4, 0.2].into());
    assert!(close(metric.loss(&tie, &Truth::Class(0)), 0.0) && close(metric.loss(&tie, &Truth::Class(1)), 1.0));
}

#[test]
fn log_loss_is_cut_at_its_clip() {
    let metric = Metric::LogLoss { clip: 0.05 };
    assert!(close(metric.bound(), 20f64.ln()));
    assert!(close(metric.loss(&Score::Binary(0.25), &Truth::Class(1)), 4f64.ln()));
    assert!(close(metric.loss(&Score::Binary(0.0), &Truth::Class(1)), 20f64.ln()));
}

#[test]
fn a_metric_that_does_not_fit_is_refused_with_a_sentence() {
    let with_bound = Options {
        bound: Some(Bound::Declared(1.0)),
        ..Options::default()
    };
    for (task, name, options) in [
        (Task::Regression, "auto", Options::default()),
        (Task::Regression, "squared_error", Options::default()),
        (Task::Regression, "log_loss", Options::default()),
        (Task::Binary, "squared_error", with_bound.clone()),
        (Task::Binary, "log_loss", with_bound.clone()),
        (
            Task::Binary,
            "log_loss",
            Options {
                clip: Some(0.0),
                ..Options::default()
            },
        ),
        (Task::Binary, "accuracy", Options::default()),
        (
            Task::Regression,
            "squared_error",
            Options {
                bound: Some(Bound::Declared(f64::INFINITY)),
                ..Options::default()
            },
        ),
    ] {
        assert!(
            Metric::for_task(task, name, options).unwrap_err().len() > 20,
            "{task:?} {name}"
        );
    }
    assert_eq!(
        Metric::for_task(Task::Multiclass, "auto", Options::default()),
        Ok(Metric::Brier)
    );
    assert_eq!(
        Metric::for_task(Task::Regression, "absolute_error", with_bound),
        Ok(Metric::AbsoluteError { bound: 1.0 })
    );
}

fn all_metrics() -> Vec<Metric> {
    vec![
        Metric::Brier,
        Metric::LogLoss { clip: 0.05 },
        Metric::ZeroOne { threshold: 0.5 },
        Metric::Cost {
            matrix: vec![vec![0.0, 1.0], vec![5.0, 0.0]],
        },
        Metric::Auc,
        Metric::SquaredError { bound: 4.0 },
        Metric::AbsoluteError { bound: 2.0 },
        Metric::Pinball {
            quantile: 0.9,
            bound: 3.0,
        },
        Metric::Rewards { bound: 2.0 },
    ]
}

#[test]
fn a_cost_is_that_of_the_versions_own_label() {
    let metric = Metric::Cost {
        matrix: vec![vec![0.0, 1.0], vec![5.0, 0.5]],
    };
    assert!(close(metric.bound(), 5.0));
    // Score .4: positive from .3 on, negative from .5 on.
    for (truth, threshold, cost) in [(0, 0.3, 1.0), (0, 0.5, 0.0), (1, 0.3, 0.5), (1, 0.5, 5.0)] {
        let loss = metric.loss_at(&Score::Binary(0.4), &Truth::Class(truth), threshold);
        assert!(close(loss, cost), "truth {truth}, threshold {threshold}: {loss}");
    }
    let three = Metric::Cost {
        matrix: vec![vec![0.0, 2.0, 4.0], vec![1.0, 0.0, 3.0], vec![9.0, 8.0, 0.0]],
    };
    // The first of the largest scores is the label.
    let score = Score::Classes([0.2, 0.4, 0.4].into());
    for (truth, cost) in [(0, 2.0), (1, 0.0), (2, 8.0), (3, 9.0)] {
        assert!(close(three.loss(&score, &Truth::Class(truth)), cost), "{truth}");
    }
    assert!(metric.check_classes(2).is_ok() && metric.check_classes(3).unwrap_err().contains("2 rows"));
}

#[test]
fn a_quantile_pays_more_for_the_rarer_side() {
    let metric = Metric::Pinball {
        quantile: 0.9,
        bound: 5.0,
    };
    for (value, truth, loss) in [
        (10.0, 12.0, 1.8),
        (10.0, 8.0, 0.2),
        (10.0, 10.0, 0.0),
        (0.0, 100.0, 5.0),
    ] {
        let got = metric.loss(&Score::Value(value), &Truth::Value(truth));
        assert!(close(got, loss), "{value} {truth}: {got}");
    }
}

#[test]
fn each_version_is_paid_for_its_own_label() {
    let metric = Metric::Rewards { bound: 10.0 };
    let table = [Some(-1.0), Some(0.3), None, Some(-50.0)];
    for (label, loss) in [(0, Some(1.3)), (1, Some(0.0)), (2, None), (3, Some(10.0)), (9, None)] {
        let got = metric.loss_of_rewards(label, &table);
        assert!(
            got.zip(loss).map_or(got == loss, |(a, b)| close(a, b)),
            "{label}: {got:?}"
        );
    }
    // Uncut, the difference of two versions is the difference of their rewards.
    let of = |label| metric.loss_of_rewards(label, &table).unwrap();
    assert!(close(of(0) - of(1), 0.3 - (-1.0)));
    assert_eq!(label_of(&Score::Binary(0.4), 0.4), Some(1));
    assert_eq!(label_of(&Score::Binary(f64::NAN), 0.4), None);
    assert_eq!(label_of(&Score::Classes([0.1, 0.6, 0.6].into()), 0.4), Some(1));
    assert_eq!(label_of(&Score::Value(1.0), 0.4), None);
}

#[test]
fn the_settings_of_a_metric_say_what_is_wrong_with_them() {
    let options = |bound, cost: Option<&[&[f64]]>, quantile| Options {
        bound,
        cost: cost.map(|rows| rows.iter().map(|row| row.to_vec()).collect()),
        quantile,
        ..Options::default()
    };
    let two: &[&[f64]] = &[&[0.0, 1.0], &[5.0, 0.0]];
    for (task, name, given, says) in [
        (Task::Binary, "cost", options(None, None, None), "needs 'cost'"),
        (
            Task::Binary,
            "cost",
            options(None, Some(&[&[0.0, 1.0]]), None),
            "square",
        ),
        (
            Task::Binary,
            "cost",
            options(None, Some(&[&[0.0, -1.0], &[1.0, 0.0]]), None),
            "from 0 on",
        ),
        (
            Task::Binary,
            "cost",
            options(None, Some(&[&[0.0, 0.0], &[0.0, 0.0]]), None),
            "cost something",
        ),
        (
            Task::Binary,
            "cost",
            options(
                None,
                Some(&[&[0.0, 1.0, 1.0], &[1.0, 0.0, 1.0], &[1.0, 1.0, 0.0]]),
                None,
            ),
            "3 rows, and the model has 2",
        ),
        (
            Task::Binary,
            "cost",
            options(Some(Bound::Declared(1.0)), Some(two), None),
            "its own bound, 5",
        ),
        (
            Task::Regression,
            "cost",
            options(None, Some(two), None),
            "predicts a value",
        ),
        (Task::Multiclass, "auc", options(None, None, None), "two classes"),
        (
            Task::Binary,
            "auc",
            options(Some(Bound::Auto), None, None),
            "its own bound",
        ),
        (
            Task::Regression,
            "pinball",
            options(Some(Bound::Auto), None, None),
            "needs 'quantile'",
        ),
        (
            Task::Regression,
            "pinball",
            options(Some(Bound::Auto), None, Some(1.0)),
            "both excluded",
        ),
        (
            Task::Regression,
            "pinball",
            options(None, None, Some(0.9)),
            "needs 'bound'",
        ),
        (Task::Binary, "rewards", options(None, None, None), "needs 'bound'"),
        (
            Task::Regression,
            "rewards",
            options(Some(Bound::Auto), None, None),
            "predicts a value",
        ),
    ] {
        let why = Metric::for_task(task, name, given).unwrap_err();
        assert!(why.contains(says), "{name}: {why}");
    }
    let auto = Metric::for_task(Task::Regression, "pinball", options(Some(Bound::Auto), None, Some(0.9))).unwrap();
    assert!(auto.bound() <= UNKNOWN_BOUND);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -2.0f64..3.0,
            1 => any::<f64>(),
            1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(-0.0)],
        ]
    }

    fn score() -> impl Strategy<Value = Score> {
        prop_oneof![
            number().prop_map(Score::Binary),
            number().prop_map(Score::Value),
            prop::collection::vec(number(), 0..5).prop_map(|all| Score::Classes(all.into())),
        ]
    }

    fn truth() -> impl Strategy<Value = Truth> {
        prop_oneof![(0u32..6).prop_map(Truth::Class), number().prop_map(Truth::Value)]
    }

    proptest! {
        #[test]
        fn every_loss_lies_within_its_bound_and_is_a_number(
            score in score(), truth in truth(), threshold in number(),
            table in prop::collection::vec(prop::option::of(number()), 0..4), label in 0usize..5,
        ) {
            for metric in all_metrics() {
                let bound = metric.bound();
                let loss = metric.loss_at(&score, &truth, threshold);
                prop_assert!((0.0..=bound).contains(&loss), "{metric:?} {score:?} {truth:?}: {loss}");
                let paid = metric.loss_of_rewards(label, &table);
                prop_assert!(paid.is_none_or(|loss| (0.0..=bound).contains(&loss)), "{metric:?} {table:?}: {paid:?}");
            }
        }

        #[test]
        fn a_metric_reads_back_as_it_was_written(clip in 0.001f64..0.499, bound in 1e-3f64..1e9, cost in 0.1f64..9.0) {
            let mut metrics = all_metrics();
            metrics.extend([
                Metric::LogLoss { clip },
                Metric::Rewards { bound },
                Metric::Cost { matrix: vec![vec![0.0, cost], vec![1.0, 0.0]] },
            ]);
            for metric in metrics {
                let text = serde_json::to_string(&metric).unwrap();
                prop_assert_eq!(serde_json::from_str::<Metric>(&text).unwrap(), metric, "{}", text);
            }
        }
    }
}
