//! A seal in every row: a hash of its table and its values, by which damage is found, named and never counted.
//!
//! SQLite keeps checksums in its log, not in its file. A bit that changes there reads back as another number, and a
//! verdict would rest on it. So each row carries a SipHash-1-3 of what was written (a checksum, no signature: whoever can
//! write to the file can make a new one; decisions have the audit chain besides).
//!
//! Always holds: the seal does not depend on how SQLite stores a number (1 and 1.0 are the same), nor on where a row lies,
//! so that it outlives copies, `VACUUM` and a rescue out of a broken file; a row whose seal does not fit is noted, and
//! whoever reads evidence passes it over. Leaves to others: what a missing row means, and when to look at all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use siphasher::sip::SipHasher13;

use super::{LedgerError, Writer};

/// Damaged rows that are told apart; more are only said to be more.
const MOST: usize = 1_000;

/// A table whose rows are sealed; the seal is its last column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// All columns but the seal, in their order; the key first.
    pub(super) columns: &'static [&'static str],
    /// How many of them are the key.
    pub(super) keys: usize,
    /// The key is SQLite's row number.
    pub(super) by_rowid: bool,
    /// Small, read whole at each start, and of no use with a hole in it.
    pub(super) is_core: bool,
}

const fn table(name: &'static str, keys: usize, by_rowid: bool, columns: &'static [&'static str]) -> Table {
    Table {
        name,
        columns,
        keys,
        by_rowid,
        is_core: false,
    }
}

const fn core(name: &'static str, columns: &'static [&'static str]) -> Table {
    Table {
        is_core: true,
        ..table(name, 1, true, columns)
    }
}

/// All sealed tables. What the others hold can be made again (`snapshots`, `reward_totals`) or is only told (`outages`).
pub(super) const TABLES: &[Table] = &[
    core(
        "models",
        &[
            "model_no",
            "name",
            "interface",
            "settings",
            "champion_no",
            "previous_no",
            "epoch",
            "champion_since",
            "hold",
            "revision",
            "nonce",
        ],
    ),
    core(
        "versions",
        &[
            "version_no",
            "model_no",
            "name",
            "digest",
            "stored_digest",
            "role",
            "reason",
            "arrived",
            "facts",
            "lineage",
        ],
    ),
    core("version_settings", &["version_no", "settings"]),
    core("lineups", &["lineup_no", "versions"]),
    core("journal", &["entry_no", "model_no", "time", "after_row", "event"]),
    core("cursors", &["model_no", "folded_row", "last_time", "pairing"]),
    core(
        "decisions",
        &[
            "n", "model_no", "time", "kind", "from_no", "to_no", "author", "reason", "why", "basis",
        ],
    ),
    core(
        "erasures",
        &["erasure_no", "model_no", "time", "author", "reason", "rows"],
    ),
    core("audit", &["entry", "what", "no", "content", "hash"]),
    table("coverage", 3, false, &["model_no", "version_no", "counter", "value"]),
    table(
        "verdicts",
        1,
        true,
        &["verdict_no", "model_no", "row", "version_no", "verdict"],
    ),
    table("record", 1, true, &["key", "id", "time"]),
    table(
        "predictions",
        1,
        true,
        &[
            "id",
            "model_no",
            "row",
            "time",
            "epoch",
            "version_no",
            "fallback_no",
            "outcome",
            "score",
            "inputs",
            "entity",
            "context",
            "lineup_no",
        ],
    ),
    table("fallbacks", 1, true, &["id", "version_no", "outcome", "score"]),
    table("own_ids", 1, true, &["id", "model_no", "caller_id"]),
    table("caller_ids", 2, false, &["model_no", "caller_id", "id"]),
    table("sorted_ids", 1, true, &["one", "before_id"]),
    table("outcomes", 2, false, &["id", "version_no", "outcome", "score"]),
    table(
        "labels",
        1,
        true,
        &["id", "received", "label", "class", "value", "weight", "late", "extra"],
    ),
    table(
        "corrections",
        1,
        true,
        &["correction_no", "id", "received", "label", "weight", "extra"],
    ),
    table(
        "rewards",
        1,
        true,
        &["id", "received", "reward", "weight", "late", "extra"],
    ),
    table("reported_by", 3, false, &["id", "what", "no", "principal"]),
    table(
        "remarks",
        1,
        true,
        &["remark_no", "id", "received", "vote", "comment", "dispute"],
    ),
    table(
        "exports",
        1,
        false,
        &[
            "uid",
            "model_no",
            "began",
            "finished",
            "author",
            "path",
            "first_row",
            "last_row",
            "from_time",
            "to_time",
            "version",
            "sample",
            "labelled",
            "rows",
        ],
    ),
    table("erased_exports", 2, false, &["erasure_no", "uid", "rows"]),
    table(
        "retrainings",
        1,
        true,
        &[
            "retraining_no",
            "model_no",
            "uid",
            "time",
            "row",
            "labelled_row",
            "kind",
            "author",
            "reason",
            "causes",
            "state",
            "path",
            "export_uid",
            "rows",
            "classes",
            "command",
            "began",
            "ended",
            "exit_code",
            "outcome",
            "log",
            "removed",
        ],
    ),
    table("baselines", 1, true, &["version_no", "made", "baseline"]),
    table(
        "alarms",
        1,
        true,
        &[
            "alarm_no",
            "model_no",
            "row",
            "time",
            "version_no",
            "feature",
            "what",
            "log_odds",
        ],
    ),
    table(
        "retention",
        1,
        true,
        &[
            "model_no",
            "counted_to",
            "inputs_bytes",
            "inputs_to",
            "rows_to",
            "rows_time",
            "expired_id",
            "forced_id",
            "pruned_inputs",
            "pruned_bytes",
            "pruned_rows",
            "forced_rows",
            "forced_open",
        ],
    ),
    table(
        "folded",
        1,
        true,
        &["key", "time", "epoch", "weight", "champion_loss", "seen", "groups"],
    ),
    table(
        "pairs",
        2,
        false,
        &["key", "version_no", "difference", "kind", "classes", "seen"],
    ),
];

impl Table {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// The columns, separated by commas.
    pub(super) fn list(&self) -> String {
        self.columns.join(", ")
    }

    /// An expression that is true for a row as it was written.
    pub(super) fn is_whole(&self) -> String {
        format!("whole('{}', seal, {})", self.name, self.list())
    }
}

/// `INSERT INTO` a sealed table: its name and a parameter for each column, in their order.
macro_rules! insert_sealed {
    ($table:literal, $values:literal) => {
        insert_sealed!("INSERT INTO ", $table, $values)
    };
    ($verb:literal, $table:literal, $values:literal) => {
        concat!(
            $verb,
            $table,
            " VALUES (",
            $values,
            ", seal('",
            $table,
            "', ",
            $values,
            "))"
        )
    };
}
pub(super) use insert_sealed;

/// True for a prediction `p` as it was written.
macro_rules! whole_prediction {
    () => {
        "whole('predictions', p.seal, p.id, p.model_no, p.row, p.time, p.epoch, p.version_no, p.fallback_no, p.outcome, \
         p.score, p.inputs, p.entity, p.context, p.lineup_no)"
    };
}
pub(super) use whole_prediction;

/// True where there is no label `l`, or it is as it was written.
macro_rules! whole_label {
    () => {
        "(l.id IS NULL OR whole('labels', l.seal, l.id, l.received, l.label, l.class, l.value, l.weight, l.late, l.extra))"
    };
}
pub(super) use whole_label;

/// What is not as it was written, as far as somebody has looked.
#[derive(Debug, Clone, Default)]
pub struct Damage(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    what: BTreeSet<String>,
    /// Found beyond [`MOST`].
    more: u64,
}

impl Damage {
    /// This is damaged; said once.
    pub(crate) fn note(&self, what: String) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.what.contains(&what) {
            return;
        }
        if found.what.len() >= MOST {
            found.more = found.more.saturating_add(1);
            return;
        }
        tracing::error!(damaged = what, "the ledger is damaged: what is damaged is not counted");
        found.what.insert(what);
    }

    /// How much was found, and what, the first 20.
    #[must_use]
    pub fn found(&self) -> (u64, Vec<String>) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u64::try_from(found.what.len())
            .unwrap_or(u64::MAX)
            .saturating_add(found.more);
        (count, found.what.iter().take(20).cloned().collect())
    }
}

