//! The callers' own ids, their names for rows: found by row, and by name.
//!
//! Names are spread like hashes. Put where it belongs at once, each dirties a page of its own, which is written twice: into
//! the log, and into the file. So a name is kept where its row is (`own_ids`, in the order of recording), and the latest
//! wait in memory, sorted, until there are many. Then as many as come move on to `caller_ids`, in a sweep along the
//! alphabet over and over again, so that a page takes in several at once.
//!
//! Always holds: a name is in `caller_ids` or among those in memory, and always in `own_ids`; all three change in the
//! transaction that records the row, or not at all; every name of a row before `sorted_ids.before_id` is in `caller_ids`, so
//! that a start finds the others again by reading the last rows of `own_ids`. Whoever only reads the ledger sees the same
//! names under the same tables.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::seal::insert_sealed;
use super::{LedgerError, Writer, schema};
use crate::score::ModelNo;

/// Names in memory: some megabytes.
const MOST: i64 = 65_536;
/// So many more may come before the next move.
const SOME: i64 = 1_024;

/// Names in memory that belong to these tables, for a connection that writes.
const IN_MEMORY: &str = "
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE IF NOT EXISTS latest_ids (model_no INTEGER NOT NULL, caller_id TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (model_no, caller_id)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS swept_ids (one INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, caller_id TEXT NOT NULL);
INSERT OR IGNORE INTO swept_ids VALUES (1, -1, '');
";

/// What `latest_ids` has, as the file tells it.
const ON_DISK: &str = "SELECT model_no, caller_id, id FROM own_ids
  WHERE id >= coalesce((SELECT before_id FROM sorted_ids WHERE whole('sorted_ids', seal, one, before_id)), 0)
  AND whole('own_ids', seal, id, model_no, caller_id)";

/// Prepares a connection that writes. Where the tables are not there, or from a program that did not have all of them, they
/// are filled from each other.
///
/// # Errors
/// What SQLite says, but for a disk that is full: then the gateway serves without the names that are missing.
pub(super) fn begin(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute_batch(IN_MEMORY)?;
    if !schema::has_seal(connection, "own_ids")? {
        return Ok(());
    }
    if is_whole(connection)? {
        connection.execute_batch(&format!("INSERT OR IGNORE INTO temp.latest_ids {ON_DISK}"))?;
        return Ok(());
    }
    let filled = connection.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT OR IGNORE INTO own_ids SELECT id, model_no, caller_id, CASE
           WHEN whole('caller_ids', seal, model_no, caller_id, id) THEN seal('own_ids', id, model_no, caller_id) ELSE 0 END
           FROM caller_ids;
         INSERT OR IGNORE INTO caller_ids SELECT model_no, caller_id, id, seal('caller_ids', model_no, caller_id, id)
           FROM own_ids WHERE whole('own_ids', seal, id, model_no, caller_id);
         DROP INDEX IF EXISTS ids_of_callers;
         INSERT OR REPLACE INTO sorted_ids SELECT 1, n, seal('sorted_ids', 1, n)
           FROM (SELECT coalesce(max(id) + 1, 0) AS n FROM own_ids);
         COMMIT",
    );
    let Err(error) = filled.map_err(LedgerError::from) else {
        return Ok(());
    };
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    if !error.is_full() {
        return Err(error);
    }
    tracing::warn!(%error, "callers' ids of before are not known in all places");
    Ok(())
}

/// False where it is not known which names are sorted, or another program has added some.
fn is_whole(connection: &Connection) -> Result<bool, LedgerError> {
    let index = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'ids_of_callers')";
    let known = "SELECT EXISTS (SELECT 1 FROM sorted_ids WHERE whole('sorted_ids', seal, one, before_id))";
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, bool>(0));
    Ok(!ask(index)? && ask(known)?)
}

/// Prepares a connection that only reads.
///
/// # Errors
/// What SQLite says.
pub(super) fn begin_to_read(connection: &Connection) -> Result<(), LedgerError> {
    let views = match schema::has_seal(connection, "own_ids")? {
        true => format!("CREATE TEMP VIEW latest_ids AS {ON_DISK}"),
        // From before there was such a table.
        false => "CREATE TEMP VIEW own_ids AS SELECT id, model_no, caller_id, seal FROM caller_ids;
                  CREATE TEMP VIEW latest_ids AS SELECT model_no, caller_id, id FROM caller_ids WHERE FALSE"
            .to_owned(),
    };
    connection.execute_batch(&views)?;
    Ok(())
}

