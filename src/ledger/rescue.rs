//! A ledger that SQLite cannot read, or only in part: what is whole goes into a new file, the damaged one is set aside.
//!
//! Always holds: only rows whose seal fits are taken; a file of which no model can be saved is left where it is, for a new
//! ledger must not begin unasked. Of what was between the damaged rows nobody can tell what is missing, so every model's
//! challengers earn their evidence anew from here on: no verdict rests on a record with holes. Champions stay.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params_from_iter};

use super::pages::{Pages, Row};
use super::seal::{Damage, TABLES};
use super::{LedgerError, migrate, swap};
use crate::time::{now_ms, rfc3339};

/// The journal's word that evidence begins anew.
const RESTART: &str = "{\"event\":\"restart\"}";

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rescued {
    /// Rows of all tables.
    pub(super) rows: u64,
    /// Where the damaged file is.
    pub(super) aside: PathBuf,
}

/// Builds a new ledger from what is whole, and puts it in place.
///
/// # Errors
/// `cause` where nothing could be saved; else what the system says. The damaged file is where it was then.
pub(super) fn rescue(state: &Path, damage: &Damage, cause: LedgerError) -> Result<Rescued, LedgerError> {
    let ledger = state.join(swap::LEDGER);
    let said = cause.to_string();
    let file = |source| LedgerError::File {
        path: ledger.clone(),
        source,
    };
    let pages = Pages::open(&ledger).map_err(file)?;
    let draft = swap::draft(state)?;
    let connection = migrate::new_file(&draft)?;
    let rows = fill(&connection, &pages)?;
    let models: i64 = connection.query_row("SELECT count(*) FROM models", [], |row| row.get(0))?;
    if models == 0 {
        return Err(cause);
    }
    begin_anew(&connection)?;
    for missing in missing(&connection)? {
        damage.note(missing);
    }
    connection.close().map_err(|(_, error)| LedgerError::from(error))?;
    let stamp: String = rfc3339(now_ms()).chars().take(19).filter(|c| *c != ':').collect();
    let aside = swap::swap(state, &format!("ledger.damaged-{stamp}"))?;
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    damage.note(format!(
        "ledger.sqlite was damaged ({said}): {rows} whole rows were kept, evidence begins anew, the damaged file is {name}"
    ));
    Ok(Rescued { rows, aside })
}

fn fill(connection: &Connection, pages: &Pages) -> Result<u64, LedgerError> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut rows = 0;
    for number in 1..=pages.last {
        for row in pages.rows(number) {
            put(connection, row)?;
            rows += 1;
        }
    }
    connection.execute_batch(
        "INSERT INTO reward_totals SELECT p.model_no, coalesce(p.fallback_no, p.version_no), count(*), sum(r.reward)
         FROM rewards r JOIN predictions p ON p.id = r.id WHERE r.reward IS NOT NULL GROUP BY 1, 2;
         -- Callers' ids that are whole in one of their tables are put into the other when the file is opened.
         DELETE FROM sorted_ids; COMMIT",
    )?;
    Ok(rows)
}

