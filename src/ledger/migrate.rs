//! A ledger of an older format is brought up to date: copied into a new file, sealed on the way, and put in its place.
//!
//! Always holds: the old file is not written to, and stays beside the new one as a backup (see `swap`); every row of every
//! table is copied or the migration fails; what people have added of their own (tables, views, triggers) comes along.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::seal::{self, Damage, Table};
use super::{LedgerError, past, schema, swap};
use crate::time::{now_ms, rfc3339};

/// Brings the ledger in `state` up to date; gives the backup.
///
/// # Errors
/// What the system or SQLite says (no room, above all); the ledger is the old one then.
pub(super) fn migrate(state: &Path, format: i64) -> Result<PathBuf, LedgerError> {
    let ledger = state.join(swap::LEDGER);
    tracing::info!(
        from = format,
        to = schema::FORMAT,
        "bringing the ledger up to date, which takes room for a second one"
    );
    fold_log(&ledger)?;
    let draft = swap::draft(state)?;
    build(&draft, &ledger)?;
    let date: String = rfc3339(now_ms()).chars().take(10).collect();
    let backup = swap::swap(state, &format!("ledger.format-{format}.{date}"))?;
    let days = swap::KEPT.as_secs() / 86_400;
    tracing::info!(
        backup = %backup.display(), days,
        "the ledger is up to date; the file before it is kept for so many days, or until rows are erased"
    );
    Ok(backup)
}

/// Moves the log into the file, so that the file is all there is.
fn fold_log(ledger: &Path) -> Result<(), LedgerError> {
    let connection = Connection::open(ledger)?;
    connection.busy_timeout(schema::BUSY)?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(LedgerError::LogInUse);
    }
    Ok(())
}

fn build(draft: &Path, ledger: &Path) -> Result<(), LedgerError> {
    let connection = new_file(draft)?;
    connection.execute("ATTACH ?1 AS old", params![past::immutable(ledger)])?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for (name, sql) in objects(&connection, "table")? {
        copy_table(&connection, &name, &sql)?;
    }
    let has_counters: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM old.sqlite_master WHERE name = 'sqlite_sequence')",
        [],
        |row| row.get(0),
    )?;
    if has_counters {
        connection.execute_batch(
            "DELETE FROM main.sqlite_sequence; INSERT INTO main.sqlite_sequence SELECT * FROM old.sqlite_sequence",
        )?;
    }
    for kind in ["index", "view", "trigger"] {
        for (name, sql) in objects(&connection, kind)? {
            if !is_here(&connection, &name)? {
                connection.execute_batch(&sql)?;
            }
        }
    }
    connection.execute_batch("COMMIT; DETACH old")?;
    connection.close().map_err(|(_, error)| error.into())
}

/// An empty ledger in `draft`, quick to fill: whatever interrupts it, it is begun anew.
pub(super) fn new_file(draft: &Path) -> Result<Connection, LedgerError> {
    let connection = Connection::open(draft)?;
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA secure_delete = ON")?;
    seal::install(&connection, &Damage::default())?;
    schema::create(&connection)?;
    Ok(connection)
}

