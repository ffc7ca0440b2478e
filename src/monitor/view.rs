//! What the monitor shows of a model: one JSON object, and a few series for scrapes.
//!
//! Always holds: whatever passes a limit has a sentence; what carries a promise (the alarm) stands apart from what does
//! not (distances on windows).

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::alarm::Raised;
use super::baseline::Source;
use super::calibration::Expected;
use super::feature::Feature;
use super::fold::{FEATURES, Fold};
use super::outcomes::{Decay, Outcomes, Terms};
use super::quality::{Apart, Finding, Kind, LEAST_ROWS, apart, findings};
use super::sketch::Profile;
use crate::config::MonitorConfig;
use crate::span::Span;
use crate::time::rfc3339;

/// Categories shown of a feature.
const CATEGORIES: usize = 20;
/// Alarms shown.
const ALARMS: usize = 100;
/// Features that have series of their own.
const SERIES: usize = 10;

/// How a feature is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its input is wrong: see the findings.
    Broken,
    /// The alarm was raised.
    Changed,
    /// Its distribution lies beyond the limit.
    Shifted,
    /// No value in the baseline: nothing to compare with.
    Unknown,
    /// One value only, as in the baseline.
    Constant,
    /// The baseline is being learned.
    Learning,
    /// No row in the window.
    NoRows,
    /// Nothing to say.
    Ok,
}

impl State {
    /// All, for series that exist from the start.
    pub const ALL: [Self; 8] = [
        Self::Broken,
        Self::Changed,
        Self::Shifted,
        Self::Unknown,
        Self::Constant,
        Self::Learning,
        Self::NoRows,
        Self::Ok,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Changed => "changed",
            Self::Shifted => "shifted",
            Self::Unknown => "unknown",
            Self::Constant => "constant",
            Self::Learning => "learning",
            Self::NoRows => "no_rows",
            Self::Ok => "ok",
        }
    }
}

/// One feature or output as it is now.
#[derive(Debug, Clone)]
pub struct Now<'a> {
    /// The feature.
    pub feature: &'a Feature,
    /// Recent values.
    pub recent: Profile,
    /// Those before them.
    pub before: Profile,
    /// Recent values against the baseline.
    pub skew: Apart,
    /// Recent values against those before them.
    pub drift: Apart,
    /// What is to be said.
    pub findings: Vec<Finding>,
    /// All in a word.
    pub state: State,
}

impl<'a> Now<'a> {
    /// How a feature is. `is_silent`: no row came for a whole window.
    #[must_use]
    pub fn of(feature: &'a Feature, settings: &MonitorConfig, is_silent: bool) -> Self {
        let (recent, before) = if is_silent {
            (Profile::default(), Profile::default())
        } else {
            feature.windows()
        };
        let known = &feature.known.profile;
        let (skew, drift) = (apart(known, &recent), apart(&before, &recent));
        let is_learning = feature.known.sample.is_some();
        let findings = if is_learning {
            Vec::new()
        } else {
            findings(known, &recent, &skew, &settings.limits)
        };
        let has = |kind: Kind| findings.iter().any(|finding| finding.kind == kind);
        let state = if is_learning {
            State::Learning
        } else if findings.iter().any(|finding| Kind::BROKEN.contains(&finding.kind)) {
            State::Broken
        } else if feature.watch.raised.is_some() {
            State::Changed
        } else if has(Kind::Shifted) {
            State::Shifted
        } else if recent.rows == 0 {
            State::NoRows
        } else if known.kinds() == (0, 0) {
            State::Unknown
        } else if has(Kind::Constant) {
            State::Constant
        } else {
            State::Ok
        };
        Self {
            feature,
            recent,
            before,
            skew,
            drift,
            findings,
            state,
        }
    }

    fn json(&self, log_bar: f64) -> Json {
        let known = &self.feature.known;
        let watch = &self.feature.watch;
        json!({
            "name": known.name,
            "state": self.state,
            "findings": self.findings,
            "baseline": summary(&known.profile),
            "recent": summary(&self.recent),
            "skew": self.skew,
            "drift": self.drift,
            "alarm": {
                "raised": watch.raised.as_ref().map(|raised| json!({
                    "row": raised.at.row, "time": rfc3339(raised.at.time_ms), "what": raised.what,
                })),
                "log_wealth": watch.log_wealth(),
                "log_bar": log_bar,
                "blocks": watch.blocks(),
            },
        })
    }
}

