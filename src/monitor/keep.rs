//! What was folded of a model, in a file of its own in the state directory: it is written beside and renamed, so that it is
//! the old one or the new one. It can be deleted: then the last rows of the record are folded again.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fold::Fold;
use super::outcomes::Outcomes;
use crate::score::ModelNo;

/// Format of the file.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Kept<'a> {
    format: u32,
    fold: &'a Fold,
    outcomes: &'a Outcomes,
}

#[derive(Deserialize)]
struct Found {
    format: u32,
    fold: Fold,
    #[serde(default)]
    outcomes: Outcomes,
}

fn path(folder: &Path, model: ModelNo) -> PathBuf {
    folder.join(format!("{}.json", model.0))
}

/// What was kept; `None` where nothing was.
///
/// # Errors
/// It does not read back.
pub(super) fn load(folder: &Path, model: ModelNo) -> Result<Option<(Fold, Outcomes)>, String> {
    let path = path(folder, model);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let found: Found = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if found.format != FORMAT {
        return Err(format!(
            "{}: format {}, this program writes {FORMAT}",
            path.display(),
            found.format
        ));
    }
    Ok(Some((found.fold, found.outcomes)))
}

/// Keeps it.
///
/// # Errors
/// What the system says.
pub(super) fn save(folder: &Path, model: ModelNo, (fold, outcomes): (&Fold, &Outcomes)) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = path(folder, model);
    let beside = path.with_extension("json.part");
    // It tells of people's data: only its owner reads it, as the ledger.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    let mut buffer = std::io::BufWriter::new(file);
    let kept = Kept {
        format: FORMAT,
        fold,
        outcomes,
    };
    serde_json::to_writer(&mut buffer, &kept)?;
    buffer.flush()?;
    drop(buffer);
    std::fs::rename(beside, path)
}
