//! The ledger cannot be written: nothing is acknowledged, answering goes on, and it heals by itself.

use std::time::{Duration, Instant};

use super::*;
use crate::metrics::Format;
use crate::mirror::Offered;

fn until(says: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "never came: {says}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A recorder in a thread of its own, with one model.
struct Site {
    dir: TempDir,
    recorder: Recorder,
    join: JoinHandle<()>,
    metrics: Metrics,
    lab: Lab,
    next: i64,
}

impl Site {
    fn new() -> Self {
        // Only for its builders of observations and labels.
        let lab = Lab::new(closing(Span::Rows(1_000_000)), Policy::default(), &[]);
        let dir = TempDir::new().unwrap();
        let metrics = Metrics::default();
        let (recorder, join) = Recorder::start(dir.path(), bounded(1).0, 1.0, &RetentionConfig::default()).unwrap();
        let model = metrics.model("m");
        let added = recorder.call_blocking(move |core, writer| {
            let row = writer.model("m")?;
            let served = Served::new("m".into(), row.no, model);
            core.add(Book::load(
                writer,
                row,
                closing(Span::Rows(1_000_000)),
                Attached::to(&served),
            )?);
            Ok(())
        });
        added.unwrap();
        Self {
            dir,
            recorder,
            join,
            metrics,
            lab,
            next: 1,
        }
    }

    fn other(&self) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(self.dir.path().join("ledger.sqlite")).unwrap();
        other.busy_timeout(Duration::from_secs(30)).unwrap();
        other
    }

    /// An answered request of eight rows; gives the first one's id.
    fn predict(&mut self) -> i64 {
        let id = self.next;
        self.next += 8;
        let seen = self.lab.observation(id, &vec![scored(0.5); 8]);
        assert_eq!(self.recorder.mirror().offer(seen), Offered::Taken);
        id
    }

    fn label(&self, id: i64) -> Result<Status, StorageError> {
        let item = self.lab.label_item(LabelKey::Ours { id, time_ms: id }, 1, 1.0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(self.recorder.labels(vec![item], 0))?;
        Ok(answer[0].status)
    }

    fn dropped(&self) -> u64 {
        let text = String::from_utf8(Format::Prometheus.write(&self.metrics.page())).unwrap();
        let series = "dethrone_recorder_dropped_total{model=\"m\",reason=\"ledger_failed\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap().parse().unwrap()
    }
}

#[test]
fn a_full_disk_loses_counted_rows_acknowledges_nothing_and_heals_when_there_is_room() {
    let mut site = Site::new();
    let other = site.other();
    other
        .execute_batch("CREATE TABLE ballast (data BLOB); INSERT INTO ballast VALUES (zeroblob(8000000))")
        .unwrap();
    let kept = site.predict();
    assert_eq!(site.label(kept).unwrap(), Status::Accepted);
    site.recorder.call_blocking(|_, writer| writer.fill_the_disk()).unwrap();
    let mut last = kept;
    until("an outage", || {
        last = site.predict();
        !site.recorder.is_healthy()
    });
    assert!(
        site.recorder.fault().unwrap().contains("full"),
        "{:?}",
        site.recorder.fault()
    );
    assert!(site.label(kept + 1).is_err());
    assert!(site.recorder.call_blocking(|_, _| Ok(())).is_err());
    let lost = site.predict();
    until("the rows are counted", || {
        site.recorder.backlog() == 0 && site.dropped() > 0
    });
    other.execute_batch("DROP TABLE ballast").unwrap();
    until("health", || site.recorder.is_healthy());
    assert_eq!(
        site.label(kept).unwrap(),
        Status::Duplicate,
        "what was acknowledged is there"
    );
    assert_eq!(site.label(kept + 1).unwrap(), Status::Accepted);
    assert_eq!(site.label(lost).unwrap(), Status::Unrecorded);
    let fresh = site.predict();
    assert_eq!(site.label(fresh).unwrap(), Status::Accepted);
    let (rows, on_disk, clock) = site
        .recorder
        .call_blocking(|core, writer| {
            let book = core.books.values().next().unwrap();
            Ok((writer.last_row(book.row.no)?, writer.last_id()?, book.clock().row))
        })
        .unwrap();
    assert_eq!((rows, on_disk), (clock, fresh + 7), "the books agree with the disk");
    let answered = u64::try_from(site.next - 1).unwrap();
    assert_eq!(rows + site.dropped(), answered, "every row is recorded or counted");
    let noted: i64 = other
        .query_row("SELECT sum(dropped_rows) FROM outages WHERE room IS NULL", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(noted.unsigned_abs(), site.dropped(), "the gap is recorded");
}

#[test]
fn a_commit_that_fails_after_its_work_is_done_acknowledges_nothing() {
    let mut site = Site::new();
    let id = site.predict();
    assert_eq!(site.label(id).unwrap(), Status::Accepted);
    // A deferred constraint is checked by the commit itself.
    let other = site.other();
    other
        .execute_batch(
            "CREATE TABLE parent (x INTEGER PRIMARY KEY);
             CREATE TABLE child (x REFERENCES parent (x) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER breaks AFTER INSERT ON labels BEGIN INSERT INTO child VALUES (1); END;",
        )
        .unwrap();
    site.recorder
        .call_blocking(|_, writer| writer.enforce_references())
        .unwrap();
    assert!(site.label(id + 1).is_err());
    other.execute_batch("DROP TRIGGER breaks").unwrap();
    until("health", || site.recorder.is_healthy());
    assert_eq!(site.label(id + 1).unwrap(), Status::Accepted, "not a duplicate");
}

#[test]
fn stopping_writes_what_was_offered_and_ends_also_when_the_ledger_cannot_be_written() {
    let mut site = Site::new();
    for _ in 0..500 {
        site.predict();
    }
    let last = site.next - 1;
    let other = site.other();
    site.recorder.stop();
    site.join.join().unwrap();
    let found: i64 = other
        .query_row("SELECT max(id) FROM predictions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, last);

    let mut site = Site::new();
    let other = site.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    site.predict();
    until("an outage", || !site.recorder.is_healthy());
    site.recorder.stop();
    site.join.join().unwrap();
}

#[test]
fn a_failed_order_leaves_the_book_as_it_was() {
    let mut lab = Lab::new(closing(Span::Rows(5)), Policy::default(), &[FIRST]);
    lab.rows([1, 2]);
    lab.label(1, 1);
    lab.outcome(FIRST, 1, scored(0.9));
    lab.outcome(FIRST, 2, scored(0.9));
    let before = lab.book().evidence();
    let model = lab.model;
    let order: Command = Box::new(move |core, writer| {
        core.set_challengers::<Fake>(writer, model, Vec::new())?;
        let book = core.books.get_mut(&model).unwrap();
        book.closing.maturity = Span::Rows(0);
        book.apply(writer, &Event::Leave { version: FIRST }, 0)?;
        Err(LedgerError::LogInUse)
    });
    let mut drained = commands(order);
    drained.observations = vec![lab.observation(3, &[scored(0.5)])];
    lab.thread.commit(&mut drained).map(drop).unwrap_err();
    let Thread { core, ledger, .. } = &mut lab.thread;
    core.reload(ledger).unwrap();
    assert_eq!(lab.book().evidence(), before);
    assert_eq!(lab.book().closing, lab.closing);
    assert_eq!(
        lab.challengers[0].1.taken(),
        [1, 2],
        "a row that is not on disk is offered to nobody"
    );
    lab.rows([4]);
    assert_eq!(lab.challengers[0].1.taken(), [1, 2, 4], "the lineup is the old one");
}

#[test]
fn rows_that_share_a_transaction_with_a_failing_command_are_counted() {
    let mut site = Site::new();
    let (entered, is_held) = crossbeam_channel::bounded::<()>(1);
    let (open, gate) = crossbeam_channel::bounded::<()>(1);
    let (holder, failing) = (site.recorder.clone(), site.recorder.clone());
    let holder = std::thread::spawn(move || {
        holder.call_blocking(move |_, _| {
            entered.send(()).unwrap();
            gate.recv().unwrap();
            Ok(())
        })
    });
    is_held.recv().unwrap();
    site.predict();
    let failing = std::thread::spawn(move || failing.call_blocking(|_, _| Err::<(), _>(LedgerError::LogInUse)));
    until("the command waits beside the rows", || {
        !site.recorder.commands.is_empty()
    });
    open.send(()).unwrap();
    assert!(holder.join().unwrap().is_ok() && failing.join().unwrap().is_err());
    until("the rows are counted", || site.dropped() == 8);
    until("the ledger is healthy again", || site.recorder.is_healthy());
    let kept = site.predict();
    assert_eq!(site.label(kept).unwrap(), Status::Accepted);
}
