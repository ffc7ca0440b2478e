//! What becomes of labels.

use proptest::prelude::*;

use super::*;

#[test]
fn a_label_after_closing_is_late_and_never_evidence() {
    let mut lab = Lab::new(closing(Span::Rows(2)), Policy::default(), &[FIRST]);
    lab.rows([1, 2, 3, 4]);
    assert_eq!(lab.label(1, 1), Status::Late);
    assert_eq!(lab.label(2, 1), Status::Accepted);
    lab.report(FIRST, (1..5).map(|id| (id, scored(0.9))).collect());
    lab.rows([5, 6]);
    assert_eq!(lab.folded(), [(2, vec![2])]);
    assert_eq!(lab.book().coverage[&FIRST].late, 1);
}

#[test]
fn a_row_that_waits_for_an_outcome_is_closed_to_labels_all_the_same() {
    let mut lab = Lab::new(closing(Span::Rows(1)), Policy::default(), &[FIRST]);
    lab.rows([1, 2]);
    lab.label(1, 1);
    lab.rows([3, 4]);
    assert_eq!(lab.book().open_rows(), 4, "row 1 waits for its outcome");
    assert_eq!(lab.label(2, 1), Status::Late);
    lab.report(FIRST, (1..5).map(|id| (id, scored(0.9))).collect());
    lab.rows([5]);
    assert_eq!(lab.folded(), [(1, vec![2])]);
}

#[test]
fn the_first_label_stands_and_corrections_never_refold() {
    let mut lab = Lab::new(closing(Span::Rows(1)), Policy::default(), &[FIRST]);
    lab.rows([1]);
    assert_eq!(lab.label(1, 1), Status::Accepted);
    assert_eq!(lab.label(1, 1), Status::Duplicate);
    assert_eq!(lab.label(1, 0), Status::Conflict);
    lab.report(FIRST, (1..5).map(|id| (id, scored(1.0))).collect());
    lab.rows([2, 3]);
    let pairs = lab.pairs();
    assert_eq!(lab.label(1, 0), Status::Conflict);
    lab.rows([4]);
    assert_eq!(lab.pairs(), pairs);
    assert!(pairs[0].entries[0].difference > 0.2, "the first label");
}

#[test]
fn ids_that_are_foreign_or_too_old_are_told_without_a_question_to_the_ledger() {
    let day = std::time::Duration::from_millis(86_400_000);
    let mut lab = Lab::new(
        Closing {
            horizon: Span::Time(day),
            ..closing(Span::Rows(9))
        },
        Policy::default(),
        &[],
    );
    let old = LabelKey::Ours {
        id: 5,
        time_ms: -90_000_000,
    };
    let items = [old, LabelKey::Foreign].map(|key| lab.label_item(key, 1, 1.0)).to_vec();
    // Whatever asks it fails.
    let beside = rusqlite::Connection::open(lab.dir.path().join("ledger.sqlite")).unwrap();
    let rename = |from: &str, to: &str| {
        for table in ["predictions", "caller_ids", "own_ids", "labels"] {
            let sql = format!("ALTER TABLE {table}{from} RENAME TO {table}{to}");
            beside
                .execute_batch(&format!("PRAGMA legacy_alter_table = ON; {sql}"))
                .unwrap();
        }
    };
    rename("", "_gone");
    assert_eq!(lab.send(items), [Status::Expired, Status::Unknown]);
    rename("_gone", "");
    lab.rows([5]);
    assert_eq!(lab.label(5, 1), Status::Accepted);
}

#[test]
fn ids_are_told_apart() {
    let mut lab = Lab::new(closing(Span::Rows(9)), Policy::default(), &[]);
    lab.rows([5]);
    let ours = |id| LabelKey::Ours { id, time_ms: id };
    let keys = [ours(5), ours(6), LabelKey::Foreign, LabelKey::Caller("x".into())];
    let items = keys.map(|key| lab.label_item(key, 1, 1.0)).to_vec();
    assert_eq!(
        lab.send(items),
        [Status::Accepted, Status::Unrecorded, Status::Unknown, Status::Unknown]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_labels_and_outcomes_before_closing_changes_nothing(
        order in Just((0..60_usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec(1..9_usize, 1..20),
    ) {
        const ROWS: i64 = 20;
        let run = |order: &[usize], cuts: &[usize]| {
            let mut lab = Lab::new(closing(Span::Rows(30)), Policy::default(), &[FIRST, SECOND]);
            lab.rows(1..=ROWS);
            let mut rest = order;
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = later;
                for &k in now {
                    let id = i64::try_from(k / 3).unwrap() + 1;
                    match k % 3 {
                        0 => drop(lab.label(id, u32::from(id % 3 == 0))),
                        1 => lab.outcome(FIRST, id, scored(f64::from(u32::try_from(id).unwrap()) / 21.0)),
                        _ => lab.outcome(SECOND, id, if id % 5 == 0 { Outcome::Failed } else { scored(0.3) }),
                    }
                }
            }
            lab.rows(ROWS + 1..ROWS + 60);
            (lab.pairs(), serde_json::to_string(&lab.book().judge).unwrap())
        };
        let plain: Vec<usize> = (0..60).collect();
        prop_assert_eq!(run(&plain, &[60]), run(&order, &cuts));
    }
}
