//! Medians, their intervals, quantiles, and numbers from a seed.

/// Resamples behind an interval.
const RESAMPLES: usize = 2_000;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Below `n`, which is small: the bias does not matter here.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Percentile bootstrap of the median.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut random = Random::new(7);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let again: Vec<f64> = (0..values.len())
                    .map(|_| values[random.below(values.len().max(1) as u64) as usize])
                    .collect();
                median(&again)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Self {
            low: medians[RESAMPLES / 40],
            median: median(values),
            high: medians[RESAMPLES - 1 - RESAMPLES / 40],
        }
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { low, median, high } = self;
        let digits = if median.abs() < 10.0 { 3 } else { 1 };
        write!(f, "{median:.digits$} [{low:.digits$}, {high:.digits$}]")
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Of sorted values.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    sorted.get(at.min(last)).map_or(f64::NAN, |ns| f64::from(*ns))
}
