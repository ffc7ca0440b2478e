//! The fold on the shipped stream, without a gateway.

use dethrone::config::MonitorConfig;
use dethrone::monitor::baseline::Baseline;
use dethrone::monitor::fold::{Alarm, Fold, Row};
use dethrone::monitor::quality::{Kind, apart, findings};
use dethrone::monitor::sketch::Profile;
use dethrone::score::{Outcome, Score, VersionNo};
use dethrone::span::{Clock, Span};

use crate::support::stream;

fn settings() -> MonitorConfig {
    MonitorConfig {
        baseline_rows: 4_032,
        window: Span::Rows(336),
        cycle: Span::Rows(48),
        ..MonitorConfig::default()
    }
}

/// Folds the rows of the shipped stream from the first to this one.
fn folded(rows: usize) -> (Fold, Vec<Alarm>) {
    let settings = settings();
    let mut fold = Fold::default();
    fold.begin(
        VersionNo(1),
        Baseline::to_learn(settings.baseline_rows, Vec::new()),
        &settings,
    );
    let mut alarms = Vec::new();
    let outcome = Outcome::Scored(Score::Binary(0.5));
    for (at, (features, _)) in (1..).zip(stream(0, rows)) {
        let row = Row {
            clock: Clock { row: at, time_ms: 0 },
            version: VersionNo(1),
            inputs: Some(&features.to_string()),
            outcome: &outcome,
        };
        alarms.extend(fold.row(&row, &settings, 0.5));
    }
    (fold, alarms)
}

fn constant(fold: &Fold) -> Vec<&str> {
    let limits = &settings().limits;
    let is_constant = |name: &&str| {
        let feature = fold
            .features
            .iter()
            .find(|feature| feature.known.name == *name)
            .unwrap();
        let (recent, _) = feature.windows();
        let known = &feature.known.profile;
        let found = findings(known, &recent, &apart(known, &recent), limits);
        found.iter().any(|finding| finding.kind == Kind::Constant)
    };
    let mut names: Vec<&str> = fold
        .features
        .iter()
        .map(|f| f.known.name.as_str())
        .filter(is_constant)
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn the_arrival_of_the_victorian_market_is_alarmed_within_a_week_and_names_its_causes_alone() {
    let (fold, alarms) = folded(17_424 + 336 + 48);
    assert_eq!(constant(&fold), ["transfer", "vicdemand", "vicprice"]);
    // Rows of the record count from 1.
    let arrival = 17_425;
    let mut causes: Vec<&str> = alarms
        .iter()
        .filter(|alarm| (arrival..arrival + 336).contains(&alarm.raised.at.row))
        .map(|alarm| alarm.feature.as_str())
        .collect();
    causes.sort_unstable();
    assert_eq!(causes, ["transfer", "vicdemand", "vicprice"], "{alarms:#?}");
    let early = |name: &str| alarms.iter().any(|a| a.feature == name && a.raised.at.row < arrival);
    assert!(!causes.iter().any(|name| early(name)), "{alarms:#?}");
    assert!(fold.bytes() < 600_000, "{} bytes", fold.bytes());
    println!(
        "{} bytes of {} features; {alarms:#?}",
        fold.bytes(),
        fold.features.len()
    );
}

#[test]
fn rows_that_are_read_again_after_a_restart_change_nothing_but_the_windows() {
    let settings = settings();
    let (fold, _) = folded(6_000);
    let text = serde_json::to_string(&fold).unwrap();
    let mut woken: Fold = serde_json::from_str(&text).unwrap();
    woken.wake();
    let outcome = Outcome::Scored(Score::Binary(0.5));
    for (at, (features, _)) in (5_300..).zip(stream(5_299, 701)) {
        let row = Row {
            clock: Clock { row: at, time_ms: 0 },
            version: VersionNo(1),
            inputs: Some(&features.to_string()),
            outcome: &outcome,
        };
        assert!(woken.row(&row, &settings, 0.5).is_empty());
    }
    assert_eq!(serde_json::to_string(&woken).unwrap(), text);
    // Panes lie where the rows say, so that both windows are the same rows as before.
    let windows = |fold: &Fold| {
        let mean = |profile: &Profile| profile.numbers.as_ref().and_then(|numbers| numbers.moments());
        let feature = fold.features.iter().find(|feature| feature.known.name == "nswprice");
        let (recent, before) = feature.unwrap().windows();
        let (now, then) = (mean(&recent), mean(&before));
        (recent.rows, now, before.rows, then)
    };
    assert_eq!(windows(&woken), windows(&fold));
    assert!((252..=336).contains(&windows(&fold).0), "{:?}", windows(&fold));
}
