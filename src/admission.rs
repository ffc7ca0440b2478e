//! Admission: from a settled file to facts about it, on a thread of its own and one file at a time.
//!
//! Always holds: only bytes that lie in the content store are looked at; a file is loaded in a child process only; a
//! thousand files dropped at once wait in line. Leaves to others: which files are settled (`intake`), and whether the
//! facts fit the model (`control`).

pub mod probe;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use crate::arena::Spawner;
use crate::intake::store::{IntakeError, Stored, Unit};
use crate::model::facts::{Facts, pack};
use crate::model::onnx;
use crate::model::remedy::remedy;
use crate::score::VersionNo;
use crate::shared::Blobs;

/// What came of a job.
#[derive(Debug)]
pub enum Finding {
    /// A unit is in the store, or not.
    Stored {
        /// The model.
        model: String,
        /// The unit.
        unit: Unit,
        /// Digest and place, or why not.
        result: Result<Stored, IntakeError>,
    },
    /// A candidate was examined.
    Vetted {
        /// The model.
        model: String,
        /// The candidate.
        version: VersionNo,
        /// What was examined.
        digest: String,
        /// The digest of the rewritten copy, where there is one, and the facts; or why it is refused.
        result: Result<(Option<String>, Box<Facts>), String>,
    },
}

#[derive(Debug)]
enum Job {
    Store {
        model: String,
        unit: Unit,
    },
    Vet {
        model: String,
        version: VersionNo,
        digest: String,
        names: Option<Vec<String>>,
    },
}

