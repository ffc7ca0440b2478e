//! What the admin routes and the scrapes show.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Gateway;
use crate::arena::Challenger;
use crate::champion::VersionInfo;
use crate::decode::Form;
use crate::error::{Error, Kind};
use crate::expr::{Expr, Field};
use crate::history::{Detail, lineage};
use crate::http::backend::{Backend, Model as _};
use crate::judge::fold::Judge;
use crate::judge::policy::Group;
use crate::judge::twin::Noise;
use crate::ledger::{DecisionRow, ModelRow, RewardTotal, VersionRow};
use crate::metrics::{ModelSeries, VersionSeries};
use crate::model::facts::Facts;
use crate::monitor::view::Published;
use crate::oip::Statistics;
use crate::recorder::Coverage;
use crate::retrain::brief;
use crate::score::VersionNo;
use crate::served::Served;
use crate::time::rfc3339;

/// Decisions shown at most; the ledger has them all.
const DECISIONS: u32 = 10_000;
/// Retrainings shown at most.
const RETRAININGS: u32 = 100;
/// Decisions shown before and after one.
const NEARBY: u32 = 5;
/// Versions that do not run, shown at most: names may come and go for years, and the recorder's thread reads them.
const VERSIONS: u32 = 256;

/// What the recorder's thread knows of a model at one moment.
#[derive(Debug)]
struct Moment {
    row: ModelRow,
    versions: Vec<VersionRow>,
    left_out: u64,
    verdicts: Vec<(VersionNo, Value)>,
    coverage: Vec<(VersionNo, Coverage)>,
    rewards: Vec<RewardTotal>,
    /// Threshold of each loaded version, and whether its scores are calibrated.
    own: Vec<(VersionNo, f64, bool)>,
    /// What decides nothing.
    display: Vec<(VersionNo, Value)>,
    policy: Value,
    /// How labels come.
    labels: Value,
    /// What to add to every verdict's sentence.
    remark: Option<String>,
    groups: Vec<Group>,
    /// How much a twin disagrees with its original.
    noise: Option<Noise>,
    /// Signs that the verdicts rest on less than their numbers.
    warnings: Vec<String>,
    /// The largest loss that counts; `None` until it is estimated.
    bound: Option<f64>,
    alarm: Option<String>,
    /// Decided, and not carried out yet.
    deciding: Option<VersionNo>,
    recorded: u64,
    open: u64,
}

impl Gateway {
    pub(super) fn list(&self) -> Value {
        let models = self.models.load();
        let one = |model: &Arc<Served>| {
            let champion = model.slot.load();
            json!({
                "name": model.name,
                "ready": champion.is_some(),
                "champion": champion.as_ref().map(|c| c.version.info.name.clone()),
                "waiting_for": if champion.is_some() { Value::Null } else { json!(**model.waiting_for.load()) },
            })
        };
        let container = json!({
            "cpus": self.limits.cpus,
            "memory_bytes": self.limits.memory_bytes,
            "slowed": self.pressure.is_high(),
        });
        let models: Vec<Value> = models.values().map(one).collect();
        let shadow = &**self.interfering.load();
        json!({"models": models, "sandbox": self.sandbox, "container": container, "shadow": shadow})
    }

