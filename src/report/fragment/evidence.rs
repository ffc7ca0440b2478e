//! The challengers' bets: how far each is from its bar.

use askama::Template;

use super::Room;
use crate::report::chart::{About, LINES, Line, Lines, class_of, lines};
use crate::report::table::{Cell, Figure, NONE, Table, count, name, number, rendered, sentence, signed};
use crate::report::{Curve, Report, ReportError};

/// Below this a challenger is as good as lost: it is drawn no lower.
const LOWEST: f64 = -14.0;
/// Above this it is as good as crowned.
const HIGHEST: f64 = 12.0;

#[derive(Template)]
#[template(path = "evidence.html", config = "src/report/askama.toml")]
struct Evidence {
    says: String,
    note: String,
    figure: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let evidence = &report.evidence;
    let metric = evidence
        .metric
        .as_deref()
        .map_or_else(String::new, |metric| format!(" of {}", sentence(metric)));
    let says = format!(
        "Every challenger bets that it loses less than the champion. Drawn is the natural logarithm of what its coin has become, \
         by differences{metric}; the thin line is the bar that it must reach, which begins anew with each champion."
    );
    let figure = match evidence.curves.is_empty() {
        true => String::new(),
        false => figure(report, room)?,
    };
    let note = match (evidence.note.as_deref(), figure.is_empty()) {
        (Some(note), _) => sentence(note),
        (None, true) => "no challenger has a labelled row in this stretch".into(),
        (None, false) => String::new(),
    };
    rendered(&Evidence { says, note, figure })
}

fn figure(report: &Report, room: Room) -> Result<String, ReportError> {
    let evidence = &report.evidence;
    let since = &report.since;
    let shown: Vec<&Curve> = evidence.curves.iter().take(LINES).collect();
    let mut all = Vec::new();
    for (k, curve) in shown.iter().enumerate() {
        let height = |y: f64| y.clamp(LOWEST, HIGHEST);
        let bars = curve
            .parts
            .iter()
            .map(|part| part.iter().map(|(row, _, bar)| (*row as f64, height(*bar))).collect());
        let wealth = curve
            .parts
            .iter()
            .map(|part| part.iter().map(|(row, y, _)| (*row as f64, height(*y))).collect());
        all.push(Line {
            colour: Some(k),
            is_thin: true,
            parts: bars.collect(),
        });
        all.push(Line {
            colour: Some(k),
            is_thin: false,
            parts: wealth.collect(),
        });
    }
    let chart = Lines {
        lines: all,
        levels: Vec::new(),
        rows: (since.first_row as f64, since.last_row as f64),
        unit: "ln wealth",
        least: None,
        most: None,
    };
    let names: Vec<String> = shown.iter().map(|curve| name(&curve.version)).collect();
    let says = format!("One line each for {}, and a thin one for its bar", names.join(", "));
    let about = About {
        id: "chart-evidence",
        title: "Evidence of the challengers",
        says: &says,
    };
    let table = table(evidence, room);
    let Some(svg) = lines(about, &chart)? else {
        return rendered(&table);
    };
    let legend = names.iter().enumerate().map(|(k, name)| (class_of(k), name.clone()));
    rendered(&Figure {
        svg,
        caption: format!("Cut at {} and {}.", number(LOWEST), number(HIGHEST)),
        legend: legend.collect(),
        table,
        is_open: true,
    })
}

fn table(evidence: &crate::report::Evidence, room: Room) -> Table {
    let mut table = Table::new(
        "Where each stands at the end of the stretch",
        &[
            "version",
            "verdict",
            "#labels",
            "#ln wealth",
            "#ln bar",
            "#mean difference",
            "#95 % interval",
            "why",
        ],
    );
    for curve in &evidence.curves {
        let last = curve.parts.last().and_then(|part| part.last());
        let of = |pick: fn(&(u64, f64, f64)) -> f64| last.map_or_else(|| NONE.to_owned(), |point| number(pick(point)));
        let class = match curve.verdict.as_str() {
            "wins" => "state ok",
            "loses" => "state broken",
            _ => "state other",
        };
        let verdict = match curve.is_present {
            true => Cell::of(name(&curve.verdict), class),
            false => Cell::of("no longer there", "state other"),
        };
        let interval = curve.interval.map_or_else(
            || NONE.to_owned(),
            |[low, high]| format!("{} to {}", signed(low), signed(high)),
        );
        table.row([
            Cell::from(name(&curve.version)),
            verdict,
            count(curve.labels).into(),
            of(|(_, wealth, _)| *wealth).into(),
            of(|(.., bar)| *bar).into(),
            curve.mean_difference.map_or_else(|| NONE.to_owned(), signed).into(),
            interval.into(),
            sentence(&curve.why).into(),
        ]);
    }
    table.keep(room.rows / 4, "versions");
    if evidence.left_out > 0 && table.more.is_none() {
        table.more = Some(format!("and {} more versions", evidence.left_out));
    }
    table
}
