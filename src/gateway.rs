//! The gateway: the parts joined, and what the routes ask of them.
//!
//! Always holds: an answer is computed from one load of the model's slot; what is recorded is offered before the reply
//! leaves, and never waited for. Leaves to others: bytes (`http`, `decode`), roles (`control`), disk (`recorder`).

mod followed;
mod hand_over;
mod history;
mod inherited;
mod keys;
mod labels;
mod late;
mod parts;
mod person;
mod report;
mod show;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde_json::Value;
use tokio::sync::oneshot;

pub use hand_over::who;
pub use parts::{Running, StartError, is_reloaded, start, take_over};

use crate::arena::confine::Sandbox;
use crate::batch::Batch;
use crate::champion::{Answer, Champion, Question, RowAnswer, Trip, VersionInfo};
use crate::container::{Limits, Pressure};
use crate::control::{self, Act, Models, Pulse};
use crate::decode::{Item, Keys, clip};
use crate::error::{Error, Kind};
use crate::http::backend::{Ask, Backend, Ids, Model as _, Reply, RowReply};
use crate::id::{IdGenerator, PredictionId};
use crate::interference::Board as InterferenceBoard;
use crate::metrics::{
    Metrics, Page, RecorderDrop, write_interference, write_ledger, write_models, write_monitor, write_triton,
};
use crate::mirror::{Observation, Observed, Offered, StandIn};
use crate::monitor::follow::Board;
use crate::protocol::{Action, Erasure, ItemStatus, Of, Order, Rotation, Whose};
use crate::recorder::{Recorder, StorageError};
use crate::retrain;
use crate::score::{ModelNo, Score};
use crate::served::{Pinnable, Served};
use crate::time::now_ms;

/// Models with a recorded champion have this long to be brought back before the gateway is ready without them.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a loading client is given a look whether its model answers.
const LOOK: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub struct Gateway {
    models: Models,
    /// What the monitor shows.
    monitor: Board,
    /// What is shown of retraining, and the way for orders.
    retraining: retrain::Shown,
    retrain: Sender<retrain::Request>,
    ids: IdGenerator,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    acts: Sender<control::Request>,
    repository: Sender<control::Repository>,
    trips: Sender<(ModelNo, Trip)>,
    pulse: Pulse,
    pins: bool,
    /// What holds the runners; `None` where none could be asked.
    sandbox: Option<Sandbox>,
    /// What the container lets this process have.
    limits: Limits,
    /// Whether shadows rest, because the container is being slowed.
    pressure: Arc<Pressure>,
    /// What shadow work costs the answers.
    interfering: InterferenceBoard,
    /// All recorded models are known by name.
    restored: Arc<AtomicBool>,
    /// Where the ledger lies, for what is read beside the recorder.
    state: PathBuf,
    /// It knew no model at the start, and there were some.
    is_empty: bool,
    /// Scrapes have the names of NVIDIA Triton too.
    triton: bool,
    /// One long reading of it at a time.
    reading: Arc<tokio::sync::Semaphore>,
    started: Instant,
    /// Another process is taking over.
    has_successor: AtomicBool,
    /// It may answer requests by now, of which this process knows nothing.
    is_shared: AtomicBool,
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        let kind = if error.is_full {
            Kind::StorageFull
        } else {
            Kind::Storage
        };
        Error::new(kind, format!("{error}: nothing was acknowledged, send it again later"))
    }
}

