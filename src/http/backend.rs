//! What the HTTP routes ask of the gateway. One trait, no `dyn` on the way of a request.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::champion::VersionInfo;
use crate::decode::{Form, Item, Keys, Rules, Wanted};
use crate::error::Error;
use crate::id::PredictionId;
use crate::metrics::Page;
use crate::model::head::LabelValue;
use crate::model::tensor::Tensor;
use crate::oip::Contract;
use crate::protocol::{Action, Erasure, ItemStatus, Of, Order, Rotation, Whose};
use crate::report::{SampleOrder, Since};
use crate::score::Score;

/// How a model's requests are read.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Features or tensors.
    pub form: Form,
    /// Missing values, unknown features, most rows.
    pub rules: Rules,
    /// The same for the Open Inference Protocol.
    pub contract: Arc<Contract>,
}

/// A served model.
pub trait Model: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;
    /// How its requests are read, as of now; `None` until it has a champion.
    fn interface(&self) -> Option<Arc<Interface>>;
    /// Why it cannot answer yet.
    fn waiting_for(&self) -> String;
    /// The versions that can be asked by name, the champion first.
    fn versions(&self) -> Vec<Arc<VersionInfo>>;
    /// Counts a request that could not be answered.
    fn failed(&self, time: Duration);
}

/// What the repository says of a model or of one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// The version; absent where the model cannot answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `READY` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is unavailable.
    pub reason: String,
}

/// A decoded request.
#[derive(Debug)]
pub struct Ask {
    /// The rows.
    pub batch: Batch,
    /// The caller's ids, entities and context; each list, where there is one, as long as the rows.
    pub keys: Keys,
    /// The version that the request is pinned to.
    pub version: Option<String>,
    /// Which raw outputs to compute and return.
    pub outputs: Wanted,
    /// False: keep out of shadow, store and evidence.
    pub shadow: bool,
    /// After this nobody waits for the answer.
    pub deadline: Option<Instant>,
    /// More come than can be answered: whatever is not an answer should rest.
    pub crowded: bool,
}

/// The answer for one row.
#[derive(Debug)]
pub struct RowReply {
    /// Absent where the task is unknown.
    pub score: Option<Score>,
    /// Absent where the task is unknown or a regression.
    pub label: Option<LabelValue>,
    /// The previous champion's name, where it answered.
    pub fallback: Option<Arc<str>>,
    /// It is in the exploration slice: its outcome should be found out whatever the answer is.
    pub explore: bool,
}

/// What the rows of a reply are called.
#[derive(Debug)]
pub enum Ids {
    /// As the caller called them, one per row.
    Caller(Arc<Vec<String>>),
    /// By the request's id; its text is written straight into the reply.
    Generated(PredictionId),
}

/// The answer for a request.
#[derive(Debug)]
pub struct Reply {
    /// The version that answered.
    pub version: Arc<VersionInfo>,
    /// By which labels name the request.
    pub id: PredictionId,
    /// Names of the rows.
    pub ids: Ids,
    /// One per row.
    pub rows: Vec<RowReply>,
    /// Raw outputs that were asked for, by name.
    pub outputs: Vec<(Arc<str>, Tensor)>,
    /// Waiting for a session.
    pub queue: Duration,
    /// The model's own time.
    pub compute: Duration,
    /// Where a share of the requests is held out by chance: whether this one was mirrored.
    pub mirrored: Option<bool>,
}

impl Reply {
    /// The rows in the exploration slice, counted from 0 and joined by commas; `None` where there are none.
    #[must_use]
    pub fn explored(&self) -> Option<String> {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.explore);
        let mut text = String::new();
        for (at, _) in rows {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&at.to_string());
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The gateway, as the routes see it.
pub trait Backend: Send + Sync + 'static {
    /// A served model.
    type Model: Model;

    /// The model of this name, or the only one.
    ///
    /// # Errors
    /// Unknown, not ready, or none named where several are served.
    fn resolve(&self, model: Option<&str>) -> Result<Arc<Self::Model>, Error>;

    /// Answers a request.
    fn answer(&self, model: &Arc<Self::Model>, ask: Ask) -> impl Future<Output = Result<Reply, Error>> + Send;

    /// Takes labels; returns one status per item, in order, when they are on disk. `model` is for items that name none,
    /// `key` the API key that reports them. An item that cannot be read, or whose model does not exist, is `invalid` by
    /// itself.
    fn feedback(
        &self,
        model: Option<&str>,
        items: Vec<Item>,
        key: Option<&str>,
    ) -> impl Future<Output = Result<Vec<ItemStatus>, Error>> + Send;

    /// Whether requests can be answered, or why not.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), String>;

    /// What does not work though requests can be answered.
    fn degraded(&self) -> Option<String> {
        None
    }

    /// Whether this model can answer.
    ///
    /// # Errors
    /// Unknown, or not ready and why.
    fn model_ready(&self, model: &str) -> Result<(), Error>;

    /// All models, in order.
    fn all(&self) -> Vec<Arc<Self::Model>>;

    /// Looks at the model's directory again, and takes back an unloading; done when the model answers.
    fn load(&self, model: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Lets the model go: it answers nobody until it is loaded again.
    fn unload(&self, model: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// `GET /api/models`.
    fn models(&self) -> Value;

    /// `GET /api/ledger`.
    fn ledger(&self) -> Value;

    /// `GET /api/models/{m}`.
    fn model_view(&self, model: &str) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/decisions`.
    fn decisions(&self, model: &str) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/decisions/{n}`.
    fn decision(&self, model: &str, n: i64) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/versions`, `GET /api/models/{m}/versions/{v}` and `GET /api/models/{m}/diff/{a}/{b}`.
    fn versions(&self, model: &str, of: Of) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/monitor`.
    ///
    /// # Errors
    /// Unknown model.
    fn monitor(&self, model: &str) -> Result<Value, Error>;

    /// `GET /api/models/{m}/report`.
    fn report(&self, model: &str, since: Since) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/sample`.
    fn sample(&self, model: &str, order: SampleOrder) -> impl Future<Output = Result<Value, Error>> + Send;
    /// `GET /api/models/{m}/retrainings`.
    fn retrainings(&self, model: &str) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `POST /api/models/{m}/retrain`; done when it is durable.
    fn retrain(&self, model: &str, order: Order) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `GET /api/models/{m}/rows/{id}` and `GET /api/models/{m}/entities/{entity}`.
    fn held(&self, model: &str, whose: Whose) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `POST /api/models/{m}/erase`.
    fn erase(&self, model: &str, order: Erasure) -> impl Future<Output = Result<Value, Error>> + Send;

    /// `POST /api/rotate-key`.
    fn rotate_key(&self, order: Rotation) -> impl Future<Output = Result<Value, Error>> + Send;

    /// Carries out a person's order; done when it is durable and visible.
    fn act(&self, model: &str, action: Action, order: Order) -> impl Future<Output = Result<Value, Error>> + Send;

    /// What `/metrics` says, but for the listeners. It may read files.
    fn metrics(&self) -> Page;
}
