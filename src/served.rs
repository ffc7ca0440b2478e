//! A served model as the requests see it: its slot, its interface, its challengers by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::arena::Challenger;
use crate::batch::{Carried, Schema};
use crate::champion::{Champion, Faults, Slot, Trip, Tripwire, VersionInfo};
use crate::config::{self, ModelConfig};
use crate::consent::OptOut;
use crate::decode::{Form, Missing, Rules, Unknown};
use crate::http::backend;
use crate::metrics::{ModelMetrics, Standing};
use crate::model::head::Head;
use crate::model::interface::{Inputs, Interface};
use crate::oip::{Contract, Counters};
use crate::score::{ModelNo, VersionNo};

/// What a request needs of the model besides its champion; replaced as a whole.
#[derive(Debug)]
pub struct View {
    /// How bodies are read.
    pub reading: Arc<backend::Interface>,
    /// How labels are understood.
    pub head: Head,
    /// The settings.
    pub config: Arc<ModelConfig>,
    /// Entities that leave no trace, where the settings name a list.
    pub opt_out: Option<Arc<OptOut>>,
}

impl View {
    /// The view of an interface under settings. `instead` is what clients of tensors are told when they send instances.
    #[must_use]
    pub fn new(
        interface: &Interface,
        schema: Arc<Schema>,
        head: Head,
        config: Arc<ModelConfig>,
        max_rows: usize,
        instead: String,
    ) -> Self {
        let contract = Arc::new(Contract::of(interface, &schema, &head));
        let form = match &interface.inputs {
            Inputs::Features { columns, native, .. } => Form::Features {
                schema,
                columns: (0..u32::try_from(*columns).unwrap_or(u32::MAX)).collect(),
                native: match native.inputs.as_slice() {
                    [_] => Some(Arc::new(native.clone())),
                    _ => None,
                },
            },
            Inputs::Tensors { signature, .. } => Form::Tensors {
                signature: Arc::new(signature.clone()),
                instead,
            },
        };
        let rules = Rules {
            missing: match config.missing {
                config::Missing::Reject => Missing::Reject,
                config::Missing::Nan => Missing::Nan,
            },
            unknown: match config.unknown {
                config::Unknown::Ignore => Unknown::Ignore,
                config::Unknown::Reject => Unknown::Reject,
            },
            max_rows,
        };
        Self {
            reading: Arc::new(backend::Interface { form, rules, contract }),
            head,
            config,
            opt_out: None,
        }
    }
}

/// A challenger that can be asked by name.
#[derive(Debug, Clone)]
pub struct Pinnable {
    /// Who it is.
    pub info: Arc<VersionInfo>,
    /// Its runner.
    pub challenger: Arc<Challenger>,
}

/// What is counted of a version, whatever its settings and its role.
type Counted = (Arc<Counters>, Arc<Faults>);

/// What scrapes show of the judge; written by the recorder.
#[derive(Debug, Default)]
pub struct Shown {
    standings: ArcSwap<Vec<Standing>>,
    deciding: AtomicBool,
}

impl Shown {
    /// What the judge has of each challenger.
    pub fn standings(&self) -> Arc<Vec<Standing>> {
        self.standings.load_full()
    }

    /// True while a change of champion is decided and not carried out.
    pub fn is_deciding(&self) -> bool {
        self.deciding.load(Ordering::Relaxed)
    }

    /// Shows other standings.
    pub fn stand(&self, standings: Vec<Standing>) {
        self.standings.store(Arc::new(standings));
    }

