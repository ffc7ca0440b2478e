//! A candidate becomes a challenger where it fits the model and there is room.
//!
//! Always holds: its runner is started first, then it is recorded, and only then rows are offered to it.

use std::sync::Arc;

use super::super::{Fault, Thread};
use crate::ledger::{ModelRow, VersionRow};
use crate::model::interface::Misfit;
use crate::recorder::Event;
use crate::score::VersionNo;
use crate::shared::Register;
use crate::time::now_ms;

impl Thread {
    /// A vetted candidate becomes a challenger where it fits and there is room; `full` once there was none.
    pub(super) fn admit(&mut self, model: &str, no: VersionNo, full: &mut bool) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        if let Some(version) = keeper.version_mut(no) {
            (version.fit_again, version.lacks) = (false, None);
        }
        let (Some(version), Some(interface)) = (keeper.version(no), &keeper.interface) else {
            return Ok(());
        };
        let Some(facts) = &version.facts else { return Ok(()) };
        let head = match keeper.head(version) {
            Ok(head) => head,
            Err(reason) => return self.reject(model, no, &reason),
        };
        if let Err(reason) = interface.check_answers(head.task, head.classes.as_ref()) {
            return self.reject(model, no, &reason);
        }
        let carried = &keeper.served.carried;
        let joined = match interface.join(facts, |feature| carried.carries(feature)) {
            Ok((joined, _)) => joined,
            Err(Misfit::Never(reason)) => return self.reject(model, no, &reason),
            Err(Misfit::NotCarried { feature }) => {
                let reason = format!(
                    "no accepted version takes feature '{feature}', and none of the last 10,000 rows carried it: \
                     send it with the rows, or drop the file again under the name of a feature that exists"
                );
                if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) {
                    version.lacks = Some(feature);
                }
                return self.reject(model, no, &reason);
            }
        };
        // First: nobody is to make room for one that cannot come.
        if let Some(why) = self.lacks_memory(model, no) {
            return self.set_role(model, no, "candidate", Some(&why));
        }
        *full = *full || !self.make_room(model)?;
        if *full {
            return self.set_role(
                model,
                no,
                "candidate",
                Some("waits for room: max_challengers are shadowed"),
            );
        }
        self.enter(model, no, joined)
    }

    /// True when another challenger may be shadowed.
    pub(super) fn make_room(&mut self, model: &str) -> Result<bool, Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(false);
        };
        let most = usize::try_from(keeper.config.shadow.max_challengers).unwrap_or(usize::MAX);
        if keeper.versions.iter().filter(|v| v.is("challenger")).count() < most {
            return Ok(true);
        }
        let (no, stands_by) = (keeper.row.no, keeper.row.previous);
        let goes = self.recorder.call_blocking(move |core, _| {
            let book = core.books.get(&no);
            Ok(book.and_then(|b| b.judge.as_ref()?.room(most.saturating_sub(1), b.clock(), stands_by)))
        })?;
        match goes {
            Some(goes) => {
                let role = ("retired", "made room for a newer challenger");
                let by = ("judge", "of those that had their dwell it is furthest below its bar");
                self.leave(model, goes, role, Some(by)).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Starts the runner, then records that rows are offered to it.
    pub(super) fn enter(
        &mut self,
        model: &str,
        no: VersionNo,
        interface: crate::model::interface::Interface,
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let before = keeper.interface.replace(interface.clone());
        let runner = match self.start_runner(model, no) {
            Ok(runner) => runner,
            Err(reason) => {
                if let Some(keeper) = self.keepers.get_mut(model) {
                    keeper.interface = before;
                }
                return self.reject(model, no, &reason);
            }
        };
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let model_row = ModelRow {
            interface: serde_json::to_string(&interface).ok(),
            ..keeper.row.clone()
        }
        .proposed();
        let Some(version) = keeper.version(no) else {
            return Ok(());
        };
        let version_row = VersionRow {
            role: "challenger".into(),
            reason: None,
            ..version.row.clone()
        };
        let unfit = keeper.unfit_to_answer(version);
        let own = keeper.own_settings(version);
        let settings = serde_json::to_string(&version.settings).ok();
        let earlier = keeper.earlier_of(version);
        let marks = keeper.marks(Some(no));
        let mut lineup = keeper.lineup_without(no);
        lineup.push((no, Arc::clone(&runner)));
        let (m, v) = (model_row.clone(), version_row.clone());
        let recorded = self.recorder.call_blocking(move |core, writer| {
            writer.compare_and_set(&m)?;
            writer.update_version(&v)?;
            core.set_challengers(writer, m.no, lineup)?;
            if let Some(settings) = settings {
                writer.put_own_settings(no, &settings)?;
            }
            let Some(book) = core.books.get_mut(&m.no) else {
                return Ok(());
            };
            book.row = m;
            for from in earlier {
                book.apply(writer, &Event::Inherit { from, to: no }, now_ms())?;
            }
            if let Some(own) = &own {
                book.note(writer, own, now_ms())?;
            }
            // Before it enters: a twin takes no place in the queue.
            super::super::marks::tell(book, writer, &marks)?;
            let clock = book.clock();
            book.apply(writer, &Event::Enter { version: no, clock }, now_ms())?;
            match unfit {
                Some(why) => {
                    let (version, why) = (no, Some(why));
                    book.apply(writer, &Event::Bar { version, why }, now_ms())
                }
                None => Ok(()),
            }
        });
        if let Err(error) = recorded {
            keeper.interface = before;
            runner.stop();
            return Err(error.into());
        }
        keeper.row = model_row;
        if let Some(version) = keeper.version_mut(no) {
            version.row = version_row;
            version.runner = Some(runner);
        }
        keeper.refresh_view(self.config.max_rows);
        keeper.publish_challengers();
        tracing::info!(model, version = keeper.name_of(no), "challenger");
        Ok(())
    }
}
