//! Which columns an export has, and how a recorded row fills them.
//!
//! Always holds: the columns follow from the model's interface, its settings and its versions at the start of an export, not
//! from rows, so that they are the same in all its files; a feature keeps its own name unless a column of ours has it.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::types::ValueRef;
use serde_json::{Map, Value};

use super::ExportError;
use super::column::{Column, Kind};
use crate::arena::wire::decode_tensors;
use crate::history::History;
use crate::id::IdKey;
use crate::ledger::{Leaving, Said, Writer};
use crate::model::head::{Head, LabelValue};
use crate::model::interface::{Inputs, Interface};
use crate::model::onnx::Classes;
use crate::model::tensor::{Data, Datatype, Tensor};
use crate::score::{Outcome, Score, Task, VersionNo};

/// Versions whose scores have a column, the latest ones.
const MOST_VERSIONS: usize = 256;
/// The directory's part of a file's columns, as Hive's readers see it.
const DAY: &str = "day";
/// What goes before the name of a feature that a column of ours has.
const PREFIX: &str = "feature_";

/// Columns that every export has, before the features.
const FIRST: [(&str, Kind); 9] = [
    ("prediction_id", Kind::Text),
    ("caller_id", Kind::Text),
    ("row", Kind::Int),
    ("time", Kind::Time),
    ("epoch", Kind::Int),
    ("version", Kind::Text),
    ("fallback", Kind::Text),
    ("entity", Kind::Text),
    ("context", Kind::Text),
];
/// Columns that every export has, after the label.
const LAST: [(&str, Kind); 6] = [
    ("label_time", Kind::Time),
    ("weight", Kind::Double),
    ("late", Kind::Int),
    ("vote", Kind::Double),
    ("comment", Kind::Text),
    ("dispute", Kind::Text),
];
/// What the champion made of the row; the score that was answered, by whoever did, its label, and the outcome.
const ANSWER: [&str; 4] = ["outcome", "score", "predicted", "label"];

/// Where inputs go.
#[derive(Debug)]
enum Source {
    /// Feature names, in the order of the columns.
    Features(Vec<String>),
    /// Tensors by place: their elements, and their shapes.
    Tensors(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Vec<Column>,
    source: Source,
    /// Column of each version's scores, by name.
    scores: BTreeMap<String, usize>,
    names: HashMap<VersionNo, String>,
    heads: HashMap<VersionNo, Head>,
    /// How labels are read.
    head: Option<Head>,
    is_list: bool,
    pub versions_left_out: usize,
}

impl Layout {
    pub(super) fn new(reader: &Writer<'_>, history: &History<'_>) -> Result<Self, ExportError> {
        let text = history.model.interface.as_deref();
        let text =
            text.ok_or_else(|| ExportError::Refused("the model has no champion yet: nothing is recorded".into()))?;
        let interface: Interface = serde_json::from_str(text)
            .map_err(|e| ExportError::Refused(format!("the interface does not read back: {e}")))?;
        // Of those that ever answered: the others' labels are nobody's.
        let crowned = history.crowned();
        let answered = history.versions.iter().filter(|v| crowned.contains(&v.no));
        let heads: HashMap<VersionNo, Head> = answered.filter_map(|v| Some((v.no, history.head(v).ok()?))).collect();
        let champion = history.model.champion;
        let (ran, versions_left_out) = ran(reader, history)?;
        let is_list = interface.task == Some(Task::Multiclass);
        let mut taken: HashSet<String> = FIRST.iter().chain(&LAST).map(|(name, _)| (*name).to_owned()).collect();
        taken.extend(ANSWER.map(str::to_owned));
        taken.insert(DAY.into());
        // Readers such as DuckDB take names for the same that differ in capitals only.
        taken.extend(ran.iter().map(|name| score_column(name).to_lowercase()));
        let mut columns: Vec<Column> = FIRST.map(|(name, kind)| Column::new(name, kind)).into();
        let source = inputs(&interface, &history.config.record.hash, &mut taken, &mut columns);
        let score = |name: &str| match is_list {
            true => Column::list(name, Kind::Double),
            false => Column::new(name, Kind::Double),
        };
        columns.push(Column::new("outcome", Kind::Text));
        columns.push(score("score"));
        let label = label_kind(&interface);
        columns.extend(["predicted", "label"].map(|name| Column::new(name, label)));
        columns.extend(LAST.map(|(name, kind)| Column::new(name, kind)));
        let mut scores = BTreeMap::new();
        for name in ran {
            scores.insert(name.clone(), columns.len());
            columns.push(score(&score_column(&name)));
        }
        Ok(Self {
            columns,
            source,
            scores,
            names: history.versions.iter().map(|v| (v.no, v.name.clone())).collect(),
            head: champion.and_then(|no| heads.get(&no).cloned()),
            heads,
            is_list,
            versions_left_out,
        })
    }

