//! Which file appears in the served directory at which row.
//!
//! Always holds: a file appears whole, by renaming; one that must be refused appears among good traffic.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::stream::Stream;

/// Rows at which the files that must be refused appear, in the manifest's order: the first early, so that a short
/// demonstration meets it too; all late enough that a missing input column is known to be missing.
const REJECTS_AT: [usize; 4] = [5_000, 12_000, 20_000, 7_000];

/// A file whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The row before which it appears.
    pub row: usize,
    /// The version that it becomes.
    pub version: String,
    /// Where it is shipped.
    pub source: PathBuf,
    /// It must be refused.
    pub refuse: bool,
}

impl Due {
    /// Copies the file under a name that is never a version, then renames it: it appears whole.
    ///
    /// # Errors
    /// Either step failed.
    pub fn put_into(&self, directory: &Path) -> Result<(), String> {
        let part = directory.join(format!(".{}.part", self.version));
        let target = directory.join(format!("{}.onnx", self.version));
        let copied = std::fs::copy(&self.source, &part).and_then(|_| std::fs::rename(&part, &target));
        copied.map_err(|e| format!("cannot copy {} to {}: {e}", self.source.display(), target.display()))
    }
}

/// The files still to come.
#[derive(Debug)]
pub struct Schedule {
    coming: VecDeque<Due>,
    refused: Vec<String>,
}

impl Schedule {
    /// All files of the stream but the first champion's, as far as they appear within `rows`.
    #[must_use]
    pub fn of(stream: &Stream, rows: &Range<usize>) -> Self {
        let manifest = &stream.manifest;
        let later = manifest.models.iter().filter(|m| m.name != manifest.first_champion);
        let models = later.map(|m| Due {
            row: m.available_from,
            version: m.name.clone(),
            source: stream.model_path(m),
            refuse: false,
        });
        let rejects = manifest.rejects.iter().zip(REJECTS_AT).map(|(reject, row)| Due {
            row,
            version: reject.file.trim_end_matches(".onnx").to_owned(),
            source: stream.reject_path(reject),
            refuse: true,
        });
        let mut coming: Vec<Due> = models.chain(rejects).filter(|due| due.row < rows.end).collect();
        coming.sort_by_key(|due| due.row);
        Self {
            coming: coming.into(),
            refused: Vec::new(),
        }
    }

    /// The next file that appears at or before `row`.
    pub fn due(&mut self, row: usize) -> Option<Due> {
        let due = self.coming.pop_front_if(|due| due.row <= row)?;
        if due.refuse {
            self.refused.push(due.version.clone());
        }
        Some(due)
    }

    /// Row of the next file.
    #[must_use]
    pub fn next_row(&self) -> usize {
        self.coming.front().map_or(usize::MAX, |due| due.row)
    }

    /// Versions that appeared and must have been refused.
    #[must_use]
    pub fn refused_so_far(&self) -> Vec<String> {
        self.refused.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stream::tests::shipped;

    #[test]
    fn every_file_appears_once_and_not_before_its_row() {
        let stream = shipped();
        let mut schedule = Schedule::of(&stream, &(4032..45_312));
        let mut seen = Vec::new();
        for row in 4032..45_312 {
            while let Some(due) = schedule.due(row) {
                assert_eq!(due.row, row);
                seen.push(due.version);
            }
        }
        assert_eq!((seen.len(), schedule.refused_so_far().len()), (15, 4));
        assert!(!seen.contains(&"e01_logreg".to_owned()));
    }

    #[test]
    fn a_dropped_file_is_whole_and_leaves_nothing_beside_it() {
        let (stream, directory) = (shipped(), tempfile::tempdir().unwrap());
        let due = Schedule::of(&stream, &(4032..9000)).due(8064).unwrap();
        due.put_into(directory.path()).unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, [format!("{}.onnx", due.version).as_str()]);
    }
}