/// Name and text of what people can see of one kind in the old file.
fn objects(connection: &Connection, kind: &str) -> Result<Vec<(String, String)>, LedgerError> {
    let mut statement = connection.prepare(
        "SELECT name, sql FROM old.sqlite_master WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         ORDER BY rowid",
    )?;
    let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn is_here(connection: &Connection, name: &str) -> Result<bool, LedgerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE name = ?1)";
    Ok(connection.query_row(sql, [name], |row| row.get(0))?)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn copy_table(connection: &Connection, name: &str, sql: &str) -> Result<(), LedgerError> {
    if !is_here(connection, name)? {
        connection.execute_batch(sql)?;
    }
    let columns = |schema: &str| -> Result<Vec<(String, Option<String>)>, LedgerError> {
        let mut statement =
            connection.prepare("SELECT name, dflt_value FROM pragma_table_info(?1, ?2) ORDER BY cid")?;
        let rows = statement.query_map([name, schema], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let (new, old) = (columns("main")?, columns("old")?);
    let sealed = Table::named(name);
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (column, default) in new {
        if sealed.is_some() && column == "seal" {
            continue;
        }
        values.push(match old.iter().any(|(known, _)| *known == column) {
            true => quoted(&column),
            // The text of a default is an expression.
            false => default.unwrap_or_else(|| "NULL".to_owned()),
        });
        names.push(quoted(&column));
    }
    let table = quoted(name);
    if sealed.is_some() {
        names.push("seal".to_owned());
        values.push(format!("seal('{name}', {})", values.join(", ")));
    }
    let (names, values) = (names.join(", "), values.join(", "));
    connection.execute_batch(&format!(
        "INSERT INTO main.{table} ({names}) SELECT {values} FROM old.{table}"
    ))?;
    let count = |schema: &str| -> Result<i64, LedgerError> {
        Ok(connection.query_row(&format!("SELECT count(*) FROM {schema}.{table}"), [], |row| row.get(0))?)
    };
    match count("main")? == count("old")? {
        true => Ok(()),
        false => Err(rusqlite::Error::StatementChangedRows(0).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::rows::Position;
    use crate::score::ModelNo;

    /// A state directory with a ledger of an older format, a row of most kinds in it, and something of somebody's own.
    fn old(format: i64) -> tempfile::TempDir {
        let dir = tempfile::TempDir::new().unwrap();
        let connection = Connection::open(dir.path().join(swap::LEDGER)).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch(&schema::of_format(format)).unwrap();
        connection
            .execute_batch(
                "INSERT INTO models (name, champion_no, epoch) VALUES ('m', 1, 4);
                 INSERT INTO versions (model_no, name, digest, role, arrived) VALUES (1, 'v', 'sha256:00', 'champion', 7);
                 INSERT INTO predictions VALUES (77, 1, 1, 5, 4, 1, NULL, 'binary', 1.0, '{}', 'carla', NULL, 1);
                 INSERT INTO record VALUES ((1 << 40) | 1, 77, 5);
                 INSERT INTO labels VALUES (77, 6, '1', 1, NULL, 1.0, 0, NULL);
                 INSERT INTO folded (key, time, epoch, weight, champion_loss) VALUES ((1 << 40) | 1, 5, 4, 1.0, 0.5);
                 INSERT INTO pairs (key, version_no, difference, kind, classes) VALUES ((1 << 40) | 1, 2, 0.25, 0, 2);
                 INSERT INTO journal (model_no, time, after_row, event) VALUES (1, 1, 0, '{}');
                 CREATE TABLE \"mine own\" (x); INSERT INTO \"mine own\" VALUES ('kept');
                 CREATE VIEW mine AS SELECT * FROM \"mine own\";",
            )
            .unwrap();
        // As after a kill: part of it is in the log only.
        let (main, log) = (dir.path().join(swap::LEDGER), dir.path().join("ledger.sqlite-wal"));
        let copies = [main, log].map(|path| (fs::read(&path).unwrap(), path));
        drop(connection);
        for (bytes, path) in copies {
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn read<T: rusqlite::types::FromSql>(ledger: &Ledger, sql: &str) -> T {
        ledger.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_ledger_of_an_older_format_is_brought_up_to_date_whole_and_the_file_before_is_kept_beside_it() {
        for format in [1, 2] {
            let dir = old(format);
            let ledger = Ledger::open(dir.path()).unwrap();
            ledger.check().unwrap();
            assert_eq!(ledger.damage().found(), (0, Vec::new()));
            let model = ledger.reader().known_model("m").unwrap().unwrap();
            assert_eq!((model.no, model.epoch), (ModelNo(1), 4));
            assert_eq!(ledger.reader().last_row(ModelNo(1)).unwrap(), 1);
            assert!(ledger.reader().label(77).unwrap().is_some());
            let mut pairs = Vec::new();
            ledger.reader().pairs(ModelNo(1), 0, |pair| pairs.push(pair)).unwrap();
            assert_eq!(pairs[0].entries.len(), 1, "{pairs:?}");
            assert_eq!(read::<String>(&ledger, "SELECT x FROM mine"), "kept");
            let from = Position {
                model: ModelNo(1),
                row: 1,
            };
            ledger
                .reader()
                .open_rows(from, |row| {
                    assert!(row.id == 77 && row.label.is_some());
                    Ok(true)
                })
                .unwrap();
            let kept = swap::kept(dir.path());
            let name = kept[0].file_name().unwrap().to_str().unwrap();
            assert!(
                kept.len() == 1 && name.starts_with(&format!("ledger.format-{format}.20")),
                "{name}"
            );
            let backup = Connection::open(&kept[0]).unwrap();
            let told: (i64, i64) = backup
                .query_row(
                    "SELECT user_version, (SELECT count(*) FROM labels) FROM pragma_user_version",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(told, (format, 1));
        }
    }

    #[test]
    fn a_file_that_cannot_be_brought_up_to_date_stays_as_it_was() {
        let dir = old(2);
        let text = |dir: &Path| -> (i64, i64) {
            let connection = Connection::open(dir.join(swap::LEDGER)).unwrap();
            let sql = "SELECT user_version, (SELECT count(*) FROM labels) FROM pragma_user_version";
            connection
                .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
        };
        // A row that the new tables do not take.
        let connection = Connection::open(dir.path().join(swap::LEDGER)).unwrap();
        connection
            .execute_batch(
                "DROP TABLE labels; CREATE TABLE labels (id, received, label, class, value, weight, late, extra);
                 INSERT INTO labels VALUES ('no number', 6, '1', 1, NULL, 1.0, 0, NULL)",
            )
            .unwrap();
        drop(connection);
        let before = text(dir.path());
        assert!(Ledger::open(dir.path()).is_err());
        assert_eq!(text(dir.path()), before);
        assert!(swap::kept(dir.path()).is_empty());
    }

    #[test]
    fn whenever_a_change_of_files_is_cut_short_the_ledger_is_the_old_one_or_the_new_one() {
        // What the directory looks like after each step of the swap.
        let names = ["ledger.sqlite", "ledger.draft.sqlite", "ledger.next.sqlite"];
        for step in 0..6 {
            let dir = old(2);
            let at = |name: &str| dir.path().join(name);
            fold_log(&at(names[0])).unwrap();
            let draft = swap::draft(dir.path()).unwrap();
            if step == 0 {
                fs::write(&draft, "half of it").unwrap();
            } else {
                build(&draft, &at(names[0])).unwrap();
            }
            if step >= 2 {
                fs::hard_link(at(names[0]), at("ledger.format-2.2026-11-26.sqlite")).unwrap();
            }
            if step >= 3 {
                fs::rename(at(names[1]), at(names[2])).unwrap();
            }
            if step == 4 {
                // A log that belongs to the old file.
                fs::write(at("ledger.sqlite-wal"), "frames").unwrap();
            }
            if step >= 5 {
                fs::rename(at(names[2]), at(names[0])).unwrap();
            }
            let ledger = Ledger::open(dir.path()).unwrap();
            ledger.check().unwrap();
            assert!(ledger.reader().label(77).unwrap().is_some(), "step {step}");
            assert_eq!(
                read::<i64>(&ledger, "SELECT user_version FROM pragma_user_version"),
                schema::FORMAT
            );
            assert!(!at(names[1]).exists() && !at(names[2]).exists(), "step {step}");
        }
    }

    #[test]
    fn erasing_rows_removes_the_kept_copies_that_may_hold_them() {
        let dir = old(2);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        fs::write(dir.path().join("ledger.damaged-2026-11-26T101010.sqlite"), "carla").unwrap();
        assert_eq!(swap::kept(dir.path()).len(), 2);
        let key = crate::id::IdKey::new([7; 16]);
        let erased = ledger.transaction(true, |writer| {
            writer.erase(ModelNo(1), &[77], 9, ("ada", "asked"), &key)
        });
        assert_eq!(erased.unwrap().ids, [77]);
        assert!(ledger.scrub().unwrap());
        assert!(swap::kept(dir.path()).is_empty());
        for entry in fs::read_dir(dir.path()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(5).any(|word| word == b"carla"));
        }
    }
}
