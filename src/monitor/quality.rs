//! What is wrong with a feature, by comparing its recent values with the baseline's: what is broken, and what has only
//! shifted.
//!
//! Always holds: a finding says what was seen and what the limit is; too few rows find nothing; a baseline without values
//! is compared with nothing.

use serde::{Deserialize, Serialize};

use super::distance::{self, ChiSquare, Point};
use super::sketch::Profile;

/// Rows before a window is judged.
pub const LEAST_ROWS: u64 = 40;
/// Rows before distances are held against their limits: with fewer they are chance.
const LEAST_FOR_SHIFT: u64 = 100;

/// From where on something is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Share of missing values above the baseline's.
    pub missing: f64,
    /// Share of numbers beyond the baseline's range, widened by a tenth.
    pub range: f64,
    /// Share of texts that the baseline never had.
    pub unseen: f64,
    /// Population Stability Index against the baseline.
    pub shift: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            missing: 0.05,
            range: 0.05,
            unseen: 0.05,
            shift: 0.25,
        }
    }
}

/// What can be wrong with a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers where texts were, or texts where numbers were.
    Type,
    /// It has gone from the requests: no recent row has it.
    Vanished,
    /// One value where many were.
    Frozen,
    /// Values that do not come.
    Missing,
    /// Numbers far beyond the range: often another unit.
    Range,
    /// Texts that the baseline never had.
    Unseen,
    /// The baseline has no feature of this name.
    New,
    /// The distribution is another one.
    Shifted,
    /// It has but one value, as in the baseline.
    Constant,
}

impl Kind {
    /// What breaks an input, worst first.
    pub const BROKEN: [Self; 6] = [
        Self::Type,
        Self::Vanished,
        Self::Frozen,
        Self::Missing,
        Self::Range,
        Self::Unseen,
    ];

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Vanished => "vanished",
            Self::Frozen => "frozen",
            Self::Missing => "missing",
            Self::Range => "range",
            Self::Unseen => "unseen",
            Self::New => "new",
            Self::Shifted => "shifted",
            Self::Constant => "constant",
        }
    }
}

/// Something that is said of a feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// In words, with numbers.
    pub text: String,
}

fn finding(kind: Kind, text: String) -> Finding {
    Finding { kind, text }
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// True when `part` of `of` lies above `expected` + `limit` by more than chance explains (two standard errors).
fn exceeds(part: u64, of: u64, expected: f64, limit: f64) -> bool {
    let error = (expected * (1.0 - expected) / of.max(1) as f64).max(0.0).sqrt();
    share(part, of) > expected + limit.max(2.0 * error)
}

/// All that is to be said, worst first.
#[must_use]
pub fn findings(baseline: &Profile, recent: &Profile, apart: &Apart, limits: &Limits) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(value) = baseline.constant() {
        found.push(finding(
            Kind::Constant,
            format!("the baseline has one value only: {value}"),
        ));
    }
    if recent.rows < LEAST_ROWS {
        return found;
    }
    if baseline.rows == 0 {
        // It was not there when the baseline was made, not even as a missing value.
        let (numbers, texts) = recent.kinds();
        if numbers + texts > 0 {
            let text = format!(
                "the baseline has no feature of this name; {} of {} recent rows have it",
                recent.rows - recent.missing,
                recent.rows
            );
            found.push(finding(Kind::New, text));
        }
        return found;
    }
    let (was, is) = (baseline.kinds(), recent.kinds());
    let (wrong, word) = if was.0 >= was.1 {
        (is.1, "texts")
    } else {
        (is.0, "numbers")
    };
    if was != (0, 0) && wrong > 0 && was.0.min(was.1) == 0 {
        let other = if word == "texts" { "numbers" } else { "texts" };
        let text = format!("{wrong} of {} rows have {word}; the baseline has {other}", recent.rows);
        found.push(finding(Kind::Type, text));
    }
    let usual = share(baseline.missing, baseline.rows);
    if exceeds(recent.missing, recent.rows, usual, limits.missing) {
        if recent.missing >= recent.rows && was != (0, 0) {
            let had = (1.0 - usual) * 100.0;
            let text = format!(
                "none of {} recent rows has it; in the baseline {had:.1} % have",
                recent.rows
            );
            found.push(finding(Kind::Vanished, text));
        }
        let (now, before) = (share(recent.missing, recent.rows) * 100.0, usual * 100.0);
        found.push(finding(
            Kind::Missing,
            format!("{now:.1} % are missing; in the baseline {before:.1} %"),
        ));
    }
    if let (None, Some(value)) = (baseline.constant(), recent.constant())
        && was != (0, 0)
        && recent.rows - recent.missing >= LEAST_ROWS
    {
        found.push(finding(
            Kind::Frozen,
            format!("all recent rows have one value: {value}"),
        ));
    }
    found.extend(beyond(baseline, recent, limits));
    found.extend(unseen(baseline, recent, limits));
    if let Some(index) = apart.psi
        && index >= limits.shift
        && recent.rows >= LEAST_FOR_SHIFT
    {
        let text = format!(
            "stability index {index:.2} against the baseline (limit {})",
            limits.shift
        );
        found.push(finding(Kind::Shifted, text));
    }
    found.sort_by_key(|finding| finding.kind);
    found
}

