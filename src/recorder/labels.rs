//! Labels that come late: joined to their rows, in the order sent.

use std::sync::Arc;

use serde::Serialize;

use super::Core;
use crate::decode::Remark;
use crate::ledger::{LabelRow, LedgerError, MOST_REMARKS, Remarked, Report, RewardRow, Writer};
use crate::score::{ModelNo, Truth};
use crate::span::Clock;

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// On disk, and evidence when its row closes.
    Accepted,
    /// On disk, but after maturity: no evidence.
    Late,
    /// The same label was there already.
    Duplicate,
    /// Another label was there already; this one is kept as a correction.
    Conflict,
    /// The id is ours, the row was never recorded.
    Unrecorded,
    /// Not an id of ours.
    Unknown,
    /// After the horizon.
    Expired,
    /// The item says nothing usable.
    Invalid,
}

impl Status {
    /// All statuses, for counters that exist from the start.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Late,
        Self::Duplicate,
        Self::Conflict,
        Self::Unrecorded,
        Self::Unknown,
        Self::Expired,
        Self::Invalid,
    ];

    /// Name on the wire and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Unrecorded => "unrecorded",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
        }
    }
}

/// How a label names its row.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelKey {
    /// A generated id whose tag verified: its number, and the time that it holds (Unix ms).
    Ours {
        /// The row's id.
        id: i64,
        /// When it was issued.
        time_ms: i64,
    },
    /// The caller's own id.
    Caller(String),
    /// A text with our prefix that we never issued.
    Foreign,
}

/// A label as it comes in, its meaning in the model's interface already found.
#[derive(Debug, Clone)]
pub struct LabelItem {
    /// The model that it was sent for.
    pub model: ModelNo,
    /// The row.
    pub key: LabelKey,
    /// The label as JSON, as sent.
    pub label: String,
    /// Its meaning, or why it has none; `None` where only rewards were reported.
    pub truth: Result<Option<Truth>, String>,
    /// In (0, 1].
    pub weight: f64,
    /// What the answer earned, where one number says it.
    pub reward: Option<f64>,
    /// All rewards, as JSON.
    pub extra: Option<String>,
    /// What somebody thinks of the answer: never evidence.
    pub remark: Option<Remark>,
    /// Who reports it; `None` where nobody is asked for a key.
    pub reporter: Option<Reporter>,
}

/// An API key that reports labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// Its name.
    pub key: Arc<str>,
    /// The model's settings trust it: while a row is open its label goes before those of others.
    pub is_trusted: bool,
}

/// The answer to one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemStatus {
    /// What became of it.
    pub status: Status,
    /// Why, where it is invalid, or where the status does not say it all.
    pub error: Option<String>,
}

/// Said of a label whose row is from a time of which nothing is left, though labels may still come.
const FORCED_OUT: &str = "rows of that time were removed before their label horizon, because retention.ledger_bytes was \
                          reached: raise it, or report sooner";

impl From<Status> for ItemStatus {
    fn from(status: Status) -> Self {
        Self { status, error: None }
    }
}

impl Core {
    /// Whether anything can be said of these labels: not before the books of their models are open.
    pub(super) fn may_label(&self, items: &[LabelItem]) -> bool {
        items
            .iter()
            .all(|item| item.truth.is_err() || self.books.contains_key(&item.model))
    }

    pub(super) fn label(
        &mut self,
        writer: &Writer<'_>,
        items: &[LabelItem],
        received_ms: i64,
    ) -> Result<Vec<ItemStatus>, LedgerError> {
        items
            .iter()
            .map(|item| self.label_one(writer, item, received_ms))
            .collect()
    }

