//! The audit chain: every decision and every erasure, each hashed together with all before it.
//!
//! Always holds: the chain holds hashes and numbers only, so that nothing of a person need ever be removed from it; an
//! entry stands in the same transaction as what it speaks of. Whoever can write to the file can make a new chain: note the
//! last hash elsewhere (`dethrone audit` prints it), and what came before it is held by it.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{LedgerError, Writer};

/// A hash.
type Hash = [u8; 32];

/// What is chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Decision,
    Erasure,
}

impl Link {
    const fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Erasure => "erasure",
        }
    }

    /// All that is kept of one, in a fixed order, as JSON.
    const fn columns(self) -> &'static str {
        match self {
            Self::Decision => {
                "SELECT n, json_array(n, model_no, time, kind, from_no, to_no, author, reason, why, basis) FROM decisions"
            }
            Self::Erasure => {
                "SELECT erasure_no, json_array(erasure_no, model_no, time, author, reason, rows) FROM erasures"
            }
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Decision => "n",
            Self::Erasure => "erasure_no",
        }
    }
}

/// What became of a look at the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Entries of the chain.
    pub entries: u64,
    /// Decisions and erasures from before there was a chain.
    pub before: u64,
    /// The last hash, as hexadecimal digits.
    pub head: Option<String>,
    /// What is wrong, the first first; empty: everything is as it was written.
    pub faults: Vec<String>,
}

/// Faults that are listed.
const MOST_FAULTS: usize = 100;

