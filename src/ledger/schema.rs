//! The tables, and the one place that knows the file's format.
//!
//! For whoever opens the file (any SQLite tool will do; reading never disturbs the gateway, but close the tool again:
//! while it holds a transaction the log beside the file cannot begin anew):
//!
//! | table | one row is | made |
//! |---|---|---|
//! | `models` | a model: interface and settings as JSON and TOML, who is champion, which tenure (`epoch`), who holds it, `revision` of all that and the `nonce` of whoever changed it last | when its directory is first seen |
//! | `versions` | a file that was dropped: role, reason, what admission found, lineage | when it is first seen |
//! | `version_settings` | what a version's own toml said, as JSON, when it was last in force | when it joins, and when it changes |
//! | `predictions` | a recorded row as it was answered: champion asked, what it made of it, who stood in, inputs, context | with the answer |
//! | `fallbacks` | what was answered where somebody stood in for the champion | with `predictions` |
//! | `record` | the order of recording: `key = model_no << 40 \| row` to `id`; a second key, but one that only grows | with `predictions` |
//! | `own_ids` | the caller's own id of a row | with `predictions`, where there is one |
//! | `caller_ids`, `sorted_ids` | the same by name, once some ten thousand more have come; how many are here | as others come |
//! | `lineups` | a set of challengers (`3,4,7`) that rows are offered to | when it is new |
//! | `outcomes` | what one challenger made of one row: a score, or why there is none | when it reports, or at the offer if it refuses |
//! | `labels`, `corrections` | the label of a row that counts, which is the first one or a trusted key's, and others that differ | when they arrive |
//! | `reported_by` | under which API key a row's label, its rewards or a correction came (`what`; `no` is the correction's number) | with those, where there are keys |
//! | `rewards`, `reward_totals` | what the answer to a row earned, or what each label would have: the first report of a row, and count and sum per version that answered; evidence only under `metric = "rewards"`, by the table of labels | when they arrive |
//! | `remarks` | a vote (−1 to 1), a comment or a dispute (why, or empty) on an answer; never evidence | when it arrives |
//! | `folded`, `pairs` | a row that became evidence: loss of the champion, difference per version; no id, no features, no label | when the row closes |
//! | `cursors` | how far a model's rows have been folded, with counts of labels per class | with each fold |
//! | `journal` | what happened to the judge between two rows: versions coming and going, swaps, policies, holds | when it happens |
//! | `decisions`, `verdicts` | promotions, rollbacks, people's orders; every change of a version's verdict | when they happen |
//! | `snapshots` | the judge's state, to start faster; may be deleted | every so many rows |
//! | `coverage` | counters behind each verdict | with each commit |
//! | `audit` | a decision or an erasure, hashed together with all before it; hashes and numbers only | with each |
//! | `retention` | how far a model was pruned (`inputs_to`, `rows_to`: row numbers), what went, bytes of inputs that are left | with each commit |
//! | `erasures` | rows that were erased: their numbers, by whom, why | when a person asks for it |
//! | `exports`, `erased_exports` | an export of recorded rows: by whom, where, which rows; and which exports held rows that were erased | when it begins, and with each erasure |
//! | `retrainings` | a time to retrain: causes with their numbers, where the rows went, the command and what came of it, `removed` when rows and log were deleted; `labelled_row`: how far labels were counted | when it is time, and at each step |
//! | `baselines` | what a version's rows are compared with by the monitor, as JSON | when it is complete |
//! | `alarms` | a feature that changed, by the monitor's count | when it is raised |
//! | `outages` | a time in which the ledger could not be written, and the rows it cost; rows that a power cut cost | when it is over |
//! | `commits` | how many commits have waited for the disk; `ledger.mark` beside the file has the same number | with each of them |
//!
//! `seal`, the last column of most tables, is a hash of the others: a row whose seal does not fit is damaged, or was
//! changed by hand, and is not counted.
//!
//! The views `rows` and `evidence` show names for numbers and dates for times; `score` is what was answered, by whoever did;
//! `labelled_predictions` is one row per prediction whose outcome is known, with who answered and when the label came;
//! `scoreboard` one row per version: role, labels and mean loss difference of the present tenure, ln wealth, verdict and its sentence as they were last recorded
//! (at `verdict_row`: at each change), and coverage. Times are Unix milliseconds, `*_no` are
//! numbers of models and versions, `label` is JSON as the client sent it, `inputs` JSON (or, for tensors, bytes as a
//! runner gets them), `score` of several classes 8 bytes each, least first. `folded`, `pairs` and `journal` are enough to
//! reach every verdict again; rows can be erased without changing one.

