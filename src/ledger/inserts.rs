//! Many rows into one table, several by each statement: to begin one and to end it takes a good part of the time of an
//! insertion.
//!
//! Always holds: each row has its seal, which is made here (asked for in SQL, it would be made of copies); rows go in in
//! the order in which they were added. Leaves to others: to say when the last one was added.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection};

use super::{LedgerError, seal};

/// Rows of one statement. More save nothing that can be seen.
const TOGETHER: usize = 8;

/// A value of a row that waits; text and bytes by their place.
enum Waiting {
    Null,
    Integer(i64),
    Real(f64),
    Text(usize, usize),
    Blob(usize, usize),
}

/// Insertions into one table.
pub(super) struct Inserts<'a> {
    table: &'static str,
    /// Of a row, with its seal.
    columns: usize,
    several: CachedStatement<'a>,
    one: CachedStatement<'a>,
    waiting: Vec<Waiting>,
    /// Text and bytes of what waits.
    bytes: Vec<u8>,
    /// What a seal is made of.
    mixed: Vec<u8>,
}

impl<'a> Inserts<'a> {
    /// Into `table`, which has so many values before the seal.
    pub(super) fn prepare(
        connection: &'a Connection,
        insert: &str,
        table: &'static str,
        values: usize,
    ) -> Result<Self, LedgerError> {
        let row = format!("(?{})", ", ?".repeat(values));
        let rows = |count: usize| {
            let rows = vec![row.as_str(); count].join(", ");
            connection.prepare_cached(&format!("{insert} INTO {table} VALUES {rows}"))
        };
        Ok(Self {
            table,
            columns: values + 1,
            several: rows(TOGETHER)?,
            one: rows(1)?,
            waiting: Vec::with_capacity((values + 1) * TOGETHER),
            bytes: Vec::new(),
            mixed: Vec::new(),
        })
    }

    /// Adds a row of these values.
    pub(super) fn add(&mut self, values: &[ValueRef<'_>]) -> Result<(), LedgerError> {
        let seal = seal::seal_in(&mut self.mixed, self.table, values.iter().copied());
        for value in values {
            let kept = self.keep(*value);
            self.waiting.push(kept);
        }
        self.waiting.push(Waiting::Integer(seal));
        if self.waiting.len() < self.columns * TOGETHER {
            return Ok(());
        }
        execute(&mut self.several, &self.waiting, &self.bytes)?;
        self.clear();
        Ok(())
    }

    fn keep(&mut self, value: ValueRef<'_>) -> Waiting {
        let from = self.bytes.len();
        match value {
            ValueRef::Null => Waiting::Null,
            ValueRef::Integer(x) => Waiting::Integer(x),
            ValueRef::Real(x) => Waiting::Real(x),
            ValueRef::Text(text) => {
                self.bytes.extend_from_slice(text);
                Waiting::Text(from, self.bytes.len())
            }
            ValueRef::Blob(bytes) => {
                self.bytes.extend_from_slice(bytes);
                Waiting::Blob(from, self.bytes.len())
            }
        }
    }

    /// Inserts what still waits.
    pub(super) fn finish(&mut self) -> Result<(), LedgerError> {
        for row in self.waiting.chunks(self.columns) {
            execute(&mut self.one, row, &self.bytes)?;
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes.clear();
    }
}

fn execute(statement: &mut CachedStatement<'_>, values: &[Waiting], bytes: &[u8]) -> Result<(), LedgerError> {
    for (at, value) in (1..).zip(values) {
        let value = match *value {
            Waiting::Null => ValueRef::Null,
            Waiting::Integer(x) => ValueRef::Integer(x),
            Waiting::Real(x) => ValueRef::Real(x),
            Waiting::Text(from, to) => ValueRef::Text(bytes.get(from..to).unwrap_or_default()),
            Waiting::Blob(from, to) => ValueRef::Blob(bytes.get(from..to).unwrap_or_default()),
        };
        statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(value))?;
    }
    statement.raw_execute()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_in_whole_sealed_and_in_their_order_however_many_there_are() {
        let connection = Connection::open_in_memory().unwrap();
        let create = "CREATE TABLE t (a INTEGER PRIMARY KEY, b, c, seal INTEGER NOT NULL)";
        connection.execute_batch(create).unwrap();
        let mut first = 0;
        for count in 0..=3 * TOGETHER {
            let mut inserts = Inserts::prepare(&connection, "INSERT OR REPLACE", "t", 3).unwrap();
            let texts: Vec<String> = (0..count).map(|row| "x".repeat(row)).collect();
            let values = |row: usize| {
                let key = ValueRef::Integer(i64::try_from(first + row).unwrap());
                match row % 3 {
                    0 => [key, ValueRef::Null, ValueRef::Text(texts[row].as_bytes())],
                    1 => [key, ValueRef::Real(0.5), ValueRef::Blob(texts[row].as_bytes())],
                    _ => [key, ValueRef::Integer(-7), ValueRef::Text(b"")],
                }
            };
            (0..count).for_each(|row| inserts.add(&values(row)).unwrap());
            inserts.finish().unwrap();
            let mut read = connection.prepare("SELECT * FROM t WHERE a >= ?1 ORDER BY a").unwrap();
            let mut rows = read.query([i64::try_from(first).unwrap()]).unwrap();
            for row in 0..count {
                let read = rows.next().unwrap().unwrap();
                let values = values(row);
                for (at, value) in values.iter().enumerate() {
                    assert_eq!(read.get_ref_unwrap(at), *value, "{count} rows, row {row}");
                }
                assert_eq!(read.get_ref_unwrap(3), ValueRef::Integer(seal::seal("t", values)));
            }
            assert!(rows.next().unwrap().is_none(), "{count} rows are no more");
            first += count;
        }
    }

    #[test]
    fn a_row_that_cannot_go_in_is_an_error_at_the_latest_at_the_end() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, seal INTEGER NOT NULL)")
            .unwrap();
        let mut inserts = Inserts::prepare(&connection, "INSERT", "t", 1).unwrap();
        (0..2).for_each(|_| inserts.add(&[ValueRef::Integer(1)]).unwrap());
        assert!(inserts.finish().is_err());
    }
}
