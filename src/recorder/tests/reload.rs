//! A book that was read again from the disk equals one that never was.

use proptest::prelude::*;

use super::*;
use crate::judge::loss::Metric;

#[test]
fn outcomes_that_a_restart_lost_count_as_shed_and_late_ones_change_nothing() {
    let mut lab = Lab::new(closing(Span::Rows(2)), Policy::default(), &[FIRST]);
    lab.rows([1, 2, 3]);
    for id in 1..=3 {
        lab.label(id, 1);
    }
    lab.outcome(FIRST, 2, scored(0.9));
    lab.reload();
    lab.rows([4, 5]);
    lab.outcome(FIRST, 1, scored(0.9));
    lab.outcome(FIRST, 3, scored(0.9));
    assert_eq!(lab.folded(), [(1, vec![]), (2, vec![2])]);
    lab.rows([6]);
    assert_eq!(
        lab.folded().last(),
        Some(&(3, vec![2])),
        "it came before the row closed"
    );
    let coverage = &lab.book().coverage[&FIRST];
    assert_eq!(
        (lab.count(FIRST, "restart"), coverage.scored),
        (1, 2),
        "the first outcome stands"
    );
}

#[test]
fn a_decision_that_was_pending_at_the_kill_is_sent_again_until_it_is_answered() {
    let mut lab = Lab::new(closing(Span::Rows(0)), eager(), &[FIRST]);
    for id in 1..60 {
        lab.rows([id]);
        lab.label(id, u32::from(id % 2 == 0));
        lab.outcome(FIRST, id, scored(if id % 2 == 0 { 1.0 } else { 0.0 }));
    }
    let decided = lab.book().pending().cloned().expect("a clear winner");
    assert_eq!((decided.version, lab.thread.core.outbox.len()), (FIRST, 1));
    for _ in 0..2 {
        lab.reload();
        assert_eq!(lab.book().pending(), Some(&decided));
        assert_eq!(lab.thread.core.outbox.len(), 1);
        assert_eq!(lab.thread.core.outbox[0].decision, decided);
    }
    let event = Event::Leave { version: FIRST };
    lab.event(event);
    assert_eq!(lab.book().pending(), None, "whoever has left cannot be crowned");
    lab.reload();
    assert!(lab.thread.core.outbox.is_empty());
}

#[test]
fn a_damaged_snapshot_is_ignored() {
    let mut lab = Lab::new(closing(Span::Rows(0)), Policy::default(), &[FIRST]);
    for id in 1..30 {
        lab.rows([id]);
        lab.label(id, u32::from(id % 2 == 0));
        lab.outcome(FIRST, id, scored(0.4));
    }
    let judge = lab.book().judge.clone();
    let Thread { core, ledger, .. } = &mut lab.thread;
    ledger.transaction(true, |writer| core.save_snapshots(writer)).unwrap();
    let tampered = [
        "UPDATE snapshots SET judge = replace(judge, '\"epoch\":1', '\"epoch\":2')",
        "UPDATE snapshots SET judge = substr(judge, 1, 40)",
        "UPDATE snapshots SET judge = ''",
        "UPDATE snapshots SET folded_row = folded_row + 1",
        "DELETE FROM snapshots",
    ];
    for damage in tampered {
        let other = rusqlite::Connection::open(lab.dir.path().join("ledger.sqlite")).unwrap();
        assert_eq!(other.execute(damage, []).unwrap(), 1, "{damage}");
        lab.reload();
        assert_eq!(lab.book().judge, judge, "{damage}");
        let Thread { core, ledger, .. } = &mut lab.thread;
        ledger.transaction(true, |writer| core.save_snapshots(writer)).unwrap();
    }
}

#[test]
fn a_pair_says_which_groups_of_the_rules_in_force_its_row_was_in() {
    let mut lab = Lab::new(
        closing(Span::Rows(1)),
        grouped(&["context.n == 1", "context.n >= 1"]),
        &[FIRST],
    );
    let go = |lab: &mut Lab, ids: std::ops::RangeInclusive<i64>| {
        for id in ids {
            lab.rows([id]);
            lab.label(id, u32::from(id % 2 == 0));
            lab.outcome(FIRST, id, scored(0.4));
        }
    };
    go(&mut lab, 1..=10);
    let policy = grouped(&["context.n == 0"]);
    lab.event(Event::Policy { policy });
    go(&mut lab, 11..=16);
    lab.reload();
    let groups: Vec<u64> = lab.pairs().iter().map(|pair| pair.groups).collect();
    // A row closes with the second one after it.
    assert_eq!(groups, [3, 2, 2, 0, 3, 2, 2, 0, 0, 0, 0, 1, 0, 0]);
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Rows(u8),
    /// The row this many before the last one.
    Label(u8, u32),
    Outcomes(u8),
    Leave,
    Enter,
    Swap,
    Hold(bool),
    Threshold(VersionNo, u8),
    Calibration(VersionNo, u8),
    Groups(u8),
    Cost(u64),
    Twin(bool),
}

