//! `[retention]`: how long, and how much of, what is recorded is kept.

use std::time::Duration;

use super::super::reader::Section;
use super::{GIB, MIB, ServeArgs, ranged, size};

const DAY: Duration = Duration::from_secs(86_400);

/// `[retention]`. What verdicts rest on (pairs, journal, policies, decisions) is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Features and context go after this time.
    pub inputs_age: Duration,
    /// Bytes of features and context, over all models.
    pub inputs_bytes: u64,
    /// Scores, ids and labels go after this time, but never before the model's label horizon.
    pub rows_age: Duration,
    /// Bytes of the ledger that are in use.
    pub ledger_bytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            inputs_age: 30 * DAY,
            inputs_bytes: 20 * GIB,
            rows_age: 120 * DAY,
            ledger_bytes: 64 * GIB,
        }
    }
}

pub(super) fn retention(s: &mut Section<'_>, args: &ServeArgs) -> RetentionConfig {
    let default = RetentionConfig::default();
    let time = Duration::from_secs(1)..=36_500 * DAY;
    let bytes = MIB..=(1_u64 << 20) * GIB;
    RetentionConfig {
        inputs_age: ranged(
            s,
            args.retention_inputs_age,
            "inputs_age",
            default.inputs_age,
            time.clone(),
        ),
        inputs_bytes: size(
            s,
            args.retention_inputs_bytes,
            "inputs_bytes",
            default.inputs_bytes,
            bytes.clone(),
        ),
        rows_age: ranged(s, args.retention_rows_age, "rows_age", default.rows_age, time),
        ledger_bytes: size(
            s,
            args.retention_ledger_bytes,
            "ledger_bytes",
            default.ledger_bytes,
            bytes,
        ),
    }
}
