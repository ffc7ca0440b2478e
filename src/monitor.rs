//! The monitor: does what comes in still look like what the champion was made for?
//!
//! ```text
//!  ledger ─ follow ─► fold ─┬─ sketch, window ── quality: broken, constant, shifted (limits, no promise)
//!  (rows, labels)           ├─ scale ── alarm: changed (valid at every look, with a stated rate)
//!                           ├─ volume ── rows per hour of the week
//!                           └─ outcomes ── loss against its level, calibration, groups; once rows have closed
//!                              view ─► GET /api/models/{m}/monitor, /metrics
//! ```
//!
//! Always holds: everything is computed from recorded rows and joined labels, on one thread that gives way to all others
//! and reads the ledger beside its writer; memory is bounded by the number of features; nothing here is evidence, and
//! the judge knows nothing of it; where `monitor.freeze` says so, a broken input holds promotions, as a person's word would, and
//! is let go when the input is sound again (`freeze`). What was folded is kept in a file per model, so that a restart goes on where it was;
//! recent windows are read again from the record (`beside` does both for whoever has a state directory only). Leaves to others: deciding.

pub mod alarm;
pub mod association;
pub mod baseline;
pub(crate) mod beside;
pub mod calibration;
pub mod change;
pub mod decay;
pub mod distance;
pub mod feature;
pub mod fold;
pub mod follow;
mod freeze;
mod keep;
pub mod outcomes;
pub mod quality;
pub mod row;
pub mod scale;
pub mod sketch;
pub mod tally;
pub mod view;
pub mod volume;

pub(crate) use freeze::AUTHOR;
pub use quality::Limits;
