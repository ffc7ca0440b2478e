//! Rows out of the pages of a SQLite file, without SQLite: for a file that it does not open, or reads only in part.
//!
//! Always holds: nothing of the file is trusted. A page is read by its own table of cells, and where that makes no sense
//! every place of it is tried; what comes out counts only if its seal fits, which chance does not bring about. Freed space
//! is zeroed in a ledger (`secure_delete`), so that nothing that was deleted comes back.
//! (File format: sections 1.6 "B-tree Pages", 2.1 "Record Format".)

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::types::{Value, ValueRef};

use super::log::{self, PAGE};
use super::seal::{self, TABLES, Table};

/// A value that spans more pages than this is none of ours.
const MOST_OVERFLOW: usize = 64 * 1024;

/// The pages of a ledger as they are after its log.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    log: Option<File>,
    newer: HashMap<u32, u64>,
    /// Number of the last page.
    pub(super) last: u32,
}

/// A row that is as it was written: all columns but the seal.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) table: &'static Table,
    pub(super) values: Vec<Value>,
    pub(super) seal: i64,
}

impl Pages {
    /// Opens the file at `path` with the log beside it.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let log_path = Path::new(&name);
        let newer = log::read(log_path)?.pages;
        let file = File::open(path)?;
        let of_file = file.metadata()?.len().div_ceil(u64::try_from(PAGE).unwrap_or(1));
        let last = newer.keys().copied().max().unwrap_or(0);
        Ok(Self {
            log: (!newer.is_empty()).then(|| File::open(log_path)).transpose()?,
            last: last.max(u32::try_from(of_file).unwrap_or(u32::MAX)),
            file,
            newer,
        })
    }

    /// A page; what lies beyond the end of the file is zero.
    fn read(&self, number: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let (file, mut at) = match (self.newer.get(&number), &self.log) {
            (Some(&at), Some(log)) => (log, at),
            _ => (
                &self.file,
                u64::from(number.saturating_sub(1)) * u64::try_from(PAGE).unwrap_or(1),
            ),
        };
        let mut rest = page.as_mut_slice();
        while let Ok(read @ 1..) = file.read_at(rest, at) {
            at += u64::try_from(read).unwrap_or(0);
            rest = rest.get_mut(read..).unwrap_or_default();
        }
        page
    }

    /// The sealed rows on page `number` that are whole.
    pub(super) fn rows(&self, number: u32) -> Vec<Row> {
        let page = self.read(number);
        let start = if number == 1 { 100 } else { 0 };
        let mut rows: Vec<Row> = Vec::new();
        let cells = cells(&page, start);
        let expected = cells.len();
        for (kind, at) in cells {
            rows.extend(self.row(&page, kind, at));
        }
        if rows.len() < expected || expected == 0 {
            // Its table of cells, or a cell, is damaged: look everywhere.
            for at in start..PAGE {
                for kind in [Cell::Table, Cell::Index] {
                    rows.extend(self.row(&page, kind, at));
                }
            }
        }
        rows
    }

    fn row(&self, page: &[u8], kind: Cell, at: usize) -> Option<Row> {
        let (size, at) = varint(page, at)?;
        let size = usize::try_from(size).ok().filter(|size| *size >= 3)?;
        let (rowid, at) = match kind {
            Cell::Table => varint(page, at).map(|(rowid, at)| (Some(rowid), at))?,
            Cell::Index => (None, at),
        };
        let local = kind.local(size);
        let own = page.get(at..at.checked_add(local)?)?;
        // Before anything is fetched: does it look like a row of ours?
        let shape = Shape::of(own)?;
        let columns = shape.types.len();
        let candidates = || {
            TABLES
                .iter()
                .filter(|table| table.by_rowid == rowid.is_some() && table.columns.len() + 1 == columns)
        };
        candidates().next()?;
        let payload = match local == size {
            true => own.to_vec(),
            false => self.whole(own, word(page, at + local)?, size)?,
        };
        let values = shape.values(&payload)?;
        candidates().find_map(|table| fitting(table, rowid, &values))
    }

    /// A payload that goes on on other pages.
    fn whole(&self, own: &[u8], mut next: u32, size: usize) -> Option<Vec<u8>> {
        let mut payload = own.to_vec();
        for _ in 0..MOST_OVERFLOW {
            if next == 0 || next > self.last || payload.len() >= size {
                break;
            }
            let page = self.read(next);
            next = word(&page, 0)?;
            let want = (size - payload.len()).min(PAGE - 4);
            payload.extend(page.get(4..4 + want)?);
        }
        (payload.len() == size).then_some(payload)
    }
}