/// The metrics whose pairing remembers something, or that rest on what versions say of themselves; and one that does not.
fn metric() -> impl Strategy<Value = Metric> {
    prop_oneof![
        Just(Metric::Brier),
        Just(Metric::Auc),
        Just(Metric::ZeroOne { threshold: 0.5 }),
        Just(Metric::Rewards { bound: 0.0 }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6_u8).prop_map(Step::Rows),
        12 => (0..14_u8, 0..2_u32).prop_map(|(back, class)| Step::Label(back, class)),
        8 => (1..6_u8).prop_map(Step::Outcomes),
        1 => Just(Step::Leave),
        1 => Just(Step::Enter),
        1 => Just(Step::Swap),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => ((1..4_u32).prop_map(VersionNo), 0..10_u8).prop_map(|(v, t)| Step::Threshold(v, t)),
        1 => ((1..4_u32).prop_map(VersionNo), 0..3_u8).prop_map(|(v, c)| Step::Calibration(v, c)),
        1 => (0..3_u8).prop_map(Step::Groups),
        1 => (0..3_000_000_u64).prop_map(Step::Cost),
        1 => any::<bool>().prop_map(Step::Twin),
    ]
}

/// Rows that were offered and have no outcome yet get theirs in the order of their ids.
fn score(lab: &mut Lab, done: &mut [usize; 2], most: usize) {
    for (k, version) in [FIRST, SECOND].into_iter().enumerate() {
        let taken = lab.challengers[k].1.taken();
        let now: Vec<i64> = taken.iter().skip(done[k]).take(most).copied().collect();
        done[k] += now.len();
        let good = |id: i64| if version == FIRST { (id % 2) as f64 } else { 0.5 };
        let outcome = |id: i64| match id % 11 {
            3 => Outcome::Failed,
            5 => Outcome::Uncovered,
            7 => Outcome::Shed(Shed::Starved),
            _ => scored(good(id)),
        };
        let outcomes = now.into_iter().map(|id| (id, outcome(id))).collect();
        lab.report(version, outcomes);
    }
}

fn take(lab: &mut Lab, step: &Step, done: &mut [usize; 2]) {
    let last = i64::try_from(lab.book().clock().row).unwrap();
    let clock = lab.book().clock();
    match *step {
        // All outcomes come before a row closes: what a restart loses is another test's subject.
        Step::Rows(n) => {
            score(lab, done, usize::MAX);
            lab.rows(last + 1..=last + i64::from(n));
        }
        Step::Label(back, class) => {
            let id = (last - i64::from(back)).max(1);
            if lab.closing.payees.is_empty() {
                lab.label(id, class);
            } else {
                let key = LabelKey::Ours { id, time_ms: id };
                lab.send(vec![LabelItem {
                    truth: Ok(None),
                    extra: Some(format!(
                        r#"{{"rewards":{{"no":-{class},"yes":{}}}}}"#,
                        f64::from(class) - 0.25
                    )),
                    ..lab.label_item(key, class, 1.0)
                }]);
            }
        }
        Step::Outcomes(n) => score(lab, done, n.into()),
        Step::Leave => lab.event(Event::Leave { version: SECOND }),
        Step::Enter => lab.event(Event::Enter { version: SECOND, clock }),
        Step::Swap => {
            let champion = lab.book().judge.as_ref().unwrap().champion();
            let to = if champion == FIRST { CHAMPION } else { FIRST };
            let kind = crate::judge::tenure::Swap::Promotion;
            lab.event(Event::Swap { to, kind, clock });
        }
        Step::Groups(n) => {
            let exprs = ["context.n >= 2", "not (context.n == 1)"];
            let groups = grouped(exprs.get(..usize::from(n)).unwrap()).groups;
            let declared = lab.book().judge.as_ref().unwrap().policy().declared();
            let policy = Policy { groups, ..declared };
            lab.event(Event::Policy { policy });
        }
        Step::Cost(ns) => lab.event(Event::Cost { version: FIRST, ns }),
        Step::Twin(twin) => lab.event(Event::Twin {
            version: SECOND,
            twin,
            of: Some(CHAMPION),
        }),
        Step::Hold(on) => lab.event(Event::Hold { on }),
        Step::Threshold(version, tenths) => lab.event(Event::Threshold {
            version,
            threshold: f64::from(tenths) / 10.0,
        }),
        Step::Calibration(version, which) => lab.event(Event::Calibration {
            version,
            digest: (which > 0).then(|| which.to_string()),
            clock,
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_book_reloaded_at_random_points_equals_one_that_never_was(
        steps in prop::collection::vec((step(), 0..8_u8), 20..60), metric in metric(),
    ) {
        let new = || {
            let is_paid = matches!(metric, Metric::Rewards { .. });
            let payees = if is_paid { vec!["no".to_owned(), "yes".to_owned()] } else { Vec::new() };
            let policy = Policy { metric: metric.clone(), bound_from: is_paid.then_some(5), groups: grouped(&["context.n == 1"]).groups, ..eager() };
            Lab::new(Closing { payees, ..closing(Span::Rows(10)) }, policy, &[FIRST, SECOND])
        };
        let (mut whole, mut torn) = (new(), new());
        let (mut a, mut b) = ([0; 2], [0; 2]);
        for (step, chance) in &steps {
            take(&mut whole, step, &mut a);
            take(&mut torn, step, &mut b);
            if *chance == 0 {
                // With a snapshot as after a stop in order, or without one as after a kill.
                let Thread { core, ledger, .. } = &mut torn.thread;
                ledger.transaction(true, |writer| core.save_snapshots(writer)).unwrap();
            }
            if *chance < 2 {
                torn.reload();
            }
            prop_assert_eq!(whole.book().evidence(), torn.book().evidence());
            prop_assert_eq!(whole.pairs(), torn.pairs());
        }
    }
}