    pub(super) async fn show(&self, name: &str) -> Result<Value, Error> {
        let served = self.resolve(Some(name))?;
        let mut moment = self.moment(&served).await?;
        let unrecorded = unrecorded(&served, &moment.groups);
        moment.warnings.extend(unrecorded);
        moment.warnings.extend(self.recorder.keeping().short());
        let mut view = view(&served, &moment);
        if let Some(view) = view.as_object_mut() {
            view.insert("ledger_fault".into(), json!(self.recorder.fault()));
            view.insert("kept".into(), self.recorder.keeping().of(name));
            let retraining = self.retraining.load();
            view.insert(
                "retrain".into(),
                json!(retraining.get(&served.no).map(|shown| &**shown)),
            );
            let (count, first) = self.recorder.damaged();
            let damage = (count > 0).then(|| json!({"found": count, "first": first}));
            view.insert("ledger_damage".into(), json!(damage));
            let shadow = self.interfering.load();
            let mut shown = json!(&**shadow);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("why".into(), json!(shadow.sentence()));
            }
            view.insert("shadow".into(), shown);
        }
        Ok(view)
    }

    /// The ledger as a whole: how large it is, what is kept, and whether the limits hold what they must.
    pub(super) fn show_ledger(&self) -> Value {
        let mut shown = self.recorder.keeping().show();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("fault".into(), json!(self.recorder.fault()));
            shown.insert("backlog".into(), json!(self.recorder.backlog()));
            shown.insert("key".into(), self.show_key());
        }
        shown
    }

    async fn moment(&self, served: &Arc<Served>) -> Result<Moment, Error> {
        let (name, no) = (served.name.clone(), served.no);
        let moment = self.recorder.look(move |core, writer| {
            let (versions, left_out) = writer.latest_versions(no, VERSIONS)?;
            let Some(book) = core.books.get(&no) else {
                let row = writer.model(&name)?;
                return Ok(Moment {
                    row,
                    versions,
                    left_out,
                    verdicts: Vec::new(),
                    coverage: Vec::new(),
                    rewards: Vec::new(),
                    own: Vec::new(),
                    display: Vec::new(),
                    policy: Value::Null,
                    labels: Value::Null,
                    remark: None,
                    groups: Vec::new(),
                    noise: None,
                    warnings: Vec::new(),
                    bound: None,
                    alarm: None,
                    deciding: None,
                    recorded: 0,
                    open: 0,
                });
            };
            let judge = book.judge.as_ref();
            let loaded = |v: &&VersionRow| matches!(v.role.as_str(), "champion" | "previous" | "challenger");
            let own = |(judge, v): (&Judge, &VersionRow)| {
                let is_calibrated = judge.calibration_of(v.no).is_some();
                (v.no, judge.threshold_of(v.no), is_calibrated)
            };
            let own = versions.iter().filter(loaded).filter_map(|v| Some(own((judge?, v))));
            Ok(Moment {
                own: own.collect(),
                row: book.row.clone(),
                versions,
                left_out,
                verdicts: book
                    .verdicts()
                    .into_iter()
                    .map(|v| (v.version, serde_json::to_value(&v).unwrap_or_default()))
                    .collect(),
                coverage: book
                    .coverage
                    .iter()
                    .map(|(no, coverage)| (*no, coverage.clone()))
                    .collect(),
                rewards: writer.reward_totals(no)?,
                display: book
                    .shown()
                    .into_iter()
                    .map(|(no, shown)| (no, serde_json::to_value(&shown).unwrap_or_default()))
                    .collect(),
                policy: judge
                    .map(|j| serde_json::to_value(j.policy()).unwrap_or_default())
                    .unwrap_or_default(),
                labels: {
                    let mut labels = book.reported();
                    if let Some(labels) = labels.as_object_mut() {
                        labels.insert("keys".into(), book.principals());
                    }
                    labels
                },
                remark: book.remark(),
                groups: judge.map(|j| j.policy().groups.clone()).unwrap_or_default(),
                noise: judge.and_then(|j| j.noise()),
                warnings: book.warnings(),
                bound: judge
                    .filter(|j| !j.policy().needs_bound())
                    .map(|j| j.policy().metric.bound()),
                alarm: judge.and_then(|j| j.alarm()).map(|(_, text)| text),
                deciding: book.pending().map(|decision| decision.version),
                recorded: book.clock().row,
                open: book.open_rows(),
            })
        });
        let moment = tokio::time::timeout(std::time::Duration::from_secs(5), moment).await;
        moment
            .map_err(|_| Error::new(Kind::Storage, "the ledger is busy: try again").retry_after(1))?
            .map_err(Error::from)
    }

    pub(super) async fn show_decisions(&self, name: &str) -> Result<Value, Error> {
        let no = self.resolve(Some(name))?.no;
        let decisions: Vec<DecisionRow> = self
            .recorder
            .look(move |_, writer| writer.decisions(no, DECISIONS))
            .await
            .map_err(Error::from)?;
        Ok(json!({"decisions": decisions}))
    }

    pub(super) async fn show_decision(&self, name: &str, n: i64) -> Result<Value, Error> {
        let no = self.resolve(Some(name))?.no;
        let told = self
            .recorder
            .look(move |_, writer| writer.decision(no, n, NEARBY))
            .await;
        let told = told.map_err(Error::from)?.ok_or_else(|| {
            let text = format!("model '{name}' has no decision {n}; they are listed at /api/models/{name}/decisions");
            Error::new(Kind::NotFound, text)
        })?;
        let mut shown = json!(told.decision);
        if let Some(shown) = shown.as_object_mut() {
            let basis: Option<Value> = told.basis.as_deref().and_then(|text| serde_json::from_str(text).ok());
            shown.insert("basis".into(), json!(basis));
            shown.insert("before".into(), json!(told.before));
            shown.insert("after".into(), json!(told.after));
        }
        Ok(shown)
    }

    /// When the next retraining may come, and the latest ones, newest first.
    pub(super) async fn show_retrainings(&self, name: &str) -> Result<Value, Error> {
        let no = self.resolve(Some(name))?.no;
        let rows = self
            .recorder
            .look(move |_, reader| reader.retrainings(no, RETRAININGS))
            .await;
        let rows: Vec<Value> = rows.map_err(Error::from)?.iter().map(brief).collect();
        let now = self.retraining.load_full();
        Ok(json!({"model": name, "now": now.get(&no).map(|shown| &**shown), "retrainings": rows}))
    }

    /// What the monitor last published of a model.
    pub(super) fn show_monitor(&self, name: &str) -> Result<Value, Error> {
        let served = self.resolve(Some(name))?;
        let board = self.monitor.load();
        let mut shown = board.get(&served.no).map_or_else(
            || {
                let view = served.view.load();
                let is_on = view.as_ref().is_none_or(|view| view.config.monitor.on);
                let why = if is_on {
                    "nothing has been looked at yet: ask again in a moment"
                } else {
                    "monitor.mode = \"off\""
                };
                json!({"on": is_on, "why": why})
            },
            |published| published.json.clone(),
        );
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("model".into(), json!(name));
        }
        Ok(shown)
    }

    /// What the monitor last published, by model.
    pub(super) fn watched(&self) -> Vec<(String, Arc<Published>)> {
        let (models, board) = (self.models.load(), self.monitor.load());
        let watched = |served: &Arc<Served>| Some((served.name.clone(), Arc::clone(board.get(&served.no)?)));
        models.values().filter_map(watched).collect()
    }

    /// The models, and the versions that are loaded now, for a scrape.
    pub(super) fn series(&self) -> (Vec<ModelSeries>, Vec<VersionSeries>) {
        let models = self.models.load();
        let of_models = models.values().map(|model| of_model(model)).collect();
        (
            of_models,
            models.values().flat_map(|model| of_versions(model)).collect(),
        )
    }

    /// What was counted of the loaded versions, and how many requests wait for each champion.
    pub(super) fn counted(&self) -> (Vec<Statistics>, Vec<(String, String, u64)>) {
        let models = self.models.load();
        let counted = models.values().flat_map(|model| {
            let read = |info: &Arc<VersionInfo>| info.counters.read(&model.name, &info.number(), &info.name);
            model.versions().iter().map(read).collect::<Vec<_>>()
        });
        let pending = models.values().filter_map(|model| {
            let champion = model.slot.load()?;
            let (version, waiting) = (champion.version.info.number(), champion.version.waiting());
            Some((model.name.clone(), version, waiting as u64))
        });
        (counted.collect(), pending.collect())
    }
}

