//! A state directory as it is read afterwards: one model's ledger, settings, and how its rows closed.
//!
//! Always holds: nothing is written, and all of it is of one moment, whether or not a gateway goes on beside.

use std::path::{Path, PathBuf};

use crate::config::{EvidenceFrom, ModelConfig, VersionConfig};
use crate::control::policy;
use crate::id::IdKey;
use crate::judge::pair::ClosedRow;
use crate::ledger::{
    Kept, Ledger, LedgerError, ModelRow, OpenRow, Overlap, RecordedDecision, VersionRow, Writer, is_held,
};
use crate::model::facts::{Facts, unpack};
use crate::model::head::Head;
use crate::recorder::closed::Terms;
use crate::recorder::groups::Groups;
use crate::recorder::{Closing, Event};
use crate::score::{Truth, VersionNo};

/// A journal entry, read.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Its number.
    pub no: i64,
    /// The last row that was folded before it.
    pub after_row: u64,
    /// Unix ms.
    pub time_ms: i64,
    /// What happened.
    pub event: Event,
}

/// See the module.
#[derive(Debug)]
pub struct Past {
    ledger: Ledger,
    /// A gateway holds the state directory.
    pub held: bool,
    /// The model.
    pub row: ModelRow,
    /// Its versions.
    pub versions: Vec<VersionRow>,
    /// Its settings as the ledger knows them.
    pub config: ModelConfig,
    /// How the champion's outputs and everybody's labels are read.
    pub head: Option<Head>,
    /// When rows close.
    pub closing: Closing,
    /// Its journal.
    pub journal: Vec<Happened>,
    /// How far it was pruned.
    pub kept: Kept,
    /// A row has named an entity.
    has_entities: bool,
    /// A label was reported under a key.
    pub(super) has_principals: bool,
    state: PathBuf,
}

/// What became of a recorded row, as far as the ledger still knows.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// It had neither a label nor anything that silence counts as.
    PassedOver,
    /// What it was answered with is no longer there.
    Gone,
    /// An outcome that must be there is not.
    Damaged(String),
    /// It closed so, by itself or with earlier rows of its entity.
    Rows(Vec<ClosedRow>),
}

impl Past {
    /// Reads one model of a state directory: the one named, else the only one.
    ///
    /// # Errors
    /// What is wrong, and what to change.
    pub fn open(state: &Path, model: Option<&str>) -> Result<Self, String> {
        let ledger = Ledger::open_to_read(state).map_err(|e| e.to_string())?;
        let held = is_held(state);
        let reader = ledger.reader();
        let named = |e: LedgerError| e.to_string();
        let names = reader.model_names().map_err(named)?;
        let name = match (model, names.as_slice()) {
            (Some(name), _) if names.iter().any(|n| n == name) => name.to_owned(),
            (Some(name), _) => {
                return Err(format!("the ledger knows no model '{name}': it has {}", listed(&names)));
            }
            (None, [only]) => only.clone(),
            (None, []) => return Err("the ledger knows no model yet".into()),
            (None, _) => {
                return Err(format!(
                    "several models are recorded: add --model with one of {}",
                    listed(&names)
                ));
            }
        };
        let row = reader.known_model(&name).map_err(named)?.ok_or("the model is gone")?;
        let versions = reader.versions(row.no).map_err(named)?;
        let config = row
            .settings
            .as_deref()
            .map(|text| ModelConfig::parse("model.toml", text));
        let config = config.transpose().map_err(|e| e.to_string())?.unwrap_or_default();
        let head = versions
            .iter()
            .find(|v| Some(v.no) == row.champion)
            .and_then(|v| head(v, &config));
        let key = key_of(state, &config)?;
        let closing = policy::closing(&config, head.as_ref(), &key);
        let has_entities = reader.has_entities(row.no).map_err(named)?;
        let has_principals = reader.has_principals().map_err(named)?;
        let journal = journal(&reader, &row)?;
        let kept = reader.kept(row.no).map_err(named)?;
        Ok(Self {
            kept,
            held,
            row,
            versions,
            config,
            head,
            closing,
            journal,
            has_entities,
            has_principals,
            state: state.to_path_buf(),
            ledger,
        })
    }

    /// The key that draws the slice of these settings.
    ///
    /// # Errors
    /// They draw one, and the key cannot be read.
    pub fn key(&self, config: &ModelConfig) -> Result<IdKey, String> {
        key_of(&self.state, config)
    }