fn fitting(table: &'static Table, rowid: Option<i64>, values: &[ValueRef<'_>]) -> Option<Row> {
    let (seal, values) = values.split_last()?;
    let ValueRef::Integer(seal) = *seal else { return None };
    let rowid = rowid.map(ValueRef::Integer);
    // The row number stands for its column.
    let all = || {
        rowid
            .into_iter()
            .chain(values.iter().copied().skip(usize::from(rowid.is_some())))
    };
    (seal::seal(table.name, all()) == seal).then(|| Row {
        table,
        values: all().map(Value::try_from).collect::<Result<_, _>>().unwrap_or_default(),
        seal,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// A row of a table by row number.
    Table,
    /// A row of a table `WITHOUT ROWID`.
    Index,
}

impl Cell {
    /// How much of a payload lies on the page itself.
    fn local(self, size: usize) -> usize {
        let most = match self {
            Self::Table => PAGE - 35,
            Self::Index => (PAGE - 12) * 64 / 255 - 23,
        };
        if size <= most {
            return size;
        }
        let least = (PAGE - 12) * 32 / 255 - 23;
        let fitted = least + (size - least) % (PAGE - 4);
        if fitted <= most { fitted } else { least }
    }
}

/// Where the cells of a page begin, by its own account; none where that makes no sense.
fn cells(page: &[u8], start: usize) -> Vec<(Cell, usize)> {
    let (kind, header, skip) = match page.get(start) {
        Some(0x0d) => (Cell::Table, 8, 0),
        Some(0x0a) => (Cell::Index, 8, 0),
        // The inner pages of a table WITHOUT ROWID hold rows, behind a page number.
        Some(0x02) => (Cell::Index, 12, 4),
        _ => return Vec::new(),
    };
    let half = |at: usize| {
        let two = page.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_be_bytes(two)))
    };
    let Some(count) = half(start + 3) else {
        return Vec::new();
    };
    let places = (0..count).map_while(|k| half(start + header + 2 * k));
    places.filter(|at| *at < PAGE).map(|at| (kind, at + skip)).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_be_bytes)
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for k in 0..8 {
        let byte = *bytes.get(at + k)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value.cast_signed(), at + k + 1));
        }
    }
    let byte = *bytes.get(at + 8)?;
    Some(((value << 8 | u64::from(byte)).cast_signed(), at + 9))
}

/// The types of a record's values.
struct Shape {
    types: Vec<i64>,
    /// Where the values begin.
    body: usize,
}

impl Shape {
    fn of(record: &[u8]) -> Option<Self> {
        let (header, mut at) = varint(record, 0)?;
        let body = usize::try_from(header).ok()?;
        let mut types = Vec::new();
        while at < body {
            let (kind, next) = varint(record, at)?;
            types.push(kind);
            if types.len() > 32 || kind < 0 {
                return None;
            }
            at = next;
        }
        (at == body).then_some(Self { types, body })
    }

    fn values<'a>(&self, record: &'a [u8]) -> Option<Vec<ValueRef<'a>>> {
        let mut at = self.body;
        let mut values = Vec::with_capacity(self.types.len());
        for &kind in &self.types {
            let len = match kind {
                0 | 8 | 9 => 0,
                1..=4 => usize::try_from(kind).ok()?,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                sized => usize::try_from((sized - 12) / 2).ok()?,
            };
            let bytes = record.get(at..at.checked_add(len)?)?;
            at += len;
            values.push(match kind {
                0 => ValueRef::Null,
                8 => ValueRef::Integer(0),
                9 => ValueRef::Integer(1),
                1..=6 => ValueRef::Integer(integer(bytes)),
                7 => ValueRef::Real(f64::from_bits(integer(bytes).cast_unsigned())),
                sized if sized % 2 == 0 => ValueRef::Blob(bytes),
                _ => ValueRef::Text(bytes),
            });
        }
        (at == record.len()).then_some(values)
    }
}

/// A number in the two's complement of its bytes.
fn integer(bytes: &[u8]) -> i64 {
    let start = match bytes.first() {
        Some(first) if *first >= 0x80 => -1,
        _ => 0,
    };
    bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte))
}
