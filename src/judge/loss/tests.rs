use super::*;

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
        bound: Some(1.0),
        ..Options::default()
    };
    for (task, name, options) in [
        (Task::Regression, "auto", Options::default()),
        (Task::Regression, "squared_error", Options::default()),
        (Task::Regression, "log_loss", Options::default()),
        (Task::Binary, "squared_error", with_bound),
        (Task::Binary, "log_loss", with_bound),
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
                bound: Some(f64::INFINITY),
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
