//! What every model of the stream says of every row, computed here and not by the gateway: the yardstick for the
//! served scores, and what hindsight needs.

use std::collections::BTreeMap;
use std::ops::Range;

use super::stream::{Column, Model, Stream};
use crate::model::session::Session;
use crate::model::tensor::{Data, Tensor, Text};

/// Rows per run: large enough that the run's own cost vanishes, small enough for any machine.
const CHUNK: usize = 4096;

/// Probability of the positive class per model (in the manifest's order) and row.
#[derive(Debug)]
pub struct Table {
    first_row: usize,
    models: Vec<Vec<f64>>,
}

impl Table {
    /// Runs every model over `rows`.
    ///
    /// # Errors
    /// A shipped model does not load, does not run, or gives something other than probabilities.
    pub fn compute(stream: &Stream, rows: Range<usize>) -> Result<Self, String> {
        let one = |model: &Model| score(stream, model, rows.clone()).map_err(|e| format!("{}: {e}", model.file));
        let models: Result<_, String> = stream.manifest.models.iter().map(one).collect();
        Ok(Self {
            first_row: rows.start,
            models: models?,
        })
    }

    /// A table of given probabilities, the first of each model being that of `first_row`.
    #[must_use]
    pub fn of(first_row: usize, models: Vec<Vec<f64>>) -> Self {
        Self { first_row, models }
    }

    /// The model's probability for a row; not a number outside the table.
    #[must_use]
    pub fn get(&self, model: usize, row: usize) -> f64 {
        let at = row.checked_sub(self.first_row);
        let value = at.and_then(|at| self.models.get(model)?.get(at).copied());
        value.unwrap_or(f64::NAN)
    }

    /// Number of models.
    #[must_use]
    pub fn models(&self) -> usize {
        self.models.len()
    }
}

fn score(stream: &Stream, model: &Model, rows: Range<usize>) -> Result<Vec<f64>, String> {
    let mut session = Session::load(&stream.model_path(model), 1).map_err(|e| e.to_string())?;
    let signature = session.signature().clone();
    let wanted = &model.outputs.probabilities;
    let output = signature.outputs.iter().position(|o| o.name == *wanted);
    let output = output.ok_or_else(|| format!("there is no output '{wanted}'"))?;
    let mut scores = Vec::with_capacity(rows.len());
    for start in rows.clone().step_by(CHUNK) {
        let chunk = start..(start + CHUNK).min(rows.end);
        let mut feeds: BTreeMap<String, Tensor> = feeds(stream, model, chunk.clone())?;
        let missing = |name: &str| format!("the manifest knows no input '{name}'");
        let inputs: Result<Vec<Tensor>, String> = signature
            .inputs
            .iter()
            .map(|input| feeds.remove(&input.name).ok_or_else(|| missing(&input.name)))
            .collect();
        let outputs = session.run(&inputs?, &[output]).map_err(|e| e.to_string())?;
        let probabilities = outputs.first().ok_or("no output came back")?;
        for row in 0..chunk.len() {
            let positive = probabilities.data().number(row * 2 + 1);
            scores.push(positive.ok_or("the output has no two probabilities per row")?);
        }
    }
    Ok(scores)
}

/// The model's inputs by name for these rows.
fn feeds(stream: &Stream, model: &Model, rows: Range<usize>) -> Result<BTreeMap<String, Tensor>, String> {
    let column = |name: &String| {
        stream
            .column(name)
            .ok_or_else(|| format!("the stream has no column '{name}'"))
    };
    if let Some(input) = &model.tensor_input {
        let columns: Result<Vec<&Column>, String> = model.features.iter().map(column).collect();
        let columns = columns?;
        let cells = rows.clone().flat_map(|row| columns.iter().map(move |c| number(c, row)));
        let data = Data::Fp32(cells.collect());
        let tensor = Tensor::new(vec![rows.len(), columns.len()], data).ok_or("misshapen input")?;
        return Ok(BTreeMap::from([(input.clone(), tensor)]));
    }
    let mut feeds = BTreeMap::new();
    for name in &model.features {
        let data = match column(name)? {
            Column::Texts(values) => Data::Bytes(text(values, rows.clone())),
            numbers @ Column::Numbers(_) => Data::Fp32(rows.clone().map(|row| number(numbers, row)).collect()),
        };
        let tensor = Tensor::new(vec![rows.len(), 1], data).ok_or("misshapen input")?;
        feeds.insert(name.clone(), tensor);
    }
    Ok(feeds)
}

#[expect(clippy::cast_possible_truncation, reason = "the models take 32-bit numbers")]
fn number(column: &Column, row: usize) -> f32 {
    match column {
        Column::Numbers(values) => values.get(row).map_or(f32::NAN, |&v| v as f32),
        Column::Texts(_) => f32::NAN,
    }
}

fn text(values: &[String], rows: Range<usize>) -> Text {
    let mut text = Text::default();
    for value in values.get(rows).unwrap_or_default() {
        text.push(value.as_bytes());
    }
    text
}
