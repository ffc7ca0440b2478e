//! Arming, holding, promoting, rolling back, waiting: each rule by itself.

use super::*;
use crate::judge::loss::Metric;
use crate::judge::pair::{Classes, Entry, Kind, Seen};
use crate::judge::tenure::Swap;
use crate::judge::verdict::Call;
use crate::span::Span;

mod guardrails;
mod properties;
mod simulation;

const A: VersionNo = VersionNo(1);
const B: VersionNo = VersionNo(2);
const C: VersionNo = VersionNo(3);

fn at(row: u64) -> Clock {
    Clock {
        row,
        time_ms: i64::try_from(row).unwrap() * 60_000,
    }
}

/// Short spans in rows, so that a test can walk through them.
fn policy() -> Policy {
    Policy {
        min_labels: 50,
        dwell: Span::Rows(20),
        cooldown: Span::Rows(100),
        probation: Span::Rows(200),
        probation_labels: 150,
        rollback_wait: Span::Rows(300),
        ..Policy::default()
    }
}

fn judge(versions: &[VersionNo]) -> Judge {
    let mut judge = Judge::new(policy(), A, 1, at(0));
    for version in versions {
        judge.enter(*version, at(0));
    }
    judge
}

fn entry(version: VersionNo, difference: f64) -> Entry {
    Entry {
        version,
        difference,
        kind: Kind::Scored,
        classes: Classes::Enough,
        seen: Seen::default(),
    }
}

fn pair(judge: &Judge, row: u64, entries: Vec<Entry>) -> Pair {
    Pair {
        clock: at(row),
        epoch: judge.epoch(),
        weight: 1.0,
        champion_loss: Some(0.5),
        champion: Seen::default(),
        groups: 0,
        entries,
    }
}

/// Folds rows until the first decision; with it comes its row.
fn feed(
    judge: &mut Judge,
    rows: std::ops::RangeInclusive<u64>,
    entries: impl Fn(u64) -> Vec<Entry>,
) -> Option<(u64, Decision)> {
    rows.into_iter().find_map(|row| {
        let pair = pair(judge, row, entries(row));
        judge.fold(&pair).map(|decision| (row, decision))
    })
}

fn why(judge: &Judge, version: VersionNo) -> String {
    judge.verdict(version).unwrap().why
}

#[test]
fn a_winner_arms_holds_for_the_dwell_and_is_promoted_once() {
    let mut judge = judge(&[B]);
    assert_eq!(feed(&mut judge, 1..=49, |_| vec![entry(B, 0.5)]), None);
    let armed = judge.armed_since(B).unwrap();
    assert!(armed.row < 30);
    assert_eq!(
        why(&judge, B),
        "needs 50 labels, has 49; about 1 more at the present mean difference, +0.5000 (+0.2197 to +0.7803), about 60 \
         seconds at the present rate"
    );
    let (row, decision) = feed(&mut judge, 50..=200, |_| vec![entry(B, 0.5)]).unwrap();
    assert_eq!((row, decision.kind, decision.version), (50, Action::Promote, B));
    assert_eq!(decision.numbers.armed_since, Some(armed));
    assert_eq!(decision.numbers.labels_since_arming, 50 - armed.row);
    assert!((decision.numbers.mean_since_arming.unwrap() - 0.5).abs() < 1e-12);
    assert!(decision.why.contains("50 labels"), "{}", decision.why);
    assert_eq!(feed(&mut judge, 51..=300, |_| vec![entry(B, 0.5)]), None, "given twice");
}

#[test]
fn a_verdict_is_shown_flat_with_its_words() {
    let mut judge = judge(&[B]);
    feed(&mut judge, 1..=5, |_| vec![entry(B, 0.1)]);
    let shown = serde_json::to_value(judge.verdict(B).unwrap()).unwrap();
    assert_eq!(shown["labels"], 5);
    assert_eq!(shown["verdict"], "not yet");
    let why = shown["why"].as_str().unwrap();
    assert!(why.starts_with("needs 50 labels, has 5; about "), "{why}");
    assert!(shown["armed_since"].is_null() && shown["interval"].as_array().unwrap().len() == 2);
    assert!((shown["mean_difference"].as_f64().unwrap() - 0.1).abs() < 1e-12);
    assert!((shown["log_bar"].as_f64().unwrap() - 200f64.ln()).abs() < 1e-12);
}

