//! Who approved of which promotion, as decisions of a kind of their own.

use rusqlite::params;
use serde_json::Value;

use super::{LedgerError, Writer};
use crate::score::{ModelNo, VersionNo};

/// One key's word for one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// The version.
    pub version: VersionNo,
    /// Its digest at that time.
    pub digest: String,
    /// The tenure that it was to end.
    pub epoch: u64,
    /// Whose.
    pub key: String,
}

impl Writer<'_> {
    /// All approvals since a model's last change of champion. A damaged one is none.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn approvals(&self, model: ModelNo) -> Result<Vec<Approved>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT to_no, author, basis FROM decisions WHERE model_no = ?1 AND kind = 'approval' AND to_no IS NOT NULL
             AND n > (SELECT coalesce(max(n), 0) FROM decisions
                      WHERE model_no = ?1 AND kind IN ('first', 'promotion', 'rollback'))
             AND whole('decisions', seal, n, model_no, time, kind, from_no, to_no, author, reason, why, basis)
             ORDER BY n",
        )?;
        let rows = statement.query_map(params![model.0], |row| {
            let version = VersionNo(row.get(0)?);
            Ok((version, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        })?;
        let mut all = Vec::new();
        for row in rows {
            let (version, key, basis) = row?;
            let basis: Value = basis
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default();
            let digest = basis.pointer("/versions/to/digest").and_then(Value::as_str);
            let epoch = basis.get("tenure").and_then(Value::as_u64);
            if let (Some(digest), Some(epoch)) = (digest, epoch) {
                all.push(Approved {
                    version,
                    digest: digest.to_owned(),
                    epoch,
                    key,
                });
            }
        }
        Ok(all)
    }
}
