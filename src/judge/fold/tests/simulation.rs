//! The promise, counted: how often the whole judge displaces a champion that nobody beats, and how often and how
//! soon a better challenger wins. Seeded; a look at every row.

use super::*;

/// Steele, Lea and Flood 2014.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0
    }
}

/// The hardest policy to keep the promise under: no waiting rule helps.
fn bare(alpha: f64) -> Policy {
    Policy {
        alpha,
        min_labels: 1,
        dwell: Span::Rows(0),
        cooldown: Span::Rows(0),
        ..policy()
    }
}

/// One contest of 0/1 losses, `effects` per challenger: who is promoted first, and when. Challengers share the
/// champion's luck, so their differences depend on each other.
fn contest(seed: u64, policy: Policy, rows: u64, effects: &[f64]) -> Option<(u64, VersionNo)> {
    let mut random = SplitMix64(seed);
    let mut judge = Judge::new(policy, A, 1, at(0));
    play(&mut judge, &mut random, rows, effects).map(|(row, decision)| (row, decision.version))
}

/// Rows until the first decision; `effects` belong to versions 10, 11, …
fn play(judge: &mut Judge, random: &mut SplitMix64, rows: u64, effects: &[f64]) -> Option<(u64, Decision)> {
    const DISAGREE: f64 = 0.2;
    let versions: Vec<VersionNo> = (10..).map(VersionNo).take(effects.len()).collect();
    for version in &versions {
        judge.enter(*version, at(0));
    }
    (1..=rows).find_map(|row| {
        let champion_wrong = random.uniform() < 0.5;
        let entries = versions.iter().zip(effects).map(|(version, effect)| {
            // It differs on a share of rows; where it does, it is right when the champion is wrong.
            let differs = random.uniform()
                < if champion_wrong {
                    DISAGREE + effect
                } else {
                    DISAGREE - effect
                };
            entry(
                *version,
                f64::from(u8::from(differs)) * if champion_wrong { 1.0 } else { -1.0 },
            )
        });
        let pair = pair(judge, row, entries.collect());
        judge.fold(&pair).map(|decision| (row, decision))
    })
}

/// Lower end of the one-sided 99.9 % binomial interval (Wilson).
fn at_least(hits: u32, of: u32) -> f64 {
    const Z: f64 = 3.09;
    let (n, p) = (f64::from(of), f64::from(hits) / f64::from(of));
    let centre = p + Z * Z / (2.0 * n);
    (centre - Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt()) / (1.0 + Z * Z / n)
}

#[test]
fn equal_challengers_displace_the_champion_no_more_often_than_alpha() {
    const ALPHA: f64 = 0.1;
    const RUNS: u32 = 600;
    for effects in [&[0.0; 4][..], &[0.0, -0.02, -0.05, 0.0][..]] {
        let hits = (0..RUNS).filter(|run| contest(7_000 + u64::from(*run), bare(ALPHA), 1_500, effects).is_some());
        let hits = u32::try_from(hits.count()).unwrap();
        assert!(
            at_least(hits, RUNS) <= ALPHA,
            "{hits} of {RUNS} promoted, effects {effects:?}"
        );
        assert!(hits > 0, "a judge that never errs at this alpha does not bet");
    }
}

#[test]
fn a_new_champion_that_is_no_worse_is_rolled_back_no_more_often_than_rollback_alpha() {
    const ALPHA: f64 = 0.1;
    const RUNS: u32 = 600;
    let rolled_back = |run: &u32| {
        let policy = Policy {
            rollback_alpha: ALPHA,
            probation: Span::Rows(u64::MAX),
            ..bare(1e-12)
        };
        let mut judge = Judge::new(policy, VersionNo(10), 1, at(0));
        judge.swap(A, Swap::Promotion, at(0));
        play(&mut judge, &mut SplitMix64(5_000 + u64::from(*run)), 1_500, &[0.0]).is_some()
    };
    let hits = u32::try_from((0..RUNS).filter(rolled_back).count()).unwrap();
    assert!(
        hits > 0 && at_least(hits, RUNS) <= ALPHA,
        "{hits} of {RUNS} rolled back"
    );
}

#[test]
fn the_better_one_of_several_wins_and_soon() {
    const RUNS: u64 = 40;
    let runs = (0..RUNS).map(|run| contest(9_000 + run, policy(), 6_000, &[0.0, 0.0, 0.08, -0.05]));
    let mut rows: Vec<u64> = runs
        .enumerate()
        .filter_map(|(run, first)| {
            let (row, version) = first.unwrap_or_else(|| panic!("seed {}: nobody won", 9_000 + run));
            (version == VersionNo(12)).then_some(row)
        })
        .collect();
    assert!(
        rows.len() as u64 >= RUNS - 1,
        "the right one won {} of {RUNS}",
        rows.len()
    );
    rows.sort_unstable();
    let median = rows[rows.len() / 2];
    assert!(median < 1_200, "median {median} labels");
}
