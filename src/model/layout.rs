//! How a version's inputs are filled from a request's rows.
//!
//! Always holds: a bound layout fits its version's signature, so that a covered row can always be laid out; features
//! are found by name once, when the layout is bound, and by number afterwards.
//! Leaves to others: the schema (`registry`), decoding (`decode`), running (`session`).

mod cells;
pub(crate) mod native;
mod tensors;

use std::borrow::Cow;
use std::ops::Range;

use super::signature::{Signature, TensorSpec};
use super::tensor::{Datatype, Tensor};
use crate::batch::{Batch, Feature, Rows, Schema};

/// A version's own layout, bound to its model's interface.
#[derive(Debug, Clone)]
pub struct Layout(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// One input `[rows, 1]` per feature.
    Columns(Vec<Column>),
    /// One input `[rows, features]`.
    Matrix(Vec<Column>),
    /// The interface's own tensors, by the version's order.
    Tensors {
        /// For each of the version's inputs the interface's number.
        order: Vec<usize>,
        /// Rows of several requests may share a run.
        batched: bool,
    },
}

/// One feature as the version wants it.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// In the model's schema.
    number: u32,
    /// Of the version's input.
    datatype: Datatype,
}

impl Layout {
    /// The named features that a version takes, in its own order, or `None` when it has no named features.
    /// `names` are the declared column names of a single-tensor model.
    #[must_use]
    pub fn features(signature: &Signature, names: Option<&[String]>) -> Option<Vec<Feature>> {
        Self::named_features(signature, names).ok()
    }

    /// As [`Layout::features`].
    ///
    /// # Errors
    /// Why it has no named features.
    pub fn named_features(signature: &Signature, names: Option<&[String]>) -> Result<Vec<Feature>, String> {
        let own = own_features(signature, names)?;
        let feature = |(name, datatype): (String, Datatype)| Feature {
            name,
            datatype: feature_type(datatype),
        };
        Ok(own.into_iter().map(feature).collect())
    }

    /// Binds a version with named features to the model's schema.
    ///
    /// # Errors
    /// Names the feature that the schema lacks, or that is text here and a number there.
    pub fn bind_features(signature: &Signature, names: Option<&[String]>, schema: &Schema) -> Result<Self, String> {
        let own = own_features(signature, names)?;
        let columns = own
            .into_iter()
            .map(|(name, datatype)| column(name, datatype, schema))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(if signature.is_columns() {
            Kind::Columns(columns)
        } else {
            Kind::Matrix(columns)
        }))
    }

    /// Binds a version to a `tensors` interface (the first champion's signature).
    ///
    /// # Errors
    /// Names the input or output that differs by name, datatype or shape.
    pub fn bind_tensors(signature: &Signature, interface: &Signature) -> Result<Self, String> {
        Ok(Self(Kind::Tensors {
            order: tensors::bind(signature, interface)?,
            batched: signature.has_dynamic_rows(),
        }))
    }

    /// The features of its only tensor's columns, in order; `None` where its inputs are others.
    #[must_use]
    pub fn matrix(&self) -> Option<Vec<u32>> {
        match &self.0 {
            Kind::Matrix(columns) => Some(columns.iter().map(|column| column.number).collect()),
            Kind::Columns(_) | Kind::Tensors { .. } => None,
        }
    }

    /// The first feature that the version needs and row `row` does not carry, in a form that the version can take: a
    /// missing value is one only where the input is a float, and a fraction is none for an integer.
    #[must_use]
    pub fn uncovered<'a>(&'a self, batch: &Batch, row: usize) -> Option<&'a str> {
        let (Kind::Columns(columns) | Kind::Matrix(columns)) = &self.0 else {
            return None;
        };
        let lacking = match batch {
            Batch::Features(rows) => columns.iter().find(|column| !cells::fits(rows, row, column)),
            Batch::Tensors { .. } => match native::nameless_row(batch, row) {
                Some(rows) => columns.iter().find(|column| !cells::fits(&rows, 0, column)),
                None => columns.first(),
            },
        };
        lacking.map(|column| column.name.as_str())
    }

    /// True when every row carries what the version needs.
    #[must_use]
    pub fn covers(&self, batch: &Batch) -> bool {
        if let (Kind::Columns(columns) | Kind::Matrix(columns), Batch::Features(rows)) = (&self.0, batch)
            && is_whole(rows, columns)
        {
            return true;
        }
        (0..batch.rows()).all(|row| self.uncovered(batch, row).is_none())
    }

    /// The version's inputs for these rows, one part after the other. All rows must be covered. Tensors that came as the
    /// version takes them are lent, not copied.
    ///
    /// # Errors
    /// A row that is not covered, or tensors that cannot be joined.
    pub fn feeds<'a>(&self, parts: &[(&'a Batch, Range<usize>)]) -> Result<Cow<'a, [Tensor]>, String> {
        if let [(batch, range)] = parts
            && *range == (0..batch.rows())
            && let Some(lent) = self.as_it_is(batch)
        {
            return Ok(Cow::Borrowed(lent));
        }
        self.laid_out(parts).map(Cow::Owned)
    }

    /// The version's inputs, where the request came as just these.
    fn as_it_is<'a>(&self, batch: &'a Batch) -> Option<&'a [Tensor]> {
        match (&self.0, batch) {
            (Kind::Tensors { order, .. }, Batch::Tensors { inputs, .. }) => {
                let is_own = order.len() == inputs.len() && order.iter().copied().eq(0..inputs.len());
                is_own.then_some(inputs.as_slice())
            }
            (Kind::Matrix(columns), Batch::Features(rows)) => own_table(rows, columns).map(std::slice::from_ref),
            _ => None,
        }
    }

    fn laid_out(&self, parts: &[(&Batch, Range<usize>)]) -> Result<Vec<Tensor>, String> {
        match &self.0 {
            Kind::Tensors { order, batched } => tensors::feeds(order, *batched, parts),
            Kind::Columns(columns) => {
                let held = named(parts)?;
                let parts = stretches(&held, parts);
                columns
                    .iter()
                    .map(|column| cells::block(&parts, std::slice::from_ref(column)))
                    .collect()
            }
            Kind::Matrix(columns) => {
                if let [(Batch::Features(rows), range)] = parts
                    && let Some(table) = own_table(rows, columns)
                    && let Some(some) = table.slice_rows(range.start, range.end)
                {
                    return Ok(vec![some]);
                }
                let held = named(parts)?;
                Ok(vec![cells::block(&stretches(&held, parts), columns)?])
            }
        }
    }
}

