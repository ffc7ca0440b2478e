//! Has SQLite write a commit to its log in one piece.
//!
//! A commit of a thousand rows is some 150 pages of the log. SQLite writes each in two calls, 24 bytes about the page and the
//! page, which took a fourth of the recorder's time. Frames that end no commit are held back here until the one that does, and
//! go to the file in one call.
//!
//! Always holds: frames are held back within a call of [`commit`] only, and written within it or, where it fails, never. When
//! SQLite has been told that the frame which ends the commit is written, all are with the system, as if nothing had been held
//! back: a process that is killed then loses nothing of it, and others who read the log find it whole. What goes to the log
//! before its commit, for want of memory, is never held back: it may be undone, and others may write in its place. An error of
//! a call that was put off is told at the next one that is not, and so before the commit is. Any other file is SQLite's own
//! business, and so is every write to the log that is no frame.
//! (File format: "WAL-mode File Format" of SQLite's documentation, section 4; the interface: "The OS Backend".)
#![expect(
    unsafe_code,
    reason = "SQLite calls what it writes files with through tables of C functions"
)]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::ffi::{
    self, SQLITE_IOERR, SQLITE_OK, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_filename, sqlite3_io_methods, sqlite3_vfs,
};
use rusqlite::{Connection, OpenFlags};

use super::log::{FRAME, HEADER, PAGE};

const NAME: &CStr = c"dethrone";
/// More is not held back. One call of SQLite's own takes less than 128 KiB.
const MOST: usize = 30 * (FRAME + PAGE);

/// Opens a ledger to be written.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::default();
    if !register() {
        // Slower, and as good.
        return Connection::open_with_flags(path, flags);
    }
    Connection::open_with_flags_and_vfs(path, flags, NAME)
}

thread_local! {
    /// This thread is in [`commit`].
    static COMMITS: Cell<bool> = const { Cell::new(false) };
}

/// Commits the connection's transaction, in one piece if [`open`] has opened it. Any other way is as good, and slower.
pub(super) fn commit(connection: &Connection) -> rusqlite::Result<()> {
    COMMITS.set(true);
    let done = connection.execute_batch("COMMIT");
    COMMITS.set(false);
    done
}

/// What is written to the log and not yet with the system.
#[derive(Debug, Default)]
struct Held {
    /// Where in the file it begins.
    start: i64,
    bytes: Vec<u8>,
    /// The last of it is the head of a frame that ends no commit: its page may be held back too.
    goes_on: bool,
}

impl Held {
    /// Takes a write that follows on what is held. True when all of it may wait for more.
    fn take(&mut self, bytes: &[u8], offset: i64) -> bool {
        if self.bytes.is_empty() {
            self.start = offset;
        }
        self.bytes.extend_from_slice(bytes);
        let may_wait = match bytes.len() {
            FRAME => {
                self.goes_on = is_a_head(offset) && !ends_a_commit(bytes);
                self.goes_on
            }
            PAGE => std::mem::take(&mut self.goes_on),
            _ => false,
        };
        may_wait && self.bytes.len() < MOST
    }

    fn follows(&self, offset: i64) -> bool {
        let length = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
        self.bytes.is_empty() || self.start.checked_add(length) == Some(offset)
    }
}

/// A frame begins there.
fn is_a_head(offset: i64) -> bool {
    usize::try_from(offset)
        .ok()
        .and_then(|offset| offset.checked_sub(HEADER))
        .is_some_and(|offset| offset % (FRAME + PAGE) == 0)
}

/// The second word of a frame's head is the size of the database where the frame ends a commit, else zero.
fn ends_a_commit(head: &[u8]) -> bool {
    head.len() == FRAME && head.get(4..8) != Some(&[0; 4])
}

/// The log as SQLite sees it; the system's own comes after it in the same memory.
#[repr(C)]
struct Log {
    base: sqlite3_file,
    held: *mut Held,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // Neither shared memory nor a mapping, which belong to the other file.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes the way known to SQLite, once. False where that cannot be done.
fn register() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        // SAFETY: SQLite initialises itself at the first call; what it gives back is static.
        let Some(system) = (unsafe { ffi::sqlite3_vfs_find(std::ptr::null()).as_ref() }) else {
            return false;
        };
        let Ok(own) = c_int::try_from(size_of::<Log>()) else {
            return false;
        };
        // All but the opening of files is the system's, whose functions ask nothing of the table that they are called through.
        let vfs = Box::leak(Box::new(sqlite3_vfs {
            szOsFile: own + system.szOsFile,
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            xOpen: Some(open_file),
            ..*system
        }));
        // SAFETY: the table lives for ever, and nobody else writes to it.
        unsafe { ffi::sqlite3_vfs_register(vfs, 0) == SQLITE_OK }
    })
}

