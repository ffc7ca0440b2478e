//! A share that was counted, with the interval that says how far the count can be trusted.

use serde::Serialize;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How often it happened.
    pub hits: u64,
    /// In how many runs.
    pub of: u64,
    /// Exact 95 % interval (Clopper and Pearson 1934).
    pub interval: [f64; 2],
}

impl Share {
    /// Counts.
    #[must_use]
    pub fn of(happened: impl IntoIterator<Item = bool>) -> Self {
        let (mut hits, mut of) = (0, 0);
        for happened in happened {
            hits += u64::from(happened);
            of += 1;
        }
        Self::new(hits, of)
    }

    /// `hits` of `of`.
    #[must_use]
    pub fn new(hits: u64, of: u64) -> Self {
        let low = if hits == 0 {
            0.0
        } else {
            bisect(|p| at_least(hits, of, p) < 0.025)
        };
        let high = if hits >= of {
            1.0
        } else {
            bisect(|p| 1.0 - at_least(hits + 1, of, p) > 0.025)
        };
        Self {
            hits,
            of,
            interval: [low, high],
        }
    }

    /// The share.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.hits as f64 / self.of.max(1) as f64
    }
}

/// The number in [0, 1] up to which `is_below` holds.
fn bisect(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Chance of at least `hits` of `of` where each has chance `p`.
fn at_least(hits: u64, of: u64, p: f64) -> f64 {
    if hits == 0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    let (ln_p, ln_q, n) = (libm::log(p), libm::log1p(-p), of as f64);
    let chance = |k: u64| {
        let k = k as f64;
        let ways = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
        libm::exp(ways + k * ln_p + (n - k) * ln_q)
    };
    (hits..=of).map(chance).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_published_ones() {
        // 0 of 10, 5 of 10 and 32 of 1000, as R's binom.test gives them.
        for (hits, of, low, high) in [
            (0, 10, 0.0, 0.308_497),
            (5, 10, 0.187_086, 0.812_914),
            (32, 1_000, 0.021_985, 0.044_884),
        ] {
            let Share { interval: [a, b], .. } = Share::new(hits, of);
            assert!(
                (a - low).abs() < 1e-5 && (b - high).abs() < 1e-5,
                "{hits} of {of}: {a} {b}"
            );
        }
    }
}