fn mix(mixed: &mut Vec<u8>, value: ValueRef<'_>) {
    let mut sized = |tag: u8, bytes: &[u8]| {
        mixed.push(tag);
        mixed.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        mixed.extend_from_slice(bytes);
    };
    match value {
        ValueRef::Null => mixed.push(0),
        ValueRef::Integer(x) => sized(1, &x.to_le_bytes()),
        // SQLite has no such number.
        ValueRef::Real(x) if x.is_nan() => mixed.push(0),
        ValueRef::Real(x) => match whole_number(x) {
            Some(x) => sized(1, &x.to_le_bytes()),
            None => sized(2, &x.to_bits().to_le_bytes()),
        },
        ValueRef::Text(text) => sized(3, text),
        ValueRef::Blob(bytes) => sized(4, bytes),
    }
}

/// The integer that SQLite may store in place of a real number.
fn whole_number(x: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is in the range of exact integers")]
    let whole = (x.trunc().to_bits() == x.to_bits() && x.abs() <= EXACT).then_some(x as i64);
    whole
}

/// The seal of a row.
pub(super) fn seal<'a>(table: &str, values: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    seal_in(&mut Vec::new(), table, values)
}

/// The same with memory for what is hashed, for many rows; it is hashed at once, and not part by part.
pub(super) fn seal_in<'a>(mixed: &mut Vec<u8>, table: &str, values: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    mixed.clear();
    mixed.extend_from_slice(table.as_bytes());
    for value in values {
        mix(mixed, value);
    }
    SipHasher13::new().hash(mixed).cast_signed()
}