/// Opens any file; only the log gets methods of ours.
unsafe extern "C" fn open_file(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as at the registration.
    let system = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    // SAFETY: the default table is never taken away.
    let Some(open) = unsafe { system.as_ref() }.and_then(|system| system.xOpen) else {
        return ffi::SQLITE_CANTOPEN;
    };
    if flags & SQLITE_OPEN_WAL == 0 {
        // SAFETY: SQLite's own arguments, and at least as much memory behind `file` as the system wants.
        return unsafe { open(system, name, file, flags, out) };
    }
    let log = file.cast::<Log>();
    // SAFETY: SQLite gives so much memory as the table asked for: a `Log` and the system's file after it.
    unsafe {
        (*log).base.pMethods = std::ptr::null();
        let inner = inner(file);
        (*inner).pMethods = std::ptr::null();
        let code = open(system, name, inner, flags, out);
        if code == SQLITE_OK || !(*inner).pMethods.is_null() {
            // With methods SQLite closes it, whatever the code is.
            (*log).held = Box::into_raw(Box::default());
            (*log).base.pMethods = &raw const METHODS;
        }
        code
    }
}

/// The system's file.
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: it lies behind the `Log`, which ends at a multiple of what pointers need.
    unsafe { file.cast::<Log>().add(1).cast() }
}

/// The system's methods of the log.
unsafe fn methods<'a>(file: *mut sqlite3_file) -> &'a sqlite3_io_methods {
    // SAFETY: they were set when it was opened, and are static.
    unsafe { &*(*inner(file)).pMethods }
}

/// What is held back of it. One thread at a time calls these functions of a file.
unsafe fn held<'a>(file: *mut sqlite3_file) -> &'a mut Held {
    // SAFETY: it was made when the file was opened, and goes when it is closed.
    unsafe { &mut *(*file.cast::<Log>()).held }
}

/// Writes what is held back. After an error nothing of it is held any more: the commit that it belongs to fails.
unsafe fn flush(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `file` is a log that is open.
    let (held, methods, inner) = unsafe { (held(file), methods(file), inner(file)) };
    if held.bytes.is_empty() {
        return SQLITE_OK;
    }
    let code = match (methods.xWrite, c_int::try_from(held.bytes.len())) {
        // Of a commit that failed on its way: somebody else may have written in its place.
        _ if !COMMITS.get() => SQLITE_OK,
        // SAFETY: so many bytes lie there, and the call keeps none of them.
        (Some(write), Ok(length)) => unsafe { write(inner, held.bytes.as_ptr().cast(), length, held.start) },
        _ => SQLITE_IOERR,
    };
    held.bytes.clear();
    held.goes_on = false;
    code
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: `file` is a log that is open, and SQLite says how many bytes lie at `from`.
    unsafe {
        if !COMMITS.get() || !held(file).follows(offset) {
            let code = flush(file);
            if code != SQLITE_OK {
                return code;
            }
        }
        if !COMMITS.get() {
            return methods(file)
                .xWrite
                .map_or(SQLITE_IOERR, |write| write(inner(file), from, length, offset));
        }
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(length).unwrap_or(0));
        if held(file).take(bytes, offset) {
            return SQLITE_OK;
        }
        flush(file)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `file` is a log that is open, and nobody uses it afterwards.
    unsafe {
        // With whatever is held back, which is of no commit that anybody was told of.
        drop(Box::from_raw((*file.cast::<Log>()).held));
        methods(file).xClose.map_or(SQLITE_IOERR, |close| close(inner(file)))
    }
}

/// A function that first writes what is held back, and is the system's then.
macro_rules! after_flush {
    ($name:ident, $method:ident, $($argument:ident: $kind:ty),*) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) -> c_int {
            // SAFETY: `file` is a log that is open, and the arguments are SQLite's own.
            unsafe {
                match flush(file) {
                    SQLITE_OK => methods(file).$method.map_or(SQLITE_IOERR, |call| call(inner(file), $($argument),*)),
                    code => code,
                }
            }
        }
    };
}

