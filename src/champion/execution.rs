//! How a loaded version runs: decided once, at load, and shown.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::pace::Pace;
use super::time::Timed;
use crate::config::{ExecutionConfig, ExecutionMode};
use crate::model::session::Memory;

/// Where a version's runs take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On the threads that serve requests, but for requests of so many rows that they would hold others up.
    Inline,
    /// On threads of its own, one request after the other.
    Threads,
    /// On threads of its own, requests that wait sharing runs.
    Batch,
}

impl Mode {
    /// As the API shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Threads => "threads",
            Self::Batch => "batch",
        }
    }

    /// By the settings, or by what was measured.
    pub(super) fn decide(config: &ExecutionConfig, batched: bool, is_slow: bool) -> Self {
        let inline = match config.mode {
            ExecutionMode::Inline => true,
            ExecutionMode::Threads => false,
            ExecutionMode::Auto => !is_slow,
        };
        match inline {
            true => Self::Inline,
            false if batched && config.max_batch > 1 => Self::Batch,
            false => Self::Threads,
        }
    }
}

/// What the sessions of a version share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing: the weights are small, or there is one session.
    None,
    /// One copy of the weights.
    Weights,
    /// Nothing, and because the weights are large there are fewer sessions than workers.
    Fewer,
}

impl Sharing {
    /// As the API shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Weights => "weights",
            Self::Fewer => "fewer_sessions",
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Where runs take place.
    pub mode: Mode,
    /// Sessions that answer requests.
    pub sessions: usize,
    /// What they share.
    pub sharing: Sharing,
    /// Most rows of requests that share a run.
    pub max_batch: usize,
    /// Of its runs.
    pub memory: Memory,
    pub(super) pace: Pace,
    /// How it did on recorded rows before it was promoted.
    pub timed: OnceLock<Timed>,
    pub(super) config: ExecutionConfig,
}

impl Execution {
    /// As the API shows it.
    #[must_use]
    pub fn view(&self) -> Value {
        let us = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) as f64 / 1e3;
        let options = &self.config.options;
        json!({
            "mode": self.mode.name(),
            "sessions": self.sessions,
            "sharing": self.sharing.name(),
            "max_batch": self.max_batch,
            "memory": self.memory.name(),
            "run_us_p50": us(self.pace.median),
            "run_us_p99": us(self.pace.slow),
            "row_us": us(self.pace.row),
            "recorded_rows": self.timed.get(),
            "threads": options.threads,
            "optimization": options.optimization,
            "providers": options.providers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_decide_where_runs_take_place_and_else_what_was_measured() {
        let config = |mode, max_batch| ExecutionConfig {
            mode,
            max_batch,
            ..ExecutionConfig::default()
        };
        use ExecutionMode::{Auto, Inline, Threads};
        for (mode, max_batch, batched, is_slow, expected) in [
            (Auto, 64, true, false, Mode::Inline),
            (Auto, 64, true, true, Mode::Batch),
            (Auto, 64, false, true, Mode::Threads),
            (Auto, 1, true, true, Mode::Threads),
            (Inline, 64, true, true, Mode::Inline),
            (Threads, 64, true, false, Mode::Batch),
        ] {
            let decided = Mode::decide(&config(mode, max_batch), batched, is_slow);
            assert_eq!(decided, expected, "{mode:?} {max_batch} {batched} {is_slow}");
        }
    }
}
