//! Carrying a decision out: prepare, record, store.
//!
//! Everything that can fail comes first: the new champion is loaded and warm, the outgoing one has a runner that will
//! shadow it. Then one durable transaction changes register, roles, judge and lineup. Then one pointer is stored,
//! which cannot fail.

use std::sync::Arc;

use super::basis::Parties;
use super::keeper::Keeper;
use super::{Fault, Thread};
use crate::arena::{Challenger, ChallengerSpec};
use crate::batch::Batch;
use crate::champion::{Champion, Loaded, ProcessSpec, VersionInfo};
use crate::decode::{Form, Missing, Rules, Source, Unknown};
use crate::judge::fold::Action as JudgeAction;
use crate::judge::tenure::Swap;
use crate::ledger::{ModelRow, VersionRow};
use crate::metrics::SwapKind;
use crate::model::interface::Interface;
use crate::recorder::{Attached, Book, Event, Verdicted};
use crate::score::VersionNo;
use crate::shared::Register;
use crate::time::now_ms;

/// So many recorded rows a version is timed on before it answers.
const TIMED_ROWS: u32 = 32;

/// Who wants a swap, and why.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub kind: Swap,
    pub author: String,
    pub reason: String,
    pub why: String,
    /// Ordered as a rollback: it is listed as one, whoever is crowned.
    pub back: bool,
    /// What it was decided from, as JSON.
    pub basis: Option<String>,
}

impl Cause {
    fn counted(&self) -> SwapKind {
        match self.kind {
            Swap::Promotion => SwapKind::Promotion,
            Swap::Rollback => SwapKind::Rollback,
            Swap::Person => SwapKind::Order,
        }
    }

    fn name(&self, back: bool) -> &'static str {
        match self.kind {
            Swap::Rollback => "rollback",
            Swap::Person if back || self.back => "rollback",
            Swap::Promotion | Swap::Person => "promotion",
        }
    }
}

