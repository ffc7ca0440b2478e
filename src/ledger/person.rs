//! All that is held on somebody, and how it goes.
//!
//! Always holds: what is erased is overwritten in the file, and in its log at the next checkpoint; pairs, verdicts and
//! decisions hold nothing of a person, so that none of them changes; that something was erased is recorded by row number,
//! by whom and why.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::audit::Link;
use super::exports::Copied;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::{LedgerError, Writer};
use crate::id::IdKey;
use crate::judge::pair::Seen;
use crate::score::{ModelNo, Outcome, Score};
use crate::time::rfc3339;

/// Rows that are shown, or erased in one transaction, at most.
pub const MOST_ROWS: usize = 10_000;

/// What an erasure has removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Erased {
    /// Ids of the rows that are gone.
    pub ids: Vec<i64>,
    /// Their row numbers.
    pub rows: Vec<u64>,
    /// Bytes of their inputs and context.
    pub inputs_bytes: u64,
    /// More rows of the entity are there: erase again.
    pub more: bool,
    /// Exports that held some of them: copies that nothing here reaches.
    pub exports: Vec<Copied>,
}

/// An outcome as people read it.
fn said(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Scored(Score::Binary(x) | Score::Value(x)) => json!({"score": x}),
        Outcome::Scored(Score::Classes(all)) => json!({"scores": all}),
        Outcome::Failed => json!({"no_score": "failed"}),
        Outcome::Uncovered => json!({"no_score": "uncovered"}),
        Outcome::Unread => json!({"no_score": "unread"}),
        Outcome::Shed(reason) => json!({"no_score": reason.name()}),
    }
}

fn outcome(row: &Row<'_>, at: usize) -> rusqlite::Result<Outcome> {
    Ok(restore(row.get_ref(at)?.as_str()?, row.get_ref(at + 1)?))
}

/// JSON where it is JSON; tensors only by their length.
fn inputs(row: &Row<'_>, at: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(at)? {
        rusqlite::types::ValueRef::Text(text) => serde_json::from_slice(text).unwrap_or_default(),
        rusqlite::types::ValueRef::Blob(bytes) => json!({"tensor_bytes": bytes.len()}),
        _ => Value::Null,
    })
}

