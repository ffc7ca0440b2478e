//! The key of the ids: a new one while requests go on.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Gateway;
use crate::error::{Error, Kind};
use crate::id::{Generation, RotateError};
use crate::protocol::Rotation;
use crate::span::Span;
use crate::time::{now_ms, rfc3339};

impl Gateway {
    /// How long after it was issued an id may be labelled, over all models; what is counted in rows has no end in time.
    fn open_ms(&self) -> i64 {
        let models = self.models.load();
        let views = models.values().filter_map(|model| model.view.load_full());
        let horizons = views.map(|view| match view.config.label.horizon {
            Span::Time(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            Span::Rows(_) => i64::MAX,
        });
        horizons.max().unwrap_or(0)
    }

    /// Ids are issued under a new key from now on.
    pub(super) fn next_key(&self, order: &Rotation) -> Result<Value, Error> {
        if self.recorder.is_held() || self.has_successor.load(Ordering::Acquire) {
            let text = "another process is taking over: rotate the key when it has";
            return Err(Error::new(Kind::NotReady, text).retry_after(1));
        }
        let rotated = self
            .ids
            .rotate(&self.state.join("ids.key"), now_ms(), self.open_ms(), order.force);
        let generation = rotated.map_err(|error| {
            let kind = match &error {
                RotateError::StillOpen { .. } => Kind::WrongRole,
                RotateError::File { .. } => Kind::Storage,
            };
            Error::new(kind, error.to_string())
        })?;
        let (author, reason, number) = (&order.author, &order.reason, generation.number);
        tracing::info!(author, reason, generation = number, "the key of the ids was rotated");
        Ok(told(generation))
    }

    pub(super) fn show_key(&self) -> Value {
        told(self.ids.key().generation())
    }
}

fn told(generation: Generation) -> Value {
    json!({
        "generation": generation.number,
        "since": (generation.since_ms > 0).then(|| rfc3339(generation.since_ms)),
        "former_issued_until": generation.former_until_ms.map(rfc3339),
    })
}
