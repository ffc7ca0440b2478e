//! What there is to tell: the ledger now, against what has been told.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::told::{Labels, Told};
use crate::judge::verdict::WAITS;
use crate::ledger::{DecisionRow, LedgerError, RefusedRow, RetrainingRow, VerdictRow, Writer};
use crate::time::rfc3339;

/// Read in one look; what is beyond comes with the next.
const AT_ONCE: u32 = 256;
/// Refused versions that are kept in mind.
const REFUSED: u32 = 4_096;

/// Kinds of events, by the names that settings and bodies have for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The judge's or a person's new champion, and the first one.
    Promotion,
    /// Back to the previous champion.
    Rollback,
    /// Any other word of a person: hold, resume, retire.
    Order,
    /// A challenger has won, and waits for a person.
    Recommendation,
    /// A file is refused.
    Refusal,
    /// A version crashed or hung too often.
    Quarantine,
    /// The ledger cannot be written: nothing is promoted.
    Freeze,
    /// It can again.
    Thaw,
    /// Labels that used to come do not.
    LabelsSilent,
    /// They do again.
    LabelsBack,
    /// Rows have left to be learned from, and the command that learns has ended.
    Retrain,
}

impl Kind {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 11] = [
        ("promotion", Self::Promotion),
        ("rollback", Self::Rollback),
        ("order", Self::Order),
        ("recommendation", Self::Recommendation),
        ("refusal", Self::Refusal),
        ("quarantine", Self::Quarantine),
        ("freeze", Self::Freeze),
        ("thaw", Self::Thaw),
        ("labels_silent", Self::LabelsSilent),
        ("labels_back", Self::LabelsBack),
        ("retrain", Self::Retrain),
    ];

    /// As settings and bodies have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same at each try, and after a restart.
    pub id: String,
    /// What.
    pub kind: Kind,
    /// When it happened, or was seen; Unix ms.
    pub time_ms: i64,
    /// The particulars.
    pub data: Value,
}

impl Event {
    /// The JSON that is posted.
    pub(super) fn body(&self) -> String {
        json!({"type": self.kind.name(), "timestamp": rfc3339(self.time_ms), "data": self.data}).to_string()
    }
}

/// How far one step brings the telling.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    Decision(i64),
    Verdict(i64),
    Refused(u32, String),
    Forgotten(u32),
    Frozen(Option<i64>),
    Labels(u32, Labels),
    Exported(i64),
    Retrained(i64),
}

impl Told {
    pub(super) fn mark(&mut self, mark: Mark) {
        match mark {
            Mark::Decision(n) => self.decision = n,
            Mark::Verdict(no) => self.verdict = no,
            Mark::Refused(no, as_what) => drop(self.refused.insert(no, as_what)),
            Mark::Forgotten(no) => drop(self.refused.remove(&no)),
            Mark::Frozen(since) => self.frozen = since,
            Mark::Labels(model, labels) => drop(self.labels.insert(model, labels)),
            Mark::Exported(n) => self.exported = n,
            Mark::Retrained(n) => self.retrained = n,
        }
    }
}

/// An event, if there is one, and how far all is told after it.
pub(super) type Step = (Option<Event>, Mark);

/// A model as far as its labels go.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) model: u32,
    pub(super) name: String,
    /// Labels taken since the process started.
    pub(super) labels: u64,
    /// The last recorded row.
    pub(super) row: u64,
}

/// Everything there is now, as told.
pub(super) fn present(reader: &Writer<'_>) -> Result<Told, LedgerError> {
    let (decision, verdict) = reader.latest_news()?;
    let refused = reader.refused(REFUSED)?;
    let retrained = reader.last_retraining()?;
    Ok(Told {
        decision,
        verdict,
        exported: retrained,
        retrained,
        refused: refused.iter().map(|row| (row.no, as_what(row))).collect(),
        ..Told::default()
    })
}