/// The statements that take names in, prepared once for many.
pub(super) struct Names<'a> {
    sorted: CachedStatement<'a>,
    latest: CachedStatement<'a>,
    own: CachedStatement<'a>,
    connection: &'a Connection,
    /// The names of all rows before this one are sorted.
    before: i64,
}

impl<'a> Names<'a> {
    pub(super) fn new(connection: &'a Connection) -> Result<Self, LedgerError> {
        let prepare = |sql| connection.prepare_cached(sql);
        let before = prepare("SELECT before_id FROM sorted_ids")?.query_row([], |row| row.get(0));
        Ok(Self {
            connection,
            before: before.optional()?.unwrap_or(0),
            sorted: prepare("SELECT 1 FROM caller_ids WHERE model_no = ?1 AND caller_id = ?2")?,
            latest: prepare("INSERT OR IGNORE INTO temp.latest_ids VALUES (?1, ?2, ?3)")?,
            // In the place of a damaged one, if there is one.
            own: prepare(insert_sealed!("INSERT OR REPLACE INTO ", "own_ids", "?1, ?2, ?3"))?,
        })
    }

    /// Takes a name in. False when it was seen before.
    pub(super) fn insert(&mut self, model: ModelNo, name: &str, id: i64) -> Result<bool, LedgerError> {
        if self.sorted.exists(params![model.0, name])? || self.latest.execute(params![model.0, name, id])? == 0 {
            return Ok(false);
        }
        self.own.execute(params![id, model.0, name])?;
        // Rows come almost in the order of their ids.
        if id < self.before {
            self.connection
                .prepare_cached("UPDATE sorted_ids SET before_id = ?1, seal = seal('sorted_ids', one, ?1)")?
                .execute([id])?;
            self.before = id;
        }
        Ok(true)
    }
}