fn of_arguments(context: &Context<'_>, from: usize) -> rusqlite::Result<i64> {
    let table = context.get_raw(0).as_str()?;
    Ok(seal(table, (from..context.len()).map(|at| context.get_raw(at))))
}

/// Teaches a connection `seal(table, values…)` and `whole(table, seal, values…)`.
pub(super) fn install(connection: &Connection, damage: &Damage) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("seal", -1, flags, |context| of_arguments(context, 1))?;
    let damage = damage.clone();
    connection.create_scalar_function("whole", -1, flags, move |context| {
        let is_whole = context.get_raw(1) == ValueRef::Integer(of_arguments(context, 2)?);
        if !is_whole {
            let table = context.get_raw(0).as_str()?;
            let keys = Table::named(table).map_or(1, |table| table.keys);
            let key: Vec<String> = (2..context.len())
                .take(keys)
                .map(|at| match context.get_raw(at) {
                    ValueRef::Integer(x) => x.to_string(),
                    // Nothing of a person goes into a log.
                    _ => "…".to_owned(),
                })
                .collect();
            damage.note(format!("{table} {}", key.join(" ")));
        }
        Ok(is_whole)
    })
}

/// Seals every row of these tables as it is now.
pub(super) fn seal_all(connection: &Connection) -> Result<(), LedgerError> {
    TABLES.iter().try_for_each(|table| seal_table(connection, table.name))
}

/// Seals every row of a table as it is now.
pub(super) fn seal_table(connection: &Connection, name: &str) -> Result<(), LedgerError> {
    let Some(table) = Table::named(name) else { return Ok(()) };
    let list = table.list();
    connection.execute_batch(&format!("UPDATE {name} SET seal = seal('{name}', {list})"))?;
    Ok(())
}

