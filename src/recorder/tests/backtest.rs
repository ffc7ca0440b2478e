//! A backtest and a live book on the same rows: the same pairs, decisions and evidence, bit for bit.

use super::*;
use crate::backtest::contest::{Asked, Contest, Outcomes};
use crate::judge::fold::Action;
use crate::judge::tenure::Swap;

/// Who is better changes twice; nobody scores every row.
struct Said;

impl Outcomes for Said {
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome {
        let id = row as u64;
        let noise = (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 1000;
        let truth = truth(row).is_some_and(|class| class == 1);
        let good = match (version, id) {
            (CHAMPION, 0..300) | (SECOND, 700..) => 0.6,
            (FIRST, 300..700) => 0.9,
            _ => 0.5,
        };
        match (version, noise) {
            (FIRST, 0..20) => Outcome::Failed,
            (SECOND, 20..60) => Outcome::Uncovered,
            (FIRST | SECOND, 60..100) => Outcome::Shed(Shed::Starved),
            _ => scored(if truth { good } else { 1.0 - good } + (noise as f64 - 500.0) / 10_000.0),
        }
    }
}

fn truth(row: usize) -> Option<u32> {
    (row % 7 != 3).then(|| u32::from(row.wrapping_mul(2_654_435_761) % 5 < 2))
}

fn swap_of(action: Action) -> Swap {
    match action {
        Action::Promote => Swap::Promotion,
        Action::Rollback => Swap::Rollback,
    }
}

#[test]
fn a_backtest_decides_what_a_live_book_decides_on_the_same_rows_bit_for_bit() {
    const ROWS: usize = 1_100;
    for maturity in [Span::Rows(11), Span::Time(std::time::Duration::from_millis(25))] {
        let policy = Policy {
            cooldown: Span::Rows(40),
            rollback_wait: Span::Rows(60),
            probation: Span::Rows(100),
            probation_labels: 100,
            ..eager()
        };
        let closing = Closing {
            absent: Some(Truth::Class(0)),
            ..closing(maturity)
        };
        let everybody = [CHAMPION, FIRST, SECOND];
        let mut lab = Lab::new(closing.clone(), policy.clone(), &everybody);
        let mut contest = Contest::new(policy, closing, CHAMPION, 16);
        contest.arrive(FIRST);
        contest.arrive(SECOND);
        let mut live = Vec::new();
        // Times in leaps, so that several rows close at once.
        let time = |row: usize| i64::try_from(row + row / 9 * 5).unwrap();
        for row in 0..ROWS {
            let id = i64::try_from(row).unwrap() + 1;
            let champion = lab.book().judge.as_ref().unwrap().champion();
            assert_eq!(champion, contest.judge().champion(), "row {row}");
            for version in everybody {
                lab.outcome(version, id, Said.outcome(version, row));
            }
            let mut seen = lab.observation(id, &[Said.outcome(champion, row)]);
            (seen.version, seen.time_ms) = (champion, time(row));
            // The label is there before the row can close.
            lab.record_with_label(seen, truth(row));
            let changed = contest.record(
                Asked::new(
                    row,
                    Clock {
                        row: row as u64 + 1,
                        time_ms: time(row),
                    },
                    truth(row).map(Truth::Class),
                ),
                &Said,
            );
            let decided: Vec<Verdicted> = lab
                .thread
                .core
                .outbox
                .drain(..)
                .chain(lab.decisions.try_iter())
                .collect();
            assert_eq!(changed, !decided.is_empty(), "row {row}");
            for Verdicted { decision, .. } in decided {
                let clock = lab.book().clock();
                let (to, kind) = (decision.version, swap_of(decision.kind));
                live.push((clock, decision));
                lab.event(Event::Swap { to, kind, clock });
            }
            let judge = lab.book().judge.as_ref().unwrap();
            if row % 50 == 0 {
                let bits = |judge: &crate::judge::fold::Judge| serde_json::to_string(judge).unwrap();
                assert_eq!(bits(judge), bits(contest.judge()), "row {row}");
            }
        }
        let ours: Vec<_> = contest.changes().iter().map(|c| (c.at, c.decision.clone())).collect();
        assert_eq!(live, ours);
        let judge = lab.book().judge.as_ref().unwrap();
        assert_eq!(judge, contest.judge());
        assert_eq!(lab.pairs().len() as u64, contest.pairs());
        let kinds = |kind| ours.iter().filter(|(_, d)| d.kind == kind).count();
        assert!(kinds(Action::Promote) >= 2, "{ours:?}");
    }
}
