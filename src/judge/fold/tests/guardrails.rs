//! Guardrails, named groups, twins: what they stop, what they let pass, and that they only ever say "not yet".

use super::simulation::SplitMix64;
use super::*;
use crate::judge::policy::{Group, Guardrails};

pub(super) fn groups(count: u8, strict: bool) -> Vec<Group> {
    (0..count)
        .map(|k| Group {
            name: format!("g{k}"),
            expr: format!("g == {k}"),
            margin: 0.02,
            strict,
        })
        .collect()
}

fn with_group(strict: bool, margin: f64) -> Policy {
    let mut groups = groups(1, strict);
    groups[0].margin = margin;
    Policy { groups, ..policy() }
}

fn grouped(judge: &Judge, row: u64, entries: Vec<Entry>, groups: u64) -> Pair {
    Pair {
        groups,
        ..pair(judge, row, entries)
    }
}

fn rail(judge: &Judge, version: VersionNo, name: &str) -> (Option<f64>, Option<f64>, bool) {
    let verdict = judge.verdict(version).unwrap();
    let rail = verdict.guardrails.iter().find(|rail| rail.name == name).unwrap();
    (rail.value, rail.limit, rail.passes)
}

#[test]
fn a_challenger_that_takes_much_more_time_than_the_champion_is_not_promoted_until_the_limit_lets_it() {
    let mut judge = judge(&[B]);
    judge.set_cost(A, 1_000_000);
    judge.set_cost(B, 2_000_000);
    assert_eq!(feed(&mut judge, 1..=300, |_| vec![entry(B, 0.5)]), None);
    assert!(
        why(&judge, B).starts_with("a row takes 2.00 times the champion's CPU time, at most 1.5 is allowed; mean"),
        "{}",
        why(&judge, B)
    );
    assert_eq!(rail(&judge, B, "latency"), (Some(2.0), Some(1.5), false));
    let guardrail = Guardrails {
        latency: Some(2.0),
        ..Guardrails::default()
    };
    assert!(
        !judge.set_policy(Policy { guardrail, ..policy() }),
        "the evidence goes on"
    );
    assert!(feed(&mut judge, 301..=301, |_| vec![entry(B, 0.5)]).is_some());
}

#[test]
fn less_than_300_microseconds_harm_nobody_and_what_is_not_known_stops_nobody() {
    for (champion, own) in [(10_000, 300_000), (0, 5_000_000), (5_000_000, 0)] {
        let mut judge = judge(&[B]);
        judge.set_cost(A, champion);
        judge.set_cost(B, own);
        assert!(
            feed(&mut judge, 1..=300, |_| vec![entry(B, 0.5)]).is_some(),
            "{champion} {own}"
        );
    }
}

#[test]
fn a_challenger_that_fails_waits_until_the_last_dwell_is_clean() {
    let mut judge = judge(&[B]);
    let fails = |row: u64| {
        let kind = if row == 60 { Kind::Failed } else { Kind::Scored };
        vec![Entry {
            kind,
            ..entry(B, if row == 60 { -0.5 } else { 0.5 })
        }]
    };
    judge.policy.min_labels = 65;
    let (row, decision) = feed(&mut judge, 1..=300, fails).unwrap();
    assert!((80..=84).contains(&row), "{row}");
    let errors = decision
        .basis
        .guardrails
        .iter()
        .find(|rail| rail.name == "errors")
        .unwrap();
    assert_eq!(
        (errors.value, errors.limit, errors.passes),
        (Some(0.0), Some(0.001), true)
    );
    let mut again = self::judge(&[B]);
    again.policy.min_labels = 65;
    feed(&mut again, 1..=70, fails);
    assert!(
        why(&again, B).starts_with("failed on 4.76 % of the rows of the last dwell"),
        "{}",
        why(&again, B)
    );
}

