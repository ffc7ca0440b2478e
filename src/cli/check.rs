//! `dethrone check FILE [--model DIR]`: what the gateway would say of a file, without a gateway.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CheckArgs, Failure};
use crate::admission::probe::ProbeSettings;
use crate::admission::{Examiner, external};
use crate::arena::confine::Sandbox;
use crate::arena::{SandboxPolicy, Spawner};
use crate::config::{ModelConfig, VersionConfig};
use crate::intake::scan::{ModelDir, VersionFile, scan, scan_dir};
use crate::intake::store::{Store, Unit, bytes_of};
use crate::model::facts::{Facts, unpack};
use crate::model::head::Head;
use crate::model::interface::{Interface, Misfit};
use crate::model::onnx::{self, Safety};
use crate::model::remedy::{advice, answers_apart, unfit_to_answer};
use crate::model::runtime;

/// A model file may be as large as the gateway's default allows.
const MAX_BYTES: u64 = 2 << 30;

/// Versions that are tried as first champion where model.toml names none; each takes a second.
const MAX_TRIED: usize = 16;

/// Examines the file and prints what was found; exit 1 with the reason when it would be refused.
///
/// # Errors
/// The reason; another exit code where nothing can be said of the file: no ONNX Runtime, no such model.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    if let Err(failure) = can_tell(args) {
        if args.json {
            println!(
                "{}",
                json!({"file": args.file, "accepted": null, "error": failure.to_string()})
            );
        }
        return Err(failure);
    }
    let done = Check::new(args).and_then(|check| check.file(&args.file, args.model.as_deref()));
    match (done, args.json) {
        (Ok(found), true) => println!("{}", found.to_json(&args.file)),
        (Ok(found), false) => print!("{}", found.to_text(&args.file)),
        (Err(reason), is_json) => {
            let (producer, version) = producer(&args.file, args.model.as_deref()).unzip();
            if is_json {
                let line = json!({
                    "file": args.file, "accepted": false, "reason": reason, "producer": producer,
                    "producer_version": version,
                });
                println!("{line}");
            }
            let made_by = producer
                .zip(version)
                .map(|(p, v)| format!(" (made by {})", format!("{p} {v}").trim()));
            let made_by = made_by.unwrap_or_default();
            return Err(Failure::Failed(format!("{}: {reason}{made_by}", args.file.display())));
        }
    }
    Ok(())
}

/// Whether anything can be said of a file here.
fn can_tell(args: &CheckArgs) -> Result<(), Failure> {
    runtime::start().map_err(|e| Failure::Config(e.to_string()))?;
    match args.model.as_deref().and_then(no_model) {
        Some(why) => Err(Failure::Usage(why)),
        None => Ok(()),
    }
}

/// Why this is not the directory of a model; an empty one may become one.
fn no_model(directory: &Path) -> Option<String> {
    let shown = directory.display();
    if !directory.exists() {
        return Some(format!(
            "{shown} does not exist: give --model the directory of a model, models/<model>"
        ));
    }
    if !directory.is_dir() {
        return Some(format!(
            "{shown} is a file: give --model the directory of a model, models/<model>"
        ));
    }
    let contents = match scan_dir(directory, MAX_BYTES) {
        Ok(contents) => contents,
        Err(unreadable) => return Some(unreadable.to_string()),
    };
    let is_empty = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty || contents.settings.is_some() || contents.has_config_pbtxt || !contents.versions.is_empty() {
        return None;
    }
    let mut text = format!("{shown} is not the directory of a model: neither a model.toml nor a version lies in it");
    let inner = scan(directory, MAX_BYTES).unwrap_or_default().models;
    let is_model = |model: &&ModelDir| model.contents.as_ref().is_ok_and(|c| !c.versions.is_empty());
    let names: Vec<String> = inner
        .iter()
        .filter(is_model)
        .map(|m| m.path.display().to_string())
        .collect();
    if !names.is_empty() {
        text += &format!("; models are {}", names.join(", "));
    }
    Some(text)
}

/// Who made a file, and in which version, where it says so.
fn producer(file: &Path, model: Option<&Path>) -> Option<(String, String)> {
    if model.is_some_and(|model| refused_where_it_lies(file, model).is_some()) {
        // What it leads to is nobody's business.
        return None;
    }
    let file = std::fs::canonicalize(file).ok()?;
    let scan = onnx::scan(&bytes_of(&file, file.parent()?, MAX_BYTES).ok()?).ok()?;
    (!scan.producer.is_empty()).then_some((scan.producer, scan.producer_version))
}