#[test]
fn the_dwell_is_named_with_its_rows_and_falling_below_a_tenth_of_the_bar_starts_it_anew() {
    let mut judge = judge(&[B]);
    judge.policy.dwell = Span::Rows(336);
    feed(&mut judge, 1..=60, |_| vec![entry(B, 0.5)]);
    let armed = judge.armed_since(B).unwrap().row;
    let until = armed + 336;
    assert_eq!(
        why(&judge, B),
        format!(
            "armed since row {armed}; must hold until row {until} (dwell 336 rows); mean difference +0.5000 over 60 labels, \
             +0.5000 over the {} since arming",
            60 - armed
        )
    );
    let mut row = 61;
    while judge.armed_since(B).is_some() {
        assert_eq!(feed(&mut judge, row..=row, |_| vec![entry(B, -1.0)]), None);
        row += 1;
    }
    assert!(judge.verdict(B).unwrap().numbers.log_wealth < libm::log(20.0));
    let (promoted, _) = feed(&mut judge, row..=2_000, |_| vec![entry(B, 0.5)]).unwrap();
    assert!(promoted >= row + 336 && judge.armed_since(B).unwrap().row >= row);
}

#[test]
fn labels_of_one_class_never_crown_anybody() {
    let mut judge = judge(&[B]);
    let one = |classes| {
        move |_| {
            vec![Entry {
                classes,
                ..entry(B, 0.9)
            }]
        }
    };
    assert_eq!(feed(&mut judge, 1..=500, one(Classes::OneClass)), None);
    assert_eq!(
        why(&judge, B),
        "labels of one class only: set [label] absent or send the other class"
    );
    assert_eq!(feed(&mut judge, 501..=600, one(Classes::Few)), None);
    assert!(why(&judge, B).starts_with("needs 30 labels of each of two classes; mean difference +0.9000"));
    assert_eq!(feed(&mut judge, 601..=601, one(Classes::Enough)).unwrap().1.version, B);
}

#[test]
fn a_challenger_that_covers_too_few_rows_is_not_promoted() {
    let mut judge = judge(&[B]);
    let sparse = |row: u64| {
        let kind = if row.is_multiple_of(20) {
            Kind::Uncovered
        } else {
            Kind::Scored
        };
        vec![Entry {
            kind,
            ..entry(B, if kind == Kind::Scored { 0.5 } else { 0.0 })
        }]
    };
    assert_eq!(feed(&mut judge, 1..=500, sparse), None);
    let verdict = judge.verdict(B).unwrap();
    assert!(
        verdict.why.starts_with("covers 9") && verdict.why.contains("needs 99 %; mean difference"),
        "{}",
        verdict.why
    );
    assert!(verdict.coverage < 0.96);
}

/// Every tenth row is one that `B` has not the features for.
fn tenth_uncovered(row: u64) -> Vec<Entry> {
    let mut entry = entry(B, 0.5);
    if row.is_multiple_of(10) {
        (entry.kind, entry.difference) = (Kind::Uncovered, 0.0);
    }
    vec![entry]
}

#[test]
fn coverage_is_asked_of_the_last_dwell_however_long_a_challenger_has_been_armed() {
    let mut judge = judge(&[B]);
    judge.hold(true);
    feed(&mut judge, 1..=2_000, |_| vec![entry(B, 0.5)]);
    feed(&mut judge, 2_001..=2_030, tenth_uncovered);
    judge.hold(false);
    assert_eq!(
        feed(&mut judge, 2_031..=2_040, tenth_uncovered),
        None,
        "it lacks features now"
    );
    assert!(why(&judge, B).starts_with("covers 8"), "{}", why(&judge, B));
    let (row, _) = feed(&mut judge, 2_041..=2_100, |_| vec![entry(B, 0.5)]).unwrap();
    assert!(
        (2_060..=2_064).contains(&row),
        "one dwell after the last such row: {row}"
    );

    let mut late = self::judge(&[B]);
    assert_eq!(feed(&mut late, 1..=1_000, tenth_uncovered), None);
    let (row, _) = feed(&mut late, 1_001..=1_100, |_| vec![entry(B, 0.5)]).unwrap();
    assert!(row <= 1_024, "what it lacked long ago does not count: {row}");
}

