//! What is held on somebody, shown and erased: by prediction id, by the caller's id, by entity.

use serde_json::{Value, json};

use super::Gateway;
use crate::decode::clip;
use crate::error::{Error, Kind};
use crate::http::backend::Backend;
use crate::ledger::receipts::Receipts;
use crate::ledger::{Copied, LedgerError, MOST_ROWS, Writer};
use crate::protocol::{Erasure, Whose};
use crate::recorder::LabelKey;
use crate::score::ModelNo;
use crate::time::{now_ms, rfc3339};

/// Rows that one answer shows at most.
const SHOWN: usize = 1_000;

/// A row, or all rows of somebody, as the ledger is asked for them.
#[derive(Debug)]
enum Wanted {
    Row(i64),
    Caller(String),
    /// As it was sent, and as it may have been recorded.
    Entity([String; 2]),
}

impl Wanted {
    fn ids(&self, reader: &Writer<'_>, model: ModelNo) -> Result<Vec<i64>, LedgerError> {
        Ok(match self {
            Self::Row(id) => vec![*id],
            Self::Caller(id) => reader.id_of_caller(model, id)?.into_iter().collect(),
            Self::Entity(names) => {
                let mut ids = Vec::new();
                for name in names {
                    ids.extend(reader.ids_of_entity(model, name)?);
                }
                ids
            }
        })
    }
}

/// An export that held erased rows.
fn copied(copied: &Copied) -> Value {
    let export = &copied.export;
    json!({
        "export": export.uid,
        "path": export.path,
        "time": rfc3339(export.began_ms),
        "author": export.author,
        "rows": copied.erased,
        "deleted": copied.removed_ms.map(rfc3339),
    })
}

impl Gateway {
    fn wanted(&self, whose: Whose) -> Result<Wanted, Error> {
        Ok(match whose {
            Whose::Entity(entity) => {
                let hashed = self.ids.key().pseudonym(entity.as_bytes());
                Wanted::Entity([entity, hashed])
            }
            Whose::Id(id) => match self.key(&id) {
                Ok(LabelKey::Ours { id, .. }) => Wanted::Row(id),
                Ok(LabelKey::Caller(id)) => Wanted::Caller(id),
                Ok(LabelKey::Foreign) | Err(_) => {
                    let text = format!("'{}' is no id that this gateway gave out", clip(&id));
                    return Err(Error::new(Kind::NotFound, text));
                }
            },
        })
    }

    pub(super) async fn show_held(&self, model: &str, whose: Whose) -> Result<Value, Error> {
        let no = self.resolve(Some(model))?.no;
        let wanted = self.wanted(whose)?;
        let key = self.ids.key().clone();
        let look = move |_: &crate::recorder::Core, reader: &Writer<'_>| {
            let ids = wanted.ids(reader, no)?;
            let mut rows = Vec::new();
            for &id in ids.iter().take(SHOWN) {
                if let Some(mut row) = reader.held(no, id)? {
                    let mut text = Vec::new();
                    key.id_of(id).write(None, &mut text);
                    if let Some(row) = row.as_object_mut() {
                        row.insert("id".into(), json!(String::from_utf8_lossy(&text)));
                    }
                    rows.push(row);
                }
            }
            Ok((rows, ids.len()))
        };
        let (rows, known) = self.recorder.look(look).await.map_err(Error::from)?;
        if rows.is_empty() {
            let text = "nothing is held: it was never recorded (opted out, sampled out, shed), is erased, or is still waiting \
                        to be written";
            return Err(Error::new(Kind::NotFound, text));
        }
        Ok(json!({"model": model, "rows": rows, "more": known > SHOWN}))
    }

    pub(super) async fn erase_held(&self, model: &str, order: Erasure) -> Result<Value, Error> {
        let no = self.resolve(Some(model))?.no;
        let ids = order.ids.into_iter().map(Whose::Id);
        let all = ids.chain(order.entities.into_iter().map(Whose::Entity));
        let wanted: Vec<Wanted> = all.map(|whose| self.wanted(whose)).collect::<Result<_, _>>()?;
        let (author, reason) = (order.author, order.reason);
        let (state, key) = (self.state.clone(), self.ids.key().clone());
        // Exports that nobody has taken into the ledger yet may hold these rows, too.
        let receipts = tokio::task::spawn_blocking(move || Receipts::take(&state)).await;
        let receipts = receipts.unwrap_or_default();
        let exports = receipts.exports();
        let erased = self.recorder.call(move |core, writer| {
            writer.put_exports(&exports)?;
            let mut ids = Vec::new();
            for wanted in &wanted {
                ids.extend(wanted.ids(writer, no)?);
            }
            ids.sort_unstable();
            ids.dedup();
            core.erase(writer, no, &ids, now_ms(), (&author, &reason), &key)
        });
        let erased = erased.await.map_err(Error::from)?;
        receipts.done();
        let exports: Vec<Value> = erased.exports.iter().map(copied).collect();
        Ok(json!({
            "model": model,
            "erased": erased.ids.len(),
            "rows": erased.rows,
            "more": erased.more,
            "exports": exports,
            "note": erased.more.then(|| format!("{MOST_ROWS} rows at a time: send it again for the rest")),
        }))
    }
}
