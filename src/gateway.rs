//! The gateway: the parts joined, and what the routes ask of them.
//!
//! Always holds: an answer is computed from one load of the model's slot; what is recorded is offered before the reply
//! leaves, and never waited for. Leaves to others: bytes (`http`, `decode`), roles (`control`), disk (`recorder`).

mod labels;
mod parts;
mod show;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde_json::Value;
use tokio::sync::oneshot;

pub use parts::{Running, StartError, start};

use crate::batch::Batch;
use crate::champion::{Answer, Champion, RowAnswer, VersionInfo};
use crate::control::{self, Act, Models};
use crate::decode::{FeedbackItem, Keys, Wanted};
use crate::error::{Error, Kind};
use crate::http::backend::{Ask, Backend, Reply, RowReply};
use crate::id::{IdGenerator, PredictionId};
use crate::metrics::{Metrics, RecorderDrop};
use crate::mirror::{Observation, Observed, Offered};
use crate::model::tensor::Tensor;
use crate::protocol::{Action, ItemStatus, Order};
use crate::recorder::{Recorder, StorageError};
use crate::served::{Pinnable, Served};
use crate::time::now_ms;

/// Models with a recorded champion have this long to be brought back before the gateway is ready without them.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Gateway {
    models: Models,
    ids: IdGenerator,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    acts: Sender<control::Request>,
    pins: bool,
    /// All recorded models are known by name.
    restored: Arc<AtomicBool>,
    started: Instant,
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Error::new(
            Kind::Storage,
            format!("{error}: nothing was acknowledged, send it again later"),
        )
        .retry_after(1)
    }
}

impl Gateway {
    /// Time and sessions of an answer by the champion, away from the async workers when it is slow.
    async fn champion_answer(champion: &Arc<Champion>, batch: &Arc<Batch>, ask: &Ask) -> Result<Answer, Error> {
        if !champion.version.is_slow(batch.rows()) {
            return champion.answer(batch, &ask.outputs);
        }
        let (champion, batch, wanted) = (Arc::clone(champion), Arc::clone(batch), ask.outputs.clone());
        tokio::task::spawn_blocking(move || champion.answer(&batch, &wanted))
            .await
            .map_err(|_| Error::new(Kind::NoAnswer, "the run was ended by a fault of the program"))?
    }

    /// Offers what was answered to the recorder, unless the caller or the sampling keeps it out.
    fn mirror(&self, model: &Served, champion: &Champion, id: PredictionId, seen: Seen<'_>, now_ms: i64) {
        let rows = seen.batch.rows();
        let share = model.view.load().as_ref().map_or(1.0, |view| view.config.shadow.sample);
        if !seen.record || !self.ids.key().is_sampled(id.number, share) {
            return;
        }
        let observed = |row: &RowAnswer| Observed {
            outcome: row.outcome.clone(),
            fallback: row.fallback.as_ref().map(|version| version.info.no),
        };
        let offered = self.recorder.mirror().offer(Observation {
            model: model.no,
            first_id: id.number,
            time_ms: now_ms,
            epoch: champion.epoch,
            version: champion.version.info.no,
            batch: seen.batch,
            rows: seen.answer.rows.iter().map(observed).collect(),
            ids: seen.keys.ids,
            entities: seen.keys.entities,
            context: seen.keys.context,
        });
        let reason = match offered {
            Offered::Taken => return,
            Offered::Full => RecorderDrop::QueueFull,
            Offered::Closed => RecorderDrop::LedgerFailed,
        };
        model.metrics.recorder_dropped(reason, rows as u64);
    }