#[test]
fn a_snapshot_from_before_coverage_had_a_window_reads_back() {
    let mut judge = judge(&[B]);
    feed(&mut judge, 1..=40, tenth_uncovered);
    let mut stored = serde_json::to_value(&judge).unwrap();
    let evidence = stored["queue"][0]["evidence"].as_object_mut().unwrap();
    evidence.remove("window").unwrap();
    evidence["armed"]
        .as_object_mut()
        .unwrap()
        .insert("covered".into(), 9.into());
    stored["policy"][1].as_array_mut().unwrap().pop();
    let mut old: Judge = serde_json::from_value(stored).unwrap();
    assert_eq!(old.policy, judge.policy);
    assert!((old.verdict(B).unwrap().coverage - 0.9).abs() < 1e-12);
    assert!(feed(&mut old, 41..=100, |_| vec![entry(B, 0.5)]).is_some());
}

#[test]
fn a_loser_is_called_one_and_may_still_win_later() {
    let mut judge = judge(&[B]);
    feed(&mut judge, 1..=100, |_| vec![entry(B, -0.5)]);
    assert_eq!(judge.verdict(B).unwrap().verdict, Call::Loses);
    assert!(why(&judge, B).starts_with("loses more than the champion: mean difference -0.5000 over 100 labels"));
    assert!(feed(&mut judge, 101..=1_000, |_| vec![entry(B, 0.5)]).is_some());
}

#[test]
fn of_several_winners_the_one_furthest_above_its_bar_is_promoted() {
    let mut judge = judge(&[B, C]);
    let (_, decision) = feed(&mut judge, 1..=200, |_| vec![entry(B, 0.4), entry(C, 0.8)]).unwrap();
    assert_eq!(decision.version, C);
}

#[test]
fn bars_follow_the_order_of_arrival_and_wealth_gives_the_order_after_a_swap() {
    let mut judge = judge(&[B, C, VersionNo(4)]);
    feed(&mut judge, 1..=40, |_| {
        vec![entry(B, -0.2), entry(C, 0.1), entry(VersionNo(4), 0.2)]
    });
    let bars = |judge: &Judge| {
        judge
            .verdicts()
            .iter()
            .map(|v| (v.version.0, libm::exp(v.numbers.log_bar).round()))
            .collect::<Vec<_>>()
    };
    assert_eq!(bars(&judge), [(2, 200.0), (3, 600.0), (4, 1200.0)]);
    judge.swap(C, Swap::Promotion, at(41));
    judge.enter(VersionNo(5), at(42));
    assert_eq!(bars(&judge), [(4, 200.0), (2, 600.0), (1, 1200.0), (5, 2000.0)]);
    assert_eq!((judge.champion(), judge.previous(), judge.epoch()), (C, Some(A), 2));
    assert!(judge.verdicts().iter().all(|v| v.numbers.labels == 0));
}

#[test]
fn the_cool_down_delays_the_next_promotion_only() {
    let mut judge = judge(&[B, C]);
    judge.swap(B, Swap::Promotion, at(100));
    assert_eq!(feed(&mut judge, 101..=199, |_| vec![entry(C, 0.5)]), None);
    assert!(why(&judge, C).starts_with("cool-down until row 200 (100 rows); mean difference +0.5000"));
    let (row, decision) = feed(&mut judge, 200..=300, |_| vec![entry(C, 0.5)]).unwrap();
    assert_eq!((row, decision.kind), (200, Action::Promote));
}

#[test]
fn a_new_champion_that_disappoints_is_rolled_back_within_the_cool_down_and_must_wait() {
    let mut judge = judge(&[B, C]);
    judge.swap(B, Swap::Promotion, at(100));
    let (row, decision) = feed(&mut judge, 101..=400, |_| vec![entry(A, 0.6), entry(C, 0.0)]).unwrap();
    assert_eq!((row, decision.kind, decision.version), (150, Action::Rollback, A));
    judge.swap(A, Swap::Rollback, at(150));
    assert_eq!(
        (judge.champion(), judge.previous(), judge.on_probation()),
        (A, None, false)
    );
    assert_eq!(
        why(&judge, B),
        "rolled back once: collects no evidence until row 450 (300 rows)"
    );
    assert!(!judge.collects(B, at(449)) && judge.collects(B, at(450)) && judge.collects(C, at(151)));
    feed(&mut judge, 151..=449, |_| vec![entry(B, 0.9), entry(C, 0.0)]);
    assert_eq!(judge.verdict(B).unwrap().numbers.labels, 0);
    judge.enter(VersionNo(9), at(449));
    feed(&mut judge, 450..=455, |_| vec![entry(B, 0.1), entry(C, 0.0)]);
    let verdict = judge.verdict(B).unwrap();
    assert_eq!(
        (verdict.numbers.labels, libm::exp(verdict.numbers.log_bar).round()),
        (6, 1200.0),
        "joins at the end"
    );
}

