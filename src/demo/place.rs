//! The work directory of a demonstration: its own models, state and log, apart from what is shipped.

use std::path::{Path, PathBuf};

use super::stream::Stream;

/// Where a demonstration works.
#[derive(Debug)]
pub(super) struct Place {
    /// The served directory of models.
    pub(super) models: PathBuf,
    /// The gateway's state.
    pub(super) state: PathBuf,
    /// What the gateway writes to standard error.
    pub(super) log: PathBuf,
    /// The directory of the stream's model.
    pub(super) directory: PathBuf,
}

impl Place {
    /// A work directory with the first champion and its settings in it.
    pub(super) fn prepare(stream: &Stream, directory: Option<&Path>) -> Result<Self, String> {
        let root = match directory {
            Some(named) => named.to_owned(),
            None => fresh_directory()?,
        };
        let failed = |path: &Path, e: std::io::Error| format!("cannot prepare {}: {e}", path.display());
        std::fs::create_dir_all(&root).map_err(|e| failed(&root, e))?;
        let root = root.canonicalize().map_err(|e| failed(&root, e))?;
        if std::fs::read_dir(&root).map_err(|e| failed(&root, e))?.next().is_some() {
            return Err(format!("{} is not empty: choose a new directory", root.display()));
        }
        let manifest = &stream.manifest;
        let place = Self {
            models: root.join("models"),
            state: root.join("state"),
            log: root.join("gateway.log"),
            directory: root.join("models").join(&manifest.stream),
        };
        std::fs::create_dir_all(&place.directory).map_err(|e| failed(&place.directory, e))?;
        let first = manifest.models.iter().find(|m| m.name == manifest.first_champion);
        let first = first.ok_or("the manifest names a first champion that it does not list")?;
        for source in [stream.root.join("model.toml"), stream.model_path(first)] {
            let target = place.directory.join(source.file_name().unwrap_or_default());
            std::fs::copy(&source, &target).map_err(|e| failed(&target, e))?;
        }
        Ok(place)
    }
}

/// A directory of its own below the system's temporary one.
fn fresh_directory() -> Result<PathBuf, String> {
    let base = std::env::temp_dir();
    for attempt in 0..1000 {
        let path = base.join(format!("dethrone-demo-{}-{attempt}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(format!(
                    "cannot make {}: {e}; choose another with --dir",
                    path.display()
                ));
            }
        }
    }
    Err(format!(
        "{} is full of old demonstrations: choose another place with --dir",
        base.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stream::tests::shipped;

    #[test]
    fn a_work_directory_holds_the_first_champion_and_nothing_later() {
        let (stream, root) = (shipped(), tempfile::tempdir().unwrap());
        let place = Place::prepare(&stream, Some(root.path())).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&place.directory)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["e01_logreg.onnx", "model.toml"]);
        assert!(Place::prepare(&stream, Some(root.path())).is_err_and(|e| e.contains("not empty")));
    }
}