impl Gateway {
    async fn tell_repository(&self, model: &str, load: bool) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let word = control::Repository {
            model: model.to_owned(),
            load,
            reply,
        };
        let busy = || Error::new(Kind::Overloaded, "too many orders wait: try again").retry_after(1);
        self.repository.try_send(word).map_err(|_| busy())?;
        answer
            .await
            .map_err(|_| Error::new(Kind::NotReady, "the gateway is stopping: nothing was changed"))?
    }

    /// Offers what was answered to the recorder, unless the caller or the sampling keeps it out.
    fn mirror(&self, model: &Served, champion: &Champion, id: PredictionId, seen: Seen<'_>, now_ms: i64) {
        let rows = seen.batch.rows();
        if !seen.record {
            return;
        }
        if seen.crowded {
            return model.metrics.recorder_dropped(RecorderDrop::Overload, rows as u64);
        }
        if !self.recorder.mirror().has_room() {
            return model.metrics.recorder_dropped(RecorderDrop::QueueFull, rows as u64);
        }
        let observed = |row: &RowAnswer| Observed {
            outcome: row.outcome.clone(),
            fallback: row.fallback.as_ref().map(|version| {
                Box::new(StandIn {
                    version: version.info.no,
                    score: row.score.clone(),
                })
            }),
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
            left_out: seen.left_out,
        });
        let reason = match offered {
            Offered::Taken => return,
            Offered::Full => RecorderDrop::QueueFull,
            Offered::Closed => RecorderDrop::LedgerFailed,
        };
        model.metrics.recorder_dropped(reason, rows as u64);
    }

    /// What becomes of the rows of this request beside the reply.
    fn draw(&self, model: &Served, id: PredictionId, ask: &Ask) -> Drawn {
        let view = model.view.load();
        let (sample, explore, list) = view.as_ref().map_or((1.0, 0.0, None), |view| {
            (
                view.config.shadow.sample,
                view.config.label.explore,
                view.opt_out.as_ref(),
            )
        });
        let is_sampled = self.ids.key().is_sampled(id.number, sample);
        let is_drawn = ask.shadow && is_sampled;
        let left_out = list.and_then(|list| list.rows(ask.keys.entities.as_deref()));
        let out = left_out
            .as_ref()
            .map_or(0, |rows| rows.iter().filter(|out| **out).count());
        if out > 0 {
            model.metrics.recorder_dropped(RecorderDrop::OptedOut, out as u64);
        }
        let record = is_drawn && left_out.as_ref().is_none_or(|rows| rows.contains(&false));
        Drawn {
            record,
            mirrored: (sample < 1.0 && ask.shadow).then_some(is_sampled),
            explored: (record && explore > 0.0).then_some(explore),
            left_out,
        }
    }

    fn mark(&self, reply: &mut Reply, share: f64, left_out: Option<&[bool]>) {
        for (k, (number, row)) in (reply.id.number..).zip(&mut reply.rows).enumerate() {
            let is_out = left_out.is_some_and(|rows| rows.get(k) == Some(&true));
            row.explore = !is_out && self.ids.key().is_explored(number, share);
        }
    }

    /// An answer by a version that the client named. Never recorded, never evidence.
    async fn pinned(&self, model: &Served, champion: &Arc<Champion>, name: &str, ask: Ask) -> Result<Reply, Error> {
        let allowed = self.pins && model.view.load().as_ref().is_none_or(|view| view.config.pins);
        if !allowed {
            return Err(Error::new(Kind::Forbidden, "pins = false: leave 'version' out"));
        }
        let batch = Arc::new(ask.batch);
        let question = Question {
            batch: &batch,
            wanted: &ask.outputs,
            deadline: ask.deadline,
        };
        let (info, answer) = match pinned_run(model, champion, name, question).await {
            Ok(ran) => ran,
            // A swap takes the runner of whoever is crowned: its new place is the slot.
            Err(error) => match model.slot.load() {
                Some(now) if !Arc::ptr_eq(&now, champion) => pinned_run(model, &now, name, question).await?,
                _ => return Err(self.not_loaded(model, name, error).await),
            },
        };
        let id = self.ids.issue(now_ms(), count(answer.rows.len()));
        Ok(reply(info, answer, id, ask.keys.ids))
    }

    /// The error about a version that is not loaded: one that is known has a role, and that is what stands in the way.
    async fn not_loaded(&self, model: &Served, name: &str, error: Error) -> Error {
        if error.kind != Kind::UnknownVersion {
            return error;
        }
        let (no, named) = (model.no, name.to_owned());
        let role = self.recorder.look(move |_, reader| reader.role_of(no, &named));
        // Nobody waits long for a better word.
        match tokio::time::timeout(Duration::from_secs(1), role).await {
            // Recorded a moment before it can be asked.
            Ok(Ok(Some((role, _)))) if matches!(role.as_str(), "champion" | "previous" | "challenger") => {
                let text = format!("version '{name}' is being loaded: try again");
                Error::new(Kind::NotReady, text).retry_after(1)
            }
            Ok(Ok(Some((role, reason)))) => {
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                let text = format!("version '{name}' is {role}{reason}: only a loaded version answers");
                Error::new(Kind::WrongRole, text)
            }
            _ => error,
        }
    }
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// The answer of a version by name: the champion and the previous one here, a challenger in its runner.
async fn pinned_run(
    model: &Served,
    champion: &Champion,
    name: &str,
    question: Question<'_>,
) -> Result<(Arc<VersionInfo>, Answer), Error> {
    let own = champion.loaded();
    if let Some(loaded) = own.iter().find(|v| v.info.name == name) {
        return Ok((Arc::clone(&loaded.info), loaded.answer(question).await?));
    }
    let challengers = model.challengers.load_full();
    let Pinnable { info, challenger } = challengers.get(name).ok_or_else(|| {
        let own = own.iter().map(|v| v.info.name.as_str());
        let mut names: Vec<&str> = own.chain(challengers.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        let text = format!("no loaded version '{name}'; loaded are {}", names.join(", "));
        Error::new(Kind::UnknownVersion, text)
    })?;
    let answer = crate::champion::ask_runner(info, challenger, question).await?;
    Ok((Arc::clone(info), answer))
}

/// What the mirror takes of an answered request.
struct Seen<'a> {
    batch: Arc<Batch>,
    answer: &'a Answer,
    crowded: bool,
    keys: Keys,
    record: bool,
    left_out: Option<Box<[bool]>>,
}

