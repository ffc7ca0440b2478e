//! Wire types of the short forms: what `/feedback`, health and the admin routes say. The `/predict` reply is written
//! by `http::encode` without going through a type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::clip;
use crate::error::{Error, Kind};

/// Longest author or reason of an order.
const MAX_WORDS_BYTES: usize = 1024;
/// Most items that a streamed answer lists.
pub const MAX_LISTED: usize = 1_000;

/// What became of one reported label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemStatus {
    /// As sent; absent where the item had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `accepted`, `late`, `duplicate`, `conflict`, `unrecorded`, `unknown`, `expired` or `invalid`.
    pub status: &'static str,
    /// What to change, where the status is `invalid`; of others, what the status does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All statuses of a label, for counters that exist from the start.
pub const STATUSES: [&str; 8] = [
    "accepted",
    "late",
    "duplicate",
    "conflict",
    "unrecorded",
    "unknown",
    "expired",
    "invalid",
];

/// The answer to a JSON `/feedback`.
#[derive(Debug, Serialize)]
pub struct FeedbackReply<'a> {
    /// The model that was named, or the only one; absent where every item names its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// How many were accepted.
    pub accepted: usize,
    /// In the order sent.
    pub results: &'a [ItemStatus],
}

/// The answer to a streamed `/feedback`.
#[derive(Debug, Default, Serialize)]
pub struct StreamReply {
    /// How many were accepted.
    pub accepted: u64,
    /// How many of each status.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first items that were not accepted.
    pub rejected: Vec<Rejected>,
}

/// A line that was not accepted.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// Counted from 1.
    pub line: u64,
    /// What became of it.
    #[serde(flatten)]
    pub item: ItemStatus,
}

impl StreamReply {
    /// Counts one line.
    pub fn add(&mut self, line: u64, item: ItemStatus) {
        *self.counts.entry(item.status).or_default() += 1;
        if item.status == "accepted" {
            self.accepted += 1;
        } else if self.rejected.len() < MAX_LISTED {
            self.rejected.push(Rejected { line, item });
        }
    }
}

/// What a person may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the routes")]
pub enum Action {
    Promote,
    Rollback,
    Hold,
    Resume,
    Retire,
    Approve,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Promote,
        Self::Rollback,
        Self::Hold,
        Self::Resume,
        Self::Retire,
        Self::Approve,
    ];

    /// The route's last segment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Retire => "retire",
            Self::Approve => "approve",
        }
    }
}

/// A person's order: who and why, and which version where the action needs one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object with 'author' and 'reason'")]
pub struct Order {
    /// The version.
    pub version: Option<String>,
    /// Who.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The author is whoever has the key of this name.
    #[serde(skip)]
    pub has_key: bool,
}

impl Order {
    /// Reads and checks an order.
    ///
    /// # Errors
    /// Not JSON, or no author or reason.
    pub fn parse(body: &[u8], key: Option<&str>) -> Result<Self, Error> {
        let mut order: Self = serde_json::from_slice(body).map_err(|e| {
            let text = format!("the order is not JSON as expected ({e}): send {{\"author\":…,\"reason\":…}}");
            Error::new(Kind::MalformedJson, text)
        })?;
        sign(&mut order.author, &mut order.reason, key)?;
        order.has_key = key.is_some();
        Ok(order)
    }
}

/// Whether an order says who gives it, and why. Its author is whoever has the key; another name that the body gives is
/// kept beside the reason.
fn sign(author: &mut String, reason: &mut String, key: Option<&str>) -> Result<(), Error> {
    if let Some(key) = key {
        let note = std::mem::replace(author, key.to_owned());
        signed(author, reason)?;
        if !note.trim().is_empty() && note != *author {
            signed(&note, reason)?;
            reason.push_str(&format!(" (signed: {note})"));
        }
    }
    signed(author, reason)
}

fn signed(author: &str, reason: &str) -> Result<(), Error> {
    for (key, words) in [("author", author), ("reason", reason)] {
        if words.trim().is_empty() {
            let text = format!("'{key}' is missing: say who orders it and why, it is recorded");
            return Err(Error::new(Kind::BadRequest, text));
        }
        if words.len() > MAX_WORDS_BYTES {
            let text = format!("'{key}' is longer than {MAX_WORDS_BYTES} bytes: {}", clip(words));
            return Err(Error::new(Kind::BadRequest, text));
        }
    }
    Ok(())
}

