//! The alarm that may be looked at at every row: does a feature still come as it came before?
//!
//! Rows are taken together in blocks, and only whole blocks are compared: rows within one may depend on each other as
//! they like, which is what a daily cycle needs. Of a block there is one number between 0 and 1 per stream (where its
//! values lie among the baseline's, how far apart, how many are missing). Its rank among all earlier ones, ties broken
//! by chance, is a conformal p-value: while the blocks are exchangeable these are independent and uniform, whatever the
//! distribution (Vovk, Nouretdinov & Gammerman 2003, *Testing exchangeability on-line*, theorem 1). So the product of
//! bets κ p^(κ−1) on small or large ranks is a martingale, and so is every mixture of such products over exponents κ and
//! over the block at which the betting begins; started with one coin it reaches `bar` with a chance of at most 1 / `bar`,
//! however often it is looked at (Ville 1939).
//!
//! **Promised**: per baseline, if no feature changes, the chance that any of them ever raises an alarm is at most
//! `alpha`: every stream has the bar (streams / alpha). **Not promised** where blocks are not exchangeable although
//! nothing is wrong: seasons longer than a block are changes to it, and said as such.
//!
//! Always holds: memory is bounded (the ranks are taken in 512 bins, which keeps them exact conformal p-values, because
//! the bins do not depend on the data); the chance that breaks ties comes from a seed, so that the same rows raise the
//! same alarms; what was raised stays raised until the baseline changes.

use serde::{Deserialize, Serialize};

use crate::span::{Clock, Span};

/// Bins between 0 and 1 in which ranks are taken.
const BINS: f64 = 512.0;
/// Exponents of the bets: strong shifts are found sooner by small ones, faint ones by large ones.
const EXPONENTS: [f64; 3] = [0.1, 0.3, 0.6];
/// Ranks are not taken for smaller than this: the bet on zero would be infinite.
const LEAST_RANK: f64 = 1e-12;
/// Streams of a feature.
pub const STREAMS: usize = 3;

/// One stream's bets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Earlier blocks by bin, in order.
    counts: Vec<(u16, u32)>,
    blocks: u32,
    /// Wealth per exponent, on small and on large ranks.
    wealth: [[f64; 2]; EXPONENTS.len()],
    seed: u64,
}

/// The part of the coin that is not yet bet after `blocks`: it is spread over all times at which a change may come, thinly
/// enough to last for ever and thickly enough that a late change costs little.
fn unspent(blocks: u32) -> f64 {
    1.0 / libm::log(f64::from(blocks) + std::f64::consts::E)
}

/// SplitMix64 (Steele, Lea and Flood 2014): a number in [0, 1) for this state.
fn chance(state: u64) -> f64 {
    let z = state.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0
}

impl Stream {
    /// A stream whose ties are broken by this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            counts: Vec::new(),
            blocks: 0,
            wealth: [[0.0; 2]; EXPONENTS.len()],
            seed,
        }
    }

    /// Takes a block's number in, which lies between 0 and 1, and gives the logarithm of the wealth.
    pub fn add(&mut self, score: f64) -> f64 {
        let rank = self.rank(score);
        let begins = unspent(self.blocks) - unspent(self.blocks.saturating_add(1));
        self.blocks = self.blocks.saturating_add(1);
        let share = begins / (EXPONENTS.len() * 2) as f64;
        let sides = [rank.max(LEAST_RANK), (1.0 - rank).max(LEAST_RANK)].map(libm::log);
        for (wealth, exponent) in self.wealth.iter_mut().zip(EXPONENTS) {
            for (wealth, side) in wealth.iter_mut().zip(sides) {
                let bet = exponent * libm::exp((exponent - 1.0) * side);
                *wealth = ((*wealth + share) * bet).min(f64::MAX / 1e3);
            }
        }
        self.log_wealth()
    }

    /// The conformal p-value of a number among those before it.
    fn rank(&mut self, score: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of bins"
        )]
        let bin = (score.clamp(0.0, 1.0) * (BINS - 1.0)).round() as u16;
        let (mut below, mut equal) = (0.0, 0.0);
        for (other, count) in &self.counts {
            match other.cmp(&bin) {
                std::cmp::Ordering::Less => below += f64::from(*count),
                std::cmp::Ordering::Equal => equal = f64::from(*count),
                std::cmp::Ordering::Greater => break,
            }
        }
        let before = f64::from(self.blocks);
        let tie = chance(self.seed.wrapping_add(u64::from(self.blocks)));
        match self.counts.binary_search_by_key(&bin, |(other, _)| *other) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.counts.insert(at, (bin, 1)),
        }
        (below + tie * (equal + 1.0)) / (before + 1.0)
    }

    /// Natural logarithm of what the coin has become.
    #[must_use]
    pub fn log_wealth(&self) -> f64 {
        let bet: f64 = self.wealth.iter().flatten().sum();
        libm::log(bet + unspent(self.blocks))
    }

    /// Blocks so far.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * size_of::<(u16, u32)>()
    }
}

