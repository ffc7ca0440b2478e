//! Receipts: how an export beside a running gateway gets into the ledger, which has one writer.
//!
//! An export leaves `exports/<uid>.json` in the state directory before the first row leaves, and again when it is whole.
//! Whoever holds the ledger takes receipts in: it gives them a name of their own first, so that one which is written anew
//! meanwhile is not lost, and removes them once they are committed.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ExportRow, LedgerError, Writer};

const FOLDER: &str = "exports";
/// Longest receipt: a path and a few numbers.
const MAX_BYTES: u64 = 64 << 10;
/// Receipts that are taken at once; the others wait for the next time.
const MOST: usize = 1_000;

/// Leaves a receipt; it is on disk when this returns.
///
/// # Errors
/// The state directory cannot be written.
pub fn leave(state: &Path, export: &ExportRow) -> io::Result<()> {
    let folder = state.join(FOLDER);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let temporary = folder.join(format!(".{}.part", export.uid));
    let text = serde_json::to_vec(export).map_err(io::Error::other)?;
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(format!("{}.json", export.uid)))?;
    File::open(&folder)?.sync_all()
}

/// Receipts that were taken, and are removed once they are in the ledger.
#[derive(Debug, Default)]
pub struct Receipts {
    exports: Vec<ExportRow>,
    files: Vec<PathBuf>,
}

impl Receipts {
    /// Takes what lies there.
    #[must_use]
    pub fn take(state: &Path) -> Self {
        let mut receipts = Self::default();
        let Ok(entries) = fs::read_dir(state.join(FOLDER)) else {
            return receipts;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().take(MOST).map(|entry| entry.path()).collect();
        // What was taken before and not committed comes first: its successor knows more.
        paths.sort_by_key(|path| (path.extension().is_none_or(|e| e != "taken"), path.clone()));
        for path in paths {
            let taken = match path.extension().and_then(|e| e.to_str()) {
                Some("taken") => path,
                Some("json") => {
                    // Apart from one of the same export that a crash has left.
                    let number = receipts.files.len();
                    let taken = path.with_extension(format!("{number}.taken"));
                    if fs::rename(&path, &taken).is_err() {
                        continue;
                    }
                    taken
                }
                _ => continue,
            };
            match read(&taken) {
                Ok(export) => {
                    receipts.exports.push(export);
                    receipts.files.push(taken);
                }
                // Somebody else has taken it in meanwhile.
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => {
                    tracing::warn!(path = %taken.display(), %why, "a receipt of an export does not read and is set aside");
                    let _ = fs::rename(&taken, taken.with_extension("unreadable"));
                }
            }
        }
        receipts
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exports.is_empty()
    }

    /// The exports.
    #[must_use]
    pub fn exports(&self) -> Vec<ExportRow> {
        self.exports.clone()
    }

    /// They are in the ledger.
    pub fn done(self) {
        for file in self.files {
            // Taken in once more where it cannot be removed: that changes nothing.
            let _ = fs::remove_file(file);
        }
    }
}

fn read(path: &Path) -> io::Result<ExportRow> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

impl Writer<'_> {
    /// Stores exports; of a model that nobody knows there are no rows to miss.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_exports(&self, exports: &[ExportRow]) -> Result<(), LedgerError> {
        for export in exports {
            if let Some(model) = self.known_model(&export.model)? {
                self.put_export(model.no, export)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    fn export(uid: &str, count: Option<u64>) -> ExportRow {
        ExportRow {
            uid: uid.into(),
            model: "m".into(),
            began_ms: 5,
            finished_ms: count.map(|_| 9),
            author: "ada".into(),
            path: "/out".into(),
            rows: (1, 9),
            from_ms: None,
            to_ms: None,
            version: None,
            sample: 1.0,
            labelled: true,
            count,
        }
    }

    #[test]
    fn a_receipt_is_taken_in_once_and_one_that_is_written_anew_meanwhile_is_not_lost() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let model = ledger.transaction(true, |writer| writer.model("m")).unwrap().no;
        leave(dir.path(), &export("a", None)).unwrap();
        let first = Receipts::take(dir.path());
        leave(dir.path(), &export("a", Some(7))).unwrap();
        ledger
            .transaction(true, |writer| writer.put_exports(&first.exports()))
            .unwrap();
        assert_eq!(ledger.reader().exports(model, 9).unwrap(), [export("a", None)]);
        // Not removed yet: as after a crash.
        drop(first);
        let second = Receipts::take(dir.path());
        assert_eq!(second.exports(), [export("a", None), export("a", Some(7))]);
        ledger
            .transaction(true, |writer| writer.put_exports(&second.exports()))
            .unwrap();
        second.done();
        assert!(Receipts::take(dir.path()).is_empty());
        assert_eq!(ledger.reader().exports(model, 9).unwrap(), [export("a", Some(7))]);
    }

    #[test]
    fn what_is_no_receipt_is_set_aside_and_holds_nobody_up() {
        let dir = tempfile::TempDir::new().unwrap();
        leave(dir.path(), &export("b", Some(1))).unwrap();
        std::fs::write(dir.path().join("exports/x.json"), "{").unwrap();
        assert_eq!(Receipts::take(dir.path()).exports(), [export("b", Some(1))]);
        assert!(
            dir.path().join("exports/x.1.unreadable").exists() || dir.path().join("exports/x.0.unreadable").exists()
        );
    }
}
