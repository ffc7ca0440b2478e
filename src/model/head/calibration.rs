//! A version's own calibration: from the scores that it gives to the probabilities that they mean.
//!
//! Always holds: what goes in as a probability comes out as one, finite and in [0, 1]; the order of two classes' scores
//! is never turned around. It belongs to the version and goes with it: whoever reads its scores reads them through it.
//! Leaves to others: what the raw outputs are (`find`), whether evidence must start anew (`judge`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::score::{Score, Task};

/// Probabilities nearer to 0 or 1 count as this near, so that their logits are numbers.
const NEAREST: f64 = 1e-12;
/// Most points of an isotonic calibration.
const MOST_POINTS: usize = 10_000;

/// How scores become probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Calibration {
    /// On the scale of logits: p' = sigmoid(a · logit(p) + b), for two classes.
    Platt {
        /// Slope, above 0.
        a: f64,
        /// Shift.
        b: f64,
    },
    /// Logits divided by `t`: p' is proportional to p^(1/t).
    Temperature {
        /// Above 0; above 1 it makes the scores less sure.
        t: f64,
    },
    /// Straight lines between points, constant beyond them, for two classes.
    Isotonic {
        /// Scores, rising.
        x: Vec<f64>,
        /// Probabilities, not falling.
        y: Vec<f64>,
    },
}

