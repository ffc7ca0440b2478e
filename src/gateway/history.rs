//! The versions of a model, read from the ledger beside the recorder, which is not held up by it.

use serde_json::Value;

use super::Gateway;
use crate::error::{Error, Kind};
use crate::history::{History, HistoryError, diff};
use crate::http::backend::Backend;
use crate::ledger::Ledger;
use crate::protocol::Of;

impl From<HistoryError> for Error {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unknown(text) => Self::new(Kind::UnknownVersion, text),
            HistoryError::Ledger(error) => {
                Self::new(Kind::Storage, format!("the ledger cannot be read: {error}")).retry_after(1)
            }
        }
    }
}

impl Gateway {
    pub(super) async fn show_versions(&self, model: &str, of: Of) -> Result<Value, Error> {
        self.resolve(Some(model))?;
        let stopping = || Error::new(Kind::NotReady, "the gateway is stopping");
        let _place = self.reading.acquire().await.map_err(|_| stopping())?;
        let (state, model) = (self.state.clone(), model.to_owned());
        let read = tokio::task::spawn_blocking(move || -> Result<Value, HistoryError> {
            let ledger = Ledger::open_to_read(&state)?;
            let reader = ledger.reader();
            let history = History::read(&reader, Some(&model))?;
            match of {
                Of::All => Ok(history.list()),
                Of::One(version) => Ok(history.whole(history.find(&version)?)),
                Of::Two([a, b]) => diff(&reader, &history, [&a, &b]),
            }
        });
        Ok(read.await.map_err(|_| stopping())??)
    }
}
