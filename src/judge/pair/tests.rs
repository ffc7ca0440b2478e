use super::*;
use crate::judge::policy::Policy;
use crate::score::{Score, Shed};
use crate::span::Span;

const CHAMPION: VersionNo = VersionNo(0);

fn judge() -> Judge {
    let mut judge = Judge::new(Policy::default(), CHAMPION, 1, Clock::default());
    for version in 1..=4 {
        judge.enter(VersionNo(version), Clock::default());
    }
    judge
}

fn scored(p: f64) -> Outcome {
    Outcome::Scored(Score::Binary(p))
}

fn row(champion: Outcome, others: Vec<Outcome>) -> ClosedRow {
    let others = (1..).map(VersionNo).zip(others).collect();
    let clock = Clock { row: 1, time_ms: 0 };
    ClosedRow {
        clock,
        epoch: 1,
        truth: Some(Truth::Class(1)),
        weight: 1.0,
        champion,
        others,
        groups: 0,
        rewards: None,
        principal: None,
    }
}

fn differences(pair: &Pair) -> Vec<(u32, f64, Kind)> {
    pair.entries
        .iter()
        .map(|e| (e.version.0, e.difference, e.kind))
        .collect()
}

#[test]
fn a_failure_costs_the_bound_a_shed_row_is_no_entry_and_an_uncovered_one_is_a_tie() {
    let others = vec![
        scored(1.0),
        Outcome::Failed,
        Outcome::Uncovered,
        Outcome::Shed(Shed::QueueFull),
    ];
    let pair = Pairing::new()
        .pair(&judge(), &row(scored(0.5), others.clone()))
        .unwrap();
    assert_eq!(pair.champion_loss, Some(0.25));
    assert_eq!(
        differences(&pair),
        [
            (1, 0.25, Kind::Scored),
            (2, -0.75, Kind::Failed),
            (3, 0.0, Kind::Uncovered)
        ]
    );

    let pair = Pairing::new()
        .pair(&judge(), &row(Outcome::Failed, others.clone()))
        .unwrap();
    assert_eq!(pair.champion_loss, Some(1.0));
    assert_eq!(
        differences(&pair),
        [
            (1, 1.0, Kind::Scored),
            (2, 0.0, Kind::Failed),
            (3, 0.0, Kind::Uncovered)
        ]
    );

    let pair = Pairing::new()
        .pair(&judge(), &row(Outcome::Uncovered, others.clone()))
        .unwrap();
    assert_eq!(pair.champion_loss, None);
    assert_eq!(
        differences(&pair),
        [
            (1, 0.0, Kind::Scored),
            (2, 0.0, Kind::Failed),
            (3, 0.0, Kind::Uncovered)
        ]
    );

    assert_eq!(
        Pairing::new().pair(&judge(), &row(Outcome::Shed(Shed::Restart), others)),
        None
    );
}

#[test]
fn a_non_finite_score_counts_as_a_failure() {
    let pair = Pairing::new()
        .pair(&judge(), &row(scored(1.0), vec![scored(f64::NAN)]))
        .unwrap();
    assert_eq!(differences(&pair), [(1, -1.0, Kind::Scored)]);
}

#[test]
fn rows_without_label_of_another_tenure_or_without_weight_make_no_pair() {
    let whole = row(scored(0.5), vec![scored(1.0)]);
    let pair = |row: ClosedRow| Pairing::new().pair(&judge(), &row);
    assert!(pair(whole.clone()).is_some());
    assert_eq!(
        pair(ClosedRow {
            truth: None,
            ..whole.clone()
        }),
        None
    );
    assert_eq!(
        pair(ClosedRow {
            truth: Some(Truth::Value(f64::NAN)),
            ..whole.clone()
        }),
        None
    );
    assert_eq!(
        pair(ClosedRow {
            epoch: 2,
            ..whole.clone()
        }),
        None
    );
    for weight in [0.0, -1.0, f64::NAN] {
        assert_eq!(
            pair(ClosedRow {
                weight,
                ..whole.clone()
            }),
            None
        );
    }
}

