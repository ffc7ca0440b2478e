//! Reported labels: which row, which truth, then through the recorder.

use std::sync::Arc;

use super::Gateway;
use crate::decode::FeedbackItem;
use crate::error::{Error, Kind};
use crate::http::backend::Backend;
use crate::protocol::ItemStatus;
use crate::recorder::{LabelItem, LabelKey};
use crate::served::Served;
use crate::time::now_ms;

impl Gateway {
    /// One status per item, in order, after all are on disk.
    pub(super) async fn take_labels(
        &self,
        model: Option<&str>,
        items: Vec<FeedbackItem>,
    ) -> Result<Vec<ItemStatus>, Error> {
        let mut statuses: Vec<Option<ItemStatus>> = Vec::with_capacity(items.len());
        let mut sent = Vec::with_capacity(items.len());
        let mut places = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            match self.resolve(item.model.as_deref().or(model)) {
                Ok(served) => {
                    statuses.push(None);
                    places.push((place, item.id.clone(), Arc::clone(&served)));
                    sent.push(self.label(&served, &item));
                }
                // A body whose model does not exist is refused as a whole, a line that names none by itself.
                Err(error) if item.model.is_none() => return Err(error),
                Err(error) => statuses.push(Some(ItemStatus {
                    id: Some(item.id),
                    status: "invalid",
                    error: Some(error.message),
                })),
            }
        }
        let answers = self.recorder.labels(sent, now_ms()).await?;
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

    fn label(&self, served: &Served, item: &FeedbackItem) -> LabelItem {
        let truth = match (&item.label, &*served.view.load()) {
            (Some(label), Some(view)) => view.head.truth(label),
            (None, _) => Err("label is missing: send the row's outcome".into()),
            (_, None) => Err("the model has no champion yet, so there is nothing to label".into()),
        };
        let extra = (item.rewards.is_some() || item.reward.is_some())
            .then(|| serde_json::json!({"rewards": item.rewards, "reward": item.reward}).to_string());
        LabelItem {
            model: served.no,
            key: self.key(&item.id),
            label: item.label.as_ref().map(ToString::to_string).unwrap_or_default(),
            truth,
            weight: item.weight,
            extra,
        }
    }

    fn key(&self, id: &str) -> LabelKey {
        if !id.starts_with("p1_") {
            return LabelKey::Caller(id.to_owned());
        }
        match self.ids.key().parse(id) {
            Some(parsed) => LabelKey::Ours {
                id: parsed.number,
                time_ms: parsed.time_ms,
            },
            None => LabelKey::Foreign,
        }
    }
}