    /// To read more.
    #[must_use]
    pub fn reader(&self) -> Writer<'_> {
        self.ledger.reader()
    }

    /// A version's name.
    #[must_use]
    pub fn name_of(&self, version: VersionNo) -> String {
        let known = self.versions.iter().find(|v| v.no == version);
        known.map_or_else(|| format!("number {}", version.0), |v| v.name.clone())
    }

    /// The swaps that were decided or ordered.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn swaps(&self) -> Result<Vec<RecordedDecision>, LedgerError> {
        let mut all = self.reader().recorded_decisions(self.row.no)?;
        all.retain(|d| matches!(d.kind.as_str(), "promotion" | "rollback"));
        Ok(all)
    }

    /// The journal entry from which on silence means what the settings say: before it, nobody knows.
    #[must_use]
    pub fn silence_known_after(&self) -> u64 {
        let restarts = self.journal.iter().filter(|h| matches!(h.event, Event::Restart));
        restarts.map(|h| h.after_row).next_back().unwrap_or(0)
    }

    /// How a row closed: what the recorder would make of it, from what the ledger holds.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn closed(
        &self,
        reader: &Writer<'_>,
        row: &OpenRow,
        absent: Option<Truth>,
        groups: &mut Groups,
    ) -> Result<Read, LedgerError> {
        // Erased: nobody knows whether it had a label.
        if row.id == 0 {
            return Ok(Read::Gone);
        }
        let closing = &Closing {
            absent,
            ..self.closing.clone()
        };
        if !closing.may_be_evidence(row) && !self.has_entities {
            return Ok(Read::PassedOver);
        }
        let Some(answered) = reader.answered(row.id)? else {
            return Ok(Read::Gone);
        };
        if let Some(entity) = &answered.entity
            && self.is_cut(reader, entity, row)?
        {
            return Ok(Read::Gone);
        }
        let others = reader.outcomes(row.id)?;
        let offered = reader.lineup(answered.lineup)?;
        if let Some(missing) = offered.iter().find(|no| !others.iter().any(|(other, _)| other == *no)) {
            return Ok(Read::Damaged(format!(
                "it was offered to {}, of which there is no outcome",
                self.name_of(*missing)
            )));
        }
        let mut terms = Terms {
            model: self.row.no,
            closing,
            groups,
            has_principals: self.has_principals,
        };
        let rows = terms.observation(reader, row, answered, others)?;
        Ok(if rows.is_empty() {
            Read::PassedOver
        } else {
            Read::Rows(rows)
        })
    }
}

impl Past {
    /// Whether rows that would be one observation with this one of the entity may have been pruned.
    fn is_cut(&self, reader: &Writer<'_>, entity: &str, row: &OpenRow) -> Result<bool, LedgerError> {
        let overlap = Overlap {
            maturity: self.closing.maturity,
            horizon: self.closing.horizon,
        };
        if self.kept.rows_to.row == 0 {
            return Ok(false);
        }
        let rows = reader.entity_rows(self.row.no, entity, row.clock, overlap, usize::MAX)?;
        let first = rows.and_then(|rows| rows.first().map(|first| first.clock));
        Ok(first.is_some_and(|first| overlap.joins(self.kept.rows_to, first)))
    }
}

fn key_of(state: &Path, config: &ModelConfig) -> Result<IdKey, String> {
    match config.label.evidence {
        EvidenceFrom::Explore => IdKey::load(&state.join("ids.key")).map_err(|e| e.to_string()),
        // It draws no slice.
        EvidenceFrom::All => Ok(IdKey::new([0; 16])),
    }
}

fn journal(reader: &Writer<'_>, row: &ModelRow) -> Result<Vec<Happened>, String> {
    let dated = reader.dated_journal(row.no).map_err(|e| e.to_string())?;
    let read = dated.into_iter().map(|dated| {
        let event = serde_json::from_str(&dated.entry.event)
            .map_err(|e| format!("journal entry {} does not read back: {e}", dated.entry.no))?;
        Ok(Happened {
            no: dated.entry.no,
            after_row: dated.entry.after_row,
            time_ms: dated.time_ms,
            event,
        })
    });
    read.collect()
}

/// How a version's outputs are read.
#[must_use]
pub fn head(version: &VersionRow, config: &ModelConfig) -> Option<Head> {
    let facts: Facts = serde_json::from_str(version.facts.as_deref()?).ok()?;
    let probe = unpack(&facts.probe_outputs);
    let settings = config.head(&VersionConfig::default());
    Head::find(&facts.signature, &facts.scan, &probe, facts.probe_rows, &settings).ok()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}