/// Whose rows are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A prediction id, or an id of the caller's own.
    Id(String),
    /// All rows of an entity.
    Entity(String),
}

/// Which versions of a model are to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All.
    All,
    /// The one of this name, or whose digest begins so.
    One(String),
    /// How the second differs from the first.
    Two([String; 2]),
}

/// Rows that are to be erased, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with 'ids' or 'entities', 'author' and 'reason'"
)]
pub struct Erasure {
    /// Prediction ids, or ids of the caller's own.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Entities.
    #[serde(default)]
    pub entities: Vec<String>,
    /// Who.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl Erasure {
    /// Reads and checks an order to erase.
    ///
    /// # Errors
    /// Not JSON, nothing or too much to erase, or no author or reason.
    pub fn parse(body: &[u8], key: Option<&str>) -> Result<Self, Error> {
        let mut order: Self = serde_json::from_slice(body).map_err(|e| {
            let text = format!(
                "the order is not JSON as expected ({e}): send {{\"ids\":[…],\"entities\":[…],\"author\":…,\"reason\":…}}"
            );
            Error::new(Kind::MalformedJson, text)
        })?;
        sign(&mut order.author, &mut order.reason, key)?;
        let names = order.ids.len() + order.entities.len();
        if !(1..=MAX_LISTED).contains(&names) {
            let text = format!("name between 1 and {MAX_LISTED} 'ids' and 'entities' whose rows are to be erased");
            return Err(Error::new(Kind::BadRequest, text));
        }
        Ok(order)
    }
}

/// An order to issue ids under a new key, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with 'author' and 'reason'")]
pub struct Rotation {
    /// Who.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Even where labels may still come for ids that are refused then.
    #[serde(default)]
    pub force: bool,
}

impl Rotation {
    /// Reads and checks an order to rotate.
    ///
    /// # Errors
    /// Not JSON, or no author or reason.
    pub fn parse(body: &[u8], key: Option<&str>) -> Result<Self, Error> {
        let mut order: Self = serde_json::from_slice(body).map_err(|e| {
            let text =
                format!("the order is not JSON as expected ({e}): send {{\"author\":…,\"reason\":…,\"force\":false}}");
            Error::new(Kind::MalformedJson, text)
        })?;
        sign(&mut order.author, &mut order.reason, key)?;
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_its_author_and_its_reason() {
        let order = Order::parse(br#"{"version":"e02","author":"ada","reason":"drift","more":1}"#, None).unwrap();
        assert_eq!(order.version.as_deref(), Some("e02"));
        let long = format!(r#"{{"author":"a","reason":"{}"}}"#, "x".repeat(1025));
        for (body, says) in [
            (r#"{"author":"ada"}"#, "'reason'"),
            (r#"{"author":" ","reason":"x"}"#, "'author'"),
            ("[]", "not JSON"),
            (&long, "longer"),
        ] {
            assert!(
                Order::parse(body.as_bytes(), None).unwrap_err().message.contains(says),
                "{body}"
            );
        }
    }

    #[test]
    fn the_author_of_an_order_is_whoever_has_the_key_and_the_bodys_name_is_a_note() {
        let of = |body: &str| Order::parse(body.as_bytes(), Some("ops")).map(|order| (order.author, order.reason));
        let said = |author: &str, reason: &str| Ok((author.to_owned(), reason.to_owned()));
        assert_eq!(of(r#"{"reason":"drift"}"#), said("ops", "drift"));
        assert_eq!(of(r#"{"author":"ops","reason":"drift"}"#), said("ops", "drift"));
        assert_eq!(
            of(r#"{"author":"ada","reason":"drift"}"#),
            said("ops", "drift (signed: ada)")
        );
        assert!(of(r#"{"author":"ada"}"#).is_err());
    }

    #[test]
    fn a_streamed_answer_lists_no_more_than_it_may() {
        let mut reply = StreamReply::default();
        for line in 1..=1_500 {
            let status = if line % 3 == 0 { "accepted" } else { "unknown" };
            let item = ItemStatus {
                id: Some("x".into()),
                status,
                error: None,
            };
            reply.add(line, item);
        }
        assert_eq!(
            (reply.accepted, reply.counts["unknown"], reply.rejected.len()),
            (500, 1_000, MAX_LISTED)
        );
        let first = serde_json::to_value(&reply.rejected[0]).unwrap();
        assert_eq!(first, serde_json::json!({"line": 1, "id": "x", "status": "unknown"}));
    }
}
