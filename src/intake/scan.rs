//! What lies in the models directory right now.
//!
//! Always holds: names beginning with a dot are not seen; a symlink counts only when what it resolves to lies beneath
//! its model's directory (a model's own directory: beneath the root); what cannot be a version is refused by name
//! with a remedy; a directory that cannot be read is told apart from an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bad_name;

const MODEL_FILE: &str = "model.onnx";

/// A directory that cannot be read: what was known of it stays known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path} cannot be read ({reason}): what was loaded from it stays")]
pub struct Unreadable {
    /// The directory.
    pub path: String,
    /// The system's words.
    pub reason: String,
}

/// Something that looks like a version or a model and cannot be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name, safe to print.
    pub name: String,
    /// Why, and what to change.
    pub reason: String,
}

/// A version's files, by name; not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFile {
    /// The version's name.
    pub name: String,
    /// The model file as it is named in the directory.
    pub path: PathBuf,
    /// The real directory of the model, beneath which all parts must lie.
    pub root: PathBuf,
    /// `<version>.toml`, where there is one.
    pub settings: Option<PathBuf>,
}

/// What a model's directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// `model.toml`, where there is one.
    pub settings: Option<PathBuf>,
    /// Whether a `config.pbtxt` stands there: the model keeps its own tensors as interface.
    pub has_config_pbtxt: bool,
    /// Versions by name.
    pub versions: Vec<VersionFile>,
    /// What was refused.
    pub refused: Vec<Refused>,
}

/// A model's directory.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// The model's name.
    pub name: String,
    /// The directory as it is named in the root.
    pub path: PathBuf,
    /// What it holds, or that nobody can say.
    pub contents: Result<Contents, Unreadable>,
}

/// All models.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Model directories by name.
    pub models: Vec<ModelDir>,
    /// What was refused beside them.
    pub refused: Vec<Refused>,
}

/// Looks at all models. `max_bytes` is the size from which a model file is refused.
///
/// # Errors
/// The root cannot be read: nothing is known to be gone.
pub fn scan(models_root: &Path, max_bytes: u64) -> Result<Scan, Unreadable> {
    let root = fs::canonicalize(models_root).map_err(|e| unreadable(models_root, &e))?;
    let mut scan = Scan::default();
    for name in entries(models_root)? {
        let path = models_root.join(&name);
        let Ok(about) = fs::metadata(&path) else {
            continue; // gone since, or a dangling symlink: not a directory
        };
        if !about.is_dir() {
            if extension(&name) == Some("onnx") {
                let reason = "lies beside the models: move it into a directory of its own, models/<model>/";
                scan.refused.push(refused(&name, reason));
            }
        } else if let Some(reason) = bad_model_name(&name) {
            scan.refused.push(refused(&name, &reason));
        } else {
            match beneath(&path, &root) {
                Ok(real) => scan.models.push(look(name, path, &real, max_bytes)),
                Err(reason) => scan.refused.push(refused(&name, &reason)),
            }
        }
    }
    Ok(scan)
}

/// Looks at one model; `None` when there is no such directory, or its name or place is refused.
///
/// # Errors
/// The root cannot be read.
pub fn scan_model(models_root: &Path, name: &str, max_bytes: u64) -> Result<Option<ModelDir>, Unreadable> {
    let root = fs::canonicalize(models_root).map_err(|e| unreadable(models_root, &e))?;
    let path = models_root.join(name);
    if bad_model_name(name).is_some() || !fs::metadata(&path).is_ok_and(|about| about.is_dir()) {
        return Ok(None);
    }
    let real = beneath(&path, &root).ok();
    Ok(real.map(|real| look(name.to_owned(), path, &real, max_bytes)))
}

/// Looks at one model's directory, wherever it lies.
///
/// # Errors
/// It cannot be read.
pub fn scan_dir(path: &Path, max_bytes: u64) -> Result<Contents, Unreadable> {
    let real = fs::canonicalize(path).map_err(|e| unreadable(path, &e))?;
    look(String::new(), path.to_path_buf(), &real, max_bytes).contents
}

fn bad_model_name(name: &str) -> Option<String> {
    if name == "stats" {
        // The Open Inference Protocol has a route of that name where a model's would stand.
        return Some("\"stats\" cannot be the name of a model: rename it".into());
    }
    bad_name(name)
}

fn look(name: String, path: PathBuf, real: &Path, max_bytes: u64) -> ModelDir {
    let contents = Look {
        path: &path,
        real,
        max_bytes,
    }
    .contents();
    ModelDir { name, path, contents }
}

/// A look at one model's directory.
struct Look<'a> {
    path: &'a Path,
    real: &'a Path,
    max_bytes: u64,
}

