//! Labels: one JSON body, or one line each. A bad item does not spoil the others.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{clip, text, whole, words};
use super::predict::MAX_ID_BYTES;
use crate::error::{Error, Kind};

/// Most versions' labels that one item pays.
const MAX_REWARDS: usize = 1_000;
/// Longest comment, and longest reason of a dispute.
const MAX_WORDS_BYTES: usize = 4_096;

/// What people say of an answer: stored, shown and exported, never evidence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remark {
    /// From −1 (down) to 1 (up).
    pub vote: Option<f64>,
    /// Words.
    pub comment: Option<String>,
    /// The answer is disputed: why, or nothing more than that where it is empty.
    pub dispute: Option<String>,
}

/// One reported outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackItem {
    /// The prediction's id, ours or the caller's.
    pub id: String,
    /// The model, where a line names it.
    pub model: Option<String>,
    /// The outcome: a boolean, a number or a string.
    pub label: Option<Value>,
    /// In (0, 1].
    pub weight: f64,
    /// What each label would have earned.
    pub rewards: Option<BTreeMap<String, f64>>,
    /// What was earned: shown, never evidence.
    pub reward: Option<f64>,
    /// What somebody thinks of the answer.
    pub remark: Option<Remark>,
}

/// An item that is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Its id, where one could be read.
    pub id: Option<String>,
    /// What was wrong and what to change.
    pub error: String,
}

/// An item, or what was wrong with it.
pub type Item = Result<FeedbackItem, Invalid>;

/// A whole JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// The model that all items are for.
    pub model: Option<String>,
    /// In the order sent.
    pub items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'labels'")]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    labels: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'id' and 'label'")]
struct Raw {
    id: String,
    model: Option<String>,
    label: Option<Value>,
    weight: Option<f64>,
    rewards: Option<BTreeMap<String, f64>>,
    reward: Option<f64>,
    vote: Option<Value>,
    comment: Option<String>,
    dispute: Option<Value>,
}

#[derive(Deserialize)]
struct OnlyId {
    id: String,
}

/// Reads `{"model"?, "labels":[…]}`.
///
/// # Errors
/// The body as a whole: not JSON, no `labels`, none or too many of them.
pub fn feedback(body: &[u8], max_items: usize) -> Result<Feedback, Error> {
    let body = text(body)?;
    let parsed: Body<'_> = serde_json::from_str(body).map_err(|e| whole(body, &e))?;
    let labels = parsed.labels.unwrap_or_default();
    if labels.is_empty() {
        return Err(Error::new(
            Kind::EmptyRequest,
            "no label: send {\"labels\":[{\"id\":…,\"label\":…}]}",
        ));
    }
    if labels.len() > max_items {
        return Err(Error::new(
            Kind::TooManyRows,
            format!("more than {max_items} labels: send fewer, or newline-delimited JSON (application/x-ndjson)"),
        ));
    }
    Ok(Feedback {
        model: parsed.model,
        items: labels.iter().map(|raw| item(raw.get())).collect(),
    })
}

/// Reads one line of newline-delimited JSON.
///
/// # Errors
/// What is wrong with the line.
pub fn feedback_line(line: &[u8]) -> Item {
    match text(line) {
        Ok(line) => item(line),
        Err(e) => Err(Invalid {
            id: None,
            error: e.message,
        }),
    }
}

fn item(raw: &str) -> Item {
    match serde_json::from_str::<Raw>(raw) {
        Ok(parsed) => checked(parsed),
        Err(e) => Err(Invalid {
            id: serde_json::from_str::<OnlyId>(raw).ok().map(|only| clip(&only.id)),
            error: format!("{}: send {{\"id\":…,\"label\":…}}", words(&e)),
        }),
    }
}

fn checked(raw: Raw) -> Item {
    let remark = match fault(&raw).map_or_else(|| remark(&raw), Err) {
        Ok(remark) => remark,
        Err(error) => {
            return Err(Invalid {
                id: Some(clip(&raw.id)),
                error,
            });
        }
    };
    Ok(FeedbackItem {
        remark,
        id: raw.id,
        model: raw.model,
        label: raw.label,
        weight: raw.weight.unwrap_or(1.0),
        rewards: raw.rewards,
        reward: raw.reward,
    })
}

