//! One retraining from its export to the end of its command, on a thread that does one at a time over all models.
//!
//! Always holds: how far it has come is in the ledger before the next step begins, so that a gateway that dies leaves a
//! retraining of which that can be told; of old exports no more are kept than the settings say, and what is deleted is
//! recorded as deleted. Leaves to others: when (the module above), how a process is held (`child`).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::child::{self, Ended, Task};
use crate::config::{RetrainConfig, ServerConfig};
use crate::export::{Exported, Order, export_while};
use crate::ledger::{Ledger, RetrainState, RetrainingRow};
use crate::metrics::ModelMetrics;
use crate::recorder::Recorder;
use crate::span::Span;
use crate::time::now_ms;

/// Between two attempts to write into a ledger that fails.
const RETRY: Duration = Duration::from_millis(500);
/// Retrainings that are looked through for exports to delete.
const LOOKED_THROUGH: u32 = 2_000;
/// Exports that are deleted after one retraining at most: the others go after the next.
const DELETED: usize = 50;

/// A retraining that is to be done.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) row: RetrainingRow,
    pub(super) model: String,
    /// The champion's name.
    pub(super) champion: String,
    pub(super) settings: RetrainConfig,
    pub(super) metrics: ModelMetrics,
}

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Arc<ServerConfig>,
    pub(super) recorder: Recorder,
    /// Closed when the gateway ends.
    pub(super) stop: Receiver<()>,
}

/// The gateway ends.
struct Stopping;

impl Worker {
    /// Does one, and gives it as it is then.
    pub(super) fn work(&self, mut job: Job) -> RetrainingRow {
        if self.do_all(&mut job).is_err() {
            // If it cannot be written now, the next start finds it out.
            job.row.state = RetrainState::Interrupted;
            job.row.outcome = Some("the gateway was stopped: what had begun was ended".into());
            job.row.ended_ms = Some(now_ms());
            let row = job.row.clone();
            let _ = self.recorder.call_blocking(move |_, w| w.update_retraining(&row));
        } else {
            let (n, state) = (job.row.n, job.row.state.name());
            let outcome = job.row.outcome.as_deref().unwrap_or_default();
            tracing::info!(model = job.model, n, state, outcome, "a retraining is over");
            job.metrics.retrained(job.row.state);
            self.delete_old(&job);
        }
        job.row
    }

    fn do_all(&self, job: &mut Job) -> Result<(), Stopping> {
        let place = match self.place(job) {
            Ok(place) => place,
            Err(why) => return self.end(job, RetrainState::ExportFailed, why, None),
        };
        job.row.state = RetrainState::Exporting;
        job.row.path = Some(place.rows.display().to_string());
        self.write(&job.row)?;
        let exported = match self.export(job, &place.rows) {
            Ok(exported) => exported,
            Err(_) if self.is_stopping() => return Err(Stopping),
            Err(why) => {
                Self::take_away(job, &place.rows);
                return self.end(job, RetrainState::ExportFailed, why, None);
            }
        };
        let count = exported.export.count.unwrap_or(0);
        job.row.export = Some(exported.export.uid.clone());
        job.row.rows = Some(count);
        job.row.classes =
            (!exported.classes.is_empty()).then(|| serde_json::to_string(&exported.classes).unwrap_or_default());
        if count == 0 {
            Self::take_away(job, &place.rows);
            let why = "there is no labelled row in the window: nothing to export".to_owned();
            return self.end(job, RetrainState::Empty, why, None);
        }
        if let (Some((label, _)), 1) = (exported.classes.first_key_value(), exported.classes.len()) {
            let why = format!("all {count} labels are {label}: there is nothing to learn from them, no command is run");
            return self.end(job, RetrainState::OneClass, why, None);
        }
        if job.settings.command.is_empty() {
            return self.end(job, RetrainState::Exported, format!("{count} rows were exported"), None);
        }
        if !self.config.retrain_commands {
            let why =
                "the command is not run: set retrain_commands = true in the server's settings to allow it".to_owned();
            return self.end(job, RetrainState::Forbidden, why, None);
        }
        self.command(job, &place)
    }