/// What has come of a feature in the block that is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    rows: f64,
    present: f64,
    ranks: f64,
    spreads: f64,
}

/// The alarm of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    location: Stream,
    spread: Stream,
    missing: Stream,
    open: Block,
    /// Where it was raised.
    pub raised: Option<Raised>,
}

/// A raised alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Raised {
    /// The last row of the block that raised it.
    pub at: Clock,
    /// What has changed: `location`, `spread` or `missing`.
    pub what: String,
    /// Natural logarithm of the odds against chance.
    pub log_wealth: f64,
}

impl Watch {
    /// The alarm of the feature of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        // FNV-1a: the same on every machine and in every version.
        let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let stream = |k: u64| Stream::new(seed ^ (k << 62));
        Self {
            location: stream(1),
            spread: stream(2),
            missing: stream(3),
            open: Block::default(),
            raised: None,
        }
    }

    /// Takes a row in: where its value lies among the baseline's, from 0 to 1, or that it has none.
    pub fn add(&mut self, rank: Option<f64>) {
        self.open.rows += 1.0;
        if let Some(rank) = rank {
            self.open.present += 1.0;
            self.open.ranks += rank;
            self.open.spreads += (2.0 * rank - 1.0).abs();
        }
    }

    /// The block is over; `counts` says whether it was a whole one. Gives the alarm, if that raises it.
    pub fn close(&mut self, counts: bool, log_bar: f64, at: Clock) -> Option<Raised> {
        let block = std::mem::take(&mut self.open);
        if !counts || block.rows <= 0.0 || self.raised.is_some() {
            return None;
        }
        let mut found: Option<(&str, f64)> = None;
        let mut look = |what, log_wealth: f64| {
            if log_wealth >= log_bar && found.is_none_or(|(_, most)| log_wealth > most) {
                found = Some((what, log_wealth));
            }
        };
        look("missing", self.missing.add(1.0 - block.present / block.rows));
        if block.present > 0.0 {
            look("location", self.location.add(block.ranks / block.present));
            look("spread", self.spread.add(block.spreads / block.present));
        }
        let (what, log_wealth) = found?;
        self.raised = Some(Raised {
            at,
            what: what.to_owned(),
            log_wealth,
        });
        self.raised.clone()
    }

    /// Logarithm of the largest wealth of its streams.
    #[must_use]
    pub fn log_wealth(&self) -> f64 {
        let all = [&self.location, &self.spread, &self.missing];
        all.into_iter().map(Stream::log_wealth).fold(f64::MIN, f64::max)
    }

    /// Whole blocks so far.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.missing.blocks()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let streams = [&self.location, &self.spread, &self.missing];
        size_of::<Self>() + streams.into_iter().map(Stream::bytes).sum::<usize>()
    }
}