impl Writer<'_> {
    /// Seals the row that was just written under `key`.
    pub(super) fn seal(&self, table: &'static str, key: impl rusqlite::ToSql) -> Result<(), LedgerError> {
        let Some(table) = Table::named(table) else {
            return Ok(());
        };
        let (name, list) = (table.name, table.list());
        let key_column = table.columns.first().copied().unwrap_or("rowid");
        self.connection
            .prepare_cached(&format!(
                "UPDATE {name} SET seal = seal('{name}', {list}) WHERE {key_column} = ?1"
            ))?
            .execute(params![key])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files have seals that were made part by part.
    #[test]
    fn a_seal_is_siphash_of_table_tags_lengths_and_values_one_after_the_other() {
        use std::hash::Hasher;
        let text = "a text that is longer than a word of the hash";
        for length in 0..text.len() {
            let (part, blob) = (&text.as_bytes()[..length], &text.as_bytes()[length..]);
            let mut hasher = SipHasher13::new();
            hasher.write(b"table");
            for (tag, bytes) in [
                (3, part),
                (1, &7_i64.to_le_bytes()),
                (4, blob),
                (2, &0.5_f64.to_le_bytes()),
            ] {
                hasher.write_u8(tag);
                hasher.write(&u64::try_from(bytes.len()).unwrap().to_le_bytes());
                hasher.write(bytes);
            }
            hasher.write_u8(0);
            let values = [
                ValueRef::Text(part),
                ValueRef::Real(7.0),
                ValueRef::Blob(blob),
                ValueRef::Real(0.5),
                ValueRef::Null,
            ];
            assert_eq!(seal("table", values), hasher.finish().cast_signed(), "{length}");
        }
    }

    #[test]
    fn a_seal_fits_what_reads_back_and_no_other_row() {
        let connection = Connection::open_in_memory().unwrap();
        let damage = Damage::default();
        install(&connection, &damage).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE labels (id INTEGER PRIMARY KEY, received INTEGER, label TEXT, class INTEGER, value REAL,
                 weight REAL, late INTEGER, extra TEXT, seal INTEGER)",
            )
            .unwrap();
        let values = [0.0, -0.0, 1.0, 0.1, 1e300, f64::NAN, f64::INFINITY, 9e15, -3.0];
        for (id, value) in (0_i64..).zip(values) {
            let sql = insert_sealed!("labels", "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8");
            connection
                .execute(
                    sql,
                    params![id, id, "\"yes\"", 1_u32, value, 1.0, false, None::<String>],
                )
                .unwrap();
        }
        let table = Table::named("labels").unwrap();
        let broken = || -> i64 {
            let sql = format!("SELECT count(*) FROM labels WHERE NOT {}", table.is_whole());
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(broken(), 0, "{:?}", damage.found());
        connection
            .execute_batch("UPDATE labels SET weight = 0.5 WHERE id = 3")
            .unwrap();
        connection
            .execute_batch("UPDATE labels SET id = 99 WHERE id = 4")
            .unwrap();
        assert_eq!(broken(), 2);
        assert_eq!(damage.found(), (2, vec!["labels 3".to_owned(), "labels 99".to_owned()]));
    }

    #[test]
    fn a_sealed_table_has_the_columns_that_its_seal_covers() {
        let connection = Connection::open_in_memory().unwrap();
        super::super::schema::prepare(&connection).unwrap();
        for table in TABLES {
            let mut statement = connection
                .prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")
                .unwrap();
            let columns = statement.query_map([table.name], |row| Ok((row.get(0)?, row.get(1)?)));
            let columns: Vec<(String, i64)> = columns.unwrap().map(Result::unwrap).collect();
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.split_last(), Some((&"seal", table.columns)), "{}", table.name);
            let keys = columns.iter().filter(|(_, pk)| *pk > 0).count();
            assert_eq!(keys, table.keys, "{}", table.name);
        }
    }
}