/// A table of floats lacks nothing: every column that is a float and lies in it is covered in each of its rows.
fn is_whole(rows: &Rows, columns: &[Column]) -> bool {
    rows.as_table().is_some_and(|table| {
        let width = table.row_len();
        columns
            .iter()
            .all(|column| column.datatype.is_float() && (column.number as usize) < width)
    })
}

/// The table of rows that came as one of just these columns: they need not be looked at cell by cell.
fn own_table<'a>(rows: &'a Rows, columns: &[Column]) -> Option<&'a Tensor> {
    let table = rows.as_table()?;
    let is_own = |(k, column): (u32, &Column)| column.number == k && column.datatype == table.datatype();
    let fits = table.row_len() == columns.len() && (0_u32..).zip(columns).all(is_own);
    fits.then_some(table)
}

/// The parts' rows of features. A request that was decoded while the model took plain tensors holds its first
/// champion's tensor, whose columns are the first features.
fn named<'a>(parts: &[(&'a Batch, Range<usize>)]) -> Result<Vec<Cow<'a, Rows>>, String> {
    let rows = |(batch, range): &(&'a Batch, Range<usize>)| {
        let rows = match batch {
            Batch::Features(rows) => Cow::Borrowed(rows),
            Batch::Tensors { .. } => Cow::Owned(
                native::nameless(batch)
                    .ok_or("the request holds tensors that are not the model's table of features")?,
            ),
        };
        if range.end <= rows.len() {
            Ok(rows)
        } else {
            Err(format!("rows {range:?} of {} were asked for", rows.len()))
        }
    };
    parts.iter().map(rows).collect()
}

fn stretches<'a>(held: &'a [Cow<'_, Rows>], parts: &[(&Batch, Range<usize>)]) -> Vec<(&'a Rows, Range<usize>)> {
    let ranges = parts.iter().map(|(_, range)| range.clone());
    held.iter().map(Cow::as_ref).zip(ranges).collect()
}

fn column(name: String, datatype: Datatype, schema: &Schema) -> Result<Column, String> {
    let Some(number) = schema.number(&name) else {
        return Err(format!("feature {name} is not one of the model's"));
    };
    let known = schema.features().get(number as usize).map(|f| f.datatype);
    match (datatype, known) {
        (Datatype::Bytes, Some(Datatype::Bytes)) => {}
        (Datatype::Bytes, _) => return Err(format!("feature {name} is text here and a number in the model")),
        (_, Some(Datatype::Bytes)) => return Err(format!("feature {name} is a number here and text in the model")),
        _ => {}
    }
    Ok(Column { name, number, datatype })
}

/// Names and the inputs' datatypes, or why there are none.
fn own_features(signature: &Signature, names: Option<&[String]>) -> Result<Vec<(String, Datatype)>, String> {
    if signature.crossed {
        return Err("named features need rows, and one row's answer has another form in company".into());
    }
    if signature.is_columns() {
        return Ok(signature.inputs.iter().map(|i| (i.name.clone(), i.datatype)).collect());
    }
    let [TensorSpec { name, datatype, shape }] = signature.inputs.as_slice() else {
        return Err("named features need one input [rows, features], or one input [rows, 1] per feature".into());
    };
    let &[_, width] = shape.as_slice() else {
        return Err(format!(
            "named features need an input [rows, features], and {name} has the shape {shape:?}"
        ));
    };
    let Some(names) = names else {
        return Err(format!(
            "the columns of input {name} have no names: add features = [\"…\"]"
        ));
    };
    if names.is_empty() || (width >= 0 && i64::try_from(names.len()) != Ok(width)) {
        return Err(format!(
            "features has {} names, and input {name} has {width} columns",
            names.len()
        ));
    }
    if let Some(twice) = names
        .iter()
        .enumerate()
        .find_map(|(i, n)| names.iter().skip(i + 1).find(|m| *m == n))
    {
        return Err(format!("features names {twice} twice"));
    }
    Ok(names.iter().map(|n| (n.clone(), *datatype)).collect())
}

/// The interface's types of numbers are few: clients need not know which integer a version was exported with.
fn feature_type(datatype: Datatype) -> Datatype {
    match datatype {
        Datatype::Bytes => Datatype::Bytes,
        Datatype::Fp64 => Datatype::Fp64,
        Datatype::Fp16 | Datatype::Fp32 => Datatype::Fp32,
        _ => Datatype::Int64,
    }
}

#[cfg(test)]
mod tests;
