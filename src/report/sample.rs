//! Rows drawn at random for an audit: automated tests alone are not to be relied on.
//!
//! Each row number of the stretch gets a number by a hash of itself and the seed, and the rows with the smallest are the
//! sample. So every set of rows is as likely as any other; the same seed gives the same rows; and a stretch that has grown
//! changes a row of the sample only where a new one takes its place.
//!
//! Always holds: at most [`MOST_ROWS`]; an erased row of the sample stays in it, as erased, for otherwise what is left would
//! not be a fair picture; inputs that were pruned, dropped or hashed are called so.

use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::{ReportError, Since, Stretch};
use crate::history::History;
use crate::id::IdKey;
use crate::ledger::{Ledger, Position, Writer, is_held};
use crate::time::{now_ms, rfc3339};

/// Rows of a sample at most.
pub const MOST_ROWS: usize = 1_000;
/// Numbers beyond the sample's, which stand in where a row is gone.
const SPARE: usize = 1_000;

/// What is to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// How many rows.
    pub n: usize,
    /// From which stretch.
    pub since: Since,
    /// What the draw rests on; `None` for chance.
    pub seed: Option<u64>,
}

/// SplitMix64's mix (Steele, Lea and Flood 2014): one-to-one, so that no two rows have the same number.
pub(super) fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The rows of a stretch with the smallest numbers, in order of those.
fn drawn((first, last): (u64, u64), most: usize, seed: u64) -> Vec<u64> {
    // Twice mixed: seeds that lie close together draw nothing alike.
    let key = mixed(mixed(seed));
    let mut smallest: BinaryHeap<(u64, u64)> = BinaryHeap::with_capacity(most + 1);
    for row in first..=last {
        let number = mixed(row ^ key);
        if smallest.len() < most {
            smallest.push((number, row));
        } else if smallest.peek().is_some_and(|(largest, _)| number < *largest) {
            smallest.pop();
            smallest.push((number, row));
        }
    }
    smallest.into_sorted_vec().into_iter().map(|(_, row)| row).collect()
}

/// Draws the rows, and tells all that is held on them.
///
/// # Errors
/// There is no such model, no row in the stretch, or what the ledger says.
pub fn sample(state: &Path, model: Option<&str>, order: &Order) -> Result<Json, ReportError> {
    let ledger = Ledger::open_to_read(state)?;
    let reader = ledger.reader();
    let history = History::read(&reader, model)?;
    let stretch = order.since.of(&reader, &history.model, now_ms(), is_held(state))?;
    let seed = order
        .seed
        .unwrap_or_else(|| getrandom::u64().unwrap_or_else(|_| now_ms().cast_unsigned()) >> 32);
    // Ids are told as they were given out, where the key is still there.
    let key = IdKey::load(&state.join("ids.key")).ok();
    let n = order.n.min(MOST_ROWS);
    let mut rows = Vec::new();
    for row in drawn((stretch.first_row, stretch.last_row), n + SPARE, seed) {
        if rows.len() >= n {
            break;
        }
        rows.extend(told(&reader, &history, key.as_ref(), row)?);
    }
    rows.sort_by_key(|row| row.get("row").and_then(Json::as_u64));
    Ok(shown(&history, &stretch, seed, rows))
}

fn shown(history: &History<'_>, stretch: &Stretch, seed: u64, rows: Vec<Json>) -> Json {
    let how = "each row number by a hash of itself and the seed, the smallest are drawn: uniform, without replacement";
    json!({
        "model": history.model.name, "seed": seed, "since": stretch, "how": how, "count": rows.len(), "rows": rows,
    })
}

/// A row as it is held; `None` where it is not recorded any more.
fn told(
    reader: &Writer<'_>,
    history: &History<'_>,
    key: Option<&IdKey>,
    row: u64,
) -> Result<Option<Json>, ReportError> {
    let model = history.model.no;
    let Some((id, time_ms)) = reader.recorded_id(Position { model, row })? else {
        return Ok(None);
    };
    let held = match id {
        0 => None,
        id => reader.held(model, id)?,
    };
    let Some(mut held) = held else {
        let gone = json!({"row": row, "time": rfc3339(time_ms), "erased": true, "inputs_are": "erased"});
        return Ok(Some(gone));
    };
    let are = inputs_are(reader, history, &held, row)?;
    let record = &history.config.record;
    let hashed = hashed(&record.hash, &held);
    if let Some(held) = held.as_object_mut() {
        let mut text = Vec::new();
        if let Some(key) = key {
            key.id_of(id).write(None, &mut text);
        }
        held.insert(
            "id".into(),
            json!((!text.is_empty()).then(|| String::from_utf8_lossy(&text))),
        );
        held.insert("erased".into(), json!(false));
        held.insert("inputs_are".into(), json!(are));
        held.insert("hashed".into(), json!(hashed));
        held.insert("dropped".into(), json!(record.drop));
    }
    Ok(Some(held))
}

