//! How values are distributed in a stretch, beside the baseline: shares per bin of numbers, per category of texts.
//!
//! Always holds: at most [`BINS`] bars of a feature, at most [`MOST`] features with bars; both sides have the same bars.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::monitor::beside::Compared;
use crate::monitor::quality::{Apart, apart};
use crate::monitor::sketch::{Numbers, Profile, Texts};
use crate::monitor::view::summary;

/// Bars of numbers.
const BINS: usize = 20;
/// Bars of categories, and of numbers that take few values.
const CATEGORIES: usize = 9;
/// Features whose bars are kept: those furthest from the baseline.
const MOST: usize = 24;

/// One bar on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// A category, or a value; of a range of numbers its beginning and end are told instead.
    pub value: Option<String>,
    /// Where the bin begins.
    pub from: Option<f64>,
    /// Where it ends.
    pub to: Option<f64>,
    /// Share of the baseline's values.
    pub baseline: f64,
    /// Share of the stretch's values.
    pub window: f64,
}

/// A feature or an output in the stretch, beside its baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distribution {
    /// Its name.
    pub name: String,
    /// Whether it is an output: the score, or the label.
    pub is_output: bool,
    /// The baseline in short, as the monitor has it.
    pub baseline: Json,
    /// The stretch in short.
    pub window: Json,
    /// How far they lie apart.
    pub apart: Apart,
    /// Bars; none beyond the features furthest from their baseline, and where there is nothing to compare.
    pub bars: Vec<Bar>,
}

/// The distributions, those furthest from their baseline first; or why there are none. `profiles` are the values of the
/// stretch by name, and whether it is an output.
pub(super) fn distributions(
    compared: &Compared,
    profiles: Vec<(String, bool, Profile)>,
) -> (Vec<Distribution>, Option<String>) {
    if compared.inputs.is_empty() && compared.outputs.is_empty() {
        let why = "there is no baseline of this champion: the monitor is off, or has not seen a row of it yet";
        return (Vec::new(), Some(why.into()));
    }
    if !compared.is_complete {
        let why =
            "the baseline is still being learned from the champion's first rows: there is nothing to compare with yet";
        return (Vec::new(), Some(why.into()));
    }
    let mut all: Vec<(Distribution, &Profile, Profile)> = Vec::new();
    for (name, is_output, profile) in profiles {
        let known = if is_output { &compared.outputs } else { &compared.inputs };
        let Some(known) = known.iter().find(|known| known.name == name) else {
            continue;
        };
        // Outputs of a version with a file are learned in service.
        if known.sample.is_some() {
            continue;
        }
        let distribution = Distribution {
            baseline: summary(&known.profile),
            window: summary(&profile),
            apart: apart(&known.profile, &profile),
            bars: Vec::new(),
            is_output,
            name,
        };
        all.push((distribution, &known.profile, profile));
    }
    let distance = |d: &Distribution| d.apart.psi.unwrap_or(-1.0);
    all.sort_by(|(a, ..), (b, ..)| {
        let order = distance(b).total_cmp(&distance(a));
        order.then_with(|| (a.is_output, &a.name).cmp(&(b.is_output, &b.name)))
    });
    for (distribution, known, profile) in all.iter_mut().take(MOST) {
        distribution.bars = bars(known, profile);
    }
    (all.into_iter().map(|(distribution, ..)| distribution).collect(), None)
}

fn bars(known: &Profile, window: &Profile) -> Vec<Bar> {
    let (numbers, texts) = known.kinds();
    match (&known.numbers, &window.numbers, &known.texts, &window.texts) {
        (Some(was), Some(is), ..) if numbers >= texts => of_numbers(was, is),
        (_, _, Some(was), Some(is)) if texts > numbers => of_texts(was, is),
        _ => Vec::new(),
    }
}