use rusqlite::Connection;

use super::{LedgerError, seal};

/// Format of the file, in SQLite's `user_version`.
pub(super) const FORMAT: i64 = 3;
/// How long a commit waits for another program that writes to the file, before that counts as a failure.
pub(super) const BUSY: std::time::Duration = std::time::Duration::from_secs(2);

const TABLES: &str = "
CREATE TABLE models (
  model_no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, interface TEXT,
  settings TEXT,
  champion_no INTEGER, previous_no INTEGER, epoch INTEGER NOT NULL DEFAULT 0, champion_since INTEGER, hold TEXT,
  revision INTEGER NOT NULL DEFAULT 0, nonce TEXT, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE versions (
  version_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
  stored_digest TEXT, role TEXT NOT NULL, reason TEXT, arrived INTEGER NOT NULL, facts TEXT, lineage TEXT, seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX versions_of_model ON versions (model_no);
CREATE TABLE lineups (lineup_no INTEGER PRIMARY KEY, versions TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE predictions (
  id INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, row INTEGER NOT NULL, time INTEGER NOT NULL,
  epoch INTEGER NOT NULL, version_no INTEGER NOT NULL, fallback_no INTEGER, outcome TEXT NOT NULL, score REAL,
  inputs BLOB, entity TEXT, context TEXT, lineup_no INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE record (key INTEGER PRIMARY KEY, id INTEGER NOT NULL, time INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE caller_ids (
  model_no INTEGER NOT NULL, caller_id TEXT NOT NULL, id INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (model_no, caller_id)) WITHOUT ROWID;
CREATE TABLE outcomes (
  id INTEGER NOT NULL, version_no INTEGER NOT NULL, outcome TEXT NOT NULL, score REAL, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (id, version_no)) WITHOUT ROWID;
CREATE TABLE labels (
  id INTEGER PRIMARY KEY, received INTEGER NOT NULL, label TEXT NOT NULL, class INTEGER, value REAL,
  weight REAL NOT NULL, late INTEGER NOT NULL, extra TEXT, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE corrections (
  correction_no INTEGER PRIMARY KEY, id INTEGER NOT NULL, received INTEGER NOT NULL, label TEXT NOT NULL,
  weight REAL NOT NULL, extra TEXT, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE folded (
  key INTEGER PRIMARY KEY, time INTEGER NOT NULL, epoch INTEGER NOT NULL, weight REAL NOT NULL, champion_loss REAL,
  seen INTEGER NOT NULL DEFAULT 0, groups INTEGER NOT NULL DEFAULT 0, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE pairs (
  key INTEGER NOT NULL, version_no INTEGER NOT NULL, difference REAL NOT NULL, kind INTEGER NOT NULL,
  classes INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (key, version_no)) WITHOUT ROWID;
CREATE TABLE journal (
  entry_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, time INTEGER NOT NULL, after_row INTEGER NOT NULL,
  event TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX journal_of_model ON journal (model_no);
CREATE TABLE decisions (
  n INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, from_no INTEGER,
  to_no INTEGER, author TEXT NOT NULL, reason TEXT NOT NULL, why TEXT NOT NULL, basis TEXT, seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX decisions_of_model ON decisions (model_no);
CREATE TABLE verdicts (
  verdict_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, row INTEGER NOT NULL, version_no INTEGER NOT NULL,
  verdict TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE snapshots (
  model_no INTEGER PRIMARY KEY, folded_row INTEGER NOT NULL, entry_no INTEGER NOT NULL, judge TEXT NOT NULL,
  digest BLOB NOT NULL);
CREATE TABLE cursors (
  model_no INTEGER PRIMARY KEY, folded_row INTEGER NOT NULL, last_time INTEGER NOT NULL, pairing TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE outages (
  outage_no INTEGER PRIMARY KEY, began INTEGER NOT NULL, ended INTEGER NOT NULL, cause TEXT NOT NULL,
  dropped_rows INTEGER NOT NULL, room BLOB);
CREATE TABLE coverage (
  model_no INTEGER NOT NULL, version_no INTEGER NOT NULL, counter TEXT NOT NULL, value INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (model_no, version_no, counter)) WITHOUT ROWID;
";

/// Tables that came later, without a new format: an older program passes them by.
const ADDED: &str = "
CREATE TABLE IF NOT EXISTS rewards (
  id INTEGER PRIMARY KEY, received INTEGER NOT NULL, reward REAL, weight REAL NOT NULL, late INTEGER NOT NULL,
  extra TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS reward_totals (
  model_no INTEGER NOT NULL, version_no INTEGER NOT NULL, count INTEGER NOT NULL, sum REAL NOT NULL,
  PRIMARY KEY (model_no, version_no)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erasures (
  erasure_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, time INTEGER NOT NULL, author TEXT NOT NULL,
  reason TEXT NOT NULL, rows TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS audit (
  entry INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, no INTEGER NOT NULL, content BLOB NOT NULL,
  hash BLOB NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS audit_of ON audit (what, no);
CREATE INDEX IF NOT EXISTS corrections_of_row ON corrections (id);
CREATE INDEX IF NOT EXISTS rows_of_entity ON predictions (model_no, entity, row) WHERE entity IS NOT NULL;
CREATE TABLE IF NOT EXISTS commits (one INTEGER PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS remarks (
  remark_no INTEGER PRIMARY KEY, id INTEGER NOT NULL, received INTEGER NOT NULL, vote REAL, comment TEXT, dispute TEXT,
  seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS remarks_of_row ON remarks (id);
CREATE TABLE IF NOT EXISTS reported_by (
  id INTEGER NOT NULL, what TEXT NOT NULL, no INTEGER NOT NULL, principal TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (id, what, no)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS baselines (version_no INTEGER PRIMARY KEY, made INTEGER NOT NULL, baseline TEXT NOT NULL,
  seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS alarms (
  alarm_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, row INTEGER NOT NULL, time INTEGER NOT NULL,
  version_no INTEGER NOT NULL, feature TEXT NOT NULL, what TEXT NOT NULL, log_odds REAL NOT NULL,
  seal INTEGER NOT NULL DEFAULT 0, UNIQUE (model_no, row, version_no, feature));
CREATE TABLE IF NOT EXISTS version_settings (version_no INTEGER PRIMARY KEY, settings TEXT NOT NULL,
  seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS exports (
  uid TEXT PRIMARY KEY, model_no INTEGER NOT NULL, began INTEGER NOT NULL, finished INTEGER, author TEXT NOT NULL,
  path TEXT NOT NULL, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL, from_time INTEGER, to_time INTEGER,
  version TEXT, sample REAL NOT NULL, labelled INTEGER NOT NULL, rows INTEGER,
  seal INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased_exports (
  erasure_no INTEGER NOT NULL, uid TEXT NOT NULL, rows INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (erasure_no, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retrainings (
  retraining_no INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, uid TEXT NOT NULL, time INTEGER NOT NULL,
  row INTEGER NOT NULL, labelled_row INTEGER NOT NULL, kind TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
  causes TEXT NOT NULL, state TEXT NOT NULL, path TEXT, export_uid TEXT, rows INTEGER, classes TEXT, command TEXT,
  began INTEGER, ended INTEGER, exit_code INTEGER, outcome TEXT, log TEXT, removed INTEGER,
  seal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS retrainings_of_model ON retrainings (model_no);
CREATE TABLE IF NOT EXISTS own_ids (
  id INTEGER PRIMARY KEY, model_no INTEGER NOT NULL, caller_id TEXT NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sorted_ids (
  one INTEGER PRIMARY KEY, before_id INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS fallbacks (
  id INTEGER PRIMARY KEY, version_no INTEGER NOT NULL, outcome TEXT NOT NULL, score REAL,
  seal INTEGER NOT NULL DEFAULT 0);
DROP VIEW IF EXISTS evidence;
CREATE VIEW evidence AS
SELECT m.name AS model, f.key & 0xffffffffff AS row, datetime(f.time / 1000, 'unixepoch') AS at, f.epoch,
  v.name AS version, p.difference,
  CASE p.kind WHEN 0 THEN 'scored' WHEN 1 THEN 'failed' ELSE 'uncovered' END AS kind, f.champion_loss, f.weight
FROM folded f JOIN models m ON m.model_no = f.key >> 40 JOIN pairs p USING (key)
  JOIN versions v ON v.version_no = p.version_no;
DROP VIEW IF EXISTS rows;
CREATE VIEW rows AS
SELECT m.name AS model, p.row, datetime(p.time / 1000, 'unixepoch') AS at, p.id, v.name AS champion, p.epoch,
  f.name AS fallback, p.outcome, coalesce(p.score, b.score) AS score, l.label, l.weight, l.late, p.inputs, p.entity,
  p.context
FROM predictions p JOIN models m USING (model_no) JOIN versions v ON v.version_no = p.version_no
  LEFT JOIN versions f ON f.version_no = p.fallback_no LEFT JOIN fallbacks b ON b.id = p.id
  LEFT JOIN labels l ON l.id = p.id;
DROP VIEW IF EXISTS labelled_predictions;
CREATE VIEW labelled_predictions AS
SELECT m.name AS model, p.row, datetime(p.time / 1000, 'unixepoch') AS at, p.id, p.epoch,
  coalesce(f.name, v.name) AS version, v.name AS champion, f.name AS fallback, p.outcome,
  coalesce(p.score, b.score) AS score, l.label, l.weight, l.late,
  datetime(l.received / 1000, 'unixepoch') AS labelled_at, (l.received - p.time) / 1000.0 AS label_delay_s,
  p.entity, p.inputs, p.context
FROM labels l JOIN predictions p USING (id) JOIN models m USING (model_no) JOIN versions v ON v.version_no = p.version_no
  LEFT JOIN versions f ON f.version_no = p.fallback_no LEFT JOIN fallbacks b ON b.id = p.id;
DROP VIEW IF EXISTS scoreboard;
CREATE VIEW scoreboard AS
WITH tenure AS (SELECT f.key, m.model_no FROM folded f JOIN models m ON m.model_no = f.key >> 40 AND m.epoch = f.epoch),
  began AS (SELECT model_no, min(key & 0xffffffffff) AS row FROM tenure GROUP BY model_no),
  sums AS (SELECT p.version_no, count(*) AS labels, avg(p.difference) AS mean_difference
    FROM tenure JOIN pairs p USING (key) GROUP BY p.version_no),
  latest AS (SELECT d.version_no, max(d.verdict_no) AS verdict_no
    FROM verdicts d JOIN began b ON b.model_no = d.model_no AND d.row >= b.row GROUP BY d.version_no),
  counted AS (SELECT version_no, max(CASE counter WHEN 'offered' THEN value END) AS offered,
    max(CASE counter WHEN 'scored' THEN value END) AS scored FROM coverage GROUP BY version_no)
SELECT m.name AS model, v.name AS version, v.role, v.digest, coalesce(s.labels, 0) AS labels,
  s.mean_difference AS mean_loss_difference, json_extract(d.verdict, '$.log_wealth') AS log_wealth,
  json_extract(d.verdict, '$.log_bar') AS log_bar, json_extract(d.verdict, '$.verdict') AS verdict,
  json_extract(d.verdict, '$.why') AS why, d.row AS verdict_row, c.offered, c.scored,
  1.0 * c.scored / c.offered AS coverage
FROM versions v JOIN models m USING (model_no) LEFT JOIN sums s ON s.version_no = v.version_no
  LEFT JOIN latest t ON t.version_no = v.version_no LEFT JOIN verdicts d ON d.verdict_no = t.verdict_no
  LEFT JOIN counted c ON c.version_no = v.version_no;
CREATE TABLE IF NOT EXISTS retention (
  model_no INTEGER PRIMARY KEY, counted_to INTEGER NOT NULL, inputs_bytes INTEGER NOT NULL, inputs_to INTEGER NOT NULL,
  rows_to INTEGER NOT NULL, rows_time INTEGER NOT NULL, expired_id INTEGER NOT NULL, forced_id INTEGER NOT NULL,
  pruned_inputs INTEGER NOT NULL, pruned_bytes INTEGER NOT NULL, pruned_rows INTEGER NOT NULL,
  forced_rows INTEGER NOT NULL, forced_open INTEGER NOT NULL, seal INTEGER NOT NULL DEFAULT 0);
";

/// Sets the connection up and creates or checks the tables; one of an older format is left as it is.
pub(super) fn prepare(connection: &Connection) -> Result<(), LedgerError> {
    // Takes effect before the first table only: pruned pages of a new file can be given back in small steps, those of an
    // older file are used again.
    // Setting what is set writes all the same, for which a full disk has no room.
    if connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    // What is deleted, or moved to another page, is overwritten: rows can be erased, see `person`.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.busy_timeout(BUSY)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        FORMAT => add(connection)?,
        0 => create(connection)?,
        found if found < FORMAT => return Err(LedgerError::Older { found, known: FORMAT }),
        found => return Err(LedgerError::Newer { found, known: FORMAT }),
    }
    Ok(())
}

/// Adds what came later. Where nothing can be written, because the disk is full, the gateway serves without.
pub(super) fn add(connection: &Connection) -> Result<(), LedgerError> {
    let added = connection
        .execute_batch(&format!("BEGIN IMMEDIATE; {ADDED}"))
        .map_err(LedgerError::from)
        .and_then(|()| seal_those_without(connection))
        .and_then(|()| Ok(connection.execute_batch("COMMIT")?));
    let Err(error) = added else {
        return Ok(());
    };
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    if !error.is_full() {
        return Err(error);
    }
    tracing::warn!(%error, "the ledger's views are not made anew");
    Ok(())
}

/// Tables that had no seal at first: their rows are taken to be as they were written, for nothing says otherwise.
fn seal_those_without(connection: &Connection) -> Result<(), LedgerError> {
    for name in ["alarms", "baselines", "retention"] {
        if !has_seal(connection, name)? {
            connection.execute_batch(&format!(
                "ALTER TABLE {name} ADD COLUMN seal INTEGER NOT NULL DEFAULT 0"
            ))?;
            seal::seal_table(connection, name)?;
        }
    }
    Ok(())
}

/// False where a ledger that is only read is from before there was such a table, or its rows had a seal.
pub(super) fn has_seal(connection: &Connection, table: &str) -> Result<bool, LedgerError> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = 'seal')")?;
    Ok(statement.query_row([table], |row| row.get(0))?)
}

/// Makes all tables.
pub(super) fn create(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {ADDED} INSERT INTO commits VALUES (1, 0); PRAGMA user_version = {FORMAT}; COMMIT"
    ))?;
    Ok(())
}

/// True for a table that files of today's format had not at first.
pub(super) fn came_later(table: &str) -> bool {
    ADDED.contains(&format!("CREATE TABLE IF NOT EXISTS {table} ("))
}

/// True for a file of today's format: not for a new one, nor for one that is to be migrated.
pub(super) fn is_of_today(connection: &Connection) -> Result<bool, LedgerError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(found == FORMAT)
}

/// Checks the format of a file that is only read.
pub(super) fn check(connection: &Connection) -> Result<(), LedgerError> {
    match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
        FORMAT => Ok(()),
        found if found < FORMAT => Err(LedgerError::Older { found, known: FORMAT }),
        found => Err(LedgerError::Newer { found, known: FORMAT }),
    }
}

/// The tables as they were in an older format, for tests of migrations.
#[cfg(test)]
pub(super) fn of_format(format: i64) -> String {
    let mut text = format!("{TABLES} {ADDED}");
    for before in [", ", ",\n  "] {
        text = text.replace(&format!("{before}seal INTEGER NOT NULL DEFAULT 0"), "");
    }
    text = text.replace(
        "CREATE TABLE IF NOT EXISTS commits (one INTEGER PRIMARY KEY, n INTEGER NOT NULL);",
        "",
    );
    text = text.replace(",\n  revision INTEGER NOT NULL DEFAULT 0, nonce TEXT", "");
    if format == 1 {
        for column in ["seen INTEGER NOT NULL DEFAULT 0", "groups INTEGER NOT NULL DEFAULT 0"] {
            text = text
                .replace(&format!(",\n  {column}"), "")
                .replace(&format!(", {column}"), "");
        }
    }
    assert!(!text.contains("seal"), "{text}");
    format!("{text} PRAGMA user_version = {format}")
}
