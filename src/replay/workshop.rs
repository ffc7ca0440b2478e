//! Model files from anywhere: examined and run as candidates are, in sandboxed child processes, never here.
//!
//! Always holds: what is run is a copy whose bytes were examined; a row that a file fails on is failed alone; a file that
//! crashes or hangs too often is given up with its reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::progress::Progress;
use crate::admission::probe::ProbeSettings;
use crate::admission::{Examiner, external};
use crate::arena::{RunnerClient, RunnerFault, RunnerLimits, RunnerSpec, SandboxPolicy, Spawner};
use crate::backtest::contest::Outcomes;
use crate::batch::{Batch, Schema};
use crate::cli::check;
use crate::config::{ModelConfig, VersionConfig};
use crate::intake::store::Store;
use crate::model::facts::{Facts, unpack};
use crate::model::head::Head;
use crate::model::interface::{Interface, Misfit};
use crate::model::layout::Layout;
use crate::model::runtime;
use crate::score::{Outcome, Shed, VersionNo};

/// A file may be as large as the gateway's default allows.
const MAX_BYTES: u64 = 2 << 30;
/// Rows of one run.
const TOGETHER: usize = 1_024;
/// CPU time for loading.
const LOAD_CPU: Duration = Duration::from_secs(60);
/// CPU time for one run, and for each of its rows.
const RUN_CPU: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(10));
/// Time for either when the machine is busy.
const WALL: Duration = Duration::from_secs(600);
/// Crashes and overruns before a file is given up.
const CRASHES: u32 = 3;

/// A file that was examined.
#[derive(Debug)]
pub struct Made {
    /// What it is called.
    pub name: String,
    /// What was found.
    pub facts: Facts,
    /// How its outputs are read.
    pub head: Head,
    lists_features: bool,
    path: PathBuf,
}

impl Made {
    /// A file that was examined by a gateway, whose stored bytes lie there.
    #[must_use]
    pub fn stored(name: &str, facts: Facts, head: Head, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            facts,
            head,
            lists_features: false,
            path,
        }
    }
}

/// Where files are examined and run; what it keeps goes away with it.
#[derive(Debug)]
pub struct Workshop {
    store: Store,
    examiner: Examiner,
    scratch: PathBuf,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What is left in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

impl Workshop {
    /// Starts what starts child processes.
    ///
    /// # Errors
    /// No ONNX Runtime, or no temporary directory.
    pub fn new() -> Result<Self, String> {
        runtime::start().map_err(|e| e.to_string())?;
        let scratch =
            check::scratch().map_err(|e| format!("no temporary directory could be made ({e}): set TMPDIR"))?;
        let store = Store::open(&scratch, MAX_BYTES).map_err(|e| e.to_string())?;
        let spawner = Spawner::of_this_program().map_err(|e| e.to_string())?;
        crate::arena::confine::Sandbox::probe(&spawner, SandboxPolicy::Prefer)?;
        let settings = ProbeSettings {
            limits: RunnerLimits {
                idle: false,
                ..ProbeSettings::default().limits
            },
            ..ProbeSettings::default()
        };
        Ok(Self {
            store,
            examiner: Examiner { spawner, settings },
            scratch,
        })
    }

    /// Admission of one file under a model's settings.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn examine(&self, file: &Path, name: &str, config: &ModelConfig) -> Result<Made, String> {
        let examine = || {
            let settings = VersionConfig::load(&file.with_extension("toml")).map_err(|e| e.to_string())?;
            let stored = self
                .store
                .put(&check::unit(file)?, &external)
                .map_err(|e| e.to_string())?;
            let names = settings.features.clone().or_else(|| config.features.clone());
            let (rewritten, facts) = self.examiner.examine(&self.store, &stored.digest, names)?;
            let digest = rewritten.unwrap_or(stored.digest);
            let probe = unpack(&facts.probe_outputs);
            let head = Head::find(
                &facts.signature,
                &facts.scan,
                &probe,
                facts.probe_rows,
                &config.head(&settings),
            )?;
            Ok(Made {
                name: name.to_owned(),
                path: self.store.path(&digest).ok_or("the store has lost it")?,
                facts: *facts,
                head,
                lists_features: settings.features.is_some(),
            })
        };
        examine().map_err(|why: String| format!("{}: {why}", file.display()))
    }

    /// What a file makes of all rows.
    ///
    /// # Errors
    /// It could not be loaded, or was given up.
    pub fn score(
        &self,
        made: &Made,
        layout: &Layout,
        batches: &[Arc<Batch>],
        bar: &Progress,
    ) -> Result<Vec<Outcome>, String> {
        let mut run = Run {
            made,
            layout,
            spawner: &self.examiner.spawner,
            runner: None,
            crashes: 0,
        };
        let mut outcomes = Vec::new();
        for batch in batches {
            let rows = batch.rows();
            let first = outcomes.len();
            outcomes.resize(first + rows, Outcome::Uncovered);
            let covered: Vec<usize> = (0..rows)
                .filter(|&row| layout.uncovered(batch, row).is_none())
                .collect();
            let together = if made.facts.batched { TOGETHER } else { 1 };
            for part in covered
                .chunk_by(|a, b| a + 1 == *b)
                .flat_map(|part| part.chunks(together))
            {
                run.rows(batch, part, &mut |row, outcome| {
                    if let Some(place) = outcomes.get_mut(first + row) {
                        *place = outcome;
                    }
                })
                .map_err(|why| format!("{}: {why}", made.name))?;
            }
            bar.advance(rows as u64);
        }
        Ok(outcomes)
    }
}