fn parsed(text: Option<String>) -> Value {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

impl Writer<'_> {
    /// The rows of an entity, oldest first, at most [`MOST_ROWS`] and one more.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn ids_of_entity(&self, model: ModelNo, entity: &str) -> Result<Vec<i64>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM predictions WHERE model_no = ?1 AND entity = ?2 ORDER BY row LIMIT ?3")?;
        let most = i64::try_from(MOST_ROWS).unwrap_or(i64::MAX).saturating_add(1);
        let ids = statement.query_map(params![model.0, entity, most], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Everything that is held on a row: as JSON with names for numbers; `None` where there is no such row. `answer` is what
    /// was answered; where somebody stood in, `champion` says what the champion made of the row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn held(&self, model: ModelNo, id: i64) -> Result<Option<Value>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT p.row, p.time, p.epoch, v.name, f.name, p.outcome, p.score, p.inputs, p.entity, p.context,
             (SELECT caller_id FROM own_ids c WHERE c.id = p.id),
             l.label, l.weight, l.late, l.received, l.extra, w.extra,
             (SELECT principal FROM reported_by r WHERE r.id = p.id AND r.what = 'label')
             FROM predictions p JOIN versions v ON v.version_no = p.version_no
             LEFT JOIN versions f ON f.version_no = p.fallback_no LEFT JOIN labels l ON l.id = p.id
             LEFT JOIN rewards w ON w.id = p.id WHERE p.id = ?1 AND p.model_no = ?2",
        )?;
        let found = statement.query_row(params![id, model.0], |row| {
            let label: Option<String> = row.get(11)?;
            let received: Option<i64> = row.get(14)?;
            let late: Option<bool> = row.get(13)?;
            let weight: Option<f64> = row.get(12)?;
            let key: Option<String> = row.get(17)?;
            let label = label.map(|text| {
                json!({
                    "label": parsed(Some(text)),
                    "weight": weight,
                    "late": late,
                    "received": received.map(rfc3339),
                    "key": key,
                })
            });
            let shown = json!({
                "row": unsigned(row.get(0)?),
                "time": rfc3339(row.get(1)?),
                "epoch": unsigned(row.get(2)?),
                "version": row.get::<_, String>(3)?,
                "fallback": row.get::<_, Option<String>>(4)?,
                "answer": said(&outcome(row, 5)?),
                "inputs": inputs(row, 7)?,
                "entity": row.get::<_, Option<String>>(8)?,
                "context": parsed(row.get(9)?),
                "caller_id": row.get::<_, Option<String>>(10)?,
                "label": label,
                "came_with_the_label": parsed(row.get(15)?),
                "rewards": parsed(row.get(16)?),
            });
            Ok((shown, unsigned(row.get(0)?)))
        });
        let Some((mut shown, row)) = found.optional()? else {
            return Ok(None);
        };
        if let Some((_, answered)) = self.fallback(id)?
            && let Some(shown) = shown.as_object_mut()
        {
            let champion = shown.insert("answer".into(), said(&answered)).unwrap_or_default();
            shown.insert("champion".into(), champion);
        }
        let key = Position { model, row }.key();
        let more = [
            ("shadows", self.listed("SELECT v.name, o.outcome, o.score FROM outcomes o JOIN versions v USING (version_no) WHERE o.id = ?1 ORDER BY o.version_no", id, |row| {
                let mut shadow = said(&outcome(row, 1)?);
                if let Some(shadow) = shadow.as_object_mut() {
                    shadow.insert("version".into(), json!(row.get::<_, String>(0)?));
                }
                Ok(shadow)
            })?),
            ("corrections", self.listed("SELECT received, label, weight, extra, (SELECT principal FROM reported_by r WHERE r.id = c.id AND r.what = 'correction' AND r.no = c.correction_no) FROM corrections c WHERE id = ?1 ORDER BY correction_no", id, |row| {
                Ok(json!({
                    "received": rfc3339(row.get(0)?),
                    "label": parsed(row.get(1)?),
                    "weight": row.get::<_, f64>(2)?,
                    "came_with_it": parsed(row.get(3)?),
                    "key": row.get::<_, Option<String>>(4)?,
                }))
            })?),
            ("remarks", self.listed("SELECT received, vote, comment, dispute FROM remarks WHERE id = ?1 ORDER BY remark_no", id, |row| {
                Ok(json!({
                    "received": rfc3339(row.get(0)?),
                    "vote": row.get::<_, Option<f64>>(1)?,
                    "comment": row.get::<_, Option<String>>(2)?,
                    "dispute": row.get::<_, Option<String>>(3)?,
                }))
            })?),
            // Of the row number, which stays when the row goes.
            ("evidence", self.listed("SELECT v.name, p.difference FROM pairs p JOIN versions v USING (version_no) WHERE p.key = ?1 ORDER BY p.version_no", key, |row| {
                Ok(json!({"version": row.get::<_, String>(0)?, "difference": row.get::<_, f64>(1)?}))
            })?),
        ];
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("decision".into(), self.decided(key)?);
            shown.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Some(shown))
    }

    /// Whether the champion's answer to a row of two classes meant the positive one, as it was when the row became evidence.
    fn decided(&self, key: i64) -> Result<Value, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seen FROM folded WHERE key = ?1")?;
        let code: Option<u8> = statement.query_row([key], |row| row.get(0)).optional()?;
        let positive = code.and_then(|code| Seen::from_code(code).positive);
        Ok(positive.map_or(Value::Null, |positive| json!({"positive": positive})))
    }

    fn listed(
        &self,
        sql: &str,
        key: i64,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<Value>,
    ) -> Result<Value, LedgerError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([key], read)?;
        Ok(Value::Array(rows.collect::<Result<_, _>>()?))
    }

    /// Removes these rows with everything that names them, and records that it was done: row numbers, who, why, and the
    /// exports that held them. `key` draws samples.
    ///
    /// # Errors
    /// What SQLite says; nothing is removed then.
    pub fn erase(
        &self,
        model: ModelNo,
        ids: &[i64],
        now_ms: i64,
        (author, reason): (&str, &str),
        key: &IdKey,
    ) -> Result<Erased, LedgerError> {
        let (mut erased, mut held) = (Erased::default(), Vec::new());
        for &id in ids.iter().take(MOST_ROWS) {
            let found = self
                .position_of_any(id)?
                .filter(|(position, _)| position.model == model);
            let Some((position, _)) = found else { continue };
            held.push(self.held_by_exports(id)?);
            erased.inputs_bytes = erased.inputs_bytes.saturating_add(self.inputs_bytes(id)?);
            self.remove_row(id)?;
            // Its number stays taken: the order of the record is what replay goes by.
            self.connection
                .prepare_cached(
                    "UPDATE record SET id = 0, seal = seal('record', key, 0, time) WHERE key = ?1 AND id = ?2",
                )?
                .execute([position.key(), id])?;
            erased.ids.push(id);
            erased.rows.push(position.row);
        }
        erased.more = ids.len() > MOST_ROWS;
        if !erased.rows.is_empty() {
            let rows = serde_json::to_string(&erased.rows).unwrap_or_default();
            self.connection.execute(
                "INSERT INTO erasures (model_no, time, author, reason, rows) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![model.0, now_ms, author, reason, rows],
            )?;
            let erasure = self.connection.last_insert_rowid();
            self.seal("erasures", erasure)?;
            self.chain(Link::Erasure, erasure)?;
            erased.exports = self.copied(model, erasure, &held, key)?;
        }
        Ok(erased)
    }
}
