//! Rows come in: recorded, queued for the challengers; outcomes come back.

use std::sync::Arc;
use std::time::Duration;

use super::Book;
use crate::arena::ShadowWork;
use crate::id::time_of;
use crate::ledger::{LedgerError, Outcomes, Position, PredictionRow, Recording};
use crate::mirror::Observation;
use crate::recorder::Hashed;
use crate::recorder::core::Offer;
use crate::score::{Outcome, VersionNo};
use crate::time::now_ms;

/// Row `k` of a request.
fn id_of(first: i64, k: usize) -> i64 {
    first + i64::try_from(k).unwrap_or(0)
}

impl Book {
    /// Records the rows of one request and puts them up for the challengers. A row whose caller's id was seen before is
    /// neither recorded nor offered.
    pub(in crate::recorder) fn observe(
        &mut self,
        recording: &mut Recording<'_>,
        seen: &Observation,
        offers: &mut Vec<Offer>,
    ) -> Result<(), LedgerError> {
        let mut offered_from = None;
        for (k, observed) in seen.rows.iter().enumerate() {
            if seen.left_out.as_ref().is_some_and(|out| out.get(k) == Some(&true)) {
                if let Some(from) = offered_from.take() {
                    self.put_up(seen, from, k, offers);
                }
                continue;
            }
            let text = |list: &'_ Option<Vec<String>>| list.as_ref().and_then(|all| all.get(k)).cloned();
            let hashed = self.closing.hashed.as_ref();
            let entity = text(&seen.entities).map(|entity| match hashed {
                Some(hashed) => hashed.entity(entity),
                None => entity,
            });
            let context = text(&seen.context).map(|context| without(context, &self.closing.dropped, hashed));
            let row = PredictionRow {
                id: id_of(seen.first_id, k),
                position: Position {
                    model: self.row.no,
                    row: self.last.row + 1,
                },
                time_ms: seen.time_ms,
                epoch: seen.epoch,
                version: seen.version,
                fallback: observed.fallback.as_deref(),
                outcome: &observed.outcome,
                inputs: self.columns.encode(&seen.batch, k, &self.closing.dropped, hashed),
                entity: entity.as_deref(),
                context: context.as_deref(),
                lineup: self.lineup_no,
            };
            let caller_id = seen.ids.as_ref().and_then(|ids| ids.get(k)).map(String::as_str);
            if recording.insert(&row, caller_id)? {
                // Until what an older program recorded is counted, that goes first.
                if self.kept.counted_to == self.last.row {
                    self.kept.counted_to += 1;
                    self.kept.inputs_bytes += row.input_bytes();
                }
                self.signs.row(&row.inputs, row.entity);
                self.has_entities |= row.entity.is_some();
                self.last.row += 1;
                self.last.time_ms = self.last.time_ms.max(seen.time_ms);
                offered_from.get_or_insert(k);
            } else {
                let why = crate::metrics::RecorderDrop::DuplicateId;
                self.attached.metrics.recorder_dropped(why, 1);
                self.signs.duplicate();
                if let Some(from) = offered_from.take() {
                    self.put_up(seen, from, k, offers);
                }
            }
        }
        if let Some(from) = offered_from {
            self.put_up(seen, from, seen.rows.len(), offers);
        }
        Ok(())
    }

    fn put_up(&mut self, seen: &Observation, from: usize, to: usize, offers: &mut Vec<Offer>) {
        if self.lineup.is_empty() {
            return;
        }
        self.uncounted += u64::try_from(to - from).unwrap_or(0);
        offers.push(Offer {
            model: self.row.no,
            lineup: Arc::clone(&self.lineup),
            work: ShadowWork {
                first_id: id_of(seen.first_id, from),
                batch: Arc::clone(&seen.batch),
                rows: from..to,
            },
        });
    }

    /// Counts the rows of this transaction as offered.
    pub(in crate::recorder) fn count_offered(&mut self) {
        let rows = std::mem::take(&mut self.uncounted);
        if rows == 0 {
            return;
        }
        for (version, _) in self.lineup.iter() {
            let coverage = self.coverage.entry(*version).or_default();
            coverage.offered += rows;
            coverage.changed = true;
        }
    }

    /// Records what became of rows at a challenger. An outcome that is there already stands.
    pub(in crate::recorder) fn report(
        &mut self,
        store: &mut Outcomes<'_>,
        version: VersionNo,
        outcomes: &[(i64, Outcome)],
        compute: Duration,
    ) -> Result<(), LedgerError> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let coverage = self.coverage.entry(version).or_default();
        let metrics = &self.attached.metrics;
        let (mut executed, mut failed) = (0, 0);
        for (id, outcome) in outcomes {
            if self.erased.contains(id) || !store.insert(*id, version, outcome)? {
                continue;
            }
            coverage.count(outcome);
            match outcome {
                Outcome::Scored(_) => executed += 1,
                Outcome::Failed | Outcome::Unread => (executed, failed) = (executed + 1, failed + 1),
                Outcome::Uncovered => {}
                Outcome::Shed(reason) => metrics.shadow_dropped(*reason, 1),
            }
        }
        metrics.shadow_executed.increment(executed);
        metrics.shadow_failed.increment(failed);
        if let (Some((id, _)), true) = (outcomes.first(), executed > 0) {
            metrics.shadow_run.record(compute);
            let lag = u64::try_from(now_ms().saturating_sub(time_of(*id))).unwrap_or_default();
            metrics.shadow_lag.record(Duration::from_millis(lag));
        }
        Ok(())
    }

    /// Counts a label that came after maturity.
    pub(in crate::recorder) fn count_late(&mut self) {
        for coverage in self.coverage.values_mut() {
            coverage.late += 1;
            coverage.changed = true;
        }
    }
}

/// A context object without the keys that are not recorded, and with a hash for those that are not recorded themselves.
fn without(context: String, dropped: &[String], hashed: Option<&Hashed>) -> String {
    if dropped.is_empty() && hashed.is_none() {
        return context;
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&context) {
        Ok(mut object) => {
            object.retain(|key, _| !dropped.contains(key));
            for (key, value) in &mut object {
                if let Some(hashed) = hashed.filter(|hashed| hashed.names.contains(key)) {
                    *value = hashed.key.pseudonym(value.to_string().as_bytes()).into();
                }
            }
            serde_json::Value::Object(object).to_string()
        }
        // The decoder lets objects through only; what is none after all is not kept where something must be dropped.
        Err(_) => String::from("{}"),
    }
}

#[cfg(test)]
mod tests {
    use super::without;
    use crate::id::IdKey;
    use crate::recorder::Hashed;

    #[test]
    fn dropped_keys_never_reach_the_ledger_in_a_context() {
        let dropped = ["email".to_owned()];
        let context = r#"{"email":"a@b.c","channel":"web"}"#;
        assert_eq!(without(context.into(), &dropped, None), r#"{"channel":"web"}"#);
        assert_eq!(without(context.into(), &[], None), context);
        assert_eq!(without("[1]".into(), &dropped, None), "{}");
        let hashed = Hashed {
            key: IdKey::new([1; 16]),
            names: vec!["email".into()],
        };
        let kept = without(context.into(), &[], Some(&hashed));
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["email"], hashed.key.pseudonym(b"\"a@b.c\"").as_str());
        assert_eq!(kept["channel"], "web");
    }
}