/// A profile in short.
pub(crate) fn summary(profile: &Profile) -> Json {
    let share = |part: u64| part as f64 / profile.rows.max(1) as f64;
    let mut shown = json!({"rows": profile.rows, "missing": share(profile.missing)});
    let Some(map) = shown.as_object_mut() else { return shown };
    if let Some(numbers) = &profile.numbers
        && let (Some((mean, deviation)), Some((least, most))) = (numbers.moments(), numbers.range())
    {
        let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| numbers.quantile(share));
        map.insert(
            "numbers".into(),
            json!({"count": numbers.count, "infinite": numbers.infinite, "mean": mean, "deviation": deviation,
                   "min": least, "max": most, "quantiles_5_25_50_75_95": quantiles}),
        );
    }
    if let Some(texts) = &profile.texts {
        let mut common: Vec<(&str, u64)> = texts.counts().collect();
        common.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        common.truncate(CATEGORIES);
        let common: Vec<Json> = common.into_iter().map(|(text, count)| json!([text, count])).collect();
        map.insert(
            "texts".into(),
            json!({"count": texts.count, "distinct": texts.distinct().round(), "common": common}),
        );
    }
    shown
}

/// What is published of a model.
#[derive(Debug, Clone)]
pub struct Published {
    /// `GET /api/models/{m}/monitor`.
    pub json: Json,
    /// Features per state.
    pub states: Vec<(&'static str, usize)>,
    /// The features furthest from their baseline: name, stability index, logarithm of the odds of the alarm.
    pub furthest: Vec<(String, f64, f64)>,
    /// Alarms of the present baseline.
    pub raised: usize,
    /// Rows that wait.
    pub lag: u64,
    /// Rows that were folded.
    pub rows: u64,
    /// Rows that were passed over.
    pub skipped: u64,
    /// Losses by what they are of.
    pub losses: [(&'static str, Option<f64>); 3],
    /// What of the input holds promotions, by the settings.
    pub broken: Vec<String>,
    /// There are a baseline and enough recent rows to say so.
    pub is_judged: bool,
    /// What speaks for a new model.
    pub signs: Signs,
}

/// What speaks for a new model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signs {
    /// The champion's labels.
    pub decay: Decay,
    /// First row of these labels: names the tenure.
    pub since_row: u64,
    /// In how many rows the loss is expected to cross its limit.
    pub rows_to_limit: Option<u64>,
    /// Rows in a day, by the request times of the past.
    pub rows_per_day: Option<f64>,
    /// Features, and outputs, whose alarm is raised.
    pub changed: Vec<(String, Raised)>,
}

/// Shows a fold as it is at `now_ms`. `version` is its version's name, `lag` how many recorded rows wait.
#[must_use]
pub fn publish(
    fold: &Fold,
    settings: &MonitorConfig,
    version: Option<&str>,
    lag: u64,
    now_ms: i64,
    labels: Labels<'_>,
) -> Published {
    let since = now_ms.saturating_sub(fold.last.time_ms);
    let is_silent = match settings.window {
        Span::Time(window) => fold.rows > 0 && u128::try_from(since).unwrap_or(0) > window.as_millis(),
        Span::Rows(_) => false,
    };
    let now = |feature| {
        crate::priority::offer_turn();
        Now::of(feature, settings, is_silent)
    };
    let mut features: Vec<Now<'_>> = fold.features.iter().map(now).collect();
    features.sort_by(|a, b| (a.state, &a.feature.known.name).cmp(&(b.state, &b.feature.known.name)));
    let outputs: Vec<Now<'_>> = fold.outputs.iter().map(now).collect();
    let states = State::ALL.map(|state| (state.name(), features.iter().filter(|now| now.state == state).count()));
    let mut furthest: Vec<(String, f64, f64)> = features
        .iter()
        .chain(&outputs)
        .map(|now| {
            let index = now.skew.psi.unwrap_or(0.0);
            (now.feature.known.name.clone(), index, now.feature.watch.log_wealth())
        })
        .collect();
    furthest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    furthest.truncate(SERIES);
    let raised = features
        .iter()
        .chain(&outputs)
        .filter(|now| now.feature.watch.raised.is_some())
        .count();
    let broken = freezing(features.iter(), &settings.freeze);
    let decay = labels.outcomes.decay(labels.terms);
    let losses = [("level", decay.level), ("limit", decay.limit), ("recent", decay.recent)];
    let signs = Signs {
        since_row: labels.outcomes.since_row(),
        rows_to_limit: decay.rows_to_limit(),
        rows_per_day: labels.outcomes.rows_per_day(),
        changed: changed(fold),
        decay,
    };
    Published {
        json: json!({
            "on": true,
            "version": version,
            "baseline": baseline(fold),
            "rows": {
                "folded": fold.rows, "waiting": lag, "skipped": fold.skipped, "last_row": fold.last.row,
                "last_time": (fold.rows > 0).then(|| rfc3339(fold.last.time_ms)),
            },
            "window": window(fold, settings, is_silent),
            "volume": {"last_hour": fold.volume.last, "unusual": fold.volume.unusual()},
            "alarm": alarm(fold, settings),
            "states": states.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "features": features.iter().map(|now| now.json(fold.log_bar)).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(|now| now.json(fold.log_bar)).collect::<Vec<_>>(),
            "unwatched": unwatched(fold),
            "bytes": fold.bytes(),
            "labels": labels.outcomes.json(labels.terms),
            "estimate": estimate(fold, is_silent),
            "freeze": {"kinds": settings.freeze, "broken": broken},
        }),
        states: states.to_vec(),
        furthest,
        raised,
        lag,
        rows: fold.rows,
        skipped: fold.skipped,
        losses,
        signs,
        broken,
        is_judged: !is_silent
            && fold.baseline.is_settled()
            && fold.recent_panes().iter().map(|pane| pane.rows).sum::<u64>() >= LEAST_ROWS,
    }
}

/// Labelled rows, and what is asked of them.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// The rows.
    pub outcomes: &'a Outcomes,
    /// What is asked.
    pub terms: &'a Terms<'a>,
}

/// Raised alarms by feature; those of outputs are named as such.
fn changed(fold: &Fold) -> Vec<(String, Raised)> {
    let raised = |feature: &Feature, before: &str| {
        let raised = feature.watch.raised.clone()?;
        Some((format!("{before}{}", feature.known.name), raised))
    };
    let features = fold.features.iter().filter_map(|feature| raised(feature, ""));
    let outputs = fold.outputs.iter().filter_map(|output| raised(output, "output "));
    features.chain(outputs).collect()
}

/// What of the features' findings holds promotions, a sentence each.
fn freezing<'a>(features: impl Iterator<Item = &'a Now<'a>>, kinds: &[Kind]) -> Vec<String> {
    let mut all = Vec::new();
    for feature in features {
        let found = feature.findings.iter().filter(|finding| kinds.contains(&finding.kind));
        let sentence = |finding: &Finding| format!("{} {}", feature.feature.known.name, finding.kind.name());
        all.extend(found.map(sentence));
    }
    all.sort_unstable();
    all
}

