//! A model as a whole, let go and taken back by a client of the Open Inference Protocol.
//!
//! Always holds: an unloaded model answers nobody and keeps no session, whatever else happens to its champion meanwhile;
//! register, evidence and shadows stay. It lasts until the model is loaded again or the gateway starts anew.

use std::sync::atomic::Ordering;

use super::Thread;
use crate::error::{Error, Kind};

impl Thread {
    /// Loads a model (its directory is looked at first), or lets it go.
    ///
    /// # Errors
    /// There is no such model.
    pub(super) fn repository(&mut self, model: &str, load: bool) -> Result<(), Error> {
        if load {
            self.look();
        }
        let keeper = self.keepers.get(model).ok_or_else(|| {
            let names: Vec<&str> = self.keepers.keys().map(String::as_str).collect();
            let text = format!("no model '{model}'; there are: {}", names.join(", "));
            Error::new(Kind::UnknownModel, text)
        })?;
        let served = std::sync::Arc::clone(&keeper.served);
        if !load {
            tracing::info!(model, "unloaded");
            served.given_up.store(true, Ordering::Relaxed);
            self.released.take(served.slot.close());
        } else if served.slot.is_closed() {
            tracing::info!(model, "loaded again");
            served.given_up.store(false, Ordering::Relaxed);
            served.slot.open();
            self.seat_recorded(model);
        }
        Ok(())
    }

    /// A champion that was seated in an unloaded model goes at once.
    pub(super) fn keep_closed(&mut self) {
        for keeper in self.keepers.values() {
            let slot = &keeper.served.slot;
            if slot.is_closed() {
                self.released.take(slot.close());
            }
        }
    }
}
