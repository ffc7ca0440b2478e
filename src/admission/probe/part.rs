//! Telling the outputs that can be cut into rows from those that cannot.

use super::compare;
use crate::model::tensor::Tensor;

/// What an output has to do with the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// One row for each of them, the same alone and in company.
    Rows,
    /// One row for each of them, but not the same.
    Coupled,
    /// Something of another form: the first axes are no rows.
    Crossed,
    /// Nothing: some exporters put the names of the classes among the outputs.
    Constant,
    /// Something that cannot be cut into rows.
    Other,
}

impl Part {
    /// From `output` for all rows, and its likes for each row alone.
    pub(super) fn of(output: &Tensor, alone: &[&Tensor]) -> Self {
        let follows = output.shape().first() == Some(&alone.len());
        if follows && alone.iter().all(|alone| alone.shape().first() == Some(&1)) {
            if alone
                .iter()
                .any(|alone| alone.shape().get(1..) != output.shape().get(1..))
            {
                return Self::Crossed;
            }
            let mut rows = alone.iter().enumerate();
            let same = rows.all(|(i, alone)| {
                output
                    .slice_rows(i, i + 1)
                    .is_some_and(|row| compare::near(&row, alone))
            });
            return if same { Self::Rows } else { Self::Coupled };
        }
        let mut others = alone.iter().map(|&alone| std::slice::from_ref(alone));
        if others.all(|alone| compare::same_bits(std::slice::from_ref(output), alone)) {
            return Self::Constant;
        }
        Self::Other
    }
}