/// Jobs in line. Bounded by what lies in the directory: a file waits once for the store, a version once for its
/// examination.
#[derive(Debug, Default)]
struct Line {
    jobs: VecDeque<Job>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    more: Condvar,
    waiting: AtomicUsize,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the admission thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Admission {
    shared: Arc<Shared>,
    store: Arc<dyn Blobs>,
    thread: JoinHandle<()>,
}

/// Names of a file's external data, for the intake.
///
/// # Errors
/// Why the bytes are not a model.
pub fn external(bytes: &[u8]) -> Result<Vec<String>, String> {
    onnx::scan(bytes).map(|scan| scan.external).map_err(|error| error.0)
}

impl Admission {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(store: Arc<dyn Blobs>, examiner: Examiner, findings: Sender<Finding>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (mine, shelf) = (Arc::clone(&shared), Arc::clone(&store));
        let thread = std::thread::Builder::new().name("admission".into()).spawn(move || {
            crate::priority::give_way_and_rest();
            while let Some(job) = next(&mine) {
                let finding = match job {
                    Job::Store { model, unit } => {
                        let result = shelf.put(&unit, &external);
                        Finding::Stored { model, unit, result }
                    }
                    Job::Vet {
                        model,
                        version,
                        digest,
                        names,
                    } => {
                        let result = examiner.examine(&*shelf, &digest, names);
                        Finding::Vetted {
                            model,
                            version,
                            digest,
                            result,
                        }
                    }
                };
                if findings.send(finding).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { shared, store, thread })
    }

    /// Puts a settled unit in line for the store. False when the same file waited already: it keeps its place, and
    /// one finding comes for both.
    #[must_use]
    pub fn store(&self, model: &str, unit: Unit) -> bool {
        let mut line = self.shared.line();
        let waiting = line.jobs.iter_mut().find_map(|job| match job {
            Job::Store { model: m, unit: u } if *m == model && u.path == unit.path => Some(u),
            _ => None,
        });
        if let Some(waiting) = waiting {
            *waiting = unit;
            return false;
        }
        drop(line);
        self.push(Job::Store {
            model: model.to_owned(),
            unit,
        });
        true
    }

    /// Puts a candidate in line for the examination.
    pub fn vet(&self, model: &str, version: VersionNo, digest: &str, names: Option<Vec<String>>) {
        self.push(Job::Vet {
            model: model.to_owned(),
            version,
            digest: digest.to_owned(),
            names,
        });
    }

    /// True while files are examined; the findings' channel closes when they no longer are.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Jobs in line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Where the bytes of a digest lie.
    #[must_use]
    pub fn path_of(&self, digest: &str) -> Option<PathBuf> {
        self.store.get(digest)
    }

    /// The same, compared with the digest; what is damaged is set aside.
    ///
    /// # Errors
    /// What is wrong with the stored bytes, and where they are now.
    pub fn whole(&self, digest: &str) -> Result<PathBuf, String> {
        match self.store.verify(digest) {
            Ok(()) => self
                .path_of(digest)
                .ok_or_else(|| format!("{digest} is not in the content store")),
            Err(error @ IntakeError::Damaged(_)) => Err(match self.store.set_aside(digest) {
                Ok(aside) => format!("{error}: it was set aside as {}", aside.display()),
                Err(stays) => format!("{error}, and could not be set aside: {stays}"),
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes stored models that nobody needs, see `Store::sweep`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sweep(&self, is_needed: impl Fn(&str) -> bool, since: std::time::SystemTime) -> Result<usize, IntakeError> {
        self.store.sweep(&is_needed, since)
    }

    /// Makes the copy of a stored model without its ZipMap again.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn cut_again(&self, digest: &str) -> Result<(), String> {
        let bytes = std::fs::read(self.whole(digest)?).map_err(|error| error.to_string())?;
        let cut = onnx::cut_zipmap(&bytes).map_err(|error| error.0)?;
        let cut = cut.ok_or_else(|| format!("{digest} has no ZipMap"))?;
        self.store
            .put_derived(&cut, digest)
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    fn push(&self, job: Job) {
        self.shared.line().jobs.push_back(job);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.more.notify_one();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.shared.line().ended = true;
        // Not waited for: a file may take its runner minutes, and nobody wants to know any more. The runner goes with
        // this process, and what a copy leaves half-made is cleared at the next start.
        self.shared.more.notify_all();
    }
}

fn next(shared: &Shared) -> Option<Job> {
    let mut line = shared.line();
    loop {
        if line.ended {
            return None;
        }
        if let Some(job) = line.jobs.pop_front() {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Some(job);
        }
        line = shared.more.wait(line).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Whether the files beside a stored model are as long as its tensors need.
fn has_all_external(scan: &onnx::Scan, path: &Path) -> Result<(), String> {
    for (name, &needed) in &scan.external_bytes {
        let beside = path.with_file_name(name);
        let found = std::fs::metadata(&beside).map_err(|error| format!("its external data {name}: {error}"))?;
        if found.len() < needed {
            let found = found.len();
            return Err(format!(
                "its external data {name} have {found} bytes, and its tensors lie in the first {needed}: copy both files \
                 again, whole"
            ));
        }
    }
    Ok(())
}

/// Examines files.
#[derive(Debug, Clone)]
pub struct Examiner {
    /// Starts the children.
    pub spawner: Spawner,
    /// Bounds of a probe.
    pub settings: probe::ProbeSettings,
}

impl Examiner {
    /// Scans the bytes, cuts ZipMaps out, and probes the result in a child process. Gives the digest of the rewritten
    /// copy, where there is one, and the facts.
    ///
    /// # Errors
    /// One sentence for the engineer whose file it is.
    pub fn examine(
        &self,
        store: &dyn Blobs,
        digest: &str,
        names: Option<Vec<String>>,
    ) -> Result<(Option<String>, Box<Facts>), String> {
        let lost = || format!("the store has no {digest}: drop the file again");
        let path = store.get(digest).ok_or_else(lost)?;
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let scan = onnx::scan(&bytes).map_err(|error| error.0)?;
        has_all_external(&scan, &path)?;
        let cut = onnx::cut_zipmap(&bytes).map_err(|error| error.0)?;
        drop(bytes);
        let (stored_digest, path) = match cut {
            Some(cut) => {
                let stored = store.put_derived(&cut, digest).map_err(|error| error.to_string())?;
                (Some(stored.digest), stored.path)
            }
            None => (None, path),
        };
        let names = names.or_else(|| scan.feature_names());
        let facts = self.probe(scan, &path, names)?;
        Ok((stored_digest, Box::new(facts)))
    }

    fn probe(&self, scan: onnx::Scan, path: &Path, names: Option<Vec<String>>) -> Result<Facts, String> {
        let report = probe::probe(&self.spawner, path, &self.settings).map_err(|error| {
            let hint = remedy(&scan, &error)
                .map(|hint| format!("; {hint}"))
                .unwrap_or_default();
            format!("{error}{hint}")
        })?;
        Ok(Facts {
            scan,
            signature: report.signature,
            names,
            batched: report.batched,
            probe_rows: report.probe_rows,
            probe_inputs: pack(&report.probe_inputs),
            probe_outputs: pack(&report.probe_outputs),
            latency_us_p50: report.latency_us_p50,
            latency_us_p99: report.latency_us_p99,
            cpu_ns: report.cpu_ns,
            memory_bytes: report.memory_bytes,
            runtime: crate::model::facts::runtime(),
        })
    }
}
