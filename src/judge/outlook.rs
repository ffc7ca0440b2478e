//! How far it still is: labels and time until a bar, should things go on as they are. For display only.
//!
//! The growth of ln W at a bet is about `bet · mean − bet² · mean square / 2` per label; each bet size starts from what it
//! holds now, and the first to reach the bar tells.

use serde::Serialize;

use super::evidence::Evidence;
use super::wealth::BETS;
use crate::span::{Clock, Span};

/// More labels than this are not waited for.
const NEVER: f64 = 1e12;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Outlook {
    /// Labels until the bar at the present mean and variance; `None`: never, or nothing is known yet.
    pub labels_to_bar: Option<u64>,
    /// The same in seconds at the present rate of labels.
    pub seconds_to_bar: Option<f64>,
}

/// Labels until `bar`; 0 where wealth is there.
pub(super) fn labels_until(evidence: &Evidence, bar: f64, bound: f64, margin: f64) -> Option<u64> {
    if evidence.win.value() >= bar {
        return Some(0);
    }
    let (mean, variance) = evidence.interval.moments(bound)?;
    let scale = bound + margin;
    let mean = (mean - margin) / scale;
    let square = variance / (scale * scale) + mean * mean;
    let (cash, cells) = evidence.win.parts();
    let needed = BETS.iter().zip(cells).filter_map(|(bet, cell)| {
        let growth = bet * mean - bet * bet * square / 2.0;
        // A cell that lost everything is filled again from the cash.
        let start = cell.max(cash / 1e3);
        (growth > 0.0).then(|| (libm::log(bar) - libm::log(start)) / growth)
    });
    let least = needed.reduce(f64::min).filter(|labels| *labels < NEVER)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e12")]
    Some(least.ceil().max(1.0) as u64)
}

/// Seconds that a label takes: over the last dwell where that is a time, else since the evidence was started.
pub(super) fn seconds_per_label(evidence: &Evidence, now: Clock, dwell: Span) -> Option<f64> {
    let first = evidence.first?;
    let seconds = now.time_ms.saturating_sub(first.time_ms) as f64 / 1e3;
    if let Span::Time(dwell) = dwell {
        let (rows, dwell) = (evidence.counts().rows, dwell.as_secs_f64());
        if rows > 0 && dwell > 0.0 && seconds > dwell {
            return Some(dwell / rows as f64);
        }
    }
    (evidence.labels() > 1 && seconds > 0.0).then(|| seconds / (evidence.labels() - 1) as f64)
}

/// `about 3 hours`.
pub(super) fn about(seconds: f64) -> String {
    let units = [(86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| seconds >= 1.5 * size)
        .unwrap_or((1.0, "second"));
    let count = (seconds / size).round().max(1.0);
    let plural = if count > 1.0 { "s" } else { "" };
    format!("about {count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_own_unit() {
        for (seconds, text) in [
            (0.2, "about 1 second"),
            (80.0, "about 80 seconds"),
            (5_400.0, "about 2 hours"),
            (100_000.0, "about 28 hours"),
            (260_000.0, "about 3 days"),
        ] {
            assert_eq!(about(seconds), text);
        }
    }
}