    /// An answer by a version that the client named. Never recorded, never evidence.
    async fn pinned(&self, model: &Served, champion: &Arc<Champion>, name: &str, ask: Ask) -> Result<Reply, Error> {
        let allowed = self.pins && model.view.load().as_ref().is_none_or(|view| view.config.pins);
        if !allowed {
            return Err(Error::new(Kind::Forbidden, "pins = false: leave 'version' out"));
        }
        let start = Instant::now();
        let batch = Arc::new(ask.batch);
        let (info, answer) = match pinned_answer(model, champion, name, &batch, &ask.outputs).await {
            Ok(answer) => answer,
            // A swap takes the runner of whoever is crowned: its new place is the slot.
            Err(error) => match model.slot.load() {
                Some(now) if !Arc::ptr_eq(&now, champion) => {
                    pinned_answer(model, &now, name, &batch, &ask.outputs).await?
                }
                _ => return Err(error),
            },
        };
        let compute = start.elapsed();
        let id = self
            .ids
            .issue(now_ms(), u32::try_from(batch.rows()).unwrap_or(u32::MAX));
        let (rows, outputs) = replies(answer, id, &ask.keys);
        Ok(Reply {
            version: info.name.as_str().into(),
            digest: info.digest.as_str().into(),
            rows,
            outputs,
            queue: Duration::ZERO,
            compute,
        })
    }
}

/// The answer of a version by name: the champion and the previous one here, a challenger in its runner.
async fn pinned_answer(
    model: &Served,
    champion: &Champion,
    name: &str,
    batch: &Arc<Batch>,
    wanted: &Wanted,
) -> Result<(Arc<VersionInfo>, Answer), Error> {
    let own = champion.loaded();
    if let Some(loaded) = own.iter().find(|v| v.info.name == name) {
        return Ok((Arc::clone(&loaded.info), loaded.answer(batch, wanted)?));
    }
    let challengers = model.challengers.load_full();
    let Pinnable { info, challenger } = challengers.get(name).ok_or_else(|| {
        let own = own.iter().map(|v| v.info.name.as_str());
        let names: Vec<&str> = own.chain(challengers.keys().map(String::as_str)).collect();
        let text = format!("no loaded version '{name}'; loaded are {}", names.join(", "));
        Error::new(Kind::UnknownVersion, text)
    })?;
    let answer = crate::champion::ask_runner(info, challenger, batch, wanted).await?;
    Ok((Arc::clone(info), answer))
}

/// What the mirror takes of an answered request.
struct Seen<'a> {
    batch: Arc<Batch>,
    answer: &'a Answer,
    keys: Keys,
    record: bool,
}

