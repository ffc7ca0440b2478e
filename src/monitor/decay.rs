//! How fast a champion's loss rises, and when it will cross its limit if that goes on.
//!
//! Always holds: a straight line through the mean losses of past panes, weighted by their labels, with its standard
//! error; a forecast is made only where the rise is larger than two of them, and is called a forecast.

use std::collections::VecDeque;

use super::outcomes::Point;

/// Panes before there is a trend.
const LEAST: usize = 8;

/// A line through past losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Rise per row.
    pub slope: f64,
    /// Its standard error.
    pub error: f64,
}

/// The line through the points; `None` with too few, or where they lie at one row.
#[must_use]
pub fn trend(points: &VecDeque<Point>) -> Option<Trend> {
    if points.len() < LEAST {
        return None;
    }
    let weight: f64 = points.iter().map(|point| point.labels as f64).sum();
    let mean = |of: &dyn Fn(&Point) -> f64| points.iter().map(|p| p.labels as f64 * of(p)).sum::<f64>() / weight;
    let (x, y) = (mean(&|p| p.at.row as f64), mean(&|p| p.loss));
    let from = |p: &Point| p.at.row as f64 - x;
    let squares: f64 = points.iter().map(|p| p.labels as f64 * from(p) * from(p)).sum();
    if weight <= 0.0 || squares <= 0.0 {
        return None;
    }
    let slope = points
        .iter()
        .map(|p| p.labels as f64 * from(p) * (p.loss - y))
        .sum::<f64>()
        / squares;
    let left = |p: &Point| p.loss - y - slope * from(p);
    let residual: f64 = points.iter().map(|p| p.labels as f64 * left(p) * left(p)).sum();
    let error = (residual / (points.len() - 2) as f64 / squares).sqrt();
    (slope.is_finite() && error.is_finite()).then_some(Trend { slope, error })
}

impl Trend {
    /// In words, and in how many rows the limit will be crossed.
    #[must_use]
    pub fn forecast(&self, recent: Option<f64>, limit: Option<f64>) -> (String, Option<u64>) {
        let (Some(recent), Some(limit)) = (recent, limit) else {
            return ("there is no level to hold it against yet".into(), None);
        };
        if recent >= limit {
            return ("the recent loss is above the limit".into(), Some(0));
        }
        if self.slope <= 2.0 * self.error {
            return ("the loss does not rise by more than chance explains".into(), None);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; saturates"
        )]
        let rows = ((limit - recent) / self.slope).ceil() as u64;
        (
            format!("at this rate the limit is crossed in about {rows} rows"),
            Some(rows),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Clock;

    fn points(loss: impl Fn(f64) -> f64) -> VecDeque<Point> {
        let point = |k: u64| Point {
            at: Clock {
                row: k * 100,
                time_ms: 0,
            },
            labels: 100,
            loss: loss(k as f64),
        };
        (0..20).map(point).collect()
    }

    #[test]
    fn a_rising_loss_is_forecast_to_cross_its_limit_and_a_level_one_is_not() {
        let rising = trend(&points(|k| 0.2 + 0.01 * k + if k % 2.0 > 0.5 { 0.001 } else { 0.0 })).unwrap();
        assert!((rising.slope - 1e-4).abs() < 1e-6, "{rising:?}");
        assert_eq!(rising.forecast(Some(0.4), Some(0.5)).1.map(|rows| rows / 100), Some(10));
        assert_eq!(rising.forecast(Some(0.6), Some(0.5)).1, Some(0));
        assert_eq!(rising.forecast(None, Some(0.5)).1, None);
        let level = trend(&points(|k| 0.2 + if k % 2.0 > 0.5 { 0.01 } else { 0.0 })).unwrap();
        assert_eq!(level.forecast(Some(0.2), Some(0.3)).1, None);
        assert_eq!(trend(&VecDeque::new()), None);
    }
}
