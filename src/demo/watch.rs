//! The admin API seen through the demo's eyes: who is champion, what changed since the last look, how far the
//! shadows lag behind.
//!
//! Always holds: every decision and every change of a version's role is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::screen::Event;
use crate::cli::status::{ModelStatus, VersionStatus};
use crate::cli::{answer_of, parse};
use crate::client::Client;

/// How long the admission of one file may take.
const ADMISSION_LIMIT: Duration = Duration::from_secs(60);
/// How long the replay waits for shadows that lag; a shadow that has died never catches up.
const LAG_LIMIT: Duration = Duration::from_secs(2);
/// So often the replay waits in vain; then the shadows are left to themselves, and verdicts come when they come.
const VAIN_WAITS: usize = 5;
/// Pause between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(10);

/// A line of `GET /api/models/{m}/decisions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Decision {
    n: u64,
    kind: String,
    from: Option<String>,
    to: Option<String>,
    author: Option<String>,
    reason: Option<String>,
    why: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Decisions {
    decisions: Vec<Decision>,
}

/// An eye on one model.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    model: String,
    /// The last answer.
    pub status: ModelStatus,
    /// Promotions back to an earlier champion.
    pub rollbacks: usize,
    roles: BTreeMap<String, String>,
    told: BTreeSet<u64>,
    /// Rows that a version will never account for, found by waiting in vain.
    written_off: BTreeMap<String, u64>,
    vain_waits: usize,
}

impl Watch {
    /// Looks at `model` through the admin listener at `admin`.
    #[must_use]
    pub fn new(admin: &str, model: &str) -> Self {
        Self {
            client: Client::new(admin),
            model: model.to_owned(),
            status: ModelStatus::default(),
            rollbacks: 0,
            roles: BTreeMap::new(),
            told: BTreeSet::new(),
            written_off: BTreeMap::new(),
            vain_waits: 0,
        }
    }

    /// Looks once; gives what is new.
    ///
    /// # Errors
    /// The admin API does not answer as it should.
    pub async fn look(&mut self) -> Result<Vec<Event>, String> {
        let epoch = self.status.champion.as_ref().map(|c| c.epoch);
        let body = self.get(&format!("/api/models/{}", self.model)).await?;
        self.status = parse(&body).map_err(|e| e.to_string())?;
        let mut events = self.new_roles();
        if self.status.champion.as_ref().map(|c| c.epoch) != epoch {
            events.extend(self.decisions().await?);
        }
        Ok(events)
    }

    async fn get(&mut self, path: &str) -> Result<bytes::Bytes, String> {
        let answer = self.client.get(path).await.map_err(|e| e.to_string())?;
        answer_of(answer).map_err(|e| format!("GET {path}: {e}"))
    }

    /// Versions that were admitted or refused, retired or quarantined since the last look.
    fn new_roles(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for version in &self.status.versions {
            let before = self.roles.insert(version.version.clone(), version.role.clone());
            if before.as_deref() == Some(&version.role) {
                continue;
            }
            let reason = version.reason.as_deref().unwrap_or("no reason given");
            let name = &version.version;
            match (version.role.as_str(), before.as_deref()) {
                ("challenger", None | Some("candidate")) => {
                    events.push(Event::Admitted(format!(
                        "{name} passed admission and is shadowed from here on"
                    )));
                }
                ("rejected", _) => events.push(Event::Refused(format!("{name}: {reason}"))),
                ("retired" | "quarantined", _) => {
                    events.push(Event::Refused(format!("{name} is {}: {reason}", version.role)));
                }
                _ => {}
            }
        }
        events
    }

    /// Changes of champion since the last look.
    ///
    /// # Errors
    /// The admin API does not answer as it should.
    pub async fn decisions(&mut self) -> Result<Vec<Event>, String> {
        let body = self.get(&format!("/api/models/{}/decisions", self.model)).await?;
        let list: Decisions = parse(&body).map_err(|e| e.to_string())?;
        let mut events = Vec::new();
        for decision in list.decisions {
            if !self.told.insert(decision.n) {
                continue;
            }
            if decision.kind.contains("rollback") || decision.kind.contains("roll_back") {
                self.rollbacks += 1;
                events.push(Event::RolledBack(decision.words()));
            } else if decision.kind.contains("promot") {
                events.push(Event::Promoted(decision.words()));
            }
        }
        Ok(events)
    }

