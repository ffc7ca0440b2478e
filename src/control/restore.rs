//! After a restart: same champion, same evidence, same shadows, before the directory is looked at.

use std::sync::Arc;

use super::budget::is_for_memory;
use super::{Fault, Thread};
use crate::arena::Challenger;
use crate::champion::{Champion, Loaded};
use crate::config::text_of;
use crate::intake::scan::scan_dir;
use crate::recorder::{Attached, Book, Event};
use crate::score::VersionNo;
use crate::time::now_ms;

impl Thread {
    /// Brings back every model that the ledger knows.
    pub(super) fn restore(&mut self) {
        let names = self.recorder.look_blocking(|_, reader| reader.model_names());
        let names = match names {
            Ok(names) => names,
            Err(error) => return self.report(Err(error.into())),
        };
        for name in &names {
            let opened = self.open(name);
            self.report(opened);
            self.read_version_settings(name);
            if self.has_champion(name) {
                let restored = self.restore_model(name);
                self.report(restored);
            }
        }
        // Of all models the champions first, and those that they may go back to.
        for role in ["previous", "challenger"] {
            for name in names.iter().filter(|name| self.has_champion(name)).collect::<Vec<_>>() {
                let restored = self.start_runners(name, role).and_then(|_| self.line_up(name));
                self.report(restored);
            }
        }
    }

    /// The recorded champions answer, before the state directory is ours: nothing is written, and [`Thread::restore`] does
    /// the rest, with the sessions that are loaded here.
    pub(super) fn seat_beforehand(&mut self) {
        let names = match self.recorder.look_blocking(|_, reader| reader.model_names()) {
            Ok(names) => names,
            Err(error) => return self.report(Err(error.into())),
        };
        for name in &names {
            let opened = self.open(name);
            self.report(opened);
            self.read_version_settings(name);
            if self.has_champion(name) {
                self.follow_opt_out(name);
                if let Some(keeper) = self.keepers.get(name) {
                    keeper.served.expected.store(true, std::sync::atomic::Ordering::Relaxed);
                    keeper.refresh_view(self.config.max_rows);
                }
                self.seat_recorded(name);
            }
        }
    }

    fn has_champion(&self, model: &str) -> bool {
        self.keepers.get(model).is_some_and(|k| k.row.champion.is_some())
    }

    /// What the versions' own toml files say, as far as they can be read: how outputs are read depends on it.
    fn read_version_settings(&mut self, model: &str) {
        let Ok(contents) = scan_dir(&self.config.models.join(model), self.config.max_model_bytes) else {
            return;
        };
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        for file in &contents.versions {
            if let Some(Ok(text)) = file.settings.as_deref().map(text_of) {
                keeper.note_settings(&file.name, text);
            }
        }
        // Nothing is loaded yet that could have been read in another way.
        keeper.relabel = false;
        keeper.recalibrate.clear();
    }

    fn restore_model(&mut self, model: &str) -> Result<(), Fault> {
        // Before it answers anybody.
        self.follow_opt_out(model);
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        keeper.served.expected.store(true, std::sync::atomic::Ordering::Relaxed);
        let booked = self.book(model);
        if let Some(keeper) = self.keepers.get(model) {
            keeper.refresh_view(self.config.max_rows);
        }
        // A ledger that fails stops the judging, not the serving.
        self.seat_recorded(model);
        if booked.is_err() {
            self.unbooked.insert(model.to_owned());
        }
        booked
    }

    /// Models whose book could not be opened at the start are recorded and judged from the moment at which it can.
    pub(super) fn book_again(&mut self) {
        if self.unbooked.is_empty() || !self.recorder.is_healthy() {
            return;
        }
        for model in std::mem::take(&mut self.unbooked) {
            let booked = self.book(&model).and_then(|()| {
                self.start_runners(&model, "previous")?;
                self.start_runners(&model, "challenger")?;
                self.line_up(&model)
            });
            if booked.is_ok() {
                tracing::info!(model, "its rows are recorded again");
            } else {
                self.unbooked.insert(model);
            }
            self.report(booked);
        }
    }

    /// Opens a model's book.
    fn book(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let closing = super::policy::closing(&keeper.config, keeper.champion_head().as_ref(), &self.ids);
        let (row, attached) = (keeper.row.clone(), Attached::to(&keeper.served));
        let no = keeper.row.no;
        let approved = self.recorder.call_blocking(move |_, writer| writer.approvals(no));
        if let Some(keeper) = self.keepers.get_mut(model) {
            keeper.recall_approvals(&approved?);
        }
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let (bars, own, marks) = (keeper.bars(), keeper.all_own_settings(), keeper.marks(None));
        let booked = self.recorder.call_blocking(move |core, writer| {
            let mut book = Book::load(writer, row, closing, attached)?;
            for (version, why) in bars {
                // What kept it from the crown in an older program may not in this one.
                let judge = book.judge.as_ref();
                if judge.is_some_and(|judge| judge.bar_of(version) != why.as_deref()) {
                    book.apply(writer, &Event::Bar { version, why }, now_ms())?;
                }
            }
            for (own, settings) in &own {
                // What a version's toml has come to say while nobody looked.
                book.note(writer, own, now_ms())?;
                if let Some(settings) = settings {
                    writer.put_own_settings(own.version, settings)?;
                }
            }
            super::marks::tell(&mut book, writer, &marks)?;
            let rows = book.clock().row;
            core.add(book);
            Ok(rows)
        });
        let booked = booked.map(|rows| {
            // A model with a past has no first rows: what none of the next ones carries is not carried.
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            keeper.served.carried.count(rows);
        });
        booked.map_err(Fault::from)
    }