    /// The columns, empty.
    pub(super) fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    pub(super) fn name_of(&self, version: VersionNo) -> &str {
        self.names.get(&version).map_or("?", String::as_str)
    }

    /// One row into all columns.
    pub(super) fn push(
        &self,
        columns: &mut [Column],
        row: &Leaving<'_>,
        stand_in: Option<&(VersionNo, Outcome)>,
        outcomes: &[(VersionNo, Outcome)],
        said: &Said,
        key: &IdKey,
    ) {
        let (own, scores) = columns.split_at_mut(columns.len() - self.scores.len());
        let mut own = own.iter_mut();
        let mut next = || own.next();
        let mut put = |fill: &mut dyn FnMut(&mut Column)| {
            if let Some(column) = next() {
                fill(column);
            }
        };
        let mut id = Vec::new();
        key.id_of(row.id).write(None, &mut id);
        put(&mut |c| c.text(std::str::from_utf8(&id).ok()));
        put(&mut |c| c.text(row.caller_id.as_deref()));
        put(&mut |c| c.int(i64::try_from(row.row).ok()));
        put(&mut |c| c.int(Some(row.time_ms)));
        put(&mut |c| c.int(i64::try_from(row.epoch).ok()));
        put(&mut |c| c.text(Some(self.name_of(row.version))));
        put(&mut |c| c.text(row.fallback.map(|version| self.name_of(version))));
        put(&mut |c| c.text(row.entity));
        put(&mut |c| c.text(row.context));
        self.push_inputs(row.inputs, &mut put);
        put(&mut |c| c.text(Some(word(&row.outcome))));
        let (by, answered) = stand_in.map_or((row.version, &row.outcome), |(by, answered)| (*by, answered));
        put(&mut |c| self.push_score(c, Some(answered)));
        let predicted = match answered {
            Outcome::Scored(score) => self.heads.get(&by).map(|head| head.label(score)),
            _ => None,
        };
        put(&mut |c| push_label(c, predicted.as_ref()));
        let label = row.label.as_ref();
        let truth = label.and_then(|label| label.truth.as_ref());
        let outcome = truth.and_then(|truth| Some(self.head.as_ref()?.outcome(truth)));
        put(&mut |c| push_label(c, outcome.as_ref()));
        put(&mut |c| c.int(label.map(|label| label.received_ms)));
        put(&mut |c| c.number(label.map(|label| label.weight)));
        put(&mut |c| c.int(label.map(|label| i64::from(label.late))));
        put(&mut |c| c.number(said.vote));
        put(&mut |c| c.text(said.comment.as_deref()));
        put(&mut |c| c.text(said.dispute.as_deref()));
        let mut of_version: HashMap<&str, &Outcome> = HashMap::new();
        of_version.insert(self.name_of(row.version), &row.outcome);
        let others = stand_in.into_iter().chain(outcomes);
        of_version.extend(others.map(|(no, outcome)| (self.name_of(*no), outcome)));
        for (name, column) in self.scores.keys().zip(scores) {
            self.push_score(column, of_version.get(name.as_str()).copied());
        }
    }

    fn push_score(&self, column: &mut Column, outcome: Option<&Outcome>) {
        match outcome {
            Some(Outcome::Scored(Score::Classes(all))) if self.is_list => column.numbers(all),
            Some(Outcome::Scored(Score::Binary(x) | Score::Value(x))) if !self.is_list => column.number(Some(*x)),
            _ => column.null(),
        }
    }

