//! Who answered which rows, and who does now.

use std::collections::BTreeMap;

use askama::Template;

use super::Room;
use crate::report::chart::{About, Band, strip};
use crate::report::table::{Figure, NONE, Table, count, moment, name, rendered, sentence};
use crate::report::{Report, ReportError};

#[derive(Template)]
#[template(path = "champion.html", config = "src/report/askama.toml")]
struct Champion {
    says: String,
    digest: String,
    figure: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let Some(champion) = &report.champion else {
        return rendered(&Champion {
            says: "The model has no champion yet.".into(),
            digest: String::new(),
            figure: String::new(),
        });
    };
    let since = champion
        .since
        .as_deref()
        .map_or_else(String::new, |since| format!(" since {}", moment(since)));
    let previous = champion.previous.as_deref().map_or_else(String::new, |previous| {
        format!(" Before it {} answered, which stands by.", name(previous))
    });
    let hold = champion
        .hold
        .as_deref()
        .map_or_else(String::new, |hold| format!(" Promotions are held: {}.", sentence(hold)));
    rendered(&Champion {
        says: format!(
            "{} is champion{since}, in its tenure number {}.{previous}{hold}",
            name(&champion.version),
            champion.epoch
        ),
        digest: name(&champion.digest),
        figure: figure(report, room)?,
    })
}

fn figure(report: &Report, room: Room) -> Result<String, ReportError> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bands: Vec<Band> = Vec::new();
    let mut table = Table::new(
        "Tenures that reach into this stretch, the latest first",
        &[
            "champion",
            "#tenure",
            "began by",
            "from",
            "to",
            "#first row",
            "#last row",
            "#labels",
        ],
    );
    for reign in &report.tenures {
        let next = numbers.len();
        let number = *numbers.entry(&reign.version).or_insert(next);
        if let Some((first, last)) = reign.rows {
            bands.push((name(&reign.version), number, first as f64, last as f64));
        }
    }
    for reign in report.tenures.iter().rev() {
        let (first, last) = reign.rows.unzip();
        let row = |row: Option<u64>| row.map_or_else(|| NONE.to_owned(), count);
        table.row([
            name(&reign.version),
            reign.epoch.to_string(),
            name(&reign.kind),
            moment(&reign.from),
            reign.to.as_deref().map_or_else(|| "now".to_owned(), moment),
            row(first),
            row(last),
            count(reign.labels),
        ]);
    }
    table.keep(room.rows / 4, "earlier tenures");
    if report.tenures_left_out > 0 {
        table.more = Some(format!(
            "and {} earlier tenures",
            report.tenures_left_out + report.tenures.len() - table.rows.len()
        ));
    }
    let since = &report.since;
    let says = format!(
        "{} tenures from row {} to row {}",
        bands.len(),
        since.first_row,
        since.last_row
    );
    let about = About {
        id: "chart-champion",
        title: "Who was champion when",
        says: &says,
    };
    let drawn = bands.len().saturating_sub(64);
    let bands = bands.split_off(drawn);
    let svg = strip(about, &bands, (since.first_row as f64, since.last_row as f64))?;
    let Some(svg) = svg else {
        return rendered(&table);
    };
    let ends = format!(
        "Left is row {} ({}), right is row {} ({}).",
        count(since.first_row),
        moment(&since.from),
        count(since.last_row),
        moment(&since.to)
    );
    rendered(&Figure {
        svg,
        caption: ends,
        legend: Vec::new(),
        table,
        is_open: true,
    })
}
