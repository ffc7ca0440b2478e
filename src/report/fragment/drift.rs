//! How far from the baseline, over the rows of the stretch.

use askama::Template;

use super::Room;
use crate::report::chart::{About, LINES, Line, Lines, class_of, lines};
use crate::report::table::{Figure, Table, count, maybe, moment, name, number, rendered};
use crate::report::{Report, ReportError, Series};

/// Lines of the chart.
const DRAWN: usize = 6;
/// An index above this is as far as can be: what is higher is cut.
const HIGHEST: f64 = 4.0;

#[derive(Template)]
#[template(path = "drift.html", config = "src/report/askama.toml")]
struct Drift {
    says: String,
    figure: String,
    alarms: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let drift = &report.drift;
    let says = format!(
        "Population Stability Index against the baseline, in a window that slides along the stretch ({} rows each time), made of \
         {} recorded rows. From {} on a distribution counts as shifted. Looked at often, some windows lie above by chance; the \
         alarm is what may be looked at at every row.",
        count(
            drift
                .buckets
                .first()
                .map_or(0, |bucket| bucket.last_row + 1 - bucket.first_row)
        ),
        count(drift.read),
        number(drift.limit)
    );
    rendered(&Drift {
        says,
        figure: figure(report, room)?,
        alarms: alarms(report, room)?,
    })
}

fn label(series: &Series) -> String {
    match series.is_output {
        true => format!("output {}", name(&series.name)),
        false => name(&series.name),
    }
}

fn figure(report: &Report, room: Room) -> Result<String, ReportError> {
    let drift = &report.drift;
    let since = &report.since;
    let drawn: Vec<&Series> = drift.features.iter().take(DRAWN.min(LINES)).collect();
    let line = |(k, series): (usize, &&Series)| {
        let mut parts = vec![Vec::new()];
        for (bucket, psi) in drift.buckets.iter().zip(&series.psi) {
            let end = bucket.last_row as f64;
            match (psi, parts.last_mut()) {
                (Some(psi), Some(part)) => part.push((end, *psi)),
                _ => parts.push(Vec::new()),
            }
        }
        Line {
            colour: Some(k),
            is_thin: false,
            parts,
        }
    };
    let shown = Lines {
        lines: drawn.iter().enumerate().map(line).collect(),
        levels: vec![(drift.limit, "limit")],
        rows: (since.first_row as f64, since.last_row as f64),
        unit: "stability index",
        least: Some(0.0),
        most: Some(HIGHEST),
    };
    let names: Vec<String> = drawn.iter().map(|series| label(series)).collect();
    let says = format!("One line each for {}", names.join(", "));
    let about = About {
        id: "chart-drift",
        title: "Distance from the baseline over time",
        says: &says,
    };
    let Some(svg) = lines(about, &shown)? else {
        return Ok(String::new());
    };
    let mut head = vec!["rows".to_owned(), "#read".to_owned(), "from".to_owned()];
    head.extend(names.iter().map(|name| format!("#{name}")));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new("Stability index per window", &head);
    for (at, bucket) in drift.buckets.iter().enumerate().take(room.rows) {
        let rows = format!("{} to {}", count(bucket.first_row), count(bucket.last_row));
        let from = moment(&bucket.from);
        let psi = drawn.iter().map(|series| maybe(series.psi.get(at).copied().flatten()));
        table.row([rows, count(bucket.rows), from].into_iter().chain(psi));
    }
    let legend = names.iter().enumerate().map(|(k, name)| (class_of(k), name.clone()));
    let more = drift.left_out + drift.features.len() - drawn.len();
    let caption = match more {
        0 => "All features that have a baseline.".to_owned(),
        _ => format!(
            "The {} with the largest index; {more} more lie lower. Each point stands at its window's end.",
            drawn.len()
        ),
    };
    rendered(&Figure {
        svg,
        caption,
        legend: legend.collect(),
        table,
        is_open: false,
    })
}

/// The alarms that were raised, the newest first.
fn alarms(report: &Report, room: Room) -> Result<String, ReportError> {
    use crate::report::table::{at, list, word};
    let raised = list(&report.monitor, "/alarm/raised");
    if raised.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new(
        "Alarms, the newest first",
        &["feature", "what", "#row", "when", "baseline"],
    );
    for alarm in raised {
        let is_present = alarm.get("present") == Some(&serde_json::Value::Bool(true));
        table.row([
            name(word(alarm, "/feature")),
            name(word(alarm, "/what")),
            at(alarm, "/row").map_or_else(String::new, number),
            moment(word(alarm, "/time")),
            if is_present {
                "the present one"
            } else {
                "an earlier champion's"
            }
            .to_owned(),
        ]);
    }
    table.keep(room.rows / 4, "alarms");
    rendered(&table)
}
