//! How much one thing tells of another: correlation, mutual information, and how well scores order outcomes.
//!
//! Always holds: what is constant tells nothing, which is `None`, never NaN.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Sums from which Pearson's correlation follows, updated as Welford does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Together {
    count: f64,
    mean: (f64, f64),
    squares: (f64, f64),
    product: f64,
}

impl Together {
    /// Takes a pair in.
    pub fn add(&mut self, x: f64, y: f64) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        self.count += 1.0;
        let from = (x - self.mean.0, y - self.mean.1);
        self.mean.0 += from.0 / self.count;
        self.mean.1 += from.1 / self.count;
        let to = (x - self.mean.0, y - self.mean.1);
        self.squares.0 += from.0 * to.0;
        self.squares.1 += from.1 * to.1;
        self.product += from.0 * to.1;
    }

    /// Pearson's correlation.
    #[must_use]
    pub fn correlation(&self) -> Option<f64> {
        let spread = (self.squares.0 * self.squares.1).sqrt();
        (spread > 0.0 && spread.is_finite()).then(|| (self.product / spread).clamp(-1.0, 1.0))
    }
}

/// Mutual information of a table of counts, in nats: 0 where rows and columns are independent.
#[must_use]
pub fn mutual_information(table: &[Vec<f64>]) -> Option<f64> {
    let total: f64 = table.iter().flatten().sum();
    if total <= 0.0 {
        return None;
    }
    let width = table.iter().map(Vec::len).max().unwrap_or(0);
    let mut columns = vec![0.0; width];
    for row in table {
        for (sum, count) in columns.iter_mut().zip(row) {
            *sum += count;
        }
    }
    let mut information = 0.0;
    for row in table {
        let of_row: f64 = row.iter().sum();
        for (count, of_column) in row.iter().zip(&columns) {
            if *count > 0.0 {
                information += count / total * libm::log(count * total / (of_row * of_column));
            }
        }
    }
    Some(information.max(0.0))
}

/// Share of pairs of a positive and a negative in which the positive scores higher; ties count half.
#[must_use]
pub fn area_under_curve(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted: Vec<(f64, bool)> = scored.iter().copied().filter(|(x, _)| x.is_finite()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut positives, mut sum) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0) == Ordering::Equal) {
        let up = tied.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        let down = tied.len() as f64 - up;
        sum += up * (below + down / 2.0);
        below += down;
        positives += up;
    }
    (positives > 0.0 && below > 0.0).then(|| sum / (positives * below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_constant_or_of_one_class_tells_nothing() {
        let mut together = Together::default();
        assert_eq!(together.correlation(), None);
        (0..5).for_each(|k| together.add(1.0, f64::from(k)));
        together.add(f64::NAN, 1.0);
        assert_eq!(together.correlation(), None);
        assert_eq!(area_under_curve(&[(0.3, true), (0.4, true)]), None);
        assert_eq!(area_under_curve(&[(0.3, false), (0.3, true)]), Some(0.5));
        assert_eq!(mutual_information(&[vec![], vec![0.0]]), None);
        assert_eq!(mutual_information(&[vec![2.0, 2.0]]), Some(0.0));
    }
}