    /// The state of a version that has left the stage of candidate.
    #[must_use]
    pub fn settled(&self, version: &str) -> Option<&VersionStatus> {
        let mut versions = self.status.versions.iter();
        versions.find(|v| v.version == version && v.role != "candidate")
    }

    /// Waits until the gateway has judged a dropped file.
    ///
    /// # Errors
    /// It did not within the limit.
    pub async fn wait_for(&mut self, version: &str) -> Result<Vec<Event>, String> {
        let end = Instant::now() + ADMISSION_LIMIT;
        let mut events = Vec::new();
        while Instant::now() < end {
            events.extend(self.look().await?);
            if self.settled(version).is_some() {
                return Ok(events);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!(
            "{version} was dropped but neither admitted nor refused within {} s",
            ADMISSION_LIMIT.as_secs()
        ))
    }

    /// Waits while a decision is being carried out, or a shadow is more than `rows` behind; one that does not catch up
    /// is waited for once. A swap takes a fraction of a second: nothing between two half-hours, but a week of the
    /// stream at the speed of its replay.
    ///
    /// # Errors
    /// The admin API does not answer as it should.
    pub async fn wait_for_shadows(&mut self, rows: u64) -> Result<Vec<Event>, String> {
        let end = Instant::now() + LAG_LIMIT;
        let mut events = Vec::new();
        while self.vain_waits < VAIN_WAITS && self.is_behind(rows) {
            if Instant::now() > end {
                self.vain_waits += 1;
                let lags: Vec<(String, u64)> = self.lags().map(|(name, lag)| (name.to_owned(), lag)).collect();
                for (name, lag) in lags {
                    *self.written_off.entry(name).or_default() += lag;
                }
                break;
            }
            tokio::time::sleep(LOOK).await;
            events.extend(self.look().await?);
        }
        Ok(events)
    }

    fn is_behind(&self, rows: u64) -> bool {
        self.status.deciding.is_some() || self.lags().any(|(_, lag)| lag > rows)
    }

    /// Shadowed versions and how many offered rows they have not accounted for.
    fn lags(&self) -> impl Iterator<Item = (&str, u64)> {
        let shadows = self
            .status
            .versions
            .iter()
            .filter(|v| matches!(v.role.as_str(), "challenger" | "previous"));
        shadows.map(|v| {
            let open = v.coverage.as_ref().map_or(0, |c| c.open());
            let gone = self.written_off.get(&v.version).copied().unwrap_or(0);
            (v.version.as_str(), open.saturating_sub(gone))
        })
    }
}

impl Decision {
    fn words(&self) -> String {
        let name = |side: &Option<String>| side.clone().unwrap_or_else(|| "nobody".into());
        let why = match &self.why {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(serde_json::Value::Object(map)) => map.get("why").and_then(|w| Some(w.as_str()?.to_owned())),
            _ => None,
        };
        let reason = why.or_else(|| self.reason.clone()).unwrap_or_default();
        let author = self.author.as_deref().filter(|a| !a.is_empty() && *a != "judge");
        let author = author.map_or_else(String::new, |a| format!(" (by {a})"));
        format!("{} → {}{author}: {reason}", name(&self.from), name(&self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(versions: &str) -> Watch {
        let mut watch = Watch::new("127.0.0.1:1", "elec2");
        watch.status = serde_json::from_str(&format!(r#"{{"model":"elec2","versions":[{versions}]}}"#)).unwrap();
        watch
    }

    #[test]
    fn an_admission_and_a_refusal_are_told_once() {
        let mut watch = watch(
            r#"{"version":"e02","role":"challenger"},{"version":"half","role":"rejected","reason":"not whole"},
               {"version":"new","role":"candidate"}"#,
        );
        let events = watch.new_roles();
        assert!(matches!(&events[..], [Event::Admitted(a), Event::Refused(r)]
            if a.starts_with("e02") && r == "half: not whole"));
        assert!(watch.new_roles().is_empty());
        assert!(watch.settled("new").is_none() && watch.settled("half").is_some());
    }

    #[test]
    fn only_shadows_lag_and_lost_rows_are_waited_for_once() {
        let mut watch = watch(
            r#"{"version":"e01","role":"champion","coverage":{"offered":9}},
               {"version":"e02","role":"challenger","coverage":{"offered":9,"scored":4,"dropped":{"starved":2}}}"#,
        );
        assert_eq!(watch.lags().collect::<Vec<_>>(), [("e02", 3)]);
        watch.written_off.insert("e02".into(), 3);
        assert_eq!(watch.lags().collect::<Vec<_>>(), [("e02", 0)]);
    }
}