    /// Loads and seats whom the register names. Where the champion cannot be loaded the previous one stands in,
    /// rather than nobody; the register keeps naming the champion, and a person may promote another.
    pub(super) fn seat_recorded(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let served = Arc::clone(&keeper.served);
        let Some(champion) = keeper.row.champion else { return };
        let (name, previous) = (keeper.name_of(champion).to_owned(), keeper.row.previous);
        let warm = served.slot.load().map(|c| c.loaded()).unwrap_or_default();
        let load = |no: VersionNo| match warm.iter().find(|loaded| loaded.info.no == no) {
            Some(loaded) => Ok(Arc::clone(loaded)),
            None => self.load_again(model, no),
        };
        let previous = previous.and_then(|no| {
            let loaded = load(no);
            if let Err(why) = &loaded {
                tracing::warn!(model, version = ?no, why, "the previous champion could not be loaded: no row falls back on it");
            }
            loaded.ok()
        });
        let why = match load(champion) {
            Ok(version) => return self.seat(model, version, previous),
            Err(why) => format!("its champion '{name}' could not be loaded: {why}"),
        };
        tracing::error!(
            model,
            stand_in = previous.as_ref().map(|p| p.info.name.as_str()),
            "{why}"
        );
        served.given_up.store(true, std::sync::atomic::Ordering::Relaxed);
        served.waiting_for.store(Arc::new(why.clone()));
        if let Some(version) = previous {
            served.stand_in.store(Arc::new(Some(why)));
            let stand_in = Champion {
                epoch: Champion::STAND_IN,
                since_ms: crate::time::now_ms(),
                version,
                previous: None,
            };
            self.released.take(served.slot.store(Arc::new(stand_in)));
        }
    }

    /// Bytes are in the store, whatever the name that they came under: whoever could not be loaded for want of them now is.
    pub(super) fn bytes_came(&mut self, model: &str, digest: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let loaded = keeper
            .versions
            .iter()
            .filter(|v| v.is_loaded() && v.row.digest == digest);
        let loaded: Vec<VersionNo> = loaded.map(|v| v.row.no).collect();
        loaded.into_iter().try_for_each(|no| self.bytes_are_there(model, no))
    }

    /// The bytes of a version that is to run are in the store: what could not be loaded for want of them now is.
    fn bytes_are_there(&mut self, model: &str, no: VersionNo) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let register = [keeper.row.champion, keeper.row.previous];
        let warm = keeper.served.slot.load().map(|c| c.loaded()).unwrap_or_default();
        if register.contains(&Some(no)) && !warm.iter().any(|loaded| loaded.info.no == no) {
            self.seat_recorded(model);
        }
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let idle = |v: &super::keeper::Version| v.runner.is_none() && (v.is("challenger") || v.is("previous"));
        if keeper.version(no).is_some_and(idle) {
            let role = if register[1] == Some(no) {
                "previous"
            } else {
                "challenger"
            };
            return self.start_runners(model, role).and_then(|_| self.line_up(model));
        }
        Ok(())
    }

    /// Loads a version that the ledger knows into this process.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) fn load_again(&self, model: &str, no: VersionNo) -> Result<Arc<Loaded>, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("the ledger has lost it")?;
        let interface = keeper
            .interface
            .as_ref()
            .ok_or("the ledger has lost the model's interface")?;
        let info = keeper.info(version, interface)?;
        keeper.load(Arc::new(info), self.processes(model, version)?, self.config.workers)
    }

    /// Starts the runners of this role that do not run, as far as there is memory for them; true when there was one. Rows
    /// come to them after [`Thread::line_up`].
    pub(super) fn start_runners(&mut self, model: &str, role: &str) -> Result<bool, Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(false);
        };
        let idle = |v: &&super::keeper::Version| v.is(role) && v.runner.is_none();
        let shadows: Vec<VersionNo> = keeper.versions.iter().filter(idle).map(|v| v.row.no).collect();
        let mut has_started = false;
        for no in shadows {
            if let Some(why) = self.lacks_memory(model, no) {
                self.wait_for_memory(model, no, &why)?;
                continue;
            }
            match self.start_runner(model, no) {
                Ok(runner) => {
                    self.runs_again(model, no, runner)?;
                    has_started = true;
                }
                Err(reason) => {
                    tracing::error!(model, version = ?no, reason, "a challenger could not be started again");
                    if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) {
                        version.waits_for_memory = false;
                    }
                }
            }
        }
        Ok(has_started)
    }

    /// Those that run get the model's rows.
    pub(super) fn line_up(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let no = keeper.row.no;
        let lineup = keeper.lineup_without(VersionNo(0));
        self.recorder
            .call_blocking(move |core, writer| core.set_challengers(writer, no, lineup))?;
        keeper.publish_challengers();
        Ok(())
    }

    fn runs_again(&mut self, model: &str, no: VersionNo, runner: Arc<Challenger>) -> Result<(), Fault> {
        let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) else {
            return Ok(());
        };
        version.runner = Some(runner);
        let waited = std::mem::take(&mut version.waits_for_memory) || is_for_memory(version.row.reason.as_deref());
        let role = version.row.role.clone();
        match waited {
            true => self.set_role(model, no, &role, None),
            false => Ok(()),
        }
    }
}