impl Writer<'_> {
    /// Moves names on to where they belong, as many as are too many in memory.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn sort_names(&self) -> Result<(), LedgerError> {
        self.sort_names_down_to(MOST, SOME)
    }

    pub(super) fn sort_names_down_to(&self, most: i64, some: i64) -> Result<(), LedgerError> {
        let count = "SELECT count(*) FROM temp.latest_ids";
        let waiting: i64 = self.connection.prepare_cached(count)?.query_row([], |row| row.get(0))?;
        let move_on = waiting - most;
        if move_on <= some {
            return Ok(());
        }
        let key = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let begin = "SELECT model_no, caller_id FROM temp.swept_ids";
        let begin = self.connection.prepare_cached(begin)?.query_row([], key)?;
        let end = self
            .connection
            .prepare_cached(
                "SELECT model_no, caller_id FROM temp.latest_ids WHERE (model_no, caller_id) > (?1, ?2)
                 ORDER BY model_no, caller_id LIMIT 1 OFFSET ?3 - 1",
            )?
            .query_row(params![begin.0, begin.1, move_on], key)
            .optional()?;
        // No model has this number.
        let end = end.unwrap_or((i64::MAX, String::new()));
        for sql in [
            "INSERT OR REPLACE INTO caller_ids
             SELECT model_no, caller_id, id, seal('caller_ids', model_no, caller_id, id) FROM temp.latest_ids
             WHERE (model_no, caller_id) > (?1, ?2) AND (model_no, caller_id) <= (?3, ?4) ORDER BY model_no, caller_id",
            "DELETE FROM temp.latest_ids WHERE (model_no, caller_id) > (?1, ?2) AND (model_no, caller_id) <= (?3, ?4)",
        ] {
            self.connection
                .prepare_cached(sql)?
                .execute(params![begin.0, begin.1, end.0, end.1])?;
        }
        let is_over = !self
            .connection
            .prepare_cached("SELECT 1 FROM temp.latest_ids WHERE (model_no, caller_id) > (?1, ?2)")?
            .exists(params![end.0, end.1])?;
        let next = if is_over { (-1, String::new()) } else { end };
        self.connection
            .prepare_cached("UPDATE temp.swept_ids SET model_no = ?1, caller_id = ?2")?
            .execute(params![next.0, next.1])?;
        if is_over {
            // What is left has come since the sweep began.
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO sorted_ids SELECT 1, n, seal('sorted_ids', 1, n) FROM (SELECT coalesce(
                       (SELECT min(id) FROM temp.latest_ids), (SELECT max(id) + 1 FROM own_ids), 0) AS n)",
                )?
                .execute([])?;
        }
        Ok(())
    }

    /// The generated id's number for a caller's own id.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn id_of_caller(&self, model: ModelNo, caller_id: &str) -> Result<Option<i64>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM latest_ids WHERE model_no = ?1 AND caller_id = ?2 UNION ALL
             SELECT id FROM caller_ids WHERE model_no = ?1 AND caller_id = ?2
             AND whole('caller_ids', seal, model_no, caller_id, id) LIMIT 1",
        )?;
        Ok(statement
            .query_row(params![model.0, caller_id], |row| row.get(0))
            .optional()?)
    }

    /// Removes the name of a row wherever it stands.
    pub(super) fn remove_name(&self, id: i64) -> Result<(), LedgerError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT model_no, caller_id, whole('own_ids', seal, id, model_no, caller_id) FROM own_ids WHERE id = ?1",
            )?
            .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)))
            .optional()?;
        let Some((model, name, is_whole)) = found else {
            return Ok(());
        };
        for table in ["caller_ids", "temp.latest_ids"] {
            match is_whole {
                true => self
                    .connection
                    .prepare_cached(&format!(
                        "DELETE FROM {table} WHERE model_no = ?1 AND caller_id = ?2 AND id = ?3"
                    ))?
                    .execute(params![model, name, id])?,
                // Under whatever name: it takes a look at all of them, and happens to what is damaged only.
                false => self
                    .connection
                    .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
                    .execute([id])?,
            };
        }
        self.connection
            .prepare_cached("DELETE FROM own_ids WHERE id = ?1")?
            .execute([id])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::ledger::Ledger;

    const MODELS: [ModelNo; 2] = [ModelNo(1), ModelNo(2)];

    /// Spread like the hashes that callers use.
    fn name(id: i64) -> String {
        format!("{:016x}", id.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn of(id: i64) -> ModelNo {
        MODELS[usize::from(id % 3 == 0)]
    }

    /// Takes these in, a few at a time, with few in memory; each a second time, too.
    fn take(ledger: &mut Ledger, ids: &[i64]) {
        for some in ids.chunks(7) {
            let taken = ledger.transaction(false, |writer| {
                let mut names = Names::new(writer.connection)?;
                for &id in some {
                    assert!(names.insert(of(id), &name(id), id)?, "{id} is new");
                    assert!(!names.insert(of(id), &name(id), id + 1_000_000)?, "{id} is known");
                }
                writer.sort_names_down_to(40, 5)
            });
            taken.unwrap();
        }
    }

    fn all(ledger: &Ledger, upto: i64) -> BTreeMap<i64, i64> {
        let reader = ledger.reader();
        let found = (1..=upto).filter_map(|id| Some((id, reader.id_of_caller(of(id), &name(id)).unwrap()?)));
        found.collect()
    }

    fn same(ids: impl IntoIterator<Item = i64>) -> BTreeMap<i64, i64> {
        ids.into_iter().map(|id| (id, id)).collect()
    }

    fn number(ledger: &Ledger, sql: &str) -> i64 {
        ledger.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn stop_hard(ledger: Ledger, state: &Path) -> tempfile::TempDir {
        let copy = tempfile::TempDir::new().unwrap();
        for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.mark"] {
            std::fs::copy(state.join(file), copy.path().join(file)).unwrap();
        }
        drop(ledger);
        copy
    }

    #[test]
    fn a_name_is_known_at_once_and_for_ever_whether_it_is_sorted_yet_over_restarts_and_to_readers() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        // Almost in order, as rows come.
        let ids: Vec<i64> = (0..500).map(|k| 1 + (k ^ 3)).collect();
        take(&mut ledger, &ids);
        assert_eq!(all(&ledger, 600), same(1..=500));
        let sorted = number(&ledger, "SELECT count(*) FROM caller_ids");
        assert!((400..=460).contains(&sorted), "{sorted} are sorted");
        assert!(number(&ledger, "SELECT before_id FROM sorted_ids") > 300);
        assert_eq!(
            all(&Ledger::open_to_read(dir.path()).unwrap(), 600),
            same(1..=500),
            "beside it"
        );
        // After a kill.
        let copy = stop_hard(ledger, dir.path());
        let mut ledger = Ledger::open(copy.path()).unwrap();
        assert_eq!(all(&ledger, 600), same(1..=500));
        let waiting = number(&ledger, "SELECT count(*) FROM temp.latest_ids");
        assert!((40..=200).contains(&waiting), "{waiting} were read again");
        take(&mut ledger, &(501..=700).collect::<Vec<_>>());
        assert_eq!(all(&ledger, 800), same(1..=700));
        // One that is late by much, and a stop.
        take(&mut ledger, &[2_000, 2_001, 2_002, 2_003, 2_004, 2_005, 2_006]);
        take(&mut ledger, &[750]);
        drop(ledger);
        let ledger = Ledger::open(copy.path()).unwrap();
        assert_eq!(all(&ledger, 800), same((1..=700).chain([750])));
        ledger.check().unwrap();
        assert_eq!(ledger.damage().found(), (0, Vec::new()));
    }

    #[test]
    fn what_a_failed_transaction_took_in_is_not_known_and_may_come_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        take(&mut ledger, &(1..=200).collect::<Vec<_>>());
        let failed: Result<(), LedgerError> = ledger.transaction(false, |writer| {
            let mut names = Names::new(writer.connection)?;
            for id in 201..=300 {
                assert!(names.insert(of(id), &name(id), id)?);
            }
            writer.sort_names_down_to(10, 1)?;
            Err(LedgerError::Conflict)
        });
        failed.unwrap_err();
        assert_eq!(all(&ledger, 400), same(1..=200));
        take(&mut ledger, &(201..=300).collect::<Vec<_>>());
        assert_eq!(all(&ledger, 400), same(1..=300));
    }

    #[test]
    fn the_name_of_a_row_that_goes_stands_nowhere_any_more_and_may_be_used_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        take(&mut ledger, &(1..=200).collect::<Vec<_>>());
        // A damaged one must go, too.
        let damage = "UPDATE own_ids SET caller_id = 'another' WHERE id = 4";
        ledger.connection.execute(damage, []).unwrap();
        let removed = [2, 4, 199];
        let gone = ledger.transaction(true, |writer| removed.iter().try_for_each(|&id| writer.remove_name(id)));
        gone.unwrap();
        let left = || (1..=200).filter(|id| !removed.contains(id));
        assert_eq!(all(&ledger, 200), same(left()));
        for table in ["own_ids", "caller_ids", "temp.latest_ids"] {
            let count = format!("SELECT count(*) FROM {table} WHERE id IN (2, 4, 199)");
            assert_eq!(number(&ledger, &count), 0, "{table}");
        }
        drop(ledger);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(all(&ledger, 200), same(left()));
        take(&mut ledger, &removed);
        assert_eq!(all(&ledger, 200), same(1..=200));
    }

    #[test]
    fn a_ledger_of_a_program_that_had_one_table_keeps_its_names_also_if_it_is_used_by_turns() {
        let dir = tempfile::TempDir::new().unwrap();
        drop(Ledger::open(dir.path()).unwrap());
        // What that program did.
        let by_the_other = |ids: std::ops::RangeInclusive<i64>, also: &str| {
            let connection = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
            super::super::seal::install(&connection, &super::super::Damage::default()).unwrap();
            connection.execute_batch(also).unwrap();
            let index = "CREATE INDEX IF NOT EXISTS ids_of_callers ON caller_ids (id)";
            connection.execute_batch(index).unwrap();
            for id in ids {
                let sql = insert_sealed!("INSERT OR IGNORE INTO ", "caller_ids", "?1, ?2, ?3");
                connection.execute(sql, params![of(id).0, name(id), id]).unwrap();
            }
        };
        by_the_other(1..=50, "DROP TABLE own_ids; DROP TABLE sorted_ids");
        assert_eq!(all(&Ledger::open_to_read(dir.path()).unwrap(), 60), same(1..=50));
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(all(&ledger, 60), same(1..=50));
        take(&mut ledger, &(51..=120).collect::<Vec<_>>());
        drop(ledger);
        by_the_other(121..=150, "");
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(all(&ledger, 200), same(1..=150));
        assert_eq!(number(&ledger, "SELECT count(*) FROM own_ids"), 150);
        ledger.transaction(true, |writer| writer.remove_name(140)).unwrap();
        assert_eq!(number(&ledger, "SELECT count(*) FROM caller_ids WHERE id = 140"), 0);
        ledger.check().unwrap();
        assert_eq!(ledger.damage().found(), (0, Vec::new()));
    }
}