/// Numbers beyond the range.
fn beyond(baseline: &Profile, recent: &Profile, limits: &Limits) -> Option<Finding> {
    let (was, is) = (baseline.numbers.as_ref()?, recent.numbers.as_ref()?);
    let (least, most) = was.range()?;
    let room = (most - least) * 0.1;
    // A constant has no range: any other value is a change, not a wrong unit.
    let (from, to) = (room > 0.0).then_some((least - room, most + room))?;
    let out: f64 = is
        .points()
        .iter()
        .filter(|(x, _)| *x < from || *x > to)
        .map(|(_, w)| w)
        .sum();
    let all = is.points().len().max(1) as f64;
    let infinite = share(is.infinite, is.count + is.infinite);
    let beyond = (1.0 - infinite) * out / all + infinite;
    if beyond <= limits.range {
        return None;
    }
    let text = format!(
        "{:.1} % lie beyond the baseline's {least} to {most}, widened by a tenth",
        beyond * 100.0
    );
    Some(finding(Kind::Range, text))
}

/// Texts that never came before.
fn unseen(baseline: &Profile, recent: &Profile, limits: &Limits) -> Option<Finding> {
    let (was, is) = (baseline.texts.as_ref()?, recent.texts.as_ref()?);
    if was.others > 0 {
        // Too many to know which are new.
        return None;
    }
    let new: Vec<(&str, u64)> = is.counts().filter(|(text, _)| was.count_of(text).is_none()).collect();
    let count: u64 = new.iter().map(|(_, count)| count).sum::<u64>() + is.others;
    if share(count, is.count) <= limits.unseen {
        return None;
    }
    let some: Vec<String> = new
        .iter()
        .take(3)
        .map(|(text, _)| format!("'{}'", text.escape_debug()))
        .collect();
    let percent = share(count, is.count) * 100.0;
    Some(finding(
        Kind::Unseen,
        format!(
            "{percent:.1} % are categories that the baseline never had, such as {}",
            some.join(", ")
        ),
    ))
}

/// How far recent values lie from others; what does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Apart {
    /// How many of their standard deviations the mean has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_shift: Option<f64>,
    /// How many times the variance is as large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance_ratio: Option<f64>,
    /// Population Stability Index: of numbers over tenths of the reference, of texts over categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<f64>,
    /// Kolmogorov–Smirnov distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<f64>,
    /// Wasserstein distance, in the feature's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<f64>,
    /// Jensen–Shannon distance, over the same bins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jensen_shannon: Option<f64>,
    /// Chi-square of categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chi_square: Option<f64>,
    /// Cramér's V of categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cramer_v: Option<f64>,
}

/// How far `recent` lies from `reference`.
#[must_use]
pub fn apart(reference: &Profile, recent: &Profile) -> Apart {
    let (was, is) = (reference.kinds(), recent.kinds());
    if was.0 >= was.1 {
        numbers_apart(reference, recent).unwrap_or_default()
    } else if is.1 > 0 {
        texts_apart(reference, recent).unwrap_or_default()
    } else {
        Apart::default()
    }
}

fn numbers_apart(reference: &Profile, recent: &Profile) -> Option<Apart> {
    let (was, is) = (reference.numbers.as_ref()?, recent.numbers.as_ref()?);
    let ((mean, deviation), (now, spread)) = (was.moments()?, is.moments()?);
    let (a, b) = (was.points(), is.points());
    let (p, q) = binned(&a, &b);
    let finite = |x: f64| Some(x).filter(|x| x.is_finite());
    Some(Apart {
        mean_shift: finite((now - mean) / deviation),
        variance_ratio: finite(spread * spread / (deviation * deviation)),
        psi: distance::stability_index(&p, &q),
        ks: distance::kolmogorov_smirnov(&a, &b),
        wasserstein: distance::wasserstein(&a, &b),
        jensen_shannon: distance::jensen_shannon(&p, &q),
        ..Apart::default()
    })
}

