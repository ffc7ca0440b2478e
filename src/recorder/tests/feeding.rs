//! What is one observation, which rows are evidence, and what becomes of a verdict where labels follow the answers.

use super::*;
use crate::id::IdKey;

fn row_of(lab: &Lab, id: i64, entity: &str) -> Observation {
    Observation {
        entities: Some(vec![entity.to_owned()]),
        ..lab.observation(id, &[scored(0.5)])
    }
}

#[test]
fn overlapping_rows_of_an_entity_fold_as_their_mean_when_the_last_of_them_closes() {
    let mut lab = Lab::new(closing(Span::Rows(3)), Policy::default(), &[FIRST]);
    for (id, entity) in [
        (1, "a"),
        (2, "b"),
        (3, "a"),
        (4, "a"),
        (5, "c"),
        (6, "c"),
        (7, "c"),
        (8, "c"),
    ] {
        let seen = row_of(&lab, id, entity);
        lab.record(seen);
        lab.outcome(
            FIRST,
            id,
            scored(0.5 + 0.1 * f64::from(u32::try_from(id).unwrap())).clone(),
        );
        if id != 4 {
            lab.label(id, 1);
        }
    }
    // Rows 1, 3 and 4 are one observation, though row 4 has no label of its own; row 2 stands alone.
    assert_eq!(lab.folded(), [(2, vec![2]), (4, vec![2])]);
    let pairs = lab.pairs();
    let loss = |p: f64| (1.0 - p) * (1.0 - p);
    let expected = f64::midpoint(loss(0.5) - loss(0.6), loss(0.5) - loss(0.8));
    assert!(
        (pairs[1].entries[0].difference - expected).abs() < 1e-12,
        "{:?}",
        pairs[1]
    );
    assert_eq!(lab.book().coverage[&FIRST].labelled, 2);

    // After a kill in between the chain is the same.
    lab.reload();
    for id in 9..=20 {
        lab.rows([id]);
        lab.outcome(FIRST, id, scored(0.5));
    }
    assert_eq!(lab.folded(), [(2, vec![2]), (4, vec![2]), (8, vec![2])]);
}

#[test]
fn rows_of_an_entity_that_do_not_overlap_are_observations_of_their_own() {
    let mut lab = Lab::new(closing(Span::Rows(1)), Policy::default(), &[FIRST]);
    for id in 1..=9 {
        let seen = row_of(&lab, id, if id % 3 == 1 { "a" } else { "b" });
        lab.record(seen);
        lab.outcome(FIRST, id, scored(0.9));
        lab.label(id, 1);
    }
    // "a" at 1, 4, 7; "b" at 2 and 3, 5 and 6, which overlap.
    let rows: Vec<u64> = lab.folded().iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [1, 3, 4, 6, 7]);
}

#[test]
fn an_entity_that_never_pauses_is_one_observation_per_horizon() {
    let never = Closing {
        horizon: Span::Rows(5),
        ..closing(Span::Rows(2))
    };
    let mut lab = Lab::new(never, Policy::default(), &[FIRST]);
    for id in 1..=18 {
        let seen = row_of(&lab, id, "a");
        lab.record(seen);
        lab.outcome(FIRST, id, scored(0.9));
        lab.label(id, 1);
    }
    let rows: Vec<u64> = lab.folded().iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [4, 9, 14]);
}

#[test]
fn the_classes_of_an_entity_are_counted_once() {
    let mut lab = Lab::new(closing(Span::Rows(4)), Policy::default(), &[FIRST]);
    for id in 1..=4 {
        let seen = row_of(&lab, id, "a");
        lab.record(seen);
        lab.outcome(FIRST, id, scored(0.9));
        // The last word of an entity is its class.
        lab.label(id, u32::from(id == 4));
    }
    lab.rows(5..=9);
    assert_eq!(lab.folded(), [(4, vec![2])]);
    let text = lab.thread.ledger.reader().cursor(lab.model).unwrap().unwrap().pairing;
    assert!(text.contains("{\"1\":1}"), "{text}");
}

#[test]
fn only_rows_of_the_slice_are_evidence_where_the_settings_say_so() {
    let key = IdKey::new([7; 16]);
    let sliced = Closing {
        slice: Some(Slice {
            key: key.clone(),
            share: 0.3,
        }),
        ..closing(Span::Rows(1))
    };
    let mut lab = Lab::new(sliced, Policy::default(), &[FIRST]);
    for id in 1..=60 {
        lab.rows([id]);
        lab.outcome(FIRST, id, scored(0.9));
        lab.label(id, 1);
    }
    let rows: Vec<u64> = lab.folded().iter().map(|(row, _)| *row).collect();
    let expected: Vec<u64> = (1..=58)
        .filter(|id| key.is_explored(*id, 0.3))
        .map(|id| id.unsigned_abs())
        .collect();
    assert!(!expected.is_empty() && expected.len() < 40);
    assert_eq!(rows, expected);
}

/// Rows answered by turns with .8 and .2; each has a label where `has_label` says so of its answer.
fn answered(lab: &mut Lab, ids: std::ops::RangeInclusive<i64>, has_label: impl Fn(bool) -> bool) {
    for id in ids {
        let positive = id % 8 < 4;
        let seen = lab.observation(id, &[scored(if positive { 0.8 } else { 0.2 })]);
        lab.record(seen);
        // The challenger knows everything.
        let class = u32::from(id % 3 == 0);
        lab.outcome(FIRST, id, scored(f64::from(class)));
        if has_label(positive) {
            lab.label(id, class);
        }
    }
}

#[test]
fn where_labels_follow_the_answers_auto_acts_as_recommend_and_says_why() {
    let policy = Policy {
        min_labels: 2_000,
        ..eager()
    };
    let mut lab = Lab::new(closing(Span::Rows(2)), policy, &[FIRST]);
    answered(&mut lab, 1..=2_100, |positive| positive);
    let doubt = lab.book().judge.as_ref().unwrap().doubt().unwrap().to_owned();
    assert!(doubt.contains("0.0 % of the rows with the negative label"), "{doubt}");
    answered(&mut lab, 2_101..=5_000, |positive| positive);
    assert!(lab.book().pending().is_none(), "nothing is swapped by itself");
    let why = lab.book().verdicts()[0].why.clone();
    assert!(
        why.contains("waits for a person to promote it, because labels depend"),
        "{why}"
    );

    // It outlives the process, and goes when labels come for all answers alike.
    lab.reload();
    assert_eq!(lab.book().judge.as_ref().unwrap().doubt(), Some(doubt.as_str()));
    answered(&mut lab, 5_001..=9_000, |_| true);
    assert_eq!(lab.book().judge.as_ref().unwrap().doubt(), None);
    assert!(lab.book().pending().is_some());
}

#[test]
fn where_silence_means_something_nothing_is_doubted() {
    let absent = Closing {
        absent: Some(Truth::Class(0)),
        ..closing(Span::Rows(2))
    };
    let mut lab = Lab::new(absent, Policy::default(), &[FIRST]);
    answered(&mut lab, 1..=2_000, |positive| positive);
    assert_eq!(lab.book().judge.as_ref().unwrap().doubt(), None);
}
