//! What the demo sends to the data listener and reads from it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::client::Answer;
use crate::demo::stream::Instance;

#[derive(Serialize)]
pub(super) struct PredictBody<'a> {
    pub(super) model: &'a str,
    pub(super) instances: [Instance<'a>; 1],
}

#[derive(Deserialize)]
pub(super) struct Predicted {
    pub(super) version: String,
    pub(super) predictions: Vec<Prediction>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Prediction {
    pub(super) id: String,
    pub(super) score: f64,
}

#[derive(Serialize)]
pub(super) struct FeedbackBody<'a> {
    pub(super) model: &'a str,
    pub(super) labels: Vec<Label<'a>>,
}

#[derive(Serialize)]
pub(super) struct Label<'a> {
    pub(super) id: &'a str,
    pub(super) label: u8,
}

#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) results: Vec<LabelResult>,
}

#[derive(Deserialize)]
pub(super) struct LabelResult {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) error: Option<String>,
}

pub(super) fn json(body: &impl Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|e| e.to_string())
}

pub(super) fn read_prediction((status, body): &Answer) -> Result<(String, Prediction), String> {
    let whole = || String::from_utf8_lossy(body).chars().take(300).collect::<String>();
    if *status != 200 {
        return Err(format!("status {status}: {}", whole()));
    }
    let predicted: Predicted = serde_json::from_slice(body).map_err(|e| format!("{e} in {}", whole()))?;
    let mut predictions = predicted.predictions.into_iter();
    match (predictions.next(), predictions.next()) {
        (Some(one), None) => Ok((predicted.version, one)),
        _ => Err(format!("one row was sent, and the answer is {}", whole())),
    }
}

/// What is wrong with the answer to a batch of labels, an item per label.
pub(super) fn feedback_problems(answer: Result<Answer, String>) -> Vec<String> {
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(e) => return vec![e],
    };
    if status != 200 {
        return vec![format!("status {status}: {}", String::from_utf8_lossy(&body))];
    }
    match serde_json::from_slice::<Told>(&body) {
        Err(e) => vec![e.to_string()],
        Ok(told) => {
            let wrong = told
                .results
                .into_iter()
                .filter(|r| !matches!(r.status.as_str(), "accepted" | "duplicate"));
            wrong
                .map(|r| format!("{} is {} {}", r.id, r.status, r.error.unwrap_or_default()))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accepted_and_repeated_labels_pass() {
        let body =
            br#"{"model":"m","accepted":1,"results":[{"id":"a","status":"accepted"},{"id":"b","status":"duplicate"},
            {"id":"c","status":"late"},{"id":"d","status":"invalid","error":"2 is no label"}]}"#;
        let problems = feedback_problems(Ok((200, Bytes::from_static(body))));
        assert_eq!(problems, ["c is late ", "d is invalid 2 is no label"]);
        assert_eq!(feedback_problems(Ok((503, Bytes::from_static(b"no")))).len(), 1);
    }

    #[test]
    fn an_answer_to_one_row_has_one_prediction() {
        let one = br#"{"model":"m","version":"e01","predictions":[{"id":"p1_x","score":0.25,"label":0}]}"#;
        let (version, prediction) = read_prediction(&(200, Bytes::from_static(one))).unwrap();
        assert_eq!(
            (version.as_str(), prediction.score, prediction.id.as_str()),
            ("e01", 0.25, "p1_x")
        );
        let none = br#"{"model":"m","version":"e01","predictions":[]}"#;
        assert!(read_prediction(&(200, Bytes::from_static(none))).is_err());
        assert!(
            read_prediction(&(429, Bytes::from_static(b"{}")))
                .unwrap_err()
                .contains("429")
        );
    }
}
