//! How far two distributions lie apart: of numbers Kolmogorov–Smirnov and Wasserstein, of shares per bin or category the
//! Population Stability Index, Jensen–Shannon and chi-square.
//!
//! Always holds: they describe, they do not test: on windows that overlap and are looked at all day their p-values would
//! mean nothing, so there are none ([`super::alarm`] is what may be looked at). Exact on exact points; on the points of a
//! sketch as exact as the sketch's ranks. Where there is nothing to compare the answer is `None`, never NaN.

use std::cmp::Ordering;

/// A value and how much it weighs.
pub type Point = (f64, f64);

/// The points in order of their values, and their total weight; `None` without weight.
fn ordered(points: &[Point]) -> Option<(Vec<Point>, f64)> {
    let mut sorted: Vec<Point> = points
        .iter()
        .copied()
        .filter(|(x, w)| x.is_finite() && *w > 0.0)
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = sorted.iter().map(|(_, w)| w).sum();
    (total > 0.0 && total.is_finite()).then_some((sorted, total))
}

/// Calls `each` with every distinct value, in order, and the share of either side that is not above it.
fn walk(a: &[Point], b: &[Point], mut each: impl FnMut(f64, f64, f64)) -> Option<()> {
    let ((a, total_a), (b, total_b)) = (ordered(a)?, ordered(b)?);
    let (mut i, mut j, mut below_a, mut below_b) = (0, 0, 0.0, 0.0);
    loop {
        let next = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.0.min(y.0),
            (Some(x), None) => x.0,
            (None, Some(y)) => y.0,
            (None, None) => return Some(()),
        };
        let take = |side: &[Point], at: &mut usize, below: &mut f64| {
            while let Some((x, weight)) = side.get(*at)
                && x.total_cmp(&next) != Ordering::Greater
            {
                *below += weight;
                *at += 1;
            }
        };
        take(&a, &mut i, &mut below_a);
        take(&b, &mut j, &mut below_b);
        each(next, below_a / total_a, below_b / total_b);
    }
}

/// Largest difference of the two distribution functions, from 0 to 1 (Smirnov 1939).
#[must_use]
pub fn kolmogorov_smirnov(a: &[Point], b: &[Point]) -> Option<f64> {
    let mut largest: f64 = 0.0;
    walk(a, b, |_, below_a, below_b| {
        largest = largest.max((below_a - below_b).abs())
    })?;
    Some(largest)
}

/// Mean distance that weight must be moved to make one of the other, in the unit of the values (Wasserstein's first).
#[must_use]
pub fn wasserstein(a: &[Point], b: &[Point]) -> Option<f64> {
    let (mut sum, mut before) = (0.0, None);
    walk(a, b, |x, below_a, below_b| {
        if let Some((from, gap)) = before {
            let step: f64 = x - from;
            sum += step * gap;
        }
        before = Some((x, (below_a - below_b).abs()));
    })?;
    Some(sum).filter(|sum: &f64| sum.is_finite())
}

/// Counts as shares; `None` without any.
fn shares(counts: &[f64]) -> Option<Vec<f64>> {
    let total: f64 = counts.iter().sum();
    (total > 0.0 && total.is_finite()).then(|| counts.iter().map(|count| count / total).collect())
}

/// What an empty bin counts as: nothing has an infinite index. Evidently's rule.
fn floored(mut shares: Vec<f64>) -> Vec<f64> {
    const FLOOR: f64 = 1e-4;
    let least = shares.iter().copied().filter(|share| *share > 0.0).reduce(f64::min);
    let floor = least.filter(|least| *least <= FLOOR).map_or(FLOOR, |least| least / 1e6);
    for share in &mut shares {
        if *share <= 0.0 {
            *share = floor;
        }
    }
    shares
}