impl Thread {
    /// A judge has decided.
    pub(super) fn carry_out(&mut self, decided: Verdicted) {
        let Verdicted { model, decision } = decided;
        let Some(name) = self
            .keepers
            .values()
            .find(|k| k.row.no == model)
            .map(|k| k.served.name.clone())
        else {
            return;
        };
        // On its way here a decision may have been overtaken: by a person's word, a hold, new rules, a departure.
        let expected = decision.clone();
        let stands = self.recorder.call_blocking(move |core, _| {
            let book = core.books.get(&model);
            Ok(book.and_then(Book::pending) == Some(&expected))
        });
        match stands {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(model = name, version = ?decision.version, "a decision no longer stands: nothing is done");
                return;
            }
            // The recorder sends it again once the disk can be written.
            Err(error) => return self.report(Err(error.into())),
        }
        let cause = Cause {
            kind: match decision.kind {
                JudgeAction::Promote => Swap::Promotion,
                JudgeAction::Rollback => Swap::Rollback,
            },
            author: "judge".into(),
            reason: "evidence".into(),
            basis: serde_json::to_string(&decision).ok(),
            back: decision.kind == JudgeAction::Rollback,
            why: decision.why,
        };
        if let Err(why) = self.swap(&name, decision.version, &cause) {
            tracing::error!(model = name, version = ?decision.version, why, "a decision could not be carried out");
            let event = Event::Decline {
                version: decision.version,
            };
            let declined = self.recorder.call_blocking(move |core, writer| {
                core.books
                    .get_mut(&model)
                    .map_or(Ok(()), |book| book.apply(writer, &event, now_ms()))
            });
            self.report(declined.map_err(Fault::from));
        }
    }

    /// Makes `to` the champion of a model that has one.
    ///
    /// # Errors
    /// What stood in the way; nothing has changed then.
    pub(super) fn swap(&mut self, model: &str, to: VersionNo, cause: &Cause) -> Result<(), String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let from = keeper.row.champion.ok_or("the model has no champion yet")?;
        if from == to {
            return Ok(());
        }
        if let Some(version) = keeper.version(to).filter(|v| !v.is_loaded()) {
            return Err(format!("version '{}' is {}", version.row.name, version.row.role));
        }
        if let Some(why) = keeper.version(to).and_then(|version| keeper.unfit_to_answer(version)) {
            return Err(why);
        }
        // Usually the champion and the one before; fewer where a restart could not load them.
        let warm: Vec<Arc<Loaded>> = keeper.served.slot.load().map(|c| c.loaded()).unwrap_or_default();
        let incoming = match warm.iter().find(|loaded| loaded.info.no == to) {
            Some(loaded) => Arc::clone(loaded),
            None => self.load_again(model, to)?,
        };
        let cause = &self.timed(model, &incoming, cause);
        let outgoing = self.outgoing_runner(model, (from, to), cause.kind)?;
        if let Err(fault) = self.record_swap(model, (from, to), outgoing.as_ref(), cause) {
            if let Some(runner) = outgoing {
                runner.stop();
            }
            self.reconcile(model);
            return Err(fault.to_string());
        }

        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let champion = Arc::new(Champion {
            epoch: keeper.row.epoch,
            since_ms: keeper.row.champion_since.unwrap_or_default(),
            version: incoming,
            previous: warm.into_iter().find(|loaded| loaded.info.no != to),
        });
        keeper.served.watch(&champion);
        let previous = champion.previous.as_deref();
        keeper.watched = Some(super::slow::Watched::begin(champion.epoch, &champion.version, previous));
        let before = keeper.served.slot.store(champion);
        keeper.served.stand_in.store(Arc::default());
        tracing::info!(
            model,
            to = keeper.name_of(to),
            from = keeper.name_of(from),
            why = cause.why,
            "champion changed"
        );
        keeper.served.metrics.swapped(cause.counted());
        // First nobody can find its runner any more, then it is stopped.
        let runner = keeper.version_mut(to).and_then(|v| v.runner.take());
        keeper.publish_challengers();
        keeper.refresh_view(self.config.max_rows);
        if let Some(runner) = runner {
            runner.stop();
        }
        self.released.take(before);
        self.shadow_after_swap(model);
        Ok(())
    }

    /// Whoever has a new role and no runner for it, for want of memory, says so and is shadowed as soon as there is some.
    fn shadow_after_swap(&mut self, model: &str) {
        let previous = self.keepers.get(model).and_then(|keeper| keeper.row.previous);
        if let Some(no) = previous
            && self.lacks_memory(model, no).is_some()
            && let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no))
        {
            version.waits_for_memory = true;
        }
        let done = self.shadow_waiting(model);
        self.report(done);
    }

    /// The outgoing champion is shadowed from its first row out of office. Without that a promotion could not be
    /// taken back by the mirrored test, so that the judge's waits for it; a person's word and a rollback do not.
    fn outgoing_runner(
        &mut self,
        model: &str,
        (from, to): (VersionNo, VersionNo),
        kind: Swap,
    ) -> Result<Option<Arc<Challenger>>, String> {
        let room = self.make_room_for_previous(model, from, to);
        match room.and_then(|()| self.start_runner(model, from)) {
            Ok(runner) => Ok(Some(runner)),
            Err(why) if kind == Swap::Promotion => Err(format!("the outgoing champion cannot be shadowed: {why}")),
            Err(why) => {
                tracing::warn!(model, version = ?from, why, "the outgoing champion is not shadowed");
                Ok(None)
            }
        }
    }

    /// Times a version that is to answer on recorded rows, at the priority at which it will. The figure goes with the
    /// decision and is shown; where nothing is recorded yet there is none.
    fn timed(&self, model: &str, incoming: &Loaded, cause: &Cause) -> Cause {
        let mut cause = cause.clone();
        // Who has answered before need not be timed, and an emergency does not wait.
        if cause.kind == Swap::Rollback || incoming.execution.timed.get().is_some() {
            return cause;
        }
        let Some(rows) = self.recorded_rows(model).map(Arc::new) else {
            return cause;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let Ok(timed) = runtime.map(|runtime| runtime.block_on(incoming.time(&rows))) else {
            return cause;
        };
        tracing::info!(model, version = incoming.info.name, ?timed, "timed on recorded rows");
        // Nobody else times it.
        let _ = incoming.execution.timed.set(timed);
        let basis = cause.basis.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut basis = basis.unwrap_or_else(|| serde_json::json!({}));
        if let Some(basis) = basis.as_object_mut() {
            basis.insert("timed".into(), serde_json::json!(timed));
        }
        cause.basis = Some(basis.to_string());
        cause
    }

    /// The latest recorded rows, as a request would bring them.
    pub(super) fn recorded_rows(&self, model: &str) -> Option<Batch> {
        let keeper = self.keepers.get(model)?;
        let (no, view) = (keeper.row.no, keeper.served.view.load_full()?);
        let recorded = self
            .recorder
            .call_blocking(move |_, writer| writer.latest_inputs(no, TIMED_ROWS));
        let reading = &view.reading;
        match &reading.form {
            Form::Features { .. } => {
                let rows = recorded.ok()?.into_iter().map(String::from_utf8);
                let rows: Vec<String> = rows.collect::<Result<_, _>>().ok()?;
                let source = format!("[{}]", rows.join(","));
                let rules = Rules {
                    unknown: Unknown::Ignore,
                    missing: Missing::Nan,
                    ..reading.rules
                };
                reading.form.read(Source::Instances(&source), rules).ok()
            }
            Form::Tensors { .. } => {
                let inputs = crate::arena::wire::decode_tensors(recorded.ok()?.first()?).ok()?;
                Some(Batch::Tensors { inputs, rows: 1 })
            }
        }
    }

    /// The durable part of a swap. In memory the rows follow the ledger's.
    fn record_swap(
        &mut self,
        model: &str,
        (from, to): (VersionNo, VersionNo),
        outgoing: Option<&Arc<Challenger>>,
        cause: &Cause,
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let back = keeper.row.previous == Some(to);
        let now = now_ms();
        let row = ModelRow {
            champion: Some(to),
            previous: Some(from),
            epoch: keeper.row.epoch + 1,
            champion_since: Some(now),
            hold: match cause.kind {
                Swap::Person => Some(format!("{}: {}", cause.author, cause.reason)),
                Swap::Promotion | Swap::Rollback => keeper.row.hold.clone(),
            },
            ..keeper.row.clone()
        }
        .proposed();
        let roles = new_roles(keeper, from, to);
        // What was approved of was a promotion over the champion of then.
        let gates = keeper.gates_of_a_new_tenure();
        let mut lineup = keeper.lineup_without(to);
        lineup.extend(outgoing.map(|runner| (from, Arc::clone(runner))));
        let parties = Parties::of(keeper, Some(from), Some(to));
        let (copy, changed, cause) = (row.clone(), roles.clone(), cause.clone());
        self.recorder.call_blocking(move |core, writer| {
            let clock = core.books.get(&copy.no).map(Book::clock).unwrap_or_default();
            for version in &changed {
                writer.update_version(version)?;
            }
            writer.compare_and_set(&copy)?;
            let kind = cause.name(back);
            let basis = parties.basis(cause.basis.as_deref(), core.books.get(&copy.no));
            let decision = (kind, Some(from), Some(to));
            writer.insert_decision(
                copy.no,
                now,
                decision,
                (&cause.author, &cause.reason, &cause.why),
                Some(&basis),
            )?;
            core.set_challengers(writer, copy.no, lineup)?;
            let Some(book) = core.books.get_mut(&copy.no) else {
                return Ok(());
            };
            book.row = copy;
            book.apply(
                writer,
                &Event::Swap {
                    to,
                    kind: cause.kind,
                    clock,
                },
                now,
            )?;
            if cause.kind == Swap::Person {
                book.apply(writer, &Event::Hold { on: true }, now)?;
            }
            super::marks::tell(book, writer, &gates)
        })?;
        keeper.row = row;
        keeper.approvals.clear();
        for changed in roles {
            if let Some(version) = keeper.version_mut(changed.no) {
                version.row = changed;
            }
        }
        if let Some(version) = keeper.version_mut(from) {
            version.runner = outgoing.cloned();
        }
        Ok(())
    }

    /// The first champion takes its place: its interface becomes the model's. The inner error says why it does not
    /// fit.
    ///
    /// # Errors
    /// The ledger; nothing has changed then, and nothing is held against the version.
    pub(super) fn crown_first(&mut self, model: &str, no: VersionNo) -> Result<Result<(), String>, Fault> {
        let (interface, loaded) = match self.prepare_first(model, no) {
            Ok(prepared) => prepared,
            Err(reason) => return Ok(Err(reason)),
        };
        self.record_first(model, no, &interface)?;
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(Ok(()));
        };
        keeper.interface = Some(interface);
        keeper.refresh_view(self.config.max_rows);
        keeper.served.metrics.swapped(SwapKind::First);
        self.seat(model, loaded, None);
        tracing::info!(model, version = ?no, "first champion");
        Ok(Ok(()))
    }

    fn prepare_first(&self, model: &str, no: VersionNo) -> Result<(Interface, Arc<Loaded>), String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("no such version")?;
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        if let Some(why) = keeper.unfit_to_answer(version) {
            return Err(why);
        }
        let head = keeper.head(version)?;
        let is_listed = keeper.config.features.is_some() || version.settings.features.is_some();
        let interface = Interface::first(
            facts,
            (keeper.config.interface, keeper.has_pbtxt),
            is_listed,
            (head.task, head.classes.clone()),
        )?;
        let info = keeper.info(version, &interface)?;
        let spec = self.processes(model, version)?;
        let loaded = keeper.load(Arc::new(info), spec, self.config.workers)?;
        Ok((interface, loaded))
    }

    fn record_first(&mut self, model: &str, no: VersionNo, interface: &Interface) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let now = now_ms();
        let row = ModelRow {
            interface: serde_json::to_string(interface).ok(),
            champion: Some(no),
            epoch: 1,
            champion_since: Some(now),
            ..keeper.row.clone()
        }
        .proposed();
        let Some(version) = keeper.version(no) else {
            return Ok(());
        };
        let head = keeper.head(version).ok();
        let own = keeper.own_settings(version);
        let settings = serde_json::to_string(&version.settings).ok();
        let role = VersionRow {
            role: "champion".into(),
            reason: None,
            ..version.row.clone()
        };
        let policy = super::policy::policy(&keeper.config, interface.task);
        let closing = super::policy::closing(&keeper.config, head.as_ref(), &self.ids);
        let (copy, changed, attached) = (row.clone(), role.clone(), Attached::to(&keeper.served));
        let (marks, parties) = (keeper.marks(Some(no)), Parties::of(keeper, None, Some(no)));
        self.recorder.call_blocking(move |core, writer| {
            writer.update_version(&changed)?;
            writer.compare_and_set(&copy)?;
            let why = "it is the first champion";
            writer.insert_decision(
                copy.no,
                now,
                ("first", None, Some(no)),
                ("model.toml", "first start", why),
                Some(&parties.basis(None, None)),
            )?;
            let is_held = copy.hold.is_some();
            let mut book = Book::load(writer, copy, closing, attached)?;
            let clock = book.clock();
            book.apply(
                writer,
                &Event::Start {
                    policy,
                    champion: no,
                    clock,
                },
                now,
            )?;
            if let Some(own) = &own {
                book.note(writer, own, now)?;
            }
            if let Some(settings) = settings {
                writer.put_own_settings(no, &settings)?;
            }
            super::marks::tell(&mut book, writer, &marks)?;
            if is_held {
                // A person's word that came before there was a judge to hear it.
                book.apply(writer, &Event::Hold { on: true }, now)?;
            }
            core.add(book);
            Ok(())
        })?;
        keeper.row = row;
        if let Some(version) = keeper.version_mut(no) {
            version.row = role;
        }
        Ok(())
    }

    /// Puts the recorded champion into the slot.
    pub(super) fn seat(&mut self, model: &str, version: Arc<Loaded>, previous: Option<Arc<Loaded>>) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        let champion = Champion {
            epoch: keeper.row.epoch,
            since_ms: keeper.row.champion_since.unwrap_or_default(),
            version,
            previous,
        };
        keeper.served.watch(&champion);
        let before = keeper.served.slot.store(Arc::new(champion));
        keeper.served.expected.store(true, std::sync::atomic::Ordering::Relaxed);
        keeper.served.stand_in.store(Arc::default());
        self.released.take(before);
    }

    /// The running challenger of a version, started if there is none.
    ///
    /// # Errors
    /// What does not fit, or what the system says.
    pub(super) fn start_runner(&mut self, model: &str, no: VersionNo) -> Result<Arc<Challenger>, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("no such version")?;
        if let Some(running) = &version.runner {
            return Ok(Arc::clone(running));
        }
        self.new_runner(model, no)
    }

    /// A challenger of a version, whether it has one or not.
    ///
    /// # Errors
    /// What does not fit, or what the system says.
    pub(super) fn new_runner(&mut self, model: &str, no: VersionNo) -> Result<Arc<Challenger>, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("no such version")?;
        let interface = keeper.interface.as_ref().ok_or("the model has no interface yet")?;
        let info = keeper.info(version, interface)?;
        let spec = self.spec(version, &info)?;
        let (spawner, events) = (self.spawner.clone(), self.runner_events_in.clone());
        let runner = Arc::new(Challenger::start(spec, spawner, self.recorder.reports(), events));
        if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) {
            version.info = Some(Arc::new(info));
        }
        Ok(runner)
    }

    fn spec(&self, version: &super::keeper::Version, info: &VersionInfo) -> Result<ChallengerSpec, String> {
        let path = self.path_of(version)?;
        let mut spec = ChallengerSpec::new(info.no, info.name.clone(), path, info.layout.clone(), info.head.clone());
        spec.digest = Some(version.row.stored_digest.clone().unwrap_or_else(|| info.digest.clone()));
        spec.batched = info.batched;
        spec.cpu_limit = self.config.runner.cpu_timeout;
        spec.wall_limit = self.config.runner.wall_timeout;
        spec.limits.data_bytes = Some(self.budget.of_one(&self.config.runner));
        spec.pressure = Arc::clone(&self.pressure);
        spec.gate = Arc::clone(&self.gate);
        Ok(spec)
    }
}