/// What is decided of a request's rows beside the reply.
struct Drawn {
    /// Whether any are recorded.
    record: bool,
    /// Where a share is held out by chance: whether this request is not.
    mirrored: Option<bool>,
    /// The share of them that is drawn for the exploration slice; `None` where there is no slice, or nothing is recorded.
    explored: Option<f64>,
    /// Rows whose entity is kept out.
    left_out: Option<Box<[bool]>>,
}

/// The reply of a version.
fn reply(version: Arc<VersionInfo>, answer: Answer, id: PredictionId, own: Option<Arc<Vec<String>>>) -> Reply {
    let row = |row: RowAnswer| RowReply {
        // A value is its own label: it is not said twice.
        label: row.label.filter(|_| !matches!(row.score, Some(Score::Value(_)))),
        score: row.score,
        fallback: row.fallback.map(|version| version.info.name.as_str().into()),
        explore: false,
    };
    let rows = answer.rows.into_iter().map(row).collect();
    Reply {
        version,
        id,
        ids: own.map_or(Ids::Generated(id), Ids::Caller),
        rows,
        outputs: answer.outputs,
        queue: answer.queue,
        compute: answer.compute,
        mirrored: None,
    }
}

/// What readiness asks of a model.
struct Standing<'a> {
    name: &'a str,
    answers: bool,
    /// Its recorded champion may still be brought back.
    expected: bool,
    waiting_for: Arc<String>,
}

impl Gateway {
    /// The recorded champions do not answer yet, and may soon.
    fn is_restoring(&self) -> bool {
        let is_restored = self.restored.load(Ordering::Acquire);
        // Where there is no model, there is nothing to wait for.
        self.ready().is_err() && !(is_restored && self.models.load().is_empty())
    }
}

/// Ready, or why not, so long after the start. Whoever waits for one model's patience waits for all: they are brought
/// back one after another.
fn readiness<'a>(models: impl Iterator<Item = Standing<'a>>, restored: bool, elapsed: Duration) -> Result<(), String> {
    let models: Vec<Standing<'_>> = models.collect();
    if elapsed < PATIENCE {
        if !restored {
            return Err("the recorded champions are being brought back".into());
        }
        if let Some(late) = models.iter().find(|m| m.expected && !m.answers) {
            return Err(format!("model '{}' is being brought back", late.name));
        }
    }
    if models.iter().any(|m| m.answers) {
        return Ok(());
    }
    Err(match models.first() {
        Some(model) => format!("model '{}' has no champion: {}", model.name, model.waiting_for),
        None if restored => "no model is served: put one under the models directory".into(),
        None => "the recorded champions are being brought back".into(),
    })
}

impl Backend for Gateway {
    type Model = Served;

