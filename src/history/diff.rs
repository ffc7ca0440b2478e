//! How two versions differ: by what is known of each, and by what they made of the same rows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Detail, History, HistoryError, lineage};
use crate::control::policy;
use crate::judge::loss::{Metric, label_of};
use crate::ledger::{Both, VersionRow, Writer};
use crate::model::facts::Facts;
use crate::score::{Outcome, Score};

/// Rows that are compared at most, the latest ones.
const MOST_ROWS: u32 = 100_000;

/// One thing that is not the same of both.
type Difference = (&'static str, String, [Value; 2]);

/// What differs between two versions of a model.
///
/// # Errors
/// There is no such version, or what the ledger says.
pub fn diff(reader: &Writer<'_>, history: &History<'_>, [a, b]: [&str; 2]) -> Result<Value, HistoryError> {
    let (a, b) = (history.find(a)?, history.find(b)?);
    let both = [a, b];
    let mut found: Vec<Difference> = Vec::new();
    let [of_a, of_b] = &both.map(|v| history.facts(v));
    let (of_a, of_b) = (of_a.as_ref(), of_b.as_ref());
    let told = |v, facts| lineage(v, facts, Detail::Whole);
    note_keys("lineage", "", [&told(a, of_a), &told(b, of_b)], &mut found);
    of_settings(history, both, &mut found);
    if let (Some(of_a), Some(of_b)) = (of_a, of_b) {
        of_facts([of_a, of_b], &mut found);
    }
    let named = |v: &VersionRow| json!({"version": v.name, "number": v.no, "role": v.role, "digest": v.digest, "stored_digest": v.stored_digest});
    let differences = found
        .into_iter()
        .map(|(part, key, [a, b])| json!({"part": part, "key": key, "a": a, "b": b}));
    Ok(json!({
        "model": history.model.name,
        "a": named(a),
        "b": named(b),
        "same_bytes": a.digest == b.digest,
        "differences": differences.collect::<Vec<_>>(),
        "rows": rows(reader, history, both)?,
    }))
}

fn note(part: &'static str, key: impl Into<String>, [a, b]: [Value; 2], found: &mut Vec<Difference>) {
    if a != b {
        found.push((part, key.into(), [a, b]));
    }
}

/// Key by key, at every depth: `metrics.auc`, `file.opsets.ai.onnx.ml`.
fn note_keys(part: &'static str, prefix: &str, [a, b]: [&Value; 2], found: &mut Vec<Difference>) {
    let nothing = Map::new();
    match [a, b].map(|side| (side.as_object(), side.is_null())) {
        [(Some(_), _), (Some(_), _)] | [(Some(_), _), (_, true)] | [(_, true), (Some(_), _)] => {
            let [a, b] = [a, b].map(|side| side.as_object().unwrap_or(&nothing));
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                let of = |side: &Map<String, Value>| side.get(key).cloned().unwrap_or_default();
                note_keys(part, &path, [&of(a), &of(b)], found);
            }
        }
        _ => note(part, prefix, [a.clone(), b.clone()], found),
    }
}

fn of_settings(history: &History<'_>, both: [&VersionRow; 2], found: &mut Vec<Difference>) {
    let own = both.map(|v| history.own(v.no));
    let threshold = own
        .each_ref()
        .map(|own| json!(own.threshold.unwrap_or(history.config.threshold)));
    note("settings", "threshold", threshold, found);
    note(
        "settings",
        "calibration",
        own.each_ref().map(|own| json!(own.calibration)),
        found,
    );
    note("settings", "twin", own.each_ref().map(|own| json!(own.twin)), found);
}

fn of_facts(both: [&Facts; 2], found: &mut Vec<Difference>) {
    let tensors = |facts: &Facts, which: &str| -> Value {
        let specs = match which {
            "input" => &facts.signature.inputs,
            _ => &facts.signature.outputs,
        };
        let named: BTreeMap<&String, String> = specs
            .iter()
            .map(|spec| (&spec.name, format!("{} {:?}", spec.datatype, spec.shape)))
            .collect();
        json!(named)
    };
    for which in ["input", "output"] {
        let [a, b] = both.map(|facts| tensors(facts, which));
        note_keys("signature", which, [&a, &b], found);
    }
    note("signature", "features", both.map(|f| json!(f.names)), found);
    note("signature", "batched", both.map(|f| json!(f.batched)), found);
    let [a, b] = both.map(|f| json!(f.scan.operators));
    note_keys("graph", "operators", [&a, &b], found);
    note("graph", "nodes", both.map(|f| json!(f.scan.nodes)), found);
    note("graph", "depth", both.map(|f| json!(f.scan.depth)), found);
    note("graph", "classes", both.map(|f| json!(f.scan.classes)), found);
    note("graph", "isolation", both.map(|f| json!(f.scan.safety())), found);
    note("graph", "hazards", both.map(|f| json!(f.scan.hazards)), found);
    for (key, of) in [
        ("latency_us_p50", both.map(|f| f.latency_us_p50)),
        ("latency_us_p99", both.map(|f| f.latency_us_p99)),
        ("cpu_ns", both.map(|f| f.cpu_ns)),
        ("memory_bytes", both.map(|f| f.memory_bytes)),
    ] {
        note("admission", key, of.map(|number| json!(number)), found);
    }
    note("admission", "runtime", both.map(|f| json!(f.runtime)), found);
}

