//! A stream that is shipped with the models that were made along it: the whole of it, under many delays of its labels.
//!
//! Figures on one run of such a stream are chaotic, so a rule is judged by its mean over shifts of the maturity.

use std::path::Path;

use serde_json::json;

use super::ReplayArgs;
use super::progress::Progress;
use super::rows::{Entrant, Setup, backtest, draw, prepare, show};
use crate::backtest::contest::Outcomes;
use crate::backtest::course::Course;
use crate::cli::Failure;
use crate::config::ModelConfig;
use crate::demo::score::{Hindsight, gap_closed};
use crate::demo::stream::Stream;
use crate::demo::table::Table;
use crate::score::{Outcome, Score, VersionNo};
use crate::span::Span;

/// Rows by which each run's labels come later than the one's before.
const STEP: u64 = 3;

/// One run.
struct Shift {
    maturity: u64,
    gap: Option<f64>,
    changes: usize,
}

/// `dethrone replay --stream DIR [--shifts N]`.
///
/// # Errors
/// The stream is not whole, or a model of it is refused.
pub fn run(root: &Path, args: &ReplayArgs) -> Result<(), Failure> {
    let stream = Stream::read(root).map_err(Failure::Failed)?;
    let manifest = &stream.manifest;
    let start = manifest.serve_from;
    let settings = args.policy.clone().unwrap_or_else(|| root.join("model.toml"));
    let config = ModelConfig::load(&settings).map_err(|e| Failure::Config(e.to_string()))?;
    let first = stream.model_number(&manifest.first_champion).unwrap_or(0);
    let mut entrants: Vec<Entrant> = manifest
        .models
        .iter()
        .map(|model| Entrant {
            name: model.name.clone(),
            file: stream.model_path(model),
            row: model.available_from.saturating_sub(start),
        })
        .collect();
    if let Some(champion) = entrants.get_mut(..=first) {
        champion.rotate_right(1);
    }
    let prepared = prepare(&Setup {
        rows: root.join("stream").join(&manifest.file),
        skip: start,
        label: manifest.label.clone(),
        time: None,
        config,
        entrants,
    })?;
    // Hindsight counts models as the manifest does, the contest the first champion first.
    let number = |version: VersionNo| match version.0 as usize {
        0 => first,
        no if no <= first => no - 1,
        no => no,
    };
    let probability = |version: VersionNo, row: usize| match prepared.scores.outcome(version, row) {
        Outcome::Scored(Score::Binary(p)) => p,
        _ => f64::NAN,
    };
    let mut models = vec![Vec::new(); manifest.models.len()];
    for version in prepared.names.keys() {
        if let Some(own) = models.get_mut(number(*version)) {
            *own = (0..prepared.asked.len())
                .map(|row| probability(*version, row))
                .collect();
        }
    }
    let table = Table::of(start, models);
    let hindsight = Hindsight {
        table: &table,
        labels: stream.labels(),
        available: manifest.models.iter().map(|m| m.available_from).collect(),
        first,
        rows: start..stream.len(),
        clip: manifest.log_loss_clip,
    };
    let fixed = hindsight.summary(&hindsight.fixed()).log_loss;
    let oracle = hindsight.summary(&hindsight.oracle(manifest.window_rows)).log_loss;
    let bar = Progress::new("judging", args.shifts * prepared.asked.len() as u64);
    let mut shifts = Vec::new();
    let mut unshifted = None;
    for shift in 0..args.shifts {
        let mut plan = prepared.plan.clone();
        let maturity = manifest.label_delay_rows as u64 + shift * STEP;
        plan.closing.maturity = Span::Rows(maturity);
        let course = Course::run(&plan, &prepared.asked, &prepared.scores, |_| bar.advance(1));
        let choice: Vec<usize> = course.champions().map(number).collect();
        shifts.push(Shift {
            maturity,
            gap: gap_closed(hindsight.summary(&choice).log_loss, fixed, oracle),
            changes: course.changes.len(),
        });
        unshifted.get_or_insert(course);
    }
    drop(bar);
    let gaps: Vec<f64> = shifts.iter().filter_map(|shift| shift.gap).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    let Some(course) = unshifted else {
        return Err(Failure::Usage("--shifts must be at least 1".into()));
    };
    let source = format!("{} (stream {})", root.display(), manifest.stream);
    let told = backtest(source, prepared, course, Some(manifest.window_rows));
    if args.json {
        let mut line = told.json();
        let each = shifts
            .iter()
            .map(|s| json!({"maturity": s.maturity, "gap_closed": s.gap, "changes": s.changes}));
        if let Some(fields) = line.as_object_mut() {
            fields.insert("shifts".into(), each.collect());
            fields.insert("mean_gap_closed".into(), mean.into());
        }
        println!("{line}");
        return draw(&told, args);
    }
    show(&told, args)?;
    println!(
        "\nlog-loss gap to the best model of every {} rows, by maturity",
        manifest.window_rows
    );
    for Shift { maturity, gap, changes } in &shifts {
        println!(
            "  {maturity:>4} rows  {:.3}  {changes} changes",
            gap.unwrap_or(f64::NAN)
        );
    }
    println!("mean gap closed over {} shifts: {mean:.3}", shifts.len());
    Ok(())
}