    fn command(&self, job: &mut Job, place: &Place) -> Result<(), Stopping> {
        let directory = absolute(&self.config.models.join(&job.model));
        let (rows, n) = (job.row.rows.unwrap_or(0).to_string(), job.row.n.to_string());
        let values: [(&str, &'static str, &OsStr); 7] = [
            ("path", "DETHRONE_RETRAIN_PATH", place.rows.as_os_str()),
            ("directory", "DETHRONE_RETRAIN_DIRECTORY", directory.as_os_str()),
            ("model", "DETHRONE_RETRAIN_MODEL", OsStr::new(&job.model)),
            ("rows", "DETHRONE_RETRAIN_ROWS", OsStr::new(&rows)),
            ("champion", "DETHRONE_RETRAIN_CHAMPION", OsStr::new(&job.champion)),
            ("reason", "DETHRONE_RETRAIN_REASON", OsStr::new(&job.row.reason)),
            ("n", "DETHRONE_RETRAIN_N", OsStr::new(&n)),
        ];
        let words = values.map(|(name, _, value)| (name, value));
        let filled = |word: &String| child::filled(word, &words);
        let argv: Vec<String> = job.settings.command.iter().map(filled).collect();
        let mut env: Vec<(&'static str, OsString)> =
            values.map(|(_, variable, value)| (variable, value.to_owned())).into();
        env.push(("DETHRONE_RETRAIN_CAUSE", job.row.kind.clone().into()));
        job.row.state = RetrainState::Running;
        job.row.command = serde_json::to_string(&argv).ok();
        job.row.began_ms = Some(now_ms());
        job.row.log = Some(place.log.display().to_string());
        self.write(&job.row)?;
        let task = Task {
            argv: &argv,
            directory: &directory,
            env,
            uid: &job.row.uid,
            log: &place.log,
            timeout: job.settings.timeout,
        };
        let (state, code, outcome) = match child::run(&task, &self.stop) {
            Ok(Ended::Stopped) => return Err(Stopping),
            Ok(Ended::Exit(status)) => {
                let (code, outcome) = child::told(status);
                let state = if status.success() {
                    RetrainState::Succeeded
                } else {
                    RetrainState::Failed
                };
                (state, code, outcome)
            }
            Ok(Ended::TimedOut) => {
                let after = Span::Time(job.settings.timeout);
                (
                    RetrainState::TimedOut,
                    None,
                    format!("the command was ended after {after}"),
                )
            }
            Err(error) => {
                let program = argv.first().map_or("", String::as_str);
                let why = format!("the command cannot be run: {program}: {error}");
                (RetrainState::Failed, None, why)
            }
        };
        self.end(job, state, outcome, code)
    }

    fn end(&self, job: &mut Job, state: RetrainState, outcome: String, code: Option<i64>) -> Result<(), Stopping> {
        job.row.state = state;
        job.row.outcome = Some(outcome);
        job.row.exit_code = code;
        job.row.ended_ms = Some(now_ms());
        self.write(&job.row)
    }

    /// Where rows and log go.
    fn place(&self, job: &Job) -> Result<Place, String> {
        let root = match &job.settings.to {
            Some(to) => self.config.state.join(to),
            None => self.config.state.join("retrain"),
        };
        let folder = root.join(&job.model);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        let whole = made.and_then(|()| fs::canonicalize(&folder));
        let folder = whole.map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Place {
            rows: folder.join(&job.row.uid),
            log: folder.join(format!("{}.log", job.row.uid)),
        })
    }

    fn export(&self, job: &Job, out: &Path) -> Result<Exported, String> {
        // Not on the recorder's thread: it may look at many rows.
        let first = Ledger::open_to_follow(&self.config.state)
            .and_then(|ledger| ledger.reader().labelled_from(job.row.model, job.settings.max_labels));
        let mut first = first.map_err(|error| error.to_string())?;
        let mut from_ms = None;
        match job.settings.window {
            Some(Span::Rows(rows)) => first = first.max((job.row.row + 1).saturating_sub(rows)),
            Some(Span::Time(time)) => {
                let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                from_ms = Some(job.row.time_ms.saturating_sub(ms));
            }
            None => {}
        }
        let order = Order {
            state: self.config.state.clone(),
            model: Some(job.model.clone()),
            out: out.to_owned(),
            rows: (first, u64::MAX),
            from_ms,
            to_ms: None,
            version: job.settings.version.clone(),
            sample: job.settings.sample,
            labelled: true,
            author: job.row.author.clone(),
        };
        export_while(&order, || !self.is_stopping()).map_err(|error| error.to_string())
    }

    fn is_stopping(&self) -> bool {
        !matches!(self.stop.try_recv(), Err(crossbeam_channel::TryRecvError::Empty))
    }

    /// How far it has come is on disk when this returns.
    fn write(&self, row: &RetrainingRow) -> Result<(), Stopping> {
        loop {
            let row = row.clone();
            if self
                .recorder
                .call_blocking(move |_, w| w.update_retraining(&row))
                .is_ok()
            {
                return Ok(());
            }
            if !matches!(self.stop.recv_timeout(RETRY), Err(RecvTimeoutError::Timeout)) {
                return Err(Stopping);
            }
        }
    }

    /// Deletes an export that is not to be used; what cannot be deleted now is with the old ones.
    fn take_away(job: &mut Job, rows: &Path) {
        if remove(rows).is_ok() {
            job.row.removed_ms = Some(now_ms());
        }
    }

    /// Deletes the exports that are too many.
    fn delete_old(&self, job: &Job) {
        let model = job.row.model;
        let all = Ledger::open_to_follow(&self.config.state)
            .and_then(|ledger| ledger.reader().retrainings(model, LOOKED_THROUGH));
        let Ok(all) = all else { return };
        let kept = all.iter().filter(|row| row.path.is_some() && row.removed_ms.is_none());
        let keep = usize::try_from(job.settings.keep).unwrap_or(usize::MAX);
        let old: Vec<RetrainingRow> = kept
            .skip(keep)
            .filter(|row| row.state.is_over())
            .take(DELETED)
            .cloned()
            .collect();
        for mut row in old {
            let Some(path) = row.path.as_ref().map(PathBuf::from) else {
                continue;
            };
            // Nothing but what a retraining of this name has made.
            if path.file_name() != Some(OsStr::new(&row.uid)) {
                continue;
            }
            let log = path.with_file_name(format!("{}.log", row.uid));
            if let Err(error) = remove(&path).and_then(|()| remove(&log)) {
                tracing::warn!(path = %path.display(), %error, "an old export cannot be deleted");
                continue;
            }
            row.removed_ms = Some(now_ms());
            let noted = self
                .recorder
                .call_blocking(move |_, writer| writer.update_retraining(&row));
            if let Err(error) = noted {
                tracing::warn!(%error, "it is not noted yet that an old export was deleted");
            }
        }
    }
}

/// Where a retraining's files are.
struct Place {
    rows: PathBuf,
    log: PathBuf,
}

/// Deletes a file, or a directory with all that is in it; what is not there is gone.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