    /// Shows whether a decision waits.
    pub fn decide(&self, waits: bool) {
        self.deciding.store(waits, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Served {
    /// The directory's name.
    pub name: String,
    /// Number in the ledger.
    pub no: ModelNo,
    /// Who answers.
    pub slot: Slot,
    /// `None` until the first champion.
    pub view: ArcSwapOption<View>,
    /// Challengers by name.
    pub challengers: ArcSwap<HashMap<String, Pinnable>>,
    /// Why there is no champion.
    pub waiting_for: ArcSwap<String>,
    /// The ledger knew a champion at the start: the gateway is not ready before it answers.
    pub expected: AtomicBool,
    /// That champion could not be brought back.
    pub given_up: AtomicBool,
    /// Why the previous champion answers in the recorded one's place.
    pub stand_in: ArcSwap<Option<String>>,
    /// Features that rows carry and no version takes.
    pub carried: Arc<Carried>,
    /// What is wrong with model.toml; the last good settings are in force.
    pub settings_fault: ArcSwap<Option<String>>,
    /// What is wrong with the list of entities that are kept out, and what follows.
    pub opt_out_fault: ArcSwap<Option<String>>,
    /// What is wrong with the toml of a version's file, by the file's name.
    pub version_faults: ArcSwap<BTreeMap<String, String>>,
    /// Why nothing is judged although the settings do not say so.
    pub mode_reason: ArcSwap<Option<String>>,
    counters: Mutex<HashMap<VersionNo, Counted>>,
    /// Says when the champion fails too often.
    pub tripwire: Tripwire,
    /// Written by the recorder.
    pub shown: Arc<Shown>,
    /// Handles made once.
    pub metrics: ModelMetrics,
}

impl Served {
    /// A model without a champion.
    #[must_use]
    pub fn new(name: String, no: ModelNo, metrics: ModelMetrics) -> Self {
        Self {
            name,
            no,
            slot: Slot::default(),
            view: ArcSwapOption::empty(),
            challengers: ArcSwap::default(),
            waiting_for: ArcSwap::from_pointee("its directory has not been looked at yet".to_owned()),
            expected: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            stand_in: ArcSwap::default(),
            carried: Arc::default(),
            settings_fault: ArcSwap::default(),
            opt_out_fault: ArcSwap::default(),
            version_faults: ArcSwap::default(),
            mode_reason: ArcSwap::default(),
            counters: Mutex::default(),
            tripwire: Tripwire::default(),
            shown: Arc::default(),
            metrics,
        }
    }
}

impl Served {
    /// The counters of a version, which outlive its settings and its roles.
    pub fn counters(&self, no: VersionNo) -> (Arc<Counters>, Arc<Faults>) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(no).or_default().clone()
    }

    /// A champion begins to answer: it is watched anew.
    pub fn watch(&self, champion: &Champion) {
        let faults = &champion.version.info.faults;
        self.tripwire.begin(champion.epoch, self.carried.rows(), faults);
    }

    /// Why the champion should not go on, once; to be asked after a row failed.
    pub fn trip(&self, champion: &Champion) -> Option<Trip> {
        let (rows, faults) = (self.carried.rows(), &champion.version.info.faults);
        self.tripwire.look(champion.epoch, rows, faults, self.min_coverage())
    }

    /// The same while it lasts.
    pub fn alarm(&self) -> Option<String> {
        let champion = self.slot.load()?;
        let (rows, faults) = (self.carried.rows(), &champion.version.info.faults);
        let why = self.tripwire.alarm(champion.epoch, rows, faults, self.min_coverage())?;
        Some(format!("champion '{}' {why}", champion.version.info.name))
    }

    fn min_coverage(&self) -> f64 {
        self.view
            .load()
            .as_ref()
            .map_or(0.0, |view| view.config.policy.min_coverage)
    }
}

impl backend::Model for Served {
    fn name(&self) -> &str {
        &self.name
    }

    fn interface(&self) -> Option<Arc<backend::Interface>> {
        self.view.load().as_ref().map(|view| Arc::clone(&view.reading))
    }

    fn waiting_for(&self) -> String {
        if self.slot.is_closed() {
            return "it was unloaded: load it again, by POST /v2/repository/models/{model}/load".into();
        }
        self.waiting_for.load().to_string()
    }

    fn versions(&self) -> Vec<Arc<VersionInfo>> {
        let Some(champion) = self.slot.load() else {
            return Vec::new();
        };
        let mut all: Vec<Arc<VersionInfo>> = champion.loaded().iter().map(|v| Arc::clone(&v.info)).collect();
        for challenger in self.challengers.load().values() {
            if all.iter().all(|known| known.name != challenger.info.name) {
                all.push(Arc::clone(&challenger.info));
            }
        }
        // The champion first, the others by name.
        if let Some((_, others)) = all.split_first_mut() {
            others.sort_by(|a, b| a.name.cmp(&b.name));
        }
        all
    }

    fn failed(&self, time: Duration) {
        if let Some(champion) = self.slot.load() {
            champion.version.info.counters.failed(time);
        }
    }
}