    fn push_inputs(&self, inputs: ValueRef<'_>, put: &mut impl FnMut(&mut dyn FnMut(&mut Column))) {
        match &self.source {
            Source::Features(names) => {
                let parsed: Option<Map<String, Value>> = match inputs {
                    ValueRef::Text(text) => serde_json::from_slice(text).ok(),
                    _ => None,
                };
                for name in names {
                    put(&mut |c| c.json(parsed.as_ref().and_then(|all| all.get(name))));
                }
            }
            Source::Tensors(count) => {
                let tensors = match inputs {
                    ValueRef::Blob(bytes) => decode_tensors(bytes).unwrap_or_default(),
                    _ => Vec::new(),
                };
                for at in 0..*count {
                    let tensor = tensors.get(at);
                    put(&mut |c| push_tensor(c, tensor));
                    put(&mut |c| match tensor {
                        Some(tensor) => {
                            let shape = tensor.shape().iter();
                            let shape: Vec<i64> = shape.map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
                            c.ints(&shape);
                        }
                        None => c.null(),
                    });
                }
            }
        }
    }
}

/// Names of the versions that were ever asked or offered rows, and how many of them are too old for a column.
fn ran(reader: &Writer<'_>, history: &History<'_>) -> Result<(Vec<String>, usize), ExportError> {
    let counted: HashSet<VersionNo> = reader
        .coverage(history.model.no)?
        .into_iter()
        .map(|(version, ..)| version)
        .collect();
    let crowned = history.crowned();
    let mut latest: Vec<&str> = Vec::new();
    for version in history.versions.iter().rev() {
        let has_run = counted.contains(&version.no) || crowned.contains(&version.no);
        if has_run && !latest.contains(&version.name.as_str()) {
            latest.push(&version.name);
        }
    }
    let left_out = latest.len().saturating_sub(MOST_VERSIONS);
    latest.truncate(MOST_VERSIONS);
    latest.sort_unstable();
    Ok((latest.into_iter().map(str::to_owned).collect(), left_out))
}

fn score_column(version: &str) -> String {
    format!("score_{version}")
}

fn inputs(interface: &Interface, hashed: &[String], taken: &mut HashSet<String>, columns: &mut Vec<Column>) -> Source {
    let mut named = |name: &str| {
        let mut own = name.to_owned();
        while !taken.insert(own.to_lowercase()) {
            own.insert_str(0, PREFIX);
        }
        own
    };
    match &interface.inputs {
        Inputs::Features { features, .. } => {
            for feature in features {
                let kind = if hashed.contains(&feature.name) {
                    Kind::Text
                } else {
                    kind_of(feature.datatype)
                };
                columns.push(Column::new(named(&feature.name), kind));
            }
            Source::Features(features.iter().map(|feature| feature.name.clone()).collect())
        }
        Inputs::Tensors { signature, .. } => {
            for input in &signature.inputs {
                columns.push(Column::list(named(&input.name), kind_of(input.datatype)));
                columns.push(Column::list(named(&format!("shape_{}", input.name)), Kind::Int));
            }
            Source::Tensors(signature.inputs.len())
        }
    }
}

fn kind_of(datatype: Datatype) -> Kind {
    match datatype {
        Datatype::Bytes => Kind::Text,
        Datatype::Fp64 => Kind::Double,
        Datatype::Fp16 | Datatype::Fp32 => Kind::Float,
        _ => Kind::Int,
    }
}

fn label_kind(interface: &Interface) -> Kind {
    match (interface.task, &interface.classes) {
        (None, _) => Kind::Text,
        (Some(Task::Regression), _) => Kind::Double,
        (Some(_), Some(Classes::Names(_))) => Kind::Text,
        (Some(_), _) => Kind::Int,
    }
}

fn push_label(column: &mut Column, label: Option<&LabelValue>) {
    match label {
        None => column.null(),
        Some(LabelValue::Int(x)) if column.kind == Kind::Text => column.text(Some(&x.to_string())),
        Some(LabelValue::Int(x)) => column.int(Some(*x)),
        Some(LabelValue::Text(text)) => column.text(Some(text)),
        Some(LabelValue::Number(x)) => column.number(Some(*x)),
    }
}

/// Row-major; the shape stands in the column beside it.
fn push_tensor(column: &mut Column, tensor: Option<&Tensor>) {
    let Some(tensor) = tensor else { return column.null() };
    match tensor.data() {
        Data::Bytes(texts) => column.texts((0..texts.len()).map(|at| texts.get(at).unwrap_or_default())),
        Data::Int64(all) => column.ints(all),
        data => {
            let numbers: Vec<f64> = (0..data.len()).map(|at| data.number(at).unwrap_or(f64::NAN)).collect();
            match column.kind {
                Kind::Int => {
                    #[expect(clippy::cast_possible_truncation, reason = "small integers, or booleans")]
                    let whole: Vec<i64> = numbers.iter().map(|x| *x as i64).collect();
                    column.ints(&whole);
                }
                _ => column.numbers(&numbers),
            }
        }
    }
}

/// What became of the row at the champion.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Scored(_) => "scored",
        Outcome::Failed => "failed",
        Outcome::Uncovered => "uncovered",
        Outcome::Unread => "unread",
        Outcome::Shed(reason) => reason.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_keeps_its_name_unless_a_column_has_it() {
        let mut taken: HashSet<String> = ["label", "day"].map(str::to_owned).into();
        let feature = |name: &str| crate::batch::Feature {
            name: name.into(),
            datatype: Datatype::Fp32,
        };
        let names = ["age", "Label", "day", "feature_day", "AGE"];
        let interface = Interface {
            inputs: Inputs::Features {
                features: names.map(feature).into(),
                columns: 5,
                native: crate::model::signature::Signature::default(),
                names: None,
            },
            task: Some(Task::Binary),
            classes: None,
        };
        let mut columns = Vec::new();
        inputs(&interface, &["age".into()], &mut taken, &mut columns);
        let made: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(
            made,
            [
                "age",
                "feature_Label",
                "feature_day",
                "feature_feature_day",
                "feature_AGE"
            ]
        );
        assert_eq!((columns[0].kind, columns[1].kind), (Kind::Text, Kind::Float));
    }
}
