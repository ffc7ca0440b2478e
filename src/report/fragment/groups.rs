//! Subgroups with their intervals: is what is good on average good for everybody?

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::chart::{About, Interval, intervals};
use crate::report::table::{
    Figure, NONE, Table, at, list, maybe, name, number, percent, rendered, sentence, signed, word,
};
use crate::report::{Report, ReportError};

/// Groups of the chart, the largest.
const DRAWN: usize = 24;

#[derive(Template)]
#[template(path = "groups.html", config = "src/report/askama.toml")]
struct Groups {
    says: String,
    figure: String,
    /// Right and wrong answers, where there are labels to be right.
    rates: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let labels = report.monitor.get("labels").unwrap_or(&Json::Null);
    let mut groups: Vec<&Json> = list(labels, "/groups").iter().collect();
    if groups.is_empty() {
        return rendered(&Groups {
            says: "Nothing to show: no group is named by [groups] or monitor.by, or none has a labelled row yet."
                .into(),
            figure: String::new(),
            rates: String::new(),
        });
    }
    let size = |group: &Json| at(group, "/labels").unwrap_or(0.0);
    groups.sort_by(|a, b| {
        size(b)
            .total_cmp(&size(a))
            .then_with(|| word(a, "/group").cmp(word(b, "/group")))
    });
    rendered(&Groups {
        says: format!(
            "{}. Faint ones have too few labels to tell much.",
            sentence(word(labels, "/groups_note"))
        ),
        figure: figure(&groups, at(labels, "/tenure/loss/value"), room)?,
        rates: rates(&groups, room)?,
    })
}

fn figure(groups: &[&Json], level: Option<f64>, room: Room) -> Result<String, ReportError> {
    let one = |group: &&Json| {
        Some(Interval {
            name: name(word(group, "/group")),
            value: at(group, "/loss/value")?,
            ends: (at(group, "/loss/interval/0")?, at(group, "/loss/interval/1")?),
            is_small: group.get("small").is_some_and(|small| !small.is_null()),
        })
    };
    let drawn: Vec<Interval> = groups.iter().take(DRAWN).filter_map(one).collect();
    let says = format!(
        "Mean loss of {} groups with 95 % intervals; the line is the mean over all rows",
        drawn.len()
    );
    let about = About {
        id: "chart-groups",
        title: "Mean loss per subgroup",
        says: &says,
    };
    let table = losses(groups, room);
    let Some(svg) = intervals(about, &drawn, level)? else {
        return rendered(&table);
    };
    rendered(&Figure {
        svg,
        caption: "Mean loss with its 95 % interval; the vertical line is the mean over all rows.".into(),
        legend: Vec::new(),
        table,
        is_open: true,
    })
}

/// The ends of an interval, or of what it is an interval of.
fn between(group: &Json, place: &str, written: &dyn Fn(f64) -> String) -> String {
    let (low, high) = (at(group, &format!("{place}/0")), at(group, &format!("{place}/1")));
    low.zip(high).map_or_else(
        || NONE.to_owned(),
        |(low, high)| format!("{} to {}", written(low), written(high)),
    )
}

/// A difference from the rest with its interval.
fn apart(group: &Json, place: &str, written: &dyn Fn(f64) -> String) -> String {
    let value = at(group, &format!("{place}/value"));
    value.map_or_else(
        || NONE.to_owned(),
        |value| {
            let ends = between(group, &format!("{place}/interval"), written);
            format!("{} ({ends})", written(value))
        },
    )
}

/// Says how many groups a table leaves out.
fn bounded(mut table: Table, groups: &[&Json], most: usize) -> Table {
    let more = groups.len().saturating_sub(most);
    table.more = (more > 0).then(|| format!("and {more} smaller groups"));
    table
}

fn losses(groups: &[&Json], room: Room) -> Table {
    let mut table = Table::new(
        "Mean loss with its 95 % interval, and its difference from the rest",
        &["group", "#labels", "#loss", "#interval", "#against the rest", "remark"],
    );
    for group in groups.iter().take(room.rows / 2) {
        table.row([
            name(word(group, "/group")),
            maybe(at(group, "/labels")),
            maybe(at(group, "/loss/value")),
            between(group, "/loss/interval", &number),
            apart(group, "/against_the_rest/loss", &signed),
            sentence(word(group, "/small")),
        ]);
    }
    bounded(table, groups, room.rows / 2)
}

fn rates(groups: &[&Json], room: Room) -> Result<String, ReportError> {
    if groups.iter().all(|group| at(group, "/accuracy/value").is_none()) {
        return Ok(String::new());
    }
    let mut table = Table::new(
        "Right and wrong answers, in percent, and points (pp) of difference from the rest",
        &[
            "group",
            "#accuracy",
            "#interval",
            "#against the rest",
            "#positive rate",
            "#true positives",
            "#false positives",
        ],
    );
    let points = |x: f64| format!("{} pp", signed((x * 1_000.0).round() / 10.0));
    for group in groups.iter().take(room.rows / 2) {
        let share = |place: &str| at(group, place).map_or_else(|| NONE.to_owned(), percent);
        table.row([
            name(word(group, "/group")),
            share("/accuracy/value"),
            between(group, "/accuracy/interval", &percent),
            apart(group, "/against_the_rest/accuracy", &points),
            share("/positive_rate/value"),
            share("/true_positive_rate/value"),
            share("/false_positive_rate/value"),
        ]);
    }
    rendered(&bounded(table, groups, room.rows / 2))
}
