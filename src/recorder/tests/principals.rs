//! Under which keys labels come, and how much of one key's is evidence.

use super::*;
use crate::ledger::Report;

fn by(key: &str, is_trusted: bool) -> Option<Reporter> {
    Some(Reporter {
        key: key.into(),
        is_trusted,
    })
}

impl Lab {
    fn reported(&mut self, id: i64, class: u32, reporter: Option<Reporter>) -> Status {
        let item = LabelItem {
            reporter,
            ..self.label_item(LabelKey::Ours { id, time_ms: id }, class, 1.0)
        };
        self.send(vec![item])[0]
    }

    fn reporter_of(&self, id: i64, report: Report) -> Option<String> {
        self.thread.ledger.reader().reported_by(id, report).unwrap()
    }

    /// Records these rows, shadowed by [`FIRST`], with labels of class 1 under these keys.
    fn labelled_by(&mut self, from: i64, keys: &[String]) {
        let ids: Vec<i64> = (from..).take(keys.len()).collect();
        self.rows(ids.clone());
        self.report(FIRST, ids.iter().map(|id| (*id, scored(0.5))).collect());
        for (id, key) in ids.iter().zip(keys) {
            assert_eq!(self.reported(*id, 1, by(key, false)), Status::Accepted);
        }
    }
}

/// A gateway that is killed in between goes on where it was.
fn flooded(is_killed: bool) -> (Vec<u64>, String, Vec<String>) {
    let policy = Policy {
        min_labels: 40,
        ..Policy::default()
    };
    let mut lab = Lab::new(closing(Span::Rows(50)), policy, &[FIRST]);
    let names: Vec<String> = (0..25).map(|k| format!("key-{k}")).collect();
    let flood = vec!["flood".to_owned(); 40];
    lab.labelled_by(1, &names);
    lab.labelled_by(101, &flood);
    if is_killed {
        lab.reload();
        lab.reload();
    }
    lab.labelled_by(201, &names);
    lab.labelled_by(301, &flood);
    if is_killed {
        lab.reload();
    }
    lab.rows(401..500);
    let rows = lab.pairs().iter().map(|pair| pair.clock.row).collect();
    (rows, lab.book().principals().to_string(), lab.book().warnings())
}

#[test]
fn a_key_that_floods_has_its_share_of_the_pairs_whoever_dies_in_between() {
    let (rows, state, warnings) = flooded(false);
    // Of 25 rows of others and 40 of the flood, twice: a first allowance of two labels, and 5 in 95 of the others'.
    let of_flood = |row: &&u64| (26..=65).contains(*row) || (91..=130).contains(*row);
    let flood = rows.iter().filter(of_flood).count();
    assert_eq!((flood, rows.len() - flood), (3, 50), "{rows:?}");
    assert_eq!(
        warnings.last().unwrap(),
        "77 labels are no evidence, 77 of them of the key 'flood': no key makes up more than 5 % of it \
             (label.principal_share); one that reports for many belongs into label.trusted"
    );
    let killed = flooded(true);
    assert_eq!((killed.0, killed.1), (rows, state));
}

#[test]
fn a_trusted_key_corrects_while_the_row_is_open_and_never_after() {
    let mut lab = Lab::new(closing(Span::Rows(3)), Policy::default(), &[FIRST]);
    lab.rows([1, 2]);
    assert_eq!(lab.reported(1, 0, by("shop", false)), Status::Accepted);
    assert_eq!(lab.reported(2, 1, by("shop", false)), Status::Accepted);
    assert_eq!(lab.reported(1, 1, by("other", false)), Status::Conflict);
    assert_eq!(lab.reporter_of(1, Report::Correction(1)).as_deref(), Some("other"));
    assert_eq!(lab.reported(1, 1, by("ops", true)), Status::Accepted);
    assert_eq!(lab.reporter_of(1, Report::Label).as_deref(), Some("ops"));
    assert_eq!(lab.reporter_of(1, Report::Correction(2)).as_deref(), Some("shop"));
    // Nobody corrects it back; it may correct itself no more than others do.
    assert_eq!(lab.reported(1, 0, by("shop", false)), Status::Conflict);
    assert_eq!(lab.reported(1, 0, by("ops", true)), Status::Conflict);
    // What it confirms is its own.
    assert_eq!(lab.reported(2, 1, by("ops", true)), Status::Duplicate);
    assert_eq!(lab.reporter_of(2, Report::Label).as_deref(), Some("ops"));
    lab.report(FIRST, vec![(1, scored(1.0)), (2, scored(1.0))]);
    lab.rows(3..9);
    let pairs = lab.pairs();
    assert!(pairs[0].entries[0].difference > 0.2, "the trusted label: {pairs:?}");
    assert_eq!(lab.reported(2, 0, by("boss", true)), Status::Conflict, "it has closed");
    assert_eq!(lab.pairs(), pairs);
}

#[test]
fn what_a_key_has_reported_goes_with_the_row() {
    let mut lab = Lab::new(closing(Span::Rows(9)), Policy::default(), &[]);
    lab.rows([1, 2]);
    for id in [1, 2] {
        lab.reported(id, 0, by("shop", false));
        lab.reported(id, 1, by("other", false));
    }
    let model = lab.model;
    lab.commit(commands(Box::new(move |core, writer| {
        core.books.get_mut(&model).unwrap().forget(&[1]);
        writer.erase(model, &[1], 5, ("ada", "asked"), &crate::id::IdKey::new([0; 16]))?;
        Ok(Box::new(|| ()))
    })));
    let left = |id| [Report::Label, Report::Correction(id)].map(|report| lab.reporter_of(id, report));
    assert_eq!(left(1), [None, None]);
    assert_eq!(left(2), [Some("shop".into()), Some("other".into())]);
}