impl Thread {
    /// The processes of a version that answers, should it run in such.
    ///
    /// # Errors
    /// The store has lost its bytes, or they are damaged.
    pub(super) fn processes(&self, model: &str, version: &super::keeper::Version) -> Result<ProcessSpec, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        Ok(ProcessSpec {
            path: self.whole_bytes_of(model, version)?,
            digest: super::bytes::bytes_run(version).to_owned(),
            spawner: self.spawner.clone(),
            cpu_limit: self.config.runner.cpu_timeout,
            wall_limit: self.config.runner.wall_timeout,
            memory_bytes: self.config.runner.memory_bytes,
            metrics: keeper.served.metrics.clone(),
        })
    }
}

/// The version rows that a swap changes.
fn new_roles(keeper: &Keeper, from: VersionNo, to: VersionNo) -> Vec<VersionRow> {
    let role_of = |no: VersionNo, now: &str| {
        if no == to {
            "champion"
        } else if no == from {
            "previous"
        } else if now == "previous" {
            "challenger"
        } else {
            return None;
        }
        .into()
    };
    let changed = |row: &VersionRow| -> Option<VersionRow> {
        let role: Option<&str> = role_of(row.no, &row.role);
        Some(VersionRow {
            role: role?.to_owned(),
            reason: None,
            ..row.clone()
        })
    };
    keeper.versions.iter().filter_map(|v| changed(&v.row)).collect()
}
