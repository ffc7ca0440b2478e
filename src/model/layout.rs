//! How a version's inputs are filled from a request's rows.
use std::ops::Range;

use super::signature::Signature;
use super::tensor::Tensor;
use crate::batch::{Batch, Feature, Schema};

/// A version's own layout, bound to its model's interface.
#[derive(Debug, Clone)]
pub struct Layout {}

impl Layout {
    /// The named features that a version takes, in its own order, or `None` when it has no named features.
    /// `names` are the declared column names of a single-tensor model.
    #[must_use]
    pub fn features(_signature: &Signature, _names: Option<&[String]>) -> Option<Vec<Feature>> {
        None
    }

    /// Binds a version with named features to the model's schema.
    ///
    /// # Errors
    /// Names the feature that the schema lacks, or that is text here and a number there.
    pub fn bind_features(_signature: &Signature, _names: Option<&[String]>, _schema: &Schema) -> Result<Self, String> {
        Err("stub".into())
    }

    /// Binds a version to a `tensors` interface (the first champion's signature).
    ///
    /// # Errors
    /// Names the input that differs by name, datatype or shape.
    pub fn bind_tensors(_signature: &Signature, _interface: &Signature) -> Result<Self, String> {
        Err("stub".into())
    }

    /// The first feature that the version needs and row `row` does not carry.
    #[must_use]
    pub fn uncovered<'a>(&'a self, _batch: &Batch, _row: usize) -> Option<&'a str> {
        None
    }

    /// The version's inputs for these rows, one part after the other. All rows must be covered.
    ///
    /// # Errors
    /// A row that is not covered, or tensors that cannot be joined.
    pub fn feeds(&self, _parts: &[(&Batch, Range<usize>)]) -> Result<Vec<Tensor>, String> {
        Err("stub".into())
    }
}