/// Population Stability Index of counts per bin: sum of (p − q) ln(p / q). Below 0.1 is called alike, from 0.2 on changed.
#[must_use]
pub fn stability_index(reference: &[f64], recent: &[f64]) -> Option<f64> {
    let (p, q) = (floored(shares(reference)?), floored(shares(recent)?));
    Some(p.iter().zip(&q).map(|(p, q)| (p - q) * libm::log(p / q)).sum())
}

/// Jensen–Shannon distance of counts per bin: the root of the divergence in bits, from 0 to 1 (Endres & Schindelin 2003).
#[must_use]
pub fn jensen_shannon(a: &[f64], b: &[f64]) -> Option<f64> {
    let (p, q) = (shares(a)?, shares(b)?);
    let bits = |x: f64, mean: f64| if x > 0.0 { x * libm::log2(x / mean) } else { 0.0 };
    let both = p.iter().zip(&q);
    let sum: f64 = both
        .map(|(p, q)| bits(*p, f64::midpoint(*p, *q)) + bits(*q, f64::midpoint(*p, *q)))
        .sum();
    Some((sum / 2.0).max(0.0).sqrt())
}

/// Pearson's chi-square of two rows of counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    /// The statistic, without a continuity correction.
    pub statistic: f64,
    /// Degrees of freedom.
    pub freedom: usize,
    /// Cramér's V: its root per row and degree, from 0 to 1, which does not grow with the number of rows.
    pub cramer_v: f64,
}

/// See [`ChiSquare`]; categories that neither side has are left out.
#[must_use]
pub fn chi_square(a: &[f64], b: &[f64]) -> Option<ChiSquare> {
    let columns: Vec<(f64, f64)> = a
        .iter()
        .copied()
        .zip(b.iter().copied())
        .filter(|(a, b)| a + b > 0.0)
        .collect();
    let (total_a, total_b): (f64, f64) = columns.iter().fold((0.0, 0.0), |(s, t), (a, b)| (s + a, t + b));
    if total_a <= 0.0 || total_b <= 0.0 || columns.len() < 2 {
        return None;
    }
    let total = total_a + total_b;
    let part = |seen: f64, expected: f64| (seen - expected) * (seen - expected) / expected;
    let statistic: f64 = columns
        .iter()
        .map(|(a, b)| part(*a, (a + b) * total_a / total) + part(*b, (a + b) * total_b / total))
        .sum();
    Some(ChiSquare {
        statistic,
        freedom: columns.len() - 1,
        cramer_v: (statistic / total).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_compare_is_none_and_never_nan() {
        let some = [(1.0, 1.0)];
        for other in [&[][..], &[(f64::NAN, 1.0)], &[(f64::INFINITY, 1.0)], &[(1.0, 0.0)]] {
            assert_eq!(kolmogorov_smirnov(&some, other), None);
            assert_eq!(wasserstein(other, &some), None);
        }
        assert_eq!(stability_index(&[0.0, 0.0], &[1.0, 0.0]), None);
        assert_eq!(jensen_shannon(&[1.0], &[0.0]), None);
        assert_eq!(chi_square(&[3.0], &[4.0]), None, "one category");
        assert_eq!(chi_square(&[3.0, 1.0], &[0.0, 0.0]), None);
    }

    #[test]
    fn the_same_is_no_distance_apart_and_the_disjoint_is_as_far_as_can_be() {
        let (a, b) = ([(1.0, 2.0), (2.0, 1.0)], [(11.0, 1.0), (11.0, 1.0)]);
        assert_eq!(kolmogorov_smirnov(&a, &a), Some(0.0));
        assert_eq!(kolmogorov_smirnov(&a, &b), Some(1.0));
        assert!((wasserstein(&a, &b).unwrap() - (11.0 - 4.0 / 3.0)).abs() < 1e-12);
        assert_eq!(jensen_shannon(&[1.0, 0.0], &[0.0, 5.0]), Some(1.0));
        assert!((chi_square(&[4.0, 0.0], &[0.0, 4.0]).unwrap().cramer_v - 1.0).abs() < 1e-12);
    }
}