/// One file's runs.
struct Run<'a> {
    made: &'a Made,
    layout: &'a Layout,
    spawner: &'a Spawner,
    runner: Option<RunnerClient>,
    crashes: u32,
}

impl Run<'_> {
    /// Neighbouring rows: together, and where that fails in halves, until the row is alone that is to blame.
    fn rows(&mut self, batch: &Batch, rows: &[usize], tell: &mut impl FnMut(usize, Outcome)) -> Result<(), String> {
        let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        match self.together(batch, first..last + 1) {
            Ok(outcomes) => rows.iter().zip(outcomes).for_each(|(row, outcome)| tell(*row, outcome)),
            Err(fault) => {
                if !matches!(fault, RunnerFault::Model(_)) {
                    self.runner = None;
                    self.crashes += 1;
                    if self.crashes >= CRASHES {
                        return Err(format!("given up after {CRASHES} crashes or overruns: {fault}"));
                    }
                }
                if rows.len() == 1 {
                    tell(first, Outcome::Failed);
                } else {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    self.rows(batch, left, tell)?;
                    self.rows(batch, right, tell)?;
                }
            }
        }
        Ok(())
    }

    fn together(&mut self, batch: &Batch, rows: std::ops::Range<usize>) -> Result<Vec<Outcome>, RunnerFault> {
        let count = rows.len();
        let inputs = self.layout.feeds(&[(batch, rows)]).map_err(RunnerFault::Model)?;
        let cpu = RUN_CPU.0 + RUN_CPU.1.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let head = &self.made.head;
        let runner = match &mut self.runner {
            Some(runner) => runner,
            None => self.runner.insert(start(self.spawner, &self.made.path)?),
        };
        let outputs = runner.run(&inputs, head.wanted(), cpu, WALL)?;
        if head.task.is_none() {
            return Ok(vec![Outcome::Unread; count]);
        }
        let scores = head.read(&outputs, count).into_iter().map(|read| match read {
            Ok(score) if score.is_finite() => Outcome::Scored(score),
            _ => Outcome::Failed,
        });
        let mut outcomes: Vec<Outcome> = scores.collect();
        outcomes.resize(count, Outcome::Failed);
        Ok(outcomes)
    }
}

fn start(spawner: &Spawner, path: &Path) -> Result<RunnerClient, RunnerFault> {
    let down = |error: std::io::Error| RunnerFault::Down(error.to_string());
    let spec = RunnerSpec {
        limits: RunnerLimits {
            idle: false,
            ..RunnerLimits::default()
        },
        show_stderr: false,
    };
    let mut runner = RunnerClient::new(spawner.spawn(spec).map_err(down)?).map_err(down)?;
    runner.load(path, 1, LOAD_CPU, WALL)?;
    Ok(runner)
}

/// The interface of a first champion and everybody who joins it, with each one's layout in it. `carried` says whether the
/// rows carry a feature that the champion does not take.
///
/// # Errors
/// Who does not fit, and why.
pub fn interface_of(
    made: &[Made],
    config: &ModelConfig,
    carried: impl Fn(&str) -> bool,
) -> Result<(Interface, Vec<Layout>), String> {
    let (first, others) = made.split_first().ok_or("there is no champion")?;
    let is_listed = config.features.is_some() || first.lists_features;
    let answers = (first.head.task, first.head.classes.clone());
    let named = |made: &Made, why: String| format!("{}: {why}", made.name);
    let mut interface = Interface::first(&first.facts, (config.interface, false), is_listed, answers)
        .map_err(|why| named(first, why))?;
    for one in others {
        interface = joined(&interface, one, &carried)?;
    }
    let layouts = made
        .iter()
        .map(|one| layout(&interface, one))
        .collect::<Result<_, _>>()?;
    Ok((interface, layouts))
}

/// The interface with one more version.
///
/// # Errors
/// Why it does not fit.
pub fn joined(interface: &Interface, made: &Made, carried: impl Fn(&str) -> bool) -> Result<Interface, String> {
    let fits = interface.check_answers(made.head.task, made.head.classes.as_ref());
    fits.map_err(|why| format!("{}: {why}", made.name))?;
    match interface.join(&made.facts, carried) {
        Ok((joined, _)) => Ok(joined),
        Err(Misfit::Never(why)) => Err(format!("{}: {why}", made.name)),
        Err(Misfit::NotCarried { feature }) => Err(format!(
            "{}: it needs feature '{feature}', which the rows do not have",
            made.name
        )),
    }
}

/// How a version's inputs are filled.
///
/// # Errors
/// Why they cannot be.
pub fn layout(interface: &Interface, made: &Made) -> Result<Layout, String> {
    let bound = interface.join(&made.facts, |_| true);
    bound
        .map(|(_, layout)| layout)
        .map_err(|why| format!("{}: {why:?}", made.name))
}

/// The named features of an interface.
#[must_use]
pub fn schema(interface: &Interface) -> Arc<Schema> {
    interface.schema(&Arc::default())
}

/// What each version made of each row.
#[derive(Debug, Default)]
pub struct Scores(HashMap<VersionNo, Vec<Outcome>>);

impl Scores {
    /// All outcomes of a version, from the first row on.
    pub fn insert(&mut self, version: VersionNo, outcomes: Vec<Outcome>) {
        self.0.insert(version, outcomes);
    }
}

impl Outcomes for Scores {
    /// A row that nobody scored makes no pair.
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome {
        let known = self.0.get(&version).and_then(|all| all.get(row));
        known.cloned().unwrap_or(Outcome::Shed(Shed::Left))
    }
}