#[test]
fn a_challenger_that_says_positive_much_more_often_is_not_promoted() {
    let mut judge = judge(&[B]);
    judge.policy.dwell = Span::Rows(400);
    let says = |positive: bool, tenth: u8| Seen {
        positive: Some(positive),
        tenth: Some(tenth),
    };
    for row in 1..=1_000u64 {
        let own = Entry {
            seen: says(row.is_multiple_of(2), 8),
            ..entry(B, 0.5)
        };
        let mut pair = pair(&judge, row, vec![own]);
        pair.champion = says(row.is_multiple_of(4), 2);
        assert_eq!(judge.fold(&pair), None, "{row}");
    }
    let verdict = why(&judge, B);
    assert!(verdict.starts_with("says positive 1.9"), "{verdict}");
    let (value, limit, passes) = rail(&judge, B, "score_shift");
    assert!(
        value.unwrap() > 1.0 && limit.is_none() && passes,
        "shown, and no limit by itself"
    );
}

#[test]
fn a_strict_group_must_have_shown_that_it_is_not_hurt_and_says_how_far_it_is() {
    let mut judge = judge(&[B]);
    judge.set_policy(with_group(true, 0.02));
    // Nothing of the group has come: nothing has been shown.
    assert_eq!(feed(&mut judge, 1..=300, |_| vec![entry(B, 0.5)]), None);
    assert!(
        why(&judge, B)
            .starts_with("group 'g0': not shown yet to lose at most 0.02 more there: ln wealth 0.00, bar 3.00"),
        "{}",
        why(&judge, B)
    );
    let mut row = 300;
    let decision = loop {
        row += 1;
        let pair = grouped(&judge, row, vec![entry(B, 0.5)], 1);
        if let Some(decision) = judge.fold(&pair) {
            break decision;
        }
        assert!(row < 400);
    };
    assert!(row > 305, "{row}");
    let group = &decision.basis.groups[0];
    assert!(group.passes && group.log_wealth >= group.log_bar && group.labels == row - 300);
    let shown = serde_json::to_value(&decision).unwrap();
    assert_eq!(shown["policy"]["groups"][0]["expr"], "g == 0");
    assert!(
        shown["guardrails"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rail| rail["name"] == "group g0")
    );
}

#[test]
fn other_groups_restart_their_bets_and_not_the_evidence_and_a_new_name_restarts_nothing() {
    let mut judge = judge(&[B]);
    judge.set_policy(with_group(true, 0.02));
    for row in 1..=40 {
        let pair = grouped(&judge, row, vec![entry(B, 0.5)], 1);
        judge.fold(&pair);
    }
    let labels = |judge: &Judge| {
        let verdict = judge.verdict(B).unwrap();
        (verdict.numbers.labels, verdict.groups[0].labels)
    };
    let mut renamed = with_group(true, 0.02);
    renamed.groups[0].name = "senior".into();
    assert!(!judge.set_policy(renamed.clone()));
    assert_eq!(labels(&judge), (40, 40));
    renamed.groups[0].expr = "age >= 65".into();
    assert!(!judge.set_policy(renamed));
    assert_eq!(labels(&judge), (40, 0));
    assert_eq!(judge.era(), 0);
}

#[test]
fn a_veto_stops_who_is_shown_to_hurt_and_nobody_else() {
    for (own, is_stopped) in [(-0.3, true), (0.0, false)] {
        let mut judge = judge(&[B]);
        judge.set_policy(with_group(false, 0.02));
        judge.policy.min_labels = 400;
        let mut decided = false;
        for row in 1..=1_000 {
            let is_in = row % 10 == 0;
            let entries = vec![entry(B, if is_in { own } else { 0.5 })];
            let pair = grouped(&judge, row, entries, u64::from(is_in));
            decided |= judge.fold(&pair).is_some();
        }
        assert_eq!(decided, !is_stopped);
        if is_stopped {
            assert!(
                why(&judge, B).starts_with("group 'g0': shown to lose more than 0.02"),
                "{}",
                why(&judge, B)
            );
        }
    }
}

/// A new champion, better by a lot, but worse in the group.
fn hurts(judge: &mut Judge, rows: std::ops::RangeInclusive<u64>) -> Option<(u64, Decision)> {
    rows.into_iter().find_map(|row| {
        let is_in = row % 4 == 0;
        let pair = grouped(
            judge,
            row,
            vec![entry(A, if is_in { 0.6 } else { -0.5 })],
            u64::from(is_in),
        );
        judge.fold(&pair).map(|decision| (row, decision))
    })
}

