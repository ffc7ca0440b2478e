//! How far the webhook has told what happened: `state/webhook.json`.
//!
//! Always holds: the file is the old one or the new one. It is written after the other side has taken an event, so that a
//! crash in between tells it once more, under the same id. Losing it loses nothing: telling begins at the present.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ledger::LedgerError;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The last decision.
    pub(super) decision: i64,
    /// The last verdict.
    pub(super) verdict: i64,
    /// Versions that are refused or quarantined, by number: which bytes, and as what.
    pub(super) refused: BTreeMap<u32, String>,
    /// The ledger is known to have failed since, Unix ms.
    pub(super) frozen: Option<i64>,
    /// The last retraining whose export was told.
    #[serde(default)]
    pub(super) exported: i64,
    /// The last one of which the end was told.
    #[serde(default)]
    pub(super) retrained: i64,
    /// Labels by model.
    pub(super) labels: BTreeMap<u32, Labels>,
}

/// How labels of a model come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Labels {
    /// So many had come.
    pub(super) count: u64,
    /// When that number was new, Unix ms.
    pub(super) since: i64,
    /// Recorded rows at that time.
    pub(super) row: u64,
    /// Their silence has been told.
    pub(super) silent: bool,
}

impl Told {
    /// `None`: nothing has been told yet, or nobody can read what has.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read(path).ok()?;
        match serde_json::from_slice(&text) {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "is damaged: the webhook begins at the present");
                None
            }
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), LedgerError> {
        let write = || {
            let draft = path.with_extension("json.part");
            let mut file = std::fs::File::create(&draft)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&draft, path)
        };
        write().map_err(|source: std::io::Error| LedgerError::File {
            path: path.to_path_buf(),
            source,
        })
    }
}
