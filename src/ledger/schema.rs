//! The tables, and the one place that knows the file's format.

use rusqlite::Connection;

use super::LedgerError;

/// Format of the file, in SQLite's `user_version`.
const FORMAT: i64 = 1;

/// Times are Unix milliseconds; `*_no` are numbers of models and versions; labels are JSON as the client sent them.
///
/// `record` keeps the order in which rows were recorded: `key = model_no << 40 | row`. It is a second key, but one
/// that only grows, which costs a fifth of what a random one does.
const TABLES: &str = "
CREATE TABLE models (
  model_no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, interface TEXT,
  settings TEXT,
  champion_no INTEGER, previous_no INTEGER, epoch INTEGER NOT NULL DEFAULT 0, champion_since INTEGER, hold TEXT);
CREATE TABLE versions (
  version_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
  stored_digest TEXT, role TEXT NOT NULL, reason TEXT, arrived INTEGER NOT NULL, facts TEXT, lineage TEXT);
CREATE INDEX versions_of_model ON versions (model_no);
CREATE TABLE lineups (lineup_no INTEGER PRIMARY KEY, versions TEXT NOT NULL);
CREATE TABLE predictions (
  id INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, row INTEGER NOT NULL, time INTEGER NOT NULL,
  epoch INTEGER NOT NULL, version_no INTEGER NOT NULL, fallback_no INTEGER, outcome TEXT NOT NULL, score REAL,
  inputs BLOB, entity TEXT, context TEXT, lineup_no INTEGER NOT NULL);
CREATE TABLE record (key INTEGER PRIMARY KEY, id INTEGER NOT NULL);
CREATE TABLE caller_ids (
  model_no INTEGER NOT NULL, caller_id TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (model_no, caller_id)) WITHOUT ROWID;
CREATE TABLE outcomes (
  id INTEGER NOT NULL, version_no INTEGER NOT NULL, outcome TEXT NOT NULL, score REAL,
  PRIMARY KEY (id, version_no)) WITHOUT ROWID;
CREATE TABLE labels (
  id INTEGER PRIMARY KEY, received INTEGER NOT NULL, label TEXT NOT NULL, class INTEGER, value REAL,
  weight REAL NOT NULL, late INTEGER NOT NULL, extra TEXT);
CREATE TABLE corrections (
  correction_no INTEGER PRIMARY KEY, id INTEGER NOT NULL, received INTEGER NOT NULL, label TEXT NOT NULL,
  weight REAL NOT NULL, extra TEXT);
CREATE TABLE folded (
  key INTEGER PRIMARY KEY, time INTEGER NOT NULL, epoch INTEGER NOT NULL, weight REAL NOT NULL, champion_loss REAL);
CREATE TABLE pairs (
  key INTEGER NOT NULL, version_no INTEGER NOT NULL, difference REAL NOT NULL, kind INTEGER NOT NULL,
  classes INTEGER NOT NULL, PRIMARY KEY (key, version_no)) WITHOUT ROWID;
CREATE TABLE journal (
  entry_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, time INTEGER NOT NULL, after_row INTEGER NOT NULL,
  event TEXT NOT NULL);
CREATE INDEX journal_of_model ON journal (model_no);
CREATE TABLE decisions (
  n INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, from_no INTEGER,
  to_no INTEGER, author TEXT NOT NULL, reason TEXT NOT NULL, why TEXT NOT NULL, basis TEXT);
CREATE INDEX decisions_of_model ON decisions (model_no);
CREATE TABLE verdicts (
  verdict_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, row INTEGER NOT NULL, version_no INTEGER NOT NULL,
  verdict TEXT NOT NULL);
CREATE TABLE snapshots (
  model_no INTEGER PRIMARY KEY, folded_row INTEGER NOT NULL, entry_no INTEGER NOT NULL, judge TEXT NOT NULL);
CREATE TABLE pairings (model_no INTEGER PRIMARY KEY, pairing TEXT NOT NULL);
CREATE TABLE coverage (
  model_no INTEGER NOT NULL, version_no INTEGER NOT NULL, counter TEXT NOT NULL, value INTEGER NOT NULL,
  PRIMARY KEY (model_no, version_no, counter)) WITHOUT ROWID;
";

/// Sets the connection up and creates or checks the tables.
pub(super) fn prepare(connection: &Connection) -> Result<(), LedgerError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        FORMAT => Ok(()),
        0 => {
            connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT"))?;
            Ok(())
        }
        found => Err(LedgerError::Newer { found, known: FORMAT }),
    }
}
