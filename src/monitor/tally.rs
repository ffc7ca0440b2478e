//! Right and wrong answers of some rows: of a group, and of all.
//!
//! Always holds: every rate comes with an interval, and with too few rows it says so; the intervals are for one look at
//! one group, not for many, which is said where they are shown.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// Labels below which a group is called small.
const SMALL: u64 = 100;
/// Of a normal distribution, for 95 %.
const Z: f64 = 1.959_964;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Labelled rows.
    pub labels: u64,
    loss: f64,
    squares: f64,
    right: u64,
    /// Positive labels given to positive rows, …
    hits: u64,
    /// … and to negative ones.
    false_alarms: u64,
    positives: u64,
    negatives: u64,
}

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered {
    /// Its loss.
    pub loss: f64,
    /// Whether the label given was right; `None` of a value.
    pub right: Option<bool>,
    /// Of two classes: the label given, and the true one.
    pub positive: Option<(bool, bool)>,
}

/// A share with its 95 % interval (Wilson 1927).
#[must_use]
pub fn wilson(part: u64, of: u64) -> Option<(f64, f64, f64)> {
    if of == 0 {
        return None;
    }
    let (n, p) = (of as f64, part as f64 / of as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    Some((p, (middle - half).max(0.0), (middle + half).min(1.0)))
}

/// The difference of two shares with its 95 % interval (Newcombe 1998, method 10).
#[must_use]
pub fn newcombe(a: (u64, u64), b: (u64, u64)) -> Option<(f64, f64, f64)> {
    let ((p, p_low, p_high), (q, q_low, q_high)) = (wilson(a.0, a.1)?, wilson(b.0, b.1)?);
    let below = ((p - p_low).powi(2) + (q_high - q).powi(2)).sqrt();
    let above = ((p_high - p).powi(2) + (q - q_low).powi(2)).sqrt();
    Some((p - q, p - q - below, p - q + above))
}

impl Tally {
    /// Takes a row in.
    pub fn add(&mut self, row: Answered) {
        self.labels += 1;
        self.loss += row.loss;
        self.squares += row.loss * row.loss;
        self.right += u64::from(row.right == Some(true));
        if let Some((said, is)) = row.positive {
            *(if is { &mut self.positives } else { &mut self.negatives }) += 1;
            if said {
                *(if is { &mut self.hits } else { &mut self.false_alarms }) += 1;
            }
        }
    }

    /// Takes another's rows in.
    pub fn merge(&mut self, other: &Self) {
        self.labels += other.labels;
        self.loss += other.loss;
        self.squares += other.squares;
        self.right += other.right;
        self.hits += other.hits;
        self.false_alarms += other.false_alarms;
        self.positives += other.positives;
        self.negatives += other.negatives;
    }

    /// Those of `all` that are not here.
    #[must_use]
    pub fn rest_of(&self, all: &Self) -> Self {
        Self {
            labels: all.labels.saturating_sub(self.labels),
            loss: all.loss - self.loss,
            squares: all.squares - self.squares,
            right: all.right.saturating_sub(self.right),
            hits: all.hits.saturating_sub(self.hits),
            false_alarms: all.false_alarms.saturating_sub(self.false_alarms),
            positives: all.positives.saturating_sub(self.positives),
            negatives: all.negatives.saturating_sub(self.negatives),
        }
    }

    /// Mean loss and its standard error.
    #[must_use]
    pub fn loss(&self) -> Option<(f64, f64)> {
        let n = self.labels as f64;
        let mean = self.loss / n;
        let variance = (self.squares / n - mean * mean).max(0.0);
        (self.labels > 0).then(|| (mean, (variance / (n - 1.0).max(1.0)).sqrt()))
    }

    /// How often the label given was right.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        (self.labels > 0).then(|| self.right as f64 / self.labels as f64)
    }

    /// The rates with numerator and denominator, by name.
    fn rates(&self, is_binary: bool) -> Vec<(&'static str, (u64, u64))> {
        let mut rates = vec![("accuracy", (self.right, self.labels))];
        if is_binary {
            rates.push(("positive_rate", (self.hits + self.false_alarms, self.labels)));
            rates.push(("true_positive_rate", (self.hits, self.positives)));
            rates.push(("false_positive_rate", (self.false_alarms, self.negatives)));
        }
        rates
    }

    /// For people and programs; `rest` is what it is held against, `is_value` says that there are no labels to be right.
    #[must_use]
    pub fn json(&self, rest: Option<&Self>, is_value: bool) -> Json {
        let is_binary = self.positives + self.negatives > 0;
        let shown = |estimate: Option<(f64, f64, f64)>| {
            estimate.map(|(value, low, high)| json!({"value": value, "interval": [low, high]}))
        };
        let around = |mean: f64, error: f64| (mean, mean - Z * error, mean + Z * error);
        let mut of_group = serde_json::Map::new();
        let mut apart = serde_json::Map::new();
        of_group.insert("labels".into(), json!(self.labels));
        of_group.insert(
            "loss".into(),
            json!(shown(self.loss().map(|(mean, error)| around(mean, error)))),
        );
        if let Some(rest) = rest
            && let (Some((mean, error)), Some((other, other_error))) = (self.loss(), rest.loss())
        {
            let error = (error * error + other_error * other_error).sqrt();
            apart.insert("loss".into(), json!(shown(Some(around(mean - other, error)))));
        }
        if !is_value {
            for (name, (part, of)) in self.rates(is_binary) {
                of_group.insert(name.into(), json!(shown(wilson(part, of))));
                let other = rest.and_then(|rest| rest.rates(is_binary).into_iter().find(|(known, _)| *known == name));
                if let Some((_, other)) = other {
                    apart.insert(name.into(), json!(shown(newcombe((part, of), other))));
                }
            }
        }
        if rest.is_some() {
            of_group.insert("against_the_rest".into(), Json::Object(apart));
            let is_small = self.labels < SMALL;
            of_group.insert(
                "small".into(),
                json!(is_small.then(|| format!("{} labels: too few to tell much", self.labels))),
            );
        }
        Json::Object(of_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_papers() {
        // Newcombe 1998, table II: 56 of 70 against 48 of 80, method 10: 0.0524 to 0.3339.
        let (difference, low, high) = newcombe((56, 70), (48, 80)).unwrap();
        assert!((difference - 0.2).abs() < 1e-12);
        assert!(
            (low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5,
            "{low} {high}"
        );
        let (_, low, high) = wilson(0, 20).unwrap();
        assert!(low.abs() < 1e-12 && (high - 0.1611).abs() < 5e-5, "{high}");
        assert_eq!((wilson(0, 0), newcombe((0, 0), (1, 2))), (None, None));
    }

    #[test]
    fn a_group_is_held_against_the_rest_and_a_small_one_is_called_small() {
        let (mut all, mut group) = (Tally::default(), Tally::default());
        for k in 0..1_000_u32 {
            let (said, is) = (k % 3 == 0, k % 2 == 0);
            let row = Answered {
                loss: f64::from(u8::from(said != is)),
                right: Some(said == is),
                positive: Some((said, is)),
            };
            all.add(row);
            if k % 20 == 0 {
                group.add(row);
            }
        }
        let shown = group.json(Some(&group.rest_of(&all)), false);
        assert_eq!(shown["labels"], 50);
        assert!(shown["small"].as_str().unwrap().starts_with("50 labels"));
        assert!(shown["false_positive_rate"].is_null(), "no negative row: {shown}");
        assert!(shown["against_the_rest"]["accuracy"]["interval"][0].as_f64().unwrap() < 0.0);
        let mut sum = group.rest_of(&all);
        sum.merge(&group);
        assert_eq!(sum.labels, all.labels);
        assert_eq!(Tally::default().json(None, false)["loss"], Json::Null);
    }
}