/// Both sides' weight in the tenths of the first: each edge is a bin of its own, which is what values that come often need.
fn binned(a: &[Point], b: &[Point]) -> (Vec<f64>, Vec<f64>) {
    let at = |k: usize| a.get(k * a.len() / 10).map(|(x, _)| *x);
    let mut edges: Vec<f64> = (1..10).filter_map(at).collect();
    edges.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let counts = |points: &[Point]| {
        let mut counts = vec![0.0; edges.len() * 2 + 1];
        for (x, weight) in points {
            let below = edges.partition_point(|edge| edge < x);
            let is_edge = edges.get(below).is_some_and(|edge| edge.total_cmp(x).is_eq());
            if let Some(count) = counts.get_mut(below * 2 + usize::from(is_edge)) {
                *count += weight;
            }
        }
        counts
    };
    (counts(a), counts(b))
}

fn texts_apart(reference: &Profile, recent: &Profile) -> Option<Apart> {
    let (was, is) = (reference.texts.as_ref()?, recent.texts.as_ref()?);
    let mut names: Vec<&str> = was.counts().chain(is.counts()).map(|(text, _)| text).collect();
    names.sort_unstable();
    names.dedup();
    let counts = |side: &super::sketch::Texts| -> Vec<f64> {
        let one = |name: &&str| side.count_of(name).unwrap_or(0) as f64;
        names.iter().map(one).chain([side.others as f64]).collect()
    };
    let (p, q) = (counts(was), counts(is));
    let chi: Option<ChiSquare> = distance::chi_square(&p, &q);
    Some(Apart {
        psi: distance::stability_index(&p, &q),
        jensen_shannon: distance::jensen_shannon(&p, &q),
        chi_square: chi.map(|chi| chi.statistic),
        cramer_v: chi.map(|chi| chi.cramer_v),
        ..Apart::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Value;
    use super::*;

    fn profile<'a>(values: impl IntoIterator<Item = Value<'a>>) -> Profile {
        let mut profile = Profile::default();
        values.into_iter().for_each(|value| profile.add(value));
        profile
    }

    fn numbers(from: u32, to: u32) -> Profile {
        profile((from..to).map(|k| Value::Number(f64::from(k))))
    }

    fn kinds(baseline: &Profile, recent: &Profile) -> Vec<&'static str> {
        let found = findings(baseline, recent, &apart(baseline, recent), &Limits::default());
        found.into_iter().map(|finding| finding.kind.name()).collect()
    }

    #[test]
    fn each_kind_of_broken_input_is_named_and_a_sound_one_is_not() {
        let baseline = numbers(0, 1_000);
        assert!(kinds(&baseline, &baseline).is_empty());
        assert!(kinds(&baseline, &numbers(0, 20)).is_empty(), "too few rows");
        assert_eq!(
            kinds(&baseline, &profile(vec![Value::Missing; 200])),
            ["vanished", "missing"]
        );
        assert_eq!(kinds(&baseline, &profile(vec![Value::Number(7.0); 60])), ["frozen"]);
        assert_eq!(kinds(&baseline, &numbers(2_000, 3_000)), ["range", "shifted"]);
        let mixed = profile((0..200).map(|k| {
            if k == 9 {
                Value::Text("9")
            } else {
                Value::Number(f64::from(k) * 5.0)
            }
        }));
        assert_eq!(kinds(&baseline, &mixed), ["type"]);
        let infinite =
            profile((0..200).map(|k| Value::Number(if k % 9 == 0 { f64::INFINITY } else { f64::from(k) * 5.0 })));
        assert_eq!(kinds(&baseline, &infinite), ["range"]);
        let words = profile(["a", "b"].into_iter().cycle().take(100).map(Value::Text));
        let others = profile(["a", "b", "c"].into_iter().cycle().take(90).map(Value::Text));
        assert_eq!(kinds(&words, &others), ["unseen"]);
        assert_eq!(kinds(&words, &numbers(0, 100))[0], "type");
    }

    #[test]
    fn a_baseline_without_values_or_with_one_is_said_and_compared_with_nothing_else() {
        let constant = profile(vec![Value::Number(0.4); 500]);
        assert_eq!(kinds(&constant, &constant), ["constant"]);
        assert_eq!(kinds(&constant, &numbers(0, 300)), ["shifted", "constant"]);
        assert_eq!(
            kinds(&Profile::default(), &numbers(0, 300)),
            ["new"],
            "a name that the baseline never had"
        );
        assert!(kinds(&Profile::default(), &profile(vec![Value::Missing; 300])).is_empty());
        assert!(kinds(&profile(vec![Value::Missing; 300]), &numbers(0, 300)).is_empty());
    }
}
