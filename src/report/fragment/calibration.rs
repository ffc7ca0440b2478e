//! Scores against outcomes: the reliability curve of the first labels and of the latest, and how far they lie off.

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::chart::{About, Calibrated, class_of, reliability};
use crate::report::table::{Figure, NONE, Table, at, count, list, maybe, percent, rendered};
use crate::report::{Report, ReportError};

#[derive(Template)]
#[template(path = "calibration.html", config = "src/report/askama.toml")]
struct Calibration {
    says: String,
    estimate: String,
    figure: String,
}

pub(super) fn fragment(report: &Report, _: Room) -> Result<String, ReportError> {
    let shown = &report.monitor;
    let estimate = match at(shown, "/estimate/accuracy") {
        None => String::new(),
        Some(accuracy) => format!(
            "Before labels come, the scores of the recent window let one expect an accuracy of {}, a Brier loss of {} and {} \
             positives: an estimate (CBPE), as good as the scores are calibrated.",
            percent(accuracy),
            maybe(at(shown, "/estimate/brier")),
            at(shown, "/estimate/positive_share").map_or_else(|| NONE.to_owned(), percent)
        ),
    };
    let curve = |which: &str| -> Calibrated {
        let of = |point: &Json| {
            let rows = point.get("count").and_then(Json::as_u64)?;
            Some((at(point, "/predicted")?, at(point, "/observed")?, rows))
        };
        list(shown, &format!("/labels/reliability/{which}/curve"))
            .iter()
            .filter_map(of)
            .collect()
    };
    let (first, recent) = (curve("first"), curve("recent"));
    let error = |which: &str| maybe(at(shown, &format!("/labels/reliability/{which}/calibration_error")));
    let says = match first.is_empty() && recent.is_empty() {
        true => "Nothing to show: no labelled row of two classes has closed yet.".to_owned(),
        false => format!(
            "How often what was scored so came true. Expected calibration error of the first labels {}, of the recent window {}.",
            error("first"),
            error("recent")
        ),
    };
    let drawn = [(None, first.clone()), (Some(0), recent.clone())];
    let about = About {
        id: "chart-calibration",
        title: "Reliability curve",
        says: &says,
    };
    let figure = match reliability(about, &drawn)? {
        None => String::new(),
        Some(svg) => rendered(&Figure {
            svg,
            caption: "On the diagonal scores mean what they say; a larger dot rests on more labels.".into(),
            legend: vec![
                ("muted".into(), "first labels, and the diagonal".into()),
                (class_of(0), "recent window".into()),
            ],
            table: table(&first, &recent),
            is_open: true,
        })?,
    };
    rendered(&Calibration { says, estimate, figure })
}

fn table(first: &Calibrated, recent: &Calibrated) -> Table {
    let mut table = Table::new(
        "Points of the curves",
        &["labels", "#mean score", "#came true", "#rows"],
    );
    for (name, curve) in [("recent window", recent), ("first labels", first)] {
        for (predicted, observed, rows) in curve {
            table.row([
                name.to_owned(),
                maybe(Some(*predicted)),
                percent(*observed),
                count(*rows),
            ]);
        }
    }
    table
}
