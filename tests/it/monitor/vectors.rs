//! Each statistic against the library that people know it from, on the same data: `tests/vectors/monitor`, which
//! `make.py` there writes.

use std::path::Path;

use dethrone::monitor::association::{Together, area_under_curve, mutual_information};
use dethrone::monitor::calibration::Reliability;
use dethrone::monitor::change::{Adwin, PageHinkley};
use dethrone::monitor::distance::{
    Point, chi_square, jensen_shannon, kolmogorov_smirnov, stability_index, wasserstein,
};
use dethrone::monitor::sketch::{Profile, Value as Seen};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/monitor/{name}.json"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() > 2);
    cases
}

fn list(case: &Value, key: &str) -> Vec<f64> {
    let values = case[key].as_array().unwrap_or_else(|| panic!("{key}"));
    values.iter().map(|x| x.as_f64().unwrap()).collect()
}

fn same(found: Option<f64>, case: &Value, key: &str) {
    let (found, expected) = (
        found.unwrap_or_else(|| panic!("{key} of {case}")),
        case[key].as_f64().unwrap(),
    );
    let near = 1e-9 * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= near,
        "{key}: {found}, expected {expected}: {}",
        case["name"]
    );
}

fn points(case: &Value, values: &str, weights: Option<&str>) -> Vec<Point> {
    let values = list(case, values);
    let weights = weights.map_or(vec![1.0; values.len()], |key| list(case, key));
    values.into_iter().zip(weights).collect()
}

#[test]
fn distances_of_numbers_are_those_of_scipy() {
    for case in cases("numbers") {
        let (a, b) = (points(&case, "a", None), points(&case, "b", None));
        same(kolmogorov_smirnov(&a, &b), &case, "ks");
        same(wasserstein(&a, &b), &case, "wasserstein");
        let (a, b) = (
            points(&case, "a", Some("weights_a")),
            points(&case, "b", Some("weights_b")),
        );
        same(wasserstein(&a, &b), &case, "wasserstein_weighted");
    }
}

#[test]
fn distances_of_sketches_are_those_of_scipy_within_their_stated_error() {
    // 1.7 % of either sketch, and a quarter of a percent of the 400 points that stand for each.
    const RANK_ERROR: f64 = 2.0 * (0.017 + 0.00125);
    for case in cases("numbers") {
        let sketch = |key: &str| {
            let mut profile = Profile::default();
            // So many that the sketch has to forget: it keeps some hundreds.
            let values = list(&case, key);
            (0..20).for_each(|_| values.iter().for_each(|x| profile.add(Seen::Number(*x))));
            profile.numbers.unwrap()
        };
        let (a, b) = (sketch("a"), sketch("b"));
        let found = kolmogorov_smirnov(&a.points(), &b.points()).unwrap();
        let expected = case["ks"].as_f64().unwrap();
        assert!(
            (found - expected).abs() <= RANK_ERROR,
            "{found}, expected {expected}: {}",
            case["name"]
        );
        let ((least, most), (from, to)) = (a.range().unwrap(), b.range().unwrap());
        let width = most.max(to) - least.min(from);
        let found = wasserstein(&a.points(), &b.points()).unwrap();
        let expected = case["wasserstein"].as_f64().unwrap();
        assert!(
            (found - expected).abs() <= RANK_ERROR * width,
            "{found}, expected {expected}: {}",
            case["name"]
        );
    }
}

#[test]
fn distances_of_counts_are_those_of_scipy_and_evidently() {
    for case in cases("counts") {
        let (a, b) = (list(&case, "a"), list(&case, "b"));
        same(stability_index(&a, &b), &case, "psi");
        same(jensen_shannon(&a, &b), &case, "jensen_shannon");
        let chi = chi_square(&a, &b).unwrap();
        same(Some(chi.statistic), &case, "chi_square");
        same(Some(chi.cramer_v), &case, "cramer_v");
        assert_eq!(chi.freedom as u64, case["freedom"]);
    }
}

#[test]
fn changes_are_found_where_river_finds_them() {
    let mut found = 0;
    for case in cases("changes") {
        let (mut adwin, mut hinkley) = (Adwin::default(), PageHinkley::default());
        let (mut cuts, mut calls) = (Vec::new(), Vec::new());
        for (at, x) in list(&case, "xs").into_iter().enumerate() {
            if adwin.add(x) {
                cuts.push(at as u64);
            }
            if hinkley.add(x) {
                calls.push(at as u64);
            }
        }
        assert_eq!(serde_json::json!(cuts), case["adwin"], "{}", case["name"]);
        assert_eq!(serde_json::json!(calls), case["page_hinkley"], "{}", case["name"]);
        same(Some(adwin.width()), &case, "adwin_width");
        same(adwin.mean(), &case, "adwin_mean");
        assert_eq!(
            (adwin.detections, hinkley.detections),
            (cuts.len() as u64, calls.len() as u64)
        );
        found += cuts.len().min(1) + calls.len().min(1);
    }
    assert!(found >= 4, "the cases have changes");
}

#[test]
fn scores_against_outcomes_are_those_of_scikit_learn() {
    for case in cases("scores") {
        let (scores, outcomes) = (list(&case, "score"), list(&case, "outcome"));
        let scored: Vec<(f64, bool)> = scores.iter().zip(&outcomes).map(|(s, y)| (*s, *y > 0.5)).collect();
        same(area_under_curve(&scored), &case, "auc");
        let mut reliability = Reliability::default();
        scored
            .iter()
            .for_each(|(score, outcome)| reliability.add(*score, *outcome));
        same(reliability.error(), &case, "ece");
        let curve = reliability.curve();
        let (predicted, observed) = (list(&case, "predicted"), list(&case, "observed"));
        assert_eq!(curve.len(), predicted.len());
        for ((point, predicted), observed) in curve.iter().zip(predicted).zip(observed) {
            assert!((point.predicted - predicted).abs() < 1e-9 && (point.observed - observed).abs() < 1e-9);
        }
        let (mut together, mut table) = (Together::default(), vec![vec![0.0; 2]; 4]);
        let features = list(&case, "feature");
        for (k, (x, (_, outcome))) in features.into_iter().zip(&scored).enumerate() {
            together.add(x, f64::from(u8::from(*outcome)));
            let code = usize::try_from(case["code"][k].as_u64().unwrap()).unwrap();
            table[code][usize::from(*outcome)] += 1.0;
        }
        same(together.correlation(), &case, "correlation");
        same(mutual_information(&table), &case, "mutual_information");
    }
}
