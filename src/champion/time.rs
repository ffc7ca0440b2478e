//! How long a version takes to answer recorded rows, one by one, asked as requests ask it.
//!
//! Leaves to others: which rows, and what is made of the figure (`control`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Loaded;
use super::answer::Which;
use super::answer::outputs::Outputs;
use crate::batch::Batch;
use crate::decode::Wanted;

/// No more time than this is spent: whoever waits for a promotion waits for this too.
const BUDGET: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timed {
    /// Rows that it answered.
    pub rows: usize,
    /// Rows that it did not answer.
    pub failed: usize,
    /// Median, microseconds.
    pub us_p50: f64,
    /// 99th percentile.
    pub us_p99: f64,
}

impl Loaded {
    /// Answers the rows, as many as there is time for.
    pub async fn time(&self, batch: &Arc<Batch>) -> Timed {
        let (begun, mut failed, mut times) = (Instant::now(), 0, Vec::new());
        for row in 0..batch.rows() {
            if begun.elapsed() > BUDGET {
                break;
            }
            let outputs = Outputs::of(&self.info, &Wanted::None).unwrap_or_default();
            let start = Instant::now();
            let which = Which::These(vec![row]);
            match self.begin(batch, which, outputs, (None, Some(BUDGET))).await {
                Ok(answered) if answered.missing() == 0 => times.push(start.elapsed()),
                _ => failed += 1,
            }
        }
        times.sort_unstable();
        let at = |percent: usize| {
            let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
            time.copied().unwrap_or_default().as_secs_f64() * 1e6
        };
        Timed {
            rows: times.len(),
            failed,
            us_p50: at(50),
            us_p99: at(99),
        }
    }
}