fn next(before: &[u8], link: &str, no: i64, content: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(link.as_bytes());
    hasher.update(no.to_be_bytes());
    hasher.update(content);
    hasher.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Writer<'_> {
    /// Adds what was just written to the chain.
    pub(super) fn chain(&self, link: Link, no: i64) -> Result<(), LedgerError> {
        let text: String = self
            .connection
            .prepare_cached(&format!("{} WHERE {} = ?1", link.columns(), link.key()))?
            .query_row([no], |row| row.get(1))?;
        let content: Hash = Sha256::digest(text.as_bytes()).into();
        let before: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT hash FROM audit ORDER BY entry DESC LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let hash = next(&before.unwrap_or_default(), link.name(), no, &content);
        self.connection
            .prepare_cached("INSERT INTO audit (what, no, content, hash) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![link.name(), no, content, hash])?;
        self.seal("audit", self.connection.last_insert_rowid())
    }

    /// Walks the chain, and holds every decision and erasure against it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn audit(&self) -> Result<Audit, LedgerError> {
        let mut audit = Audit::default();
        let fault = |text: String, faults: &mut Vec<String>| {
            if faults.len() < MOST_FAULTS {
                faults.push(text);
            }
        };
        let mut statement = self
            .connection
            .prepare("SELECT entry, what, no, content, hash FROM audit ORDER BY entry")?;
        let mut rows = statement.query([])?;
        let (mut before, mut expected): (Vec<u8>, i64) = (Vec::new(), 1);
        while let Some(row) = rows.next()? {
            let (entry, what, no): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (content, hash): (Vec<u8>, Vec<u8>) = (row.get(3)?, row.get(4)?);
            if entry != expected {
                fault(
                    format!("entries {expected} to {} are missing", entry - 1),
                    &mut audit.faults,
                );
            }
            if next(&before, &what, no, &content).as_slice() != hash {
                fault(
                    format!("entry {entry} ({what} {no}) does not follow from those before it"),
                    &mut audit.faults,
                );
            }
            let link = [Link::Decision, Link::Erasure]
                .into_iter()
                .find(|link| link.name() == what);
            match link.map(|link| self.content(link, no)).transpose()?.flatten() {
                Some(found) if found.as_slice() == content => {}
                Some(_) => fault(
                    format!("{what} {no} was changed after it was written"),
                    &mut audit.faults,
                ),
                None => fault(format!("{what} {no} is gone"), &mut audit.faults),
            }
            (before, expected) = (hash, entry + 1);
            audit.entries += 1;
        }
        for link in [Link::Decision, Link::Erasure] {
            self.unchained(link, &mut audit)?;
        }
        audit.head = (!before.is_empty()).then(|| hex(&before));
        Ok(audit)
    }

    /// Whether the chain has this hash, in hexadecimal digits.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_chained(&self, hash: &str) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM audit WHERE lower(hex(hash)) = lower(?1))";
        Ok(self.connection.query_row(sql, [hash], |row| row.get(0))?)
    }

    fn content(&self, link: Link, no: i64) -> Result<Option<Hash>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{} WHERE {} = ?1", link.columns(), link.key()))?;
        let text: Option<String> = statement.query_row([no], |row| row.get(1)).optional()?;
        Ok(text.map(|text| Sha256::digest(text.as_bytes()).into()))
    }

    /// What has no entry: older than the chain, or put in beside it.
    fn unchained(&self, link: Link, audit: &mut Audit) -> Result<(), LedgerError> {
        let first: Option<i64> =
            self.connection
                .query_row("SELECT min(no) FROM audit WHERE what = ?1", [link.name()], |row| {
                    row.get(0)
                })?;
        let mut statement = self.connection.prepare(&format!(
            "SELECT d.no FROM (SELECT {} AS no FROM {}s) d WHERE NOT EXISTS
             (SELECT 1 FROM audit a WHERE a.what = ?1 AND a.no = d.no) ORDER BY 1",
            link.key(),
            link.name()
        ))?;
        let mut rows = statement.query([link.name()])?;
        while let Some(row) = rows.next()? {
            let no: i64 = row.get(0)?;
            if first.is_none_or(|first| no < first) {
                audit.before += 1;
            } else if audit.faults.len() < MOST_FAULTS {
                audit.faults.push(format!(
                    "{} {no} stands beside the chain: it was put in later",
                    link.name()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    fn with_decisions(count: usize) -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let written = ledger.transaction(true, |writer| {
            let model = writer.model("m")?.no;
            for n in 0..count {
                let said = ("ada", "audit", format!("for the {n}th time"));
                writer.insert_decision(model, 7, ("hold", None, None), (said.0, said.1, &said.2), None)?;
            }
            Ok(())
        });
        written.unwrap();
        (dir, ledger)
    }

    #[test]
    fn whatever_is_changed_removed_or_put_in_is_named_and_nothing_else() {
        let (_dir, mut ledger) = with_decisions(5);
        let whole = ledger.reader().audit().unwrap();
        assert_eq!((whole.entries, whole.before, whole.faults.len()), (5, 0, 0));
        for (sql, says) in [
            (
                "UPDATE decisions SET why = 'otherwise' WHERE n = 3",
                "decision 3 was changed",
            ),
            ("DELETE FROM decisions WHERE n = 2", "decision 2 is gone"),
            ("DELETE FROM audit WHERE entry = 4", "entries 4 to 4 are missing"),
            (
                "UPDATE audit SET hash = zeroblob(32) WHERE entry = 1",
                "entry 1 (decision 1) does not follow",
            ),
            (
                "INSERT INTO decisions (n, model_no, time, kind, author, reason, why) VALUES (9, 1, 0, 'hold', 'e', 'v', 'e')",
                "decision 9 stands beside the chain",
            ),
        ] {
            let seen = ledger.transaction(false, |writer| {
                writer.connection.execute(sql, [])?;
                let seen = writer.audit()?;
                // Nothing of it is kept.
                Err::<(), _>(LedgerError::Json {
                    what: "seen",
                    source: serde::de::Error::custom(seen.faults.join("; ")),
                })
            });
            let text = seen.unwrap_err().to_string();
            assert!(text.contains(says), "{sql}: {text}");
        }
        assert_eq!(ledger.reader().audit().unwrap(), whole);
    }

    #[test]
    fn the_last_hash_depends_on_all_that_came_before() {
        let head = |count| with_decisions(count).1.reader().audit().unwrap().head;
        assert_eq!(head(3), head(3));
        assert_ne!(head(3), head(4));
        assert_eq!(head(0), None);
    }

    #[test]
    fn what_is_older_than_the_chain_is_told_apart() {
        let (_dir, mut ledger) = with_decisions(3);
        let seen = ledger.transaction(false, |writer| {
            writer.connection.execute("DELETE FROM audit", [])?;
            let model = writer.model("m")?.no;
            writer.insert_decision(model, 7, ("hold", None, None), ("ada", "x", "y"), None)?;
            writer.audit()
        });
        let seen = seen.unwrap();
        assert_eq!((seen.entries, seen.before), (1, 3));
        // Entries are numbered on: whoever empties the chain is seen.
        assert!(
            seen.faults.iter().all(|fault| fault.contains("missing")),
            "{:?}",
            seen.faults
        );
    }
}