#[test]
fn whoever_may_not_be_champion_collects_evidence_and_says_why_it_waits() {
    let mut judge = judge(&[B, C]);
    judge.bar_from_crown(B, Some("it may bring the process down".into()));
    let better = |_| vec![entry(B, 0.5)];
    assert_eq!(feed(&mut judge, 1..=300, better), None);
    let verdict = judge.verdict(B).unwrap();
    assert_eq!(verdict.verdict, Call::NotYet);
    assert_eq!(
        (verdict.why.as_str(), verdict.numbers.labels),
        ("it may bring the process down", 300)
    );
    judge.bar_from_crown(B, None);
    let (_, decision) = feed(&mut judge, 301..=400, better).unwrap();
    assert_eq!((decision.kind, decision.version), (Action::Promote, B));
    judge.bar_from_crown(B, Some("not after all".into()));
    assert_eq!(judge.awaits(), None);
}

#[test]
fn bytes_that_come_back_under_another_number_resume_their_evidence_and_wait_out_their_wait() {
    let mut judge = judge(&[B, C]);
    feed(&mut judge, 1..=40, |_| vec![entry(B, 0.1), entry(C, 0.0)]);
    let before = judge.verdict(B).unwrap();
    judge.inherit(B, VersionNo(9));
    assert_eq!(judge.verdict(B), Some(before.clone()), "it is still here");
    judge.leave(B);
    judge.inherit(B, VersionNo(9));
    judge.enter(VersionNo(9), at(41));
    let after = judge.verdict(VersionNo(9)).unwrap();
    assert_eq!((after.numbers, judge.verdict(B)), (before.numbers, None));
    // A fall, too.
    judge.swap(C, Swap::Promotion, at(100));
    judge.swap(A, Swap::Rollback, at(150));
    judge.leave(C);
    judge.inherit(C, B);
    judge.enter(B, at(151));
    assert_eq!(
        why(&judge, B),
        "rolled back once: collects no evidence until row 450 (300 rows)"
    );
    assert!(!judge.collects(B, at(449)) && judge.collects(B, at(450)));
}

#[test]
fn the_rollback_test_asks_for_no_margin() {
    let mut judge = judge(&[B]);
    judge.set_policy(Policy {
        margin: 0.3,
        ..policy()
    });
    judge.swap(B, Swap::Promotion, at(0));
    let (_, decision) = feed(&mut judge, 1..=400, |_| vec![entry(A, 0.2)]).unwrap();
    assert_eq!(decision.kind, Action::Rollback);
    assert!(
        judge.verdict(A).unwrap().numbers.log_wealth < 0.0,
        "as a challenger it is not better by the margin"
    );
}

#[test]
fn one_class_alone_takes_no_crown_back() {
    let mut judge = judge(&[B]);
    judge.swap(B, Swap::Promotion, at(0));
    let one = |_| {
        vec![Entry {
            classes: Classes::OneClass,
            ..entry(A, 0.9)
        }]
    };
    assert_eq!(feed(&mut judge, 1..=190, one), None);
    assert!(judge.alarm().is_some());
}

#[test]
fn spans_of_time_are_measured_on_request_times() {
    let mut judge = judge(&[B]);
    judge.set_policy(Policy {
        dwell: "24h".parse().unwrap(),
        ..policy()
    });
    let (row, decision) = feed(&mut judge, 1..=3_000, |_| vec![entry(B, 0.5)]).unwrap();
    assert_eq!(
        row,
        decision.numbers.armed_since.unwrap().row + 24 * 60,
        "a row a minute"
    );
    assert!(decision.why.contains("armed since 1970-01-01T00:"), "{}", decision.why);
}

#[test]
fn the_second_rollback_waits_twice_as_long() {
    let mut judge = judge(&[B]);
    for (up, down) in [(100, 150), (500, 550)] {
        judge.swap(B, Swap::Promotion, at(up));
        judge.swap(A, Swap::Rollback, at(down));
    }
    assert_eq!(
        why(&judge, B),
        "rolled back 2 times: collects no evidence until row 1150 (600 rows)"
    );
}