fn of_model(model: &Served) -> ModelSeries {
    let champion = model.slot.load();
    ModelSeries {
        model: model.name.clone(),
        is_ready: champion.is_some(),
        waiting: champion.map_or(0, |champion| champion.version.waiting()),
        has_stand_in: model.stand_in.load().is_some(),
        has_fault: model.settings_fault.load().is_some() || model.opt_out_fault.load().is_some(),
        has_alarm: model.alarm().is_some(),
        is_deciding: model.shown.is_deciding(),
    }
}

fn of_versions(model: &Served) -> Vec<VersionSeries> {
    let standings = model.shown.standings();
    let one = |info: &VersionInfo, role, since, runner: Option<&Challenger>| VersionSeries {
        model: model.name.clone(),
        version: info.name.clone(),
        role,
        digest: info.digest.clone(),
        standing: standings.iter().find(|standing| standing.version == info.no).cloned(),
        since,
        runner: runner.map(|runner| {
            let stats = runner.stats();
            (stats.queued_rows, stats.up)
        }),
    };
    let challengers = model.challengers.load();
    let runner = |no: VersionNo| {
        let mut all = challengers.values();
        all.find(|c| c.info.no == no).map(|c| &*c.challenger)
    };
    let mut all = Vec::new();
    let mut previous = None;
    if let Some(champion) = model.slot.load() {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        let since = champion.since_ms as f64 / 1e3;
        all.push(one(&champion.version.info, "champion", Some(since), None));
        previous = champion.previous.as_ref().map(|p| p.info.no);
        let of_previous = champion.previous.iter();
        all.extend(of_previous.map(|p| one(&p.info, "previous", None, runner(p.info.no))));
    }
    for challenger in challengers.values().filter(|c| Some(c.info.no) != previous) {
        all.push(one(&challenger.info, "challenger", None, Some(&challenger.challenger)));
    }
    all
}

