//! Where a value lies among those of the baseline, from 0 to 1: the one scale on which numbers and texts are compared.
//!
//! Always holds: fixed once the baseline is, and made without chance, so that the same rows raise the same alarms; a value
//! that came often has the middle of its ties, one below or above all lies at 0 or 1; texts lie in the order of how common
//! they were, and one that never came lies at 1.

use serde::{Deserialize, Serialize};

use super::sketch::{Profile, Value, clipped};

/// Values that a scale is made from; of more every second, fourth, … is kept.
const KEPT: usize = 4_096;
/// Steps of the scale of numbers.
const STEPS: usize = 64;

/// Numbers that stand for all so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    kept: Vec<f64>,
    /// Every 2^thinned-th is kept.
    thinned: u32,
    seen: u64,
}

impl Sample {
    /// Takes a number in.
    pub fn add(&mut self, x: f64) {
        if !x.is_finite() {
            return;
        }
        if self.seen.is_multiple_of(1 << self.thinned) {
            if self.kept.len() >= KEPT {
                let mut at = 0_usize;
                self.kept.retain(|_| {
                    at += 1;
                    !at.is_multiple_of(2)
                });
                self.thinned = (self.thinned + 1).min(62);
            }
            if self.seen.is_multiple_of(1 << self.thinned) {
                self.kept.push(x);
            }
        }
        self.seen += 1;
    }
}

/// One step of the scale of numbers: a value, and the shares below it and up to it.
type Step = (f64, f64, f64);

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Of numbers.
    Numbers(Vec<Step>),
    /// Of texts: each with its place.
    Texts(Vec<(Box<str>, f64)>),
}

impl Scale {
    /// The scale of a baseline; `None` where it had no values.
    #[must_use]
    pub fn of(baseline: &Profile, sample: &Sample) -> Option<Self> {
        let (numbers, texts) = baseline.kinds();
        if numbers == 0 && texts == 0 {
            return None;
        }
        if numbers >= texts {
            return (!sample.kept.is_empty()).then(|| Self::Numbers(steps(&sample.kept)));
        }
        let texts = baseline.texts.as_ref()?;
        let mut common: Vec<(&str, u64)> = texts.counts().collect();
        // Ties in the order of the texts themselves.
        common.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let (mut before, total) = (0.0, texts.count as f64);
        let mut places: Vec<(Box<str>, f64)> = Vec::with_capacity(common.len());
        for (text, count) in common {
            let share = count as f64 / total;
            places.push((text.into(), before + share / 2.0));
            before += share;
        }
        places.sort_by(|a, b| a.0.cmp(&b.0));
        Some(Self::Texts(places))
    }

    /// Where a value lies; `None` for none, and for one of the other kind.
    #[must_use]
    pub fn rank(&self, value: Value<'_>) -> Option<f64> {
        match (self, value) {
            (Self::Numbers(steps), Value::Number(x)) if !x.is_nan() => Some(rank(steps, x)),
            (Self::Texts(places), Value::Text(text)) => {
                let found = places.binary_search_by(|(known, _)| (**known).cmp(clipped(text)));
                Some(
                    found
                        .ok()
                        .and_then(|at| places.get(at))
                        .map_or(1.0, |(_, place)| *place),
                )
            }
            _ => None,
        }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(steps) => steps.len() * size_of::<Step>(),
            Self::Texts(places) => places.iter().map(|(text, _)| text.len() + 24).sum(),
        }
    }
}

fn steps(sample: &[f64]) -> Vec<Step> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let mut values: Vec<f64> = (0..=STEPS)
        .filter_map(|k| sorted.get(k * last / STEPS))
        .copied()
        .collect();
    values.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let share = |count: usize| count as f64 / sorted.len() as f64;
    let step = |x: f64| {
        let below = sorted.partition_point(|y| *y < x);
        (x, share(below), share(sorted.partition_point(|y| *y <= x)))
    };
    values.into_iter().map(step).collect()
}

fn rank(steps: &[Step], x: f64) -> f64 {
    let at = steps.partition_point(|(value, ..)| *value < x);
    let below = at
        .checked_sub(1)
        .and_then(|at| steps.get(at))
        .map_or(0.0, |(.., upto)| *upto);
    match steps.get(at) {
        Some((value, from, upto)) if *value <= x => f64::midpoint(*from, *upto),
        Some((_, from, _)) => f64::midpoint(below, *from),
        None => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(values: &[Value<'_>]) -> Option<Scale> {
        let (mut profile, mut sample) = (Profile::default(), Sample::default());
        for value in values {
            profile.add(*value);
            if let Value::Number(x) = value {
                sample.add(*x);
            }
        }
        Scale::of(&profile, &sample)
    }

    #[test]
    fn numbers_lie_where_their_share_of_the_baseline_says() {
        let values: Vec<_> = (0..1_000).map(|k| Value::Number(f64::from(k))).collect();
        let scale = scale(&values).unwrap();
        for x in [0.0, 100.5, 500.0, 998.9] {
            let rank = scale.rank(Value::Number(x)).unwrap();
            assert!((rank - x / 1_000.0).abs() < 0.02, "{x}: {rank}");
        }
        assert_eq!(scale.rank(Value::Number(-1.0)), Some(0.0));
        assert_eq!(scale.rank(Value::Number(f64::INFINITY)), Some(1.0));
        for none in [Value::Missing, Value::Text("7"), Value::Number(f64::NAN)] {
            assert_eq!(scale.rank(none), None);
        }
    }

    #[test]
    fn a_constant_lies_in_the_middle_and_all_else_at_the_ends() {
        let scale = scale(&[Value::Number(0.4); 100]).unwrap();
        let ranks = [0.3, 0.4, 0.5].map(|x| scale.rank(Value::Number(x)));
        assert_eq!(ranks, [Some(0.0), Some(0.5), Some(1.0)]);
    }

    #[test]
    fn texts_lie_by_how_common_they_were_and_the_unseen_at_the_end() {
        let scale = scale(&["b", "a", "a", "a"].map(Value::Text)).unwrap();
        assert_eq!(scale.rank(Value::Text("a")), Some(0.375));
        assert_eq!(scale.rank(Value::Text("b")), Some(0.875));
        assert_eq!(scale.rank(Value::Text("c")), Some(1.0));
        assert_eq!(scale.rank(Value::Number(1.0)), None);
    }

    #[test]
    fn a_long_baseline_is_thinned_and_one_without_values_has_no_scale() {
        let mut sample = Sample::default();
        (0..100_000).for_each(|k| sample.add(f64::from(k % 1_000)));
        assert!(sample.kept.len() <= KEPT && sample.kept.len() > KEPT / 4);
        let steps = steps(&sample.kept);
        assert!((rank(&steps, 250.0) - 0.25).abs() < 0.03);
        assert_eq!(scale(&[Value::Missing]), None);
        assert_eq!(scale(&[Value::Number(f64::INFINITY)]), None);
    }
}
