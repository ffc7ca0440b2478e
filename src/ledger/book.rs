//! Models, versions, pairs, decisions: what the judging rests on and what it led to.

use rusqlite::{OptionalExtension, Row, params};
use sha2::Digest;

use super::audit::Link;
use super::rows::Position;
use super::seal::insert_sealed;
use super::{LedgerError, Writer};
use crate::score::{ModelNo, VersionNo};

/// A model as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRow {
    /// Its number.
    pub no: ModelNo,
    /// Its directory's name.
    pub name: String,
    /// The interface that its first champion fixed, as JSON.
    pub interface: Option<String>,
    /// Text of the last good model.toml.
    pub settings: Option<String>,
    /// Who answers.
    pub champion: Option<VersionNo>,
    /// Who answered before and stands by.
    pub previous: Option<VersionNo>,
    /// Number of the tenure; 0 before the first champion.
    pub epoch: u64,
    /// Since when, Unix ms.
    pub champion_since: Option<i64>,
    /// Who holds promotions, and why.
    pub hold: Option<String>,
    /// Counts the changes of all this.
    pub revision: u64,
    /// Of whoever made the last change: after an unknown outcome it tells whether it was one's own.
    pub nonce: Option<String>,
}

impl ModelRow {
    /// The row as the next change, for [`Writer::update_model`].
    #[must_use]
    pub fn proposed(self) -> Self {
        let nonce = getrandom::u64().unwrap_or_else(|_| crate::time::now_ms().cast_unsigned());
        Self {
            revision: self.revision.saturating_add(1),
            nonce: Some(format!("{nonce:016x}")),
            ..self
        }
    }
}

/// A version as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRow {
    /// Its number.
    pub no: VersionNo,
    /// Its model.
    pub model: ModelNo,
    /// Name in the directory.
    pub name: String,
    /// SHA-256 of what was dropped, `sha256:…`.
    pub digest: String,
    /// SHA-256 of what is loaded, where that is a rewritten copy.
    pub stored_digest: Option<String>,
    /// candidate, challenger, champion, previous, retired, rejected, quarantined.
    pub role: String,
    /// Why it was rejected, quarantined or retired.
    pub reason: Option<String>,
    /// First seen, Unix ms.
    pub arrived_ms: i64,
    /// What admission found, as JSON.
    pub facts: Option<String>,
    /// What its toml and its file say about its making, as JSON.
    pub lineage: Option<String>,
}

/// Something that happened to the judge between two folded rows, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Its number; entries of a model apply in this order.
    pub no: i64,
    /// The last row that was folded before it.
    pub after_row: u64,
    /// The event.
    pub event: String,
}

/// The judge's state after `folded_row` and journal entry `entry`.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Last folded row.
    pub folded_row: u64,
    /// Last applied journal entry.
    pub entry: i64,
    /// The state as JSON.
    pub judge: String,
}

impl Snapshot {
    fn digest(&self) -> Vec<u8> {
        let place = [self.folded_row.to_le_bytes(), self.entry.to_le_bytes()].concat();
        sha2::Sha256::new()
            .chain_update(place)
            .chain_update(&self.judge)
            .finalize()
            .to_vec()
    }
}

/// How far a model's book has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    /// Last row that was folded or passed over.
    pub folded_row: u64,
    /// Latest request time of all recorded rows.
    pub last_time_ms: i64,
    /// The pairing stage's memory, as JSON: counts of labels per class.
    pub pairing: String,
}

/// A change of champion, or a person's word.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DecisionRow {
    /// Number over all models.
    pub n: i64,
    /// Unix ms.
    #[serde(rename = "time", serialize_with = "crate::time::serialize_ms")]
    pub time_ms: i64,
    /// promotion, rollback, first, hold, resume, retire.
    pub kind: String,
    /// The outgoing version.
    pub from: Option<String>,
    /// The incoming version.
    pub to: Option<String>,
    /// `judge`, `tripwire`, or a person.
    pub author: String,
    /// The author's reason.
    pub reason: String,
    /// One sentence.
    pub why: String,
}

/// A decision and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What was decided.
    pub decision: DecisionRow,
    /// From what, as JSON.
    pub basis: Option<String>,
    /// Those before it.
    pub before: Vec<DecisionRow>,
    /// Those after it.
    pub after: Vec<DecisionRow>,
}

