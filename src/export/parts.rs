//! The files of an export: a directory per day, `day=2026-11-26/part-….parquet`, as Hive writes them.
//!
//! Always holds: a file is written under a name that nobody reads and has its own when it is whole and on disk; at most
//! [`OPEN`] files are open, each with at most one row group in memory. What an export that failed has begun is removed.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::column::Column;
use crate::time::rfc3339;

/// Around midnight rows of two days come in turn; more than that is a clock that was set.
const OPEN: usize = 2;
/// A row group is written when so many rows, or about so many bytes, have come together.
const GROUP_ROWS: usize = 16_384;
const GROUP_BYTES: usize = 32 << 20;

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The columns.
    #[error("{path}: {source}")]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Parquet's word.
        source: ParquetError,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Parts {
    out: PathBuf,
    uid: String,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    empty: Vec<Column>,
    open: VecDeque<Part>,
    next: u32,
    /// Whole files.
    pub files: Vec<PathBuf>,
    /// Values that did not fit their columns.
    pub misfits: u64,
}

struct Part {
    day: String,
    temporary: PathBuf,
    path: PathBuf,
    columns: Vec<Column>,
    rows: usize,
    writer: Option<SerializedFileWriter<File>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Only what has not got its own name.
        if self.writer.is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

impl Parts {
    pub(super) fn new(out: &Path, uid: &str, model: &str, columns: Vec<Column>) -> Result<Self, WriteError> {
        let named = |source| WriteError::Parquet {
            path: out.to_owned(),
            source,
        };
        let fields = columns.iter().map(Column::schema).collect::<Result<_, _>>();
        let schema = Type::group_type_builder("row")
            .with_repetition(Repetition::REQUIRED)
            .with_fields(fields.map_err(named)?)
            .build()
            .map_err(named)?;
        let about = [("dethrone.model", model), ("dethrone.export", uid)];
        let about = about.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
        let properties = WriterProperties::builder()
            .set_created_by(format!("dethrone {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(Some(about.to_vec()))
            .build();
        Ok(Self {
            out: out.to_owned(),
            uid: uid.to_owned(),
            schema: TypePtr::new(schema),
            properties: Arc::new(properties),
            empty: columns,
            open: VecDeque::new(),
            next: 0,
            files: Vec::new(),
            misfits: 0,
        })
    }

    /// Takes one row of this time: `push` gives every column its value.
    pub(super) fn row(&mut self, time_ms: i64, push: impl FnOnce(&mut [Column])) -> Result<(), WriteError> {
        let day = rfc3339(time_ms).get(..10).unwrap_or("unknown").to_owned();
        let at = match self.open.iter().position(|part| part.day == day) {
            Some(at) => at,
            None => {
                if self.open.len() >= OPEN
                    && let Some(oldest) = self.open.pop_front()
                {
                    self.finish_part(oldest)?;
                }
                let part = self.begin(day)?;
                self.open.push_back(part);
                self.open.len() - 1
            }
        };
        let Some(part) = self.open.get_mut(at) else {
            return Ok(());
        };
        push(&mut part.columns);
        part.rows += 1;
        let bytes: usize = part.columns.iter().map(Column::bytes).sum();
        if part.rows >= GROUP_ROWS || bytes >= GROUP_BYTES {
            part.flush()?;
        }
        Ok(())
    }

    fn begin(&mut self, day: String) -> Result<Part, WriteError> {
        let folder = self.out.join(format!("day={day}"));
        let name = format!("part-{}-{}.parquet", self.uid, self.next);
        self.next += 1;
        let temporary = folder.join(format!(".{name}.part"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::File { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let file = File::create_new(&temporary).map_err(failed(&temporary))?;
        let (schema, properties) = (Arc::clone(&self.schema), Arc::clone(&self.properties));
        let writer = SerializedFileWriter::new(file, schema, properties);
        let writer = writer.map_err(|source| WriteError::Parquet {
            path: temporary.clone(),
            source,
        })?;
        Ok(Part {
            day,
            temporary,
            path: folder.join(name),
            columns: self.empty.clone(),
            rows: 0,
            writer: Some(writer),
        })
    }

    fn finish_part(&mut self, mut part: Part) -> Result<(), WriteError> {
        part.flush()?;
        self.misfits += part.columns.iter().map(|column| column.misfits).sum::<u64>();
        let failed = |source| WriteError::File {
            path: part.temporary.clone(),
            source,
        };
        let Some(writer) = part.writer.as_mut() else {
            return Ok(());
        };
        writer.finish().map_err(|source| WriteError::Parquet {
            path: part.temporary.clone(),
            source,
        })?;
        writer.inner().sync_all().map_err(failed)?;
        std::fs::rename(&part.temporary, &part.path).map_err(failed)?;
        part.writer = None;
        if let Some(folder) = part.path.parent() {
            // The name itself, too.
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        self.files.push(part.path.clone());
        Ok(())
    }

    /// Ends all files.
    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        while let Some(part) = self.open.pop_front() {
            self.finish_part(part)?;
        }
        Ok(())
    }
}

impl Part {
    fn flush(&mut self) -> Result<(), WriteError> {
        let named = |source| WriteError::Parquet {
            path: self.temporary.clone(),
            source,
        };
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else {
            return Ok(());
        };
        let mut group = writer.next_row_group().map_err(named)?;
        let mut columns = self.columns.iter_mut();
        while let Some(place) = group.next_column().map_err(named)? {
            if let Some(column) = columns.next() {
                column.write(place).map_err(named)?;
            }
        }
        group.close().map_err(named)?;
        self.rows = 0;
        Ok(())
    }
}
