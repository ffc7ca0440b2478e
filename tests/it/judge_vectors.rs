//! The judge against reference vectors: `tests/vectors`, or the directory that DETHRONE_JUDGE_VECTORS names. Every
//! `.json` file in it is read whose cases have fields that are known here; what another directory leaves out is skipped,
//! but one that has nothing at all fails.

use std::path::{Path, PathBuf};

use dethrone::judge::fold::{Action, Decision, Judge};
use dethrone::judge::interval::Interval;
use dethrone::judge::pair::{Classes, Entry, Kind, Pair, Seen};
use dethrone::judge::policy::Policy;
use dethrone::judge::tenure::Swap;
use dethrone::judge::wealth::{self, BETS, CELLS, PRIOR, Wealth};
use dethrone::score::VersionNo;
use dethrone::span::{Clock, Span};
use serde_json::Value;

/// Kinds of cases, by a field that no other kind has.
const KINDS: [(&str, &str); 6] = [
    ("wealth", "loss_champion"),
    ("generated", "log_wealth_at"),
    ("ensembles", "seeds"),
    ("decisions", "events"),
    ("interval", "lower_mean_upper"),
    ("published", "outputs"),
];

/// The cases of one kind.
fn cases(kind: &str) -> Vec<Value> {
    match std::env::var_os("DETHRONE_JUDGE_VECTORS").map(PathBuf::from) {
        Some(named) => cases_in(&named, kind),
        None => {
            let cases = cases_in(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), kind);
            assert!(!cases.is_empty(), "{kind} has no cases");
            cases
        }
    }
}

fn cases_in(folder: &Path, kind: &str) -> Vec<Value> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("the vectors' directory {shown}: {e}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut known: Vec<Value> = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let all: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let cases = all.get("cases").and_then(Value::as_array).cloned();
        known.extend(cases.unwrap_or_default());
    }
    known.retain(|case| KINDS.iter().any(|(_, field)| case.get(field).is_some()));
    assert!(
        !known.is_empty(),
        "{shown} has no file with vectors that are known here"
    );
    let (_, field) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
    known.retain(|case| case.get(field).is_some());
    known
}

#[test]
fn a_directory_without_vectors_fails_by_its_name() {
    let failed = |folder: &Path| {
        let folder = folder.to_owned();
        let panic = std::panic::catch_unwind(move || cases_in(&folder, "wealth")).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("other.json"), "{\"cases\":[{\"name\":\"unknown\"}]}").unwrap();
    for folder in [empty.path().to_owned(), empty.path().join("nowhere")] {
        let said = failed(&folder);
        assert!(said.contains(folder.to_str().unwrap()), "{said}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn close(name: &str, at: impl std::fmt::Display, ours: f64, theirs: f64, tolerance: f64) {
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{name}, at {at}: {ours} instead of {theirs}"
    );
}

/// Steele, Lea and Flood 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn difference(&mut self, rho: f64, effect: f64) -> f64 {
        let u = self.uniform();
        if u < (rho + effect) / 2.0 {
            1.0
        } else if u < rho {
            -1.0
        } else {
            0.0
        }
    }
}