    fn label_one(
        &mut self,
        writer: &Writer<'_>,
        item: &LabelItem,
        received_ms: i64,
    ) -> Result<ItemStatus, LedgerError> {
        let truth = match &item.truth {
            Ok(truth) => *truth,
            Err(error) => {
                return Ok(ItemStatus {
                    status: Status::Invalid,
                    error: Some(error.clone()),
                });
            }
        };
        let Some(book) = self.books.get_mut(&item.model) else {
            return Ok(Status::Unknown.into());
        };
        // The id says it itself: nothing is asked of the ledger.
        if let LabelKey::Ours { time_ms, .. } = item.key
            && book.is_expired(Clock { row: u64::MAX, time_ms }, received_ms)
        {
            return Ok(Status::Expired.into());
        }
        let id = match &item.key {
            LabelKey::Ours { id, .. } => *id,
            LabelKey::Foreign => return Ok(Status::Unknown.into()),
            LabelKey::Caller(caller_id) => match writer.id_of_caller(item.model, caller_id)? {
                Some(id) => id,
                None => return Ok(Status::Unknown.into()),
            },
        };
        book.has_principals |= item.reporter.is_some();
        let Some((position, time_ms)) = writer.position(id)? else {
            // Only an id of ours gets here: the row was opted out, sampled out, pinned, shed, or was pruned.
            return Ok(match id {
                id if id <= book.kept.expired_id => Status::Expired.into(),
                id if id <= book.kept.forced_id => {
                    self.keeping.count_label();
                    ItemStatus {
                        status: Status::Unrecorded,
                        error: Some(FORCED_OUT.into()),
                    }
                }
                _ => Status::Unrecorded.into(),
            });
        };
        if position.model != item.model {
            return Ok(Status::Unknown.into());
        }
        let clock = Clock {
            row: position.row,
            time_ms,
        };
        if book.is_expired(clock, received_ms) {
            return Ok(Status::Expired.into());
        }
        let place = Place {
            id,
            received_ms,
            late: book.is_closed(clock),
        };
        let remarked = match &item.remark {
            None => None,
            // Before anything else of the item, which is then refused as a whole.
            Some(remark) => match writer.insert_remark(id, received_ms, remark)? {
                Remarked::New => Some(Status::Accepted),
                Remarked::Known => Some(Status::Duplicate),
                Remarked::Full => {
                    let error = format!(
                        "the row has {MOST_REMARKS} votes, comments and disputes already: nothing of this item was stored"
                    );
                    return Ok(ItemStatus {
                        status: Status::Invalid,
                        error: Some(error),
                    });
                }
            },
        };
        let rewarded = match place.reward(writer, item)? {
            Some(rewarded) => Some(both(rewarded, remarked)),
            None => remarked,
        };
        let Some(truth) = truth else {
            return Ok(rewarded.unwrap_or(Status::Duplicate).into());
        };
        let labelled = place.label(writer, item, truth)?;
        if matches!(labelled, Status::Accepted | Status::Late) {
            book.note_delay(clock, received_ms, place.late);
        }
        if labelled == Status::Late {
            book.count_late();
        }
        Ok(both(labelled, rewarded).into())
    }
}

/// Where and when a report arrives.
struct Place {
    id: i64,
    received_ms: i64,
    late: bool,
}

impl Place {
    fn new_here(&self) -> Status {
        if self.late { Status::Late } else { Status::Accepted }
    }

    fn label(&self, writer: &Writer<'_>, item: &LabelItem, truth: Truth) -> Result<Status, LedgerError> {
        let extra = item.extra.as_deref();
        let label = LabelRow {
            label: item.label.clone(),
            truth,
            weight: item.weight,
            late: self.late,
        };
        let known = writer.label(self.id)?;
        let is_same = |known: &LabelRow| known.truth == label.truth && known.weight.to_bits() == label.weight.to_bits();
        let goes_before = match (&known, &item.reporter) {
            (Some(_), Some(reporter)) if reporter.is_trusted && !self.late => {
                self.is_anothers(writer, &reporter.key)?
            }
            _ => false,
        };
        let key = item.reporter.as_ref().map(|reporter| &*reporter.key);
        match known {
            Some(known) if is_same(&known) => {
                if goes_before {
                    // Confirmed: it is the trusted key's from now on.
                    writer.put_reporter(self.id, Report::Label, key)?;
                }
                return Ok(Status::Duplicate);
            }
            Some(_) if !goes_before => {
                let no = writer.insert_correction(self.id, self.received_ms, &label, extra)?;
                if key.is_some() {
                    writer.put_reporter(self.id, Report::Correction(no), key)?;
                }
                return Ok(Status::Conflict);
            }
            Some(_) => writer.set_label_aside(self.id)?,
            None => {}
        }
        writer.insert_label(self.id, self.received_ms, &label, extra)?;
        if key.is_some() {
            writer.put_reporter(self.id, Report::Label, key)?;
        }
        Ok(self.new_here())
    }

    /// Whether the row's label came from somebody else. Who else is trusted is not known here: between two trusted keys the
    /// later one counts.
    fn is_anothers(&self, writer: &Writer<'_>, key: &str) -> Result<bool, LedgerError> {
        Ok(writer.reported_by(self.id, Report::Label)?.as_deref() != Some(key))
    }

    /// `None` where the item reports no reward.
    fn reward(&self, writer: &Writer<'_>, item: &LabelItem) -> Result<Option<Status>, LedgerError> {
        let Some(extra) = &item.extra else { return Ok(None) };
        let reward = RewardRow {
            reward: item.reward,
            weight: item.weight,
            late: self.late,
            extra: extra.clone(),
        };
        Ok(Some(match writer.reward(self.id)? {
            Some(known) if known.extra == reward.extra && known.weight.to_bits() == reward.weight.to_bits() => {
                Status::Duplicate
            }
            Some(_) => {
                // A label that comes along brings its rewards into the corrections, or among the labels, itself.
                if matches!(item.truth, Ok(None)) {
                    writer.insert_reward_correction(self.id, self.received_ms, &reward)?;
                }
                Status::Conflict
            }
            None => {
                writer.insert_reward(self.id, self.received_ms, &reward)?;
                if let Some(reporter) = &item.reporter {
                    writer.put_reporter(self.id, Report::Reward, Some(&reporter.key))?;
                }
                self.new_here()
            }
        }))
    }
}

/// The word on a label with rewards: what differs is said before what is new, and that before what is known.
fn both(label: Status, reward: Option<Status>) -> Status {
    let said = [Some(label), reward];
    let order = [Status::Conflict, Status::Late, Status::Accepted];
    let found = order.into_iter().find(|status| said.contains(&Some(*status)));
    found.unwrap_or(label)
}
