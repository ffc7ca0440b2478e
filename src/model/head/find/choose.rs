//! The choice among several outputs.

use super::{Evidence, Output};
use crate::model::head::source::looks_like_probabilities;
use crate::model::tensor::Data;

/// What is read.
pub(super) enum Choice<'a> {
    /// One output, or one column of it.
    Matrix(Output<'a>, Option<usize>),
    /// One output per class.
    Gathered(Vec<usize>),
    /// Labels only.
    Hard,
    /// Nothing that could be told.
    Unknown,
}

pub(super) fn choose<'a>(evidence: &Evidence<'a>) -> Result<Choice<'a>, String> {
    if let Some(name) = &evidence.settings.score_output {
        return named(evidence, name);
    }
    match evidence.scores.as_slice() {
        [] => Ok(if evidence.label.is_some() {
            Choice::Hard
        } else {
            Choice::Unknown
        }),
        [only] => Ok(Choice::Matrix(*only, None)),
        several => among(evidence, several),
    }
}

/// `name` or `name[column]`.
fn named<'a>(evidence: &Evidence<'a>, setting: &str) -> Result<Choice<'a>, String> {
    let all = || evidence.scores.iter().chain(evidence.label.iter());
    if let Some(output) = all().find(|output| output.name == setting) {
        return Ok(Choice::Matrix(*output, None));
    }
    let column = setting.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let column = column.and_then(|(name, column)| Some((name, column.parse::<usize>().ok()?)));
    if let Some((output, column)) = column.and_then(|(name, c)| Some((all().find(|o| o.name == name)?, c))) {
        if column < output.width {
            return Ok(Choice::Matrix(*output, Some(column)));
        }
        let width = output.width;
        return Err(format!(
            "score_output = \"{setting}\": the output has {width} columns, counted from 0"
        ));
    }
    let names: Vec<&str> = all().map(|output| output.name).collect();
    Err(format!(
        "score_output = \"{setting}\" is none of the outputs with a value per row: {}",
        names.join(", ")
    ))
}

fn among<'a>(evidence: &Evidence<'a>, several: &[Output<'a>]) -> Result<Choice<'a>, String> {
    if is_one_per_class(evidence, several) {
        return Ok(Choice::Gathered(several.iter().map(|output| output.number).collect()));
    }
    for word in ["prob", "logit", "score"] {
        let mut speaking = several
            .iter()
            .filter(|output| output.name.to_ascii_lowercase().contains(word));
        if let (Some(only), None) = (speaking.next(), speaking.next()) {
            return Ok(Choice::Matrix(*only, None));
        }
    }
    if evidence.settings.task.is_none() && !evidence.is_classifier() {
        return Ok(Choice::Unknown);
    }
    let names: Vec<&str> = several.iter().map(|output| output.name).collect();
    let first = names.first().copied().unwrap_or_default();
    Err(format!(
        "the outputs {} could all hold the score: add the line score_output = \"{first}\" with the right one",
        names.join(", ")
    ))
}

/// scikit-learn's `zipmap="columns"`: single columns, as many as classes, which sum to 1.
fn is_one_per_class(evidence: &Evidence<'_>, several: &[Output<'_>]) -> bool {
    let counted = evidence
        .classes
        .as_ref()
        .is_none_or(|classes| classes.len() == several.len());
    if !counted || !evidence.is_classifier() || several.iter().any(|output| output.width != 1) {
        return false;
    }
    let cell = |output: &Output<'_>, row: usize| output.data.number(row).unwrap_or(f64::NAN);
    let rows = (0..evidence.rows).flat_map(|row| several.iter().map(move |output| cell(output, row)));
    looks_like_probabilities(&Data::Fp64(rows.collect()), evidence.rows, several.len())
}