pub(super) fn decision_of(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    Ok(DecisionRow {
        n: row.get(0)?,
        time_ms: row.get(1)?,
        kind: row.get(2)?,
        from: row.get(3)?,
        to: row.get(4)?,
        author: row.get(5)?,
        reason: row.get(6)?,
        why: row.get(7)?,
    })
}

fn version(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        no: VersionNo(row.get(0)?),
        model: ModelNo(row.get(1)?),
        name: row.get(2)?,
        digest: row.get(3)?,
        stored_digest: row.get(4)?,
        role: row.get(5)?,
        reason: row.get(6)?,
        arrived_ms: row.get(7)?,
        facts: row.get(8)?,
        lineage: row.get(9)?,
    })
}

impl Writer<'_> {
    /// The model of this name, new if there was none.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn model(&self, name: &str) -> Result<ModelRow, LedgerError> {
        if let Some(known) = self.known_model(name)? {
            return Ok(known);
        }
        self.connection
            .execute("INSERT INTO models (name) VALUES (?1)", [name])?;
        self.seal("models", self.connection.last_insert_rowid())?;
        Ok(self.known_model(name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    /// The model of this name.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn known_model(&self, name: &str) -> Result<Option<ModelRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT model_no, name, interface, champion_no, previous_no, epoch, champion_since, hold, settings, revision,
             nonce
             FROM models WHERE name = ?1",
        )?;
        let read = |row: &Row<'_>| {
            Ok(ModelRow {
                no: ModelNo(row.get(0)?),
                name: row.get(1)?,
                interface: row.get(2)?,
                champion: row.get::<_, Option<u32>>(3)?.map(VersionNo),
                previous: row.get::<_, Option<u32>>(4)?.map(VersionNo),
                epoch: row.get::<_, i64>(5)?.cast_unsigned(),
                champion_since: row.get(6)?,
                hold: row.get(7)?,
                settings: row.get(8)?,
                revision: row.get::<_, i64>(9)?.cast_unsigned(),
                nonce: row.get(10)?,
            })
        };
        Ok(statement.query_row([name], read).optional()?)
    }

    /// Numbers of all models.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn model_numbers(&self) -> Result<Vec<ModelNo>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT model_no FROM models ORDER BY model_no")?;
        let numbers = statement.query_map([], |row| Ok(ModelNo(row.get(0)?)))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// Names of all models that ever had a version.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn model_names(&self) -> Result<Vec<String>, LedgerError> {
        let mut statement = self.connection.prepare("SELECT name FROM models ORDER BY name")?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Writes everything of a model but its number and name, as [`ModelRow::proposed`]: compared with the revision that it
    /// was made from, then set.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when somebody else has changed it in between, or what SQLite says.
    pub fn update_model(&self, model: &ModelRow) -> Result<(), LedgerError> {
        let changed = self.connection.execute(
            "UPDATE models SET interface = ?2, champion_no = ?3, previous_no = ?4, epoch = ?5, champion_since = ?6,
             hold = ?7, settings = ?8, revision = ?9, nonce = ?10 WHERE model_no = ?1 AND revision = ?9 - 1",
            params![
                model.no.0,
                model.interface,
                model.champion.map(|v| v.0),
                model.previous.map(|v| v.0),
                model.epoch.cast_signed(),
                model.champion_since,
                model.hold,
                model.settings,
                model.revision.cast_signed(),
                model.nonce
            ],
        )?;
        if changed == 0 {
            return Err(LedgerError::Conflict);
        }
        self.seal("models", model.no.0)
    }

    /// All versions of a model, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn versions(&self, model: ModelNo) -> Result<Vec<VersionRow>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT version_no, model_no, name, digest, stored_digest, role, reason, arrived, facts, lineage
             FROM versions WHERE model_no = ?1 ORDER BY version_no",
        )?;
        let rows = statement.query_map([model.0], version)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All versions of a model, oldest first, without what admission found of each, which may be large.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn version_names(&self, model: ModelNo) -> Result<Vec<VersionRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT version_no, model_no, name, digest, stored_digest, role, reason, arrived, NULL, lineage
             FROM versions WHERE model_no = ?1 ORDER BY version_no",
        )?;
        let rows = statement.query_map([model.0], version)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What admission found of a version, as JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn facts(&self, version: VersionNo) -> Result<Option<String>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT facts FROM versions WHERE version_no = ?1")?;
        let facts = statement.query_row([version.0], |row| row.get(0)).optional()?;
        Ok(facts.flatten())
    }

    /// The versions of a model that run and its last `window` others, oldest first, and how many names are only among
    /// the older ones.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latest_versions(&self, model: ModelNo, window: u32) -> Result<(Vec<VersionRow>, u64), LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT version_no, model_no, name, digest, stored_digest, role, reason, arrived, facts, lineage
             FROM versions WHERE model_no = ?1 AND (role IN ('champion', 'previous', 'challenger') OR version_no IN
             (SELECT version_no FROM versions WHERE model_no = ?1 ORDER BY version_no DESC LIMIT ?2))
             ORDER BY version_no",
        )?;
        let rows = statement.query_map(params![model.0, window], version)?;
        let rows: Vec<VersionRow> = rows.collect::<Result<_, _>>()?;
        let mut statement = self
            .connection
            .prepare_cached("SELECT count(DISTINCT name) FROM versions WHERE model_no = ?1")?;
        let names: i64 = statement.query_row([model.0], |row| row.get(0))?;
        let shown: std::collections::HashSet<&str> = rows.iter().map(|v| v.name.as_str()).collect();
        let left_out = names.cast_unsigned().saturating_sub(shown.len() as u64);
        Ok((rows, left_out))
    }

    /// Role and reason of the newest version of this name.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn role_of(&self, model: ModelNo, name: &str) -> Result<Option<(String, Option<String>)>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT role, reason FROM versions WHERE model_no = ?1 AND name = ?2 ORDER BY version_no DESC LIMIT 1",
        )?;
        let role = statement.query_row(params![model.0, name], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(role.optional()?)
    }

    /// Adds a version and gives it its number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_version(&self, v: &VersionRow) -> Result<VersionNo, LedgerError> {
        self.connection.execute(
            "INSERT INTO versions (model_no, name, digest, stored_digest, role, reason, arrived, facts, lineage)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            params![
                v.model.0,
                v.name,
                v.digest,
                v.stored_digest,
                v.role,
                v.reason,
                v.arrived_ms,
                v.facts,
                v.lineage
            ],
        )?;
        let no = self.connection.last_insert_rowid();
        self.seal("versions", no)?;
        Ok(VersionNo(u32::try_from(no).unwrap_or(u32::MAX)))
    }

    /// Writes everything of a version that may change.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn update_version(&self, v: &VersionRow) -> Result<(), LedgerError> {
        self.connection.execute(
            "UPDATE versions SET name=?2, digest=?3, stored_digest=?4, role=?5, reason=?6, facts=?7, lineage=?8
             WHERE version_no=?1",
            params![
                v.no.0,
                v.name,
                v.digest,
                v.stored_digest,
                v.role,
                v.reason,
                v.facts,
                v.lineage
            ],
        )?;
        self.seal("versions", v.no.0)
    }

    /// True when rows were ever offered to a version: what was learned then belongs to its number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn was_offered(&self, version: VersionNo) -> Result<bool, LedgerError> {
        Ok(self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM lineups WHERE instr(',' || versions || ',', ',' || ?1 || ',') > 0)",
            [version.0],
            |row| row.get(0),
        )?)
    }

    /// Number of a set of versions, stored once.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_lineup(&self, versions: &[VersionNo]) -> Result<i64, LedgerError> {
        let text = versions.iter().map(|v| v.0.to_string()).collect::<Vec<_>>().join(",");
        let known = self
            .connection
            .query_row("SELECT lineup_no FROM lineups WHERE versions = ?1", [&text], |row| {
                row.get(0)
            });
        if let Some(no) = known.optional()? {
            return Ok(no);
        }
        self.connection
            .execute("INSERT INTO lineups (versions) VALUES (?1)", [&text])?;
        let no = self.connection.last_insert_rowid();
        self.seal("lineups", no)?;
        Ok(no)
    }

    /// The versions of a lineup.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn lineup(&self, no: i64) -> Result<Vec<VersionNo>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT versions FROM lineups WHERE lineup_no = ?1")?;
        let text: Option<String> = statement.query_row([no], |row| row.get(0)).optional()?;
        Ok(text
            .unwrap_or_default()
            .split(',')
            .filter_map(|v| v.parse().ok().map(VersionNo))
            .collect())
    }

    /// Appends an event to a model's journal.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_journal(
        &self,
        model: ModelNo,
        time_ms: i64,
        after_row: u64,
        event: &str,
    ) -> Result<i64, LedgerError> {
        self.connection.execute(
            "INSERT INTO journal (model_no, time, after_row, event) VALUES (?1, ?2, ?3, ?4)",
            params![model.0, time_ms, after_row.cast_signed(), event],
        )?;
        let no = self.connection.last_insert_rowid();
        self.seal("journal", no)?;
        Ok(no)
    }

    /// A model's journal after entry `after`.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn journal(&self, model: ModelNo, after: i64) -> Result<Vec<JournalEntry>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT entry_no, after_row, event FROM journal WHERE model_no = ?1 AND entry_no > ?2 ORDER BY entry_no",
        )?;
        let rows = statement.query_map(params![model.0, after], |row| {
            Ok(JournalEntry {
                no: row.get(0)?,
                after_row: row.get::<_, i64>(1)?.cast_unsigned(),
                event: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores the judge's state of a model in place of the one before.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_snapshot(&self, model: ModelNo, snapshot: &Snapshot) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                model.0,
                snapshot.folded_row.cast_signed(),
                snapshot.entry,
                snapshot.judge,
                snapshot.digest()
            ])?;
        Ok(())
    }

    /// The stored state of a model's judge, unless it was damaged.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn snapshot(&self, model: ModelNo) -> Result<Option<Snapshot>, LedgerError> {
        let stored: Option<(Snapshot, Vec<u8>)> = self
            .connection
            .query_row(
                "SELECT folded_row, entry_no, judge, digest FROM snapshots WHERE model_no = ?1",
                [model.0],
                |row| {
                    let snapshot = Snapshot {
                        folded_row: row.get::<_, i64>(0)?.cast_unsigned(),
                        entry: row.get(1)?,
                        judge: row.get(2)?,
                    };
                    Ok((snapshot, row.get(3)?))
                },
            )
            .optional()?;
        let whole = stored.filter(|(snapshot, digest)| {
            let whole = snapshot.digest() == *digest;
            if !whole {
                tracing::warn!("a judge's snapshot is damaged; folding all pairs again");
            }
            whole
        });
        Ok(whole.map(|(snapshot, _)| snapshot))
    }

    /// Stores how far a model's book has come, in place of what was stored before.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_cursor(&self, model: ModelNo, cursor: &Cursor) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!("INSERT OR REPLACE INTO ", "cursors", "?1, ?2, ?3, ?4"))?
            .execute(params![
                model.0,
                cursor.folded_row.cast_signed(),
                cursor.last_time_ms,
                cursor.pairing
            ])?;
        Ok(())
    }

    /// How far a model's book has come.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn cursor(&self, model: ModelNo) -> Result<Option<Cursor>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT folded_row, last_time, pairing FROM cursors WHERE model_no = ?1")?;
        let read = |row: &Row<'_>| {
            Ok(Cursor {
                folded_row: row.get::<_, i64>(0)?.cast_unsigned(),
                last_time_ms: row.get(1)?,
                pairing: row.get(2)?,
            })
        };
        Ok(statement.query_row([model.0], read).optional()?)
    }

    /// Appends a decision: kind, from and to; author, reason and why. `basis` is what it was decided from, as JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_decision(
        &self,
        model: ModelNo,
        time_ms: i64,
        (kind, from, to): (&str, Option<VersionNo>, Option<VersionNo>),
        (author, reason, why): (&str, &str, &str),
        basis: Option<&str>,
    ) -> Result<(), LedgerError> {
        self.connection.execute(
            "INSERT INTO decisions (model_no, time, kind, from_no, to_no, author, reason, why, basis)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            params![
                model.0,
                time_ms,
                kind,
                from.map(|v| v.0),
                to.map(|v| v.0),
                author,
                reason,
                why,
                basis
            ],
        )?;
        let n = self.connection.last_insert_rowid();
        self.seal("decisions", n)?;
        self.chain(Link::Decision, n)
    }

    /// The last `limit` decisions on a model, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn decisions(&self, model: ModelNo, limit: u32) -> Result<Vec<DecisionRow>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT * FROM (SELECT d.n, d.time, d.kind, f.name, t.name, d.author, d.reason, d.why FROM decisions d
             LEFT JOIN versions f ON f.version_no = d.from_no LEFT JOIN versions t ON t.version_no = d.to_no
             WHERE d.model_no = ?1 ORDER BY d.n DESC LIMIT ?2) ORDER BY 1",
        )?;
        let rows = statement.query_map(params![model.0, limit], decision_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One decision on a model, with what it was decided from as JSON, and the `around` ones before and after it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn decision(&self, model: ModelNo, n: i64, around: u32) -> Result<Option<Told>, LedgerError> {
        let columns = "d.n, d.time, d.kind, f.name, t.name, d.author, d.reason, d.why, d.basis FROM decisions d
             LEFT JOIN versions f ON f.version_no = d.from_no LEFT JOIN versions t ON t.version_no = d.to_no
             WHERE d.model_no = ?1 AND d.n";
        let read = |row: &Row<'_>| Ok((decision_of(row)?, row.get::<_, Option<String>>(8)?));
        let mut statement = self.connection.prepare(&format!("SELECT {columns} = ?2"))?;
        let Some((decision, basis)) = statement.query_row(params![model.0, n], read).optional()? else {
            return Ok(None);
        };
        let several = |order: &str| -> Result<Vec<DecisionRow>, LedgerError> {
            let mut statement = self.connection.prepare(&format!("SELECT {columns} {order} LIMIT ?3"))?;
            let rows = statement.query_map(params![model.0, n, around], decision_of)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mut before = several("< ?2 ORDER BY d.n DESC")?;
        before.reverse();
        Ok(Some(Told {
            decision,
            basis,
            before,
            after: several("> ?2 ORDER BY d.n")?,
        }))
    }

    /// Records that a version's verdict changed at a folded row; `verdict` is JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_verdict(&self, at: Position, version: VersionNo, verdict: &str) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached("INSERT INTO verdicts (model_no, row, version_no, verdict) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![at.model.0, at.row.cast_signed(), version.0, verdict])?;
        self.seal("verdicts", self.connection.last_insert_rowid())
    }

    /// Sets a coverage counter of a version.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_coverage(
        &self,
        model: ModelNo,
        version: VersionNo,
        counter: &str,
        value: u64,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!("INSERT OR REPLACE INTO ", "coverage", "?1, ?2, ?3, ?4"))?
            .execute(params![model.0, version.0, counter, value.cast_signed()])?;
        Ok(())
    }

    /// All coverage counters of a model.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn coverage(&self, model: ModelNo) -> Result<Vec<(VersionNo, String, u64)>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT version_no, counter, value FROM coverage WHERE model_no = ?1
                 AND whole('coverage', seal, model_no, version_no, counter, value)",
        )?;
        let rows = statement.query_map([model.0], |row| {
            Ok((
                VersionNo(row.get(0)?),
                row.get(1)?,
                row.get::<_, i64>(2)?.cast_unsigned(),
            ))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn of_many_versions_the_latest_are_read_and_those_that_run() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let add = |writer: &Writer<'_>, model, name: &str, role: &str| {
            writer.insert_version(&VersionRow {
                no: VersionNo(0),
                model,
                name: name.into(),
                digest: format!("sha256:{name}"),
                stored_digest: None,
                role: role.into(),
                reason: None,
                arrived_ms: 0,
                facts: None,
                lineage: None,
            })
        };
        let read = ledger.transaction(true, |writer| {
            let model = writer.model("m")?.no;
            add(writer, model, "first", "champion")?;
            for name in 0..9 {
                add(writer, model, &name.to_string(), "retired")?;
            }
            let other = writer.model("other")?.no;
            add(writer, other, "x", "rejected")?;
            Ok((writer.latest_versions(model, 3)?, writer.latest_versions(model, 300)?))
        });
        let ((few, left_out), (all, none)) = read.unwrap();
        let names: Vec<&str> = few.iter().map(|v| v.name.as_str()).collect();
        assert_eq!((names, left_out), (vec!["first", "6", "7", "8"], 6));
        assert_eq!((all.len(), none), (10, 0));
    }
}
