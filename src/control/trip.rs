//! The tripwire: a champion that fails too often goes at once where somebody can take its place, and else raises an alarm.
//!
//! Always holds: it takes a crown back only from a champion on probation and gives it to nobody but the one before, in
//! mode `auto`; a hold does not keep it from that, as it is no test but an emergency.

use super::Thread;
use super::promote::Cause;
use crate::champion::Trip;
use crate::judge::policy::Mode;
use crate::judge::tenure::Swap;
use crate::score::ModelNo;

impl Thread {
    /// A champion fails too often, or takes too long.
    pub(super) fn trip(&mut self, no: ModelNo, trip: &Trip) {
        let Some((model, keeper)) = self.keepers.iter().find(|(_, keeper)| keeper.row.no == no) else {
            return;
        };
        if keeper.row.epoch != trip.epoch {
            return;
        }
        let (model, champion) = (
            model.clone(),
            keeper.row.champion.map(|no| keeper.name_of(no).to_owned()),
        );
        let champion = champion.unwrap_or_default();
        let to = self.recorder.call_blocking(move |core, _| {
            let judge = core.books.get(&no).and_then(|book| book.judge.as_ref());
            let watched = judge.filter(|judge| judge.on_probation() && judge.policy().mode == Mode::Auto);
            Ok(watched.and_then(crate::judge::fold::Judge::previous))
        });
        let to = match to {
            Ok(to) => to,
            Err(error) => return self.report(Err(error.into())),
        };
        let Some(to) = to else {
            tracing::error!(
                model,
                champion,
                why = trip.why,
                "the champion fails too often or takes too long"
            );
            return;
        };
        let cause = Cause {
            kind: Swap::Rollback,
            author: "tripwire".into(),
            reason: trip.reason.into(),
            why: format!("on probation '{champion}' {}", trip.why),
            back: true,
            basis: serde_json::to_string(trip).ok(),
        };
        if let Err(why) = self.swap(&model, to, &cause) {
            tracing::error!(
                model,
                champion,
                why,
                "the champion fails too often or takes too long, and could not be taken back"
            );
        }
    }
}