/// Everything after that.
pub(super) fn since(reader: &Writer<'_>, told: &Told, now: i64) -> Result<Vec<Step>, LedgerError> {
    let mut steps: Vec<Step> = Vec::new();
    for (model, row) in reader.decisions_after(told.decision, AT_ONCE)? {
        let n = row.n;
        steps.push((Some(of_decision(&model, row)), Mark::Decision(n)));
    }
    for row in reader.verdicts_after(told.verdict, AT_ONCE)? {
        steps.push((of_verdict(&row, now), Mark::Verdict(row.no)));
    }
    let refused = reader.refused(REFUSED)?;
    for row in &refused {
        let what = as_what(row);
        if told.refused.get(&row.no) != Some(&what) {
            steps.push((Some(of_refusal(row, now)), Mark::Refused(row.no, what)));
        }
    }
    let gone = told
        .refused
        .keys()
        .filter(|no| !refused.iter().any(|row| row.no == **no));
    steps.extend(gone.map(|no| (None, Mark::Forgotten(*no))));
    let from = told.exported.min(told.retrained) + 1;
    of_retrainings(told, &reader.retrainings_from(from, AT_ONCE)?, &mut steps);
    Ok(steps)
}

/// One event when the rows have left, or will not; another when the command has ended. They are worked on in the order of
/// their numbers.
fn of_retrainings(told: &Told, rows: &[(String, RetrainingRow)], steps: &mut Vec<Step>) {
    let event = |model: &str, row: &RetrainingRow, stage: &str, time_ms: i64| {
        let mut data = crate::retrain::brief(row);
        if let Some(data) = data.as_object_mut() {
            data.insert("model".into(), json!(model));
            data.insert("stage".into(), json!(stage));
        }
        Event {
            id: format!("retrain_{}_{stage}", row.n),
            kind: Kind::Retrain,
            time_ms,
            data,
        }
    };
    for (model, row) in rows {
        if row.n > told.exported {
            if !row.state.has_exported() {
                return;
            }
            let at = row.began_ms.or(row.ended_ms).unwrap_or(row.time_ms);
            steps.push((Some(event(model, row, "exported", at)), Mark::Exported(row.n)));
        }
        if row.n > told.retrained {
            if !row.state.is_over() {
                return;
            }
            let at = row.ended_ms.unwrap_or(row.time_ms);
            let ended = row.command.is_some().then(|| event(model, row, "ended", at));
            steps.push((ended, Mark::Retrained(row.n)));
        }
    }
}

/// The ledger's failure, and its end.
pub(super) fn of_fault(told: &Told, fault: Option<String>, now: i64) -> Option<Step> {
    let event = |kind, since: i64, data| Event {
        id: format!("{}_{since}", Kind::name(kind)),
        kind,
        time_ms: now,
        data,
    };
    match (told.frozen, fault) {
        (None, Some(why)) => {
            let event = event(Kind::Freeze, now, json!({"why": why}));
            Some((Some(event), Mark::Frozen(Some(now))))
        }
        (Some(since), None) => {
            let event = event(Kind::Thaw, since, json!({"frozen_since": rfc3339(since)}));
            Some((Some(event), Mark::Frozen(None)))
        }
        _ => None,
    }
}

/// Labels that stay away, and that come back. A silence needs traffic: without rows there is nothing to report.
pub(super) fn of_labels(told: &Told, flow: &Flow, (now, silence): (i64, i64)) -> Option<Step> {
    let known = told.labels.get(&flow.model).copied().unwrap_or_default();
    let id = |kind: Kind| format!("{}_{}_{}", kind.name(), flow.model, known.since);
    let event = |kind: Kind| Event {
        id: id(kind),
        kind,
        time_ms: now,
        data: json!({"model": flow.name, "last_label": rfc3339(known.since), "rows_since": flow.row.saturating_sub(known.row)}),
    };
    if flow.labels > 0 && flow.labels != known.count {
        let came = Labels {
            count: flow.labels,
            since: now,
            row: flow.row,
            silent: false,
        };
        return Some((
            known.silent.then(|| event(Kind::LabelsBack)),
            Mark::Labels(flow.model, came),
        ));
    }
    let is_silent = known.since > 0 && now.saturating_sub(known.since) >= silence && flow.row > known.row;
    if is_silent && !known.silent {
        let silent = Labels { silent: true, ..known };
        return Some((Some(event(Kind::LabelsSilent)), Mark::Labels(flow.model, silent)));
    }
    None
}

