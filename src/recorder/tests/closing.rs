//! When rows close, and in which order they become evidence.

use super::*;

#[test]
fn a_row_closes_when_one_numbered_above_its_own_and_maturity_is_recorded() {
    let mut lab = Lab::new(closing(Span::Rows(3)), Policy::default(), &[FIRST]);
    lab.rows([1]);
    lab.label(1, 1);
    lab.outcome(FIRST, 1, scored(0.9));
    lab.rows([2, 3, 4]);
    assert_eq!(lab.folded(), [], "row 4 is not above 1 + 3");
    lab.rows([5]);
    assert_eq!(lab.folded(), [(1, vec![2])]);
}

#[test]
fn a_row_closes_when_a_request_comes_later_than_its_time_and_maturity() {
    let maturity = Span::Time(std::time::Duration::from_millis(100));
    let mut lab = Lab::new(closing(maturity), Policy::default(), &[FIRST]);
    lab.rows([1_000]);
    lab.label(1_000, 0);
    lab.outcome(FIRST, 1_000, scored(0.1));
    lab.rows([1_100]);
    assert_eq!(lab.folded(), []);
    lab.rows([1_101]);
    assert_eq!(lab.folded(), [(1, vec![2])]);
}

#[test]
fn a_clock_that_steps_back_neither_opens_closed_rows_nor_folds_out_of_order() {
    let maturity = Span::Time(std::time::Duration::from_millis(100));
    let mut lab = Lab::new(closing(maturity), Policy::default(), &[]);
    lab.rows([1_000, 1_101, 900]);
    lab.reload();
    assert_eq!(lab.label(1_000, 1), Status::Late, "1101 is remembered");
    assert_eq!(lab.label(900, 1), Status::Late);
    assert_eq!(lab.label(1_101, 1), Status::Accepted);
    lab.rows([2_000]);
    let rows: Vec<u64> = lab.pairs().iter().map(|pair| pair.clock.row).collect();
    assert_eq!(rows, [2]);
}

#[test]
fn rows_fold_in_record_order_and_wait_for_every_version_that_they_were_offered_to() {
    let mut lab = Lab::new(closing(Span::Rows(2)), Policy::default(), &[FIRST, SECOND]);
    // Ids are of the request, row numbers of the record.
    lab.rows([20, 10, 30]);
    for id in [10, 20, 30] {
        lab.label(id, 1);
        lab.outcome(FIRST, id, scored(0.7));
    }
    lab.outcome(SECOND, 10, scored(0.2));
    lab.outcome(SECOND, 30, scored(0.2));
    lab.rows([40, 50, 60]);
    assert_eq!(lab.folded(), [], "the first recorded row lacks an outcome");
    lab.outcome(SECOND, 20, Outcome::Shed(Shed::Starved));
    let folded: Vec<_> = lab.folded();
    assert_eq!(folded, [(1, vec![2]), (2, vec![2, 3]), (3, vec![2, 3])]);
}

#[test]
fn every_kind_of_outcome_counts_as_it_should() {
    let mut lab = Lab::new(closing(Span::Rows(0)), Policy::default(), &[FIRST]);
    let outcomes = [
        (scored(0.9), Some(0.25 - 0.01)),
        (Outcome::Failed, Some(0.25 - 1.0)),
        (Outcome::Uncovered, Some(0.0)),
        (Outcome::Unread, None),
        (Outcome::Shed(Shed::QueueFull), None),
    ];
    for (id, (outcome, _)) in (1..).zip(&outcomes) {
        lab.rows([id]);
        lab.label(id, 1);
        lab.outcome(FIRST, id, outcome.clone());
    }
    lab.rows([9]);
    for (pair, (outcome, expected)) in lab.pairs().iter().zip(&outcomes) {
        let difference = pair.entries.first().map(|entry| entry.difference);
        match (difference, expected) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{outcome:?}: {found}"),
            (found, expected) => assert_eq!(found, *expected, "{outcome:?}"),
        }
    }
    assert_eq!(lab.pairs().len(), outcomes.len());
    for reason in ["failed", "uncovered", "unread", "queue_full"] {
        assert_eq!(lab.count(FIRST, reason), 1, "{reason}");
    }
    let coverage = &lab.book().coverage[&FIRST];
    assert_eq!((coverage.offered, coverage.scored, coverage.labelled), (6, 1, 3));
}