    fn resolve(&self, model: Option<&str>) -> Result<Arc<Served>, Error> {
        let models = self.models.load();
        let names = || models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(model) = model.and_then(|name| models.get(name)) {
            return Ok(Arc::clone(model));
        }
        // What is not known yet may be a moment later: a client must not take it for a wrong name.
        if !self.restored.load(Ordering::Acquire) {
            let text = "the recorded models are being brought back: try again";
            return Err(Error::new(Kind::NotReady, text).retry_after(1));
        }
        match model {
            Some(name) => {
                let (name, known) = (clip(name), names());
                let text = match known.as_str() {
                    "" => format!("no model '{name}'; no model is served"),
                    _ => format!("no model '{name}'; there are: {known}"),
                };
                Err(Error::new(Kind::UnknownModel, text))
            }
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
        let question = Question {
            batch: &batch,
            wanted: &ask.outputs,
            deadline: ask.deadline,
        };
        let answer = champion.answer(question).await;
        let fallbacks = answer.as_ref().map_or(0, |answer| {
            answer.rows.iter().filter(|row| row.fallback.is_some()).count()
        });
        let is_refused = answer.as_ref().is_err_and(|error| error.kind == Kind::NoAnswer);
        if (fallbacks > 0 || is_refused)
            && let Some(trip) = model.trip(&champion)
        {
            // Where it finds no room it shows as an alarm all the same.
            let _ = self.trips.try_send((model.no, trip));
        }
        // Counted, not recorded: the client has no id, so that no label can come, and without one a row is no evidence.
        if is_refused {
            model.metrics.no_answer.increment(1);
        }
        let answer = answer?;
        if fallbacks > 0 {
            model.metrics.fallbacks.increment(fallbacks as u64);
        }
        let now = now_ms();
        let id = self.ids.issue(now, count(batch.rows()));
        let own_ids = ask.keys.ids.clone();
        let Drawn {
            record,
            mirrored,
            explored,
            left_out,
        } = self.draw(model, id, &ask);
        let marked = explored.and(left_out.clone());
        let seen = Seen {
            batch,
            answer: &answer,
            crowded: answer.crowded || ask.crowded,
            keys: ask.keys,
            record,
            left_out,
        };
        self.mirror(model, &champion, id, seen, now);
        let mut reply = reply(Arc::clone(&champion.version.info), answer, id, own_ids);
        reply.mirrored = mirrored;
        if let Some(share) = explored {
            self.mark(&mut reply, share, marked.as_deref());
        }
        Ok(reply)
    }

    async fn feedback(
        &self,
        model: Option<&str>,
        items: Vec<Item>,
        key: Option<&str>,
    ) -> Result<Vec<ItemStatus>, Error> {
        self.take_labels(model, items, key).await
    }

    fn ready(&self) -> Result<(), String> {
        let models = self.models.load();
        let standings = models.values().map(|m| Standing {
            name: &m.name,
            answers: m.slot.load().is_some(),
            expected: m.expected.load(Ordering::Relaxed) && !m.given_up.load(Ordering::Relaxed),
            waiting_for: Arc::new(m.waiting_for()),
        });
        let restored = self.restored.load(Ordering::Acquire);
        readiness(standings, restored, self.started.elapsed())
    }

    fn degraded(&self) -> Option<String> {
        if let Some(thread) = self.pulse.lost() {
            return Some(format!(
                "the {thread} thread is gone: answers go on, roles do not change any more; restart"
            ));
        }
        if self.recorder.is_held() {
            let text = "an upgrade: labels and the record wait until the process before this one has ended";
            return Some(text.into());
        }
        let fault = self.recorder.fault()?;
        Some(format!(
            "ledger: labels are refused, rows are not recorded, promotions wait: {fault}"
        ))
    }

    fn model_ready(&self, model: &str) -> Result<(), Error> {
        let model = self.resolve(Some(model))?;
        if model.slot.load().is_some() {
            Ok(())
        } else {
            Err(not_ready(&model))
        }
    }

    fn all(&self) -> Vec<Arc<Served>> {
        self.models.load().values().cloned().collect()
    }

    async fn load(&self, model: &str) -> Result<(), Error> {
        self.tell_repository(model, true).await?;
        // A file that has just been dropped is examined first.
        loop {
            let served = self.resolve(Some(model))?;
            if served.slot.load().is_some() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn unload(&self, model: &str) -> Result<(), Error> {
        self.tell_repository(model, false).await
    }

    fn models(&self) -> Value {
        self.list()
    }

    fn ledger(&self) -> Value {
        self.show_ledger()
    }

    async fn model_view(&self, model: &str) -> Result<Value, Error> {
        self.show(model).await
    }

    async fn decisions(&self, model: &str) -> Result<Value, Error> {
        self.show_decisions(model).await
    }

    async fn decision(&self, model: &str, n: i64) -> Result<Value, Error> {
        self.show_decision(model, n).await
    }

    async fn versions(&self, model: &str, of: Of) -> Result<Value, Error> {
        self.show_versions(model, of).await
    }

    fn monitor(&self, model: &str) -> Result<Value, Error> {
        self.show_monitor(model)
    }

    async fn report(&self, model: &str, since: crate::report::Since) -> Result<Value, Error> {
        self.show_report(model, since).await
    }

    async fn sample(&self, model: &str, order: crate::report::SampleOrder) -> Result<Value, Error> {
        self.show_sample(model, order).await
    }

    async fn retrainings(&self, model: &str) -> Result<Value, Error> {
        self.show_retrainings(model).await
    }

    async fn retrain(&self, model: &str, order: Order) -> Result<Value, Error> {
        let model = self.resolve(Some(model))?.name.clone();
        let (reply, answer) = oneshot::channel();
        let request = retrain::Request {
            model,
            author: order.author,
            reason: order.reason,
            reply,
        };
        let busy = || Error::new(Kind::Overloaded, "too many orders wait: try again").retry_after(1);
        self.retrain.try_send(request).map_err(|_| busy())?;
        answer
            .await
            .map_err(|_| Error::new(Kind::NotReady, "the gateway is stopping: nothing was begun"))?
    }

    async fn held(&self, model: &str, whose: Whose) -> Result<Value, Error> {
        self.show_held(model, whose).await
    }

    async fn erase(&self, model: &str, order: Erasure) -> Result<Value, Error> {
        self.erase_held(model, order).await
    }

    async fn rotate_key(&self, order: Rotation) -> Result<Value, Error> {
        self.next_key(&order)
    }

    async fn act(&self, model: &str, action: Action, order: Order) -> Result<Value, Error> {
        let (reply, answer) = oneshot::channel();
        let act = Act {
            model: model.to_owned(),
            action,
            version: order.version,
            author: order.author,
            has_key: order.has_key,
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

    fn metrics(&self) -> Page {
        let mut page = self.metrics.page();
        let (models, versions) = self.series();
        write_models(&mut page, self.ready().is_ok(), self.is_empty, &models, &versions);
        write_monitor(&mut page, &self.watched());
        let (recorder, (damaged, _)) = (&self.recorder, self.recorder.damaged());
        write_ledger(&mut page, recorder.is_healthy(), damaged, recorder.backlog());
        self.recorder.keeping().write(&mut page);
        write_interference(&mut page, &self.interfering.load());
        if self.triton {
            let (counted, pending) = self.counted();
            write_triton(&mut page, &counted, &pending);
        }
        page
    }
}

fn not_ready(model: &Served) -> Error {
    let text = format!("model '{}' has no champion: {}", model.name, model.waiting_for());
    Error::new(Kind::NotReady, text).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(name: &str, answers: bool, expected: bool) -> Standing<'_> {
        Standing {
            name,
            answers,
            expected,
            waiting_for: Arc::new("nothing".into()),
        }
    }

    #[test]
    fn a_model_that_is_still_being_brought_back_holds_readiness_up_for_its_patience_only() {
        let models = || [standing("quick", true, true), standing("huge", false, true)].into_iter();
        let early = PATIENCE / 2;
        assert!(readiness(models(), false, early).is_err());
        assert!(readiness(models(), true, early).unwrap_err().contains("'huge'"));
        assert_eq!(readiness(models(), true, PATIENCE), Ok(()));
        assert_eq!(
            readiness(models(), false, PATIENCE),
            Ok(()),
            "whatever else is still loading"
        );
    }

    #[test]
    fn without_any_answering_model_nothing_is_ready_however_long_it_takes() {
        let models = || [standing("huge", false, true)].into_iter();
        assert!(readiness(models(), false, PATIENCE * 9).unwrap_err().contains("'huge'"));
        assert!(readiness([].into_iter(), true, PATIENCE * 9).is_err());
    }
}