/// The hashed ones of what this row has.
fn hashed<'a>(names: &'a [String], held: &Json) -> Vec<&'a str> {
    let has = |part: &str, name: &str| held.get(part).is_some_and(|part| part.get(name).is_some());
    let is_there = |name: &&str| match *name {
        "entities" => held.get("entity").is_some_and(|entity| !entity.is_null()),
        name => has("inputs", name) || has("context", name),
    };
    names.iter().map(String::as_str).filter(is_there).collect()
}

fn inputs_are(reader: &Writer<'_>, history: &History<'_>, held: &Json, row: u64) -> Result<&'static str, ReportError> {
    let inputs = held.get("inputs");
    if inputs.is_some_and(|inputs| !inputs.is_null()) {
        return Ok(match inputs.and_then(|inputs| inputs.get("tensor_bytes")) {
            Some(_) => "tensors",
            None => "there",
        });
    }
    Ok(match row <= reader.kept(history.model.no)?.inputs_to {
        true => "pruned",
        false => "not recorded",
    })
}

/// A value as one cell.
fn cell(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A score, or why there is none.
fn score(answer: Option<&Json>) -> String {
    let of = |key: &str| answer.and_then(|answer| answer.get(key));
    of("score").or(of("scores")).map_or_else(
        || of("no_score").map_or_else(String::new, |why| format!("({})", cell(Some(why)))),
        |score| cell(Some(score)),
    )
}

fn rows(sample: &Json) -> &[Json] {
    sample.get("rows").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// What a row's inputs are, where they are not simply there.
fn remark(row: &Json) -> String {
    let are = cell(row.get("inputs_are"));
    let hashed: Vec<String> = row
        .get("hashed")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .map(|name| cell(Some(name)))
        .collect();
    match (are.as_str(), hashed.as_slice()) {
        ("there", []) => String::new(),
        ("there", names) => format!("hashed: {}", names.join(", ")),
        ("erased", _) => "erased".into(),
        (other, _) => format!("inputs: {other}"),
    }
}

/// The sample for people: a block per row.
#[must_use]
pub fn text(sample: &Json) -> String {
    let mut out = String::new();
    let of = |key: &str| cell(sample.get(key));
    let since = sample.get("since").unwrap_or(&Json::Null);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}: {} of {} rows, {} to {} (row {} to {}), seed {}",
        of("model"),
        of("count"),
        cell(since.get("rows")),
        cell(since.get("from")),
        cell(since.get("to")),
        cell(since.get("first_row")),
        cell(since.get("last_row")),
        of("seed")
    );
    for row in rows(sample) {
        let label = row.get("label").and_then(|label| label.get("label"));
        let _ = write!(out, "\nrow {}  {}", cell(row.get("row")), cell(row.get("time")));
        if row.get("erased") == Some(&Json::Bool(true)) {
            out.push_str("  erased\n");
            continue;
        }
        let _ = writeln!(out, "  {}", cell(row.get("id")));
        let label = label.map_or_else(|| "no label".into(), |label| format!("label {}", cell(Some(label))));
        let answered = match row.get("fallback") {
            None | Some(Json::Null) => cell(row.get("version")),
            fallback => format!("{} for {}", cell(fallback), cell(row.get("version"))),
        };
        let _ = writeln!(out, "  {answered}: {}; {label}", score(row.get("answer")));
        let shadows: Vec<String> = row
            .get("shadows")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .map(|shadow| format!("{} {}", cell(shadow.get("version")), score(Some(shadow))))
            .collect();
        if !shadows.is_empty() {
            let _ = writeln!(out, "  shadows: {}", shadows.join(", "));
        }
        for (key, value) in row.get("inputs").and_then(Json::as_object).into_iter().flatten() {
            let _ = writeln!(out, "    {key} = {}", cell(Some(value)));
        }
        let remark = remark(row);
        if !remark.is_empty() {
            let _ = writeln!(out, "    {remark}");
        }
        if let Some(context) = row.get("context").filter(|context| !context.is_null()) {
            let _ = writeln!(out, "    context {context}");
        }
    }
    out
}

