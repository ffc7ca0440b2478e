//! Which bytes are to be kept: all that ever answered or was shadowed, as long as its decisions, so that any past answer can
//! be computed again; and of what was never accepted the latest, which other settings may still make welcome.

use std::collections::HashSet;

use super::{LedgerError, Writer};

/// Versions that were never offered a row and whose bytes are kept all the same, over all models.
const NEVER_OFFERED: u32 = 256;

impl Writer<'_> {
    /// The digests of the bytes that are to be kept, and when the first version of all was seen (Unix ms); `None` where there
    /// never was one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn kept_bytes(&self) -> Result<Option<(HashSet<String>, i64)>, LedgerError> {
        let first: Option<i64> = self
            .connection
            .query_row("SELECT min(arrived) FROM versions", [], |row| row.get(0))?;
        let Some(first) = first else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(
            "SELECT v.digest, v.stored_digest FROM versions v
             WHERE v.role IN ('candidate', 'challenger', 'champion', 'previous')
             OR v.version_no IN (SELECT from_no FROM decisions WHERE from_no IS NOT NULL)
             OR v.version_no IN (SELECT to_no FROM decisions WHERE to_no IS NOT NULL)
             OR v.version_no IN (SELECT version_no FROM coverage)
             OR v.version_no IN (SELECT version_no FROM version_settings)
             OR EXISTS (SELECT 1 FROM lineups WHERE instr(',' || versions || ',', ',' || v.version_no || ',') > 0)
             OR v.version_no IN (SELECT version_no FROM versions ORDER BY version_no DESC LIMIT ?1)",
        )?;
        let mut kept = HashSet::new();
        let mut rows = statement.query([NEVER_OFFERED])?;
        while let Some(row) = rows.next()? {
            kept.insert(row.get(0)?);
            kept.extend(row.get::<_, Option<String>>(1)?);
        }
        Ok(Some((kept, first)))
    }
}

#[cfg(test)]
mod tests {
    use crate::ledger::{Ledger, VersionRow};
    use crate::score::VersionNo;

    #[test]
    fn whatever_ever_answered_or_was_shadowed_is_kept_and_of_the_others_the_latest() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert!(ledger.reader().kept_bytes().unwrap().is_none());
        let kept = ledger.transaction(false, |writer| {
            let model = writer.model("m")?.no;
            let row = |name: &str, role: &str| VersionRow {
                no: VersionNo(0),
                model,
                name: name.into(),
                digest: format!("sha256:{name}"),
                stored_digest: (name == "answered").then(|| "sha256:cut".into()),
                role: role.into(),
                reason: None,
                arrived_ms: 7,
                facts: None,
                lineage: None,
            };
            let answered = writer.insert_version(&row("answered", "retired"))?;
            let shadowed = writer.insert_version(&row("shadowed", "retired"))?;
            writer.insert_version(&row("never", "rejected"))?;
            writer.insert_version(&row("live", "challenger"))?;
            for i in 0..300 {
                writer.insert_version(&row(&format!("later{i}"), "rejected"))?;
            }
            writer.insert_decision(model, 7, ("first", None, Some(answered)), ("a", "b", "c"), None)?;
            writer.insert_lineup(&[VersionNo(9), shadowed])?;
            writer.kept_bytes()
        });
        let (kept, first) = kept.unwrap().unwrap();
        assert_eq!(first, 7);
        for name in ["answered", "cut", "shadowed", "live", "later299"] {
            assert!(kept.contains(&format!("sha256:{name}")), "{name}");
        }
        for name in ["never", "later0"] {
            assert!(!kept.contains(&format!("sha256:{name}")), "{name}");
        }
    }
}