/// The bar of every stream, as a logarithm, so that all together raise a false alarm with a chance of at most `alpha`.
#[must_use]
pub fn log_bar(features: usize, alpha: f64) -> f64 {
    libm::log((features.max(1) * STREAMS) as f64 / alpha)
}

/// Cuts rows into blocks: so many rows, or so much time by the calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    /// The open block's number, and whether its first row was seen.
    open: Option<(u64, bool)>,
    last: Clock,
}

impl Blocks {
    /// A row comes: when it begins another block, the last row of the one that is over and whether that was whole.
    pub fn row(&mut self, clock: Clock, length: Span) -> Option<(Clock, bool)> {
        let (number, is_first) = match length {
            Span::Rows(rows) => {
                let (rows, at) = (rows.max(1), clock.row.saturating_sub(1));
                (at / rows, at.is_multiple_of(rows))
            }
            Span::Time(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
                (u64::try_from(clock.time_ms).unwrap_or(0) / ms, false)
            }
        };
        let last = std::mem::replace(&mut self.last, clock);
        match self.open {
            Some((open, is_whole)) if open != number => {
                // Time has no first row; a block is whole when the one before it was seen.
                self.open = Some((number, true));
                Some((last, is_whole))
            }
            Some(_) => None,
            None => {
                self.open = Some((number, is_first));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Random;

    fn at(row: u64) -> Clock {
        Clock {
            row,
            time_ms: i64::try_from(row).unwrap() * 1_000,
        }
    }

    #[test]
    fn wealth_reaches_a_bar_by_chance_no_oftener_than_the_bar_allows() {
        let (runs, bar) = (2_000, 5.0_f64);
        let reaches = |run: &u64| {
            let (mut stream, mut random) = (Stream::new(*run << 20), Random::new(7, 7, *run));
            (0..200).any(|_| stream.add(random.uniform()) >= bar.ln())
        };
        let share = (0..runs).filter(reaches).count() as f64 / runs as f64;
        // Three standard errors above one in five; and the bets are bets.
        assert!((0.04..0.227).contains(&share), "{share}");
    }

    #[test]
    fn a_constant_never_alarms_and_the_first_other_values_do_soon() {
        let mut watch = Watch::new("transfer");
        let bar = log_bar(8, 0.01);
        for row in 1..=5_000 {
            watch.add(Some(0.5));
            assert_eq!(watch.close(true, bar, at(row)), None);
        }
        let raised = (5_001..5_020).find_map(|row| {
            watch.add(Some(if row % 2 == 0 { 0.0 } else { 1.0 }));
            watch.close(true, bar, at(row))
        });
        let raised = raised.expect("raised");
        assert!(raised.at.row <= 5_010 && raised.what == "spread", "{raised:?}");
        assert_eq!(watch.close(true, bar, at(6_000)), None, "once");
    }

    #[test]
    fn values_that_stop_coming_are_a_change_too() {
        let mut watch = Watch::new("x");
        let bar = log_bar(1, 0.01);
        let raised = (1..=2_000).find_map(|row| {
            watch.add((row <= 1_000).then(|| chance(row)));
            watch.close(true, bar, at(row))
        });
        let raised = raised.expect("raised");
        assert!(
            raised.what == "missing" && (1_001..1_010).contains(&raised.at.row),
            "{raised:?}"
        );
        assert!(watch.bytes() < 16_384, "{}", watch.bytes());
    }

    #[test]
    fn only_whole_blocks_count_and_time_follows_the_calendar() {
        let mut blocks = Blocks::default();
        let over: Vec<_> = (46..=145)
            .filter_map(|row| blocks.row(at(row), Span::Rows(48)))
            .collect();
        assert_eq!(over, [(at(48), false), (at(96), true), (at(144), true)]);
        let mut blocks = Blocks::default();
        let minute = "1m".parse().unwrap();
        let over: Vec<_> = [10, 59, 60, 100, 300]
            .into_iter()
            .filter_map(|s| blocks.row(at(s), minute))
            .collect();
        assert_eq!(over, [(at(59), false), (at(100), true)]);
    }
}
