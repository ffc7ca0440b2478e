//! A bit of the schema's own text: SQLite opens the file and finds a table or a column under another name, a key that is none,
//! or an index over something else. So what SQLite makes of the text is held against what it makes of ours.
//!
//! Always holds: only tables and indices that this program knows are looked at; what somebody has added to the file is theirs.
//! Leaves to others: what is done then (`rescue` reads the pages and asks no schema).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::{LedgerError, schema};

/// A seal as the last column.
const SEAL: &str = ", seal INTEGER 1 0 0";

/// Tables and indices by name, each with what it means.
struct Shape {
    tables: BTreeMap<String, String>,
    indices: BTreeMap<String, String>,
}

impl Shape {
    /// What SQLite makes of our schema: found out once, which takes longer than the rest of opening a file.
    fn ours() -> Result<&'static Self, LedgerError> {
        static OURS: OnceLock<Shape> = OnceLock::new();
        if let Some(known) = OURS.get() {
            return Ok(known);
        }
        let empty = Connection::open_in_memory()?;
        schema::create(&empty)?;
        let found = Self::of(&empty)?;
        Ok(OURS.get_or_init(|| found))
    }

    fn of(connection: &Connection) -> Result<Self, LedgerError> {
        let read = |sql: &str| -> Result<BTreeMap<String, String>, LedgerError> {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        Ok(Self {
            // Columns with type, NOT NULL, default and place in the key; what is unique; whether there are row numbers.
            tables: read(
                "SELECT t.name, concat(t.wr, t.strict, ' unique',
                   (SELECT group_concat((SELECT concat(' (', group_concat(x.name, ' '), ')') FROM pragma_index_info(i.name) x),
                      '') FROM pragma_index_list(t.name) i WHERE i.origin = 'u'), ': ',
                   (SELECT group_concat(concat_ws(' ', c.name, c.type, c.\"notnull\", coalesce(c.dflt_value, '-'), c.pk), ', ')
                      FROM pragma_table_info(t.name) c))
                 FROM pragma_table_list t WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
            )?,
            indices: read("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?,
        })
    }
}

/// Does the schema say what it said?
///
/// # Errors
/// It does not, or what SQLite says.
pub(super) fn check(connection: &Connection) -> Result<(), LedgerError> {
    let (ours, found) = (Shape::ours()?, Shape::of(connection)?);
    let other = |what: &str, name: &str| Err(LedgerError::Damaged(format!("the schema's text of {what} {name}")));
    for (name, shape) in &ours.tables {
        let is_whole = match found.tables.get(name) {
            // A few had no seal at first.
            Some(found) => {
                found == shape || schema::came_later(name) && shape.strip_suffix(SEAL).is_some_and(|bare| found == bare)
            }
            // The file is older, and it is made after this, unless it is there under another name.
            None => {
                schema::came_later(name)
                    && !found
                        .tables
                        .iter()
                        .any(|(name, found)| found == shape && !ours.tables.contains_key(name))
            }
        };
        if !is_whole {
            return other("table", name);
        }
    }
    for (name, sql) in &ours.indices {
        // One that is missing costs time and no answer.
        if found.indices.get(name).is_some_and(|found| found != sql) {
            return other("index", name);
        }
    }
    Ok(())
}
