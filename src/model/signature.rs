//! What a version takes and gives: names, datatypes, shapes, as its file declares them.

use serde::{Deserialize, Serialize};

use super::tensor::Datatype;

/// One input or output. A dimension of −1 is dynamic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Dimensions, −1 where any size goes.
    pub shape: Vec<i64>,
}

/// Inputs and outputs in graph order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What a run needs.
    pub inputs: Vec<TensorSpec>,
    /// What a run gives.
    pub outputs: Vec<TensorSpec>,
    /// The first axes are no rows, although they are dynamic: what comes out for one has another form in company (each
    /// picture met with each text, say). A request is one row then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crossed: bool,
}

impl Signature {
    /// True when all inputs and outputs share a dynamic first axis, so that rows may be merged into one run.
    /// Exporters sometimes declare an output `[1]` and return `[N]` (LightGBM's label): only inputs are trusted
    /// here, and admission compares a row alone with the row in a batch.
    #[must_use]
    pub fn has_dynamic_rows(&self) -> bool {
        !self.crossed && !self.inputs.is_empty() && self.inputs.iter().all(|i| i.shape.first() == Some(&-1))
    }

    /// True when every input is one row, `[1, …]`: several rows are run one by one, and their outputs joined.
    #[must_use]
    pub fn has_one_row(&self) -> bool {
        let is_row = |input: &TensorSpec| input.shape.len() >= 2 && input.shape.first() == Some(&1);
        !self.inputs.is_empty() && self.inputs.iter().all(is_row)
    }

    /// True when a request may carry several rows, together or one by one.
    #[must_use]
    pub fn takes_rows(&self) -> bool {
        self.has_dynamic_rows() || self.has_one_row()
    }

    /// The shape that a request may send for an input: any number of rows where several may come.
    #[must_use]
    pub fn sent_shape(&self, input: &TensorSpec) -> Vec<i64> {
        let mut shape = input.shape.clone();
        if let Some(rows) = shape.first_mut().filter(|_| self.has_one_row()) {
            *rows = -1;
        }
        shape
    }

    /// The outputs' names, to be shared by whoever carries them.
    #[must_use]
    pub fn output_names(&self) -> Vec<std::sync::Arc<str>> {
        self.outputs.iter().map(|spec| spec.name.as_str().into()).collect()
    }

    /// True when every input is one column, `[dynamic, 1]` (or `[dynamic]`), and there are at least two:
    /// the form in which pipelines over data frames are exported, whose input names are feature names.
    #[must_use]
    pub fn is_columns(&self) -> bool {
        !self.crossed && self.inputs.len() >= 2 && self.inputs.iter().all(|i| i.shape == [-1, 1])
    }
}