#[test]
fn a_weight_scales_the_difference_and_never_enlarges_it() {
    let whole = row(scored(0.5), vec![scored(1.0)]);
    for (weight, difference) in [(0.5, 0.125), (4.0, 0.25)] {
        let pair = Pairing::new()
            .pair(
                &judge(),
                &ClosedRow {
                    weight,
                    ..whole.clone()
                },
            )
            .unwrap();
        assert_eq!(differences(&pair), [(1, difference, Kind::Scored)]);
    }
}

#[test]
fn only_versions_that_collect_evidence_get_an_entry() {
    let mut judge = judge();
    judge.leave(VersionNo(2));
    let others = vec![scored(0.9), scored(0.9), scored(0.9), scored(0.9), scored(0.9)];
    let pair = Pairing::new().pair(&judge, &row(scored(0.5), others)).unwrap();
    assert_eq!(pair.entries.iter().map(|e| e.version.0).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn classes_are_counted_per_version_and_restart_with_the_evidence() {
    let (mut judge, mut pairing) = (judge(), Pairing::new());
    let mut classes = |judge: &Judge, class: u32, version: u32| {
        let mut row = row(scored(0.5), vec![]);
        row.truth = Some(Truth::Class(class));
        row.others = vec![(VersionNo(version), scored(0.5))];
        row.epoch = judge.epoch();
        pairing.pair(judge, &row).unwrap().entries[0].classes
    };
    for _ in 0..100 {
        assert_eq!(classes(&judge, 1, 1), Classes::OneClass);
    }
    for _ in 0..29 {
        assert_eq!(classes(&judge, 0, 1), Classes::Few);
    }
    assert_eq!(classes(&judge, 0, 1), Classes::Enough);
    assert_eq!(classes(&judge, 0, 2), Classes::OneClass);
    judge.restart_evidence();
    assert_eq!(classes(&judge, 1, 1), Classes::OneClass);
}

#[test]
fn what_was_counted_goes_with_the_bytes_under_another_number() {
    let (mut judge, mut pairing) = (judge(), Pairing::new());
    let (from, to) = (VersionNo(1), VersionNo(9));
    let mut seen = row(scored(0.5), vec![scored(0.5)]);
    for class in [0, 1] {
        seen.truth = Some(Truth::Class(class));
        pairing.pair(&judge, &seen).unwrap();
    }
    let before = pairing.clone();
    judge.inherit(from, to);
    pairing.inherit(&judge, from, to);
    assert_eq!(pairing, before, "it is still here");
    judge.leave(from);
    judge.inherit(from, to);
    pairing.inherit(&judge, from, to);
    judge.enter(to, Clock::default());
    seen.others = vec![(to, scored(0.5))];
    let pair = pairing.pair(&judge, &seen).unwrap();
    assert_eq!(pair.entries[0].classes, Classes::Few, "both classes are remembered");
}

#[test]
fn a_pair_is_stored_bit_for_bit() {
    let outcomes = vec![scored(1.0 / 3.0), scored(0.1 + 0.2)];
    let pair = Pairing::new()
        .pair(&judge(), &row(scored(0.123_456_789_012_345_67), outcomes))
        .unwrap();
    let back: Pair = serde_json::from_str(&serde_json::to_string(&pair).unwrap()).unwrap();
    assert_eq!(back, pair);
    let bits = |p: &Pair| p.entries.iter().map(|e| e.difference.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&pair));
}

#[test]
fn what_was_said_reads_back_from_its_code() {
    for positive in [None, Some(false), Some(true)] {
        for tenth in std::iter::once(None).chain((0..10).map(Some)) {
            let seen = Seen { positive, tenth };
            assert_eq!(Seen::from_code(seen.code()), seen);
        }
    }
    let said = Seen::of(&scored(0.97), 0.98);
    assert_eq!((said.positive, said.tenth), (Some(false), Some(9)));
    assert_eq!(Seen::of(&Outcome::Failed, 0.5), Seen::default());
}

#[test]
fn an_observation_of_one_row_is_its_pair_and_of_several_the_mean_with_the_last_rows_class() {
    let judge = judge();
    let one = row(scored(0.5), vec![scored(0.9)]);
    let single = Pairing::new().observation(&judge, std::slice::from_ref(&one));
    assert_eq!(single, Pairing::new().pair(&judge, &one));

    let at = |row_number: u64, others: Vec<Outcome>| ClosedRow {
        clock: Clock {
            row: row_number,
            time_ms: 0,
        },
        ..row(scored(0.5), others)
    };
    // The second version has no score for the last row, the first one failed on it.
    let rows = [
        at(1, vec![scored(0.9), scored(0.7)]),
        at(2, vec![Outcome::Failed, Outcome::Shed(Shed::QueueFull)]),
    ];
    let mut pairing = Pairing::new();
    let pair = pairing.observation(&judge, &rows).unwrap();
    assert_eq!(pair.clock.row, 2);
    let expected = [f64::midpoint(0.25 - 0.01, 0.25 - 1.0), 0.25 - 0.09];
    for (entry, expected) in pair.entries.iter().zip(expected) {
        assert!((entry.difference - expected).abs() < 1e-12, "{entry:?}");
        assert_eq!(entry.kind, Kind::Scored);
    }
    assert_eq!(pair.entries.len(), 2);
    // Only the last row was counted, for the one version that has a part in it.
    assert_eq!(
        pairing.counts.iter().map(|(v, c)| (v.0, c.clone())).collect::<Vec<_>>(),
        [(1, BTreeMap::from([(1, 1)]))]
    );
    assert_eq!(pairing.observation(&judge, &[]), None);
}

fn judge_of(metric: Metric) -> Judge {
    let policy = Policy {
        metric,
        ..Policy::default()
    };
    let mut judge = Judge::new(policy, CHAMPION, 1, Clock::default());
    for version in 1..=4 {
        judge.enter(VersionNo(version), Clock::default());
    }
    judge
}

fn labelled(class: u32, champion: Outcome, others: Vec<Outcome>) -> ClosedRow {
    ClosedRow {
        truth: Some(Truth::Class(class)),
        ..row(champion, others)
    }
}

#[test]
fn a_versions_own_threshold_decides_its_label() {
    let mut judge = judge_of(Metric::Cost {
        matrix: vec![vec![0.0, 1.0], vec![5.0, 0.0]],
    });
    judge.set_threshold(VersionNo(1), 0.3);
    let missed = labelled(1, scored(0.4), vec![scored(0.4), scored(0.4)]);
    let pair = Pairing::new().pair(&judge, &missed).unwrap();
    assert_eq!(pair.champion_loss, Some(5.0));
    assert_eq!(
        differences(&pair),
        [(1, 5.0, Kind::Scored), (2, 0.0, Kind::Scored)],
        "only the first finds it"
    );
    assert_eq!(pair.entries[0].seen.positive, Some(true));
}

#[test]
fn rewards_pay_each_version_for_its_own_label_and_make_no_entry_for_one_that_nobody_spoke_of() {
    let judge = judge_of(Metric::Rewards { bound: 10.0 });
    let paid = |table: Vec<Option<f64>>, champion: Outcome| ClosedRow {
        truth: None,
        rewards: Some(table.into()),
        ..row(
            champion,
            vec![scored(0.9), scored(0.1), Outcome::Failed, Outcome::Uncovered],
        )
    };
    let pair = Pairing::new()
        .pair(&judge, &paid(vec![Some(-1.0), Some(0.5)], scored(0.2)))
        .unwrap();
    assert_eq!(pair.champion_loss, Some(1.5));
    assert_eq!(
        differences(&pair),
        [
            (1, 1.5, Kind::Scored),
            (2, 0.0, Kind::Scored),
            (3, -8.5, Kind::Failed),
            (4, 0.0, Kind::Uncovered)
        ]
    );
    assert!(pair.entries.iter().all(|entry| entry.classes == Classes::Enough));
    // Only the negative label is paid: who says positive has no entry, and a champion who does makes no pair.
    let pair = Pairing::new()
        .pair(&judge, &paid(vec![Some(-1.0), None], scored(0.2)))
        .unwrap();
    assert_eq!(
        differences(&pair),
        [
            (2, 0.0, Kind::Scored),
            (3, -10.0, Kind::Failed),
            (4, 0.0, Kind::Uncovered)
        ]
    );
    assert_eq!(
        Pairing::new().pair(&judge, &paid(vec![Some(-1.0), None], scored(0.8))),
        None
    );
    // A label is no reward.
    let bare = labelled(1, scored(0.2), vec![scored(0.9)]);
    assert_eq!(Pairing::new().pair(&judge, &bare), None);
}

#[test]
fn a_positive_is_matched_with_the_latest_unused_negative() {
    let (judge, mut pairing) = (judge_of(Metric::Auc), Pairing::new());
    let mut pair = |class, weight, champion: Outcome, other: Outcome| {
        let row = ClosedRow {
            weight,
            ..labelled(class, champion, vec![other])
        };
        let pair = pairing.pair(&judge, &row)?;
        let entry = pair.entries.first().map(|e| (e.difference, e.kind));
        Some((pair.champion_loss, pair.weight, entry))
    };
    assert_eq!(
        pair(1, 1.0, scored(0.9), scored(0.9)),
        None,
        "nobody to compare it with"
    );
    assert_eq!(pair(0, 1.0, scored(0.2), scored(0.2)), None);
    assert_eq!(pair(0, 0.5, scored(0.6), scored(0.4)), None);
    // With the second: the champion misorders, the other ties.
    assert_eq!(
        pair(1, 0.5, scored(0.5), scored(0.4)),
        Some((Some(1.0), 0.25, Some((0.125, Kind::Scored))))
    );
    // With the first, which both order rightly.
    assert_eq!(
        pair(1, 1.0, scored(0.5), scored(0.4)),
        Some((Some(0.0), 1.0, Some((0.0, Kind::Scored))))
    );
    assert_eq!(pair(1, 1.0, scored(0.5), scored(0.4)), None, "both are used");
    // Failing on either row is a misorder; lacking a feature on either is a tie of difference 0.
    assert_eq!(pair(0, 1.0, scored(0.2), Outcome::Failed), None);
    assert_eq!(
        pair(1, 1.0, scored(0.5), scored(0.9)),
        Some((Some(0.0), 1.0, Some((-1.0, Kind::Failed))))
    );
    assert_eq!(pair(0, 1.0, scored(0.2), Outcome::Uncovered), None);
    assert_eq!(
        pair(1, 1.0, scored(0.1), scored(0.9)),
        Some((Some(1.0), 1.0, Some((0.0, Kind::Uncovered))))
    );
    // A version that was shed on one of the rows has no entry.
    assert_eq!(pair(0, 1.0, scored(0.2), Outcome::Shed(Shed::QueueFull)), None);
    assert_eq!(pair(1, 1.0, scored(0.1), scored(0.9)), Some((Some(1.0), 1.0, None)));
}

#[test]
fn of_an_entity_one_row_takes_part_in_a_match() {
    let (judge, mut pairing) = (judge_of(Metric::Auc), Pairing::new());
    let negative = labelled(0, scored(0.2), vec![scored(0.1)]);
    let positive = labelled(1, scored(0.1), vec![scored(0.9)]);
    assert_eq!(pairing.observation(&judge, &vec![negative; 5]), None);
    let several = vec![positive; 3];
    let pair = pairing.observation(&judge, &several).unwrap();
    assert_eq!(differences(&pair), [(1, 1.0, Kind::Scored)]);
    assert_eq!(
        pairing.observation(&judge, &several),
        None,
        "five rows were one negative"
    );
}

#[test]
fn what_waits_for_a_match_is_bounded_restarts_with_the_evidence_and_goes_with_the_bytes() {
    let (mut judge, mut pairing) = (judge_of(Metric::Auc), Pairing::new());
    let negative = labelled(0, scored(0.2), vec![scored(0.2)]);
    for _ in 0..1000 {
        pairing.pair(&judge, &negative);
    }
    let stored = serde_json::to_string(&pairing).unwrap();
    assert!(stored.len() < 64 * 200, "{} bytes", stored.len());
    assert_eq!(serde_json::from_str::<Pairing>(&stored).unwrap(), pairing);
    let positive = |version| ClosedRow {
        others: vec![(VersionNo(version), scored(0.9))],
        ..labelled(1, scored(0.1), vec![])
    };
    let entries = |pairing: &mut Pairing, judge: &Judge, version| {
        let pair = pairing.pair(judge, &positive(version));
        pair.map(|pair| differences(&pair))
    };
    judge.leave(VersionNo(1));
    judge.inherit(VersionNo(1), VersionNo(9));
    pairing.inherit(&judge, VersionNo(1), VersionNo(9));
    judge.enter(VersionNo(9), Clock::default());
    assert_eq!(entries(&mut pairing, &judge, 9), Some(vec![(9, 1.0, Kind::Scored)]));
    let mut alone = pairing.clone();
    alone.forget(VersionNo(9));
    assert_eq!(
        entries(&mut alone, &judge, 9),
        Some(vec![]),
        "its own evidence began anew"
    );
    judge.restart_evidence();
    assert_eq!(entries(&mut pairing, &judge, 9), None, "everybody's did");
}

/// Splitmix64: a seed replays a failure.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Mean difference and its standard error where the champion sees the truth with `champion` and the other with `other`.
fn simulated(seed: u64, share: f64, champion: f64, other: f64) -> (f64, f64, u64) {
    let (judge, mut pairing, mut random) = (judge_of(Metric::Auc), Pairing::new(), Random(seed));
    let (mut n, mut sum, mut squares) = (0u64, 0.0, 0.0);
    for _ in 0..60_000 {
        let positive = random.unit() < share;
        // What both see beside the truth makes their errors depend on each other.
        let common = random.unit();
        let mut sees = |skill: f64| {
            let truth = if positive { skill } else { 0.0 };
            scored((0.5 * common + 0.5 * random.unit() + truth) / (1.0 + skill))
        };
        let (a, b) = (sees(champion), sees(other));
        let Some(pair) = pairing.pair(&judge, &labelled(u32::from(positive), a, vec![b])) else {
            continue;
        };
        for entry in &pair.entries {
            n += 1;
            sum += entry.difference;
            squares += entry.difference * entry.difference;
        }
    }
    let mean = sum / n as f64;
    (mean, ((squares / n as f64 - mean * mean) / n as f64).sqrt(), n)
}

#[test]
fn the_matched_difference_is_unbiased_for_equals_and_positive_for_the_better() {
    for (seed, share) in [(1, 0.05), (2, 0.3), (3, 0.5), (4, 0.8)] {
        let (mean, error, n) = simulated(seed, share, 0.3, 0.3);
        assert!(
            mean.abs() <= 4.0 * error && n > 1_000,
            "seed {seed}: {mean} ± {error}, {n} matches"
        );
        let (mean, error, _) = simulated(seed, share, 0.2, 0.4);
        assert!(mean > 4.0 * error, "seed {seed}: {mean} ± {error}");
        let (mean, error, _) = simulated(seed, share, 0.4, 0.2);
        assert!(mean < -4.0 * error, "seed {seed}: {mean} ± {error}");
    }
}

#[test]
fn a_bound_is_estimated_from_the_first_labels_which_are_no_evidence() {
    let policy = Policy {
        metric: Metric::AbsoluteError { bound: 0.0 },
        bound_from: Some(BOUND_LABELS),
        ..Policy::default()
    };
    let mut judge = Judge::new(policy, CHAMPION, 1, Clock::default());
    judge.enter(VersionNo(1), Clock::default());
    let mut pairing = Pairing::new();
    let value = |x: f64| Outcome::Scored(Score::Value(x));
    let seen = |error: f64| ClosedRow {
        truth: Some(Truth::Value(error)),
        ..row(value(0.0), vec![value(error)])
    };
    for n in 0..BOUND_LABELS {
        assert_eq!((pairing.bound(&judge), pairing.estimating(&judge)), (None, Some(n)));
        assert_eq!(pairing.pair(&judge, &seen(f64::from(u32::try_from(n).unwrap()))), None);
        let text = serde_json::to_string(&pairing).unwrap();
        pairing = serde_json::from_str(&text).unwrap();
    }
    // Rows without the champion's score do not count.
    let bound = pairing.bound(&judge).unwrap();
    assert!((bound - 2.0 * 198.0).abs() < 1e-12);
    judge.set_bound(bound);
    assert_eq!((pairing.bound(&judge), pairing.estimating(&judge)), (None, None));
    let pair = pairing.pair(&judge, &seen(1e6)).unwrap();
    assert_eq!(differences(&pair), [(1, 396.0, Kind::Scored)], "cut at the bound");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![4 => -1.0f64..2.0, 1 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            6 => number().prop_map(|x| Outcome::Scored(Score::Binary(x))),
            2 => number().prop_map(|x| Outcome::Scored(Score::Value(x))),
            2 => prop::collection::vec(number(), 0..4).prop_map(|all| Outcome::Scored(Score::Classes(all.into()))),
            1 => Just(Outcome::Failed),
            1 => Just(Outcome::Uncovered),
            1 => Just(Outcome::Unread),
            1 => Just(Outcome::Shed(Shed::QueueFull)),
        ]
    }

    fn any_row() -> impl Strategy<Value = ClosedRow> {
        let truth = prop::option::of(prop_oneof![
            (0u32..3).prop_map(Truth::Class),
            number().prop_map(Truth::Value)
        ]);
        let table = prop::option::of(prop::collection::vec(prop::option::of(number()), 0..4));
        let others = prop::collection::vec(outcome(), 0..5);
        (truth, table, outcome(), others, number()).prop_map(|(truth, table, champion, others, weight)| ClosedRow {
            truth,
            rewards: table.map(Into::into),
            weight,
            ..row(champion, others)
        })
    }

    fn any_metric() -> impl Strategy<Value = (Metric, bool)> {
        let matrix = vec![vec![0.0, 1.0], vec![5.0, 0.0]];
        prop_oneof![
            Just((Metric::Brier, false)),
            Just((Metric::LogLoss { clip: 0.05 }, false)),
            Just((Metric::ZeroOne { threshold: 0.5 }, false)),
            Just((Metric::Cost { matrix }, false)),
            Just((Metric::Auc, false)),
            Just((Metric::SquaredError { bound: 0.0 }, true)),
            Just((Metric::AbsoluteError { bound: 3.0 }, false)),
            Just((
                Metric::Pinball {
                    quantile: 0.9,
                    bound: 0.0
                },
                true
            )),
            Just((Metric::Rewards { bound: 0.0 }, true)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_row_makes_a_difference_that_is_no_number_or_beyond_the_bound(
            (metric, auto) in any_metric(), rows in prop::collection::vec(any_row(), 1..120),
        ) {
            let policy = Policy { metric, bound_from: auto.then_some(5), ..Policy::default() };
            let mut judge = Judge::new(policy, CHAMPION, 1, Clock::default());
            for version in 1..=4 {
                judge.enter(VersionNo(version), Clock::default());
            }
            let mut pairing = Pairing::new();
            for (at, row) in (1u64..).zip(&rows) {
                let row = ClosedRow { clock: Clock { row: at, time_ms: 0 }, ..row.clone() };
                let pair = pairing.pair(&judge, &row);
                if let Some(bound) = pairing.bound(&judge) {
                    prop_assert!(bound > 0.0 && bound.is_finite());
                    judge.set_bound(bound);
                }
                let Some(pair) = pair else { continue };
                let bound = judge.policy().metric.bound();
                prop_assert!(pair.weight > 0.0 && pair.weight <= 1.0);
                prop_assert!(pair.champion_loss.is_none_or(|loss| (0.0..=bound).contains(&loss)));
                for entry in &pair.entries {
                    prop_assert!(entry.difference.abs() <= bound * pair.weight, "{entry:?}");
                }
                judge.fold(&pair);
            }
            for verdict in judge.verdicts() {
                prop_assert!(verdict.numbers.log_wealth.is_finite() && verdict.numbers.mean_difference.is_finite());
            }
            let text = serde_json::to_string(&pairing).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pairing>(&text).unwrap(), pairing);
        }
    }
}

/// Labels of a stream on which the challenger is right six times in ten and the champion seven, by so many keys; `liars` of
/// them say what the challenger says, and `times` as often; one honest label in twenty is by a trusted key, whose rows are
/// the policy's first group. Whether the challenger is promoted.
fn crowns(policy: &Policy, (keys, liars, times): (u64, u64, u64), seed: u64) -> bool {
    let mut random = crate::simulate::random::Random::new(seed, 7, seed);
    let mut judge = Judge::new(policy.clone(), VersionNo(0), 1, Clock::default());
    judge.enter(VersionNo(1), Clock::default());
    let mut pairing = Pairing::new();
    for n in 1..=3_000_u64 {
        let at = random.next() % (keys - liars + liars * times);
        let liar = (at >= keys - liars).then(|| (at - (keys - liars)) % liars);
        let is_trusted = liar.is_none() && random.uniform() < 0.05;
        let truth = u32::from(random.uniform() < 0.5);
        let mut says = |right: f64| u32::from((random.uniform() < right) == (truth == 1));
        let (champion, challenger) = (says(0.7), says(0.6));
        let key = match (liar, is_trusted) {
            (Some(liar), _) => format!("liar-{liar}"),
            (None, true) => "ops".to_owned(),
            (None, false) => format!("honest-{at}"),
        };
        let score = |class: u32| scored(if class == 1 { 0.9 } else { 0.1 });
        let clock = Clock { row: n, time_ms: 0 };
        let closed = ClosedRow {
            clock,
            truth: Some(Truth::Class(if liar.is_some() { challenger } else { truth })),
            principal: Some(key.into()),
            groups: u64::from(is_trusted),
            ..row(score(champion), vec![score(challenger)])
        };
        if let Some(pair) = pairing.observation(&judge, &[closed])
            && judge.fold(&Pair { clock, ..pair }).is_some()
        {
            return true;
        }
    }
    false
}

fn lenient() -> Policy {
    Policy {
        dwell: Span::Rows(48),
        cooldown: Span::Rows(0),
        guardrail: crate::judge::policy::Guardrails::none(),
        trusted: vec!["ops".into()],
        ..Policy::default()
    }
}

#[test]
fn a_minority_that_floods_does_not_crown_a_worse_model_and_would_without_the_limit() {
    let free = Policy {
        principal_share: 1.0,
        ..lenient()
    };
    for seed in 0..8 {
        // 2 of 40 keys send half of all labels.
        let crowd = (40, 2, 19);
        assert!(!crowns(&lenient(), crowd, seed), "seed {seed}");
        assert!(crowns(&free, crowd, seed), "seed {seed}: there is nothing to hold back");
    }
}

#[test]
fn trusted_labels_stop_what_a_fifth_of_the_keys_would_crown() {
    let with_lane = Policy {
        groups: vec![crate::judge::policy::Group {
            name: "trusted labels".into(),
            expr: "label.key in [\"ops\"]".into(),
            margin: 0.02,
            strict: true,
        }],
        ..lenient()
    };
    for seed in 0..8 {
        let crowd = (40, 8, 4);
        assert!(crowns(&lenient(), crowd, seed), "seed {seed}: there is nothing to stop");
        assert!(!crowns(&with_lane, crowd, seed), "seed {seed}");
    }
}