after_flush!(read, xRead, to: *mut c_void, length: c_int, offset: i64);
after_flush!(truncate, xTruncate, size: i64);
after_flush!(sync, xSync, flags: c_int);
after_flush!(file_size, xFileSize, size: *mut i64);
after_flush!(lock, xLock, level: c_int);
after_flush!(unlock, xUnlock, level: c_int);
after_flush!(check_reserved_lock, xCheckReservedLock, is_locked: *mut c_int);

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: `file` is a log that is open, and the arguments are SQLite's own.
    unsafe {
        methods(file)
            .xFileControl
            .map_or(ffi::SQLITE_NOTFOUND, |call| call(inner(file), operation, argument))
    }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `file` is a log that is open.
    unsafe { methods(file).xSectorSize.map_or(0, |call| call(inner(file))) }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `file` is a log that is open.
    unsafe { methods(file).xDeviceCharacteristics.map_or(0, |call| call(inner(file))) }
}

#[cfg(test)]
mod tests {
    use super::super::log;
    use super::*;

    /// Calls of this thread that wrote.
    fn writes() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("syscw: "));
        line.unwrap().parse().unwrap()
    }

    struct Site {
        dir: tempfile::TempDir,
        ours: Connection,
        theirs: Connection,
    }

    impl Site {
        /// With room for so many pages in memory, beside somebody who uses SQLite as it is.
        fn new(pages: u32) -> Self {
            let dir = tempfile::TempDir::new().unwrap();
            let path = dir.path().join("some.sqlite");
            let ours = open(&path).unwrap();
            ours.pragma_update(None, "journal_mode", "WAL").unwrap();
            ours.pragma_update(None, "cache_size", pages).unwrap();
            ours.pragma_update(None, "synchronous", "OFF").unwrap();
            ours.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            ours.execute_batch("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)")
                .unwrap();
            let theirs = Connection::open(&path).unwrap();
            Self { dir, ours, theirs }
        }

        fn sum(connection: &Connection) -> (i64, i64) {
            let sql = "SELECT count(*), coalesce(sum(k * (1 + length(v)) + unicode(hex(v))), 0) FROM t";
            connection
                .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
        }

        /// All that was committed lies in the files: for somebody else, and for whoever comes after a kill.
        fn check(&self) {
            let known = Self::sum(&self.ours);
            assert_eq!(Self::sum(&self.theirs), known);
            let copy = tempfile::TempDir::new().unwrap();
            for name in ["some.sqlite", "some.sqlite-wal"] {
                std::fs::copy(self.dir.path().join(name), copy.path().join(name)).unwrap();
            }
            let after = Connection::open(copy.path().join("some.sqlite")).unwrap();
            assert_eq!(Self::sum(&after), known);
            let said: String = after.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(said, "ok");
        }
    }

    #[test]
    fn a_commit_of_many_pages_goes_to_the_log_in_a_few_calls_and_is_there_when_it_is_told() {
        let site = Site::new(10_000);
        let before = writes();
        site.ours
            .execute_batch(
                "BEGIN;
                 WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 4000)
                 INSERT INTO t SELECT k, zeroblob(900) FROM n",
            )
            .unwrap();
        commit(&site.ours).unwrap();
        let calls = writes() - before;
        let frames = log::read(&site.dir.path().join("some.sqlite-wal")).unwrap().frames;
        assert!(frames > 900 && calls < frames / 20, "{frames} frames, {calls} calls");
        site.check();
    }

    #[test]
    fn whatever_is_written_spilled_undone_and_written_again_all_that_is_committed_is_in_the_files() {
        for (seed, pages) in [(1_u64, 10), (2, 20), (3, 200)] {
            let mut state = seed;
            // Knuth's linear congruential generator (MMIX).
            let mut below = |limit: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % limit
            };
            let site = Site::new(pages);
            for _ in 0..60 {
                site.ours.execute_batch("BEGIN").unwrap();
                for _ in 0..=below(5) {
                    let (from, count) = (below(900), 1 + below(300));
                    let sql = match below(6) {
                        0 => "SAVEPOINT s".to_owned(),
                        1 => "SAVEPOINT s; UPDATE t SET v = zeroblob(99); ROLLBACK TO s".to_owned(),
                        2 => format!("DELETE FROM t WHERE k BETWEEN {from} AND {}", from + count / 8),
                        // Pages that have gone to the log already are changed there.
                        3 => format!("UPDATE t SET v = randomblob(length(v)) WHERE k % 7 = {}", from % 7),
                        _ => format!(
                            "WITH RECURSIVE n(k) AS (SELECT {from} UNION ALL SELECT k + 1 FROM n LIMIT {count})
                             INSERT OR REPLACE INTO t SELECT k, randomblob(700) FROM n"
                        ),
                    };
                    site.ours.execute_batch(&sql).unwrap();
                    // Reads what may just have been held back.
                    let _ = Site::sum(&site.ours);
                }
                match below(5) {
                    0 => site.ours.execute_batch("ROLLBACK").unwrap(),
                    _ => commit(&site.ours).unwrap(),
                }
                assert_eq!(held_back(&site.ours), 0);
                site.check();
                if below(10) == 0 {
                    site.theirs
                        .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
                        .unwrap();
                    site.check();
                }
            }
        }
    }

    /// Bytes that are held back of the log.
    fn held_back(connection: &Connection) -> usize {
        let mut file: *mut sqlite3_file = std::ptr::null_mut();
        // SAFETY: the connection is open, and this operation writes one pointer.
        let code = unsafe {
            ffi::sqlite3_file_control(
                connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_JOURNAL_POINTER,
                (&raw mut file).cast(),
            )
        };
        assert!(code == SQLITE_OK && !file.is_null());
        // SAFETY: in WAL mode it is the log, which is open as long as the connection is.
        unsafe { held(file) }.bytes.len()
    }

    #[test]
    fn nothing_is_held_back_of_what_may_still_be_undone_so_that_others_may_write_in_its_place() {
        let site = Site::new(10);
        let fill = |connection: &Connection, from: u32, count: u32| {
            let sql = format!(
                "WITH RECURSIVE n(k) AS (SELECT {from} UNION ALL SELECT k + 1 FROM n LIMIT {count})
                 INSERT INTO t SELECT k, randomblob(700) FROM n"
            );
            connection.execute_batch(&sql).unwrap();
        };
        for round in 0..30 {
            // A commit of nothing, which writes no frame, is over when it is.
            site.ours.execute_batch("BEGIN IMMEDIATE").unwrap();
            commit(&site.ours).unwrap();
            site.ours.execute_batch("BEGIN").unwrap();
            let before = writes();
            // More than there is room for in memory: it goes to the log before its end.
            fill(&site.ours, 100_000, 80 + 5 * round);
            assert!(writes() > before);
            assert_eq!(held_back(&site.ours), 0);
            site.ours.execute_batch("ROLLBACK").unwrap();
            fill(&site.theirs, 1_000 * round, 100);
            let before = writes();
            let _ = Site::sum(&site.ours);
            assert_eq!(writes(), before, "whoever reads writes nothing");
            fill(&site.ours, 1_000 * round + 500, 50);
            assert_eq!(held_back(&site.ours), 0);
            site.check();
        }
    }

    #[test]
    fn a_head_that_ends_a_commit_and_whatever_is_no_frame_is_never_held_back() {
        let head = |ends: u8| {
            let mut head = [7; FRAME];
            head[4..8].copy_from_slice(&[0, 0, 0, ends]);
            head
        };
        let (first, second) = (HEADER as i64, (HEADER + FRAME + PAGE) as i64);
        let page = [9; PAGE];
        assert!(!Held::default().take(&[1; HEADER], 0));
        assert!(!Held::default().take(&head(1), first));
        assert!(!Held::default().take(&head(0), first + 8), "no frame begins there");
        assert!(!Held::default().take(&page, first), "a page alone");
        assert!(!Held::default().take(&page[..100], first));
        let mut held = Held::default();
        assert!(held.take(&head(0), first) && held.take(&page, first + FRAME as i64));
        assert!(held.follows(second) && !held.follows(first));
        assert!(!held.take(&head(1), second));
        let mut held = Held::default();
        let mut offset = first;
        while held.take(&head(0), offset) && held.take(&page, offset + FRAME as i64) {
            offset += (FRAME + PAGE) as i64;
            assert!(held.bytes.len() < MOST);
        }
        assert!(offset > first);
    }
}