fn fault(raw: &Raw) -> Option<String> {
    if !(1..=MAX_ID_BYTES).contains(&raw.id.len()) {
        return Some(format!("'id' has {} bytes: send 1 to {MAX_ID_BYTES}", raw.id.len()));
    }
    let has_outcome = raw.label.is_some() || raw.rewards.is_some() || raw.reward.is_some();
    if !has_outcome && raw.vote.is_none() && raw.comment.is_none() && raw.dispute.is_none() {
        let text = "no 'label', 'rewards' or 'reward', and no 'vote', 'comment' or 'dispute': send the outcome";
        return Some(text.into());
    }
    match &raw.label {
        Some(Value::Array(_) | Value::Object(_)) => {
            return Some("'label' is not a single value: send a number, a string or a boolean".into());
        }
        Some(Value::String(text)) if text.len() > MAX_ID_BYTES => {
            return Some(format!(
                "'label' is longer than {MAX_ID_BYTES} bytes: send the class's name"
            ));
        }
        _ => {}
    }
    if raw.weight.is_some_and(|w| !(w > 0.0 && w <= 1.0)) {
        return Some("'weight' is outside (0, 1]: send a weight above 0 and at most 1".into());
    }
    if raw
        .rewards
        .as_ref()
        .is_some_and(|r| r.is_empty() || r.len() > MAX_REWARDS)
    {
        return Some(format!("'rewards' must pay 1 to {MAX_REWARDS} labels"));
    }
    None
}

