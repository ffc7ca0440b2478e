//! What was offered before the stop is on disk after it.

use std::sync::Arc;

use crossbeam_channel::bounded;
use tempfile::TempDir;

use super::*;
use crate::batch::Batch;
use crate::metrics::Metrics;
use crate::mirror::{Observed, Offered};
use crate::score::{Outcome, Score};
use crate::served::Served;
use crate::span::Span;

#[test]
fn a_stop_writes_all_that_was_offered_before_it() {
    const ROWS: i64 = 12_000;
    let dir = TempDir::new().unwrap();
    let (decided, _decisions) = bounded(1);
    let (recorder, thread) = Recorder::start(dir.path(), decided).unwrap();
    let metrics = Metrics::new();
    let model = recorder.call_blocking(move |core, writer| {
        let row = writer.model("m")?;
        let served = Served::new("m".into(), row.no, metrics.model("m"));
        let closing = Closing {
            maturity: Span::Rows(10),
            horizon: Span::Rows(100),
            absent: None,
            dropped: Vec::new(),
        };
        let no = row.no;
        core.add(Book::load(writer, row, closing, Attached::to(&served))?);
        Ok(no)
    });
    let model = model.unwrap();
    for id in 1..=ROWS {
        let offered = recorder.mirror().offer(Observation {
            model,
            first_id: id,
            time_ms: id,
            epoch: 1,
            version: VersionNo(1),
            batch: Arc::new(Batch::Tensors {
                inputs: Vec::new(),
                rows: 1,
            }),
            rows: vec![Observed {
                outcome: Outcome::Scored(Score::Binary(0.5)),
                fallback: None,
            }],
            ids: None,
            entities: None,
            context: None,
        });
        assert_eq!(offered, Offered::Taken);
    }
    recorder.stop();
    thread.join().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.reader().last_row(model).unwrap().0, ROWS.cast_unsigned());
    assert!(recorder.call_blocking(|_, _| Ok(())).is_err(), "it has ended");
}