#[test]
fn probation_ends_after_its_span_and_its_labels_whichever_is_later() {
    let mut judge = judge(&[B]);
    judge.swap(B, Swap::Promotion, at(0));
    feed(&mut judge, 1..=199, |_| vec![entry(A, 0.0)]);
    assert!(judge.on_probation());
    feed(&mut judge, 200..=200, |_| vec![entry(A, 0.0)]);
    assert!(!judge.on_probation());

    judge.swap(A, Swap::Promotion, at(200));
    feed(&mut judge, 451..=599, |_| vec![entry(B, 0.0)]);
    assert!(judge.on_probation(), "149 labels");
    feed(&mut judge, 600..=600, |_| vec![entry(B, 0.0)]);
    assert!(!judge.on_probation());
}

#[test]
fn on_hold_nothing_is_decided_and_the_mirrored_test_only_alarms() {
    let mut judge = judge(&[B]);
    judge.swap(B, Swap::Person, at(0));
    assert!(judge.is_held() && judge.on_probation());
    assert_eq!(feed(&mut judge, 1..=180, |_| vec![entry(A, 0.6)]), None);
    let verdict = judge.verdict(A).unwrap();
    assert!(verdict.alarm.unwrap().contains("the champion loses more"));
    assert!(
        verdict.why.ends_with("on hold: a person promotes or resumes"),
        "{}",
        verdict.why
    );
    judge.hold(false);
    assert_eq!(
        feed(&mut judge, 181..=181, |_| vec![entry(A, 0.6)]).unwrap().1.kind,
        Action::Rollback
    );
}

#[test]
fn modes_recommend_and_off_decide_nothing() {
    for (mode, words) in [(Mode::Recommend, "waits for a person"), (Mode::Off, "mode = off")] {
        let mut judge = judge(&[B]);
        judge.set_policy(Policy { mode, ..policy() });
        assert_eq!(feed(&mut judge, 1..=300, |_| vec![entry(B, 0.5)]), None);
        let verdict = judge.verdict(B).unwrap();
        assert!(
            verdict.verdict == Call::Wins && verdict.why.contains(words),
            "{}",
            verdict.why
        );
    }
}

#[test]
fn who_has_to_be_let_through_wins_and_waits_and_is_crowned_once_nothing_is_lacking() {
    let mut judge = judge(&[B]);
    judge.gate(B, Some("2 approvals are needed".into()));
    assert_eq!(feed(&mut judge, 1..=300, |_| vec![entry(B, 0.5)]), None);
    let verdict = judge.verdict(B).unwrap();
    assert!(
        verdict.verdict == Call::Wins && verdict.why.contains(super::super::verdict::WAITS),
        "{}",
        verdict.why
    );
    assert!(
        verdict.why.ends_with("because 2 approvals are needed"),
        "{}",
        verdict.why
    );
    judge.gate(B, None);
    let (_, decision) = feed(&mut judge, 301..=301, |_| vec![entry(B, 0.5)]).unwrap();
    assert_eq!((decision.kind, decision.version), (Action::Promote, B));
    // What is on its way when something comes to be lacking is taken back.
    judge.gate(B, Some("2 approvals are needed".into()));
    assert_eq!(judge.awaits(), None);
    judge.leave(B);
    assert_eq!(judge.gate_of(B), None);
}

#[test]
fn in_mode_recommend_and_off_the_mirrored_test_only_alarms_and_one_that_was_on_its_way_is_taken_back() {
    for mode in [Mode::Recommend, Mode::Off] {
        let mut judge = judge(&[B]);
        judge.set_policy(Policy { mode, ..policy() });
        judge.swap(B, Swap::Promotion, at(0));
        assert_eq!(feed(&mut judge, 1..=180, |_| vec![entry(A, 0.6)]), None);
        assert!(judge.alarm().is_some());
        judge.set_policy(policy());
        assert!(feed(&mut judge, 181..=181, |_| vec![entry(A, 0.6)]).is_some());
        judge.set_policy(Policy { mode, ..policy() });
        assert_eq!(judge.awaits(), None);
    }
}

#[test]
fn a_declined_decision_comes_again_after_another_dwell() {
    let mut judge = judge(&[B]);
    let (row, _) = feed(&mut judge, 1..=200, |_| vec![entry(B, 0.5)]).unwrap();
    judge.decline(B);
    let (again, decision) = feed(&mut judge, row + 1..=400, |_| vec![entry(B, 0.5)]).unwrap();
    assert_eq!((again, decision.version), (row + 21, B));
}