/// The rows of a reply, and its raw outputs joined over the rows.
fn replies(answer: Answer, id: PredictionId, keys: &Keys) -> (Vec<RowReply>, Vec<(Arc<str>, Tensor)>) {
    let several = answer.rows.len() > 1;
    let mut outputs: Vec<(Arc<str>, Vec<Tensor>)> = Vec::new();
    let mut rows = Vec::with_capacity(answer.rows.len());
    for (k, row) in answer.rows.into_iter().enumerate() {
        let own = keys.ids.as_ref().and_then(|ids| ids.get(k));
        let generated = || {
            let mut text = Vec::with_capacity(40);
            id.write(several.then(|| u32::try_from(k).unwrap_or(u32::MAX)), &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        for (name, tensor) in row.outputs {
            match outputs.iter_mut().find(|(known, _)| **known == *name) {
                Some((_, parts)) => parts.push(tensor),
                None => outputs.push((name.into(), vec![tensor])),
            }
        }
        rows.push(RowReply {
            id: own.cloned().unwrap_or_else(generated),
            score: row.score,
            label: row.label,
            fallback: row.fallback.map(|version| version.info.name.as_str().into()),
        });
    }
    let joined = outputs.into_iter().filter_map(|(name, parts)| {
        // A row that another version answered may lack an output: what is not there for all rows is left out.
        let all: Vec<&Tensor> = parts.iter().collect();
        (parts.len() == rows.len())
            .then(|| Tensor::concat(&all))
            .flatten()
            .map(|tensor| (name, tensor))
    });
    let outputs = joined.collect();
    (rows, outputs)
}

impl Backend for Gateway {
    type Model = Served;

    fn resolve(&self, model: Option<&str>) -> Result<Arc<Served>, Error> {
        let models = self.models.load();
        let names = || models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match model {
            Some(name) => models
                .get(name)
                .cloned()
                .ok_or_else(|| Error::new(Kind::UnknownModel, format!("no model '{name}'; there are: {}", names()))),
            None => match models.len() {
                1 => models
                    .values()
                    .next()
                    .cloned()
                    .ok_or_else(|| Error::new(Kind::NotReady, "no model is served")),
                0 => Err(Error::new(
                    Kind::NotReady,
                    "no model is served: put one under the models directory",
                )),
                _ => Err(Error::new(
                    Kind::BadRequest,
                    format!("several models are served, name one: {}", names()),
                )),
            },
        }
    }

    async fn answer(&self, model: &Arc<Served>, mut ask: Ask) -> Result<Reply, Error> {
        let champion = model.slot.load().ok_or_else(|| not_ready(model))?;
        model.carried.count(ask.batch.rows());
        if let Some(name) = ask.version.take() {
            return self.pinned(model, &champion, &name, ask).await;
        }
        let batch = Arc::new(std::mem::replace(
            &mut ask.batch,
            Batch::Tensors {
                inputs: Vec::new(),
                rows: 0,
            },
        ));
        let start = Instant::now();
        let answer = Self::champion_answer(&champion, &batch, &ask).await?;
        let compute = start.elapsed();
        let fallbacks = answer.rows.iter().filter(|row| row.fallback.is_some()).count();
        if fallbacks > 0 {
            model.metrics.fallbacks.increment(fallbacks as u64);
        }
        let now = now_ms();
        let id = self.ids.issue(now, u32::try_from(batch.rows()).unwrap_or(u32::MAX));
        let keys = ask.keys;
        let own_ids = Keys {
            ids: keys.ids.clone(),
            entities: None,
            context: None,
        };
        let seen = Seen {
            batch,
            answer: &answer,
            keys,
            record: ask.shadow,
        };
        self.mirror(model, &champion, id, seen, now);
        let info = &champion.version.info;
        let (rows, outputs) = replies(answer, id, &own_ids);
        Ok(Reply {
            version: info.name.as_str().into(),
            digest: info.digest.as_str().into(),
            rows,
            outputs,
            queue: Duration::ZERO,
            compute,
        })
    }

    async fn feedback(&self, model: Option<&str>, items: Vec<FeedbackItem>) -> Result<Vec<ItemStatus>, Error> {
        self.take_labels(model, items).await
    }

    fn ready(&self) -> Result<(), String> {
        if !self.restored.load(Ordering::Acquire) {
            return Err("the recorded champions are being brought back".into());
        }
        let models = self.models.load();
        let patient = self.started.elapsed() < PATIENCE;
        let late = models.values().find(|m| {
            patient
                && m.expected.load(Ordering::Relaxed)
                && !m.given_up.load(Ordering::Relaxed)
                && m.slot.load().is_none()
        });
        if let Some(model) = late {
            return Err(format!("model '{}' is being brought back", model.name));
        }
        if models.values().any(|m| m.slot.load().is_some()) {
            return Ok(());
        }
        Err(match models.values().next() {
            Some(model) => format!("model '{}' has no champion: {}", model.name, model.waiting_for.load()),
            None => "no model is served: put one under the models directory".into(),
        })
    }

    fn model_ready(&self, model: &str) -> Result<(), Error> {
        let model = self.resolve(Some(model))?;
        if model.slot.load().is_some() {
            Ok(())
        } else {
            Err(not_ready(&model))
        }
    }

    fn models(&self) -> Value {
        self.list()
    }

    async fn model_view(&self, model: &str) -> Result<Value, Error> {
        self.show(model).await
    }

    async fn decisions(&self, model: &str) -> Result<Value, Error> {
        self.show_decisions(model).await
    }

    async fn act(&self, model: &str, action: Action, order: Order) -> Result<Value, Error> {
        let (reply, answer) = oneshot::channel();
        let act = Act {
            model: model.to_owned(),
            action,
            version: order.version,
            author: order.author,
            reason: order.reason,
        };
        let busy = || Error::new(Kind::Overloaded, "too many orders wait: try again").retry_after(1);
        self.acts
            .try_send(control::Request { act, reply })
            .map_err(|_| busy())?;
        answer
            .await
            .map_err(|_| Error::new(Kind::NotReady, "the gateway is stopping: nothing was changed"))?
    }

    fn metrics_text(&self) -> String {
        self.metrics.render(&self.series())
    }
}

fn not_ready(model: &Served) -> Error {
    let text = format!("model '{}' has no champion: {}", model.name, model.waiting_for.load());
    Error::new(Kind::NotReady, text).retry_after(1)
}
