//! Is the ledger what was written? At the start what every verdict needs, and later, little by little, all of it.
//!
//! Always holds: what is found is named ([`Damage`]); nothing is mended here. A row that is damaged stays where it is, and
//! whoever reads evidence passes it over; a file whose tree is broken, whose schema says something else, or whose small tables have
//! a damaged row, is not opened but rescued. The slow look takes a small share of one processor, and never holds a transaction for long.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::log::PAGE;
use super::mark::{Mark, Reached, Told};
use super::seal::{self, Damage, TABLES, Table};
use super::{Ledger, LedgerError, schema, shape, swap};

/// A file up to this size is checked through and through before it is used: a few tenths of a second.
const AT_ONCE_BYTES: u64 = 16 * 1024 * 1024;
/// The tree of a larger one is looked at later, if it is not larger than this: it takes one long reading.
const LATER_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Rows between two rests.
const ROWS: usize = 2_000;
/// So many times as long as it has worked the slow look rests.
const REST: u32 = 9;

/// What SQLite's first hundred bytes must say in a ledger, where SQLite itself would believe something else.
///
/// # Errors
/// They say something else.
pub(super) fn header(path: &Path) -> Result<(), LedgerError> {
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut header));
    read.map_err(|source| LedgerError::File {
        path: path.to_path_buf(),
        source,
    })?;
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        // Empty, or nothing that SQLite opens.
        return Ok(());
    }
    let size = u16::try_from(PAGE).unwrap_or_default().to_be_bytes();
    // Format of the schema and encoding of texts are 0 as long as all tables are in the log only.
    let wanted: [(usize, &[u8]); 2] = [(16, &size), (20, &[0, 64, 32, 32])];
    let is_new = header.get(44..48) == Some(&[0; 4]) && header.get(56..60) == Some(&[0; 4]);
    let is_usual = header.get(44..48) == Some(&[0, 0, 0, 4]) && header.get(56..60) == Some(&[0, 0, 0, 1]);
    let fits =
        |(at, bytes): &(usize, &[u8])| (is_new || is_usual) && header.get(*at..*at + bytes.len()) == Some(*bytes);
    let is_journaled = matches!(header.get(18..20), Some([1 | 2, 1 | 2]));
    match wanted.iter().all(fits) && is_journaled {
        true => Ok(()),
        false => Err(LedgerError::Damaged("the first bytes of its file".into())),
    }
}

/// The tree of a file that is not large, and every row that the gateway cannot do without.
///
/// # Errors
/// Something is damaged.
pub(super) fn at_start(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    if size(path) <= AT_ONCE_BYTES {
        tree(connection, "integrity_check")?;
    }
    shape::check(connection)?;
    for table in TABLES.iter().filter(|table| table.is_core) {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
        if schema::came_later(table.name) && !connection.query_row(sql, [table.name], |row| row.get(0))? {
            // The file is older, and it is made after this.
            continue;
        }
        let sql = format!("SELECT count(*) FROM {} WHERE NOT {}", table.name, table.is_whole());
        let damaged: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        if damaged > 0 {
            return Err(LedgerError::Damaged(format!("{damaged} rows of {}", table.name)));
        }
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}

fn tree(connection: &Connection, how: &str) -> Result<(), LedgerError> {
    let said: String = connection.query_row(&format!("PRAGMA {how}(1)"), [], |row| row.get(0))?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(LedgerError::Damaged(said.replace('\n', " "))),
    }
}

impl Ledger {
    /// Counts a commit that will have waited for the disk.
    pub(super) fn count_commit(&self) -> Result<u64, LedgerError> {
        let n: i64 = self
            .connection
            .prepare_cached("UPDATE commits SET n = n + 1 RETURNING n")?
            .query_row([], |row| row.get(0))?;
        Ok(n.cast_unsigned())
    }

