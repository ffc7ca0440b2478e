//! Reported labels: which row, which truth, then through the recorder.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Gateway;
use crate::config::MetricSetting;
use crate::decode::{FeedbackItem, Invalid, Item, clip};
use crate::error::{Error, Kind};
use crate::http::backend::Backend;
use crate::id::Foreign;
use crate::protocol::ItemStatus;
use crate::recorder::{LabelItem, LabelKey, Reporter, Status};
use crate::served::Served;
use crate::time::now_ms;

impl Gateway {
    /// One status per item, in order, after all are on disk.
    pub(super) async fn take_labels(
        &self,
        model: Option<&str>,
        items: Vec<Item>,
        key: Option<&str>,
    ) -> Result<Vec<ItemStatus>, Error> {
        let key: Option<Arc<str>> = key.map(Arc::from);
        if self.is_shared.load(Ordering::Acquire) {
            let text = "the gateway is being upgraded: send the labels again, on a new connection";
            return Err(Error::new(Kind::NotReady, text).retry_after(1));
        }
        let mut statuses: Vec<Option<ItemStatus>> = Vec::with_capacity(items.len());
        let mut sent = Vec::with_capacity(items.len());
        let mut places = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            match self.whose(model, item)? {
                Ok((item, served)) => match self.label(&served, &item, key.as_ref()) {
                    Ok(label) => {
                        statuses.push(None);
                        sent.push(label);
                        places.push((place, item.id, served));
                    }
                    // Decided without the ledger.
                    Err((status, error)) => {
                        served.metrics.labels(status.name(), 1);
                        statuses.push(Some(ItemStatus {
                            id: Some(item.id),
                            status: status.name(),
                            error: Some(error),
                        }));
                    }
                },
                Err(bad) => statuses.push(Some(bad)),
            }
        }
        let answers = if sent.is_empty() {
            Vec::new()
        } else {
            self.recorder.labels(sent, now_ms()).await?
        };
        for ((place, id, served), answer) in places.into_iter().zip(answers) {
            served.metrics.labels(answer.status.name(), 1);
            if let Some(status) = statuses.get_mut(place) {
                *status = Some(ItemStatus {
                    id: Some(id),
                    status: answer.status.name(),
                    error: answer.error,
                });
            }
        }
        statuses.into_iter().collect::<Option<_>>().ok_or_else(|| {
            Error::new(
                Kind::Storage,
                "the ledger answered fewer labels than it was given: send them again",
            )
        })
    }

    /// The item with its model, or its status when it has none.
    ///
    /// # Errors
    /// Nothing can be said yet: the client is to send all of it again.
    fn whose(&self, model: Option<&str>, item: Item) -> Result<Result<(FeedbackItem, Arc<Served>), ItemStatus>, Error> {
        let Invalid { id, error } = match item {
            Err(bad) => {
                if let Ok(served) = self.resolve(model) {
                    served.metrics.labels("invalid", 1);
                }
                bad
            }
            Ok(item) => match self.resolve(item.model.as_deref().or(model)) {
                // After a restart the ids of a model mean something before it answers again.
                Ok(served) if served.view.load().is_none() && !self.restored.load(Ordering::Acquire) => {
                    return Err(super::not_ready(&served));
                }
                Ok(served) => return Ok(Ok((item, served))),
                Err(error) if error.kind == Kind::NotReady => return Err(error),
                Err(error) => Invalid {
                    id: Some(item.id),
                    error: error.message,
                },
            },
        };
        Ok(Err(ItemStatus {
            id,
            status: "invalid",
            error: Some(error),
        }))
    }

    /// The item as the recorder takes it; or what it is, and why, where the recorder need not be asked.
    fn label(
        &self,
        served: &Served,
        item: &FeedbackItem,
        key: Option<&Arc<str>>,
    ) -> Result<LabelItem, (Status, String)> {
        let reporter = key.map(|name| Reporter {
            key: Arc::clone(name),
            is_trusted: served
                .view
                .load_full()
                .is_some_and(|view| view.config.label.trusted.iter().any(|trusted| **trusted == **name)),
        });
        let truth = match (&item.label, &*served.view.load()) {
            (None, _) => Ok(None),
            (Some(label), Some(view)) => view.head.truth(label).map(Some),
            (_, None) => Err("the model has no champion yet, so there is nothing to label".into()),
        };
        let truth = truth.and_then(|truth| match unpaid(served, item) {
            Some(why) => Err(why),
            None => Ok(truth),
        });
        let truth = truth.map_err(|why| (Status::Invalid, why))?;
        let key = self
            .key(&item.id)
            .map_err(|foreign| (Status::Unknown, foreign.to_string()))?;
        let extra = (item.rewards.is_some() || item.reward.is_some())
            .then(|| serde_json::json!({"rewards": item.rewards, "reward": item.reward}).to_string());
        Ok(LabelItem {
            model: served.no,
            key,
            label: item.label.as_ref().map(ToString::to_string).unwrap_or_default(),
            truth: Ok(truth),
            weight: item.weight,
            reward: item.reward,
            extra,
            remark: item.remark.clone(),
            reporter,
        })
    }

    /// The row that an id names, by the keys alone.
    pub(super) fn key(&self, id: &str) -> Result<LabelKey, Foreign> {
        if !id.starts_with("p1_") {
            return Ok(LabelKey::Caller(id.to_owned()));
        }
        let parsed = self.ids.key().read(id)?;
        Ok(LabelKey::Ours {
            id: parsed.number,
            time_ms: parsed.time_ms,
        })
    }
}

/// Where rewards are what is judged by: the label in the table that the model does not have.
fn unpaid(served: &Served, item: &FeedbackItem) -> Option<String> {
    let (rewards, view) = (item.rewards.as_ref()?, served.view.load_full()?);
    if view.config.metric != MetricSetting::Rewards {
        return None;
    }
    let classes = view.head.class_names();
    let stray = rewards.keys().find(|label| !classes.contains(label))?;
    Some(format!(
        "'rewards' pays '{}', which is none of the classes {}: name the labels as answers do",
        clip(stray),
        classes.join(", ")
    ))
}