impl Calibration {
    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// What to change.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Platt { a, b } if !(*a > 0.0 && a.is_finite() && b.is_finite()) => Err(format!(
                "a = {a}, b = {b}: must be finite, and a above 0 (p' = 1 / (1 + exp(-(a * logit(p) + b))); where a tool fits \
                 1 / (1 + exp(a * x + b)), turn both signs)"
            )),
            Self::Temperature { t } if !(*t > 0.0 && t.is_finite()) => {
                Err(format!("t = {t}: must be a finite number above 0"))
            }
            Self::Isotonic { x, y } => check_points(x, y),
            _ => Ok(()),
        }
    }

    /// Whether it is one for such scores.
    ///
    /// # Errors
    /// What to use instead.
    pub fn check_task(&self, task: Option<Task>) -> Result<(), String> {
        match (task, self) {
            (Some(Task::Regression), _) => {
                Err("calibration is for probabilities, and this model predicts a value: remove it".to_owned())
            }
            (Some(Task::Multiclass), Self::Platt { .. } | Self::Isotonic { .. }) => Err(
                "this calibration is for two classes, and the model has several: use { kind = \"temperature\", t = … }"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// What the score means.
    #[must_use]
    pub fn apply(&self, score: Score) -> Score {
        match score {
            Score::Binary(p) => Score::Binary(self.probability(p)),
            Score::Classes(scores) => Score::Classes(self.distribution(scores)),
            Score::Value(value) => Score::Value(value),
        }
    }

    fn probability(&self, p: f64) -> f64 {
        match self {
            Self::Platt { a, b } => sigmoid(a * logit(p) + b),
            Self::Temperature { t } => sigmoid(logit(p) / t),
            Self::Isotonic { x, y } => between(x, y, p),
        }
    }

    fn distribution(&self, mut scores: Box<[f64]>) -> Box<[f64]> {
        let Self::Temperature { t } = self else { return scores };
        let log = |p: f64| libm::log(p.max(NEAREST)) / t;
        let largest = scores.iter().map(|p| log(*p)).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for p in &mut scores {
            *p = libm::exp(log(*p) - largest);
            sum += *p;
        }
        for p in &mut scores {
            *p /= sum;
        }
        scores
    }

    /// What tells one calibration from another.
    #[must_use]
    pub fn digest(&self) -> String {
        use std::fmt::Write as _;
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut digest = String::new();
        for byte in Sha256::digest(text.as_bytes()).iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        digest
    }
}

fn check_points(x: &[f64], y: &[f64]) -> Result<(), String> {
    if x.len() != y.len() || !(2..=MOST_POINTS).contains(&x.len()) {
        return Err(format!(
            "x has {} numbers and y {}: must be as many, 2 to {MOST_POINTS}",
            x.len(),
            y.len()
        ));
    }
    if x.iter().any(|x| !x.is_finite()) || !x.is_sorted_by(|a, b| a < b) {
        return Err("x: must rise from number to number".to_owned());
    }
    if y.iter().any(|y| !(0.0..=1.0).contains(y)) || !y.is_sorted_by(|a, b| a <= b) {
        return Err("y: must be probabilities between 0 and 1 that never fall".to_owned());
    }
    Ok(())
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(NEAREST, 1.0 - NEAREST);
    libm::log(p / (1.0 - p))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// On the straight line between the points around `p`.
fn between(x: &[f64], y: &[f64], p: f64) -> f64 {
    let after = x.partition_point(|x| *x <= p);
    let point = |at: usize| x.get(at).copied().zip(y.get(at).copied());
    match (after.checked_sub(1).and_then(point), point(after)) {
        (Some((x0, y0)), Some((x1, y1))) => (y0 + (y1 - y0) * ((p - x0) / (x1 - x0))).clamp(y0, y1),
        (Some((_, y)), None) | (None, Some((_, y))) => y,
        (None, None) => p,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    fn binary(calibration: &Calibration, p: f64) -> f64 {
        match calibration.apply(Score::Binary(p)) {
            Score::Binary(p) => p,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_gives_the_probability_computed_by_hand() {
        // logit(.8) = ln 4; 2 ln 4 - ln 2 = ln 8; sigmoid = 8/9.
        let platt = Calibration::Platt {
            a: 2.0,
            b: -(2f64.ln()),
        };
        assert!(close(binary(&platt, 0.8), 8.0 / 9.0));
        // p^(1/2): .9, .04, .06 → sqrt, normed.
        let temperature = Calibration::Temperature { t: 2.0 };
        let Score::Classes(got) = temperature.apply(Score::Classes([0.81, 0.04, 0.15].into())) else {
            panic!("classes stay classes")
        };
        let roots = [0.9, 0.2, 0.15f64.sqrt()];
        let sum: f64 = roots.iter().sum();
        assert!(
            got.iter().zip(roots).all(|(got, root)| close(*got, root / sum)),
            "{got:?}"
        );
        assert!(close(binary(&temperature, 0.8), 2.0 / 3.0));
        let isotonic = Calibration::Isotonic {
            x: vec![0.2, 0.4, 0.8],
            y: vec![0.1, 0.3, 0.3],
        };
        for (p, expected) in [(0.0, 0.1), (0.2, 0.1), (0.3, 0.2), (0.4, 0.3), (0.6, 0.3), (1.0, 0.3)] {
            assert!(close(binary(&isotonic, p), expected), "{p}");
        }
    }

    #[test]
    fn what_cannot_be_a_calibration_says_what_to_change() {
        let isotonic = |x: &[f64], y: &[f64]| Calibration::Isotonic {
            x: x.to_vec(),
            y: y.to_vec(),
        };
        for (calibration, says) in [
            (Calibration::Platt { a: -1.0, b: 0.0 }, "turn both signs"),
            (Calibration::Platt { a: 1.0, b: f64::NAN }, "finite"),
            (Calibration::Temperature { t: 0.0 }, "above 0"),
            (isotonic(&[0.1], &[0.1]), "2 to 10000"),
            (isotonic(&[0.1, 0.2], &[0.1]), "as many"),
            (isotonic(&[0.2, 0.1], &[0.1, 0.2]), "must rise"),
            (isotonic(&[0.1, 0.2], &[0.3, 0.2]), "never fall"),
            (isotonic(&[0.1, 0.2], &[0.3, 1.2]), "between 0 and 1"),
        ] {
            let why = calibration.check().unwrap_err();
            assert!(why.contains(says), "{calibration:?}: {why}");
        }
        let platt = Calibration::Platt { a: 1.0, b: 0.0 };
        assert!(
            platt
                .check_task(Some(Task::Multiclass))
                .unwrap_err()
                .contains("temperature")
        );
        assert!(platt.check_task(Some(Task::Regression)).is_err());
        assert!(platt.check_task(Some(Task::Binary)).is_ok());
        assert_ne!(platt.digest(), Calibration::Temperature { t: 1.0 }.digest());
    }

    proptest! {
        #[test]
        fn a_probability_stays_one_and_keeps_its_order(
            p in 0.0f64..=1.0, q in 0.0f64..=1.0, a in 1e-3f64..1e3, b in -1e3f64..1e3,
            steps in prop::collection::vec((1e-6f64..1.0, 0.0f64..0.2), 2..20),
        ) {
            let (mut x, mut y) = ((vec![0.0]), (vec![0.0]));
            for (dx, dy) in steps {
                x.push(x[x.len() - 1] + dx);
                y.push((y[y.len() - 1] + dy).min(1.0));
            }
            for calibration in [
                Calibration::Platt { a, b },
                Calibration::Temperature { t: a },
                Calibration::Isotonic { x, y },
            ] {
                prop_assert_eq!(calibration.check(), Ok(()));
                let (low, high) = (binary(&calibration, p.min(q)), binary(&calibration, p.max(q)));
                prop_assert!((0.0..=1.0).contains(&low) && low <= high + 1e-12 && high <= 1.0, "{calibration:?}");
            }
            let temperature = Calibration::Temperature { t: a };
            let Score::Classes(all) = temperature.apply(Score::Classes([p, q, 1.0].into())) else { panic!() };
            prop_assert!(all.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
