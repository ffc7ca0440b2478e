//! Where the scores stand in the outputs, and how one row of them is read.

use super::Link;
use crate::model::onnx::Classes;
use crate::model::tensor::{Data, Tensor};

/// What a row says whose score is NaN or infinite.
pub(super) const NOT_FINITE: &str = "the score is not finite";

/// How far rounding may carry a probability out of [0, 1], and a row's sum from 1.
const ROUNDING: f64 = 1e-3;

/// Where the scores stand.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// One output `[rows, width]` or `[rows]`.
    Matrix {
        output: usize,
        width: usize,
        /// Only this column counts.
        column: Option<usize>,
        link: Link,
    },
    /// One output `[rows]` per class.
    Gathered(Vec<usize>),
    /// Labels only: the scores are 0 and 1.
    Hard { output: usize },
    /// Nothing is read.
    Nothing,
}

impl Source {
    pub(super) fn wanted(&self) -> Vec<usize> {
        match self {
            Self::Matrix { output, .. } | Self::Hard { output } => vec![*output],
            Self::Gathered(outputs) => outputs.clone(),
            Self::Nothing => Vec::new(),
        }
    }

    /// The wanted outputs, checked against the number of rows.
    pub(super) fn table<'a>(&'a self, outputs: &'a [Tensor], rows: usize) -> Result<Table<'a>, String> {
        let (expected, width) = match self {
            Self::Matrix { width, .. } => (1, *width),
            Self::Gathered(outputs) => (outputs.len(), 1),
            Self::Hard { .. } => (1, 1),
            Self::Nothing => (0, 0),
        };
        if outputs.len() != expected {
            return Err(format!(
                "{expected} outputs are read for the score, got {}",
                outputs.len()
            ));
        }
        for output in outputs {
            let count = output.data().len();
            if rows.checked_mul(width) != Some(count) {
                return Err(format!(
                    "an output has {count} values for {rows} rows, where each row has {width}"
                ));
            }
        }
        Ok(Table { source: self, outputs })
    }
}

/// Outputs of one run, ready to be read row by row.
pub(super) struct Table<'a> {
    source: &'a Source,
    outputs: &'a [Tensor],
}

impl Table<'_> {
    /// A regression's value.
    pub(super) fn value(&self, row: usize) -> Result<f64, String> {
        match self.source {
            Source::Matrix { width, column, .. } => finite(self.cell(0, row * width + column.unwrap_or(0))?),
            Source::Hard { .. } => finite(self.cell(0, row)?),
            Source::Gathered(_) | Source::Nothing => Err("several outputs make no single value".into()),
        }
    }

    /// The probability of the class `positive` (0 or 1).
    pub(super) fn binary(&self, row: usize, positive: usize, classes: Option<&Classes>) -> Result<f64, String> {
        let (width, column, link) = match self.source {
            Source::Matrix {
                width, column, link, ..
            } => (*width, *column, *link),
            _ => {
                let all = self.classes(row, classes)?;
                return all
                    .get(positive)
                    .copied()
                    .ok_or_else(|| "the positive class has no score".into());
            }
        };
        if link == Link::Softmax && width == 2 && column.is_none() {
            return self
                .classes(row, classes)
                .and_then(|all| all.get(positive).copied().ok_or_else(String::new));
        }
        if width == 2 && column.is_none() {
            return probability(link, self.cell(0, row * 2 + positive.min(1))?);
        }
        // A single column is the second class's.
        let second = probability(link, self.cell(0, row * width + column.unwrap_or(0))?)?;
        Ok(if positive == 0 { 1.0 - second } else { second })
    }

    /// The probability per class.
    pub(super) fn classes(&self, row: usize, classes: Option<&Classes>) -> Result<Box<[f64]>, String> {
        match self.source {
            Source::Matrix { width, link, .. } => {
                let raw: Result<Vec<f64>, String> = (0..*width)
                    .map(|column| self.cell(0, row * width + column).and_then(finite))
                    .collect();
                distribution(*link, raw?)
            }
            Source::Gathered(outputs) => {
                let raw: Result<Vec<f64>, String> = (0..outputs.len())
                    .map(|output| self.cell(output, row).and_then(finite))
                    .collect();
                distribution(Link::Identity, raw?)
            }
            Source::Hard { .. } => self.hard(row, classes),
            Source::Nothing => Err("no output is read for the score".into()),
        }
    }

    fn hard(&self, row: usize, classes: Option<&Classes>) -> Result<Box<[f64]>, String> {
        let classes = classes.ok_or("the model's classes are unknown")?;
        let data = self.outputs.first().map(Tensor::data).ok_or("the label is missing")?;
        let at = match (data, classes) {
            (Data::Bytes(text), Classes::Names(names)) => {
                let label = text.get(row);
                names.iter().position(|name| Some(name.as_bytes()) == label)
            }
            (_, Classes::Ints(ints)) => {
                let label = data.number(row);
                #[expect(clippy::cast_precision_loss, reason = "labels are small")]
                ints.iter()
                    .position(|&class| label.is_some_and(|x| (x - class as f64).abs() < 0.5))
            }
            _ => None,
        };
        let at = at.ok_or("the label is none of the classes")?;
        Ok((0..classes.len())
            .map(|class| f64::from(u8::from(class == at)))
            .collect())
    }

    fn cell(&self, output: usize, at: usize) -> Result<f64, String> {
        let data = self.outputs.get(output).map(Tensor::data);
        data.and_then(|data| data.number(at))
            .ok_or_else(|| "the score is not a number".into())
    }
}

fn finite(x: f64) -> Result<f64, String> {
    if x.is_finite() { Ok(x) } else { Err(NOT_FINITE.into()) }
}

fn probability(link: Link, raw: f64) -> Result<f64, String> {
    let raw = finite(raw)?;
    match link {
        Link::Identity => inside(raw),
        Link::Logit | Link::Softmax => Ok(1.0 / (1.0 + libm::exp(-raw))),
    }
}

fn inside(p: f64) -> Result<f64, String> {
    if (-ROUNDING..=1.0 + ROUNDING).contains(&p) {
        return Ok(p.clamp(0.0, 1.0));
    }
    Err(format!(
        "the score {p} is not a probability: add the line link = \"logit\", if it is a margin"
    ))
}

fn distribution(link: Link, mut raw: Vec<f64>) -> Result<Box<[f64]>, String> {
    match link {
        Link::Identity => raw.iter_mut().try_for_each(|p| inside(*p).map(|inside| *p = inside))?,
        Link::Logit => raw.iter_mut().for_each(|x| *x = 1.0 / (1.0 + libm::exp(-*x))),
        Link::Softmax => {
            let largest = raw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            raw.iter_mut().for_each(|x| *x = libm::exp(*x - largest));
            let sum: f64 = raw.iter().sum();
            raw.iter_mut().for_each(|x| *x /= sum);
        }
    }
    Ok(raw.into_boxed_slice())
}

/// True when these rows could be probabilities: inside [0, 1], and with more than one per row summing to 1. Rows that
/// are not finite say nothing.
pub(super) fn looks_like_probabilities(data: &Data, rows: usize, width: usize) -> bool {
    let cell = |at: usize| data.number(at).unwrap_or(f64::NAN);
    (0..rows).all(|row| {
        let cells = (0..width).map(|column| cell(row * width + column));
        if cells.clone().any(|p| !p.is_finite()) {
            return true;
        }
        let inside = cells.clone().all(|p| (-ROUNDING..=1.0 + ROUNDING).contains(&p));
        inside && (width == 1 || (cells.sum::<f64>() - 1.0).abs() <= 10.0 * ROUNDING)
    })
}
