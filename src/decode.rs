//! Bytes to typed rows, checked against a model's interface. Values in, values out.
//!
//! Always holds: no input panics; no generic JSON tree is built for rows and tensors; an error names the row, the
//! feature and the remedy; what is kept is bounded by the body's length and by [`Rules::max_rows`].
//! Leaves to others: how long a body may be (`http`), how a version wants its rows laid out (`model::layout`), and
//! whether a row covers a version's features (the champion).

mod columns;
mod feedback;
mod form;
mod json;
mod lines;
mod number;
mod predict;
#[cfg(test)]
mod property;
mod quick;
mod rows;
mod tensors;
mod top;
mod value;

pub use columns::columns;
pub use feedback::{Feedback, FeedbackItem, Invalid, Item, Remark, feedback, feedback_line};
pub use form::Form;
pub use lines::{Line, LineSplitter, MAX_LINE_BYTES};
pub use predict::{Keys, PredictBody, Source, Wanted};
pub use rows::instances;
pub use tensors::{elements, tensors};

pub(crate) use json::{clip, nearest, text, whole};

pub use crate::config::{Missing, Unknown};

/// How a model wants its rows read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// See [`Missing`].
    pub missing: Missing,
    /// See [`Unknown`].
    pub unknown: Unknown,
    /// Most rows in one request.
    pub max_rows: usize,
}
