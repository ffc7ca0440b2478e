//! One recorded answer, run again: the inputs as they were recorded, through the bytes that answered, in the sandbox.
//!
//! Always holds: nothing is written; a version runs only when its stored bytes are what their digest says; what cannot be
//! compared says why, and counts neither as the same nor as different.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::challenger::batch;
use super::progress::Progress;
use super::workshop::{Made, Workshop, schema};
use crate::batch::Batch;
use crate::history::History;
use crate::id::IdKey;
use crate::intake::store::compare;
use crate::ledger::{Ledger, LedgerError, Writer};
use crate::model::facts::{Facts, runtime};
use crate::model::interface::Interface;
use crate::model::layout::Layout;
use crate::recorder::Event;
use crate::score::{ModelNo, Outcome, Score, VersionNo};

/// What became of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Bit for bit.
    Equal,
    /// Within the tolerance.
    Close,
    /// Beyond it.
    Differs,
    /// It cannot be compared, see the reason.
    Unknown,
}

/// One version's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The version.
    pub version: String,
    /// Digest of the bytes that ran.
    pub digest: String,
    /// `champion`, `fallback` or `shadow`.
    pub role: &'static str,
    /// As it was recorded: a score, scores, or a word.
    pub recorded: Value,
    /// As it is now.
    pub recomputed: Value,
    /// Whether they are the same.
    pub found: Found,
    /// Largest difference of a score.
    pub difference: Option<f64>,
    /// Why it cannot be compared, or what to think of when it differs.
    pub note: Option<String>,
}

/// A row that was run again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recomputed {
    /// The model.
    pub model: String,
    /// Row number.
    pub row: u64,
    /// Request time.
    #[serde(serialize_with = "crate::time::serialize_ms")]
    pub time: i64,
    /// The largest difference that counts as none, relative from 1 on.
    pub tolerance: f64,
    /// The champion's answer first.
    pub answers: Vec<Answer>,
}

/// A row as it was recorded.
struct Recorded {
    id: i64,
    row: u64,
    time_ms: i64,
    version: VersionNo,
    fallback: Option<VersionNo>,
    outcome: Outcome,
    inputs: Option<Vec<u8>>,
}

/// Runs the row of this id again: a prediction id, or the caller's own.
///
/// # Errors
/// There is no such row, or nothing can be run here.
pub fn recompute(state: &Path, model: Option<&str>, id: &str, tolerance: f64) -> Result<Recomputed, String> {
    let ledger = Ledger::open_to_read(state).map_err(|e| e.to_string())?;
    let reader = ledger.reader();
    let number = ours(state, id)?;
    let model = match (model, number) {
        (Some(model), _) => Some(model.to_owned()),
        (None, Some(number)) => model_of(&reader, number).map_err(|e| e.to_string())?,
        (None, None) => None,
    };
    let history = History::read(&reader, model.as_deref()).map_err(|e| e.to_string())?;
    let recorded = find(&reader, &history, number, id)?;
    let again = Again::new(&reader, &history, state, tolerance)?;
    let answers = again.answers(&recorded)?;
    Ok(Recomputed {
        model: history.model.name.clone(),
        row: recorded.row,
        time: recorded.time_ms,
        tolerance,
        answers,
    })
}