/// Vote, comment and dispute; `None` where there is none of them.
fn remark(raw: &Raw) -> Result<Option<Remark>, String> {
    let vote = match &raw.vote {
        None => None,
        Some(Value::String(word)) if word == "up" => Some(1.0),
        Some(Value::String(word)) if word == "down" => Some(-1.0),
        Some(vote) => match vote.as_f64().filter(|vote| (-1.0..=1.0).contains(vote)) {
            Some(vote) => Some(vote),
            None => return Err("'vote' is neither \"up\", \"down\" nor a number from -1 to 1".into()),
        },
    };
    let dispute = match &raw.dispute {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(String::new()),
        Some(Value::String(why)) => Some(why.clone()),
        Some(_) => return Err("'dispute' is neither true nor a text".into()),
    };
    for (key, words) in [("comment", &raw.comment), ("dispute", &dispute)] {
        let length = words.as_ref().map_or(0, String::len);
        if length > MAX_WORDS_BYTES {
            return Err(format!(
                "'{key}' has {length} bytes: send at most {MAX_WORDS_BYTES}, or a link to the rest"
            ));
        }
    }
    let remark = Remark {
        vote,
        // An empty comment says nothing; an empty reason disputes all the same.
        comment: raw.comment.clone().filter(|words| !words.is_empty()),
        dispute,
    };
    Ok((remark != Remark::default()).then_some(remark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_comments_and_disputes_are_read_with_and_without_a_label() {
        let read = |item: &str| feedback_line(item.as_bytes());
        let remark = |vote, comment: Option<&str>, dispute: Option<&str>| Remark {
            vote,
            comment: comment.map(str::to_owned),
            dispute: dispute.map(str::to_owned),
        };
        for (item, expected) in [
            (r#"{"id":"a","vote":"up"}"#, remark(Some(1.0), None, None)),
            (r#"{"id":"a","vote":"down","label":1}"#, remark(Some(-1.0), None, None)),
            (
                r#"{"id":"a","vote":-0.5,"dispute":true}"#,
                remark(Some(-0.5), None, Some("")),
            ),
            (
                r#"{"id":"a","comment":"no\u0007t me","dispute":"wrong person"}"#,
                remark(None, Some("no\u{7}t me"), Some("wrong person")),
            ),
        ] {
            assert_eq!(read(item).unwrap().remark, Some(expected), "{item}");
        }
        // Nothing is said by these.
        assert_eq!(
            read(r#"{"id":"a","label":1,"dispute":false,"comment":""}"#)
                .unwrap()
                .remark,
            None
        );
        let long = format!(r#"{{"id":"a","label":1,"comment":"{}"}}"#, "x".repeat(4_097));
        for (item, says) in [
            (r#"{"id":"a","vote":"sideways"}"#, "'vote' is neither"),
            (r#"{"id":"a","vote":1.5}"#, "'vote' is neither"),
            (r#"{"id":"a","dispute":3}"#, "'dispute' is neither true nor a text"),
            (r#"{"id":"a","comment":7}"#, "expected a string"),
            (&long, "'comment' has 4097 bytes"),
            (
                r#"{"id":"a","vote":null}"#,
                "no 'label', 'rewards' or 'reward', and no 'vote'",
            ),
        ] {
            let bad = read(item).unwrap_err();
            assert!(bad.error.contains(says), "{item}: {}", bad.error);
        }
    }

    #[test]
    fn a_bad_item_is_told_apart_and_the_others_stand() {
        let body = br#"{"model":"m","labels":[{"id":"a","label":1},{"id":"b","label":[1]},{"id":"c"},{"label":1},7,
            {"id":"d","label":1,"weight":0},{"id":"e","label":1,"weight":1.5},{"id":"f","label":true,"weight":0.5},
            {"id":"g","rewards":{"0":-1,"1":0.3}},{"id":"h","reward":2},{"id":"i","label":1e999},{"id":"","label":1},
            {"id":"j","label":1,"label":0},{"id":"k","label":null}]}"#;
        // 1e999 is JSON by its grammar, so it spoils its item only.
        let read = feedback(body, 100).unwrap();
        assert_eq!(read.model.as_deref(), Some("m"));
        let good: Vec<&str> = read.items.iter().flatten().map(|i| i.id.as_str()).collect();
        assert_eq!(good, ["a", "f", "g", "h"]);
        let bad: Vec<Option<&str>> = read
            .items
            .iter()
            .filter_map(|i| i.as_ref().err())
            .map(|i| i.id.as_deref())
            .collect();
        assert_eq!(bad[..3], [Some("b"), Some("c"), None]);
        assert_eq!(bad.len(), 10);
        assert!(
            read.items
                .iter()
                .filter_map(|i| i.as_ref().err())
                .all(|i| !i.error.is_empty())
        );
    }

    #[test]
    fn what_is_wrong_with_an_item_is_said_in_words_of_json() {
        for (item, says) in [
            ("7", "expected an object with 'id' and 'label'"),
            (r#"{"id":"a","label":1,"weight":"x"}"#, "expected a number"),
            (r#"{"id":"a","rewards":[1]}"#, "invalid type: list, expected an object"),
            (r#"{"id":{},"label":1}"#, "invalid type: object, expected a string"),
            (
                &format!(r#"{{"id":"a","weight":"{}"}}"#, "x".repeat(999)),
                "xx…, expected a number",
            ),
            // What the client has written itself is repeated as it is.
            (
                r#"{"id":"a","weight":"expected f64"}"#,
                "\"expected f64\", expected a number",
            ),
        ] {
            let error = feedback_line(item.as_bytes()).unwrap_err().error;
            assert!(error.contains(says), "{item}: {error}");
        }
    }

    #[test]
    fn a_body_without_labels_or_with_too_many_is_refused() {
        for (body, kind) in [
            (&b"{}"[..], Kind::EmptyRequest),
            (b"{\"labels\":[]}", Kind::EmptyRequest),
            (b"{\"labels\":[1,2,3]}", Kind::TooManyRows),
            (b"{\"labels\":{}}", Kind::WrongType),
            (b"{\"labels\":[", Kind::MalformedJson),
            (b"\xff", Kind::MalformedJson),
        ] {
            assert_eq!(
                feedback(body, 2).unwrap_err().kind,
                kind,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        assert!(feedback_line(b"\xff\xfe").is_err() && feedback_line(b"{\"id\":\"x\",\"label\":0}").is_ok());
    }
}