    /// Is everything there that an earlier process has acknowledged? Then the mark goes on from here.
    pub(super) fn hold_against_mark(&mut self) -> Result<(), LedgerError> {
        let count = |sql: &str| -> Result<u64, LedgerError> {
            let n: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
            Ok(n.unwrap_or_default().cast_unsigned())
        };
        let is_new = count("SELECT count(*) FROM models")? == 0;
        let mut now = Reached {
            commits: count("SELECT max(n) FROM commits")?,
            rows: 0,
        };
        for model in self.reader().model_numbers()? {
            now.rows = now.rows.saturating_add(self.reader().last_row(model)?);
        }
        let (mark, told) = Mark::open(&self.state, now).map_err(|source| LedgerError::File {
            path: self.state.clone(),
            source,
        })?;
        self.mark = Some(mark);
        match told {
            Told::Nothing => {}
            Told::Damaged => self
                .damage
                .note("ledger.mark: what was acknowledged last is not known".into()),
            Told::Reached(before) if is_new && before.commits > now.commits => {
                self.damage.note(format!(
                    "the ledger is a new one: the one before it had {} commits",
                    before.commits
                ));
            }
            Told::Reached(before) => {
                // A disk that is full or fails must not keep the gateway from serving.
                if let Err(error) = self.compare(before, now) {
                    tracing::warn!(%error, "what is missing could not be noted in the ledger");
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, before: Reached, now: Reached) -> Result<(), LedgerError> {
        if before.commits > now.commits {
            self.damage.note(format!(
                "{} acknowledged commits are not in the ledger: its log is damaged or gone, or an old copy was put in its place",
                before.commits - now.commits
            ));
        }
        let rows = before.rows.saturating_sub(now.rows);
        if rows > 0 {
            tracing::warn!(
                rows,
                "rows that were recorded and not yet synced are gone: a power cut, or damage to the log"
            );
            let now = crate::time::now_ms();
            let cause = "rows that were not yet on the disk when the process ended";
            self.transaction(false, |writer| {
                let sql = "INSERT INTO outages (began, ended, cause, dropped_rows) VALUES (?1, ?1, ?2, ?3)";
                let values = rusqlite::params![now, cause, rows.cast_signed()];
                writer.connection.execute(sql, values)?;
                Ok(())
            })?;
        }
        if before.commits > now.commits {
            // Said once, and counted on from where it was: a number must not mean two commits.
            self.transaction(true, |writer| {
                let sql = "UPDATE commits SET n = ?1";
                writer.connection.execute(sql, [before.commits.cast_signed()])?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Looks at every row of the ledger in `state` through a connection of its own, until `stop` is closed. What was wrong
/// with the tree, if anything was.
///
/// # Errors
/// What SQLite says.
pub fn all(state: &Path, damage: &Damage, stop: &Receiver<()>) -> Result<(), LedgerError> {
    let path = state.join(swap::LEDGER);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags)?;
    seal::install(&connection, damage)?;
    connection.busy_timeout(schema::BUSY)?;
    if (AT_ONCE_BYTES..LATER_BYTES).contains(&size(&path)) {
        tree(&connection, "quick_check")?;
    }
    for table in TABLES {
        if !every_row(&connection, table, |worked| {
            matches!(stop.recv_timeout(worked * REST), Err(RecvTimeoutError::Timeout))
        })? {
            break;
        }
    }
    Ok(())
}

/// Looks at every row of a table; after each part `rest` says whether to go on.
fn every_row(
    connection: &Connection,
    table: &Table,
    mut rest: impl FnMut(Duration) -> bool,
) -> Result<bool, LedgerError> {
    if !schema::has_seal(connection, table.name)? {
        return Ok(true);
    }
    let keys = table.columns.get(..table.keys).unwrap_or_default().join(", ");
    let marks = vec!["?"; table.keys].join(", ");
    let select = |from: &str| {
        format!(
            "SELECT {keys}, {} FROM {} {from} ORDER BY {keys} LIMIT {ROWS}",
            table.is_whole(),
            table.name
        )
    };
    let mut last: Option<Vec<Value>> = None;
    loop {
        let began = Instant::now();
        let sql = match last {
            None => select(""),
            Some(_) => select(&format!("WHERE ({keys}) > ({marks})")),
        };
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(last.take().unwrap_or_default()))?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            // Evaluating it has noted what is damaged.
            let _whole: bool = row.get(table.keys)?;
            if seen == ROWS {
                last = Some((0..table.keys).map(|k| row.get(k)).collect::<Result<_, _>>()?);
            }
        }
        if last.is_none() {
            return Ok(true);
        }
        if !rest(began.elapsed()) {
            return Ok(false);
        }
    }
}

impl Ledger {
    /// Looks at all of a ledger that is only read: its tree, and every row. Nothing found: it is as it was written.
    ///
    /// # Errors
    /// What SQLite says, or a broken tree.
    pub fn check(&self) -> Result<(), LedgerError> {
        header(&self.state.join(swap::LEDGER))?;
        tree(&self.connection, "integrity_check")?;
        shape::check(&self.connection)?;
        TABLES
            .iter()
            .try_for_each(|table| every_row(&self.connection, table, |_| true).map(drop))
    }
}

/// Seals all rows of a ledger as they are: after somebody has changed it by hand, knowing what they do.
///
/// # Errors
/// It is not a ledger of this format, or what SQLite says.
pub fn seal_again(state: &Path) -> Result<(), LedgerError> {
    let connection = Connection::open(state.join(swap::LEDGER))?;
    connection.busy_timeout(schema::BUSY)?;
    schema::check(&connection)?;
    seal::install(&connection, &Damage::default())?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    seal::seal_all(&connection)?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}