fn view(served: &Served, moment: &Moment) -> Value {
    let name_of = |no: VersionNo| moment.versions.iter().find(|v| v.no == no);
    let champion = moment.row.champion.and_then(name_of).map(|v| {
        json!({
            "version": v.name,
            "digest": v.digest,
            "since": moment.row.champion_since.map(rfc3339),
            "epoch": moment.row.epoch,
        })
    });
    let loaded = served.slot.load().map(|c| c.loaded()).unwrap_or_default();
    let executions: HashMap<VersionNo, Value> = loaded.iter().map(|l| (l.info.no, l.view())).collect();
    // Of a name that was dropped several times, the newest version stands for it.
    let newest = |v: &&VersionRow| {
        !moment
            .versions
            .iter()
            .any(|other| other.name == v.name && other.no > v.no)
    };
    let faults = served.version_faults.load();
    let versions: Vec<Value> = moment
        .versions
        .iter()
        .filter(newest)
        .map(|v| {
            let fault = fault_of(&faults, &v.name);
            version(v, moment, executions.get(&v.no), fault)
        })
        .collect();
    let interface: Value = moment
        .row
        .interface
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    json!({
        "model": served.name,
        "champion": champion,
        "ready": served.slot.load().is_some(),
        "waiting_for": if served.slot.load().is_some() { Value::Null } else { json!(**served.waiting_for.load()) },
        "stand_in": stand_in(served),
        "hold": moment.row.hold,
        "alarm": served.alarm().or_else(|| moment.alarm.clone()),
        "policy": policy(served, moment),
        "mode_reason": **served.mode_reason.load(),
        "settings_error": **served.settings_fault.load(),
        "opt_out": opt_out(served),
        "interface": interface,
        "deciding": moment.deciding.and_then(name_of).map(|v| &v.name),
        "labels": moment.labels,
        "rows": {"recorded": moment.recorded, "open": moment.open},
        "noise": moment.noise,
        "warnings": moment.warnings,
        "versions": versions,
        "versions_left_out": moment.left_out,
    })
}

/// The judge's rules with what else of the settings decides: all that is in force, whatever model.toml leaves out.
fn policy(served: &Served, moment: &Moment) -> Value {
    let mut policy = moment.policy.clone();
    let view = served.view.load();
    if let (Some(policy), Some(view)) = (policy.as_object_mut(), view.as_ref()) {
        let config = &view.config;
        let clip = policy.get("metric").and_then(|metric| metric.get("clip")).cloned();
        policy.insert("bound".into(), json!(moment.bound));
        policy.insert("clip".into(), clip.unwrap_or_default());
        policy.insert("threshold".into(), json!(config.threshold));
        policy.insert("label".into(), json!(config.label));
        policy.insert("sample".into(), json!(config.shadow.sample));
        policy.insert("max_challengers".into(), json!(config.shadow.max_challengers));
    }
    policy
}

/// How many entities are kept out (`null`: everybody who is named, because the list cannot be read), and what is wrong.
fn opt_out(served: &Served) -> Value {
    let view = served.view.load();
    let list = view.as_ref().and_then(|view| view.opt_out.as_ref());
    list.map_or(
        Value::Null,
        |list| json!({"entities": list.len(), "error": **served.opt_out_fault.load()}),
    )
}

/// Who answers instead of the recorded champion, and why; `null` in good times.
fn stand_in(served: &Served) -> Value {
    let why = served.stand_in.load_full();
    match (why.as_ref(), served.slot.load()) {
        (Some(why), Some(champion)) => json!({"version": champion.version.info.name, "why": why}),
        _ => Value::Null,
    }
}