fn of_decision(model: &str, row: DecisionRow) -> Event {
    let kind = match row.kind.as_str() {
        "promotion" | "first" => Kind::Promotion,
        "rollback" => Kind::Rollback,
        _ => Kind::Order,
    };
    Event {
        id: format!("decision_{}", row.n),
        kind,
        time_ms: row.time_ms,
        data: json!({
            "model": model, "n": row.n, "kind": row.kind, "from": row.from, "to": row.to, "author": row.author,
            "reason": row.reason, "why": row.why,
        }),
    }
}

/// Only a winner that nobody crowns is told: the others are promoted, or go on.
fn of_verdict(row: &VerdictRow, now: i64) -> Option<Event> {
    let verdict: Value = serde_json::from_str(&row.verdict).ok()?;
    let why = verdict.get("why")?.as_str().filter(|why| why.contains(WAITS))?;
    Some(Event {
        id: format!("verdict_{}", row.no),
        kind: Kind::Recommendation,
        time_ms: now,
        data: json!({"model": row.model, "version": row.version, "why": why, "labels": verdict.get("labels")}),
    })
}

fn as_what(row: &RefusedRow) -> String {
    format!("{} {} {}", row.role, row.digest, row.reason)
}

fn of_refusal(row: &RefusedRow, now: i64) -> Event {
    let kind = match row.role.as_str() {
        "quarantined" => Kind::Quarantine,
        _ => Kind::Refusal,
    };
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(as_what(row)));
    let short = u32::from_be_bytes([a, b, c, d]);
    Event {
        id: format!("{}_{}_{short:08x}", kind.name(), row.no),
        kind,
        time_ms: now,
        data: json!({"model": row.model, "version": row.version, "digest": row.digest, "reason": row.reason}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn flow(labels: u64, row: u64) -> Flow {
        Flow {
            model: 1,
            name: "m".into(),
            labels,
            row,
        }
    }

    fn step(told: &mut Told, flow: &Flow, now: i64) -> Option<Kind> {
        let (event, mark) = of_labels(told, flow, (now, DAY))?;
        told.mark(mark);
        event.map(|event| event.kind)
    }

    #[test]
    fn labels_fall_silent_once_and_only_where_they_used_to_come_and_rows_still_do() {
        let mut told = Told::default();
        assert_eq!(step(&mut told, &flow(0, 1_000), 10 * DAY), None, "none ever came");
        assert_eq!(step(&mut told, &flow(5, 1_000), 10 * DAY), None);
        assert_eq!(step(&mut told, &flow(5, 1_000), 12 * DAY), None, "no rows either");
        // After a restart nothing is counted yet.
        assert_eq!(step(&mut told, &flow(0, 1_001), 11 * DAY - 1), None);
        assert_eq!(step(&mut told, &flow(0, 1_001), 11 * DAY), Some(Kind::LabelsSilent));
        assert_eq!(step(&mut told, &flow(0, 2_001), 13 * DAY), None, "told once");
        assert_eq!(step(&mut told, &flow(1, 2_001), 13 * DAY), Some(Kind::LabelsBack));
        assert_eq!(step(&mut told, &flow(2, 2_001), 13 * DAY), None);
    }

    #[test]
    fn a_failure_of_the_ledger_is_told_once_and_its_end_too() {
        let mut told = Told::default();
        let mut kinds = Vec::new();
        for (now, fault) in [(1, None), (2, Some("disk")), (3, Some("disk")), (4, None), (5, None)] {
            if let Some((event, mark)) = of_fault(&told, fault.map(str::to_owned), now) {
                told.mark(mark);
                kinds.push((now, event.unwrap().kind));
            }
        }
        assert_eq!(kinds, [(2, Kind::Freeze), (4, Kind::Thaw)]);
    }
}