impl Look<'_> {
    fn contents(&self) -> Result<Contents, Unreadable> {
        let names = entries(self.path)?;
        let mut contents = Contents {
            settings: self.beside("model.toml", &names, &mut Vec::new()),
            has_config_pbtxt: names.contains("config.pbtxt"),
            ..Contents::default()
        };
        let mut versions: BTreeMap<String, PathBuf> = BTreeMap::new();
        for name in &names {
            let Some((version, path)) = self.candidate(name, &mut contents.refused) else {
                continue;
            };
            if versions.contains_key(&version) {
                let reason = format!("a version \"{version}\" stands beside it already: rename one of them");
                contents.refused.push(refused(name, &reason));
                continue;
            }
            versions.insert(version, path);
        }
        for (name, path) in versions {
            // `model.toml` is the model's, also beside a `model.onnx`.
            let settings = match name.as_str() {
                "model" => None,
                _ => self.beside(&format!("{name}.toml"), &names, &mut contents.refused),
            };
            contents.versions.push(VersionFile {
                name,
                path,
                root: self.real.to_path_buf(),
                settings,
            });
        }
        Ok(contents)
    }

    /// The version that an entry of the directory stands for.
    fn candidate(&self, name: &str, refusals: &mut Vec<Refused>) -> Option<(String, PathBuf)> {
        let path = self.path.join(name);
        let is_file_name = extension(name) == Some("onnx");
        // Before any look at the file: a name that is not text leads to none.
        if is_file_name && let Some(reason) = bad_name(name.strip_suffix(".onnx").unwrap_or(name)) {
            refusals.push(refused(name, &reason));
            return None;
        }
        let about = match fs::metadata(&path) {
            Ok(about) => about,
            Err(error) => {
                if is_file_name && fs::symlink_metadata(&path).is_ok() {
                    let reason = format!("cannot be reached ({error}): check where it links to and its permissions");
                    refusals.push(refused(name, &reason));
                }
                return None;
            }
        };
        let (version, path) = if about.is_dir() {
            (name.to_owned(), model_in_folder(&path)?)
        } else if is_file_name {
            (name.strip_suffix(".onnx").unwrap_or(name).to_owned(), path)
        } else {
            return None;
        };
        match bad_name(&version).or_else(|| self.bad_file(&path)) {
            Some(reason) => {
                refusals.push(refused(name, &reason));
                None
            }
            None => Some((version, path)),
        }
    }

    fn bad_file(&self, path: &Path) -> Option<String> {
        let about = match beneath(path, self.real).and_then(|real| fs::metadata(real).map_err(|e| e.to_string())) {
            Ok(about) => about,
            Err(reason) => return Some(reason),
        };
        if !about.is_file() {
            return Some("is not a regular file: put an ONNX file in its place".into());
        }
        (about.len() > self.max_bytes).then(|| {
            let (size, limit) = (about.len(), self.max_bytes);
            format!("has {size} bytes, more than max_model_bytes = {limit}: raise that or export a smaller model")
        })
    }

    /// A settings file beside the models, when it may be followed.
    fn beside(&self, name: &str, names: &BTreeSet<String>, refusals: &mut Vec<Refused>) -> Option<PathBuf> {
        names.get(name)?;
        let path = self.path.join(name);
        match beneath(&path, self.real) {
            Ok(_) => Some(path),
            Err(reason) => {
                refusals.push(refused(name, &reason));
                None
            }
        }
    }
}

/// `<folder>/model.onnx`, or `<folder>/model.onnx/model.onnx` (Triton's form for external data).
fn model_in_folder(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(MODEL_FILE);
    let about = fs::symlink_metadata(&path).ok()?;
    let is_dir = about.is_dir() || (about.is_symlink() && path.is_dir());
    if !is_dir {
        return Some(path);
    }
    let inner = path.join(MODEL_FILE);
    fs::symlink_metadata(&inner).ok().map(|_| inner)
}

/// What the path resolves to, when that lies beneath `root` (itself real).
pub(super) fn beneath(path: &Path, root: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(path).map_err(|e| format!("cannot be reached ({e}): check its permissions"))?;
    if real.starts_with(root) {
        return Ok(real);
    }
    Err(
        "is a symlink that leaves the directory: copy the file itself (huggingface-cli download --local-dir, \
         dvc config cache.type copy, cp -L)"
            .into(),
    )
}

/// Names in the directory that do not begin with a dot, in order.
fn entries(path: &Path) -> Result<BTreeSet<String>, Unreadable> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(|e| unreadable(path, &e))? {
        let name = entry.map_err(|e| unreadable(path, &e))?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            names.insert(name.into_owned());
        }
    }
    Ok(names)
}

fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    Unreadable {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn refused(name: &str, reason: &str) -> Refused {
    Refused {
        name: printed(name),
        reason: reason.to_owned(),
    }
}

/// A name as it is told, whatever it is.
pub(crate) fn printed(name: &str) -> String {
    let name: String = name.chars().take(super::MAX_NAME + 16).collect();
    name.escape_debug().to_string()
}