#[test]
fn on_probation_a_strict_group_takes_the_crown_back_once_it_has_held_for_the_dwell() {
    let mut judge = judge(&[B]);
    judge.set_policy(Policy {
        probation: Span::Rows(5_000),
        ..with_group(true, 0.02)
    });
    judge.swap(B, Swap::Promotion, at(0));
    let (row, decision) = hurts(&mut judge, 1..=2_000).unwrap();
    assert_eq!((decision.kind, decision.version), (Action::Rollback, A));
    assert!(row >= 4 * 50, "{row}: 50 labels of the group");
    assert!(
        decision
            .why
            .starts_with("in group 'g0' the new champion loses more than 0.02 more"),
        "{}",
        decision.why
    );
    judge.hold(true);
    judge.hold(false);
    assert!(hurts(&mut judge, row + 1..=row + 4).is_some(), "and again after a hold");
}

#[test]
fn on_probation_a_group_that_is_not_strict_only_alarms_and_so_does_a_strict_one_on_hold() {
    for (strict, hold) in [(false, false), (true, true)] {
        let mut judge = judge(&[B]);
        judge.set_policy(Policy {
            probation: Span::Rows(5_000),
            ..with_group(strict, 0.02)
        });
        judge.swap(B, Swap::Promotion, at(0));
        judge.hold(hold);
        assert_eq!(hurts(&mut judge, 1..=1_000), None);
        let (against, text) = judge.alarm().unwrap();
        assert!(against == A && text.starts_with("in group 'g0'"), "{text}");
        assert!(judge.verdict(A).unwrap().alarm.is_some());
    }
}

/// One contest of 0/1 losses in which a tenth of the traffic is a group where the challenger is worse by `harm`.
fn contest(seed: u64, policy: &Policy, (effect, harm): (f64, f64), rows: u64) -> bool {
    let mut random = SplitMix64(seed);
    let mut judge = Judge::new(policy.clone(), A, 1, at(0));
    judge.enter(B, at(0));
    // Better elsewhere, so that the whole is better by `effect`.
    let elsewhere = (effect - 0.1 * harm) / 0.9;
    (1..=rows).any(|row| {
        let is_in = random.uniform() < 0.1;
        let mean = if is_in { harm } else { elsewhere };
        let difference = match random.uniform() {
            u if u < 0.12 / 2.0 + mean / 2.0 => 1.0,
            u if u < 0.12 => -1.0,
            _ => 0.0,
        };
        let pair = grouped(&judge, row, vec![entry(B, difference)], u64::from(is_in));
        judge.fold(&pair).is_some()
    })
}

fn simulated(strict: bool, margin: f64) -> Policy {
    Policy {
        min_labels: 200,
        dwell: Span::Rows(0),
        cooldown: Span::Rows(0),
        ..with_group(strict, margin)
    }
}

#[test]
fn a_strict_group_stops_every_challenger_that_hurts_it_however_much_better_it_is_in_all() {
    for effect in [0.02, 0.05] {
        let promoted = (0..50).filter(|run| contest(3_000 + run, &simulated(true, 0.02), (effect, -0.1), 4_000));
        assert_eq!(promoted.count(), 0, "effect {effect}");
    }
}

#[test]
fn a_group_that_is_not_hurt_lets_every_better_challenger_pass() {
    let promoted = (0..25).filter(|run| contest(4_000 + run, &simulated(true, 0.05), (0.05, 0.03), 20_000));
    assert_eq!(promoted.count(), 25);
}

#[test]
fn a_veto_comes_too_late_for_some_which_is_why_named_groups_are_strict() {
    let passed = (0..30).filter(|run| contest(5_000 + run, &simulated(false, 0.02), (0.05, -0.1), 4_000));
    let passed = passed.count();
    assert!((1..30).contains(&passed), "{passed} of 30");
}