/// What is wrong with the toml of the file that a version came from.
fn fault_of<'a>(faults: &'a BTreeMap<String, String>, version: &str) -> Option<&'a String> {
    faults
        .get(version)
        .or_else(|| faults.get(crate::control::file_of(version)))
}

/// What the rows that this version answered have earned; `null` where nobody has said.
fn rewards(v: &VersionRow, moment: &Moment) -> Value {
    let total = moment.rewards.iter().find(|total| total.version == v.no);
    #[expect(clippy::cast_precision_loss, reason = "for display: counts are far below 2^53")]
    let shown = total.map(|t| json!({"count": t.count, "mean": t.sum / t.count.max(1) as f64}));
    shown.unwrap_or_default()
}

/// Groups that ask for features which no loaded version takes, so that they are not recorded.
fn unrecorded(served: &Served, groups: &[Group]) -> Vec<String> {
    let Some(view) = served.view.load_full() else {
        return Vec::new();
    };
    let mut said = Vec::new();
    for group in groups {
        let fields = Expr::parse(&group.expr)
            .map(|expr| expr.fields().to_vec())
            .unwrap_or_default();
        for field in fields {
            let why = match (&field, &view.reading.form) {
                (Field::Context(_) | Field::LabelKey, _) => continue,
                (Field::Feature(name), Form::Features { schema, .. }) => {
                    if schema.features().iter().any(|feature| feature.name == *name) {
                        continue;
                    }
                    "no loaded version takes that feature, so that it is not recorded: send it as a key of the context"
                }
                (Field::Feature(_), Form::Tensors { .. }) => {
                    "rows of tensors have no named features: send it as a key of the context"
                }
            };
            said.push(format!("group '{}' asks for {field}: {why}", group.name));
        }
    }
    said
}

fn version(v: &VersionRow, moment: &Moment, execution: Option<&Value>, fault: Option<&String>) -> Value {
    let evidence = moment.verdicts.iter().find(|(no, _)| *no == v.no).map(|(_, verdict)| {
        let mut verdict = verdict.clone();
        if let Some(verdict) = verdict.as_object_mut() {
            verdict.insert("warnings".into(), json!(moment.warnings));
            if let (Some(remark), Some(why)) = (&moment.remark, verdict.get_mut("why"))
                && let Some(text) = why.as_str()
            {
                *why = json!(format!("{text}; {remark}"));
            }
        }
        verdict
    });
    let coverage = moment
        .coverage
        .iter()
        .find(|(no, _)| *no == v.no)
        .map(|(_, coverage)| coverage);
    let own = moment.own.iter().find(|(no, ..)| *no == v.no);
    let display = moment.display.iter().find(|(no, _)| *no == v.no);
    let facts: Option<Facts> = v.facts.as_deref().and_then(|text| serde_json::from_str(text).ok());
    json!({
        "version": v.name,
        "role": v.role,
        "digest": v.digest,
        "stored_digest": v.stored_digest,
        "reason": v.reason,
        "settings_error": fault,
        "arrived": rfc3339(v.arrived_ms),
        "evidence": evidence,
        "coverage": coverage,
        "threshold": own.map(|(_, threshold, _)| threshold),
        "calibrated": own.map(|(.., is_calibrated)| is_calibrated),
        "display": display.map(|(_, shown)| shown),
        "rewards": rewards(v, moment),
        "lineage": lineage(v, facts.as_ref(), Detail::Brief),
        // What the file itself allows; `null` where it was not examined, or refused.
        "isolation": facts.as_ref().map(|f| f.scan.safety()),
        "hazards": facts.as_ref().and_then(|f| f.scan.hazards.as_ref()),
        // Of those that answer; a challenger's runner has one session on one thread.
        "execution": execution,
        "measured": facts.map(|f| json!({
            "latency_us_p50": f.latency_us_p50,
            "latency_us_p99": f.latency_us_p99,
            "cpu_ns": f.cpu_ns,
            "memory_bytes": f.memory_bytes,
            "batched": f.batched,
            "producer": f.scan.producer,
            "producer_version": f.scan.producer_version,
            "runtime": f.runtime,
            "features": f.names,
        })),
    })
}
