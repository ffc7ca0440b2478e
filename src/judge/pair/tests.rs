use super::*;
use crate::judge::policy::Policy;
use crate::score::{Score, Shed};

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