struct Check {
    store: Store,
    examiner: Examiner,
    sandbox: Sandbox,
    config: ModelConfig,
    scratch: PathBuf,
}

impl Drop for Check {
    fn drop(&mut self) {
        // What is left in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// What was found out about an accepted file.
struct Found {
    digest: String,
    facts: Facts,
    head: Head,
    role: &'static str,
    /// Its own toml lists feature names.
    lists_features: bool,
    /// Its own toml says that it is meant to be a copy.
    is_twin: bool,
    /// What else an engineer should know.
    notes: Vec<String>,
    /// What kept it in while it was tried.
    sandbox: Sandbox,
}

fn unconfined(facility: &str) -> String {
    format!("it was tried less confined than it should be: this system lacks {facility}")
}

/// Which version fixes the interface.
enum First {
    /// The file itself.
    This,
    Other(PathBuf),
    /// Nobody says which of these.
    OneOf(Vec<(String, PathBuf)>),
}

impl Check {
    fn new(args: &CheckArgs) -> Result<Self, String> {
        let config = match &args.model {
            Some(directory) => ModelConfig::load(&directory.join("model.toml")).map_err(|e| e.to_string())?,
            None => ModelConfig::default(),
        };
        let scratch = scratch().map_err(|e| format!("no temporary directory could be made ({e}): set TMPDIR"))?;
        let store = Store::open(&scratch, MAX_BYTES).map_err(|e| e.to_string())?;
        let spawner = Spawner::of_this_program().map_err(|e| e.to_string())?;
        let sandbox = Sandbox::probe(&spawner, SandboxPolicy::Prefer)?;
        let examiner = Examiner {
            spawner,
            settings: ProbeSettings::default(),
        };
        Ok(Self {
            store,
            examiner,
            sandbox,
            config,
            scratch,
        })
    }

    fn file(&self, file: &Path, model: Option<&Path>) -> Result<Found, String> {
        if let Some(why) = model.and_then(|model| refused_where_it_lies(file, model)) {
            return Err(why);
        }
        let mut found = self.examine(file)?;
        let Some(model) = model else {
            self.interface(&found, Path::new(""))?;
            found.notes.extend(answers_apart(&found.facts.scan, &self.config));
            return Ok(found);
        };
        match self.first_champion(model, file)? {
            First::This => {
                self.interface(&found, model)?;
                found.notes.extend(answers_apart(&found.facts.scan, &self.config));
            }
            First::Other(first) => {
                self.fits(&found, &first, model)?;
                found.role = "challenger";
            }
            First::OneOf(all) => {
                found.notes.push(self.fits_one_of(&found, &all, model)?);
                found.role = "challenger";
            }
        }
        if found.role == "challenger" {
            let barred = |why| format!("it would be shadowed, and could not become champion: {why}");
            let unfit = unfit_to_answer(&found.facts.scan, &self.config).map(barred);
            found
                .notes
                .extend(unfit.or_else(|| answers_apart(&found.facts.scan, &self.config)));
        }
        Ok(found)
    }

    /// Whether the file fits the interface that `first` would fix.
    fn fits(&self, found: &Found, first: &Path, model: &Path) -> Result<(), String> {
        let champion = self
            .examine(first)
            .map_err(|e| format!("the first champion {}: {e}", first.display()))?;
        if champion.digest == found.digest && !found.is_twin {
            let same = first.file_stem().unwrap_or_default().to_string_lossy();
            return Err(format!(
                "has the same bytes as '{same}': remove it, or set twin = true in its own toml to run a copy"
            ));
        }
        let interface = self.interface(&champion, model)?;
        interface.check_answers(found.head.task, found.head.classes.as_ref())?;
        let joined = interface.join(&found.facts, |_| false);
        joined.map(drop).map_err(|misfit| match misfit {
            Misfit::Never(reason) => reason,
            Misfit::NotCarried { feature } => format!(
                "no accepted version takes feature '{feature}': a gateway accepts it once rows carry that feature"
            ),
        })
    }

    /// The ledger of a gateway knows the champion of such a model; here every version may be it.
    fn fits_one_of(&self, found: &Found, all: &[(String, PathBuf)], model: &Path) -> Result<String, String> {
        let (mut with, mut faults) = (Vec::new(), Vec::new());
        for (name, path) in all.iter().take(MAX_TRIED) {
            match self.fits(found, path, model) {
                Ok(()) => with.push(name.as_str()),
                Err(why) => faults.push(format!("{name}: {why}")),
            }
        }
        if with.is_empty() {
            let first = faults.into_iter().next().unwrap_or_default();
            return Err(format!("it fits none of the other versions as first champion; {first}"));
        }
        Ok(format!(
            "model.toml names no first champion (champion = \"…\"): it fits where that is {}",
            with.join(", ")
        ))
    }

    /// The interface that this version would fix as first champion.
    fn interface(&self, first: &Found, model: &Path) -> Result<Interface, String> {
        if let Some(why) = unfit_to_answer(&first.facts.scan, &self.config) {
            return Err(why);
        }
        let has_pbtxt = model.join("config.pbtxt").exists();
        let is_listed = self.config.features.is_some() || first.lists_features;
        Interface::first(
            &first.facts,
            (self.config.interface, has_pbtxt),
            is_listed,
            (first.head.task, first.head.classes.clone()),
        )
    }

    fn examine(&self, file: &Path) -> Result<Found, String> {
        let settings = VersionConfig::load(&file.with_extension("toml")).map_err(|e| e.to_string())?;
        let stored = self.store.put(&unit(file)?, &external).map_err(|e| e.to_string())?;
        let names = settings.features.clone().or_else(|| self.config.features.clone());
        let (_, facts) = self.examiner.examine(&self.store, &stored.digest, names)?;
        let head = Head::find(
            &facts.signature,
            &facts.scan,
            &unpack(&facts.probe_outputs),
            facts.probe_rows,
            &self.config.head(&settings),
        )?;
        Ok(Found {
            digest: stored.digest,
            facts: *facts,
            head,
            role: "first champion",
            lists_features: settings.features.is_some(),
            is_twin: settings.twin,
            notes: self.sandbox.lacks.iter().map(|facility| unconfined(facility)).collect(),
            sandbox: self.sandbox.clone(),
        })
    }

    /// The version that fixes the interface of a model's directory: the one that model.toml names, else the only
    /// other one.
    fn first_champion(&self, model: &Path, file: &Path) -> Result<First, String> {
        let contents = scan_dir(model, MAX_BYTES).map_err(|e| e.to_string())?;
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let others: Vec<&VersionFile> = contents
            .versions
            .iter()
            .filter(|v| real(&v.path) != real(file))
            .collect();
        match &self.config.champion {
            Some(named) => {
                let at = contents.versions.iter().find(|v| v.name == *named);
                let at = at.ok_or_else(|| {
                    format!("model.toml names '{named}' as first champion, and there is no such file")
                })?;
                Ok(if real(&at.path) == real(file) {
                    First::This
                } else {
                    First::Other(at.path.clone())
                })
            }
            None => match others.as_slice() {
                [] => Ok(First::This),
                [only] => Ok(First::Other(only.path.clone())),
                all => Ok(First::OneOf(
                    all.iter().map(|v| (v.name.clone(), v.path.clone())).collect(),
                )),
            },
        }
    }
}

/// Why a gateway does not even look into a file that lies in the model's directory.
fn refused_where_it_lies(file: &Path, model: &Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // As it is written first: a folder in between may be a link that leads away.
    let ways = [
        std::path::absolute(folder).ok().zip(std::path::absolute(model).ok()),
        std::fs::canonicalize(folder)
            .ok()
            .zip(std::fs::canonicalize(model).ok()),
    ];
    let inside = |(folder, model): (PathBuf, PathBuf)| folder.strip_prefix(model).ok().map(Path::to_path_buf);
    let inside = ways.into_iter().flatten().find_map(inside)?;
    let name = inside.iter().next().or(file.file_name())?;
    let name = crate::intake::scan::printed(&name.to_string_lossy());
    let refused = scan_dir(model, MAX_BYTES).ok()?.refused;
    refused.into_iter().find(|r| r.name == name).map(|r| r.reason)
}

/// A new directory that only this user can look into; one that somebody else put there first is not used.
pub(crate) fn scratch() -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let (place, process) = (std::env::temp_dir(), std::process::id());
    let mut made = Err(std::io::ErrorKind::AlreadyExists.into());
    for attempt in 0..100 {
        let path = place.join(format!("dethrone-check-{process}-{attempt}"));
        made = std::fs::DirBuilder::new().mode(0o700).create(&path).map(|()| path);
        if !matches!(&made, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists) {
            break;
        }
    }
    made
}

/// The file with whatever external data it names beside it.
pub(crate) fn unit(file: &Path) -> Result<Unit, String> {
    let file = std::fs::canonicalize(file).map_err(|e| format!("cannot be read ({e})"))?;
    let root = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let bytes = bytes_of(&file, &root, MAX_BYTES).map_err(|e| e.to_string())?;
    let names = if bytes.is_empty() {
        Vec::new()
    } else {
        external(&bytes)?
    };
    let external = names
        .into_iter()
        .map(|name| crate::intake::store::Part {
            path: root.join(&name),
            name,
        })
        .collect();
    Ok(Unit {
        name: "checked".into(),
        root,
        path: file,
        external,
    })
}

impl Found {
    fn named(&self) -> bool {
        self.facts.signature.is_columns() || self.facts.names.is_some()
    }

