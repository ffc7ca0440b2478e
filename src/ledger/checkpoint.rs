//! Moves the ledger's log into its file, the greater part of it on a thread of its own.
//!
//! Sixteen megabytes are written and synced twice: labels would wait for that, and rows would lie. So a thread with a
//! connection of its own moves what the log holds when it starts, while commits go on behind it; then what has come
//! meanwhile, and so on, until that is little; the last of it is moved between two commits, after which the log begins anew.
//!
//! Always holds: the log is moved whole in the end, or the error is told; at [`MOST_PAGES`] commits wait for the thread, so
//! that the log has a bound however slow it is; no thread outlives its ledger.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};

use super::{Ledger, LedgerError, swap};

/// Pages in the log before they are moved into the file: 16 MiB.
pub(super) const CHECKPOINT_PAGES: u64 = 4_000;
/// Pages in the log from which on it is moved to its end, for which commits wait: 64 MiB.
const FULL_PAGES: u64 = 16_000;
/// Pages in the log from which on the thread is waited for, if it has not kept up: 96 MiB.
const MOST_PAGES: u64 = 24_000;
/// Pages that are moved between two commits: with the syncs they cost, hardly more than a durable commit.
const FEW_PAGES: i64 = 256;
/// A thread that does not catch up in so many rounds never does: the disk takes no more than what is committed.
const ROUNDS: usize = 6;

/// The thread, while it is at it.
#[derive(Debug, Default)]
pub(super) struct Moving(Option<JoinHandle<rusqlite::Result<()>>>);

impl Moving {
    fn start(state: &Path) -> std::io::Result<Self> {
        let path = state.join(swap::LEDGER);
        let thread = std::thread::Builder::new().name("checkpoint".into());
        Ok(Self(Some(thread.spawn(move || apart(&path))?)))
    }

    fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for its end.
    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        // A panic has been printed where it arose; the log is as whole as before.
        self.0.take().and_then(|thread| thread.join().ok()).unwrap_or(Ok(()))
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn apart(path: &Path) -> rusqlite::Result<()> {
    crate::priority::give_way();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Reading makes the connection know that there is a log.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut before = 0;
    for _ in 0..ROUNDS {
        let (log, moved) = passive(&connection)?;
        // In this round so many, while as many came again, or fewer. Where somebody reads an old state, none.
        if moved < log || log - before <= FEW_PAGES {
            break;
        }
        before = moved;
    }
    // SQLite syncs the file only where the log is moved to its end, which is done between two commits: they are not to
    // wait for all that was moved here. An error is told there again, for each descriptor hears of it once.
    let _ = std::fs::File::open(path).and_then(|file| file.sync_data());
    Ok(())
}

/// Moves what nobody reads any more; what is moved by somebody else just now is left to them. How many pages the log had, and
/// how many of them are moved.
fn passive(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get(1)?, row.get(2)?))
    })
}

impl Ledger {
    /// Moves the log into the file when enough of it has come together. Call it when nobody waits for a commit.
    ///
    /// # Errors
    /// What SQLite says; the log stays as it is, and is whole.
    pub fn checkpoint(&mut self) -> Result<(), LedgerError> {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if self.moving.is_under_way() {
            if self.moving.is_done() || pages >= MOST_PAGES {
                self.moving.end()?;
                // The rest takes two syncs, however little it is: not each time.
                if pages >= FULL_PAGES {
                    passive(&self.connection)?;
                }
            }
            return Ok(());
        }
        if pages < CHECKPOINT_PAGES {
            // The log began anew.
            self.checkpoint_at = CHECKPOINT_PAGES;
        }
        if pages < self.checkpoint_at {
            return Ok(());
        }
        // While somebody reads an old state the log cannot begin anew: then it is tried again when it has grown.
        self.checkpoint_at = pages + CHECKPOINT_PAGES;
        match Moving::start(&self.state) {
            Ok(moving) => self.moving = moving,
            Err(_) => drop(passive(&self.connection)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits `count` times so much that each takes some dozen pages.
    fn fill(ledger: &mut Ledger, count: u32) {
        let text = "x".repeat(200_000);
        for _ in 0..count {
            ledger
                .transaction(false, |writer| {
                    let sql = "INSERT INTO outages (began, ended, cause, dropped_rows) VALUES (1, 1, ?1, 0)";
                    Ok(writer.connection.execute(sql, [&text])?)
                })
                .unwrap();
            ledger.checkpoint().unwrap();
        }
    }

    fn log_bytes(state: &Path) -> u64 {
        std::fs::metadata(state.join("ledger.sqlite-wal")).unwrap().len()
    }

    #[test]
    fn the_log_is_moved_while_commits_go_on_begins_anew_and_keeps_a_bound() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        // Some fifty pages each: more than the log may ever hold.
        let (commits, mut most) = (700, 0);
        for _ in 0..commits {
            fill(&mut ledger, 1);
            most = most.max(log_bytes(dir.path()));
        }
        assert!(
            most > CHECKPOINT_PAGES * 4_096,
            "it was moved before it was due: {most}"
        );
        // The commit that reaches the bound is in it.
        assert!(most < (MOST_PAGES + 200) * 4_200, "{most} bytes of log");
        drop(ledger);
        let ledger = Ledger::open_to_read(dir.path()).unwrap();
        let count: u32 = ledger
            .reader()
            .connection
            .query_row("SELECT count(*) FROM outages WHERE length(cause) = 200000", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(count, commits);
    }

    #[test]
    fn somebody_who_reads_an_old_state_stops_no_commit_and_the_log_is_moved_when_they_are_done() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        fill(&mut ledger, 1);
        let reader = Ledger::open_to_read(dir.path()).unwrap();
        fill(&mut ledger, 200);
        assert!(log_bytes(dir.path()) > CHECKPOINT_PAGES * 4_096);
        drop(reader);
        fill(&mut ledger, 400);
        let most = MOST_PAGES * 4_200;
        assert!(log_bytes(dir.path()) < most, "{} bytes of log", log_bytes(dir.path()));
        assert!(ledger.log_pages.load(Ordering::Relaxed) < MOST_PAGES);
    }
}