#[test]
fn a_version_that_comes_back_within_the_tenure_keeps_its_place_and_evidence() {
    let mut judge = judge(&[B, C]);
    feed(&mut judge, 1..=10, |_| vec![entry(B, 0.5), entry(C, 0.1)]);
    let before = judge.verdict(B).unwrap().numbers;
    judge.leave(B);
    assert!(!judge.collects(B, at(11)) && judge.challengers().eq([C]));
    feed(&mut judge, 11..=20, |_| vec![entry(B, -1.0), entry(C, 0.1)]);
    judge.enter(B, at(21));
    assert_eq!(judge.verdict(B).unwrap().numbers, before);
    judge.leave(B);
    judge.swap(C, Swap::Promotion, at(22));
    assert!(judge.verdict(B).is_none());
}

#[test]
fn what_leaves_after_it_was_chosen_is_no_longer_waited_for() {
    let mut judge = judge(&[B, C]);
    feed(&mut judge, 1..=200, |_| vec![entry(B, 0.5), entry(C, 0.0)]).unwrap();
    judge.leave(B);
    assert!(feed(&mut judge, 201..=600, |_| vec![entry(C, 0.5)]).is_some_and(|(_, d)| d.version == C));
}

#[test]
fn only_another_question_restarts_the_evidence() {
    let mut judge = judge(&[B]);
    feed(&mut judge, 1..=10, |_| vec![entry(B, 0.1)]);
    let calm = Policy {
        min_labels: 9,
        dwell: Span::Rows(1),
        rollback_alpha: 0.2,
        ..policy()
    };
    assert!(!judge.set_policy(calm.clone()) && judge.verdict(B).unwrap().numbers.labels == 10);
    for other in [
        Policy {
            alpha: 0.02,
            ..calm.clone()
        },
        Policy {
            alpha: 0.02,
            margin: 0.1,
            ..calm.clone()
        },
        Policy {
            alpha: 0.02,
            margin: 0.1,
            metric: Metric::LogLoss { clip: 0.05 },
            ..calm.clone()
        },
        Policy {
            alpha: 0.02,
            margin: 0.1,
            metric: Metric::LogLoss { clip: 0.01 },
            ..calm
        },
    ] {
        feed(&mut judge, 11..=20, |_| vec![entry(B, 0.1)]);
        let era = judge.era();
        assert!(judge.set_policy(other));
        assert_eq!((judge.verdict(B).unwrap().numbers.labels, judge.era()), (0, era + 1));
    }
}

#[test]
fn pairs_of_another_tenure_are_ignored() {
    let mut judge = judge(&[B]);
    let stale = pair(&judge, 1, vec![entry(B, 0.5)]);
    judge.swap(B, Swap::Promotion, at(2));
    let before = judge.clone();
    assert_eq!(judge.fold(&stale), None);
    assert_eq!(judge, before);
}

#[test]
fn nobody_is_crowned_on_a_row_that_it_has_not_seen() {
    let mut judge = judge(&[B, C]);
    judge.policy.dwell = Span::Rows(100);
    assert_eq!(feed(&mut judge, 1..=60, |_| vec![entry(B, 0.5)]), None);
    assert_eq!(feed(&mut judge, 61..=400, |_| vec![entry(C, 0.0)]), None);
    assert!(feed(&mut judge, 401..=401, |_| vec![entry(B, 0.5)]).is_some());
}

#[test]
fn room_is_made_by_the_furthest_below_its_bar_that_has_had_its_dwell() {
    let mut judge = judge(&[B, C]);
    feed(&mut judge, 1..=19, |_| vec![entry(B, -0.5), entry(C, 0.1)]);
    assert_eq!(judge.room(1, at(19), None), None, "nobody has had the dwell of 20 rows");
    judge.enter(VersionNo(4), at(19));
    feed(&mut judge, 20..=30, |_| {
        vec![entry(B, -0.5), entry(C, 0.1), entry(VersionNo(4), -1.0)]
    });
    assert_eq!(judge.room(3, at(30), None), None, "there is room");
    assert_eq!(judge.room(2, at(30), None), Some(B));
    assert_eq!(
        judge.room(2, at(30), Some(B)),
        Some(C),
        "one that stands by to answer stays"
    );
    judge.leave(B);
    assert_eq!(judge.room(2, at(30), None), None);
    judge.swap(C, Swap::Promotion, at(30));
    assert_eq!(
        judge.room(0, at(60), None),
        Some(VersionNo(4)),
        "the previous champion stays on call"
    );
}