/// What the scores of the recent window let one expect, before any label is there.
fn estimate(fold: &Fold, is_silent: bool) -> Json {
    let mut expected = Expected::default();
    fold.recent_panes()
        .iter()
        .for_each(|pane| expected.merge(&pane.expected));
    match expected.estimate().filter(|_| !is_silent) {
        Some((accuracy, brier, positives)) => json!({
            "accuracy": accuracy, "brier": brier, "positive_share": positives,
            "note": "an estimate (CBPE) of the recent window, as good as the scores are calibrated; never used to promote",
        }),
        None => Json::Null,
    }
}

fn baseline(fold: &Fold) -> Json {
    let baseline = &fold.baseline;
    let (source, from) = match &baseline.source {
        Source::File(name) => ("file", format!("the file {name}")),
        Source::FirstRows => ("first_rows", "the version's first rows in service".to_owned()),
    };
    json!({
        "source": source,
        "from": from,
        "complete": baseline.is_settled(),
        "rows": baseline.rows,
        "wanted": if baseline.is_settled() { baseline.rows } else { baseline.wanted },
        "notes": baseline.notes,
    })
}

fn window(fold: &Fold, settings: &MonitorConfig, is_silent: bool) -> Json {
    let recent = fold.recent_panes();
    let rows: u64 = if is_silent {
        0
    } else {
        recent.iter().map(|pane| pane.rows).sum()
    };
    let repeated: u64 = recent.iter().map(|pane| pane.repeated).sum();
    json!({
        "span": settings.window,
        "rows": rows,
        "from_row": recent.first().filter(|_| rows > 0).map(|pane| pane.since.row),
        "repeated": if rows > 0 { json!(repeated as f64 / rows as f64) } else { Json::Null },
        "why_empty": (rows == 0).then(|| format!("no row came in the last {}", settings.window)),
    })
}

fn alarm(fold: &Fold, settings: &MonitorConfig) -> Json {
    let newest = fold.alarms.iter().rev().take(ALARMS);
    let raised: Vec<Json> = newest
        .map(|alarm| {
            json!({
                "feature": alarm.feature, "is_output": alarm.is_output, "what": alarm.raised.what,
                "row": alarm.raised.at.row, "time": rfc3339(alarm.raised.at.time_ms),
                "present": Some(alarm.version) == fold.version,
            })
        })
        .collect();
    json!({
        "alpha": settings.alpha,
        "cycle": settings.cycle,
        "log_bar": fold.log_bar,
        "promise": format!(
            "while whole spans of {} come in no particular order, the chance that any feature is ever alarmed on this \
             baseline is at most {}",
            settings.cycle, settings.alpha
        ),
        "raised": raised,
    })
}

fn unwatched(fold: &Fold) -> Json {
    if fold.unwatched == 0 {
        return Json::Null;
    }
    json!(format!(
        "more than {FEATURES} features: the others came {} times and are not watched",
        fold.unwatched
    ))
}
