//! Does the champion still do what it did? Its loss over its tenure, against the level of its first labels.

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::chart::{About, Line, Lines, lines};
use crate::report::table::{Figure, Table, at, count, list, maybe, number, rendered, sentence, signed, word};
use crate::report::{Report, ReportError};

/// Points of the line.
const POINTS: usize = 160;

#[derive(Template)]
#[template(path = "loss.html", config = "src/report/askama.toml")]
struct Loss {
    says: String,
    figure: String,
    associations: String,
}

/// A point of the past: first row, mean loss, labels.
type Point = (f64, f64, f64);

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let labels = report.monitor.get("labels").unwrap_or(&Json::Null);
    if at(labels, "/labels").unwrap_or(0.0) < 1.0 {
        let why = word(labels, "/why_empty");
        let why = if why.is_empty() {
            "no labelled row has been looked at"
        } else {
            why
        };
        return rendered(&Loss {
            says: format!("Nothing to show: {}.", sentence(why)),
            figure: String::new(),
            associations: String::new(),
        });
    }
    let metric = word(labels, "/metric");
    let decayed = match at(labels, "/decay/raised/row") {
        Some(row) => format!("The alarm that it has risen was raised at row {}.", number(row)),
        None => "The alarm that it has risen is not raised.".to_owned(),
    };
    let speak = |who: &str| maybe(at(labels, &format!("/{who}/detections")));
    let says = format!(
        "Mean {} of the champion over {} labels of its tenure. Level of its first labels {}, recently {}; {}. {decayed} ADWIN spoke {} \
         times, Page–Hinkley {} times.",
        sentence(metric),
        maybe(at(labels, "/labels")),
        maybe(at(labels, "/level/loss")),
        maybe(at(labels, "/recent/loss/value")),
        sentence(word(labels, "/decay/forecast/text")),
        speak("adwin"),
        speak("page_hinkley"),
    );
    rendered(&Loss {
        says,
        figure: figure(labels, room)?,
        associations: associations(labels, room)?,
    })
}

/// The past in at most so many points, each the mean of its labels.
fn thinned(labels: &Json) -> Vec<Point> {
    let of = |point: &Json| Some((at(point, "/0")?, at(point, "/1")?, at(point, "/2")?));
    let all: Vec<Point> = list(labels, "/history").iter().filter_map(of).collect();
    let size = all.len().div_ceil(POINTS).max(1);
    let mean = |part: &[Point]| {
        let (row, ..) = part.first().copied()?;
        let weight: f64 = part.iter().map(|(_, _, n)| n).sum();
        let sum: f64 = part.iter().map(|(_, loss, n)| loss * n).sum();
        Some((row, sum / weight.max(1.0), weight))
    };
    all.chunks(size).filter_map(mean).collect()
}

fn figure(labels: &Json, room: Room) -> Result<String, ReportError> {
    let points = thinned(labels);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok(String::new());
    };
    let level = at(labels, "/level/loss");
    let limit = at(labels, "/decay/limit");
    let levels = [(level, "level"), (limit, "limit")];
    let shown = Lines {
        lines: vec![Line {
            colour: Some(0),
            is_thin: false,
            parts: vec![points.iter().map(|(row, loss, _)| (*row, *loss)).collect()],
        }],
        levels: levels.into_iter().filter_map(|(y, word)| Some((y?, word))).collect(),
        rows: (first.0, last.0.max(first.0 + 1.0)),
        unit: "mean loss",
        least: None,
        most: None,
    };
    let says = format!(
        "From {} at row {} to {} at row {}",
        number(first.1),
        number(first.0),
        number(last.1),
        number(last.0)
    );
    let about = About {
        id: "chart-loss",
        title: "Loss of the champion over its tenure",
        says: &says,
    };
    let Some(svg) = lines(about, &shown)? else {
        return Ok(String::new());
    };
    let mut table = Table::new(
        "Mean loss",
        &["from row", "#labels", "#mean loss", "#against the level"],
    );
    for (row, loss, n) in points.iter().rev().take(room.rows / 2) {
        let apart = level.map_or_else(String::new, |level| signed(loss - level));
        table.row([number(*row), number(*n), number(*loss), apart]);
    }
    let more = points.len().saturating_sub(room.rows / 2);
    table.more = (more > 0).then(|| format!("and {} earlier points", count(u64::try_from(more).unwrap_or(0))));
    rendered(&Figure {
        svg,
        caption: "All of the tenure, not of this stretch alone.".into(),
        legend: Vec::new(),
        table,
        is_open: false,
    })
}

/// What each feature tells of the label, then and now; what has changed most first.
fn associations(labels: &Json, room: Room) -> Result<String, ReportError> {
    let all = list(labels, "/associations");
    let change = |bond: &Json, what: &str| {
        let (first, recent) = (
            at(bond, &format!("/first/{what}")),
            at(bond, &format!("/recent/{what}")),
        );
        first.zip(recent).map_or(0.0, |(first, recent)| (recent - first).abs())
    };
    let size = |bond: &Json| change(bond, "mutual_information").max(change(bond, "correlation"));
    let mut bonds: Vec<&Json> = all.iter().collect();
    bonds.sort_by(|a, b| size(b).total_cmp(&size(a)));
    if bonds.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new(
        "What each feature tells of the label: first labels, and recently",
        &[
            "feature",
            "#correlation, first",
            "#recently",
            "#mutual information, first",
            "#recently",
        ],
    );
    for bond in bonds.iter().take(room.rows / 4) {
        let of = |place: &str| maybe(at(bond, place));
        table.row([
            crate::report::table::name(word(bond, "/feature")),
            of("/first/correlation"),
            of("/recent/correlation"),
            of("/first/mutual_information"),
            of("/recent/mutual_information"),
        ]);
    }
    let more = bonds.len().saturating_sub(room.rows / 4);
    table.more = (more > 0).then(|| format!("and {more} more features, which have changed less"));
    rendered(&table)
}