/// Sums over the rows that both had an outcome for.
#[derive(Debug, Default)]
struct Sums {
    both: u64,
    scored: u64,
    equal: u64,
    agree: u64,
    failed: [u64; 2],
    difference: f64,
    absolute: f64,
    largest: f64,
    labelled: u64,
    weight: f64,
    loss: [f64; 2],
}

impl Sums {
    fn add(&mut self, row: &Both, thresholds: [f64; 2], metric: Option<&Metric>) {
        self.both += 1;
        for (outcome, failed) in row.outcomes.iter().zip(&mut self.failed) {
            *failed += u64::from(matches!(outcome, Outcome::Failed));
        }
        let [Outcome::Scored(a), Outcome::Scored(b)] = &row.outcomes else {
            return;
        };
        self.scored += 1;
        let (mean, absolute) = apart(a, b);
        self.equal += u64::from(absolute.to_bits() == 0);
        self.difference += mean;
        self.absolute += absolute;
        self.largest = self.largest.max(absolute);
        let [of_a, of_b] = thresholds;
        self.agree += u64::from(label_of(a, of_a) == label_of(b, of_b));
        if let (Some(metric), Some((truth, weight))) = (metric, row.label) {
            self.labelled += 1;
            self.weight += weight;
            for ((loss, score), threshold) in self.loss.iter_mut().zip([a, b]).zip(thresholds) {
                *loss += weight * metric.loss_at(score, &truth, threshold);
            }
        }
    }
}

/// Second less first, and how far apart: of several classes the mean of the sizes, which has no sign.
fn apart(a: &Score, b: &Score) -> (f64, f64) {
    match (a, b) {
        (Score::Binary(a) | Score::Value(a), Score::Binary(b) | Score::Value(b)) => (b - a, (b - a).abs()),
        (Score::Classes(a), Score::Classes(b)) => {
            let sum: f64 = a.iter().zip(b.iter()).map(|(a, b)| (b - a).abs()).sum();
            (0.0, sum / a.len().max(1) as f64)
        }
        _ => (0.0, 0.0),
    }
}

fn rows(reader: &Writer<'_>, history: &History<'_>, both: [&VersionRow; 2]) -> Result<Value, HistoryError> {
    let [a, b] = both;
    let task = history.head(a).ok().and_then(|head| head.task);
    // What needs more than a score and its truth has no loss of one row here.
    let metric = policy::metric(&history.config, task)
        .ok()
        .filter(|metric| !matches!(metric, Metric::Auc | Metric::Rewards { .. }))
        .filter(|metric| metric.bound() > 0.0);
    let thresholds = both.map(|v| history.own(v.no).threshold.unwrap_or(history.config.threshold));
    let mut sums = Sums::default();
    let looked = reader.both_scored(history.model.no, [a.no, b.no], MOST_ROWS, |row| {
        sums.add(&row, thresholds, metric.as_ref());
    })?;
    let mean = |sum: f64, count: f64| (count > 0.0).then(|| sum / count);
    let scored = sums.scored as f64;
    let has_labels = task.is_some_and(|task| task != crate::score::Task::Regression);
    let [failed_a, failed_b] = sums.failed;
    let [loss_a, loss_b] = sums.loss.map(|loss| mean(loss, sums.weight));
    Ok(json!({
        "looked_at": looked,
        "both": sums.both,
        "scored": sums.scored,
        "equal": sums.equal,
        "agreement": if has_labels { mean(sums.agree as f64, scored) } else { None },
        "mean_difference": if matches!(task, Some(crate::score::Task::Multiclass)) { None } else { mean(sums.difference, scored) },
        "mean_abs_difference": mean(sums.absolute, scored),
        "largest_difference": (sums.scored > 0).then_some(sums.largest),
        "failed": {"a": failed_a, "b": failed_b},
        "loss": {
            "metric": metric.as_ref().map(Metric::name), "labelled": sums.labelled, "a": loss_a, "b": loss_b,
        },
    }))
}
