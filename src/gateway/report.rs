//! Reports and samples, read from the ledger beside the recorder, which is not held up by it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Gateway;
use crate::error::{Error, Kind};
use crate::http::backend::Backend;
use crate::priority::give_way;
use crate::report::{self, ReportError, SampleOrder, Since};

impl From<ReportError> for Error {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Empty(text) => Self::new(Kind::NotFound, text),
            ReportError::History(error) => error.into(),
            ReportError::Ledger(error) => {
                Self::new(Kind::Storage, format!("the ledger cannot be read: {error}")).retry_after(1)
            }
            ReportError::Page(text) => Self::new(Kind::Storage, text),
        }
    }
}

impl Gateway {
    pub(super) async fn show_report(&self, model: &str, since: Since) -> Result<Value, Error> {
        let monitor = self.show_monitor(model)?;
        self.read_apart(model, move |state, model| {
            let made = report::read(state, Some(model), &since, Some(monitor))?;
            Ok(json!(made))
        })
        .await
    }

    pub(super) async fn show_sample(&self, model: &str, order: SampleOrder) -> Result<Value, Error> {
        self.read_apart(model, move |state, model| report::sample(state, Some(model), &order))
            .await
    }

    /// Long readings are made one at a time, each on a thread that gives way to requests; it ends by itself, also when
    /// nobody waits for it any more.
    async fn read_apart(
        &self,
        model: &str,
        read: impl FnOnce(&std::path::Path, &str) -> Result<Value, ReportError> + Send + 'static,
    ) -> Result<Value, Error> {
        self.resolve(Some(model))?;
        let stopping = || Error::new(Kind::NotReady, "the gateway is stopping");
        let place = Arc::clone(&self.reading)
            .acquire_owned()
            .await
            .map_err(|_| stopping())?;
        let (state, model) = (self.state.clone(), model.to_owned());
        let (told, made) = oneshot::channel();
        let work = move || {
            give_way();
            let _place = place;
            // Whoever asked may have left.
            let _ = told.send(read(&state, &model));
        };
        let busy = |e| Error::new(Kind::Storage, format!("no thread to read with: {e}")).retry_after(1);
        std::thread::Builder::new()
            .name("report".into())
            .spawn(work)
            .map_err(busy)?;
        Ok(made.await.map_err(|_| stopping())??)
    }
}
