//! The state of every input, with what is to be said of it: the monitor's recent window against the baseline.

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::table::{Cell, Table, at, count, list, maybe, name, percent, rendered, sentence, word};
use crate::report::{Report, ReportError};

/// States, worst first, with what they look like and mean.
const STATES: [(&str, &str, &str); 8] = [
    ("broken", "state broken", "broken"),
    ("changed", "state changed", "alarm raised"),
    ("shifted", "state shifted", "shifted"),
    ("unknown", "state other", "no baseline"),
    ("constant", "state other", "constant"),
    ("learning", "state other", "learning"),
    ("no_rows", "state other", "no rows"),
    ("ok", "state ok", "ok"),
];

#[derive(Template)]
#[template(path = "quality.html", config = "src/report/askama.toml")]
struct Quality {
    says: String,
    /// How many features are in each state that any is in.
    states: Vec<(String, String, &'static str)>,
    table: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let shown = &report.monitor;
    let features = list(shown, "/features");
    let states = STATES.iter().filter_map(|(state, class, means)| {
        let n = at(shown, &format!("/states/{state}")).filter(|n| *n > 0.0)?;
        Some(((*class).to_owned(), maybe(Some(n)), *means))
    });
    let rows = at(shown, "/window/rows").map_or(0.0, f64::abs);
    let window = word(shown, "/window/span");
    let says = match features.is_empty() {
        true => {
            let why = word(shown, "/why");
            let why = if why.is_empty() {
                "rows of this model have no named features"
            } else {
                why
            };
            format!("Nothing to show: {}.", sentence(why))
        }
        false => format!(
            "Each feature over the latest {} rows (the monitor's window is {}) against the baseline, worst first.",
            maybe(Some(rows)),
            sentence(window)
        ),
    };
    let table = match features.is_empty() {
        true => String::new(),
        false => rendered(&table(shown, room))?,
    };
    rendered(&Quality {
        says,
        states: states.collect(),
        table,
    })
}

fn table(shown: &Json, room: Room) -> Table {
    let mut table = Table::new(
        "State of each feature, and of the outputs",
        &[
            "feature",
            "state",
            "findings",
            "#rows",
            "#missing",
            "#mean shift",
            "#index",
            "#KS",
            "#drift index",
        ],
    );
    let outputs = list(shown, "/outputs").iter().map(|one| (one, "output "));
    let features = list(shown, "/features").iter().map(|one| (one, ""));
    let all = features.clone().count();
    for (one, of) in features.take(room.rows).chain(outputs) {
        let state = word(one, "/state");
        let known = STATES.iter().find(|(known, ..)| *known == state);
        let (class, means) = known.map_or(("state other", "unknown"), |(_, class, means)| (*class, *means));
        let findings: Vec<String> = list(one, "/findings")
            .iter()
            .map(|finding| sentence(word(finding, "/text")))
            .collect();
        let mut cells: Vec<Cell> = vec![
            format!("{of}{}", name(word(one, "/name"))).into(),
            Cell::of(means, class),
            findings.join("; ").into(),
        ];
        cells.extend(
            [
                at(one, "/recent/rows").map_or_else(String::new, |n| maybe(Some(n))),
                at(one, "/recent/missing").map_or_else(String::new, percent),
                maybe(at(one, "/skew/mean_shift")),
                maybe(at(one, "/skew/psi")),
                maybe(at(one, "/skew/ks")),
                maybe(at(one, "/drift/psi")),
            ]
            .map(Cell::from),
        );
        table.row(cells);
    }
    let more = all.saturating_sub(room.rows);
    table.more = (more > 0).then(|| {
        format!(
            "and {} more features in the same or a better state",
            count(u64::try_from(more).unwrap_or(0))
        )
    });
    table
}