/// The sample as a table: fixed columns, then one per feature, then one per version that scored a row in shadow.
///
/// # Errors
/// A table that cannot be written.
pub fn csv(sample: &Json) -> Result<String, String> {
    let mut features = std::collections::BTreeSet::new();
    let mut versions = std::collections::BTreeSet::new();
    for row in rows(sample) {
        let inputs = row.get("inputs").and_then(Json::as_object);
        features.extend(inputs.into_iter().flatten().map(|(name, _)| name.clone()));
        let shadows = row.get("shadows").and_then(Json::as_array);
        versions.extend(shadows.into_iter().flatten().map(|shadow| cell(shadow.get("version"))));
    }
    let fixed = [
        "row",
        "time",
        "id",
        "version",
        "fallback",
        "score",
        "label",
        "erased",
        "inputs_are",
        "hashed",
        "seed",
    ];
    let mut table = ::csv::Writer::from_writer(Vec::new());
    let header = fixed
        .iter()
        .map(|name| (*name).to_owned())
        .chain(features.iter().map(|name| format!("feature_{name}")))
        .chain(versions.iter().map(|name| format!("score_{name}")));
    table.write_record(header).map_err(|e| e.to_string())?;
    for row in rows(sample) {
        let of = |key: &str| cell(row.get(key));
        let shadow = |name: &String| {
            let mut all = row.get("shadows").and_then(Json::as_array).into_iter().flatten();
            let found = all.find(|shadow| cell(shadow.get("version")) == *name);
            score(found)
        };
        let label = cell(row.get("label").and_then(|label| label.get("label")));
        let first = [
            of("row"),
            of("time"),
            of("id"),
            of("version"),
            of("fallback"),
            score(row.get("answer")),
            label,
            of("erased"),
            of("inputs_are"),
            of("hashed"),
            cell(sample.get("seed")),
        ];
        let inputs = features
            .iter()
            .map(|name| cell(row.get("inputs").and_then(|inputs| inputs.get(name))));
        let record = first.into_iter().chain(inputs).chain(versions.iter().map(shadow));
        table.write_record(record).map_err(|e| e.to_string())?;
    }
    let bytes = table.into_inner().map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_the_same_for_a_seed_and_every_row_is_as_likely() {
        assert_eq!(drawn((1, 1_000), 20, 7), drawn((1, 1_000), 20, 7));
        assert_ne!(drawn((1, 1_000), 20, 7), drawn((1, 1_000), 20, 8));
        let mut counts = vec![0_u32; 200];
        for seed in 0..5_000 {
            let rows = drawn((1, 200), 10, seed);
            let different: std::collections::BTreeSet<_> = rows.iter().collect();
            assert_eq!(different.len(), 10, "without replacement");
            for row in rows {
                counts[usize::try_from(row).unwrap() - 1] += 1;
            }
        }
        // Each is drawn 250 times on average; chi-square of 199 degrees of freedom: 300 is far beyond chance (1e-5).
        let squares: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - 250.0).powi(2) / 250.0)
            .sum();
        assert!((100.0..300.0).contains(&squares), "{squares}");
        // Pairs of neighbours come together as often as any others: 9 times in 199 of those with the first one.
        let together = (0..5_000).filter(|seed| {
            let rows = drawn((1, 200), 10, *seed);
            rows.contains(&100) && rows.contains(&101)
        });
        let together = together.count();
        assert!((1..30).contains(&together), "{together}: 11 are expected");
    }

    #[test]
    fn a_stretch_that_grew_keeps_its_sample_but_for_new_rows() {
        let (before, after) = (drawn((1, 10_000), 50, 3), drawn((1, 10_100), 50, 3));
        let old: Vec<u64> = after.iter().copied().filter(|row| *row <= 10_000).collect();
        assert!(old.len() > 40 && old.iter().all(|row| before.contains(row)));
        assert_eq!(drawn((5, 7), 50, 3).len(), 3, "no more than there are");
    }

    #[test]
    fn a_table_and_a_text_say_what_is_there_and_what_is_not() {
        let sample = json!({"model": "m", "seed": 7, "count": 3, "since": {"rows": 9}, "rows": [
            {"row": 1, "time": "t", "erased": true, "inputs_are": "erased"},
            {"row": 2, "time": "t", "id": "p1_x", "version": "a", "fallback": null, "answer": {"score": 0.25}, "erased": false,
             "inputs": {"x,\"1": 3, "mail": "hash"}, "inputs_are": "there", "hashed": ["mail"], "label": {"label": 1},
             "shadows": [{"version": "b", "no_score": "failed"}]},
            {"row": 3, "time": "t", "id": "p1_y", "version": "a", "fallback": "z", "answer": {"scores": [0.1, 0.9]},
             "erased": false, "inputs": null, "inputs_are": "pruned", "hashed": [], "label": null, "shadows": []}]});
        let text = text(&sample);
        for part in [
            "row 1  t  erased",
            "a: 0.25; label 1",
            "shadows: b (failed)",
            "hashed: mail",
            "z for a",
            "inputs: pruned",
            "seed 7",
        ] {
            assert!(text.contains(part), "'{part}' is not in\n{text}");
        }
        let table = csv(&sample).unwrap();
        let mut reader = ::csv::Reader::from_reader(table.as_bytes());
        let header = reader.headers().unwrap().clone();
        assert!(header.iter().any(|name| name == "feature_x,\"1") && header.iter().any(|name| name == "score_b"));
        assert_eq!(
            reader.records().map(|row| row.unwrap().len()).collect::<Vec<_>>(),
            [header.len(); 3]
        );
    }
}
