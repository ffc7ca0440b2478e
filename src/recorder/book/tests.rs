//! A book that is closed and read again, however often, judges as one that never was.

use tempfile::TempDir;

use super::*;
use crate::judge::fold::Action;
use crate::judge::loss::Metric;
use crate::judge::policy::{Mode, Policy};
use crate::judge::tenure::Swap;
use crate::ledger::LabelRow;
use crate::metrics::Metrics;
use crate::mirror::Observed;
use crate::score::Score;

const CHAMPION: VersionNo = VersionNo(1);

/// SplitMix64: a seed repeats a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Quick to decide, so that a short history holds many tenures.
fn policy() -> Policy {
    Policy {
        alpha: 0.5,
        rollback_alpha: 0.5,
        min_labels: 5,
        min_class_labels: 1,
        min_coverage: 0.5,
        dwell: Span::Rows(3),
        cooldown: Span::Rows(5),
        probation: Span::Rows(30),
        probation_labels: 10,
        rollback_wait: Span::Rows(10),
        ..Policy::default()
    }
}

struct World {
    ledger: Ledger,
    book: Book,
    outbox: Vec<Verdicted>,
    _dir: TempDir,
}

impl World {
    fn new(closing: &Closing) -> Self {
        let dir = TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let metrics = Metrics::new();
        let book = ledger.transaction(false, |writer| {
            let row = writer.model("m")?;
            let served = Served::new("m".into(), row.no, metrics.model("m"));
            let mut book = Book::load(writer, row, closing.clone(), Attached::to(&served))?;
            let event = Event::Start {
                policy: policy(),
                champion: CHAMPION,
                clock: book.clock(),
            };
            book.apply(writer, &event, 0)?;
            Ok(book)
        });
        Self {
            book: book.unwrap(),
            ledger,
            outbox: Vec::new(),
            _dir: dir,
        }
    }

    /// One transaction as the recorder makes it: the work, then what can be folded.
    fn commit(&mut self, work: impl FnOnce(&mut Book, &Writer<'_>) -> Result<(), LedgerError>) {
        let (book, outbox) = (&mut self.book, &mut self.outbox);
        let done = self.ledger.transaction(false, |writer| {
            work(book, writer)?;
            while book.fold(writer, 100, outbox)? {}
            book.save_coverage(writer)
        });
        done.unwrap();
    }

    /// Reads the book again: what was only in memory is gone.
    fn reload(&mut self, lineup: &[VersionNo]) {
        let (closing, attached) = (self.book.closing.clone(), self.book.attached.clone());
        let book = self.ledger.transaction(false, |writer| {
            let mut book = Book::load(writer, writer.model("m")?, closing, attached)?;
            book.lineup = writer.insert_lineup(lineup)?;
            Ok(book)
        });
        self.book = book.unwrap();
    }

    /// A transaction that fails at its end, after the book has seen all of it.
    fn fail(&mut self, seen: &Observation, event: &Event) {
        let (book, outbox) = (&mut self.book, &mut self.outbox);
        let failed = self.ledger.transaction(false, |writer| -> Result<(), LedgerError> {
            book.observe(writer, seen)?;
            book.apply(writer, event, 0)?;
            while book.fold(writer, 100, outbox)? {}
            Err(LedgerError::Locked(std::path::PathBuf::new()))
        });
        failed.unwrap_err();
    }
}

struct History {
    random: Random,
    worlds: [World; 2],
    present: Vec<VersionNo>,
    /// Offered rows without an outcome.
    owed: Vec<(i64, VersionNo, f64)>,
    /// Rows that may still get a label.
    unlabelled: Vec<(i64, Clock, f64)>,
    rows: u64,
    decisions: usize,
}

impl History {
    fn judge(&self) -> &Judge {
        self.worlds[0].book.judge.as_ref().unwrap()
    }