fn of_numbers(was: &Numbers, is: &Numbers) -> Vec<Bar> {
    let [was, is] = [was, is].map(|side| side.points().into_iter().map(|(x, _)| x).collect::<Vec<f64>>());
    let mut values: Vec<f64> = was.iter().chain(&is).copied().collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let share = |side: &[f64], holds: &dyn Fn(f64) -> bool| {
        side.iter().filter(|x| holds(**x)).count() as f64 / side.len().max(1) as f64
    };
    if values.len() <= CATEGORIES {
        let bar = |value: &f64| Bar {
            value: Some(value.to_string()),
            from: None,
            to: None,
            baseline: share(&was, &|x| x.total_cmp(value).is_eq()),
            window: share(&is, &|x| x.total_cmp(value).is_eq()),
        };
        return values.iter().map(bar).collect();
    }
    // What lies far out would press all else into one bin: it is counted in the bins at the ends.
    let inner = |side: &[f64], at: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few hundred points"
        )]
        let place = (at * side.len().saturating_sub(1) as f64).round() as usize;
        side.get(place).copied()
    };
    let least = [&was, &is]
        .into_iter()
        .filter_map(|side| inner(side, 0.01))
        .reduce(f64::min);
    let most = [&was, &is]
        .into_iter()
        .filter_map(|side| inner(side, 0.99))
        .reduce(f64::max);
    let Some((least, most)) = least
        .zip(most)
        .filter(|(least, most)| (most - least).is_finite() && least < most)
    else {
        return Vec::new();
    };
    let edge = |k: usize| least + (most - least) * k as f64 / BINS as f64;
    let bar = |k: usize| {
        let (from, to) = (edge(k), edge(k + 1));
        let holds = |x: f64| (k == 0 || x >= from) && (k + 1 == BINS || x < to);
        Bar {
            value: None,
            from: Some(from),
            to: Some(to),
            baseline: share(&was, &holds),
            window: share(&is, &holds),
        }
    };
    (0..BINS).map(bar).collect()
}

fn of_texts(was: &Texts, is: &Texts) -> Vec<Bar> {
    let of = |side: &Texts, text: &str| side.count_of(text).unwrap_or(0) as f64 / side.count.max(1) as f64;
    let mut names: Vec<&str> = was.counts().chain(is.counts()).map(|(text, _)| text).collect();
    names.sort_unstable();
    names.dedup();
    let mut bars: Vec<Bar> = names
        .into_iter()
        .map(|name| Bar {
            value: Some(name.to_owned()),
            from: None,
            to: None,
            baseline: of(was, name),
            window: of(is, name),
        })
        .collect();
    bars.sort_by(|a, b| {
        let size = |bar: &Bar| bar.baseline.max(bar.window);
        size(b).total_cmp(&size(a)).then_with(|| a.value.cmp(&b.value))
    });
    if bars.len() > CATEGORIES {
        bars.truncate(CATEGORIES - 1);
        let rest = |shown: f64| (1.0 - shown).max(0.0);
        bars.push(Bar {
            value: Some("(others)".into()),
            from: None,
            to: None,
            baseline: rest(bars.iter().map(|bar| bar.baseline).sum()),
            window: rest(bars.iter().map(|bar| bar.window).sum()),
        });
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::sketch::Value;

    fn profile<'a>(values: impl IntoIterator<Item = Value<'a>>) -> Profile {
        let mut profile = Profile::default();
        values.into_iter().for_each(|value| profile.add(value));
        profile
    }

    fn sums(bars: &[Bar]) -> (f64, f64) {
        bars.iter()
            .fold((0.0, 0.0), |(a, b), bar| (a + bar.baseline, b + bar.window))
    }

    #[test]
    fn both_sides_have_the_same_bars_and_every_value_lies_in_one() {
        let numbers = |from: u32| profile((from..from + 1_000).map(|k| Value::Number(f64::from(k))));
        let far = {
            let mut far = numbers(500);
            far.add(Value::Number(1e12));
            far
        };
        let words = |n: u32| profile((0..n).map(|k| Value::Text(["a", "b", "c"][k as usize % 3])));
        let names: Vec<String> = (0..100).map(|k| format!("customer {k}")).collect();
        let many = profile(names.iter().map(|name| Value::Text(name)));
        let coin = profile((0..100).map(|k| Value::Number(f64::from(k % 2))));
        for (known, window, count) in [
            (&numbers(0), &far, BINS),
            (&words(30), &words(31), 3),
            (&words(30), &many, CATEGORIES),
            (&coin, &coin, 2),
        ] {
            let bars = bars(known, window);
            assert_eq!(bars.len(), count, "{bars:?}");
            let (a, b) = sums(&bars);
            assert!((a - 1.0).abs() < 1e-9 && (b - 1.0).abs() < 1e-9, "{bars:?}");
        }
        let shifted = bars(&numbers(0), &far);
        assert!(shifted[0].window < 1e-9 && shifted[0].baseline > 0.02, "{shifted:?}");
    }

    #[test]
    fn what_cannot_be_compared_has_no_bars() {
        let numbers = profile([Value::Number(1.0)]);
        let words = profile([Value::Text("a")]);
        for (known, window) in [(&numbers, &words), (&words, &numbers), (&Profile::default(), &numbers)] {
            assert!(bars(known, window).is_empty());
        }
        let (none, why) = distributions(&Compared::default(), Vec::new());
        assert!(none.is_empty() && why.unwrap().contains("no baseline"));
    }
}