/// The differences of a case with segments.
fn stream(case: &Value) -> impl Iterator<Item = f64> + use<> {
    let (seed, rho) = (case["seed"].as_u64().unwrap(), case["rho"].as_f64().unwrap());
    let segments: Vec<(u64, f64)> = case["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["labels"].as_u64().unwrap(), s["effect"].as_f64().unwrap()))
        .collect();
    let mut random = SplitMix64(seed);
    segments
        .into_iter()
        .flat_map(|(labels, effect)| (0..labels).map(move |_| effect))
        .map(move |effect| random.difference(rho, effect))
}

#[test]
fn wealth_follows_the_vectors_at_every_label() {
    for case in cases("wealth") {
        let name = case["name"].as_str().unwrap();
        let (bound, margin) = (case["bound"].as_f64().unwrap(), case["margin"].as_f64().unwrap());
        let losses = numbers(&case["loss_champion"])
            .into_iter()
            .zip(numbers(&case["loss_challenger"]));
        let expected = numbers(&case["log_wealth"]);
        let mut wealth = Wealth::new();
        for (n, ((champion, challenger), expected)) in losses.zip(expected).enumerate() {
            wealth.step(wealth::x(champion, challenger, bound, margin));
            close(name, n + 1, wealth.ln(), expected, 1e-9);
        }
        let (cash, cells) = wealth.parts();
        if let Some(expected) = case["final_cash"].as_f64() {
            close(name, "cash", cash, expected, 1e-9);
        }
        if case["final_cells"].is_array() {
            for (cell, expected) in cells.into_iter().zip(numbers(&case["final_cells"])) {
                close(name, "cells", cell / expected, 1.0, 1e-9);
            }
        }
    }
}

#[test]
fn the_generator_of_the_vectors_is_ours() {
    let mut random = SplitMix64(20_260);
    assert_eq!(random.next(), 3_820_817_473_590_826_535);
    assert_eq!(random.next(), 12_771_585_937_618_192_657);
    assert!((random.uniform() - 0.396_825_962_666_404_46).abs() < 1e-16);
}

#[test]
fn generated_streams_follow_the_vectors_to_a_hundred_thousand_labels() {
    for case in cases("generated") {
        let name = case["name"].as_str().unwrap();
        let (mut wealth, mut interval) = (Wealth::new(), Interval::new());
        let (mut max, mut max_at) = (f64::NEG_INFINITY, 0);
        let bars = case["first_label_wealth_reaches"].as_object();
        let mut first: Vec<(f64, Option<u64>, &Value)> = bars
            .into_iter()
            .flatten()
            .map(|(bar, at)| (bar.parse().unwrap(), None, at))
            .collect();
        for (n, d) in (1u64..).zip(stream(&case)) {
            wealth.step(wealth::x(d.max(0.0), (-d).max(0.0), 1.0, 0.0));
            interval.push(d, 1.0);
            if wealth.ln() > max {
                (max, max_at) = (wealth.ln(), n);
            }
            for (bar, at, _) in &mut first {
                if at.is_none() && wealth.value() >= *bar {
                    *at = Some(n);
                }
            }
            if let Some(expected) = case["log_wealth_at"][n.to_string()].as_f64() {
                close(name, n, wealth.ln(), expected, 1e-9);
            }
            let expected = &case["interval95_at"][n.to_string()];
            if expected.is_array() {
                let (low, mean, high) = interval.bounds(1.0, 0.05);
                for (ours, theirs) in [low, mean, high].into_iter().zip(numbers(expected)) {
                    close(name, format!("interval {n}"), ours, theirs, 1e-8);
                }
            }
        }
        if let Some(expected) = case["max_log_wealth"].as_f64() {
            close(name, "maximum", max, expected, 1e-9);
        }
        if let Some(expected) = case["max_at"].as_u64().filter(|_| max > 1e-9) {
            assert_eq!(max_at, expected, "{name}");
        }
        for (bar, at, expected) in first {
            assert_eq!(at, expected.as_u64(), "{name}, bar {bar}");
        }
    }
}

#[test]
fn ensembles_of_seeds_promote_as_often_and_as_soon_as_the_vectors() {
    for case in cases("ensembles") {
        let name = case["name"].as_str().unwrap();
        let seeds: (u64, u64) = serde_json::from_value(case["seeds"].clone()).unwrap();
        let (rho, effect) = (case["rho"].as_f64().unwrap(), case["effect"].as_f64().unwrap());
        let (labels, bar) = (case["labels"].as_u64().unwrap(), case["bar"].as_f64().unwrap());
        let first = |seed: u64| {
            let (mut random, mut wealth) = (SplitMix64(seed), Wealth::new());
            (1..=labels).find(|_| {
                wealth.step(random.difference(rho, effect));
                wealth.value() >= bar
            })
        };
        let all: Vec<u64> = (seeds.0..=seeds.1).map(|s| first(s).unwrap_or(0)).collect();
        assert!(case["of"].as_u64().is_none_or(|of| of == all.len() as u64), "{name}");
        let mut found: Vec<u64> = all.iter().copied().filter(|n| *n > 0).collect();
        let promoted = case["promoted"].as_u64().unwrap();
        assert_eq!(found.len() as u64, promoted, "{name}");
        if let Some(expected) = case["sum_of_first_labels"].as_u64() {
            assert_eq!(found.iter().sum::<u64>(), expected, "{name}");
        }
        if let Some(expected) = case["first_10_seeds"].as_array() {
            let expected: Vec<u64> = expected.iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(all[..expected.len()], expected, "{name}");
        }
        if let Some(median) = case["median_first_label"].as_f64() {
            found.sort_unstable();
            let ours = (found[(found.len() - 1) / 2] + found[found.len() / 2]) as f64 / 2.0;
            close(name, "median", ours, median, 0.0);
        }
    }
}

#[test]
fn the_interval_follows_the_vectors_at_every_label() {
    for case in cases("interval") {
        let name = case["name"].as_str().unwrap();
        let (bound, alpha) = (case["bound"].as_f64().unwrap(), case["alpha"].as_f64().unwrap());
        let expected = case["lower_mean_upper"].as_array().unwrap();
        let mut interval = Interval::new();
        for (n, (d, expected)) in numbers(&case["difference"]).into_iter().zip(expected).enumerate() {
            interval.push(d, bound);
            let (low, mean, high) = interval.bounds(bound, alpha);
            for (ours, theirs) in [low, mean, high].into_iter().zip(numbers(expected)) {
                close(name, n + 1, ours, theirs, 1e-8);
            }
        }
    }
}

/// The whole judge on a decision vector: what it armed, disarmed and decided, at which label.
fn decide(case: &Value) -> (Vec<(String, u64)>, Option<u64>) {
    let (champion, other) = (VersionNo(1), VersionNo(2));
    let bar = case["bar"].as_f64().unwrap();
    let rollback = case["name"].as_str().unwrap().starts_with("rollback");
    let policy = Policy {
        // The bar of the first challenger is 2/alpha; a rollback's is 1/rollback_alpha.
        alpha: if rollback { 1e-12 } else { 2.0 / bar },
        rollback_alpha: 1.0 / bar,
        min_labels: case["min_labels"].as_u64().unwrap(),
        dwell: Span::Rows(case["dwell_labels"].as_u64().unwrap()),
        probation: Span::Rows(u64::MAX),
        drop_factor: case["drop_factor"].as_f64().unwrap_or(10.0),
        ..Policy::default()
    };
    let mut judge = Judge::new(policy, if rollback { other } else { champion }, 1, Clock::default());
    if rollback {
        judge.swap(champion, Swap::Promotion, Clock::default());
    } else {
        judge.enter(other, Clock::default());
    }
    let (mut events, mut armed, mut decided) = (Vec::new(), false, None::<(u64, Decision)>);
    for (n, difference) in (1u64..).zip(stream(case)) {
        let entry = Entry {
            version: other,
            difference,
            kind: Kind::Scored,
            classes: Classes::Enough,
            seen: Seen::default(),
        };
        let clock = Clock { row: n, time_ms: 0 };
        let pair = Pair {
            clock,
            epoch: judge.epoch(),
            weight: 1.0,
            champion_loss: Some(0.0),
            champion: Seen::default(),
            groups: 0,
            entries: vec![entry],
        };
        let decision = judge.fold(&pair);
        let now = if rollback {
            judge.alarm().is_some()
        } else {
            judge.armed_since(other).is_some()
        };
        if now != armed {
            events.push((if now { "armed" } else { "disarmed" }.to_owned(), n));
            armed = now;
        }
        if let Some(decision) = decision {
            decided = Some((n, decision));
            break;
        }
    }
    if let Some((_, decision)) = &decided {
        assert_eq!(decision.kind, if rollback { Action::Rollback } else { Action::Promote });
        assert_eq!(decision.version, other);
    }
    (events, decided.map(|(n, _)| n))
}

#[test]
fn the_whole_judge_arms_disarms_promotes_and_rolls_back_as_the_vectors() {
    for case in cases("decisions") {
        let expected: Vec<(String, u64)> = serde_json::from_value(case["events"].clone()).unwrap();
        let (name, seed) = (&case["name"], &case["seed"]);
        assert_eq!(
            decide(&case),
            (expected, case["promoted_at"].as_u64()),
            "{name}, seed {seed}"
        );
    }
}

/// Mixture over our cells, where a cell becomes `from(cell) * (1 + bet * d)`.
fn mixture(differences: &[f64], start: f64, from: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut cells = [start; CELLS];
    let step = |d: &f64| {
        for (cell, bet) in cells.iter_mut().zip(BETS) {
            *cell = from(*cell) * (1.0 + bet * wealth::scaled(*d, 1.0, 1.0, 0.0));
        }
        libm::log(cells.iter().zip(PRIOR).map(|(cell, share)| cell * share).sum())
    };
    differences.iter().map(step).collect()
}

#[test]
fn our_cells_follow_the_published_vectors_of_other_packages() {
    for case in cases("published") {
        let name = case["name"].as_str().unwrap();
        let differences = numbers(&case["difference"]);
        let published = |start: &str| {
            let outputs = case["outputs"].as_object().unwrap();
            let (_, values) = outputs
                .iter()
                .find(|(key, _)| key.starts_with(start))
                .unwrap_or_else(|| panic!("{start}"));
            numbers(values)
        };
        let compare = |what: &str, ours: Vec<f64>| {
            let theirs = published(what);
            assert_eq!(ours.len(), theirs.len(), "{name}, {what}");
            for (n, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
                close(name, format!("{what} {}", n + 1), ours, theirs, 1e-8);
            }
        };
        for bet in [BETS[0], BETS[2], BETS[5]] {
            let mut product = 0.0;
            let cell = differences.iter().map(|d| {
                product += libm::log(1.0 + bet * d);
                product
            });
            compare(
                &format!("confseq.betting.betting_mart fixed bet {bet}: log"),
                cell.collect(),
            );
        }
        compare(
            "stcpR6 C++ headers, MixE<ST<Bounded>>",
            mixture(&differences, 1.0, |cell| cell),
        );
        compare(
            "stcpR6 C++ headers, MixE<SR<Bounded>>",
            mixture(&differences, 0.0, |cell| cell + 1.0),
        );
        compare(
            "stcpR6 C++ headers, MixE<CU<Bounded>>",
            mixture(&differences, 1.0, |cell| cell.max(1.0)),
        );

        // The empirical Bernstein sequence is the running mean and a boundary of the running variance.
        let mut interval = Interval::new();
        let means: Vec<f64> = differences
            .iter()
            .map(|d| {
                interval.push(*d, 1.0);
                interval.mean(1.0)
            })
            .collect();
        let boundary = published("confseq.boundaries.gamma_exponential_mixture_bound");
        let side = |sign: f64| {
            let at = means.iter().zip(&boundary).zip(1u32..);
            at.map(|((mean, boundary), n)| mean + sign * boundary / f64::from(n))
                .collect::<Vec<_>>()
        };
        compare("comparecast.confseq.confseq_eb(d, .05, -1, 1): lcb", side(-1.0));
        compare("comparecast.confseq.confseq_eb(d, .05, -1, 1): ucb", side(1.0));
    }
}