    /// The same for both.
    fn both(&mut self, work: impl Fn(&mut Book, &Writer<'_>) -> Result<(), LedgerError>) {
        for world in &mut self.worlds {
            world.commit(&work);
        }
    }

    fn event(&mut self, event: &Event) {
        let lineup = self.present.clone();
        self.both(|book, writer| {
            book.apply(writer, event, 0)?;
            book.lineup = writer.insert_lineup(&lineup)?;
            Ok(())
        });
    }

    fn row(&mut self) -> Observation {
        let epoch = self.judge().epoch() - u64::from(self.random.below(20) == 0);
        let number = i64::try_from(self.rows + 1).unwrap();
        Observation {
            model: self.worlds[0].book.row.no,
            first_id: number,
            time_ms: number * 1_000,
            epoch,
            version: self.judge().champion(),
            batch: Arc::new(Batch::Tensors {
                inputs: Vec::new(),
                rows: 1,
            }),
            rows: vec![Observed {
                outcome: Outcome::Shed(Shed::Left),
                fallback: None,
            }],
            ids: None,
            entities: None,
            context: None,
        }
    }

    /// A version's score: the greater its skill at the moment, the nearer to the truth.
    fn score(&mut self, version: VersionNo, truth: f64) -> Outcome {
        let phase = self.rows / 120 + u64::from(version.0);
        let skill = [0.0, 0.5, 1.0, 0.2][usize::try_from(phase % 4).unwrap()];
        match self.random.below(20) {
            0 => Outcome::Failed,
            1 => Outcome::Uncovered,
            2 => Outcome::Shed(Shed::QueueFull),
            _ => {
                let noise = self.random.unit();
                Outcome::Scored(Score::Binary(truth * skill + noise * (1.0 - skill)))
            }
        }
    }

    fn observe(&mut self) {
        let truth = self.random.below(2) as f64;
        let mut seen = self.row();
        let champion = self.judge().champion();
        seen.rows[0].outcome = self.score(champion, truth);
        let id = seen.first_id;
        self.both(|book, writer| book.observe(writer, &seen).map(|_| ()));
        self.rows += 1;
        self.owed
            .extend(self.present.iter().map(|version| (id, *version, truth)));
        let clock = Clock {
            row: self.rows,
            time_ms: seen.time_ms,
        };
        self.unlabelled.push((id, clock, truth));
    }

    fn report(&mut self) {
        for (id, version, truth) in std::mem::take(&mut self.owed) {
            if self.random.below(8) == 0 {
                self.owed.push((id, version, truth));
                continue;
            }
            let outcome = self.score(version, truth);
            self.both(|book, writer| book.outcome(writer, id, version, &outcome));
        }
    }

    fn label(&mut self) {
        for (id, clock, truth) in std::mem::take(&mut self.unlabelled) {
            match self.random.below(4) {
                0 => self.unlabelled.push((id, clock, truth)),
                1 => {}
                _ => {
                    let weight = if self.random.below(5) == 0 { 0.25 } else { 1.0 };
                    let late = self.worlds[0].book.is_closed(clock);
                    assert_eq!(late, self.worlds[1].book.is_closed(clock));
                    let label = LabelRow {
                        label: truth.to_string(),
                        truth: Truth::Class(u32::from(truth > 0.5)),
                        weight,
                        late,
                    };
                    self.both(|_, writer| writer.insert_label(id, 0, &label, None));
                }
            }
        }
    }

    /// Versions come and go, rules change, somebody holds.
    fn happening(&mut self) {
        let clock = self.worlds[0].book.clock();
        let version = VersionNo(u32::try_from(1 + self.random.below(5)).unwrap());
        match self.random.below(10) {
            0..=3 if version != self.judge().champion() && !self.present.contains(&version) => {
                self.present.push(version);
                self.event(&Event::Enter { version, clock });
            }
            4 if self.present.len() > 1 => {
                let version = self.present.remove(0);
                self.event(&Event::Leave { version });
            }
            5 if self.random.below(3) == 0 => self.event(&Event::Hold { on: true }),
            5..=7 => self.event(&Event::Hold { on: false }),
            8 if self.random.below(3) == 0 => self.event(&Event::Restart),
            9 => {
                let mut policy = policy();
                policy.margin = [0.0, 0.01][usize::from(self.random.below(8) == 0)];
                policy.metric = [Metric::Brier, Metric::LogLoss { clip: 0.05 }][usize::from(self.random.below(8) == 0)];
                policy.mode = [Mode::Auto, Mode::Recommend][usize::from(self.random.below(4) == 0)];
                self.event(&Event::Policy { policy });
            }
            _ => {}
        }
    }

    fn swap(&mut self, to: VersionNo, kind: Swap) {
        let (clock, from) = (self.worlds[0].book.clock(), self.judge().champion());
        self.present.retain(|version| *version != to);
        self.present.push(from);
        self.event(&Event::Swap { to, kind, clock });
    }

    /// What control makes of a decision: usually it is carried out, sometimes it cannot be, sometimes it waits.
    fn answer(&mut self) {
        let Some(decision) = self.worlds[0].book.pending().cloned() else {
            if self.random.below(400) == 0 && !self.present.is_empty() {
                self.swap(self.present[0], Swap::Person);
            }
            return;
        };
        self.decisions += 1;
        match self.random.below(5) {
            0 => {}
            1 => self.event(&Event::Decline {
                version: decision.version,
            }),
            _ => {
                let kind = match decision.kind {
                    Action::Promote => Swap::Promotion,
                    Action::Rollback => Swap::Rollback,
                };
                self.swap(decision.version, kind);
            }
        }
    }

    /// The second world ends and starts again; the first one only loses what the other's runners still owed.
    fn restart(&mut self) {
        if self.random.below(3) == 0 {
            self.worlds[1].commit(|book, writer| book.save_snapshot(writer));
        }
        if self.random.below(3) == 0 {
            let seen = self.row();
            self.worlds[1].fail(&seen, &Event::Restart);
        }
        let lineup = self.present.clone();
        self.worlds[1].reload(&lineup);
        for (id, version, _) in std::mem::take(&mut self.owed) {
            self.worlds[0].commit(|book, writer| book.outcome(writer, id, version, &Outcome::Shed(Shed::Restart)));
        }
        self.worlds[1].commit(|_, _| Ok(()));
    }

    fn compare(&self, seed: u64) {
        let [kept, reloaded] = &self.worlds;
        let at = format!("seed {seed}, row {}", self.rows);
        assert_eq!(kept.book.judge, reloaded.book.judge, "{at}");
        assert_eq!(kept.book.pending, reloaded.book.pending, "{at}");
        assert_eq!(
            kept.book.judge.as_ref().unwrap().pending(),
            kept.book.pending.as_ref().map(|d| d.version),
            "{at}"
        );
        assert_eq!(kept.book.clock(), reloaded.book.clock(), "{at}");
    }
}

#[test]
fn a_book_that_is_reloaded_at_random_points_judges_as_one_that_never_was() {
    let mut decisions = 0;
    for seed in 0..8 {
        let mut random = Random(seed);
        let closing = Closing {
            maturity: [Span::Rows(20), "25s".parse().unwrap()][usize::from(random.below(2) == 0)],
            horizon: Span::Rows(1_000),
            absent: [None, Some(Truth::Class(0))][usize::from(random.below(4) == 0)],
            dropped: Vec::new(),
        };
        let worlds = [World::new(&closing), World::new(&closing)];
        let mut history = History {
            random,
            worlds,
            present: Vec::new(),
            owed: Vec::new(),
            unlabelled: Vec::new(),
            rows: 0,
            decisions: 0,
        };
        for _ in 0..1_000 {
            match history.random.below(40) {
                0..=22 => history.observe(),
                23..=28 => history.report(),
                29..=33 => history.label(),
                34 => history.happening(),
                35..=38 => history.answer(),
                _ => history.restart(),
            }
            history.compare(seed);
        }
        decisions += history.decisions;
    }
    assert!(decisions > 5, "hardly anything was decided: {decisions}");
}

#[test]
fn a_decision_that_was_not_answered_is_there_again_after_a_restart_and_an_overtaken_one_is_not() {
    let closing = Closing {
        maturity: Span::Rows(1),
        horizon: Span::Rows(1_000),
        absent: None,
        dropped: Vec::new(),
    };
    let decided = || {
        let mut history = History {
            random: Random(7),
            worlds: [World::new(&closing), World::new(&closing)],
            present: vec![VersionNo(2)],
            owed: Vec::new(),
            unlabelled: Vec::new(),
            rows: 0,
            decisions: 0,
        };
        let clock = Clock::default();
        history.event(&Event::Enter {
            version: VersionNo(2),
            clock,
        });
        while history.worlds[0].book.pending().is_none() {
            assert!(history.rows < 500, "never decided");
            let mut seen = history.row();
            seen.epoch = 1;
            let truth = u32::try_from(history.rows % 2).unwrap();
            seen.rows[0].outcome = Outcome::Scored(Score::Binary(0.5));
            let id = seen.first_id;
            history.both(|book, writer| {
                book.observe(writer, &seen)?;
                let right = Outcome::Scored(Score::Binary(f64::from(truth)));
                book.outcome(writer, id, VersionNo(2), &right)?;
                let label = LabelRow {
                    label: truth.to_string(),
                    truth: Truth::Class(truth),
                    weight: 1.0,
                    late: false,
                };
                writer.insert_label(id, 0, &label, None)
            });
            history.rows += 1;
        }
        history
    };
    let mut history = decided();
    let before = history.worlds[1].book.pending().cloned();
    history.worlds[1].reload(&[VersionNo(2)]);
    assert_eq!(history.worlds[1].book.pending().cloned(), before);
    let mut core = Core::default();
    let book = history.worlds.into_iter().next_back().unwrap().book;
    core.add(book);
    assert_eq!(core.outbox.len(), 1, "it is sent out again");

    let recommend = Policy {
        mode: Mode::Recommend,
        ..policy()
    };
    for event in [
        Event::Hold { on: true },
        Event::Leave { version: VersionNo(2) },
        Event::Restart,
        Event::Policy { policy: recommend },
    ] {
        let mut history = decided();
        history.event(&event);
        assert_eq!(history.worlds[0].book.pending(), None, "{event:?}");
        history.worlds[1].reload(&[VersionNo(2)]);
        assert_eq!(history.worlds[1].book.pending(), None, "{event:?}");
    }
    let mut history = decided();
    history.event(&Event::Hold { on: false });
    assert!(
        history.worlds[0].book.pending().is_some(),
        "nothing was held, nothing is undone"
    );
}

#[test]
fn a_transaction_that_fails_leaves_nothing_of_itself_in_memory() {
    let closing = |rows| Closing {
        maturity: Span::Rows(rows),
        horizon: Span::Rows(1_000),
        absent: None,
        dropped: Vec::new(),
    };
    let World { ledger, book, _dir, .. } = World::new(&closing(4));
    let model = book.row.no;
    let mut core = Core::default();
    core.add(book);
    core.keep();
    core.books.get_mut(&model).unwrap().closing = closing(9);
    core.reload(&ledger).unwrap();
    assert_eq!(core.books[&model].closing, closing(4));

    core.keep();
    core.books.get_mut(&model).unwrap().closing = closing(9);
    core.forget();
    core.reload(&ledger).unwrap();
    assert_eq!(core.books[&model].closing, closing(9), "what was committed stays");
}
