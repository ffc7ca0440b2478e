//! Models and their loaded versions, as the gateway's state has them at a scrape.
//!
//! Always holds: identity stands here and on no histogram; a version that is not loaded any more has no series.

use super::families;
use super::page::{Page, number};
use crate::score::VersionNo;

/// What the judge has of a challenger, for scrapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Who.
    pub version: VersionNo,
    /// Folded labels.
    pub labels: u64,
    /// Its place among the challengers of the tenure, from 1; `None`: it collects no evidence.
    pub place: Option<u32>,
    /// ln wealth.
    pub log_wealth: f64,
    /// ln of the wealth that it needs.
    pub log_bar: f64,
    /// Champion's mean loss less its own.
    pub mean_difference: f64,
    /// What it must keep to, and whether it does.
    pub guardrails: Vec<(String, bool)>,
}

/// What a scrape says of a version that is loaded now.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionSeries {
    /// Model.
    pub model: String,
    /// Version.
    pub version: String,
    /// `champion`, `previous`, `challenger`.
    pub role: &'static str,
    /// `sha256:…`.
    pub digest: String,
    /// A challenger's evidence.
    pub standing: Option<Standing>,
    /// The champion's start, Unix seconds.
    pub since: Option<f64>,
    /// Rows that wait for its runner, and whether that is up.
    pub runner: Option<(usize, bool)>,
}

/// What a scrape says of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a series")]
pub struct ModelSeries {
    /// Model.
    pub model: String,
    /// Its champion answers.
    pub is_ready: bool,
    /// Requests that wait for its champion.
    pub waiting: usize,
    /// The previous champion stands in for the recorded one.
    pub has_stand_in: bool,
    /// Its settings have a fault.
    pub has_fault: bool,
    /// Its champion fails too often.
    pub has_alarm: bool,
    /// A change of champion is decided and not carried out.
    pub is_deciding: bool,
}

/// 0 of the champion, the place of who is judged against it; empty of who is not.
fn slot(version: &VersionSeries) -> String {
    let place = version.standing.as_ref().and_then(|standing| standing.place);
    match (version.role, place) {
        ("champion", _) => "0".into(),
        (_, Some(place)) => place.to_string(),
        (_, None) => String::new(),
    }
}

/// What a series says of a model.
type Is = fn(&ModelSeries) -> bool;
/// What a series says of a challenger.
type Figure = fn(&Standing) -> f64;

/// Appends the gateway, its models and their versions. `is_empty` says that it knew none of them when it started.
pub fn write_models(
    page: &mut Page,
    is_ready: bool,
    is_empty: bool,
    models: &[ModelSeries],
    versions: &[VersionSeries],
) {
    let flag = |is: bool| f64::from(u8::from(is));
    let build = [("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauges(families::BUILD_INFO, [(build, 1.0)]);
    page.gauge(families::READY, flag(is_ready));
    page.gauge(families::STARTED_EMPTY, flag(is_empty));
    let each: [(_, Is); 5] = [
        (families::MODEL_READY, |m| m.is_ready),
        (families::STAND_IN, |m| m.has_stand_in),
        (families::SETTINGS_FAULT, |m| m.has_fault),
        (families::ALARM, |m| m.has_alarm),
        (families::DECISION_PENDING, |m| m.is_deciding),
    ];
    for (named, of) in each {
        page.gauges(
            named,
            models.iter().map(|m| ([("model", m.model.clone())], flag(of(m)))),
        );
    }
    let waiting = models
        .iter()
        .map(|m| ([("model", m.model.clone())], number(m.waiting as u64)));
    page.gauges(families::QUEUE, waiting);
    let info = versions.iter().map(|v| {
        let labels = [
            ("model", v.model.clone()),
            ("role", v.role.to_owned()),
            ("version", v.version.clone()),
            ("digest", v.digest.clone()),
            ("slot", slot(v)),
        ];
        (labels, 1.0)
    });
    page.gauges(families::MODEL_INFO, info);
    let since = versions
        .iter()
        .filter_map(|v| Some(([("model", v.model.clone())], v.since?)));
    page.gauges(families::CHAMPION_SINCE, since);
    let version = |v: &VersionSeries| [("model", v.model.clone()), ("version", v.version.clone())];
    let runner = |of: fn((usize, bool)) -> f64| versions.iter().filter_map(move |v| Some((version(v), of(v.runner?))));
    page.gauges(families::SHADOW_QUEUE, runner(|(rows, _)| number(rows as u64)));
    page.gauges(families::RUNNER_UP, runner(|(_, is_up)| f64::from(u8::from(is_up))));
    let evidence: [(_, Figure); 4] = [
        (families::LOG_WEALTH, |s| s.log_wealth),
        (families::LOG_BAR, |s| s.log_bar),
        (families::EVIDENCE_LABELS, |s| number(s.labels)),
        (families::DIFFERENCE, |s| s.mean_difference),
    ];
    for (named, of) in evidence {
        let series = versions
            .iter()
            .filter_map(|v| Some((version(v), of(v.standing.as_ref()?))));
        page.gauges(named, series);
    }
    let guardrails = versions.iter().flat_map(|v| {
        let all = v.standing.iter().flat_map(|standing| &standing.guardrails);
        all.map(move |(name, passes)| {
            let labels = [
                ("model", v.model.clone()),
                ("version", v.version.clone()),
                ("guardrail", name.clone()),
            ];
            (labels, flag(*passes))
        })
    });
    page.gauges(families::GUARDRAIL, guardrails);
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn a_version_that_left_leaves_no_series() {
        let version = |name: &str, role, log_wealth: Option<f64>| VersionSeries {
            model: "m".into(),
            version: name.into(),
            role,
            digest: "sha256:0".into(),
            standing: log_wealth.map(|log_wealth| Standing {
                version: VersionNo(7),
                place: Some(2),
                labels: 900,
                log_wealth,
                log_bar: 5.3,
                mean_difference: 0.012,
                guardrails: vec![("latency".into(), true), ("group senior".into(), false)],
            }),
            since: None,
            runner: log_wealth.map(|_| (12, true)),
        };
        let text = |versions: &[VersionSeries]| {
            let mut page = Page::default();
            write_models(&mut page, true, false, &[], versions);
            String::from_utf8(Format::Prometheus.write(&page)).unwrap()
        };
        let both = text(&[
            version("a", "champion", None),
            version("b\"\\", "challenger", Some(2.5)),
        ]);
        for line in [
            "dethrone_model_info{model=\"m\",role=\"champion\",version=\"a\",digest=\"sha256:0\",slot=\"0\"} 1\n",
            "dethrone_evidence_log_wealth{model=\"m\",version=\"b\\\"\\\\\"} 2.5\n",
            "dethrone_evidence_log_bar{model=\"m\",version=\"b\\\"\\\\\"} 5.3\n",
            "dethrone_evidence_labels{model=\"m\",version=\"b\\\"\\\\\"} 900\n",
            "dethrone_guardrail{model=\"m\",version=\"b\\\"\\\\\",guardrail=\"group senior\"} 0\n",
            "dethrone_shadow_queue_rows{model=\"m\",version=\"b\\\"\\\\\"} 12\n",
            "dethrone_ready 1\n",
        ] {
            assert!(both.contains(line), "{line}\n{both}");
        }
        let one = text(&[version("a", "champion", None)]);
        assert!(!one.contains("challenger\"") && !one.contains("version=\"b"), "{one}");
    }
}