#[test]
fn a_twin_never_wins_takes_no_place_and_its_disagreement_is_the_noise_beside_every_challenger() {
    for seed in 0..60u64 {
        let mut random = SplitMix64(seed);
        let mut judge = Judge::new(policy(), A, 1, at(0));
        judge.set_twin(B, true, Some(A));
        judge.enter(B, at(0));
        judge.enter(C, at(0));
        for row in 1..=300 {
            // A copy that is even luckier than chance would have it: it must not matter.
            let differs = if random.uniform() < 0.02 { 0.4 } else { 0.0 };
            let pair = pair(&judge, row, vec![entry(B, differs), entry(C, 0.0)]);
            assert_eq!(judge.fold(&pair), None, "seed {seed}");
        }
        let twin = judge.verdict(B).unwrap();
        assert!(
            twin.twin && twin.place.is_none() && twin.why.starts_with("it is a twin"),
            "{}",
            twin.why
        );
        let beside = judge.verdict(C).unwrap();
        assert_eq!(beside.place, Some(1), "the twin has not made its bar higher");
        let noise = beside.noise.unwrap();
        assert!(noise.labels == 300 && noise.share_of_rows_that_differ < 0.1);
        assert!((noise.mean_difference - 0.4 * noise.share_of_rows_that_differ).abs() < 1e-9);
        assert!((noise.mean_abs_difference - noise.mean_difference).abs() < 1e-12);
    }
}

#[test]
fn a_twin_of_a_challenger_is_compared_with_that_one() {
    let mut judge = judge(&[C]);
    judge.set_twin(B, true, Some(C));
    judge.enter(B, at(0));
    feed(&mut judge, 1..=20, |row| {
        let own = if row == 7 { 0.5 } else { 0.25 };
        vec![entry(B, own), entry(C, 0.25)]
    });
    let noise = judge.noise().unwrap();
    assert_eq!((noise.labels, noise.share_of_rows_that_differ), (20, 0.05));
    judge.set_twin(B, true, None);
    assert_eq!(judge.noise(), None);
    // Once it is none any more it is a challenger like others, at the end of the queue.
    judge.set_twin(B, false, None);
    feed(&mut judge, 21..=22, |_| vec![entry(B, 0.25), entry(C, 0.25)]);
    assert_eq!(judge.verdict(B).unwrap().place, Some(2));
}

#[test]
fn what_a_late_place_costs_is_told_in_labels_and_what_never_comes_is_called_never() {
    let mut judge = judge(&[B, C]);
    judge.policy.min_labels = 5;
    feed(&mut judge, 1..=12, |row| {
        let luck = if row.is_multiple_of(3) { -0.2 } else { 0.3 };
        vec![entry(B, luck), entry(C, luck)]
    });
    let (first, second) = (judge.verdict(B).unwrap(), judge.verdict(C).unwrap());
    assert_eq!((first.place, first.place_costs_labels), (Some(1), Some(0)));
    assert_eq!(second.place, Some(2));
    assert!((second.first_log_bar - first.numbers.log_bar).abs() < 1e-12);
    let costs = second.place_costs_labels.unwrap();
    assert!((1..60).contains(&costs), "{costs}");
    let (near, far) = (
        first.outlook.labels_to_bar.unwrap(),
        second.outlook.labels_to_bar.unwrap(),
    );
    assert_eq!(near + costs, far);
    assert!((first.outlook.seconds_to_bar.unwrap() - 60.0 * near as f64).abs() < 1e-6);
    assert!(
        first
            .why
            .contains(&format!("about {near} more at the present mean difference, +0.1333")),
        "{}",
        first.why
    );

    let mut worse = self::judge(&[B]);
    worse.policy.min_labels = 5;
    feed(&mut worse, 1..=8, |row| {
        vec![entry(B, if row.is_multiple_of(2) { -0.2 } else { 0.1 })]
    });
    assert!(
        why(&worse, B).contains("never at the present mean difference, -0.0500"),
        "{}",
        why(&worse, B)
    );
}

#[test]
fn the_outlook_is_about_right() {
    // Told after a tenth of the way, and how it came out.
    let mut ratios: Vec<f64> = (0..20u64)
        .filter_map(|seed| {
            let mut random = SplitMix64(11_000 + seed);
            let mut judge = judge(&[B]);
            let mut told = None;
            for row in 1..=20_000u64 {
                let difference = if random.uniform() < 0.56 { 0.3 } else { -0.3 };
                let pair = pair(&judge, row, vec![entry(B, difference)]);
                judge.fold(&pair);
                if row == 400 {
                    told = judge.verdict(B).unwrap().outlook.labels_to_bar;
                }
                if judge.armed_since(B).is_some() {
                    return told.map(|told| (row - 400) as f64 / told.max(1) as f64);
                }
            }
            None
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    assert!(
        ratios.len() >= 10 && (0.3..3.0).contains(&median),
        "{} {median}",
        ratios.len()
    );
}