    fn advice(&self) -> Vec<String> {
        let mut all = self.notes.clone();
        all.extend(self.head.remedy.clone());
        all.extend(advice(&self.facts.scan, &self.facts.signature, self.named()));
        all
    }

    fn to_json(&self, file: &Path) -> Value {
        let f = &self.facts;
        json!({
            "file": file, "accepted": true, "role": self.role, "digest": self.digest,
            "task": self.head.task, "classes": self.head.classes, "features": f.names, "signature": f.signature,
            "batched": f.batched, "latency_us_p50": f.latency_us_p50, "latency_us_p99": f.latency_us_p99, "cpu_ns": f.cpu_ns,
            "memory_bytes": f.memory_bytes, "isolation": f.scan.safety(), "hazards": f.scan.hazards,
            "producer": f.scan.producer, "producer_version": f.scan.producer_version, "runtime": f.runtime,
            "sandbox": self.sandbox, "advice": self.advice(),
        })
    }

    fn to_text(&self, file: &Path) -> String {
        use std::fmt::Write as _;
        let f = &self.facts;
        let mut text = format!("{}: accepted, as {}\n", file.display(), self.role);
        let task = self.head.task.map_or("unknown: raw outputs only".to_owned(), |t| {
            format!("{t:?}").to_lowercase()
        });
        let classes = self
            .head
            .classes
            .as_ref()
            .and_then(|c| serde_json::to_string(c).ok())
            .unwrap_or_default();
        let runs = if f.batched {
            "rows are merged into one run"
        } else {
            "row by row"
        };
        let lines = [
            ("digest", self.digest.clone()),
            ("made by", format!("{} {}", f.scan.producer, f.scan.producer_version)),
            ("task", format!("{task} {classes}")),
            ("inputs", specs(&f.signature.inputs)),
            ("outputs", specs(&f.signature.outputs)),
            ("runs", runs.to_owned()),
            (
                "one row",
                format!("p50 {} µs, p99 {} µs", f.latency_us_p50, f.latency_us_p99),
            ),
            (
                "memory",
                format!("{} MiB in a process of its own", f.memory_bytes >> 20),
            ),
        ];
        let isolation = match f.scan.safety() {
            Safety::InlineSafe => "inline-safe: no request can bring down the process that runs it".to_owned(),
            Safety::ProcessOnly => {
                let hazards = f.scan.hazards.as_deref().unwrap_or_default().join(", ");
                format!("process-only: {hazards}")
            }
        };
        let lines = lines.into_iter().chain([("isolation", isolation)]);
        for (name, value) in lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<9} {}", value.trim_end());
        }
        for line in self.advice() {
            let _ = writeln!(text, "  note      {line}");
        }
        text
    }
}

fn specs(specs: &[crate::model::signature::TensorSpec]) -> String {
    let one = |s: &crate::model::signature::TensorSpec| format!("{} {} {:?}", s.name, s.datatype, s.shape);
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}
