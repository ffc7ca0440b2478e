//! What goes, what stays, and that nothing decided changes by it. Times are milliseconds, the id of a row is its time.

use std::time::{Duration, Instant};

use super::*;
use crate::config::RetentionConfig;
use crate::ledger::Kept;
use crate::metrics::{Format, Page};
use crate::recorder::retention::Retention;

const EVER: Duration = Duration::from_secs(1_000_000_000);

fn limits() -> RetentionConfig {
    RetentionConfig {
        inputs_age: EVER,
        inputs_bytes: u64::MAX,
        rows_age: EVER,
        ledger_bytes: u64::MAX,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Lab {
    /// All steps that are to be done at this time.
    fn prune(&mut self, limits: &RetentionConfig, now_ms: i64) {
        let keeping = Arc::clone(&self.thread.core.keeping);
        let mut retention = Retention::new(limits.clone(), keeping, Instant::now());
        let (core, ledger) = (&mut self.thread.core, &mut self.thread.ledger);
        for steps in 0.. {
            if !retention.step(core, ledger, now_ms).unwrap() {
                break;
            }
            assert!(steps < 10_000, "it never ends");
        }
    }

    fn kept(&self) -> Kept {
        let kept = self.book().kept;
        assert_eq!(
            self.thread.ledger.reader().kept(self.model).unwrap(),
            kept,
            "as it is stored"
        );
        kept
    }

    fn ask(&self, sql: &str) -> i64 {
        let beside = rusqlite::Connection::open(self.dir.path().join("ledger.sqlite")).unwrap();
        beside.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn stored_inputs(&self) -> u64 {
        let sql = "SELECT coalesce(sum(coalesce(octet_length(inputs), 0) + coalesce(octet_length(context), 0)), 0) FROM predictions";
        u64::try_from(self.ask(sql)).unwrap()
    }
}

/// Fifty rows with labels, all but the last two of them folded.
fn fifty(closing: Closing) -> Lab {
    let mut lab = Lab::new(closing, Policy::default(), &[FIRST]);
    for id in 1..=50 {
        let seen = lab.observation(id, &[scored(0.5)]);
        lab.record_with_label(seen, Some(u32::from(id % 2 == 0)));
    }
    lab.report(FIRST, (1..=50).map(|id| (id, scored(0.8))).collect());
    lab.rows([51]);
    lab
}

#[test]
fn inputs_go_by_their_age_and_rows_not_before_their_label_horizon() {
    let mut lab = fifty(Closing {
        horizon: Span::Time(ms(60)),
        ..closing(Span::Rows(1))
    });
    let pairs = lab.pairs();
    assert_eq!(pairs.len(), 49);
    let limits = RetentionConfig {
        inputs_age: ms(70),
        rows_age: ms(30),
        ..limits()
    };
    lab.prune(&limits, 80);
    // Until 20 the horizon has passed, and 30 ms are over anyway; inputs would be kept until 10.
    assert_eq!(lab.ask("SELECT min(id) FROM predictions"), 21);
    assert_eq!(lab.ask("SELECT count(*) FROM predictions WHERE inputs IS NULL"), 0);
    for table in ["labels", "outcomes"] {
        assert_eq!(lab.ask(&format!("SELECT min(id) FROM {table}")), 21, "{table}");
    }
    lab.prune(
        &RetentionConfig {
            inputs_age: ms(50),
            ..limits.clone()
        },
        80,
    );
    assert_eq!(
        lab.ask("SELECT max(id) FROM predictions WHERE inputs IS NULL AND context IS NULL"),
        30
    );
    assert_eq!(lab.ask("SELECT min(id) FROM predictions WHERE inputs IS NOT NULL"), 31);
    assert_eq!((lab.kept().inputs_to, lab.kept().rows_to.row), (30, 20));
    assert_eq!((lab.kept().pruned_rows, lab.kept().forced_rows), (20, 0));
    assert_eq!(lab.stored_inputs(), lab.kept().inputs_bytes);
    // What is gone is said to be too old, whatever else may be; what is there takes labels as before.
    assert_eq!(lab.label(10, 1), Status::Expired);
    assert_eq!(lab.label(26, 1), Status::Duplicate);
    assert_eq!(lab.pairs(), pairs);
}

#[test]
fn a_row_that_waits_for_an_outcome_outlives_every_age_and_goes_after_it_has_folded() {
    let mut lab = Lab::new(
        Closing {
            horizon: Span::Time(ms(1)),
            ..closing(Span::Rows(1))
        },
        Policy::default(),
        &[FIRST],
    );
    let seen = lab.observation(1, &[scored(0.5)]);
    lab.record_with_label(seen, Some(1));
    lab.rows([2, 3, 4]);
    let old = RetentionConfig {
        inputs_age: ms(1),
        rows_age: ms(1),
        ..limits()
    };
    lab.prune(&old, 1_000_000);
    assert_eq!(lab.ask("SELECT count(*) FROM predictions WHERE inputs IS NOT NULL"), 4);
    lab.report(FIRST, (1..=4).map(|id| (id, scored(1.0))).collect());
    assert_eq!(lab.folded(), [(1, vec![2])], "it has become evidence");
    lab.prune(&old, 1_000_000);
    assert_eq!(lab.ask("SELECT group_concat(id) = '3,4' FROM predictions"), 1);
    assert_eq!(lab.folded(), [(1, vec![2])]);
}

#[test]
fn bytes_take_inputs_first_then_rows_even_open_ones_which_are_counted_and_said_to_be_gone() {
    let mut lab = Lab::new(closing(Span::Rows(2_000)), Policy::default(), &[FIRST]);
    lab.rows(1..=2_500);
    let inputs = lab.kept().inputs_bytes;
    assert_eq!(inputs, lab.stored_inputs());
    // The first 499 rows are closed and, without a label, passed over.
    lab.prune(
        &RetentionConfig {
            inputs_bytes: inputs - 100,
            ..limits()
        },
        3_000,
    );
    assert!((1..499).contains(&lab.kept().inputs_to), "{:?}", lab.kept());
    assert!(lab.kept().inputs_bytes <= inputs - 100);
    assert_eq!(lab.kept().forced_rows, 0);
    lab.prune(
        &RetentionConfig {
            ledger_bytes: 0,
            ..limits()
        },
        3_000,
    );
    let kept = lab.kept();
    assert_eq!(
        (kept.rows_to.row, kept.pruned_rows, kept.forced_rows),
        (1_500, 1_500, 1_500)
    );
    assert_eq!(kept.forced_open, 1_500 - 499);
    assert_eq!(
        lab.ask("SELECT min(id) FROM predictions"),
        1_501,
        "the latest thousand stay"
    );
    let item = |lab: &Lab, id| lab.label_item(LabelKey::Ours { id, time_ms: id }, 1, 1.0);
    let (old, new) = (item(&lab, 700), item(&lab, 2_000));
    assert_eq!(lab.send(vec![old, new]), [Status::Unrecorded, Status::Accepted]);
    assert_eq!(lab.thread.core.keeping.show()["labels_for_pruned_rows"], 1);
    // An outcome that comes for a row that is gone leaves nothing, and those that stayed fold.
    lab.report(FIRST, (1..=2_500).map(|id| (id, scored(0.9))).collect());
    assert_eq!(lab.ask("SELECT min(id) FROM outcomes"), 1_501);
    lab.rows(2_501..=4_002);
    assert_eq!(lab.folded(), [(2_000, vec![2])]);
}

#[test]
fn what_is_kept_is_counted_to_the_byte_whoever_recorded_it_and_whatever_was_erased() {
    let mut lab = fifty(closing(Span::Rows(1)));
    let model = lab.model;
    lab.commit(commands(Box::new(move |core, writer| {
        let key = crate::id::IdKey::new([0; 16]);
        core.erase(writer, model, &[7, 8], 0, ("ada", "asked to"), &key)?;
        Ok(Box::new(|| ()))
    })));
    assert_eq!(lab.kept().inputs_bytes, lab.stored_inputs());
    lab.reload();
    assert_eq!(lab.kept().inputs_bytes, lab.stored_inputs());
    // As recorded by a program that did not count.
    rusqlite::Connection::open(lab.dir.path().join("ledger.sqlite"))
        .unwrap()
        .execute("DELETE FROM retention", [])
        .unwrap();
    lab.reload();
    lab.rows([52]);
    assert_eq!(lab.kept().inputs_bytes, 0, "nothing is known yet");
    lab.prune(&limits(), 1_000);
    assert_eq!(
        (lab.kept().inputs_bytes, lab.kept().counted_to),
        (lab.stored_inputs(), 52)
    );
    lab.rows([53]);
    assert_eq!(lab.kept().inputs_bytes, lab.stored_inputs());
}

#[test]
fn numbers_of_rows_go_on_after_everything_else_is_gone() {
    let mut lab = fifty(Closing {
        horizon: Span::Rows(1),
        ..closing(Span::Rows(1))
    });
    lab.report(FIRST, vec![(51, scored(0.8))]);
    lab.rows([52, 53]);
    lab.report(FIRST, vec![(52, scored(0.8)), (53, scored(0.8))]);
    let old = RetentionConfig {
        inputs_age: ms(1),
        rows_age: ms(1),
        ..limits()
    };
    lab.prune(&old, 1_000_000);
    let evidence = lab.book().evidence();
    lab.reload();
    assert_eq!(lab.book().evidence(), evidence);
    assert_eq!(lab.ask("SELECT max(id) FROM predictions"), 53);
    lab.rows([54]);
    assert_eq!(lab.book().clock().row, 54);
}

#[test]
fn a_file_that_was_emptied_shrinks_in_steps() {
    let mut lab = Lab::new(closing(Span::Rows(1)), Policy::default(), &[]);
    let long = "x".repeat(2_000);
    for part in 0..5 {
        let observations = (1..=500).map(|k| {
            let mut seen = lab.observation(part * 500 + k, &[scored(0.5)]);
            seen.context = Some(vec![format!("{{\"n\":\"{long}\"}}")]);
            seen
        });
        let observations = observations.collect();
        lab.commit(Drained {
            observations,
            ..Drained::default()
        });
    }
    let before = lab.thread.ledger.reader().size().unwrap();
    assert!(before.shrinks && before.file > 5_000_000, "{before:?}");
    lab.prune(
        &RetentionConfig {
            inputs_bytes: 100_000,
            ..limits()
        },
        3_000,
    );
    let after = lab.thread.ledger.reader().size().unwrap();
    assert!(
        after.file < before.file / 2 && after.free <= 1 << 21,
        "{before:?} {after:?}"
    );
    lab.thread.ledger.empty_log().unwrap();
    let on_disk = std::fs::metadata(lab.dir.path().join("ledger.sqlite")).unwrap().len();
    assert_eq!(on_disk, after.file);
}

#[test]
fn limits_that_cannot_hold_the_label_horizon_are_said_to_be_short() {
    let mut lab = Lab::new(
        Closing {
            horizon: Span::Time(ms(86_400_000)),
            ..closing(Span::Rows(1))
        },
        Policy::default(),
        &[],
    );
    lab.rows((1..=1_000).map(|k| k * 3_600));
    // A thousand rows an hour, for a day, of some hundred bytes each.
    lab.prune(
        &RetentionConfig {
            ledger_bytes: 1_000_000,
            ..limits()
        },
        3_600_000,
    );
    let short = lab.thread.core.keeping.short().unwrap();
    assert!(
        short.contains("retention.ledger_bytes (1000000)") && short.contains("23976 rows a day"),
        "{short}"
    );
    let mut page = Page::default();
    lab.thread.core.keeping.write(&mut page);
    let text = String::from_utf8(Format::Prometheus.write(&page)).unwrap();
    assert!(text.contains("\ndethrone_retention_short 1\n"), "{text}");
    lab.prune(
        &RetentionConfig {
            ledger_bytes: 1_000_000_000,
            ..limits()
        },
        3_600_000,
    );
    assert_eq!(lab.thread.core.keeping.short(), None);
}