/// The number of a generated id.
fn ours(state: &Path, id: &str) -> Result<Option<i64>, String> {
    if !id.starts_with("p1_") {
        return Ok(None);
    }
    let path = state.join("ids.key");
    let key = IdKey::load(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let parsed = key.parse(id);
    let number = parsed.map(|parsed| parsed.number);
    number
        .map(Some)
        .ok_or_else(|| format!("'{}' is no id that this gateway gave out", crate::decode::clip(id)))
}

fn model_of(reader: &Writer<'_>, id: i64) -> Result<Option<String>, LedgerError> {
    let Some((position, _)) = reader.position(id)? else {
        return Ok(None);
    };
    for name in reader.model_names()? {
        if reader.known_model(&name)?.is_some_and(|row| row.no == position.model) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn find(reader: &Writer<'_>, history: &History<'_>, number: Option<i64>, id: &str) -> Result<Recorded, String> {
    let model: ModelNo = history.model.no;
    let nothing = || {
        format!(
            "nothing is held on '{}': it was never recorded (opted out, sampled out, pinned, shed), or was erased or \
             pruned; it cannot be recomputed",
            crate::decode::clip(id)
        )
    };
    let number = match number {
        Some(number) => number,
        None => reader
            .id_of_caller(model, id)
            .map_err(|e| e.to_string())?
            .ok_or_else(nothing)?,
    };
    let position = reader.position(number).map_err(|e| e.to_string())?;
    let (position, _) = position
        .filter(|(position, _)| position.model == model)
        .ok_or_else(nothing)?;
    let mut found = None;
    let read = reader.leaving(
        model,
        (position.row, position.row),
        |row| -> Result<bool, LedgerError> {
            found = Some(Recorded {
                id: row.id,
                row: row.row,
                time_ms: row.time_ms,
                version: row.version,
                fallback: row.fallback,
                outcome: row.outcome,
                inputs: row.inputs.as_bytes().ok().map(<[u8]>::to_vec),
            });
            Ok(false)
        },
    );
    read.map_err(|e| e.to_string())?;
    found.filter(|row| row.id == number).ok_or_else(nothing)
}

/// What a recomputation needs of a model.
struct Again<'a> {
    reader: &'a Writer<'a>,
    history: &'a History<'a>,
    interface: Interface,
    workshop: Workshop,
    blobs: PathBuf,
    tolerance: f64,
    /// When what scores mean was changed: rows from before cannot be read as they were.
    changes: Vec<Change>,
}

/// Rows up to this one, or from before this time, were scored in another way.
struct Change {
    /// All versions where there is none.
    version: Option<VersionNo>,
    row: Option<u64>,
    time_ms: i64,
}

impl<'a> Again<'a> {
    fn new(reader: &'a Writer<'a>, history: &'a History<'a>, state: &Path, tolerance: f64) -> Result<Self, String> {
        let text = history.model.interface.as_deref();
        let text = text.ok_or("the model has no champion yet")?;
        let interface = serde_json::from_str(text).map_err(|e| format!("the interface does not read back: {e}"))?;
        let journal = reader.dated_journal(history.model.no).map_err(|e| e.to_string())?;
        let changes = journal.into_iter().filter_map(|dated| {
            let event: Event = serde_json::from_str(&dated.entry.event).ok()?;
            let (version, row) = match event {
                Event::Calibration { version, clock, .. } => (Some(version), Some(clock.row)),
                Event::Restart => (None, None),
                _ => return None,
            };
            Some(Change {
                version,
                row,
                time_ms: dated.time_ms,
            })
        });
        Ok(Self {
            reader,
            history,
            interface,
            workshop: Workshop::new()?,
            blobs: state.join("blobs/sha256"),
            tolerance,
            changes: changes.collect(),
        })
    }

    fn answers(&self, row: &Recorded) -> Result<Vec<Answer>, String> {
        let outcomes = self.reader.outcomes(row.id).map_err(|e| e.to_string())?;
        let mut answers = vec![self.answer(row, row.version, "champion", Some(&row.outcome))];
        if let Some(fallback) = row.fallback {
            let answered = self.reader.fallback(row.id).map_err(|e| e.to_string())?;
            // An older program kept it only where it shadowed, too.
            let recorded = answered.iter().chain(&outcomes).find(|(no, _)| *no == fallback);
            answers.push(self.answer(row, fallback, "fallback", recorded.map(|(_, outcome)| outcome)));
        }
        for (no, outcome) in &outcomes {
            if Some(*no) != row.fallback {
                answers.push(self.answer(row, *no, "shadow", Some(outcome)));
            }
        }
        Ok(answers)
    }

    fn answer(&self, row: &Recorded, no: VersionNo, role: &'static str, recorded: Option<&Outcome>) -> Answer {
        let version = self.history.versions.iter().find(|v| v.no == no);
        let digest = version.map(|v| v.stored_digest.as_ref().unwrap_or(&v.digest));
        let mut answer = Answer {
            version: version.map_or_else(|| format!("number {}", no.0), |v| v.name.clone()),
            digest: digest.cloned().unwrap_or_default(),
            role,
            recorded: recorded.map_or(Value::Null, said),
            recomputed: Value::Null,
            found: Found::Unknown,
            difference: None,
            note: None,
        };
        let Some(recorded) = recorded else {
            answer.note = Some("its answer is not recorded: only that it answered instead of the champion".into());
            return answer;
        };
        if let Outcome::Shed(_) | Outcome::Unread = recorded {
            answer.note = Some("no score was recorded that could be compared".into());
            return answer;
        }
        match self.run(row, no, recorded) {
            Err(why) => answer.note = Some(why),
            Ok(now) => {
                answer.recomputed = said(&now);
                answer.difference = difference(recorded, &now);
                answer.found = self.judge(recorded, &now);
                if answer.found == Found::Differs
                    && let Some(why) = self.changed_since(row, no)
                {
                    (answer.found, answer.note) = (Found::Unknown, Some(why));
                }
                if answer.found == Found::Differs {
                    answer.note = self.remark(row, no);
                }
            }
        }
        answer
    }

    /// What the version makes of the row now.
    fn run(&self, row: &Recorded, no: VersionNo, recorded: &Outcome) -> Result<Outcome, String> {
        let version = self.history.versions.iter().find(|v| v.no == no);
        let version = version.ok_or("the ledger has lost the version")?;
        let facts = self
            .history
            .facts(version)
            .ok_or("what its admission found is not known any more")?;
        let inputs = row.inputs.as_deref();
        let inputs = inputs.ok_or("the row's inputs are not there any more: they were pruned, or never recorded")?;
        let inputs = self.usable(&facts, inputs, recorded)?;
        let made = self.interface.join(&facts, |_| true);
        let (_, layout) = made.map_err(|why| format!("it does not fit the interface any more: {why:?}"))?;
        let digest = version.stored_digest.as_ref().unwrap_or(&version.digest);
        let folder = self.blobs.join(digest.trim_start_matches("sha256:"));
        compare(&folder, digest).map_err(|why| format!("its bytes cannot be run: {why}"))?;
        let head = self.history.head(version)?;
        let made = Made::stored(&version.name, facts, head, folder.join("model.onnx"));
        let schema = schema(&self.interface);
        let batches = batch(&mut vec![inputs], self.interface.is_features(), &schema)?;
        let [batch]: [Arc<Batch>; 1] = batches.try_into().map_err(|_| "the inputs do not read back")?;
        let bar = Progress::new("recomputing", 1);
        let outcomes = self.workshop.score(&made, &layout, &[batch], &bar)?;
        outcomes.into_iter().next().ok_or_else(|| "it gave no answer".into())
    }

    /// The inputs, where all that the version takes was recorded as it was.
    fn usable(&self, facts: &Facts, inputs: &[u8], recorded: &Outcome) -> Result<Vec<u8>, String> {
        if !self.interface.is_features() {
            return Ok(inputs.to_vec());
        }
        let mut values: Map<String, Value> =
            serde_json::from_slice(inputs).map_err(|e| format!("the row's inputs do not read back: {e}"))?;
        let taken = Layout::features(&facts.signature, facts.names.as_deref()).unwrap_or_default();
        for feature in &taken {
            match values.get(&feature.name) {
                Some(Value::String(text)) if is_pseudonym(text) => {
                    return Err(format!(
                        "of the feature '{}' only a hash was recorded (record.hash)",
                        feature.name
                    ));
                }
                None if !matches!(recorded, Outcome::Uncovered) => {
                    return Err(format!("the feature '{}' was not recorded (record.drop)", feature.name));
                }
                _ => {}
            }
        }
        // What others take may be a hash where a number is expected.
        values.retain(|name, _| taken.iter().any(|feature| feature.name == *name));
        serde_json::to_vec(&values).map_err(|e| e.to_string())
    }

    fn judge(&self, recorded: &Outcome, now: &Outcome) -> Found {
        let bits = |score: &Score| -> Vec<u64> { numbers(score).iter().map(|x| x.to_bits()).collect() };
        match (recorded, now) {
            (Outcome::Scored(a), Outcome::Scored(b)) => {
                let (of_a, of_b) = (numbers(a), numbers(b));
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= self.tolerance * a.abs().max(b.abs()).max(1.0);
                if bits(a) == bits(b) {
                    Found::Equal
                } else if of_a.len() == of_b.len() && of_a.iter().zip(&of_b).all(near) {
                    Found::Close
                } else {
                    Found::Differs
                }
            }
            (Outcome::Failed, Outcome::Failed) | (Outcome::Uncovered, Outcome::Uncovered) => Found::Equal,
            _ => Found::Differs,
        }
    }

    /// Whether scores were read in another way when the row was recorded.
    fn changed_since(&self, row: &Recorded, no: VersionNo) -> Option<String> {
        let is_later = |change: &&Change| {
            change.version.is_none_or(|version| version == no)
                && change.row.map_or(change.time_ms >= row.time_ms, |last| last >= row.row)
        };
        let change = self.changes.iter().find(is_later)?;
        let at = crate::time::rfc3339(change.time_ms);
        Some(format!(
            "what its scores mean was changed at {at}, after this row (calibration, link or score_output)"
        ))
    }

    fn remark(&self, row: &Recorded, no: VersionNo) -> Option<String> {
        let version = self.history.versions.iter().find(|v| v.no == no)?;
        let (then, now) = (self.history.facts(version)?.runtime, runtime());
        let has_null = row
            .inputs
            .as_deref()
            .is_some_and(|inputs| inputs.windows(5).any(|window| window == b":null"));
        if then != now {
            return Some(format!(
                "it was admitted under ONNX Runtime {then}, and ran under {now} now"
            ));
        }
        has_null.then(|| "a feature was null, which stands for an infinite number, too".into())
    }
}

/// What is recorded where a value was hashed.
fn is_pseudonym(text: &str) -> bool {
    let digits = text.strip_prefix("h_");
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn numbers(score: &Score) -> Vec<f64> {
    match score {
        Score::Binary(x) | Score::Value(x) => vec![*x],
        Score::Classes(all) => all.to_vec(),
    }
}

fn difference(a: &Outcome, b: &Outcome) -> Option<f64> {
    let (Outcome::Scored(a), Outcome::Scored(b)) = (a, b) else {
        return None;
    };
    let (a, b) = (numbers(a), numbers(b));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).reduce(f64::max)
}

fn said(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Scored(Score::Binary(x) | Score::Value(x)) => Value::from(*x),
        Outcome::Scored(Score::Classes(all)) => all.iter().copied().map(Value::from).collect(),
        Outcome::Failed => "failed".into(),
        Outcome::Uncovered => "uncovered".into(),
        Outcome::Unread => "unread".into(),
        Outcome::Shed(reason) => reason.name().into(),
    }
}

impl Recomputed {
    /// Answers that differ.
    pub fn differences(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(|answer| answer.found == Found::Differs)
    }

    /// True when not one answer could be compared.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.answers.iter().all(|answer| answer.found == Found::Unknown)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let at = crate::time::rfc3339(self.time);
        let mut out = format!("row {} of {}, answered at {at}\n", self.row, self.model);
        let width = self
            .answers
            .iter()
            .map(|a| a.version.chars().count())
            .max()
            .unwrap_or(0);
        for answer in &self.answers {
            let what = match (answer.found, &answer.note) {
                (Found::Equal, _) => format!("{}, the same bit for bit", answer.recorded),
                (Found::Close, _) => format!(
                    "recorded {}, now {}: within {}",
                    answer.recorded, answer.recomputed, self.tolerance
                ),
                (Found::Differs, note) => format!(
                    "recorded {}, now {}: DIFFERS{}",
                    answer.recorded,
                    answer.recomputed,
                    note.as_ref().map_or_else(String::new, |note| format!(" ({note})"))
                ),
                (Found::Unknown, note) => {
                    format!("cannot be compared: {}", note.as_deref().unwrap_or("nobody knows why"))
                }
            };
            out += &format!("  {:<9}{:<width$}  {what}\n", answer.role, answer.version);
        }
        out
    }
}