fn put(connection: &Connection, row: Row) -> Result<(), LedgerError> {
    let marks = vec!["?"; row.values.len() + 1].join(",");
    let sql = format!("INSERT OR REPLACE INTO {} VALUES ({marks})", row.table.name);
    let values = row.values.into_iter().chain([row.seal.into()]);
    connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

fn begin_anew(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute(
        "INSERT INTO journal (model_no, time, after_row, event) SELECT m.model_no, ?1,
         max(coalesce((SELECT folded_row FROM cursors c WHERE c.model_no = m.model_no), 0),
             coalesce((SELECT max(key & 0xffffffffff) FROM folded f WHERE f.key >> 40 = m.model_no), 0),
             coalesce((SELECT max(after_row) FROM journal j WHERE j.model_no = m.model_no), 0)), ?2 FROM models m",
        rusqlite::params![now_ms(), RESTART],
    )?;
    super::seal::seal_table(connection, "journal")
}

/// Holes where numbers run on, and models that are only spoken of.
fn missing(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut missing = Vec::new();
    for table in TABLES.iter().filter(|table| table.is_core && table.keys == 1) {
        let (name, key) = (table.name, table.columns.first().copied().unwrap_or("rowid"));
        if matches!(name, "version_settings" | "cursors") {
            // Their key is somebody else's number.
            continue;
        }
        let sql = format!("SELECT coalesce(max({key}), 0) - count(*) FROM {name} WHERE {key} > 0");
        let holes: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        if holes > 0 {
            missing.push(format!("{name}: {holes} rows are lost"));
        }
    }
    let mut statement = connection.prepare(
        "SELECT DISTINCT model_no FROM versions WHERE model_no NOT IN (SELECT model_no FROM models) ORDER BY 1",
    )?;
    let lost = statement.query_map([], |row| row.get::<_, i64>(0))?;
    for no in lost {
        missing.push(format!("models {}: its name and its register are lost", no?));
    }
    Ok(missing)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::rows::Position;
    use crate::ledger::{AlarmRow, Kept, LabelRow, Ledger, PredictionRow, VersionRow, Writer};
    use crate::mirror::StandIn;
    use crate::score::{ModelNo, Outcome, Score, Truth, VersionNo};
    use crate::span::Clock;

    fn write(writer: &Writer<'_>, rows: i64) -> Result<(), LedgerError> {
        let model = writer.model("m")?;
        writer.insert_version(&VersionRow {
            no: VersionNo(0),
            model: model.no,
            name: "v".into(),
            digest: "sha256:00".into(),
            stored_digest: None,
            role: "champion".into(),
            reason: None,
            arrived_ms: 1,
            facts: Some("a long text that spills over onto pages of its own; ".repeat(400)),
            lineage: None,
        })?;
        writer.insert_journal(model.no, 1, 0, "{\"event\":\"hold\",\"on\":true}")?;
        let lineup = writer.insert_lineup(&[VersionNo(2)])?;
        let outcome = Outcome::Scored(Score::Binary(0.25));
        let stand_in = StandIn {
            version: VersionNo(2),
            score: Some(Score::Binary(0.5)),
        };
        for id in 1..=rows {
            let row = PredictionRow {
                id,
                position: Position {
                    model: model.no,
                    row: id.cast_unsigned(),
                },
                time_ms: id,
                epoch: 1,
                version: VersionNo(1),
                fallback: (id % 4 == 0).then_some(&stand_in),
                outcome: &outcome,
                inputs: format!("{{\"x\":{id}}}").into(),
                entity: (id % 3 == 0).then_some("e"),
                context: None,
                lineup,
            };
            let mut recording = writer.recording()?;
            assert!(recording.insert(&row, Some(&format!("order-{id}")))?);
            recording.finish()?;
            writer.outcomes_in()?.insert(id, VersionNo(2), &outcome)?;
            let label = LabelRow {
                label: "1".into(),
                truth: Truth::Class(1),
                weight: 1.0,
                late: false,
            };
            writer.insert_label(id, id, &label, None)?;
            if id == rows / 2 {
                writer.sort_names_down_to(0, 0)?;
            }
        }
        writer.put_baseline(VersionNo(1), 5, "{\"of\":\"inputs\"}")?;
        let alarm = AlarmRow {
            clock: Clock { row: 2, time_ms: 2 },
            version: VersionNo(1),
            feature: "x".into(),
            what: "higher".into(),
            log_wealth: 9.5,
        };
        writer.put_alarm(model.no, &alarm)?;
        let kept = Kept {
            counted_to: rows.cast_unsigned(),
            inputs_bytes: 1_000,
            ..Kept::default()
        };
        writer.put_kept(model.no, &kept)?;
        writer.update_model(
            &crate::ledger::ModelRow {
                champion: Some(VersionNo(1)),
                epoch: 1,
                ..writer.model("m")?
            }
            .proposed(),
        )
    }

    pub(in crate::ledger) fn state(rows: i64) -> tempfile::TempDir {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.transaction(true, |writer| write(writer, rows)).unwrap();
        dir
    }

    fn counts(ledger: &Ledger) -> Vec<(String, i64)> {
        let count = |table: &super::super::seal::Table| {
            let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, table.is_whole());
            (
                table.name.to_owned(),
                ledger.connection.query_row(&sql, [], |row| row.get(0)).unwrap(),
            )
        };
        TABLES.iter().map(count).collect()
    }

    #[test]
    fn without_sqlite_every_row_is_found_in_the_pages_of_a_file_and_of_its_log() {
        let dir = state(700);
        let path = dir.path().join(swap::LEDGER);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let later = |writer: &Writer<'_>| writer.insert_journal(ModelNo(1), 2, 9, "{}");
        ledger.transaction(true, |writer| later(writer)).unwrap();
        let pages = Pages::open(&path).unwrap();
        let mut found: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
        for number in 1..=pages.last {
            for row in pages.rows(number) {
                *found.entry(row.table.name).or_default() += 1;
            }
        }
        for (table, rows) in counts(&ledger) {
            assert_eq!(found.get(table.as_str()).copied().unwrap_or(0), rows, "{table}");
        }
        assert_eq!(found["predictions"], 700);
    }

    #[test]
    fn of_a_broken_file_every_whole_row_is_kept_and_evidence_begins_anew() {
        let dir = state(700);
        let path = dir.path().join(swap::LEDGER);
        let before = counts(&Ledger::open(dir.path()).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        let pages = Pages::open(&path).unwrap();
        let holds = |number: &u32| pages.rows(*number).iter().any(|row| row.table.name == "predictions");
        let three: Vec<u32> = (2..=pages.last).filter(holds).skip(3).take(3).collect();
        assert_eq!(three.len(), 3);
        // Schema, and three pages of rows.
        bytes[100..4_096].fill(0x5a);
        for number in three {
            let begin = (usize::try_from(number).unwrap() - 1) * 4_096;
            bytes[begin..begin + 4_096].fill(0);
        }
        fs::write(&path, &bytes).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.check().unwrap();
        let after = counts(&ledger);
        let lost: i64 = before
            .iter()
            .zip(&after)
            .map(|((_, before), (_, after))| (before - after).max(0))
            .sum();
        assert!((1..500).contains(&lost), "{before:?} {after:?}");
        let model = ledger.reader().known_model("m").unwrap().unwrap();
        assert_eq!(model.champion, Some(VersionNo(1)), "champions stay");
        assert_eq!(
            ledger.reader().journal(ModelNo(1), 0).unwrap().last().unwrap().event,
            RESTART
        );
        assert!(matches!(
            serde_json::from_str(RESTART).unwrap(),
            crate::recorder::Event::Restart
        ));
        let aside = swap::kept(dir.path());
        assert_eq!(fs::read(&aside[0]).unwrap(), bytes, "the damaged file, as it was");
        // It works, also after a restart.
        ledger.transaction(true, |writer| writer.model("n")).unwrap();
        drop(ledger);
        let again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.damage().found(), (0, Vec::new()));
    }

    #[test]
    fn a_damaged_row_is_named_and_neither_counted_nor_in_the_way() {
        let dir = state(20);
        let ledger = Connection::open(dir.path().join(swap::LEDGER)).unwrap();
        let flips = "UPDATE labels SET class = 0 WHERE id = 3; UPDATE predictions SET score = 0.75 WHERE id = 5;
            UPDATE outcomes SET score = 0.75 WHERE id = 7; UPDATE record SET time = 1 WHERE id = 9;
            UPDATE caller_ids SET id = 2 WHERE id = 9; UPDATE own_ids SET caller_id = 'order-99' WHERE id = 11;
            UPDATE fallbacks SET score = 0.75 WHERE id = 12; UPDATE record SET key = key + 4 WHERE id = 20;
            UPDATE baselines SET baseline = '{}'; UPDATE alarms SET log_odds = 0.0; UPDATE retention SET inputs_bytes = 1;";
        ledger.execute_batch(flips).unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let reader = ledger.reader();
        let (mut ids, mut labelled) = (Vec::new(), 0);
        let from = Position {
            model: ModelNo(1),
            row: 1,
        };
        reader
            .open_rows(from, |row| {
                ids.push(row.id);
                labelled += u32::from(row.label.is_some());
                Ok(true)
            })
            .unwrap();
        assert_eq!(ids.iter().filter(|id| **id == 0).count(), 3, "{ids:?}");
        assert_eq!(labelled, 17);
        assert!(reader.answered(5).unwrap().is_none() && reader.position(5).unwrap().is_none());
        assert!(matches!(reader.outcomes(7).unwrap()[..], [(_, Outcome::Shed(_))]));
        for name in ["order-9", "order-11", "order-99"] {
            assert_eq!(reader.id_of_caller(ModelNo(1), name).unwrap(), None);
        }
        assert_eq!(reader.fallback(12).unwrap(), None);
        assert_eq!(reader.baseline(VersionNo(1)).unwrap(), None);
        assert_eq!(reader.kept(ModelNo(1)).unwrap(), Kept::default());
        assert_eq!(
            reader.last_row(ModelNo(1)).unwrap(),
            19,
            "a number that nobody gave is none"
        );
        let (_, found) = ledger.damage().found();
        for what in [
            "labels 3",
            "predictions 5",
            "outcomes 7 2",
            "caller_ids 1 …",
            "own_ids 11",
            "fallbacks 12",
            "baselines 1",
            "retention 1",
        ] {
            assert!(found.iter().any(|found| found == what), "{what}: {found:?}");
        }
        // Nobody reads alarms but people, and the look at all rows.
        ledger.check().unwrap();
        assert!(ledger.damage().found().1.contains(&"alarms 1".to_owned()));
        // The label may come again.
        let label = LabelRow {
            label: "1".into(),
            truth: Truth::Class(1),
            weight: 1.0,
            late: false,
        };
        let again = ledger.transaction(true, |writer| {
            assert!(writer.label(3)?.is_none());
            writer.insert_label(3, 9, &label, None)?;
            writer.label(3)
        });
        assert_eq!(again.unwrap(), Some(label));
    }

    #[test]
    fn rows_from_before_their_table_had_seals_are_sealed_as_they_are() {
        let dir = state(20);
        let path = dir.path().join(swap::LEDGER);
        let tables = ["alarms", "baselines", "retention"];
        let before = Ledger::open(dir.path()).unwrap().reader().kept(ModelNo(1)).unwrap();
        let ledger = Connection::open(&path).unwrap();
        for table in tables {
            let sql = format!("ALTER TABLE {table} DROP COLUMN seal");
            ledger.execute_batch(&sql).unwrap();
        }
        drop(ledger);
        Ledger::open_to_read(dir.path()).unwrap().check().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.check().unwrap();
        assert_eq!(ledger.damage().found(), (0, Vec::new()));
        assert_eq!(ledger.reader().kept(ModelNo(1)).unwrap(), before);
        assert!(ledger.reader().baseline(VersionNo(1)).unwrap().is_some());
        drop(ledger);
        let ledger = Connection::open(&path).unwrap();
        let changes = ["log_odds = 0.5", "made = 6", "rows_to = 7"];
        for (table, change) in tables.iter().zip(changes) {
            ledger.execute(&format!("UPDATE {table} SET {change}"), []).unwrap();
        }
        drop(ledger);
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.check().unwrap();
        let (_, found) = ledger.damage().found();
        assert_eq!(found, tables.map(|table| format!("{table} 1")), "each is named");
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_named() {
        let dir = state(3);
        let kept = fs::read(dir.path().join(swap::LEDGER)).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for name in ["n", "o"] {
            ledger.transaction(true, |writer| writer.model(name)).unwrap();
        }
        drop(ledger);
        assert_eq!(Ledger::open(dir.path()).unwrap().damage().found().0, 0);
        // An older copy is put in its place.
        fs::write(dir.path().join(swap::LEDGER), kept).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let (_, found) = ledger.damage().found();
        assert!(
            found[0].starts_with("2 acknowledged commits are not in the ledger"),
            "{found:?}"
        );
        drop(ledger);
        assert_eq!(Ledger::open(dir.path()).unwrap().damage().found().0, 0, "said once");
    }
}
