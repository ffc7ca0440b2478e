//! `[monitor]` of `model.toml`: what is watched, and from where on something is said.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, choose};
use crate::monitor::Limits;
use crate::monitor::quality::Kind;
use crate::span::Span;

/// Longest window in rows: it is read again at a start.
const WINDOW_ROWS: u64 = 1_000_000;

/// Features whose categories may be groups.
const MAX_BY: usize = 8;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorConfig {
    /// Whether anything is watched.
    pub on: bool,
    /// First rows in service that are the baseline of a version without a file.
    pub baseline_rows: u64,
    /// Recent values; as many before them are what they are compared with.
    pub window: Span,
    /// Rows of one cycle may depend on each other; the alarm compares whole ones.
    pub cycle: Span,
    /// Chance of a false alarm per baseline, over all features.
    pub alpha: f64,
    /// From where on something is said.
    pub limits: Limits,
    /// By how much of the loss bound the loss may rise above its level at promotion.
    pub decay: f64,
    /// Features whose categories are groups.
    pub by: Vec<String>,
    /// What of a broken input holds promotions.
    pub freeze: Vec<Kind>,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            on: true,
            baseline_rows: 2_000,
            window: super::days(1),
            cycle: super::days(1),
            alpha: 0.01,
            limits: Limits::default(),
            decay: 0.02,
            by: Vec::new(),
            freeze: Vec::new(),
        }
    }
}

pub(super) fn monitor(s: &mut Section<'_>, default: MonitorConfig) -> MonitorConfig {
    let limits = default.limits;
    let window = s.get_if(
        "window",
        default.window,
        |span| !matches!(span, Span::Rows(rows) if *rows < 40 || *rows > WINDOW_ROWS) && !span.is_zero(),
        &format!("must be a time, or \"40 rows\" to \"{WINDOW_ROWS} rows\""),
    );
    MonitorConfig {
        on: s.get("mode", Switch(default.on)).0,
        baseline_rows: s.get_if(
            "baseline_rows",
            default.baseline_rows,
            |rows| (40..=1_000_000).contains(rows),
            "must lie between 40 and 1000000",
        ),
        window,
        cycle: s.get_if(
            "cycle",
            default.cycle,
            |span| !span.is_zero(),
            "must be longer than nothing",
        ),
        alpha: super::read::chance(s, "alpha", default.alpha),
        limits: Limits {
            missing: super::read::share(s, "missing", limits.missing),
            range: super::read::share(s, "range", limits.range),
            unseen: super::read::share(s, "unseen", limits.unseen),
            shift: s.get_if("shift", limits.shift, |x| *x > 0.0, "must be greater than 0"),
        },
        decay: super::read::share(s, "decay", default.decay),
        by: s.get_if(
            "by",
            default.by,
            |names: &Vec<String>| names.len() <= MAX_BY,
            &format!("must name at most {MAX_BY} features"),
        ),
        freeze: s.get("freeze", default.freeze),
    }
}

impl Value for Kind {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        // Drift alone never freezes anything.
        choose(value, &Self::BROKEN.map(|kind| (kind.name(), kind)))
    }
}

/// `on` or `off`.
#[derive(Clone, Copy)]
struct Switch(bool);

impl Value for Switch {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        choose(value, &[("on", true), ("off", false)]).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn the_monitor_is_on_with_days_and_every_key_is_checked() {
        let read =
            |text: &str| ModelConfig::parse("model.toml", &format!("[monitor]\n{text}")).map_err(|e| e.to_string());
        assert_eq!(read("").unwrap().monitor, MonitorConfig::default());
        let set =
            read("mode = \"off\"\nwindow = \"336 rows\"\ncycle = \"48 rows\"\nshift = 0.1\nalpha = 0.05").unwrap();
        assert!(!set.monitor.on && set.monitor.window == Span::Rows(336) && set.monitor.limits.shift < 0.2);
        for (text, says) in [
            ("mode = \"onn\"", "did you mean \"on\"?"),
            ("windw = \"1h\"", "did you mean \"window\"?"),
            ("window = \"3 rows\"", "40 rows"),
            ("cycle = \"0s\"", "longer than nothing"),
            ("alpha = 1.0", "less than 1"),
            ("missing = 2", "between 0 and 1"),
            ("shift = 0.0", "greater than 0"),
            ("freeze = [\"shifted\"]", "must be one of \"type\""),
            ("decay = -0.1", "between 0 and 1"),
            ("baseline_rows = 1", "between 40 and 1000000"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