#[test]
fn what_the_champion_could_not_score_counts_against_it_or_not_at_all() {
    let mut lab = Lab::new(closing(Span::Rows(0)), Policy::default(), &[FIRST]);
    let outcomes = [Outcome::Failed, Outcome::Uncovered, Outcome::Unread];
    for (id, outcome) in (1..).zip(outcomes) {
        let seen = lab.observation(id, &[outcome]);
        lab.record(seen);
        lab.label(id, 1);
        lab.outcome(FIRST, id, scored(1.0));
    }
    lab.rows([9]);
    let found: Vec<_> = lab
        .pairs()
        .iter()
        .map(|p| (p.clock.row, p.entries[0].difference))
        .collect();
    assert_eq!(
        found,
        [(1, 1.0), (2, 0.0)],
        "an answer without a known score makes no pair"
    );
}

#[test]
fn refused_rows_are_shed_with_the_reason_of_the_refusal() {
    let mut lab = Lab::new(closing(Span::Rows(0)), Policy::default(), &[FIRST, SECOND]);
    *lab.challengers[0].1.refuses.lock().unwrap() = Some(Shed::QueueFull);
    let seen = lab.observation(1, &[scored(0.5), scored(0.5)]);
    lab.record(seen);
    assert_eq!(
        (lab.count(FIRST, "queue_full"), lab.challengers[1].1.taken()),
        (2, vec![1, 2])
    );
}

#[test]
fn a_seen_callers_id_is_neither_recorded_nor_offered_and_shifts_nobody_elses_outcome() {
    let mut lab = Lab::new(closing(Span::Rows(0)), Policy::default(), &[FIRST]);
    let own = |ids: &[&str]| Some(Arc::new(ids.iter().map(|id| (*id).to_owned()).collect()));
    let first = Observation {
        ids: own(&["a", "b"]),
        ..lab.observation(10, &[scored(0.5), scored(0.5)])
    };
    lab.record(first);
    let second = Observation {
        ids: own(&["a", "c", "c", "d"]),
        ..lab.observation(20, &[scored(0.5), scored(0.5), scored(0.5), scored(0.5)])
    };
    lab.record(second);
    assert_eq!(lab.book().clock().row, 4);
    assert_eq!(lab.challengers[0].1.taken(), [10, 11, 21, 23]);
    let item = lab.label_item(LabelKey::Caller("c".into()), 1, 1.0);
    assert_eq!(lab.send(vec![item]), [Status::Late], "it is the row that was recorded");
}

#[test]
fn rows_without_a_label_count_as_absent_says_and_weights_scale_the_difference() {
    let absent = Closing {
        absent: Some(Truth::Class(0)),
        ..closing(Span::Rows(1))
    };
    let mut lab = Lab::new(absent, Policy::default(), &[FIRST]);
    lab.rows([1, 2]);
    let weighted = lab.label_item(LabelKey::Ours { id: 2, time_ms: 2 }, 1, 0.5);
    assert_eq!(lab.send(vec![weighted]), [Status::Accepted]);
    lab.report(FIRST, vec![(1, scored(0.0)), (2, scored(1.0))]);
    lab.rows([3, 4]);
    let found: Vec<_> = lab
        .pairs()
        .iter()
        .map(|p| (p.weight, p.entries[0].difference))
        .collect();
    assert_eq!(found, [(1.0, 0.25), (0.5, 0.125)]);
}

#[test]
fn rows_of_another_tenure_make_no_pair() {
    let mut lab = Lab::new(closing(Span::Rows(1)), Policy::default(), &[FIRST, SECOND]);
    lab.rows([1, 2]);
    for id in [1, 2] {
        lab.label(id, 1);
        lab.report(FIRST, vec![(id, scored(0.9))]);
        lab.report(SECOND, vec![(id, scored(0.9))]);
    }
    let clock = lab.book().clock();
    lab.event(Event::Swap {
        to: FIRST,
        kind: crate::judge::tenure::Swap::Promotion,
        clock,
    });
    lab.rows([3]);
    lab.label(3, 1);
    lab.report(FIRST, vec![(3, scored(0.9))]);
    lab.report(SECOND, vec![(3, scored(0.9))]);
    lab.rows([4, 5]);
    assert_eq!(lab.folded(), [(3, vec![3])], "row 3 is the first of the new tenure");
}

#[test]
fn unlabelled_rows_are_passed_over_without_waiting_and_looked_at_once() {
    let mut lab = Lab::new(closing(Span::Rows(100)), Policy::default(), &[FIRST]);
    lab.rows(1..=3_000);
    assert_eq!(lab.book().open_rows(), 101, "no outcome has come, and none is needed");
    // The next commit starts where this one ended.
    let reader = lab.thread.ledger.reader();
    let from = crate::ledger::Position {
        model: lab.model,
        row: 2_900,
    };
    let mut looked_at = 0;
    reader
        .open_rows(from, |row| {
            looked_at += 1;
            Ok(lab.book().is_closed(row.clock))
        })
        .unwrap();
    assert_eq!(looked_at, 1);
}
