//! The first champion's own tensor as rows of features: the second spelling.
//!
//! Column k of the tensor is feature k of the schema, because the first champion's features came first. Requests that
//! were decoded while the model still took plain tensors are laid out by this, too.

use std::sync::Arc;

use crate::batch::{Batch, Cell, Feature, Rows, Schema};
use crate::model::tensor::{Data, Datatype, Tensor};

/// True where every value of this datatype is also a value of a named feature.
#[must_use]
pub(crate) fn can_be_named(datatype: Datatype) -> bool {
    // Booleans are sent as true and false, and the largest unsigned integers fit no INT64.
    !matches!(datatype, Datatype::Bool | Datatype::Uint64)
}

/// The rows of a tensor `[rows, columns]` under `schema`; `None` where its shape or text does not fit.
#[must_use]
pub(crate) fn rows(tensor: &Tensor, schema: &Arc<Schema>) -> Option<Rows> {
    let &[count, width] = tensor.shape() else { return None };
    let mut rows = Rows::new(Arc::clone(schema), count);
    for row in 0..count {
        for column in 0..width {
            let value = cell(tensor.data(), row * width + column)?;
            if !rows.set(row, u32::try_from(column).ok()?, value) {
                return None;
            }
        }
    }
    Some(rows)
}

/// A request's single tensor as rows of nameless features.
pub(super) fn nameless(batch: &Batch) -> Option<Rows> {
    let Batch::Tensors { inputs, .. } = batch else {
        return None;
    };
    let [tensor] = inputs.as_slice() else { return None };
    rows(tensor, &schema(tensor)?)
}

/// The same for one of its rows.
pub(super) fn nameless_row(batch: &Batch, row: usize) -> Option<Rows> {
    let Batch::Tensors { inputs, .. } = batch else {
        return None;
    };
    let [tensor] = inputs.as_slice() else { return None };
    rows(&tensor.slice_rows(row, row + 1)?, &schema(tensor)?)
}

fn schema(tensor: &Tensor) -> Option<Arc<Schema>> {
    let &[_, width] = tensor.shape() else { return None };
    let datatype = super::feature_type(tensor.datatype());
    let feature = |number: usize| Feature {
        name: number.to_string(),
        datatype,
    };
    Some(Arc::new(Schema::new((0..width).map(feature))))
}

/// Element `at` as a cell.
pub(crate) fn cell(data: &Data, at: usize) -> Option<Cell<'_>> {
    macro_rules! int {
        ($v:expr) => {
            Cell::Int(i64::from(*$v.get(at)?))
        };
    }
    Some(match data {
        Data::Bool(v) => int!(v),
        Data::Uint8(v) => int!(v),
        Data::Uint16(v) => int!(v),
        Data::Uint32(v) => int!(v),
        Data::Uint64(v) => Cell::Int(i64::try_from(*v.get(at)?).ok()?),
        Data::Int8(v) => int!(v),
        Data::Int16(v) => int!(v),
        Data::Int32(v) => int!(v),
        Data::Int64(v) => int!(v),
        Data::Fp16(v) => Cell::Float(f64::from(*v.get(at)?)),
        Data::Fp32(v) => Cell::Float(f64::from(*v.get(at)?)),
        Data::Fp64(v) => Cell::Float(*v.get(at)?),
        Data::Bytes(text) => Cell::Text(std::str::from_utf8(text.get(at)?).ok()?),
    })
}
