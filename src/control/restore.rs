//! After a restart: same champion, same evidence, same shadows, before the directory is looked at.

use std::sync::Arc;

use super::{Fault, Thread};
use crate::champion::Loaded;
use crate::config::text_of;
use crate::intake::scan::scan_dir;
use crate::recorder::{Attached, Book};
use crate::score::VersionNo;

impl Thread {
    /// Brings back every model that the ledger knows.
    pub(super) fn restore(&mut self) {
        let names = self.recorder.call_blocking(|_, writer| writer.model_names());
        let names = match names {
            Ok(names) => names,
            Err(error) => return self.report(Err(error.into())),
        };
        for name in names {
            let opened = self.open(&name);
            self.report(opened);
            self.read_version_settings(&name);
            if self.keepers.get(&name).is_some_and(|k| k.row.champion.is_some()) {
                let restored = self.restore_model(&name);
                self.report(restored);
            }
        }
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
    }

    fn restore_model(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        keeper.served.expected.store(true, std::sync::atomic::Ordering::Relaxed);
        let closing = super::policy::closing(&keeper.config, keeper.champion_head().as_ref());
        let (row, attached) = (keeper.row.clone(), Attached::to(&keeper.served));
        self.recorder.call_blocking(move |core, writer| {
            let book = Book::load(writer, row, closing, attached)?;
            core.add(book);
            Ok(())
        })?;
        keeper.refresh_view(self.config.max_rows);
        let (champion, previous) = (keeper.row.champion, keeper.row.previous);
        let previous = previous.and_then(|no| self.load_again(model, no).ok());
        match champion.map(|no| self.load_again(model, no)) {
            Some(Ok(version)) => self.seat(model, version, previous),
            Some(Err(why)) => {
                // The last good one answers rather than nobody; the register keeps naming the champion.
                tracing::error!(model, why, "the champion could not be loaded");
                let served = self.keepers.get(model).map(|k| Arc::clone(&k.served));
                if let Some(served) = served {
                    served.given_up.store(true, std::sync::atomic::Ordering::Relaxed);
                    served
                        .waiting_for
                        .store(Arc::new(format!("its champion could not be loaded: {why}")));
                }
            }
            None => {}
        }
        self.restore_runners(model)
    }

    fn load_again(&self, model: &str, no: VersionNo) -> Result<Arc<Loaded>, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("the ledger has lost it")?;
        let interface = keeper
            .interface
            .as_ref()
            .ok_or("the ledger has lost the model's interface")?;
        let info = keeper.info(version, interface)?;
        keeper.load(Arc::new(info), &self.path_of(version)?, self.config.workers)
    }

    fn restore_runners(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let no = keeper.row.no;
        let shadows: Vec<VersionNo> = keeper
            .versions
            .iter()
            .filter(|v| v.is("challenger") || v.is("previous"))
            .map(|v| v.row.no)
            .collect();
        for version in shadows {
            match self.start_runner(model, version) {
                Ok(runner) => {
                    if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(version)) {
                        version.runner = Some(runner);
                    }
                }
                Err(reason) => tracing::error!(model, ?version, reason, "a challenger could not be started again"),
            }
        }
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let lineup = keeper.lineup_without(VersionNo(0));
        self.recorder
            .call_blocking(move |core, writer| core.set_challengers(writer, no, lineup))?;
        keeper.publish_challengers();
        Ok(())
    }
}
